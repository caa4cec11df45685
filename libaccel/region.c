// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Regions as such: references, and ranges of descriptors, checked and mapped, whoever they are from.
 * Where their memory comes from is memfd.c's, dmabuf.c's and drm.c's.
 */
#define _GNU_SOURCE
#include "region.h"
#include "dmabuf.h"
#include "memory_room.h"
#include "object.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

uint64_t accel_page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t accel_round_up(uint64_t bytes, uint64_t multiple)
{
	return bytes > UINT64_MAX - (multiple - 1) ? 0 : (bytes + multiple - 1) & ~(multiple - 1);
}

uint64_t accel_page_round_up(uint64_t bytes)
{
	return accel_round_up(bytes, accel_page_bytes());
}

struct accel_region *accel_region_new(uint64_t id, size_t struct_bytes)
{
	struct accel_region *region = calloc(1, struct_bytes);

	if (region) {
		atomic_init(&region->refs, 1);
		region->id = id;
		region->fd = -1;
		region->nic_fd = -1;
		region->page_bytes = (uint32_t)accel_page_bytes();
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
	if (region->nic_fd >= 0)
		close(region->nic_fd);
	if (region->release)
		region->release(region);
	free(region);
}

int32_t accel_node_of(const void *addr)
{
	int node;

	if (syscall(SYS_get_mempolicy, &node, NULL, 0, addr, MPOL_F_NODE | MPOL_F_ADDR))
		return -1;
	return node;
}

uint64_t accel_fd_page_bytes(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize
								 : accel_page_bytes();
}

int accel_range_check(int fd, uint64_t offset, uint64_t bytes, uint64_t *file_bytes)
{
	struct stat st;

	if (fstat(fd, &st) || !bytes || offset % accel_fd_page_bytes(fd))
		return -EINVAL;
	*file_bytes = accel_dmabuf_is(fd) ? accel_dmabuf_bytes(fd) : (uint64_t)st.st_size;
	return bytes > UINT64_MAX - offset || offset + bytes > *file_bytes ? -EOVERFLOW : 0;
}

/*
 * Whoever maps pages by large entries finds no place for them elsewhere. So room is taken for
 * anything, and what is not needed of it is given back.
 */
void *accel_map_aligned(uint64_t bytes, int prot, int fd, uint64_t file_offset,
			uint64_t memory_offset)
{
	uint64_t align = bytes < ACCEL_HUGE_PAGE_BYTES ? accel_page_bytes() : ACCEL_HUGE_PAGE_BYTES;
	uint64_t room = bytes + align, head;
	uint8_t *base;
	void *addr;

	if (room < bytes) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	base = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return base;
	head = (memory_offset - (uintptr_t)base) & (align - 1);
	addr = mmap(base + head, bytes, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)file_offset);
	if (addr == MAP_FAILED) {
		int error = errno;

		munmap(base, room);
		errno = error;
		return addr;
	}
	if (head)
		munmap(base, head);
	if (room - head - bytes)
		munmap(base + head + bytes, room - head - bytes);
	return addr;
}

int accel_range_map(struct accel_region *region, int fd, uint64_t offset, uint64_t bytes, int prot)
{
	uint64_t page_bytes = accel_fd_page_bytes(fd),
		 map_bytes = accel_round_up(bytes, page_bytes);
	void *addr;

	if (accel_dmabuf_is(fd))
		addr = accel_map_aligned(map_bytes, prot, fd, offset, offset);
	else
		addr = mmap(NULL, map_bytes, prot, MAP_SHARED, fd, (off_t)offset);
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

/* Will the pages of a stranger's descriptor be there as long as they are mapped? 1 yes, 0 or -errno. */
static int stays(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS), rc;

	if (seals >= 0)
		return !!(seals & F_SEAL_SHRINK);
	rc = accel_dmabuf_is_ours(fd);
	return rc == -ENOENT ? 0 : rc;
}

int accel_region_map_peer(uint64_t id, int fd, uint64_t offset, uint64_t bytes,
			  struct accel_region **region)
{
	struct accel_region *new;
	uint64_t file_bytes;
	int rc;

	rc = stays(fd);
	if (rc <= 0)
		return rc ? rc : -EINVAL;
	rc = accel_range_check(fd, offset, bytes, &file_bytes);
	if (rc)
		return rc;
	new = accel_region_new(id, sizeof(*new));
	if (!new)
		return -ENOMEM;
	rc = accel_range_map(new, fd, offset, bytes, PROT_READ);
	if (rc) {
		free(new);
		return rc;
	}
	*region = new;
	return 0;
}

int accel_range_fail(struct accel_object *obj, int rc, uint64_t offset, uint64_t bytes,
		     uint64_t file_bytes)
{
	if (rc == -EOVERFLOW)
		return accel_fail(obj, rc, ACCEL_AT_CREATE,
				  "import of %llu bytes at %llu of a file of %llu bytes",
				  (unsigned long long)bytes, (unsigned long long)offset,
				  (unsigned long long)file_bytes);
	return accel_fail(obj, rc, ACCEL_AT_CREATE, "import of %llu bytes at %llu: %s",
			  (unsigned long long)bytes, (unsigned long long)offset,
			  bytes ? "the offset is not a multiple of the file's page size"
				: "nothing to import");
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
	new = accel_region_new(id, sizeof(*new));
	if (!new) {
		close(copy);
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE,
				  "import: no memory for bookkeeping");
	}
	if (accel_dmabuf_is(copy))
		rc = accel_dmabuf_import(obj, new, copy, offset, bytes);
	else
		rc = accel_memfd_import(obj, new, copy, offset, bytes);
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
	new = accel_region_new(id, sizeof(*new));
	if (!new)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE,
				  "import: no memory for bookkeeping");
	new->addr = ptr;
	new->bytes = bytes;
	*region = new;
	return 0;
}
