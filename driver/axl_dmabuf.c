// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * Our buffers as dma-bufs, for other processes, NICs and GPUs.
 *
 * A dma-buf holds the buffer, the device and the module. It stays what it is when the device is
 * removed. Pages never move, so there is nothing to pin, and importers of both kinds map us as they
 * map any exporter without .pin.
 *
 * Reading only. A dma-buf exported without DRM_RDWR is an object of its own each time, so that it
 * never stands in for one that may be written: it cannot be mapped for writing, no device maps it
 * but to read, and PRIME_FD_TO_HANDLE refuses it (axl_import.c), for a handle can do all that.
 * The one that may be written is one a buffer, and DRM's core keeps it.
 */
#include <drm/drm_drv.h>
#include <drm/drm_prime.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "axl_bo.h"
#include "axl_compat.h"
#include "axl_device.h"
#include "axl_drm.h"
#include "axl_trace.h"

AXL_IMPORT_NS_DMA_BUF;

#define AXL_SEGMENT_BYTES_MAX SZ_1G /* lengths are 32 bits in places */

/*
 * What map_dma_buf() gave to an importer, which writes into it: RDMA's core cuts the first and the
 * last segment to the range that a memory region covers. So what is synced and unmapped is another.
 */
struct axl_mapping {
	struct sg_table theirs;
	struct sg_table ours;
	struct device *importer;
	enum dma_data_direction dir;
	struct list_head link; /* axl_bo.mappings */
};

static bool is_writable(const struct dma_buf *dma_buf)
{
	return dma_buf->file->f_mode & FMODE_WRITE;
}

/* ---- Mapped by a device ---------------------------------------------------------------------- */

/* The pages as segments of at most bytes_max. A folio is one piece; to join them gains nothing. */
static int sg_table_fill(struct sg_table *sgt, struct axl_bo *bo, size_t bytes_max)
{
	pgoff_t index, pages = bo->base.size >> PAGE_SHIFT;
	unsigned int segments = 0;
	struct scatterlist *sg;
	struct folio *folio;
	size_t offset;
	int ret;

	for (index = 0; index < pages; index += folio_nr_pages(folio)) {
		folio = page_folio(axl_bo_page(bo, index));
		segments += DIV_ROUND_UP(folio_size(folio), bytes_max);
	}
	ret = sg_alloc_table(sgt, segments, AXL_GFP_LARGE);
	if (ret)
		return ret;
	sg = sgt->sgl;
	for (index = 0; index < pages; index += folio_nr_pages(folio)) {
		folio = page_folio(axl_bo_page(bo, index));
		for (offset = 0; offset < folio_size(folio); offset += bytes_max) {
			sg_set_page(sg, folio_page(folio, offset >> PAGE_SHIFT),
				    min(bytes_max, folio_size(folio) - offset), 0);
			sg = sg_next(sg);
		}
	}
	return 0;
}

/* With the same segments and addresses: tables of one length end, and chain, at the same places. */
static int sg_table_copy(struct sg_table *to, const struct sg_table *from)
{
	struct scatterlist *sg, *to_sg;
	int ret = sg_alloc_table(to, from->orig_nents, AXL_GFP_LARGE);

	if (ret)
		return ret;
	to->nents = from->nents;
	to_sg = to->sgl;
	for (sg = from->sgl; sg; sg = sg_next(sg)) {
		*to_sg = *sg;
		to_sg = sg_next(to_sg);
	}
	return 0;
}

static size_t segment_bytes_max(struct device *importer)
{
	size_t bytes = min_t(size_t, AXL_SEGMENT_BYTES_MAX, dma_get_max_seg_size(importer));

	return max(min(bytes, dma_max_mapping_size(importer)) & PAGE_MASK, PAGE_SIZE);
}

static struct sg_table *dmabuf_map(struct dma_buf_attachment *attach, enum dma_data_direction dir)
{
	struct drm_gem_object *obj = attach->dmabuf->priv;
	struct axl_bo *bo = axl_bo_of(obj);
	struct axl_mapping *mapping;
	int ret;

	dma_resv_assert_held(obj->resv);
	if (!is_writable(attach->dmabuf) && dir != DMA_TO_DEVICE)
		return ERR_PTR(-EACCES);
	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL_ACCOUNT);
	if (!mapping)
		return ERR_PTR(-ENOMEM);
	mapping->importer = attach->dev;
	mapping->dir = dir;
	ret = sg_table_fill(&mapping->ours, bo, segment_bytes_max(attach->dev));
	if (ret)
		goto err_free_mapping;
	/* Others may have mapped the same memory: each syncs on its own, and claims none of it. */
	ret = dma_map_sgtable(attach->dev, &mapping->ours, dir, DMA_ATTR_SKIP_CPU_SYNC);
	if (ret)
		goto err_free_ours;
	ret = sg_table_copy(&mapping->theirs, &mapping->ours);
	if (ret)
		goto err_unmap;
	dma_sync_sgtable_for_device(attach->dev, &mapping->ours, dir);
	list_add_tail(&mapping->link, &bo->mappings);
	trace_axl_dmabuf_map(obj, attach->dev);
	return &mapping->theirs;

err_unmap:
	dma_unmap_sgtable(attach->dev, &mapping->ours, dir, DMA_ATTR_SKIP_CPU_SYNC);
err_free_ours:
	sg_free_table(&mapping->ours);
err_free_mapping:
	kfree(mapping);
	return ERR_PTR(ret);
}

static void dmabuf_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
			 enum dma_data_direction dir)
{
	struct axl_mapping *mapping = container_of(sgt, struct axl_mapping, theirs);

	trace_axl_dmabuf_unmap(attach->dmabuf->priv, attach->dev);
	list_del(&mapping->link);
	dma_sync_sgtable_for_cpu(attach->dev, &mapping->ours, dir);
	dma_unmap_sgtable(attach->dev, &mapping->ours, dir, DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(&mapping->ours);
	sg_free_table(&mapping->theirs);
	kfree(mapping);
}

/* Where devices do not see the CPU's caches, or through bounce buffers, this moves the bytes. */
static int mappings_sync(struct dma_buf *dma_buf,
			 void (*sync)(struct device *importer, struct sg_table *sgt,
				      enum dma_data_direction dir))
{
	struct axl_bo *bo = axl_bo_of(dma_buf->priv);
	struct axl_mapping *mapping;
	int ret = dma_resv_lock_interruptible(bo->base.resv, NULL);

	if (ret)
		return ret;
	list_for_each_entry(mapping, &bo->mappings, link)
		sync(mapping->importer, &mapping->ours, mapping->dir);
	dma_resv_unlock(bo->base.resv);
	return 0;
}

static int dmabuf_begin_cpu_access(struct dma_buf *dma_buf, enum dma_data_direction dir)
{
	return mappings_sync(dma_buf, dma_sync_sgtable_for_cpu);
}

static int dmabuf_end_cpu_access(struct dma_buf *dma_buf, enum dma_data_direction dir)
{
	return mappings_sync(dma_buf, dma_sync_sgtable_for_device);
}

/* ---- Mapped by a process --------------------------------------------------------------------- */

static int dmabuf_mmap(struct dma_buf *dma_buf, struct vm_area_struct *vma)
{
	struct drm_gem_object *obj = dma_buf->priv;
	int ret = axl_bo_map_vma(axl_bo_of(obj), vma);

	if (!ret)
		drm_gem_object_get(obj); /* drm_gem_vm_close() puts it */
	return ret;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static int dmabuf_attach(struct dma_buf *dma_buf, struct dma_buf_attachment *attach)
{
	trace_axl_dmabuf_attach(dma_buf->priv, attach->dev);
	return 0;
}

static void dmabuf_detach(struct dma_buf *dma_buf, struct dma_buf_attachment *attach)
{
	trace_axl_dmabuf_detach(dma_buf->priv, attach->dev);
}

static void dmabuf_release(struct dma_buf *dma_buf)
{
	struct drm_gem_object *obj = dma_buf->priv;

	trace_axl_dmabuf_release(obj);
	atomic_dec(&axl_bo_of(obj)->exports);
	atomic_dec(&axl_device_of(obj->dev)->exports);
	drm_gem_dmabuf_release(dma_buf);
}

static const struct dma_buf_ops dmabuf_ops = {
	.attach = dmabuf_attach,
	.detach = dmabuf_detach,
	.map_dma_buf = dmabuf_map,
	.unmap_dma_buf = dmabuf_unmap,
	.begin_cpu_access = dmabuf_begin_cpu_access,
	.end_cpu_access = dmabuf_end_cpu_access,
	.mmap = dmabuf_mmap,
	.release = dmabuf_release,
};

struct axl_bo *axl_dmabuf_bo(const struct dma_buf *dma_buf)
{
	return dma_buf->ops == &dmabuf_ops ? axl_bo_of(dma_buf->priv) : NULL;
}

struct dma_buf *axl_dmabuf_export(struct drm_gem_object *obj, int flags)
{
	struct dma_buf_export_info info = {
		.exp_name = AXL_DRIVER_NAME,
		.owner = THIS_MODULE,
		.ops = &dmabuf_ops,
		.size = obj->size,
		.flags = flags,
		.priv = obj,
		.resv = obj->resv,
	};
	struct dma_buf *dma_buf = drm_gem_dmabuf_export(obj->dev, &info);

	if (IS_ERR(dma_buf))
		return dma_buf;
	atomic_inc(&axl_bo_of(obj)->exports);
	atomic_inc(&axl_device_of(obj->dev)->exports);
	trace_axl_dmabuf_export(obj);
	return dma_buf;
}

int axl_dmabuf_handle_to_fd(struct drm_device *drm, struct drm_file *file, u32 handle, u32 flags,
			    int *fd)
{
	struct drm_gem_object *obj;
	struct dma_buf *dma_buf;
	int ret;

	if (flags & DRM_RDWR)
		return drm_gem_prime_handle_to_fd(drm, file, handle, flags, fd);
	obj = drm_gem_object_lookup(file, handle);
	if (!obj)
		return -ENOENT;
	if (axl_bo_is_import(axl_bo_of(obj)))
		dma_buf = ERR_PTR(-EOPNOTSUPP); /* whose it is may export it so; we cannot */
	else
		dma_buf = axl_dmabuf_export(obj, flags);
	drm_gem_object_put(obj);
	if (IS_ERR(dma_buf))
		return PTR_ERR(dma_buf);
	ret = dma_buf_fd(dma_buf, flags);
	if (ret < 0) {
		dma_buf_put(dma_buf);
		return ret;
	}
	*fd = ret;
	return 0;
}
