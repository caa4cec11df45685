/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A region: a range of a sealed memfd or a dma-buf, mapped. Reference-counted, since ranks that are threads of
 * one process share the owner's very mapping, and a reader may still look at it when the owner has
 * let go.
 *
 * Owned regions are mapped read-write and then sealed (SHRINK, GROW, FUTURE_WRITE, SEAL), so that
 * nobody else can map them writable or pull pages away (a SIGBUS). Those of accelN are dma-bufs for
 * reading only, whose size and pages stay what they are. A peer's region is mapped read-only after
 * the seals, or that accel.ko made it, and the size were checked.
 */
#ifndef ACCEL_REGION_H
#define ACCEL_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct accel_region {
	_Atomic uint32_t refs;
	uint64_t id;	    /* unique in its owner's device; what peers call it */
	int fd;		    /* -1: a bare pointer, or private memory */
	int nic_fd;	    /* a dma-buf that is not for peers, but a NIC may take it; else -1 */
	uint64_t fd_offset; /* of addr[0] in either, bytes */
	uint8_t *addr;
	uint64_t bytes;
	void *map_addr; /* what to unmap: whole pages around addr */
	uint64_t map_bytes;
	uint32_t page_bytes; /* obtained */
	int32_t numa_node;   /* obtained, -1 unknown */
	/* What else goes with the last reference, or NULL: of the struct that begins with this one. */
	void (*release)(struct accel_region *region);
};

struct accel_region_opts {
	uint32_t huge;	     /* enum accel_huge */
	int32_t numa_node;   /* -1: the calling thread's */
	const char *what;    /* for the memfd's name and messages: "buffer", "ep window" */
	bool private_memory; /* nobody else maps it: no descriptor, fd -1 */
};

struct accel_object;

/*
 * memfd.c. Make, place and touch every page, in that order, then seal. Room is checked first against
 * MemAvailable and the limits of the cgroups above (v1 and v2), since a memfd over a cgroup's limit
 * is killed and not refused. Errors go to obj (NULL: thread).
 * -EINVAL 0 bytes or no such node; -ENOSPC; -ENOMEM (no descriptor or bookkeeping); -EOVERFLOW.
 */
int accel_region_create(struct accel_object *obj, uint64_t id, uint64_t bytes,
			const struct accel_region_opts *opts, struct accel_region **region);
/*
 * The caller's memfd or dma-buf: dup'ed, mapped read-write where allowed; a memfd is sealed against
 * shrinking if it is not yet, and its holes are filled.
 * -EINVAL, -EOVERFLOW, -EOPNOTSUPP, -ENOMEM, -ENOSPC.
 */
int accel_region_import_fd(struct accel_object *obj, uint64_t id, int fd, uint64_t offset,
			   uint64_t bytes, struct accel_region **region);
/* A bare pointer: addr and bytes alone, fd -1; nothing is unmapped at the end. */
int accel_region_import_ptr(struct accel_object *obj, uint64_t id, void *ptr, uint64_t bytes,
			    struct accel_region **region);
/*
 * A peer's descriptor: hostile until it is known that its pages stay, and its size; mapped
 * read-only. Takes over fd on success only.
 * -EINVAL neither a sealed memfd nor accel.ko's dma-buf, not readable or a bad offset; -EOVERFLOW
 * beyond the file; -ENOMEM, -EMFILE, -ENFILE a shortage here. No error text: the caller names the
 * peer.
 */
int accel_region_map_peer(uint64_t id, int fd, uint64_t offset, uint64_t bytes,
			  struct accel_region **region);

struct accel_region *accel_region_get(struct accel_region *region);
void accel_region_put(struct accel_region *region); /* NULL is fine */

uint64_t accel_page_bytes(void);
/* To a multiple of a power of two, and to whole pages; 0 on overflow. */
uint64_t accel_round_up(uint64_t bytes, uint64_t multiple);
uint64_t accel_page_round_up(uint64_t bytes);

/* What makes regions uses the rest: a new one without memory, and ranges of descriptors. */
/* struct_bytes: of what begins with it. */
struct accel_region *accel_region_new(uint64_t id, size_t struct_bytes);
int32_t accel_node_of(const void *addr); /* of the page there; -1 unknown */
uint64_t accel_fd_page_bytes(
	int fd); /* of the pages behind a memfd: 2 MiB and more for hugetlbfs */
/* Does the range lie in the file? 0, -EINVAL or -EOVERFLOW; *file_bytes is written but for -EINVAL. */
int accel_range_check(int fd, uint64_t offset, uint64_t bytes, uint64_t *file_bytes);
/* The sentence for what accel_range_check() said. */
int accel_range_fail(struct accel_object *obj, int rc, uint64_t offset, uint64_t bytes,
		     uint64_t file_bytes);
/*
 * mmap() of bytes at file_offset, shared, at an address that lies within a large page as
 * memory_offset does: MAP_FAILED and errno, as it says it.
 */
void *accel_map_aligned(uint64_t bytes, int prot, int fd, uint64_t file_offset,
			uint64_t memory_offset);
/* Map a range that was checked, of a descriptor that the region takes over on success. */
int accel_range_map(struct accel_region *region, int fd, uint64_t offset, uint64_t bytes, int prot);
/* memfd.c: with fd already the region's own copy, which the caller closes on failure. */
int accel_memfd_import(struct accel_object *obj, struct accel_region *region, int fd,
		       uint64_t offset, uint64_t bytes);

#endif
