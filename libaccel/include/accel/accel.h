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
	char name[32];		  /* "host", "accel0" */
	uint32_t page_bytes;	  /* of ordinary memory */
	uint32_t huge_page_bytes; /* 0: none can be had */
	uint32_t huge_pages_free; /* reserved (hugetlb) pages free now; count */
	uint32_t numa_nodes;	  /* count */
	char kernels[32];	  /* the back end that quantises and combines: "avx2" */
	/* Of accelN; all 0 for host. */
	char provider[32];	  /* what is under it: "soft" */
	uint32_t numa_node_plus1; /* of the device: n + 1: node n; 0: none */
	uint32_t reserved;
	uint64_t buffer_bytes_max;  /* the largest buffer */
	uint64_t memory_bytes_max;  /* quota of the device; 0: none */
	uint64_t memory_bytes_used; /* by everybody's buffers */
	uint64_t user_bytes_max;    /* quota of one user on it; 0: none */
	uint64_t user_bytes_used;   /* by buffers of the caller's user */
};

/**
 * accel_device_open - open memory of a kind
 * @name: "host": ordinary memory of this machine (memfd); "accelN": /dev/accel/accelN of module
 *        accel, see accel(4); "accel": the first of these
 * @dev:  the device; close it after its buffers and groups
 * Other names ("cuda:N", "opencl:N") are reserved.
 *
 * Buffers of accelN can be registered with any RDMA NIC and are exported as dma-bufs; they count
 * against the device's quotas. Those of both kinds of device are shared by ranks without a copy, and
 * ranks of one group may have different devices.
 * Return: 0; -EINVAL NULL; -ENOENT no such device, or the module is not loaded; -EACCES the node may
 * not be opened (group render); -EOPNOTSUPP another driver's node, or a module of another API;
 * -ENODEV it was removed; -ENOMEM.
 */
int accel_device_open(const char *name, struct accel_device **dev);

/** accel_device_close - close a device; NULL is fine; buffers and groups of it must be gone
 */
void accel_device_close(struct accel_device *dev);

/**
 * accel_device_info_get - what a device is
 * @info: written; set size first
 * Return: 0; -EINVAL NULL or size 0; -ENODEV the device was removed.
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
 * a fault later. On accelN a node that was chosen is kept to, on host it is preferred. A buffer of
 * accelN stays mapped when its device is removed.
 * Return: 0; -EINVAL; -E2BIG; -EOVERFLOW @size_bytes cannot be rounded up; -ENOMEM; -ENOSPC not
 * enough memory, huge pages, room in the cgroup or quota of the device or user; -ENODEV the device
 * was removed.
 */
int accel_buffer_create(struct accel_device *dev, uint64_t size_bytes,
			const struct accel_buffer_opts *opts, struct accel_buffer **buf);

/**
 * accel_buffer_import_fd - share the caller's own memfd or dma-buf
 * @fd:     a memfd that can be sealed against shrinking or is, or a dma-buf; duplicated, the caller
 *          keeps its own
 * @offset: in bytes, a multiple of the page size
 * On any device. The seal is what makes a later SIGBUS impossible, so a descriptor that cannot carry
 * it is refused. Pages that the file lacks are allocated now. Mapped read-only where the descriptor
 * or a seal forbids writing.
 *
 * A dma-buf needs no seal. One that accel.ko exported, in this process or another, is shared with
 * peers as it is: with the right to write if @fd has that. One of another exporter is mapped here
 * alone, since nobody can vouch for its pages: its rows are staged as a bare pointer's are. Where a
 * device uses it meanwhile, DMA_BUF_IOCTL_SYNC is the caller's.
 * Return: 0; -EINVAL; -EOVERFLOW the range exceeds the file; -EOPNOTSUPP neither a sealable memfd
 * nor a dma-buf that the CPU can map; -ENOMEM; -ENOSPC no room for the pages that the file lacks.
 */
int accel_buffer_import_fd(struct accel_device *dev, int fd, uint64_t offset, uint64_t size_bytes,
			   struct accel_buffer **buf);

/**
 * accel_buffer_import_ptr - name a range of the caller's memory
 * No other process can map a bare pointer: where a rank of this host is among the peers, rows in it are
 * staged (copied once and counted in bytes_staged). NICs read them where they lie, in the pages that were
 * there when they first did: destroy the buffer before the range is unmapped or mapped anew.
 * Return: 0; -EINVAL NULL or size 0; -EOVERFLOW; -ENOMEM.
 */
int accel_buffer_import_ptr(struct accel_device *dev, void *ptr, uint64_t size_bytes,
			    struct accel_buffer **buf);

/**
 * accel_buffer_export_fd - a descriptor of the buffer's memory for other processes
 * @fd:     the caller's to close; maps read-only elsewhere
 * @offset: of the buffer in it, in bytes
 * A memfd, or of accelN a dma-buf, for accel_buffer_import_fd() and mmap() in other processes,
 * ibv_reg_dmabuf_mr() and other devices. What was imported writable is exported so if it is a dma-buf.
 * Return: 0; -EINVAL; -EOPNOTSUPP a bare pointer, or a dma-buf of another exporter; -EMFILE.
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
