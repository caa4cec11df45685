// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What accel.ko tells: QUERY's arrays for callers older and newer than it, and LAST_ERROR's
 * sentence for each way to fail.
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define PLACEMENTS 2u
#define ELEM sizeof(struct drm_axl_memory)

static int query(int fd, uint32_t what, uint32_t elem_bytes, uint32_t *count, const void *to)
{
	struct drm_axl_query arg = {
		.what = what, .elem_bytes = elem_bytes, .count = *count, .ptr = (uintptr_t)to};
	int rc = node_ioctl(fd, DRM_IOCTL_AXL_QUERY, &arg);

	if (!rc)
		*count = arg.count;
	return rc;
}

TEST(query, counts_without_room)
{
	uint32_t count = 0;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, NULL), 0);
	CHECK_EQ(count, PLACEMENTS);
	count = 0;
	CHECK_EQ(query(fd, AXL_QUERY_USER, ELEM, &count, NULL), 0);
	CHECK_EQ(count, 1);
	close(fd);
}

TEST(query, counts_what_buffers_take)
{
	struct drm_axl_memory before[PLACEMENTS], now[PLACEMENTS], user, user_now;
	uint32_t count = PLACEMENTS, handle, copy;
	int fd = node_open(0), dmabuf;

	REQUIRE(fd >= 0);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, before), 0);
	CHECK_EQ(node_memory(fd, AXL_QUERY_USER, &user), 0);
	for (unsigned i = 0; i < PLACEMENTS; i++) {
		CHECK_EQ(before[i].placement, i);
		CHECK_EQ(before[i].pad, 0);
	}
	REQUIRE_EQ(bo_create(fd, 3 * PAGE - 1, 0, &handle), 0);
	count = PLACEMENTS;
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, now), 0);
	CHECK_EQ(now[0].bytes_used, before[0].bytes_used + 3 * PAGE);
	CHECK_EQ(now[0].bos, before[0].bos + 1);
	CHECK_EQ(now[1].bos, before[1].bos);
	CHECK_EQ(node_memory(fd, AXL_QUERY_USER, &user_now), 0);
	CHECK_EQ(user_now.bytes_used, user.bytes_used + 3 * PAGE);
	CHECK_EQ(user_now.bos, user.bos + 1);

	/* Its own dma-buf taken in again is the same buffer and costs nothing more. */
	dmabuf = bo_export(fd, handle, DRM_RDWR | DRM_CLOEXEC);
	REQUIRE(dmabuf >= 0);
	CHECK_EQ(bo_import(fd, dmabuf, &copy), 0);
	CHECK_EQ(copy, handle);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, now), 0);
	CHECK_EQ(now[0].bos, before[0].bos + 1);
	CHECK_EQ(bo_close(fd, handle), 0);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, now), 0);
	CHECK_EQ(now[0].bos, before[0].bos + 1);
	close(dmabuf);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, now), 0);
	CHECK_EQ(now[0].bos, before[0].bos);
	CHECK_EQ(now[0].bytes_used, before[0].bytes_used);
	close(fd);
}

TEST(query, element_is_cut_or_filled_up_to_what_the_caller_knows)
{
	static const uint32_t sizes[] = {8, 16, 24, 32, 40, 64, 128, 4096};
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint32_t size = sizes[s], know = size < ELEM ? size : ELEM;
		struct drm_axl_memory whole[PLACEMENTS];
		uint8_t *room = page_end(PLACEMENTS * size);
		uint32_t count = PLACEMENTS;

		CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, whole), 0);
		memset(room, 0xa5, PLACEMENTS * size);
		CHECK_EQ(query(fd, AXL_QUERY_MEMORY, size, &count, room), 0);
		CHECK_EQ(count, PLACEMENTS);
		for (unsigned i = 0; i < PLACEMENTS; i++) {
			CHECK(!memcmp(room + i * size, &whole[i], know));
			CHECK(is_zero(room + i * size + know, size - know));
		}
		page_end_free(room, PLACEMENTS * size);
	}
	close(fd);
}

TEST(query, writes_no_more_elements_than_there_is_room_for_nor_than_there_are)
{
	struct drm_axl_memory room[8];
	uint32_t count = 1;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	memset(room, 0xa5, sizeof(room));
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, room), 0);
	CHECK_EQ(count, PLACEMENTS);
	CHECK_EQ(room[0].placement, AXL_PLACEMENT_SYS);
	for (size_t i = ELEM; i < sizeof(room); i++)
		CHECK_EQ(((uint8_t *)room)[i], 0xa5);
	for (unsigned more = PLACEMENTS; more < 36; more = more * 3 + 1) {
		count = more < 30 ? more : ~0u;
		memset(room, 0xa5, sizeof(room));
		CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, room), 0);
		CHECK_EQ(count, PLACEMENTS);
		CHECK_EQ(room[1].placement, AXL_PLACEMENT_IMPORT);
		for (size_t i = PLACEMENTS * ELEM; i < sizeof(room); i++)
			CHECK_EQ(((uint8_t *)room)[i], 0xa5);
	}
	close(fd);
}

TEST(query, element_size_that_is_none_returns_einval)
{
	static const uint32_t sizes[] = {0, 1, 4, 7, 9, 31, 33, 4104, 0x7fffffff, 0xfffffff8u, ~0u};
	struct drm_axl_memory room[PLACEMENTS];
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint32_t count = PLACEMENTS;

		CHECK_EQ(query(fd, AXL_QUERY_MEMORY, sizes[s], &count, room), -EINVAL);
		count = 0;
		CHECK_EQ(query(fd, AXL_QUERY_USER, sizes[s], &count, NULL), -EINVAL);
	}
	close(fd);
}

TEST(query, unknown_question_returns_enoent)
{
	static const uint32_t beyond[] = {AXL_QUERY_USER + 1, 64, 0x80000000u, ~0u};
	struct drm_axl_memory room[PLACEMENTS];
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
		uint32_t count = PLACEMENTS;

		CHECK_EQ(query(fd, beyond[i], ELEM, &count, room), -ENOENT);
	}
	close(fd);
}

TEST(query, room_that_is_not_there_returns_efault)
{
	uint8_t *room = page_end(PLACEMENTS * ELEM);
	uint32_t count = PLACEMENTS;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, NULL), -EFAULT);
	for (size_t cut = 8; cut < PLACEMENTS * ELEM; cut += 8)
		CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, room + cut), -EFAULT);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, (void *)(~0ull - 15)), -EFAULT);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, (void *)(~0ull << 47)), -EFAULT);
	CHECK_EQ(query(fd, AXL_QUERY_MEMORY, ELEM, &count, room), 0);
	close(fd);
}

/* Ways to fail, and a word that the sentence must hold. */
struct failure {
	const char *what;
	unsigned nr;
	int code;
	const char *names;
};

static const struct failure failures[] = {
	{"unknown param", DRM_AXL_GET_PARAM, -ENOENT, "77"},
	{"pad of GET_PARAM", DRM_AXL_GET_PARAM, -EINVAL, "pad"},
	{"size 0", DRM_AXL_BO_CREATE, -EINVAL, "size"},
	{"size beyond", DRM_AXL_BO_CREATE, -ENOSPC, "mem_bytes_max"},
	{"unknown flag", DRM_AXL_BO_CREATE, -EINVAL, "flag"},
	{"unknown placement", DRM_AXL_BO_CREATE, -EINVAL, "placement"},
	{"IMPORT by BO_CREATE", DRM_AXL_BO_CREATE, -EOPNOTSUPP, "PRIME_FD_TO_HANDLE"},
	{"NUMA node without its flag", DRM_AXL_BO_CREATE, -EINVAL, "numa"},
	{"absent NUMA node", DRM_AXL_BO_CREATE, -ENOENT, "1000"},
	{"reserved of BO_CREATE", DRM_AXL_BO_CREATE, -EINVAL, "reserved"},
	{"handle of BO_INFO", DRM_AXL_BO_INFO, -ENOENT, "handle"},
	{"pad of BO_INFO", DRM_AXL_BO_INFO, -EINVAL, "pad"},
	{"handle of BO_MMAP_OFFSET", DRM_AXL_BO_MMAP_OFFSET, -ENOENT, "handle"},
	{"flags of BO_MMAP_OFFSET", DRM_AXL_BO_MMAP_OFFSET, -EINVAL, "flag"},
	{"unknown question", DRM_AXL_QUERY, -ENOENT, "88"},
	{"elem_bytes", DRM_AXL_QUERY, -EINVAL, "elem_bytes"},
	{"ptr", DRM_AXL_QUERY, -EFAULT, "ptr"},
};

#define FAILURES (sizeof(failures) / sizeof(failures[0]))

static int fail(int fd, size_t i)
{
	struct drm_axl_get_param param = {.param = i ? 0 : 77, .pad = i == 1};
	struct drm_axl_bo_create create = {.size_bytes = i == 2	  ? 0
							 : i == 3 ? ~0ull
								  : PAGE,
					   .flags = i == 4   ? 1u << 30
						    : i == 8 ? AXL_BO_F_NUMA
							     : 0,
					   .placement = i == 5 ? 9 : i == 6,
					   .numa_node = i == 7	 ? 1
							: i == 8 ? 1000
								 : 0,
					   .reserved = {i == 9, 0}};
	struct drm_axl_bo_info info = {.handle = 4711, .pad = i == 11};
	struct drm_axl_bo_mmap_offset offset = {.handle = 4711, .flags = i == 13};
	struct drm_axl_query query = {.what = i == 14 ? 88 : AXL_QUERY_MEMORY,
				      .elem_bytes = i == 15 ? 12 : ELEM,
				      .count = 1};

	switch (failures[i].nr) {
	case DRM_AXL_GET_PARAM:
		return node_ioctl(fd, DRM_IOCTL_AXL_GET_PARAM, &param);
	case DRM_AXL_BO_CREATE:
		return node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &create);
	case DRM_AXL_BO_INFO:
		return node_ioctl(fd, DRM_IOCTL_AXL_BO_INFO, &info);
	case DRM_AXL_BO_MMAP_OFFSET:
		return node_ioctl(fd, DRM_IOCTL_AXL_BO_MMAP_OFFSET, &offset);
	default:
		return node_ioctl(fd, DRM_IOCTL_AXL_QUERY, &query);
	}
}

TEST(last_error, sentence_code_and_ioctl_for_each_failure)
{
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t i = 0; i < FAILURES; i++) {
		const struct failure *want = &failures[i];
		char text[512] = "";
		struct drm_axl_last_error arg = {.text = (uintptr_t)text,
						 .text_bytes = sizeof(text)};

		tap_check(fail(fd, i) == want->code, __FILE__, __LINE__, "%s: errno is not %d",
			  want->what, -want->code);
		CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &arg), 0);
		CHECK_EQ(arg.code, want->code);
		CHECK_EQ(arg.ioctl_nr, want->nr);
		CHECK_EQ(arg.text_bytes, strlen(text) + 1);
		tap_check(strlen(text) > 10 && strcasestr(text, want->names), __FILE__, __LINE__,
			  "%s: \"%s\" does not name '%s'", want->what, text, want->names);
	}
	close(fd);
}

TEST(last_error, is_empty_at_first_and_each_files_own)
{
	struct drm_axl_last_error arg = {0};
	int a = node_open(0), b = node_open(0);

	REQUIRE(a >= 0 && b >= 0);
	CHECK_EQ(node_ioctl(a, DRM_IOCTL_AXL_LAST_ERROR, &arg), 0);
	CHECK_EQ(arg.code, 0);
	CHECK(arg.text_bytes <= 1);
	CHECK_EQ(fail(a, 2), -EINVAL);
	memset(&arg, 0, sizeof(arg));
	CHECK_EQ(node_ioctl(b, DRM_IOCTL_AXL_LAST_ERROR, &arg), 0);
	CHECK_EQ(arg.code, 0);
	CHECK(arg.text_bytes <= 1);
	memset(&arg, 0, sizeof(arg));
	CHECK_EQ(node_ioctl(a, DRM_IOCTL_AXL_LAST_ERROR, &arg), 0);
	CHECK_EQ(arg.code, -EINVAL);
	close(a);
	close(b);
}

TEST(last_error, stays_until_the_next_failure_and_is_not_its_own)
{
	struct drm_axl_last_error arg = {0};
	uint64_t value;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(fail(fd, 2), -EINVAL);
	CHECK_EQ(node_param(fd, AXL_PARAM_API_MAJOR, &value), 0);
	arg.pad = 1;
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &arg), -EINVAL);
	arg.pad = 0;
	arg.text_bytes = 8;
	arg.text = PAGE; /* nothing is mapped there */
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &arg), -EFAULT);
	arg.text_bytes = 0;
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &arg), 0);
	CHECK_EQ(arg.code, -EINVAL);
	CHECK_EQ(arg.ioctl_nr, DRM_AXL_BO_CREATE);
	CHECK(strcasestr(node_last_error(fd), "size") != NULL);
	close(fd);
}

TEST(last_error, text_is_cut_to_the_room_and_ends_with_nul)
{
	char whole[512];
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(fail(fd, 2), -EINVAL);
	snprintf(whole, sizeof(whole), "%s", node_last_error(fd));
	REQUIRE(strlen(whole) > 10);
	for (uint32_t room = 0; room <= strlen(whole) + 2; room++) {
		char *text = page_end(room + 1);
		struct drm_axl_last_error arg = {.text = (uintptr_t)text + 1, .text_bytes = room};

		memset(text, 0x7e, room + 1);
		if (!CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &arg), 0))
			break;
		CHECK_EQ(arg.text_bytes, strlen(whole) + 1);
		CHECK_EQ(text[0], 0x7e);
		if (room) {
			CHECK(memchr(text + 1, 0, room) != NULL);
			CHECK(!strncmp(text + 1, whole, room - 1));
		}
		page_end_free(text, room + 1);
	}
	close(fd);
}
