/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Devices and buffers: memory that ranks can share without copying.
 *
 * Rules for the whole API. Required arguments are positional, optional ones in a struct whose first
 * field is its size: `struct accel_buffer_opts opts = {.size = sizeof(opts)}`; NULL and zero fields
 * mean defaults. Out-parameters are written on success only. destroy and close take NULL and return
 * nothing. Details of a failure: accel_error_get(). ACCEL_OPTS="field=value,..." in the environment
 * sets the fields of struct accel_group_opts and struct accel_ep_opts that the program left at 0,
 * for operators who cannot patch the framework; an unknown name is an error.
 */
#ifndef ACCEL_H
#define ACCEL_H

#include <accel/accel_error.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct accel_device;
struct accel_buffer;

enum accel_dtype {
	ACCEL_DTYPE_BF16 = 1,
	ACCEL_DTYPE_FP8_E4M3 = 2, /* with one f32 scale each 128 elements of a row */
};

/**
 * accel_version - the library's version and the commit it was built from
 * Return: a constant string, "0.1.0 (0123456789ab)".
 */
const char *accel_version(void);

/** struct accel_device_info - what a device is */
struct accel_device_info {
	size_t size;
	char name[32];		  /* "host" */
	uint32_t page_bytes;	  /* of ordinary memory */
	uint32_t huge_page_bytes; /* 0: none can be had */
	uint32_t huge_pages_free; /* reserved (hugetlb) pages free now; count */
	uint32_t numa_nodes;	  /* count */
	char kernels[32];	  /* the back end that quantises and combines: "avx2" */
};

/**
 * accel_device_open - open memory of a kind
 * @name: "host": ordinary memory of this machine (memfd)
 * @dev:  the device; close it after its buffers and groups
 * Other names ("accelN", "cuda:N", "opencl:N") are reserved.
 * Return: 0; -EINVAL NULL; -ENOENT no such device; -ENOMEM.
 */
int accel_device_open(const char *name, struct accel_device **dev);

/** accel_device_close - close a device; NULL is fine; buffers and groups of it must be gone
 */
void accel_device_close(struct accel_device *dev);

/**
 * accel_device_info_get - what a device is
 * @info: written; set size first
 * Return: 0; -EINVAL NULL or size 0.
 */
int accel_device_info_get(struct accel_device *dev, struct accel_device_info *info);

enum accel_huge {
	ACCEL_HUGE_TRY = 0, /* huge pages where they can be had */
	ACCEL_HUGE_NEVER = 1,
	ACCEL_HUGE_NEED = 2, /* -ENOSPC where they cannot */
};

/** struct accel_buffer_opts - options of accel_buffer_create(); zero is default */
struct accel_buffer_opts {
	size_t size;
	uint32_t huge;		  /* enum accel_huge */
	uint32_t numa_node_plus1; /* 0: the node of the calling thread; n + 1: node n */
	uint64_t reserved[6];	  /* must be 0 */
};

/** struct accel_buffer_info - what was obtained */
struct accel_buffer_info {
	size_t size;
	void *addr;	     /* where the buffer is mapped in this process */
	uint64_t size_bytes; /* usable */
	/* of the pages obtained (a transparent huge page counts as page_bytes of its base) */
	uint32_t page_bytes;
	int32_t numa_node; /* -1: unknown */
	int32_t shareable; /* 1: peers of this host reach it without a copy; 0: a bare pointer, staged */
	uint32_t reserved;
};

/**
 * accel_buffer_create - memory that peers can reach without a copy
 * @size_bytes: at least 1; rounded up to whole pages
 * @opts:       NULL: defaults
 * Zeroed. Every page is allocated now, on the chosen node, so a shortage is an error here and never
 * a fault later.
 * Return: 0; -EINVAL; -E2BIG; -EOVERFLOW @size_bytes cannot be rounded up; -ENOMEM; -ENOSPC not
 * enough memory, huge pages or room in the cgroup.
 */
int accel_buffer_create(struct accel_device *dev, uint64_t size_bytes,
			const struct accel_buffer_opts *opts, struct accel_buffer **buf);

/**
 * accel_buffer_import_fd - share the caller's own memfd
 * @fd:     a memfd that can be sealed against shrinking or is; duplicated, the caller keeps its own
 * @offset: in bytes, a multiple of the page size
 * The seal is what makes a later SIGBUS impossible, so a descriptor that cannot carry it is refused.
 * Pages that the file lacks are allocated now. Mapped read-only where the descriptor or a seal
 * forbids writing.
 * Return: 0; -EINVAL; -EOVERFLOW the range exceeds the file; -EOPNOTSUPP not a sealable memfd;
 * -ENOMEM; -ENOSPC no room for the pages that the file lacks.
 */
int accel_buffer_import_fd(struct accel_device *dev, int fd, uint64_t offset, uint64_t size_bytes,
			   struct accel_buffer **buf);

/**
 * accel_buffer_import_ptr - name a range of the caller's memory No other process can map a bare
 * pointer: rows in it are staged (copied once and counted in bytes_staged).
 * Return: 0; -EINVAL NULL or size 0; -EOVERFLOW; -ENOMEM.
 */
int accel_buffer_import_ptr(struct accel_device *dev, void *ptr, uint64_t size_bytes,
			    struct accel_buffer **buf);

/**
 * accel_buffer_export_fd - a descriptor of the buffer's memory for other processes
 * @fd:     the caller's to close; maps read-only elsewhere
 * @offset: of the buffer in it, in bytes
 * Return: 0; -EINVAL; -EOPNOTSUPP a bare pointer; -EMFILE.
 */
int accel_buffer_export_fd(struct accel_buffer *buf, int *fd, uint64_t *offset);

/**
 * accel_buffer_info_get - address, size and what was obtained
 * Return: 0; -EINVAL NULL or size 0.
 */
int accel_buffer_info_get(struct accel_buffer *buf, struct accel_buffer_info *info);

/**
 * accel_buffer_addr - where the buffer is mapped in this process
 * Return: the address, or NULL for NULL.
 */
void *accel_buffer_addr(struct accel_buffer *buf);

/** accel_buffer_destroy - give a buffer back; NULL is fine
 * Peers drop their mappings at their next call. Rows of an open round must not lie in it; see
 * accel_ep.h for how long x and y belong to the library.
 */
void accel_buffer_destroy(struct accel_buffer *buf);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
