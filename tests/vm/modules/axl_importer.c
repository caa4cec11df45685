// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Imports dma-bufs in each way that drivers of the kernel do, for tests/vm/axl_importer.c. It reads
 * and writes the memory by the DMA addresses it was given, as a device would, so it must run
 * without an IOMMU, as the guest does.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-resv.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

#include "axl_importer.h"

struct importer {
	struct mutex lock; /* all below */
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	bool is_pinned;
	struct ib_device *ib_device;
	struct ib_umem_dmabuf *umem;
	atomic_t moves;
};

static struct platform_device *importer_device;

static void importer_move_notify(struct dma_buf_attachment *attach)
{
	struct importer *importer = attach->importer_priv;

	atomic_inc(&importer->moves);
}

static const struct dma_buf_attach_ops importer_attach_ops = {
	.move_notify = importer_move_notify,
};

static void importer_release_all(struct importer *importer)
{
	if (importer->umem) {
		ib_umem_release(&importer->umem->umem);
		ib_device_put(importer->ib_device);
	} else if (importer->attach) {
		if (importer->sgt)
			dma_buf_unmap_attachment_unlocked(importer->attach, importer->sgt,
							  DMA_BIDIRECTIONAL);
		if (importer->is_pinned) {
			dma_resv_lock(importer->dmabuf->resv, NULL);
			dma_buf_unpin(importer->attach);
			dma_resv_unlock(importer->dmabuf->resv);
		}
		dma_buf_detach(importer->dmabuf, importer->attach);
	}
	if (importer->dmabuf)
		dma_buf_put(importer->dmabuf);
	importer->umem = NULL;
	importer->attach = NULL;
	importer->sgt = NULL;
	importer->is_pinned = false;
	importer->dmabuf = NULL;
}

static int importer_umem(struct importer *importer, struct axl_importer_attach *arg)
{
	struct ib_device *ib_device;
	struct ib_umem_dmabuf *umem;

	arg->ib_device[sizeof(arg->ib_device) - 1] = '\0';
	ib_device = ib_device_get_by_name(arg->ib_device, RDMA_DRIVER_UNKNOWN);
	if (!ib_device)
		return -ENODEV;
	umem = ib_umem_dmabuf_get_pinned_with_dma_device(
		ib_device, &importer_device->dev, arg->offset_bytes, arg->size_bytes, arg->fd,
		IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_READ);
	if (IS_ERR(umem)) {
		ib_device_put(ib_device);
		return PTR_ERR(umem);
	}
	importer->ib_device = ib_device;
	importer->umem = umem;
	importer->sgt = &umem->umem.sgt_append.sgt; /* of umem->sgt, the range that was asked for */
	return 0;
}

static int importer_attach(struct importer *importer, const struct axl_importer_attach *arg)
{
	bool is_dynamic = arg->kind != AXL_IMPORTER_STATIC;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	int err;

	importer->dmabuf = dma_buf_get(arg->fd);
	if (IS_ERR(importer->dmabuf)) {
		err = PTR_ERR(importer->dmabuf);
		importer->dmabuf = NULL;
		return err;
	}
	attach = dma_buf_dynamic_attach(importer->dmabuf, &importer_device->dev,
					is_dynamic ? &importer_attach_ops : NULL, importer);
	if (IS_ERR(attach))
		return PTR_ERR(attach);
	importer->attach = attach;
	if (arg->kind == AXL_IMPORTER_PINNED) {
		dma_resv_lock(importer->dmabuf->resv, NULL);
		err = dma_buf_pin(attach);
		dma_resv_unlock(importer->dmabuf->resv);
		if (err)
			return err;
		importer->is_pinned = true;
	}
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	importer->sgt = sgt;
	return 0;
}

/* What is mapped, in bytes; 0 if a segment is not made of whole pages, as importers count on. */
static u64 importer_mapped_bytes(const struct importer *importer)
{
	struct scatterlist *sg;
	u64 bytes = 0;
	int i;

	for_each_sgtable_dma_sg(importer->sgt, sg, i)
	{
		if (!PAGE_ALIGNED(sg_dma_address(sg)) || !PAGE_ALIGNED(sg_dma_len(sg)))
			return 0;
		bytes += sg_dma_len(sg);
	}
	return bytes;
}

static long importer_ioctl_attach(struct importer *importer, void __user *to)
{
	struct axl_importer_attach arg;
	int err;

	if (copy_from_user(&arg, to, sizeof(arg)))
		return -EFAULT;
	if (importer->dmabuf || importer->umem)
		return -EBUSY;
	if (arg.kind > AXL_IMPORTER_UMEM || arg.pad)
		return -EINVAL;
	if (arg.kind == AXL_IMPORTER_UMEM)
		err = importer_umem(importer, &arg);
	else
		err = importer_attach(importer, &arg);
	if (err) {
		importer_release_all(importer);
		return err;
	}
	arg.size_bytes = importer_mapped_bytes(importer);
	arg.segments = importer->sgt->nents;
	return copy_to_user(to, &arg, sizeof(arg)) ? -EFAULT : 0;
}

/* Words of one page, from the first'th of the buffer on; the first that differs or -1. */
static int importer_page(u64 *word, u64 first, u64 seed, bool write)
{
	int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*word); i++) {
		u64 value = (seed + first + i) * 0x9e3779b97f4a7c15ull | 1;

		if (write)
			word[i] = value;
		else if (READ_ONCE(word[i]) != value)
			return i;
	}
	return -1;
}

static long importer_ioctl_pattern(struct importer *importer, void __user *to, bool write)
{
	struct axl_importer_pattern arg;
	struct scatterlist *sg;
	u64 at_bytes = 0, from;
	int i, wrong;

	if (copy_from_user(&arg, to, sizeof(arg)))
		return -EFAULT;
	if (!importer->sgt)
		return -EINVAL;
	arg.wrong_bytes_at = ~0ull;
	for_each_sgtable_dma_sg(importer->sgt, sg, i) for (from = 0; from < sg_dma_len(sg);
							   from += PAGE_SIZE, at_bytes += PAGE_SIZE)
	{
		phys_addr_t at = dma_to_phys(&importer_device->dev, sg_dma_address(sg) + from);
		void *word = kmap_local_pfn(PHYS_PFN(at));

		wrong = importer_page(word, at_bytes / sizeof(u64), arg.seed, write);
		kunmap_local(word);
		if (wrong >= 0 && arg.wrong_bytes_at == ~0ull)
			arg.wrong_bytes_at = at_bytes + wrong * sizeof(u64);
		cond_resched();
	}
	return copy_to_user(to, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static long importer_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct importer *importer = file->private_data;
	void __user *to = (void __user *)arg;
	long rc;

	mutex_lock(&importer->lock);
	switch (request) {
	case AXL_IMPORTER_ATTACH:
		rc = importer_ioctl_attach(importer, to);
		break;
	case AXL_IMPORTER_RELEASE:
		importer_release_all(importer);
		rc = 0;
		break;
	case AXL_IMPORTER_WRITE:
	case AXL_IMPORTER_CHECK:
		rc = importer_ioctl_pattern(importer, to, request == AXL_IMPORTER_WRITE);
		break;
	case AXL_IMPORTER_MOVES:
		rc = atomic_read(&importer->moves);
		break;
	default:
		rc = -ENOTTY;
	}
	mutex_unlock(&importer->lock);
	return rc;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *importer = kzalloc(sizeof(*importer), GFP_KERNEL);

	if (!importer)
		return -ENOMEM;
	mutex_init(&importer->lock);
	file->private_data = importer;
	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *importer = file->private_data;

	importer_release_all(importer);
	mutex_destroy(&importer->lock);
	kfree(importer);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
};

static struct miscdevice importer_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "axl_importer",
	.fops = &importer_fops,
};

static int __init importer_init(void)
{
	int err;

	importer_device = platform_device_register_simple("axl_importer", PLATFORM_DEVID_NONE, NULL,
							  0);
	if (IS_ERR(importer_device))
		return PTR_ERR(importer_device);
	err = dma_coerce_mask_and_coherent(&importer_device->dev, DMA_BIT_MASK(64));
	dma_set_max_seg_size(&importer_device->dev, SZ_2M);
	if (!err)
		err = misc_register(&importer_misc);
	if (err)
		platform_device_unregister(importer_device);
	return err;
}
module_init(importer_init);

static void __exit importer_exit(void)
{
	misc_deregister(&importer_misc);
	platform_device_unregister(importer_device);
}
module_exit(importer_exit);

MODULE_AUTHOR("The accel authors");
MODULE_DESCRIPTION("Importer of dma-bufs, for tests");
MODULE_LICENSE("Dual MIT/GPL");
MODULE_IMPORT_NS(DMA_BUF);
