// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * The driver as DRM sees it: files, the table of ioctls, and those ioctls that are about the device
 * and the module. Those about buffers are in axl_bo.c.
 *
 * Every ioctl of a file, ours and the core's, comes through axl_ioctl_run(). It does not hold the
 * device against removal: an ioctl may sleep as long as a caller's page takes to come, and who
 * unplugs any device of DRM waits for all who hold one. The device's memory lives as long as the
 * file; what acts on the device itself enters it (drm_dev_enter) for that alone.
 */
#include <drm/drm_accel.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "axl_bo.h"
#include "axl_compat.h"
#include "axl_device.h"
#include "axl_drm.h"
#include "axl_drv.h"

#define AXL_QUERY_ELEM_BYTES_MAX 4096 /* beyond it, elem_bytes is a caller's mistake */

/* ---- The last error of a file ---------------------------------------------------------------- */

int axl_fail(struct drm_file *file, u32 ioctl_nr, int code, const char *fmt, ...)
{
	struct axl_file *priv = file->driver_priv;
	va_list args;

	va_start(args, fmt);
	mutex_lock(&priv->lock);
	WRITE_ONCE(priv->failures, priv->failures + 1);
	priv->code = code;
	priv->ioctl_nr = ioctl_nr;
	vscnprintf(priv->text, sizeof(priv->text), fmt, args);
	mutex_unlock(&priv->lock);
	va_end(args);
	return code;
}

/* Not through axl_fail(): to ask does not change the answer. */
static int last_error_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct axl_file *priv = file->driver_priv;
	struct drm_axl_last_error *args = data;
	char text[AXL_ERROR_TEXT_BYTES];
	u32 room = args->text_bytes, ioctl_nr, len;
	int code;

	if (args->pad)
		return -EINVAL;
	mutex_lock(&priv->lock);
	len = strscpy(text, priv->text, sizeof(text)) + 1;
	code = priv->code;
	ioctl_nr = priv->ioctl_nr;
	mutex_unlock(&priv->lock);

	if (room && room < len)
		text[room - 1] = '\0';
	if (copy_to_user(u64_to_user_ptr(args->text), text, min(room, len)))
		return -EFAULT;
	args->text_bytes = len;
	args->code = code;
	args->ioctl_nr = ioctl_nr;
	return 0;
}

/* ---- What there is --------------------------------------------------------------------------- */

static int get_param_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct axl_device *dev = axl_device_of(drm);
	struct drm_axl_get_param *args = data;

	if (args->pad)
		return axl_fail(file, DRM_AXL_GET_PARAM, -EINVAL, "pad is %u and must be 0",
				args->pad);
	switch (args->param) {
	case AXL_PARAM_API_MAJOR:
		args->value = AXL_API_MAJOR;
		return 0;
	case AXL_PARAM_API_MINOR:
		args->value = AXL_API_MINOR;
		return 0;
	case AXL_PARAM_FEATURES:
		args->value = AXL_FEATURE_DMABUF_EXPORT | AXL_FEATURE_DMABUF_IMPORT |
			      AXL_FEATURE_MMAP_REGISTRABLE;
		return 0;
	case AXL_PARAM_PROVIDER:
		args->value = dev->ops->id;
		return 0;
	case AXL_PARAM_PAGE_BYTES:
		args->value = PAGE_SIZE;
		return 0;
	case AXL_PARAM_BO_BYTES_MAX:
		args->value = axl_bo_bytes_max(dev);
		return 0;
	case AXL_PARAM_NUMA_NODE:
		args->value = dev->numa_node == NUMA_NO_NODE ? ~0ull : dev->numa_node;
		return 0;
	case AXL_PARAM_PLACEMENTS:
		args->value = BIT_ULL(AXL_PLACEMENT_SYS);
		return 0;
	case AXL_PARAM_MEM_BYTES_MAX:
		args->value = dev->quota.bytes_max;
		return 0;
	case AXL_PARAM_USER_BYTES_MAX:
		args->value = dev->quota.user_bytes_max;
		return 0;
	}
	return axl_fail(file, DRM_AXL_GET_PARAM, -ENOENT,
			"API %d.%d of this module has no parameter %u; load a newer one",
			AXL_API_MAJOR, AXL_API_MINOR, args->param);
}

static struct drm_axl_memory memory_of(u32 placement, u64 bytes_max, const struct axl_usage *used)
{
	return (struct drm_axl_memory){.placement = placement,
				       .bytes_max = bytes_max,
				       .bytes_used = used->bytes,
				       .bos = used->bos};
}

/* Fills all[], large enough for any answer. Return: how many; -ENOENT. */
static int query_memory(struct axl_device *dev, u32 what, struct drm_axl_memory *all)
{
	struct axl_quota *quota = &dev->quota;
	struct axl_usage sys, import, user;

	axl_quota_get(quota, &sys, &import, &user);
	switch (what) {
	case AXL_QUERY_MEMORY:
		all[0] = memory_of(AXL_PLACEMENT_SYS, quota->bytes_max, &sys);
		all[1] = memory_of(AXL_PLACEMENT_IMPORT, 0, &import);
		return 2;
	case AXL_QUERY_USER:
		all[0] = memory_of(AXL_PLACEMENT_SYS, quota->user_bytes_max, &user);
		return 1;
	}
	return -ENOENT;
}

/* One element, cut or zero-filled to what the caller takes for it. */
static bool element_put(void __user *to, const struct drm_axl_memory *from, u32 elem_bytes)
{
	size_t known = min_t(size_t, elem_bytes, sizeof(*from));

	return !copy_to_user(to, from, known) && !clear_user(to + known, elem_bytes - known);
}

static int query_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	const u32 nr = DRM_AXL_QUERY;
	struct drm_axl_query *args = data;
	struct drm_axl_memory all[2];
	u32 i, count;
	int ret;

	if (args->pad)
		return axl_fail(file, nr, -EINVAL, "pad is %u and must be 0", args->pad);
	if (!args->elem_bytes || args->elem_bytes % 8 ||
	    args->elem_bytes > AXL_QUERY_ELEM_BYTES_MAX)
		return axl_fail(file, nr, -EINVAL,
				"elem_bytes is %u: sizeof(struct), a multiple of 8, at most %d",
				args->elem_bytes, AXL_QUERY_ELEM_BYTES_MAX);
	ret = query_memory(axl_device_of(drm), args->what, all);
	if (ret < 0)
		return axl_fail(file, nr, ret,
				"API %d.%d of this module has no query %u; load a newer one",
				AXL_API_MAJOR, AXL_API_MINOR, args->what);
	count = ret;
	for (i = 0; i < min(count, args->count); i++)
		if (!element_put(u64_to_user_ptr(args->ptr + (u64)i * args->elem_bytes), &all[i],
				 args->elem_bytes))
			return axl_fail(file, nr, -EFAULT,
					"element %u of ptr is no memory that can be written", i);
	args->count = count;
	return 0;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static const struct drm_ioctl_desc axl_ioctls[] = {
	DRM_IOCTL_DEF_DRV(AXL_GET_PARAM, get_param_ioctl, 0),
	DRM_IOCTL_DEF_DRV(AXL_BO_CREATE, axl_bo_create_ioctl, 0),
	DRM_IOCTL_DEF_DRV(AXL_BO_INFO, axl_bo_info_ioctl, 0),
	DRM_IOCTL_DEF_DRV(AXL_BO_MMAP_OFFSET, axl_bo_mmap_offset_ioctl, 0),
	DRM_IOCTL_DEF_DRV(AXL_QUERY, query_ioctl, 0),
	DRM_IOCTL_DEF_DRV(AXL_LAST_ERROR, last_error_ioctl, 0),
};

/* DRM checks what it is given before it calls us; its refusals get a sentence too. */
static void fail_before_us(struct drm_file *file, u32 nr, int code)
{
	switch (code) {
	case -EFAULT:
		axl_fail(file, nr, code, "the ioctl's struct must be readable and writable");
		break;
	case -ENOMEM:
		axl_fail(file, nr, code, "the kernel has no memory for a copy of the argument");
		break;
	case -ENODEV:
		axl_fail(file, nr, code, "the device was removed meanwhile");
		break;
	default:
		axl_fail(file, nr, code, "DRM refused the call before this module saw it");
	}
}

/* Global names, which a file that was given no descriptor could guess. */
static bool is_flink(unsigned int cmd)
{
	return DRM_IOCTL_TYPE(cmd) == DRM_IOCTL_BASE &&
	       (DRM_IOCTL_NR(cmd) == DRM_IOCTL_NR(DRM_IOCTL_GEM_FLINK) ||
		DRM_IOCTL_NR(cmd) == DRM_IOCTL_NR(DRM_IOCTL_GEM_OPEN));
}

static long axl_ioctl_run(struct file *filp, unsigned int cmd, unsigned long arg,
			  long (*run)(struct file *filp, unsigned int cmd, unsigned long arg))
{
	struct drm_file *file = filp->private_data;
	struct axl_file *priv = file->driver_priv;
	u32 nr = DRM_IOCTL_NR(cmd) - DRM_COMMAND_BASE;
	bool is_ours = DRM_IOCTL_TYPE(cmd) == DRM_IOCTL_BASE &&
		       DRM_IOCTL_NR(cmd) >= DRM_COMMAND_BASE && DRM_IOCTL_NR(cmd) < DRM_COMMAND_END;
	u64 failures = READ_ONCE(priv->failures);
	long ret;

	if (is_flink(cmd))
		return -EOPNOTSUPP;
	if (drm_dev_is_unplugged(file->minor->dev))
		return -ENODEV;
	if (is_ours && nr >= ARRAY_SIZE(axl_ioctls))
		ret = axl_fail(file, nr, -ENOTTY,
			       "API %d.%d of this module has no ioctl 0x%02x; load a newer one",
			       AXL_API_MAJOR, AXL_API_MINOR, nr);
	else
		ret = run(filp, cmd, arg);
	if (ret < 0 && is_ours && nr != DRM_AXL_LAST_ERROR && READ_ONCE(priv->failures) == failures)
		fail_before_us(file, nr, ret);
	return ret;
}

static long axl_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	return axl_ioctl_run(filp, cmd, arg, drm_ioctl);
}

static long axl_compat_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	return axl_ioctl_run(filp, cmd, arg, drm_compat_ioctl);
}

static int axl_open(struct drm_device *drm, struct drm_file *file)
{
	struct axl_file *priv = kzalloc(sizeof(*priv), GFP_KERNEL_ACCOUNT);

	if (!priv)
		return -ENOMEM;
	mutex_init(&priv->lock);
	file->driver_priv = priv;
	return 0;
}

static void axl_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct axl_file *priv = file->driver_priv;

	mutex_destroy(&priv->lock);
	kfree(priv);
}

static const struct file_operations axl_fops = {
	.owner = THIS_MODULE,
	.open = accel_open,
	.release = drm_release,
	.unlocked_ioctl = axl_ioctl,
	.compat_ioctl = axl_compat_ioctl,
	.llseek = noop_llseek,
	.mmap = drm_gem_mmap,
	.get_unmapped_area = axl_bo_get_unmapped_area,
	.show_fdinfo = drm_show_fdinfo,
	.fop_flags = FOP_UNSIGNED_OFFSET,
};

const struct drm_driver axl_drm_driver = {
	.driver_features = DRIVER_COMPUTE_ACCEL | DRIVER_GEM,
	.open = axl_open,
	.postclose = axl_postclose,
	.prime_handle_to_fd = axl_dmabuf_handle_to_fd,
	.gem_prime_import = axl_import,
	.gem_prime_import_sg_table = axl_import_sg_table,
	.show_fdinfo = axl_fdinfo_show,
	.ioctls = axl_ioctls,
	.num_ioctls = ARRAY_SIZE(axl_ioctls),
	.fops = &axl_fops,
	.name = AXL_DRIVER_NAME,
	.desc = "accelerator memory that NICs can register and processes share",
	AXL_DRM_VERSION(AXL_API_MAJOR, AXL_API_MINOR),
};
