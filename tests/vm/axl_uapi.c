// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The arguments of every ioctl of accel.ko, one by one: each flag bit, each byte that must be 0,
 * values beyond the end, structs that end where memory ends, and the errno that axl_drm.h names.
 * What buffers do is tested in the files beside this one.
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define NOWHERE ((uint64_t)PAGE) /* nothing is ever mapped there */

/* A call that succeeds as it stands, and the bytes of it that must be 0. */
struct call {
	const char *name;
	unsigned long request;
	size_t bytes;
	struct {
		size_t from, bytes;
	} zero[3];
};

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)

static const struct call calls[] = {
	{"GET_PARAM",
	 DRM_IOCTL_AXL_GET_PARAM,
	 sizeof(struct drm_axl_get_param),
	 {{FIELD(struct drm_axl_get_param, pad)}}},
	{"BO_CREATE",
	 DRM_IOCTL_AXL_BO_CREATE,
	 sizeof(struct drm_axl_bo_create),
	 {{FIELD(struct drm_axl_bo_create, numa_node)},
	  {FIELD(struct drm_axl_bo_create, reserved)}}},
	{"BO_INFO",
	 DRM_IOCTL_AXL_BO_INFO,
	 sizeof(struct drm_axl_bo_info),
	 {{FIELD(struct drm_axl_bo_info, pad)}, {FIELD(struct drm_axl_bo_info, reserved)}}},
	{"BO_MMAP_OFFSET",
	 DRM_IOCTL_AXL_BO_MMAP_OFFSET,
	 sizeof(struct drm_axl_bo_mmap_offset),
	 {{FIELD(struct drm_axl_bo_mmap_offset, flags)}}},
	{"QUERY",
	 DRM_IOCTL_AXL_QUERY,
	 sizeof(struct drm_axl_query),
	 {{FIELD(struct drm_axl_query, pad)}}},
	{"LAST_ERROR",
	 DRM_IOCTL_AXL_LAST_ERROR,
	 sizeof(struct drm_axl_last_error),
	 {{FIELD(struct drm_axl_last_error, pad)}}},
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* Arguments with which the call succeeds; handle names a buffer. */
static void good(const struct call *call, void *arg, uint32_t handle)
{
	memset(arg, 0, call->bytes);
	switch (call->request) {
	case DRM_IOCTL_AXL_BO_CREATE:
		((struct drm_axl_bo_create *)arg)->size_bytes = PAGE;
		break;
	case DRM_IOCTL_AXL_BO_INFO:
	case DRM_IOCTL_AXL_BO_MMAP_OFFSET:
		*(uint32_t *)arg = handle;
		break;
	case DRM_IOCTL_AXL_QUERY:
		((struct drm_axl_query *)arg)->elem_bytes = sizeof(struct drm_axl_memory);
		break;
	}
}

static void undo(int fd, const struct call *call, const void *arg)
{
	if (call->request == DRM_IOCTL_AXL_BO_CREATE)
		bo_close(fd, ((const struct drm_axl_bo_create *)arg)->handle);
}

/* Each call in turn, with a good argument at the end of a page that *arg is to change or use. */
struct walk {
	int fd;
	uint32_t handle;
	const struct call *call;
	void *arg;
};

static bool walk_start(struct walk *walk)
{
	memset(walk, 0, sizeof(*walk));
	walk->fd = node_open(0);
	if (!CHECK(walk->fd >= 0))
		return false;
	if (CHECK_EQ(bo_create(walk->fd, PAGE, 0, &walk->handle), 0))
		return true;
	close(walk->fd);
	return false;
}

static bool walk_next(struct walk *walk)
{
	if (walk->call)
		page_end_free(walk->arg, walk->call->bytes);
	walk->call = walk->call ? walk->call + 1 : calls;
	if (walk->call == calls + CALLS) {
		close(walk->fd);
		return false;
	}
	walk->arg = page_end(walk->call->bytes);
	good(walk->call, walk->arg, walk->handle);
	return true;
}

static bool is(const struct call *call, const char *what, int got, int want)
{
	return tap_check(got == want, __FILE__, __LINE__, "%s with %s is %d, not %d", call->name,
			 what, got, want);
}

TEST(ioctl, argument_at_the_end_of_a_page_is_enough)
{
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk)) {
		is(walk.call, "all in the page", node_ioctl(walk.fd, walk.call->request, walk.arg),
		   0);
		undo(walk.fd, walk.call, walk.arg);
	}
}

TEST(ioctl, argument_that_leaves_its_page_returns_efault)
{
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk)) {
		for (size_t cut = 1; cut < walk.call->bytes; cut++) {
			char *arg = (char *)walk.arg + cut;

			memset(arg, 0, walk.call->bytes - cut);
			if (!is(walk.call, "an end out of reach",
				node_ioctl(walk.fd, walk.call->request, arg), -EFAULT))
				break;
		}
	}
}

TEST(ioctl, pointer_to_nowhere_returns_efault)
{
	static const uint64_t nowhere[] = {0, 1, NOWHERE, 1ull << 47, ~0ull << 47, ~0ull - 7};
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk))
		for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
			is(walk.call, "a bad pointer",
			   node_ioctl(walk.fd, walk.call->request, (void *)(uintptr_t)nowhere[i]),
			   -EFAULT);
}

TEST(ioctl, argument_that_cannot_be_written_returns_efault_and_leaks_nothing)
{
	struct drm_axl_memory before, after;
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk)) {
		char *page = (char *)walk.arg + walk.call->bytes - PAGE;

		CHECK_EQ(node_memory(walk.fd, AXL_QUERY_MEMORY, &before), 0);
		CHECK_EQ(mprotect(page, PAGE, PROT_READ), 0);
		is(walk.call, "room that cannot be written",
		   node_ioctl(walk.fd, walk.call->request, walk.arg), -EFAULT);
		CHECK_EQ(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
		/* The core copies out when the call is over: a handle stays until the file is closed. */
		if (walk.call->request == DRM_IOCTL_AXL_BO_CREATE)
			bo_close(walk.fd, walk.handle + 1);
		CHECK_EQ(node_memory(walk.fd, AXL_QUERY_MEMORY, &after), 0);
		CHECK_EQ(after.bos, before.bos);
	}
}

TEST(ioctl, each_byte_that_must_be_zero_is_checked)
{
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk))
		for (size_t z = 0; z < 3; z++)
			for (size_t i = 0; i < walk.call->zero[z].bytes; i++)
				for (unsigned bit = 0; bit < 8; bit++) {
					size_t at = walk.call->zero[z].from + i;
					char what[48];

					snprintf(what, sizeof(what), "bit %u of byte %zu", bit, at);
					good(walk.call, walk.arg, walk.handle);
					((uint8_t *)walk.arg)[at] = (uint8_t)(1u << bit);
					is(walk.call, what,
					   node_ioctl(walk.fd, walk.call->request, walk.arg),
					   -EINVAL);
				}
}

TEST(ioctl, fields_marked_out_are_ignored_on_the_way_in)
{
	struct drm_axl_get_param param = {.param = AXL_PARAM_API_MAJOR, .value = ~0ull};
	struct drm_axl_bo_create create = {.size_bytes = PAGE, .handle = ~0u};
	struct drm_axl_bo_info info;
	struct drm_axl_bo_mmap_offset offset = {.offset = ~0ull};
	struct drm_axl_last_error error = {.code = -1, .ioctl_nr = ~0u};
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_GET_PARAM, &param), 0);
	CHECK_EQ(param.value, AXL_API_MAJOR);
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &create), 0);
	memset(&info, 0xff, sizeof(info));
	info.handle = offset.handle = create.handle;
	info.pad = 0;
	memset(info.reserved, 0, sizeof(info.reserved));
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_INFO, &info), 0);
	CHECK_EQ(info.size_bytes, PAGE);
	CHECK_EQ(info.placement, AXL_PLACEMENT_SYS);
	CHECK_EQ(info.flags, 0);
	CHECK_EQ(info.large_page_bytes, 0);
	CHECK_EQ(info.is_exported, 0);
	CHECK_EQ(info.pad_out, 0);
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_MMAP_OFFSET, &offset), 0);
	CHECK(offset.offset && offset.offset != ~0ull);
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &error), 0);
	CHECK_EQ(error.code, 0);
	close(fd);
}

/* The same call with another size in its number, as a program has it that is older or newer. */
static unsigned long resized(unsigned long request, size_t bytes)
{
	return _IOC(_IOC_READ | _IOC_WRITE, _IOC_TYPE(request), _IOC_NR(request), bytes);
}

TEST(ioctl, struct_of_an_older_caller_is_filled_up_with_zeros)
{
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk)) {
		/* Each ends with what must be 0 or what is for output: its last 8 bytes are not needed. */
		size_t bytes = walk.call->bytes - sizeof(uint64_t);
		void *arg = page_end(bytes);

		memcpy(arg, walk.arg, bytes);
		is(walk.call, "8 bytes less",
		   node_ioctl(walk.fd, resized(walk.call->request, bytes), arg), 0);
		undo(walk.fd, walk.call, arg);
		page_end_free(arg, bytes);
	}
}

TEST(ioctl, struct_of_a_newer_caller_is_taken)
{
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk)) {
		size_t bytes = walk.call->bytes + 64;
		char *arg = page_end(bytes);

		memset(arg, 0, bytes);
		memcpy(arg, walk.arg, walk.call->bytes);
		is(walk.call, "64 bytes more",
		   node_ioctl(walk.fd, resized(walk.call->request, bytes), arg), 0);
		undo(walk.fd, walk.call, arg);
		page_end_free(arg, bytes);
		is(walk.call, "more bytes than there are",
		   node_ioctl(walk.fd, resized(walk.call->request, bytes), walk.arg), -EFAULT);
	}
}

TEST(ioctl, any_size_and_direction_in_the_number_is_survived)
{
	struct walk walk;

	if (!walk_start(&walk))
		return;
	while (walk_next(&walk)) {
		char *room = page_end(_IOC_SIZEMASK + 1);

		for (size_t bytes = 0; bytes <= _IOC_SIZEMASK;
		     bytes = bytes < 80 ? bytes + 1 : bytes * 2 + 1)
			for (unsigned dir = 0; dir < 4; dir++) {
				unsigned nr = _IOC_NR(walk.call->request);
				int rc;

				memset(room, 0xff, _IOC_SIZEMASK + 1);
				memcpy(room, walk.arg, walk.call->bytes);
				rc = node_ioctl(walk.fd, _IOC(dir, DRM_IOCTL_BASE, nr, bytes),
						room);
				CHECK(rc == 0 || rc == -EINVAL || rc == -ENOENT);
			}
		page_end_free(room, _IOC_SIZEMASK + 1);
		CHECK_EQ(node_ioctl(walk.fd, walk.call->request, walk.arg), 0);
	}
}

TEST(ioctl, number_of_ours_that_is_not_used_yet_returns_enotty)
{
	char room[256] = {0};
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (unsigned nr = DRM_COMMAND_BASE + DRM_AXL_LAST_ERROR + 1; nr < DRM_COMMAND_END; nr++)
		if (!CHECK_EQ(node_ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, DRM_IOCTL_BASE, nr, 16),
					 room),
			      -ENOTTY))
			break;
	close(fd);
}

TEST(get_param, values_are_those_of_the_header)
{
	uint64_t value;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK(!node_param(fd, AXL_PARAM_API_MAJOR, &value) && value == AXL_API_MAJOR);
	CHECK(!node_param(fd, AXL_PARAM_API_MINOR, &value) && value == AXL_API_MINOR);
	CHECK(!node_param(fd, AXL_PARAM_FEATURES, &value) &&
	      value == (AXL_FEATURE_DMABUF_EXPORT | AXL_FEATURE_DMABUF_IMPORT |
			AXL_FEATURE_MMAP_REGISTRABLE));
	CHECK(!node_param(fd, AXL_PARAM_PROVIDER, &value) && value == AXL_PROVIDER_SOFT);
	CHECK(!node_param(fd, AXL_PARAM_PAGE_BYTES, &value) &&
	      value == (uint64_t)sysconf(_SC_PAGESIZE));
	CHECK(!node_param(fd, AXL_PARAM_BO_BYTES_MAX, &value) && value >= 64 * MIB);
	CHECK(!node_param(fd, AXL_PARAM_NUMA_NODE, &value) && (value == ~0ull || value < 1024));
	CHECK(!node_param(fd, AXL_PARAM_PLACEMENTS, &value) && value == 1u << AXL_PLACEMENT_SYS);
	CHECK_EQ(node_param(fd, AXL_PARAM_MEM_BYTES_MAX, &value), 0);
	CHECK_EQ(node_param(fd, AXL_PARAM_USER_BYTES_MAX, &value), 0);
	close(fd);
}

TEST(get_param, number_beyond_the_end_returns_enoent)
{
	static const uint32_t beyond[] = {AXL_PARAM_USER_BYTES_MAX + 1, 64, 0x7fffffff, ~0u};
	uint64_t value = 7;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++)
		CHECK_EQ(node_param(fd, beyond[i], &value), -ENOENT);
	CHECK_EQ(value, 7);
	close(fd);
}

TEST(bo_create, size_is_rounded_up_to_pages)
{
	static const struct {
		uint64_t asked, got;
	} sizes[] = {{1, PAGE},
		     {8, PAGE},
		     {PAGE - 1, PAGE},
		     {PAGE, PAGE},
		     {PAGE + 1, 2 * PAGE},
		     {2 * MIB - 1, 2 * MIB},
		     {2 * MIB, 2 * MIB},
		     {2 * MIB + 1, 2 * MIB + PAGE},
		     {3 * MIB, 3 * MIB}};
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct drm_axl_bo_create create = {.size_bytes = sizes[i].asked};
		struct drm_axl_bo_info info;

		CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &create), 0);
		CHECK_EQ(create.size_bytes, sizes[i].got);
		CHECK_EQ(bo_info(fd, create.handle, &info), 0);
		CHECK_EQ(info.size_bytes, sizes[i].got);
		CHECK(info.large_page_bytes <= info.size_bytes);
		CHECK_EQ(info.large_page_bytes % (2 * MIB), 0);
		CHECK_EQ(bo_close(fd, create.handle), 0);
	}
	close(fd);
}

TEST(bo_create, size_of_nothing_or_beyond_the_largest_buffer_is_refused)
{
	uint64_t most = 0;
	uint32_t handle;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(node_param(fd, AXL_PARAM_BO_BYTES_MAX, &most), 0);
	const uint64_t sizes[] = {0,	      most + 1,	    most + PAGE, 1ull << 47, 1ull << 62,
				  1ull << 63, ~0ull - PAGE, ~0ull - 1,	 ~0ull};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!CHECK_EQ(bo_create(fd, sizes[i], 0, &handle), sizes[i] ? -ENOSPC : -EINVAL))
			tap_diag("for %#llx bytes: %s", (unsigned long long)sizes[i],
				 node_last_error(fd));
	close(fd);
}

TEST(bo_create, each_unknown_flag_returns_einval)
{
	uint32_t handle;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (unsigned bit = 0; bit < 32; bit++) {
		uint32_t flag = 1u << bit;
		bool known = flag & (AXL_BO_F_NUMA | AXL_BO_F_SMALL_PAGES);

		if (CHECK_EQ(bo_create(fd, PAGE, flag, &handle), known ? 0 : -EINVAL) && known) {
			struct drm_axl_bo_info info;

			CHECK_EQ(bo_info(fd, handle, &info), 0);
			CHECK_EQ(info.flags, flag);
			CHECK_EQ(bo_close(fd, handle), 0);
		}
	}
	close(fd);
}

TEST(bo_create, placement_that_cannot_be_asked_for_is_refused)
{
	struct drm_axl_bo_create create = {.size_bytes = PAGE, .placement = AXL_PLACEMENT_IMPORT};
	static const uint32_t beyond[] = {AXL_PLACEMENT_IMPORT + 1, 32, 64, 0x80000000u, ~0u};
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &create), -EOPNOTSUPP);
	for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
		create.placement = beyond[i];
		CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &create), -EINVAL);
	}
	close(fd);
}

TEST(bo_create, numa_node_that_is_not_there_returns_enoent)
{
	static const uint32_t absent[] = {63, 1023, 1024, 0x7fffffff, 0x80000000u, ~0u};
	struct drm_axl_bo_create create = {.size_bytes = PAGE, .flags = AXL_BO_F_NUMA};
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &create), 0);
	CHECK_EQ(bo_close(fd, create.handle), 0);
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
		create.numa_node = absent[i];
		CHECK_EQ(node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &create), -ENOENT);
	}
	close(fd);
}

TEST(bo_create, small_pages_are_small)
{
	struct drm_axl_bo_info info;
	uint32_t handle;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	REQUIRE_EQ(bo_create(fd, 8 * MIB, AXL_BO_F_SMALL_PAGES, &handle), 0);
	CHECK_EQ(bo_info(fd, handle, &info), 0);
	CHECK_EQ(info.large_page_bytes, 0);
	CHECK_EQ(bo_close(fd, handle), 0);
	REQUIRE_EQ(bo_create(fd, 8 * MIB, 0, &handle), 0);
	CHECK_EQ(bo_info(fd, handle, &info), 0);
	tap_diag("%llu of 8 MiB in large pages", (unsigned long long)info.large_page_bytes / MIB);
	CHECK(info.large_page_bytes > 0);
	close(fd);
}

TEST(handle, that_is_not_there_returns_enoent)
{
	static const uint32_t absent[] = {0, 1000, 0x7fffffff, 0x80000000u, ~0u};
	struct drm_axl_bo_info info;
	uint64_t offset;
	uint32_t handle;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
		CHECK_EQ(bo_info(fd, absent[i], &info), -ENOENT);
		CHECK_EQ(bo_offset(fd, absent[i], &offset), -ENOENT);
	}
	CHECK_EQ(bo_create(fd, PAGE, 0, &handle), 0);
	CHECK_EQ(bo_close(fd, handle), 0);
	CHECK_EQ(bo_info(fd, handle, &info), -ENOENT);
	CHECK_EQ(bo_offset(fd, handle, &offset), -ENOENT);
	CHECK_EQ(bo_close(fd, handle), -EINVAL);
	close(fd);
}

TEST(bo_mmap_offset, is_the_same_each_time_and_of_one_buffer)
{
	uint64_t first = 0, again = 0, other = 0;
	uint32_t a, b;
	int fd = node_open(0);

	REQUIRE(fd >= 0);
	REQUIRE_EQ(bo_create(fd, 4 * PAGE, 0, &a), 0);
	REQUIRE_EQ(bo_create(fd, 4 * PAGE, 0, &b), 0);
	CHECK_EQ(bo_offset(fd, a, &first), 0);
	CHECK_EQ(bo_offset(fd, a, &again), 0);
	CHECK_EQ(bo_offset(fd, b, &other), 0);
	CHECK_EQ(first, again);
	CHECK_EQ(first % PAGE, 0);
	CHECK(other >= first + 4 * PAGE || first >= other + 4 * PAGE);
	close(fd);
}
