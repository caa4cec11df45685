// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Regions of this machine's memory: memfds that are made here or imported, and private memory. The
 * order in region_obtain() matters: placed before it is touched, touched before it is sealed,
 * sealed before anybody else sees the descriptor.
 *
 * Pages are touched by MADV_POPULATE_WRITE, which returns an error where a plain store would be a
 * SIGBUS; before Linux 5.14 fallocate() does that. Room is asked for again before each piece, since
 * other ranks may be taking memory too.
 */
#define _GNU_SOURCE
#include "memory_room.h"
#include "object.h"
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* From the kernel's headers, for older C libraries. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define TOUCH_BYTES (UINT64_C(128) << 20) /* between two looks at the room that is left */
#define NODES_MAX 1024
#define LONG_BITS (8 * sizeof(unsigned long))

/* Why a region could not be had. */
struct refusal {
	const char *step;
	struct accel_memory_room room; /* step "room" */
};

static int memfd_open(const char *what, bool huge)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "accel %s", what);
	fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, flags);
	return fd < 0 ? -errno : fd;
}

/*
 * Best effort: where system calls are filtered memory lands where the kernel puts it, and info says
 * so.
 */
static void place(void *addr, uint64_t bytes, int32_t node)
{
	unsigned long mask[NODES_MAX / LONG_BITS] = {0};
	unsigned here;

	if (node < 0 && !syscall(SYS_getcpu, NULL, &here, NULL))
		node = (int32_t)here;
	if (node < 0 || node >= NODES_MAX)
		return;
	mask[(size_t)node / LONG_BITS] = 1ul << ((size_t)node % LONG_BITS);
	syscall(SYS_mbind, addr, bytes, MPOL_PREFERRED, mask, NODES_MAX + 1, 0);
}

static bool has_room(uint64_t bytes, struct accel_memory_room *room)
{
	accel_memory_room_get("", room);
	return accel_memory_room_need(bytes) <= room->bytes;
}

/* A piece of fresh memory. */
static int touch_piece(uint8_t *addr, uint64_t bytes, int fd, uint64_t offset, uint32_t page_bytes)
{
	if (!madvise(addr, bytes, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL)
		return -errno;
	if (fd >= 0)
		while (fallocate(fd, 0, (off_t)offset, (off_t)bytes))
			if (errno != EINTR)
				return -errno;
	for (uint64_t at = 0; at < bytes; at += page_bytes)
		*(volatile uint8_t *)(addr + at) = 0;
	return 0;
}

static int touch(struct accel_region *region, struct refusal *refusal)
{
	bool reserved = region->page_bytes !=
			accel_page_bytes(); /* huge pages were set aside by mmap() */
	uint64_t done, piece;
	int rc = 0;

	for (done = 0; done < region->bytes && !rc; done += piece) {
		refusal->step = "room";
		if (!reserved && !has_room(region->bytes - done, &refusal->room))
			return -ENOSPC;
		refusal->step = "touching its pages";
		piece = region->bytes - done < TOUCH_BYTES ? region->bytes - done : TOUCH_BYTES;
		rc = touch_piece(region->addr + done, piece, region->fd, done, region->page_bytes);
	}
	return rc;
}

/* A file above this limit would be a SIGXFSZ. */
static bool is_above_file_limit(uint64_t bytes)
{
	struct rlimit limit;

	return !getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur != RLIM_INFINITY &&
	       bytes > limit.rlim_cur;
}

static int file_obtain(struct accel_region *region, const struct accel_region_opts *opts, bool huge,
		       struct refusal *refusal)
{
	refusal->step = "ulimit -f";
	if (is_above_file_limit(region->bytes))
		return -EFBIG;
	refusal->step = "memfd_create";
	region->fd = memfd_open(opts->what, huge);
	if (region->fd < 0)
		return region->fd;
	refusal->step = "ftruncate";
	return ftruncate(region->fd, (off_t)region->bytes) ? -errno : 0;
}

static int map_obtain(struct accel_region *region, bool huge, struct refusal *refusal)
{
	int flags = MAP_SHARED;

	if (region->fd < 0)
		flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB | MAP_HUGE_2MB : 0);
	refusal->step = "mmap";
	region->addr = mmap(NULL, region->bytes, PROT_READ | PROT_WRITE, flags, region->fd, 0);
	return region->addr == MAP_FAILED ? -errno : 0;
}

static int region_obtain(struct accel_region *region, uint64_t bytes,
			 const struct accel_region_opts *opts, bool huge, struct refusal *refusal)
{
	int rc;

	region->page_bytes = huge ? ACCEL_HUGE_PAGE_BYTES : (uint32_t)accel_page_bytes();
	region->bytes = accel_round_up(bytes, region->page_bytes);
	refusal->step = "room";
	if (!huge && !has_room(region->bytes, &refusal->room))
		return -ENOSPC;
	if (!opts->private_memory) {
		rc = file_obtain(region, opts, huge, refusal);
		if (rc)
			goto err_close;
	}
	rc = map_obtain(region, huge, refusal);
	if (rc)
		goto err_close;
	if (!huge) /* of no effect where transparent huge pages are off */
		madvise(region->addr, region->bytes,
			opts->huge == ACCEL_HUGE_NEVER ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	place(region->addr, region->bytes, opts->numa_node);
	rc = touch(region, refusal);
	if (rc)
		goto err_unmap;
	refusal->step = "sealing";
	if (region->fd >= 0 &&
	    fcntl(region->fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)) {
		rc = -errno;
		goto err_unmap;
	}
	region->map_addr = region->addr;
	region->map_bytes = region->bytes;
	region->numa_node = accel_node_of(region->addr);
	return 0;

err_unmap:
	munmap(region->addr, region->bytes);
err_close:
	if (region->fd >= 0)
		close(region->fd);
	region->fd = -1;
	return rc;
}

/* Say why, in the words of the API: -ENOMEM no descriptor, else there is no room. */
static int region_refuse(struct accel_object *obj, const struct accel_region *region,
			 const char *what, int rc, const struct refusal *refusal)
{
	unsigned long long bytes = region->bytes;
	struct accel_huge_room huge;

	if (rc == -EMFILE || rc == -ENFILE)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE,
				  "%s: no file descriptor is left (%s); raise ulimit -n", what,
				  strerror(-rc));
	if (region->page_bytes != accel_page_bytes()) {
		accel_huge_room_get("", &huge);
		return accel_fail(
			obj, -ENOSPC, ACCEL_AT_CREATE,
			"%s of %llu bytes needs %llu huge pages of 2 MiB, %llu are free (%s: %s); raise "
			"/proc/sys/vm/nr_hugepages, or use huge=try",
			what, bytes, bytes / ACCEL_HUGE_PAGE_BYTES, (unsigned long long)huge.free,
			refusal->step, strerror(-rc));
	}
	if (!strcmp(refusal->step, "room"))
		return accel_fail(
			obj, -ENOSPC, ACCEL_AT_CREATE,
			"%s of %llu bytes: no room, %llu bytes are available (limit: %s); ask for less or raise that",
			what, bytes, (unsigned long long)refusal->room.bytes, refusal->room.limit);
	return accel_fail(obj, -ENOSPC, ACCEL_AT_CREATE, "%s of %llu bytes: %s: %s", what, bytes,
			  refusal->step, strerror(-rc));
}

static bool has_node(int32_t node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	return node <= 0 ||
	       (node < NODES_MAX && !access(path, F_OK)); /* node 0 is there without NUMA too */
}

int accel_region_create(struct accel_object *obj, uint64_t id, uint64_t bytes,
			const struct accel_region_opts *opts, struct accel_region **region)
{
	bool huge = opts->huge == ACCEL_HUGE_NEED ||
		    (opts->huge == ACCEL_HUGE_TRY && bytes >= ACCEL_HUGE_PAGE_BYTES);
	struct accel_region *new;
	struct refusal refusal;
	int rc = -ENOSPC;

	if (!bytes)
		return accel_fail(obj, -EINVAL, ACCEL_AT_CREATE, "%s of 0 bytes", opts->what);
	if (!has_node(opts->numa_node))
		return accel_fail(obj, -EINVAL, ACCEL_AT_CREATE,
				  "%s: this machine has no NUMA node %d", opts->what,
				  opts->numa_node);
	if (!accel_round_up(bytes, ACCEL_HUGE_PAGE_BYTES))
		return accel_fail(obj, -EOVERFLOW, ACCEL_AT_CREATE,
				  "%s of %llu bytes: that is not a size", opts->what,
				  (unsigned long long)bytes);
	new = accel_region_new(id, sizeof(*new));
	if (!new)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE, "%s: no memory for bookkeeping",
				  opts->what);
	if (huge)
		rc = region_obtain(new, bytes, opts, true, &refusal);
	if (rc && opts->huge != ACCEL_HUGE_NEED)
		rc = region_obtain(new, bytes, opts, false, &refusal);
	if (rc) {
		rc = region_refuse(obj, new, opts->what, rc, &refusal);
		free(new);
		return rc;
	}
	*region = new;
	return 0;
}

/* The seal against shrinking, added if it is missing. */
static int fd_seal(struct accel_object *obj, int fd, int seals)
{
	if ((seals & F_SEAL_SHRINK) || !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return 0;
	return accel_fail(
		obj, -EOPNOTSUPP, ACCEL_AT_CREATE,
		"import: the file refuses the seal against shrinking; make it by memfd_create() with "
		"MFD_ALLOW_SEALING and pass a writable descriptor, or add F_SEAL_SHRINK yourself");
}

/*
 * The pages that the caller's file may lack must fit: they are allocated here, so that no reader
 * faults for want of them.
 */
static int holes_check(struct accel_object *obj, int fd, uint64_t bytes)
{
	struct accel_memory_room room;
	uint64_t held, size, holes;
	struct stat st;

	if (fstat(fd, &st))
		return accel_fail(obj, -EINVAL, ACCEL_AT_CREATE, "import: fstat: %s",
				  strerror(errno));
	held = (uint64_t)st.st_blocks * 512;
	size = (uint64_t)st.st_size;
	holes = size > held ? size - held : 0;
	if (holes > bytes)
		holes = bytes;
	if (!holes || accel_fd_page_bytes(fd) != accel_page_bytes() || has_room(holes, &room))
		return 0;
	return accel_fail(
		obj, -ENOSPC, ACCEL_AT_CREATE,
		"import: the file lacks %llu bytes of pages, %llu are available (limit: %s)",
		(unsigned long long)holes, (unsigned long long)room.bytes, room.limit);
}

static int holes_fill(struct accel_object *obj, const struct accel_region *region, int prot)
{
	bool writable = prot & PROT_WRITE;

	if (!madvise(region->map_addr, region->map_bytes,
		     writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
		return 0;
	/* Before Linux 5.14. Holes of a read-only file stay there. */
	if (errno == EINVAL && (!writable || !fallocate(region->fd, 0, (off_t)region->fd_offset,
							(off_t)region->map_bytes)))
		return 0;
	return accel_fail(obj, -ENOSPC, ACCEL_AT_CREATE,
			  "import of %llu bytes: allocating the file's pages: %s",
			  (unsigned long long)region->bytes, strerror(errno));
}

/* Everything that can be known before the file is sealed, which cannot be undone. */
static int import_check(struct accel_object *obj, int fd, uint64_t offset, uint64_t bytes)
{
	uint64_t file_bytes;
	int rc;

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
		return accel_fail(obj, -EINVAL, ACCEL_AT_CREATE,
				  "import: the descriptor cannot be read");
	if (fcntl(fd, F_GET_SEALS) < 0)
		return accel_fail(
			obj, -EOPNOTSUPP, ACCEL_AT_CREATE,
			"import: the descriptor is no memfd, and cannot be sealed against "
			"shrinking; use memfd_create()");
	rc = accel_range_check(fd, offset, bytes, &file_bytes);
	return rc ? accel_range_fail(obj, rc, offset, bytes, file_bytes)
		  : holes_check(obj, fd, bytes);
}

int accel_memfd_import(struct accel_object *obj, struct accel_region *region, int fd,
		       uint64_t offset, uint64_t bytes)
{
	int seals = fcntl(fd, F_GET_SEALS), prot = PROT_READ, rc;
	uint64_t file_bytes;

	rc = import_check(obj, fd, offset, bytes);
	if (!rc)
		rc = fd_seal(obj, fd, seals);
	if (rc)
		return rc;
	rc = accel_range_check(fd, offset, bytes,
			       &file_bytes); /* it might have shrunk before the seal */
	if (rc)
		return accel_range_fail(obj, rc, offset, bytes, file_bytes);
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR &&
	    !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		prot |= PROT_WRITE;
	rc = accel_range_map(region, fd, offset, bytes, prot);
	if (rc)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE, "import of %llu bytes: mmap: %s",
				  (unsigned long long)bytes, strerror(errno));
	rc = holes_fill(obj, region, prot);
	if (rc) {
		munmap(region->map_addr, region->map_bytes);
		return rc;
	}
	region->numa_node = accel_node_of(region->addr);
	return 0;
}
