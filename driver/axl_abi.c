// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * No code: the layout of what user space gives and takes, as it was first published. It is the same
 * for 32-bit and 64-bit processes, so there is nothing to convert between them.
 */
#include <linux/build_bug.h>
#include <linux/stddef.h>

#include "axl_drm.h"

#define AXL_SIZE(_type, _bytes) static_assert(sizeof(struct _type) == (_bytes))
#define AXL_FIELD(_type, _field, _offset) static_assert(offsetof(struct _type, _field) == (_offset))

AXL_SIZE(drm_axl_get_param, 16);
AXL_FIELD(drm_axl_get_param, param, 0);
AXL_FIELD(drm_axl_get_param, pad, 4);
AXL_FIELD(drm_axl_get_param, value, 8);

AXL_SIZE(drm_axl_bo_create, 40);
AXL_FIELD(drm_axl_bo_create, size_bytes, 0);
AXL_FIELD(drm_axl_bo_create, placement, 8);
AXL_FIELD(drm_axl_bo_create, flags, 12);
AXL_FIELD(drm_axl_bo_create, numa_node, 16);
AXL_FIELD(drm_axl_bo_create, handle, 20);
AXL_FIELD(drm_axl_bo_create, reserved, 24);

AXL_SIZE(drm_axl_bo_info, 56);
AXL_FIELD(drm_axl_bo_info, handle, 0);
AXL_FIELD(drm_axl_bo_info, pad, 4);
AXL_FIELD(drm_axl_bo_info, size_bytes, 8);
AXL_FIELD(drm_axl_bo_info, placement, 16);
AXL_FIELD(drm_axl_bo_info, flags, 20);
AXL_FIELD(drm_axl_bo_info, large_page_bytes, 24);
AXL_FIELD(drm_axl_bo_info, is_exported, 32);
AXL_FIELD(drm_axl_bo_info, pad_out, 36);
AXL_FIELD(drm_axl_bo_info, reserved, 40);

AXL_SIZE(drm_axl_bo_mmap_offset, 16);
AXL_FIELD(drm_axl_bo_mmap_offset, handle, 0);
AXL_FIELD(drm_axl_bo_mmap_offset, flags, 4);
AXL_FIELD(drm_axl_bo_mmap_offset, offset, 8);

AXL_SIZE(drm_axl_query, 24);
AXL_FIELD(drm_axl_query, what, 0);
AXL_FIELD(drm_axl_query, elem_bytes, 4);
AXL_FIELD(drm_axl_query, count, 8);
AXL_FIELD(drm_axl_query, pad, 12);
AXL_FIELD(drm_axl_query, ptr, 16);

AXL_SIZE(drm_axl_memory, 32);
AXL_FIELD(drm_axl_memory, placement, 0);
AXL_FIELD(drm_axl_memory, pad, 4);
AXL_FIELD(drm_axl_memory, bytes_max, 8);
AXL_FIELD(drm_axl_memory, bytes_used, 16);
AXL_FIELD(drm_axl_memory, bos, 24);

AXL_SIZE(drm_axl_last_error, 24);
AXL_FIELD(drm_axl_last_error, text, 0);
AXL_FIELD(drm_axl_last_error, text_bytes, 8);
AXL_FIELD(drm_axl_last_error, code, 12);
AXL_FIELD(drm_axl_last_error, ioctl_nr, 16);
AXL_FIELD(drm_axl_last_error, pad, 20);
