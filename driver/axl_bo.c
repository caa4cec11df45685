// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * Buffers of the machine's memory: made, mapped, freed.
 *
 * Pages. All of a buffer is allocated, zeroed, when it is made, in the largest folios there are,
 * and stays where it is: nothing of it is movable. The buffer holds one reference of each folio;
 * each place of a page table and each pin (ibv_reg_mr) holds one more. The buffer's end puts its
 * own and no more, and never hands a page to another buffer itself: a page that somebody still
 * pins goes back to the kernel when that one lets go, and not before.
 *
 * Mappings. Drivers of RDMA pin user memory by its page tables, so these must show plain pages: no
 * VM_PFNMAP, VM_IO or VM_MIXEDMAP, no special entries, and no *_mkwrite, which would make the core
 * take the file for one that has to be written back. So .fault returns the page, and the core maps
 * the whole folio by one entry where it fills one and lies at an address of its alignment.
 *
 * Who holds what. A GEM object is held by each handle, by each vma (drm_gem_vm_open) and by each
 * dma-buf; the device by each file and each dma-buf, and the module by these too. A vma keeps its
 * file open. So when the last reference of a buffer goes, its device is still there. After the
 * device's removal everything that is mapped or exported stays as it is; only IMPORT buffers are
 * empty from then on, for a device that is gone can have nothing attached.
 *
 * Locks, outer before inner:
 *     mmap_lock (vm_ops.close), drm_file.prime.lock > drm_device.object_name_lock >
 *     axl_device.imports_lock > resv of a dma-buf (a buffer's: its mappings) > axl_quota.lock >
 *     axl_device.bos_lock > axl_file.lock
 * A fault takes none: what it reads does not change while the buffer lives.
 */
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_vma_manager.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "axl_bo.h"
#include "axl_compat.h"
#include "axl_device.h"
#include "axl_drm.h"
#include "axl_drv.h"
#include "axl_trace.h"

/* No page table has an entry for more, and none for what is between it and a page. */
#define AXL_ORDER_MAX MIN(PMD_SHIFT - PAGE_SHIFT, MAX_PAGE_ORDER)
#define AXL_LARGE_PAGE_BYTES SZ_2M /* what BO_INFO calls large */

u64 axl_bo_bytes_max(const struct axl_device *dev)
{
	u64 bytes = min(dev->quota.bytes_max, dev->quota.user_bytes_max);

	return min_t(u64, bytes, SIZE_MAX) & PAGE_MASK;
}

/* ---- Pages ----------------------------------------------------------------------------------- */

struct page *axl_bo_page(const struct axl_bo *bo, pgoff_t index)
{
	unsigned long first = 0, pages;
	int order;

	for (order = AXL_ORDER_MAX; order >= 0; order--) {
		pages = bo->folios_of_order[order] << order;
		if (index < pages)
			return folio_page(bo->folios[first + (index >> order)],
					  index & ((1ul << order) - 1));
		index -= pages;
		first += bo->folios_of_order[order];
	}
	return NULL;
}

static struct folio *bo_folio_alloc(unsigned int order, int node, bool is_strict)
{
	gfp_t gfp = GFP_USER | __GFP_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;

	/* Neither way does it come to the OOM killer. */
	gfp |= order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL;
	if (is_strict)
		gfp |= __GFP_THISNODE;
	return node == NUMA_NO_NODE ? folio_alloc(gfp, order)
				    : __folio_alloc_node(gfp, order, node);
}

static void bo_folios_put(struct list_head *list)
{
	struct folio *folio, *next;

	list_for_each_entry_safe(folio, next, list, lru) {
		folio_put(folio);
		cond_resched();
	}
}

/*
 * Fills list with the folios of a buffer, the largest first: sizes only fall, for the rest is too
 * short or the kernel had none of that size. Return: 0, -ENOMEM, -EINTR when the caller is being
 * killed, -ENODEV.
 */
static int bo_folios_alloc(struct axl_bo *bo, int node, struct list_head *list)
{
	pgoff_t index = 0, pages = bo->base.size >> PAGE_SHIFT;
	int order = bo->flags & AXL_BO_F_SMALL_PAGES ? 0 : AXL_ORDER_MAX;
	struct folio *folio;

	while (index < pages) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (drm_dev_is_unplugged(bo->base.dev))
			return -ENODEV;
		cond_resched();
		order = min(order, ilog2(pages - index));
		folio = bo_folio_alloc(order, node, bo->flags & AXL_BO_F_NUMA);
		if (folio) {
			folio->index = index; /* finish_fault() compares it with the file's size */
			list_add_tail(&folio->lru, list);
			bo->folios_of_order[order]++;
			if (folio_size(folio) >= AXL_LARGE_PAGE_BYTES)
				bo->large_page_bytes += folio_size(folio);
			index += 1ul << order;
		} else if (!order--) {
			return -ENOMEM;
		}
	}
	return 0;
}

static int bo_pages_alloc(struct axl_bo *bo, int node)
{
	unsigned long i = 0, count = 0;
	struct folio *folio, *next;
	LIST_HEAD(list);
	int ret, order;

	ret = bo_folios_alloc(bo, node, &list);
	if (ret)
		goto err_put_folios;
	for (order = 0; order < NR_PAGE_ORDERS; order++)
		count += bo->folios_of_order[order];
	bo->folios = kvmalloc_array(count, sizeof(*bo->folios), AXL_GFP_LARGE);
	ret = -ENOMEM;
	if (!bo->folios)
		goto err_put_folios;
	list_for_each_entry_safe(folio, next, &list, lru) {
		list_del(&folio->lru);
		bo->folios[i++] = folio;
	}
	return 0;

err_put_folios:
	bo_folios_put(&list);
	return ret;
}

static void bo_pages_free(struct axl_bo *bo)
{
	unsigned long i, count = 0;
	int order;

	for (order = 0; order < NR_PAGE_ORDERS; order++)
		count += bo->folios_of_order[order];
	for (i = 0; i < count; i++) {
		folio_put(bo->folios[i]);
		cond_resched();
	}
	kvfree(bo->folios);
}

/* ---- Mappings -------------------------------------------------------------------------------- */

static vm_fault_t bo_fault(struct vm_fault *vmf)
{
	struct drm_gem_object *obj = vmf->vma->vm_private_data;
	struct page *page;

	if (vmf->pgoff >= obj->size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	page = axl_bo_page(axl_bo_of(obj), vmf->pgoff);
	get_page(page);
	vmf->page = page;
	trace_axl_bo_fault(obj, (u64)vmf->pgoff << PAGE_SHIFT, folio_size(page_folio(page)));
	return 0;
}

static const struct vm_operations_struct bo_vm_ops = {
	.open = drm_gem_vm_open,
	.close = drm_gem_vm_close,
	.fault = bo_fault,
};

int axl_bo_map_vma(struct axl_bo *bo, struct vm_area_struct *vma)
{
	if (vma_is_cow_mapping(vma))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	vma->vm_private_data = &bo->base;
	vma->vm_ops = &bo_vm_ops;
	return 0;
}

/* By the device's file, where the offset says which buffer: from here on it says which page. */
static int bo_mmap(struct drm_gem_object *obj, struct vm_area_struct *vma)
{
	vma->vm_pgoff -= drm_vma_node_start(&obj->vma_node);
	return axl_bo_map_vma(axl_bo_of(obj), vma);
}

/* A mapping starts with its buffer, so an address of its pages' alignment is what it needs. */
unsigned long axl_bo_get_unmapped_area(struct file *filp, unsigned long addr, unsigned long len,
				       unsigned long pgoff, unsigned long flags)
{
	return AXL_GET_UNMAPPED_AREA(filp, addr, len, flags);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void bo_free(struct drm_gem_object *obj)
{
	struct axl_device *dev = axl_device_of(obj->dev);
	struct axl_bo *bo = axl_bo_of(obj);

	trace_axl_bo_free(obj, bo->placement);
	mutex_lock(&dev->bos_lock);
	list_del(&bo->dev_link);
	mutex_unlock(&dev->bos_lock);
	if (axl_bo_is_import(bo)) {
		axl_import_fini(bo);
	} else {
		bo_pages_free(bo);
		axl_quota_uncharge(&dev->quota, obj->size, bo->user);
	}
	drm_gem_object_release(obj);
	kfree(bo);
}

static const struct drm_gem_object_funcs bo_funcs = {
	.free = bo_free,
	.export = axl_dmabuf_export,
	.mmap = bo_mmap,
	.vm_ops = &bo_vm_ops,
};

struct axl_bo *axl_bo_alloc(struct axl_device *dev, u64 size, u32 placement, u32 flags)
{
	struct axl_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL_ACCOUNT);

	if (!bo)
		return NULL;
	bo->placement = placement;
	bo->flags = flags;
	INIT_LIST_HEAD(&bo->mappings);
	bo->base.funcs = &bo_funcs;
	drm_gem_private_object_init(&dev->drm, &bo->base, size);
	return bo;
}

/*
 * The core maps nothing by large entries beyond the size of a mapping's file. Mappings of buffers
 * all belong to the device's own inode, so it is as long as the longest of them.
 */
void axl_bo_list(struct axl_bo *bo)
{
	struct axl_device *dev = axl_device_of(bo->base.dev);
	struct inode *inode = dev->drm.anon_inode;

	mutex_lock(&dev->bos_lock);
	list_add_tail(&bo->dev_link, &dev->bos);
	if (i_size_read(inode) < bo->base.size)
		i_size_write(inode, bo->base.size);
	mutex_unlock(&dev->bos_lock);
	trace_axl_bo_create(&bo->base, bo->placement);
}

/* ---- BO_CREATE ------------------------------------------------------------------------------- */

static int create_fail(struct drm_file *file, int code, const struct drm_axl_bo_create *args)
{
	const u32 nr = DRM_AXL_BO_CREATE;

	switch (code) {
	case -EINTR:
		return axl_fail(file, nr, code, "a signal ended the allocation of %llu bytes",
				args->size_bytes);
	case -ENODEV:
		return axl_fail(file, nr, code, "the device was removed meanwhile");
	}
	if (args->flags & AXL_BO_F_NUMA)
		return axl_fail(file, nr, code,
				"node %u or the memory cgroup has no %llu bytes free; ask for less",
				args->numa_node, args->size_bytes);
	return axl_fail(file, nr, code,
			"the machine or the memory cgroup has no %llu bytes free; ask for less",
			args->size_bytes);
}

static int create_check(struct axl_device *dev, struct drm_file *file,
			const struct drm_axl_bo_create *args)
{
	const u32 nr = DRM_AXL_BO_CREATE, flags = AXL_BO_F_NUMA | AXL_BO_F_SMALL_PAGES;

	if (args->reserved[0] || args->reserved[1])
		return axl_fail(file, nr, -EINVAL, "reserved is not 0");
	if (args->flags & ~flags)
		return axl_fail(file, nr, -EINVAL,
				"flags has 0x%x, which this module does not know",
				args->flags & ~flags);
	if (args->placement == AXL_PLACEMENT_IMPORT)
		return axl_fail(file, nr, -EOPNOTSUPP,
				"an IMPORT buffer is made by PRIME_FD_TO_HANDLE, not by BO_CREATE");
	if (args->placement != AXL_PLACEMENT_SYS)
		return axl_fail(file, nr, -EINVAL, "placement %u is none; see AXL_PARAM_PLACEMENTS",
				args->placement);
	if (!(args->flags & AXL_BO_F_NUMA) && args->numa_node)
		return axl_fail(file, nr, -EINVAL, "numa_node is %u without AXL_BO_F_NUMA",
				args->numa_node);
	if (args->flags & AXL_BO_F_NUMA &&
	    (args->numa_node >= MAX_NUMNODES ||
	     !node_online(array_index_nospec(args->numa_node, MAX_NUMNODES))))
		return axl_fail(file, nr, -ENOENT,
				"NUMA node %u is not in /sys/devices/system/node/online",
				args->numa_node);
	if (!args->size_bytes)
		return axl_fail(file, nr, -EINVAL, "size_bytes is 0");
	if (args->size_bytes > axl_bo_bytes_max(dev))
		return axl_fail(file, nr, -ENOSPC,
				"%llu bytes are over the quota of %llu (accel(4), mem_bytes_max)",
				args->size_bytes, axl_bo_bytes_max(dev));
	return 0;
}

static int create_charge(struct axl_device *dev, struct drm_file *file, u64 bytes,
			 struct axl_quota_user **user)
{
	struct axl_quota_refusal why;
	int ret = axl_quota_charge(&dev->quota, bytes, user, &why);

	if (ret == -ENOSPC)
		axl_fail(file, DRM_AXL_BO_CREATE, ret,
			 "%llu bytes and the %llu in use are over this %s's %llu (accel(4), %s)",
			 bytes, why.bytes_used, why.whose, why.bytes_max, why.param);
	else if (ret)
		axl_fail(file, DRM_AXL_BO_CREATE, ret, "no memory for the account of a user");
	return ret;
}

static int create_sys(struct axl_device *dev, struct drm_file *file,
		      const struct drm_axl_bo_create *args, struct axl_bo **out)
{
	int node = args->flags & AXL_BO_F_NUMA ? (int)args->numa_node : dev->numa_node;
	u64 size = PAGE_ALIGN(args->size_bytes);
	struct axl_bo *bo;
	int ret;

	bo = axl_bo_alloc(dev, size, AXL_PLACEMENT_SYS, args->flags);
	if (!bo)
		return create_fail(file, -ENOMEM, args);
	ret = create_charge(dev, file, size, &bo->user);
	if (ret)
		goto err_free_bo;
	ret = bo_pages_alloc(bo, node);
	if (ret) {
		create_fail(file, ret, args);
		goto err_uncharge;
	}
	axl_bo_list(bo);
	*out = bo;
	return 0;

err_uncharge:
	axl_quota_uncharge(&dev->quota, size, bo->user);
err_free_bo:
	drm_gem_object_release(&bo->base);
	kfree(bo);
	return ret;
}

int axl_bo_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct axl_device *dev = axl_device_of(drm);
	struct drm_axl_bo_create *args = data;
	struct axl_bo *bo;
	u32 handle;
	int ret;

	ret = create_check(dev, file, args);
	if (!ret)
		ret = create_sys(dev, file, args, &bo);
	if (ret)
		return ret;
	ret = drm_gem_handle_create(file, &bo->base, &handle);
	if (ret) {
		axl_fail(file, DRM_AXL_BO_CREATE, ret, "no memory for one more handle");
	} else {
		args->handle = handle;
		args->size_bytes = bo->base.size;
	}
	drm_gem_object_put(&bo->base); /* the handle has its own reference */
	return ret;
}

/* ---- BO_INFO, BO_MMAP_OFFSET ----------------------------------------------------------------- */

static struct axl_bo *bo_get(struct drm_file *file, u32 nr, u32 handle)
{
	struct drm_gem_object *obj = drm_gem_object_lookup(file, handle);

	if (obj)
		return axl_bo_of(obj);
	axl_fail(file, nr, -ENOENT, "this file has no handle %u", handle);
	return NULL;
}

int axl_bo_info_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_axl_bo_info *args = data;
	struct axl_bo *bo;

	if (args->pad || args->reserved[0] || args->reserved[1])
		return axl_fail(file, DRM_AXL_BO_INFO, -EINVAL, "pad or reserved is not 0");
	bo = bo_get(file, DRM_AXL_BO_INFO, args->handle);
	if (!bo)
		return -ENOENT;
	args->size_bytes = bo->base.size;
	args->placement = bo->placement;
	args->flags = bo->flags;
	args->large_page_bytes = bo->large_page_bytes;
	args->is_exported = atomic_read(&bo->exports) > 0;
	args->pad_out = 0;
	drm_gem_object_put(&bo->base);
	return 0;
}

int axl_bo_mmap_offset_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	const u32 nr = DRM_AXL_BO_MMAP_OFFSET;
	struct drm_axl_bo_mmap_offset *args = data;
	struct axl_bo *bo;
	int ret;

	if (args->flags)
		return axl_fail(file, nr, -EINVAL, "flags is 0x%x and must be 0", args->flags);
	bo = bo_get(file, nr, args->handle);
	if (!bo)
		return -ENOENT;
	if (axl_bo_is_import(bo)) {
		ret = axl_fail(file, nr, -EOPNOTSUPP,
			       "handle %u is an IMPORT buffer: map the dma-buf it came from",
			       args->handle);
		goto out_put;
	}
	ret = drm_gem_create_mmap_offset(&bo->base);
	if (ret)
		axl_fail(file, nr, ret, "the device has no room for %zu more bytes of mmap offsets",
			 bo->base.size);
	else
		args->offset = drm_vma_node_offset_addr(&bo->base.vma_node);
out_put:
	drm_gem_object_put(&bo->base);
	return ret;
}
