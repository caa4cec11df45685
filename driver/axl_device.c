// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * The life of one device, between its provider below and DRM above.
 *
 * The memory is DRM's: devm holds one reference until the parent is unbound, and each file and each
 * dma-buf holds one more. Those also hold the module, so what they call is there as long as they.
 */
#include <drm/drm_accel.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_managed.h>
#include <linux/device.h>

#include "axl_bo.h"
#include "axl_device.h"
#include "axl_drv.h"
#include "axl_trace.h"

/**
 * axl_device_add - make /dev/accel/accelN
 * @parent: bound, or being probed; its NUMA node and DMA mask are the device's
 * @ops:    the provider; its init is called before anybody can open the device
 * @out:    until axl_device_remove(), which must come before @parent is unbound
 * Return: 0; -ENOMEM; -ENOSPC when DRM has no minor number left; what @ops->init returned.
 */
int axl_device_add(struct device *parent, const struct axl_provider_ops *ops,
		   struct axl_device **out)
{
	struct axl_device *dev;
	int err;

	dev = devm_drm_dev_alloc(parent, &axl_drm_driver, struct axl_device, drm);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	dev->ops = ops;
	dev->numa_node = dev_to_node(parent);
	INIT_LIST_HEAD(&dev->bos);
	INIT_LIST_HEAD(&dev->imports);
	err = drmm_mutex_init(&dev->drm, &dev->bos_lock)
		      ?: drmm_mutex_init(&dev->drm, &dev->imports_lock);
	if (err)
		return err;
	err = axl_quota_init(&dev->quota, &dev->drm, axl_mem_bytes_max, axl_user_bytes_max);
	if (err)
		return err;
	err = ops->init(dev);
	if (err)
		return err;

	/* Set before the node is registered: its uevent then finds every attribute there. */
	dev->drm.accel->kdev->groups = axl_sysfs_groups;
	axl_debugfs_init(dev);
	err = drm_dev_register(&dev->drm, 0);
	if (err)
		goto err_fini_provider;
	trace_axl_device_add(dev);
	*out = dev;
	return 0;

err_fini_provider:
	if (ops->fini)
		ops->fini(dev);
	return err;
}

/**
 * axl_device_remove - take a device away from whoever uses it
 * @dev: from axl_device_add(); the caller's pointer is dead after the call
 *
 * Returns when no ioctl acts on the device any more and none can start, and when the device has let
 * go of the dma-bufs of others that it had attached. Files, mappings, dma-bufs and what others have
 * attached stay as they are, and so do their pages: ioctls answer -ENODEV from now on.
 */
void axl_device_remove(struct axl_device *dev)
{
	trace_axl_device_remove(dev);
	drm_dev_unplug(&dev->drm);
	axl_import_detach_all(dev);
	if (dev->ops->fini)
		dev->ops->fini(dev);
}
