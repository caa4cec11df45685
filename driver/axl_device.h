/* SPDX-License-Identifier: GPL-2.0-only */
/* Copyright (c) 2026 The accel authors */
/*
 * One accelerator: a DRM device, the provider under it, what its buffers take.
 *
 * Life: axl_device_add() makes /dev/accel/accelN; axl_device_remove() unplugs it with everything
 * open. The struct lives until the last file, buffer and dma-buf of it is gone.
 */
#ifndef AXL_DEVICE_H
#define AXL_DEVICE_H

#include <drm/drm_device.h>
#include <linux/types.h>

#include "axl_quota.h"

struct axl_device;

/*
 * What lies under a device: the software device now, a PCI card later, which will add its queues'
 * calls here. Everything above this table is shared.
 */
struct axl_provider_ops {
	const char *name;
	u32 id; /* enum drm_axl_provider */
	int (*init)(struct axl_device *dev);
	void (*fini)(struct axl_device *dev); /* may sleep; after it nothing of dev is touched */
};

struct axl_device {
	struct drm_device drm;
	const struct axl_provider_ops *ops;
	struct axl_quota quota;
	int numa_node; /* of the hardware, or NUMA_NO_NODE */
};

static inline struct axl_device *axl_device_of(struct drm_device *drm)
{
	return container_of(drm, struct axl_device, drm);
}

int axl_device_add(struct device *parent, const struct axl_provider_ops *ops,
		   struct axl_device **dev);
void axl_device_remove(struct axl_device *dev);

#endif
