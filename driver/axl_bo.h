/* SPDX-License-Identifier: GPL-2.0-only */
/* Copyright (c) 2026 The accel authors */
/*
 * Buffers: memory of the machine (SYS) that we allocate, or somebody's dma-buf (IMPORT). axl_bo.c
 * says who holds what and in which order locks are taken.
 */
#ifndef AXL_BO_H
#define AXL_BO_H

#include <drm/drm_gem.h>
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/mmzone.h>

#include "axl_drm.h"
#include "axl_quota.h"

struct axl_device;
struct dma_buf;
struct dma_buf_attachment;
struct sg_table;

struct axl_bo {
	struct drm_gem_object base;
	struct list_head dev_link; /* axl_device.bos */
	u32 placement;		   /* enum drm_axl_placement */
	u32 flags;		   /* AXL_BO_F_* */
	atomic_t exports;	   /* dma-bufs of it that exist */

	/* SYS */
	struct axl_quota_user *user; /* who is charged for it */
	struct folio **folios;	     /* in the buffer's order, the largest first */
	unsigned long folios_of_order[NR_PAGE_ORDERS]; /* how many of each size */
	u64 large_page_bytes;			       /* of pages of 2 MiB or more */

	/* SYS: struct axl_mapping that importers have; under base.resv */
	struct list_head mappings;

	/* IMPORT: under axl_device.imports_lock */
	struct sg_table *sgt;	      /* mapped for our device, of base.import_attach; or NULL */
	struct list_head import_link; /* axl_device.imports, while it is mapped */
};

static inline struct axl_bo *axl_bo_of(struct drm_gem_object *obj)
{
	return container_of(obj, struct axl_bo, base);
}

static inline bool axl_bo_is_import(const struct axl_bo *bo)
{
	return bo->placement == AXL_PLACEMENT_IMPORT;
}

/* Of arrays as long as a buffer has pages: too much is -ENOMEM, and never the OOM killer's turn. */
#define AXL_GFP_LARGE (GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

u64 axl_bo_bytes_max(const struct axl_device *dev);

/* A buffer without memory, not yet listed; from axl_bo_list() on, drm_gem_object_put() frees it. */
struct axl_bo *axl_bo_alloc(struct axl_device *dev, u64 size, u32 placement, u32 flags);
void axl_bo_list(struct axl_bo *bo);

/* The page at index, in pages from the buffer's start, which is inside it. SYS only. */
struct page *axl_bo_page(const struct axl_bo *bo, pgoff_t index);

/* For vma->vm_pgoff in pages from the buffer's start; the caller gives vma its reference. */
int axl_bo_map_vma(struct axl_bo *bo, struct vm_area_struct *vma);
unsigned long axl_bo_get_unmapped_area(struct file *filp, unsigned long addr, unsigned long len,
				       unsigned long pgoff, unsigned long flags);

int axl_bo_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int axl_bo_info_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int axl_bo_mmap_offset_ioctl(struct drm_device *drm, void *data, struct drm_file *file);

/* axl_dmabuf.c */
struct dma_buf *axl_dmabuf_export(struct drm_gem_object *obj, int flags);
int axl_dmabuf_handle_to_fd(struct drm_device *drm, struct drm_file *file, u32 handle, u32 flags,
			    int *fd);
/* The buffer behind a dma-buf of ours, of whichever device, or NULL; without a reference. */
struct axl_bo *axl_dmabuf_bo(const struct dma_buf *dma_buf);

/* axl_import.c */
struct drm_gem_object *axl_import(struct drm_device *drm, struct dma_buf *dma_buf);
struct drm_gem_object *axl_import_sg_table(struct drm_device *drm,
					   struct dma_buf_attachment *attach, struct sg_table *sgt);
void axl_import_fini(struct axl_bo *bo);
void axl_import_detach_all(struct axl_device *dev); /* after drm_dev_unplug() */

#endif
