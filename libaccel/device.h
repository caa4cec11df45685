/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The insides of devices and buffers: a device is the list of its buffers (to find the one an
 * address lies in) and of its groups (to tell their peers when a buffer goes). Lock order: device,
 * group, channel.
 */
#ifndef ACCEL_DEVICE_H
#define ACCEL_DEVICE_H

#include "object.h"
#include "region.h"

struct k_ops;

struct accel_buffer {
	struct accel_object obj;
	struct accel_device *dev;
	struct accel_region *region;
	struct accel_buffer *next;
};

/* A group that wants to know when a region of the device goes away. */
struct accel_region_watch {
	void (*gone)(void *arg,
		     struct accel_region *region); /* called with the device's lock held */
	void *arg;
	struct accel_region_watch *next;
};

/*
 * What kinds of devices differ in. Each returns 0, or -errno that was decided by accel_fail() with
 * the object it was given, open() and region_create() in a create with NULL.
 */
struct accel_device_ops {
	int (*open)(struct accel_device *dev, const char *name); /* sets dev->name */
	void (*close)(struct accel_device *dev);
	int (*info_get)(struct accel_device *dev, struct accel_device_info *info);
	/* As accel_region_create(), in memory of the device. */
	int (*region_create)(struct accel_device *dev, uint64_t id, uint64_t bytes,
			     const struct accel_region_opts *opts, struct accel_region **region);
};

extern const struct accel_device_ops accel_host_ops; /* host.c */
extern const struct accel_device_ops accel_drm_ops;  /* drm.c: accelN */

struct accel_drm;

struct accel_device {
	struct accel_object obj;
	const struct accel_device_ops *ops;
	char name[32];
	struct accel_drm *drm; /* of drm.c alone */
	const struct k_ops *kernels;
	pthread_mutex_t lock;	 /* guards what follows */
	uint64_t region_id_next; /* first 1 */
	struct accel_buffer *buffers;
	struct accel_region_watch *watches;
};

uint64_t accel_device_region_id(struct accel_device *dev); /* takes the lock */

/* A region of the device's memory, with an id of its own. Errors go to the thread's slot. */
int accel_device_region_create(struct accel_device *dev, uint64_t bytes,
			       const struct accel_region_opts *opts, struct accel_region **region);

/*
 * The region of a buffer that holds [addr, addr + bytes) whole, with a reference for the caller, or
 * NULL. shareable: one that peers can map, so no bare pointer (fd -1). Takes the lock.
 */
struct accel_region *accel_device_region_find(struct accel_device *dev, const void *addr,
					      uint64_t bytes, bool shareable);

void accel_device_watch(struct accel_device *dev, struct accel_region_watch *watch);
void accel_device_unwatch(struct accel_device *dev, struct accel_region_watch *watch);

#endif
