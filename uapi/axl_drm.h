/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The ioctls of accel.ko on /dev/accel/accelN, beside the core's own: GEM_CLOSE,
 * PRIME_HANDLE_TO_FD, PRIME_FD_TO_HANDLE. Global names (GEM_FLINK, GEM_OPEN) are refused.
 *
 * Rules. Every pad and reserved field, and every flag bit not named here, must be 0, else -EINVAL.
 * Fields marked (out) are ignored on the way in. Sizes and offsets are in bytes. A struct grows
 * only at its end; a field that is added takes effect by a new flag bit, which an older module
 * refuses, and is announced by AXL_PARAM_API_MINOR. A number is never used twice.
 *
 * Errors mean the same everywhere; LAST_ERROR has the sentence for a file's last failed ioctl:
 *     -EINVAL     a value that no version gives a meaning: zero size, unknown flag, non-zero pad
 *     -EOPNOTSUPP a known value that this device or this kind of buffer cannot do
 *     -ENOENT     no such handle, parameter, query or NUMA node
 *     -ENOMEM     the machine, or the caller's memory cgroup, has no such memory
 *     -ENOSPC     the quota of the device or of the user is used up (accel(4))
 *     -EFAULT     a pointer of the caller's
 *     -EACCES     the dma-buf was exported for reading only
 *     -EINTR      a signal came before anything was done; call again
 *     -ENODEV     the device is gone: its memory stays mapped and exported, ioctls fail
 *     -ENOTTY     this module is too old for the call
 */
#ifndef AXL_DRM_H
#define AXL_DRM_H

#ifdef __KERNEL__
#include <drm/drm.h>
#else
#include <drm.h> /* of libdrm */
#endif

#if defined(__cplusplus)
extern "C" {
#endif

#define AXL_DRIVER_NAME "accel" /* what DRM_IOCTL_VERSION says */

#define AXL_API_MAJOR 1 /* grows when a caller built for an older one would break */
#define AXL_API_MINOR 0 /* grows with what is added */

/*
 * DRM_COMMAND_BASE + these. 0x08-0x0f are for contexts (create, destroy, bind, unbind), 0x10-0x17
 * for queues (create, destroy, kick, wait), 0x18 for reset.
 */
#define DRM_AXL_GET_PARAM 0x00
#define DRM_AXL_BO_CREATE 0x01
#define DRM_AXL_BO_INFO 0x02
#define DRM_AXL_BO_MMAP_OFFSET 0x03
#define DRM_AXL_QUERY 0x04
#define DRM_AXL_LAST_ERROR 0x05

/* GET_PARAM: one number that describes the device or the module. */
enum drm_axl_param {
	AXL_PARAM_API_MAJOR = 0,
	AXL_PARAM_API_MINOR = 1,
	AXL_PARAM_FEATURES = 2,	      /* AXL_FEATURE_* */
	AXL_PARAM_PROVIDER = 3,	      /* enum drm_axl_provider */
	AXL_PARAM_PAGE_BYTES = 4,     /* sizes are rounded up to it */
	AXL_PARAM_BO_BYTES_MAX = 5,   /* the largest buffer */
	AXL_PARAM_NUMA_NODE = 6,      /* of the device; ~0 when it has none */
	AXL_PARAM_PLACEMENTS = 7,     /* bit n: placement n can be asked of BO_CREATE */
	AXL_PARAM_MEM_BYTES_MAX = 8,  /* quota of the device */
	AXL_PARAM_USER_BYTES_MAX = 9, /* quota of one user on it */
};

#define AXL_FEATURE_DMABUF_EXPORT (1ull << 0)
#define AXL_FEATURE_DMABUF_IMPORT (1ull << 1)
#define AXL_FEATURE_MMAP_REGISTRABLE (1ull << 2) /* by ibv_reg_mr(); SYS buffers */

enum drm_axl_provider {
	AXL_PROVIDER_SOFT = 0, /* the software device */
};

struct drm_axl_get_param {
	__u32 param; /* enum drm_axl_param */
	__u32 pad;
	__u64 value; /* (out) */
};

/* Where a buffer's bytes are. */
enum drm_axl_placement {
	AXL_PLACEMENT_SYS = 0,	  /* pages of the machine */
	AXL_PLACEMENT_IMPORT = 1, /* somebody's dma-buf; by PRIME_FD_TO_HANDLE only */
};

#define AXL_BO_F_NUMA (1u << 0)	       /* all pages from numa_node, or -ENOMEM */
#define AXL_BO_F_SMALL_PAGES (1u << 1) /* else the largest pages that are free */

/* BO_CREATE: zeroed memory, all of it there when the call returns, mapped nowhere yet. */
struct drm_axl_bo_create {
	__u64 size_bytes; /* (in/out) rounded up to PAGE_BYTES; above BO_BYTES_MAX -ENOSPC */
	__u32 placement;  /* enum drm_axl_placement */
	__u32 flags;	  /* AXL_BO_F_* */
	__u32 numa_node;  /* with AXL_BO_F_NUMA, else 0 */
	__u32 handle;	  /* (out) */
	__u64 reserved[2];
};

struct drm_axl_bo_info {
	__u32 handle;
	__u32 pad;
	__u64 size_bytes;	/* (out) */
	__u32 placement;	/* (out) enum drm_axl_placement */
	__u32 flags;		/* (out) as given to BO_CREATE */
	__u64 large_page_bytes; /* (out) how much of it is in pages of 2 MiB or more */
	__u32 is_exported;	/* (out) 1: a dma-buf of it exists */
	__u32 pad_out;		/* (out) 0 */
	__u64 reserved[2];
};

/*
 * BO_MMAP_OFFSET: the offset for mmap() of this file. Shared mappings only. A dma-buf of the buffer
 * can be mapped as well, from offset 0: byte n of a buffer is byte n of its dma-buf, so a range
 * keeps its offset when it is exported. An IMPORT buffer is mapped by its dma-buf only, else
 * -EOPNOTSUPP.
 */
struct drm_axl_bo_mmap_offset {
	__u32 handle;
	__u32 flags;  /* 0 */
	__u64 offset; /* (out) */
};

enum drm_axl_query_what {
	AXL_QUERY_MEMORY = 0, /* drm_axl_memory, one a placement */
	AXL_QUERY_USER = 1,   /* drm_axl_memory, one: what buffers of the caller's user take */
};

/*
 * QUERY: an array of what is asked for. Elements are cut or zero-filled to elem_bytes: either side
 * may be newer.
 */
struct drm_axl_query {
	__u32 what;	  /* enum drm_axl_query_what */
	__u32 elem_bytes; /* of one element as the caller knows it; a multiple of 8, 8..4096 */
	__u32 count;	  /* (in/out) elements there is room for; then how many there are */
	__u32 pad;
	__u64 ptr; /* to the array; may be 0 when count is */
};

struct drm_axl_memory {
	__u32 placement; /* enum drm_axl_placement */
	__u32 pad;
	__u64 bytes_max;  /* the quota; 0 where there is none */
	__u64 bytes_used; /* by buffers that exist */
	__u64 bos;	  /* how many buffers */
};

/* LAST_ERROR: why the last ioctl of ours on this file failed. Does not itself change it. */
struct drm_axl_last_error {
	__u64 text;	  /* pointer to room for it; may be 0 when text_bytes is */
	__u32 text_bytes; /* (in/out) the room; then what the text with its final NUL takes */
	__s32 code;	  /* (out) -errno; 0 when nothing has failed */
	__u32 ioctl_nr;	  /* (out) DRM_AXL_* */
	__u32 pad;
};

#define DRM_IOCTL_AXL_GET_PARAM                                                                    \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_AXL_GET_PARAM, struct drm_axl_get_param)
#define DRM_IOCTL_AXL_BO_CREATE                                                                    \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_AXL_BO_CREATE, struct drm_axl_bo_create)
#define DRM_IOCTL_AXL_BO_INFO DRM_IOWR(DRM_COMMAND_BASE + DRM_AXL_BO_INFO, struct drm_axl_bo_info)
#define DRM_IOCTL_AXL_BO_MMAP_OFFSET                                                               \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_AXL_BO_MMAP_OFFSET, struct drm_axl_bo_mmap_offset)
#define DRM_IOCTL_AXL_QUERY DRM_IOWR(DRM_COMMAND_BASE + DRM_AXL_QUERY, struct drm_axl_query)
#define DRM_IOCTL_AXL_LAST_ERROR                                                                   \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_AXL_LAST_ERROR, struct drm_axl_last_error)

#if defined(__cplusplus)
}
#endif

#endif /* AXL_DRM_H */
