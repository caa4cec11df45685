// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * Somebody else's dma-buf as a buffer of ours: another accelerator's, a GPU's, a udmabuf. It is
 * attached to the device and mapped for its DMA until the buffer's end or the device's, and is its
 * exporter's memory all along: no quota of ours, no pages of ours. A dma-buf of the same device
 * gives the very buffer behind it.
 *
 * No mmap by us: whoever has the dma-buf can map that, by its exporter's rules for caches and
 * faults, which we could only pass on.
 */
#include <drm/drm_drv.h>
#include <drm/drm_gem.h>
#include <drm/drm_prime.h>
#include <linux/dma-buf.h>
#include <linux/file.h>
#include <linux/mm.h>

#include "axl_bo.h"
#include "axl_device.h"
#include "axl_drm.h"

struct drm_gem_object *axl_import(struct drm_device *drm, struct dma_buf *dma_buf)
{
	struct axl_bo *bo = axl_dmabuf_bo(dma_buf);
	struct drm_gem_object *obj;
	int idx;

	/* A handle can be mapped and exported for writing, so it takes the right to write. */
	if (!(dma_buf->file->f_mode & FMODE_WRITE))
		return ERR_PTR(-EACCES);
	if (bo && bo->base.dev == drm) {
		drm_gem_object_get(&bo->base);
		return &bo->base;
	}
	/* What is attached is in the list before axl_import_detach_all() goes through it. */
	if (!drm_dev_enter(drm, &idx))
		return ERR_PTR(-ENODEV);
	obj = drm_gem_prime_import_dev(drm, dma_buf, drm->dev);
	drm_dev_exit(idx);
	return obj;
}

struct drm_gem_object *axl_import_sg_table(struct drm_device *drm,
					   struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	struct axl_device *dev = axl_device_of(drm);
	u64 size = attach->dmabuf->size;
	struct axl_bo *bo;

	if (!size || !PAGE_ALIGNED(size))
		return ERR_PTR(-EOPNOTSUPP);
	bo = axl_bo_alloc(dev, size, AXL_PLACEMENT_IMPORT, 0);
	if (!bo)
		return ERR_PTR(-ENOMEM);
	mutex_lock(&dev->imports_lock);
	bo->sgt = sgt;
	list_add_tail(&bo->import_link, &dev->imports);
	mutex_unlock(&dev->imports_lock);
	axl_quota_import_add(&dev->quota, size);
	axl_bo_list(bo);
	return &bo->base;
}

static void import_detach(struct axl_bo *bo)
{
	struct drm_gem_object *obj = &bo->base;

	lockdep_assert_held(&axl_device_of(obj->dev)->imports_lock);
	drm_prime_gem_destroy(obj, bo->sgt);
	obj->import_attach = NULL;
	obj->resv = &obj->_resv; /* the dma-buf's may go with it */
	bo->sgt = NULL;
	list_del(&bo->import_link);
}

void axl_import_fini(struct axl_bo *bo)
{
	struct axl_device *dev = axl_device_of(bo->base.dev);

	mutex_lock(&dev->imports_lock);
	if (bo->sgt)
		import_detach(bo);
	mutex_unlock(&dev->imports_lock);
	axl_quota_import_remove(&dev->quota, bo->base.size);
}

void axl_import_detach_all(struct axl_device *dev)
{
	struct axl_bo *bo, *next;

	mutex_lock(&dev->imports_lock);
	list_for_each_entry_safe(bo, next, &dev->imports, import_link)
		import_detach(bo);
	mutex_unlock(&dev->imports_lock);
}
