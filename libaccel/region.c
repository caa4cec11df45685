// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Regions: making, importing and mapping ranges of memfds. The order in region_obtain() matters:
 * placed before it is touched, touched before it is sealed, sealed before anybody else sees the
 * descriptor.
 *
 * Pages are touched by MADV_POPULATE_WRITE, which returns an error where a plain store would be a
 * SIGBUS; before Linux 5.14 fallocate() does that. Room is asked for again before each piece, since
 * other ranks may be taking memory too.
 */
#define _GNU_SOURCE
#include "region.h"
#include "memory_room.h"
#include "object.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

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

static uint64_t page_base(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* To a multiple of a power of two; 0 on overflow. */
static uint64_t round_up(uint64_t bytes, uint64_t multiple)
{
	return bytes > UINT64_MAX - (multiple - 1) ? 0 : (bytes + multiple - 1) & ~(multiple - 1);
}

uint64_t accel_page_round_up(uint64_t bytes)
{
	return round_up(bytes, page_base());
}

static struct accel_region *region_new(uint64_t id)
{
	struct accel_region *region = calloc(1, sizeof(*region));

	if (region) {
		atomic_init(&region->refs, 1);
		region->id = id;
		region->fd = -1;
		region->page_bytes = (uint32_t)page_base();
		region->numa_node = -1;
	}
	return region;
}

struct accel_region *accel_region_get(struct accel_region *region)
{
	atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
	return region;
}

void accel_region_put(struct accel_region *region)
{
	if (!region || atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (region->map_bytes)
		munmap(region->map_addr, region->map_bytes);
	if (region->fd >= 0)
		close(region->fd);
	free(region);
}

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

static int32_t node_of(const void *addr)
{
	int node;

	if (syscall(SYS_get_mempolicy, &node, NULL, 0, addr, MPOL_F_NODE | MPOL_F_ADDR))
		return -1;
	return node;
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
	bool reserved = region->page_bytes != page_base(); /* huge pages were set aside by mmap() */
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

	region->page_bytes = huge ? ACCEL_HUGE_PAGE_BYTES : (uint32_t)page_base();
	region->bytes = round_up(bytes, region->page_bytes);
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
	region->numa_node = node_of(region->addr);
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
	if (region->page_bytes != page_base()) {
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
	if (!round_up(bytes, ACCEL_HUGE_PAGE_BYTES))
		return accel_fail(obj, -EOVERFLOW, ACCEL_AT_CREATE,
				  "%s of %llu bytes: that is not a size", opts->what,
				  (unsigned long long)bytes);
	new = region_new(id);
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

/* The pages behind a memfd: 2 MiB and more for hugetlbfs. */
static uint64_t page_of(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize
								 : page_base();
}

/* -EINVAL, -EOVERFLOW, or 0: the range lies in the file. */
static int range_check(int fd, uint64_t offset, uint64_t bytes, struct stat *st)
{
	if (fstat(fd, st) || !bytes || offset % page_of(fd))
		return -EINVAL;
	if (bytes > UINT64_MAX - offset || offset + bytes > (uint64_t)st->st_size)
		return -EOVERFLOW;
	return 0;
}

/* Map a range that was checked, of a descriptor that the region takes over on success. */
static int range_map(struct accel_region *region, int fd, uint64_t offset, uint64_t bytes, int prot)
{
	uint64_t page_bytes = page_of(fd), map_bytes = round_up(bytes, page_bytes);
	void *addr = mmap(NULL, map_bytes, prot, MAP_SHARED, fd, (off_t)offset);

	if (addr == MAP_FAILED)
		return errno == EACCES ? -EINVAL : -ENOMEM;
	region->fd = fd;
	region->fd_offset = offset;
	region->addr = region->map_addr = addr;
	region->bytes = bytes;
	region->map_bytes = map_bytes;
	region->page_bytes = (uint32_t)page_bytes;
	return 0;
}

int accel_region_map_peer(uint64_t id, int fd, uint64_t offset, uint64_t bytes,
			  struct accel_region **region)
{
	int seals = fcntl(fd, F_GET_SEALS), rc;
	struct accel_region *new;
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	rc = range_check(fd, offset, bytes, &st);
	if (rc)
		return rc;
	new = region_new(id);
	if (!new)
		return -ENOMEM;
	rc = range_map(new, fd, offset, bytes, PROT_READ);
	if (rc) {
		free(new);
		return rc;
	}
	*region = new;
	return 0;
}

static int fail_range(struct accel_object *obj, int rc, uint64_t offset, uint64_t bytes,
		      const struct stat *st)
{
	if (rc == -EOVERFLOW)
		return accel_fail(obj, rc, ACCEL_AT_CREATE,
				  "import of %llu bytes at %llu of a file of %llu bytes",
				  (unsigned long long)bytes, (unsigned long long)offset,
				  (unsigned long long)st->st_size);
	return accel_fail(obj, rc, ACCEL_AT_CREATE, "import of %llu bytes at %llu: %s",
			  (unsigned long long)bytes, (unsigned long long)offset,
			  bytes ? "the offset is not a multiple of the file's page size"
				: "nothing to import");
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
static int holes_check(struct accel_object *obj, int fd, uint64_t bytes, const struct stat *st)
{
	uint64_t held = (uint64_t)st->st_blocks * 512, size = (uint64_t)st->st_size;
	uint64_t holes = size > held ? size - held : 0;
	struct accel_memory_room room;

	if (holes > bytes)
		holes = bytes;
	if (!holes || page_of(fd) != page_base() || has_room(holes, &room))
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
	struct stat st;
	int rc;

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
		return accel_fail(obj, -EINVAL, ACCEL_AT_CREATE,
				  "import: the descriptor cannot be read");
	if (fcntl(fd, F_GET_SEALS) < 0)
		return accel_fail(
			obj, -EOPNOTSUPP, ACCEL_AT_CREATE,
			"import: the descriptor is no memfd, and cannot be sealed against "
			"shrinking; use memfd_create()");
	rc = range_check(fd, offset, bytes, &st);
	return rc ? fail_range(obj, rc, offset, bytes, &st) : holes_check(obj, fd, bytes, &st);
}

/* With fd already the region's own copy; the caller closes it on failure. */
static int region_import(struct accel_object *obj, struct accel_region *region, int fd,
			 uint64_t offset, uint64_t bytes)
{
	int seals = fcntl(fd, F_GET_SEALS), prot = PROT_READ, rc;
	struct stat st;

	rc = import_check(obj, fd, offset, bytes);
	if (!rc)
		rc = fd_seal(obj, fd, seals);
	if (rc)
		return rc;
	rc = range_check(fd, offset, bytes, &st); /* it might have shrunk before the seal */
	if (rc)
		return fail_range(obj, rc, offset, bytes, &st);
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR &&
	    !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		prot |= PROT_WRITE;
	rc = range_map(region, fd, offset, bytes, prot);
	if (rc)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE, "import of %llu bytes: mmap: %s",
				  (unsigned long long)bytes, strerror(errno));
	rc = holes_fill(obj, region, prot);
	if (rc) {
		munmap(region->map_addr, region->map_bytes);
		return rc;
	}
	region->numa_node = node_of(region->addr);
	return 0;
}

int accel_region_import_fd(struct accel_object *obj, uint64_t id, int fd, uint64_t offset,
			   uint64_t bytes, struct accel_region **region)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc = errno;
	struct accel_region *new;

	if (copy < 0)
		return accel_fail(obj, rc == EBADF ? -EINVAL : -ENOMEM, ACCEL_AT_CREATE,
				  "import of descriptor %d: %s%s", fd, strerror(rc),
				  rc == EMFILE ? "; raise ulimit -n" : "");
	new = region_new(id);
	if (!new) {
		close(copy);
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE,
				  "import: no memory for bookkeeping");
	}
	rc = region_import(obj, new, copy, offset, bytes);
	if (rc) {
		close(copy);
		free(new);
		return rc;
	}
	*region = new;
	return 0;
}

int accel_region_import_ptr(struct accel_object *obj, uint64_t id, void *ptr, uint64_t bytes,
			    struct accel_region **region)
{
	struct accel_region *new;

	if (bytes > UINTPTR_MAX - (uintptr_t)ptr)
		return accel_fail(obj, -EOVERFLOW, ACCEL_AT_CREATE,
				  "import of %llu bytes at %p: beyond the address space",
				  (unsigned long long)bytes, ptr);
	new = region_new(id);
	if (!new)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE,
				  "import: no memory for bookkeeping");
	new->addr = ptr;
	new->bytes = bytes;
	*region = new;
	return 0;
}
