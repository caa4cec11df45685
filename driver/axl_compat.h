/* SPDX-License-Identifier: GPL-2.0-only */
/* Copyright (c) 2026 The accel authors */
/*
 * What differs between kernels, and the only place with #if: the newest name, given to older
 * kernels as well. conftest.sh finds out what a kernel has; version numbers say nothing about it,
 * for distributions port back. Each AXL_HAVE_ is a probe of that script.
 */
#ifndef AXL_COMPAT_H
#define AXL_COMPAT_H

#include <linux/mm.h>
#include <linux/module.h>

#include "axl_conftest.h"

/* The name space became a string in 6.13. */
#ifdef AXL_HAVE_IMPORT_NS_TOKEN
#define AXL_IMPORT_NS_DMA_BUF MODULE_IMPORT_NS(DMA_BUF)
#else
#define AXL_IMPORT_NS_DMA_BUF MODULE_IMPORT_NS("DMA_BUF")
#endif

/* drm_driver.date went in 6.14; before, DRM_IOCTL_VERSION warns when it is not set. */
#ifdef AXL_HAVE_DRM_DRIVER_DATE
#define AXL_DRM_VERSION(_major, _minor) .major = _major, .minor = _minor, .date = "0"
#else
#define AXL_DRM_VERSION(_major, _minor) .major = _major, .minor = _minor
#endif

#ifndef AXL_HAVE_VMA_IS_COW_MAPPING
static inline bool vma_is_cow_mapping(const struct vm_area_struct *vma)
{
	return is_cow_mapping(vma->vm_flags);
}
#endif

/* A kernel without transparent huge pages has no alignment to offer. */
#ifdef AXL_HAVE_THP_GET_UNMAPPED_AREA
#include <linux/huge_mm.h>
#define AXL_GET_UNMAPPED_AREA(file, addr, len, flags)                                              \
	thp_get_unmapped_area(file, addr, len, 0, flags)
#else
#define AXL_GET_UNMAPPED_AREA(file, addr, len, flags)                                              \
	mm_get_unmapped_area(current->mm, file, addr, len, 0, flags)
#endif

#endif
