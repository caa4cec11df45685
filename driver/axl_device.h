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
#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>

#include "axl_quota.h"

struct axl_device;
struct drm_file;
struct drm_printer;

/*
 * What lies under a device: the software device now, a PCI card later, which will add its queues'
 * calls here. Everything above this table is shared.
 */
struct axl_provider_ops {
	const char *name;
	u32 id; /* enum drm_axl_provider */
	int (*init)(struct axl_device *dev);
	void (*fini)(struct axl_device *dev); /* or NULL; after it nothing of dev is touched */
};

struct axl_device {
	struct drm_device drm;
	const struct axl_provider_ops *ops;
	struct axl_quota quota;
	int numa_node; /* of the hardware, or NUMA_NO_NODE */

	struct mutex bos_lock; /* innermost: nothing is taken and nothing allocated under it */
	struct list_head bos;  /* struct axl_bo, link dev_link: each from its making to its end */
	atomic_t exports;      /* dma-bufs of this device's buffers that exist */

	struct mutex
		imports_lock;	  /* of what IMPORT buffers have attached; outside dma-bufs' resv */
	struct list_head imports; /* struct axl_bo, link import_link: those that are attached */
};

/* Module parameters, checked, with their defaults filled in: axl_main.c */
extern unsigned long long axl_mem_bytes_max;  /* of a device */
extern unsigned long long axl_user_bytes_max; /* of one user on a device */

static inline struct axl_device *axl_device_of(struct drm_device *drm)
{
	return container_of(drm, struct axl_device, drm);
}

int axl_device_add(struct device *parent, const struct axl_provider_ops *ops,
		   struct axl_device **dev);
void axl_device_remove(struct axl_device *dev);

/* Telemetry, each in a file of its name. */
extern const struct attribute_group *axl_sysfs_groups[];
void axl_debugfs_init(struct axl_device *dev);
void axl_fdinfo_show(struct drm_printer *printer, struct drm_file *file);

/* The bus of software devices. */
int axl_soft_init(unsigned int devices);
void axl_soft_exit(void);

#endif
