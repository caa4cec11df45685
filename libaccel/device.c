// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Devices: what all kinds have in common, lists of buffers and of groups. What they differ in is
 * host.c's and drm.c's. Buffers are buffer.c's.
 */
#include "device.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACCEL_NODE_DIGITS_MAX 4

/* accel, or accel and a number without leading zeros */
static bool is_accel(const char *name)
{
	const char *digits = name + strlen("accel");

	if (strncmp(name, "accel", strlen("accel")))
		return false;
	return strlen(digits) <= ACCEL_NODE_DIGITS_MAX &&
	       strspn(digits, "0123456789") == strlen(digits) && (digits[0] != '0' || !digits[1]);
}

static const struct accel_device_ops *ops_of(const char *name)
{
	if (!strcmp(name, "host"))
		return &accel_host_ops;
	return is_accel(name) ? &accel_drm_ops : NULL;
}

int accel_device_open(const char *name, struct accel_device **dev)
{
	const struct accel_device_ops *ops;
	struct accel_device *device;
	int rc;

	if (!name || !dev)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "accel_device_open: %s is NULL",
				  name ? "dev" : "name");
	ops = ops_of(name);
	if (!ops)
		return accel_fail(
			NULL, -ENOENT, ACCEL_AT_CREATE,
			"there is no device '%.64s'; there is: host, accelN (accel0), accel (the first accelN)",
			name);
	device = calloc(1, sizeof(*device));
	if (!device)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a device");
	accel_object_init(&device->obj, ACCEL_OBJECT_DEVICE);
	device->ops = ops;
	rc = device->ops->open(device, name);
	if (rc) {
		accel_object_fini(&device->obj);
		free(device);
		return rc;
	}
	device->kernels = k_ops_get(NULL);
	device->region_id_next = 1;
	pthread_mutex_init(&device->lock, NULL);
	*dev = device;
	return 0;
}

void accel_device_close(struct accel_device *dev)
{
	if (!dev)
		return;
	if (!accel_object_is_inherited(&dev->obj)) {
		if (dev->buffers ||
		    dev->watches) { /* they point here: leaking is the lesser harm */
			accel_log(ACCEL_LOG_ERROR,
				  "device %s is closed before its buffers and groups: not freed",
				  dev->name);
			return;
		}
		pthread_mutex_destroy(&dev->lock);
	}
	dev->ops->close(dev);
	accel_object_fini(&dev->obj);
	free(dev);
}

/* How many nodes a list such as "0-1,3" names. */
static uint32_t list_count(FILE *list)
{
	unsigned first, last;
	uint32_t count = 0;

	while (fscanf(list, "%u", &first) == 1) {
		last = first;
		if (fscanf(list, "-%u", &last) < 0)
			last = first;
		count += last >= first ? last - first + 1 : 0;
		if (fgetc(list) != ',')
			break;
	}
	return count;
}

static uint32_t numa_nodes_count(void)
{
	FILE *list = fopen("/sys/devices/system/node/online", "re");
	uint32_t count = 0;

	if (list) {
		count = list_count(list);
		fclose(list);
	}
	return count ? count : 1; /* a kernel without NUMA has no such file */
}

int accel_device_info_get(struct accel_device *dev, struct accel_device_info *info)
{
	struct accel_device_info known = {0};
	int rc;

	if (!dev)
		return accel_fail(NULL, -EINVAL, NULL, "accel_device_info_get: dev is NULL");
	snprintf(known.name, sizeof(known.name), "%s", dev->name);
	known.page_bytes = (uint32_t)accel_page_bytes();
	known.numa_nodes = numa_nodes_count();
	snprintf(known.kernels, sizeof(known.kernels), "%s", dev->kernels->name);
	rc = dev->ops->info_get(dev, &known);
	return rc ? rc
		  : accel_struct_copy_out(&dev->obj, "accel_device_info", &known, sizeof(known),
					  info);
}

uint64_t accel_device_region_id(struct accel_device *dev)
{
	uint64_t id;

	pthread_mutex_lock(&dev->lock);
	id = dev->region_id_next++;
	pthread_mutex_unlock(&dev->lock);
	return id;
}

int accel_device_region_create(struct accel_device *dev, uint64_t bytes,
			       const struct accel_region_opts *opts, struct accel_region **region)
{
	return dev->ops->region_create(dev, accel_device_region_id(dev), bytes, opts, region);
}

static bool region_holds(const struct accel_region *region, const void *addr, uint64_t bytes)
{
	uint64_t start = (uint64_t)((uintptr_t)addr -
				    (uintptr_t)region->addr); /* wraps when addr lies before */

	return bytes <= region->bytes && start <= region->bytes - bytes;
}

struct accel_region *accel_device_region_find(struct accel_device *dev, const void *addr,
					      uint64_t bytes, bool shareable)
{
	struct accel_region *found = NULL;

	pthread_mutex_lock(&dev->lock);
	for (struct accel_buffer *buf = dev->buffers; buf && !found; buf = buf->next)
		if (region_holds(buf->region, addr, bytes) && (buf->region->fd >= 0 || !shareable))
			found = accel_region_get(buf->region);
	pthread_mutex_unlock(&dev->lock);
	return found;
}

void accel_device_watch(struct accel_device *dev, struct accel_region_watch *watch)
{
	pthread_mutex_lock(&dev->lock);
	watch->next = dev->watches;
	dev->watches = watch;
	pthread_mutex_unlock(&dev->lock);
}

void accel_device_unwatch(struct accel_device *dev, struct accel_region_watch *watch)
{
	struct accel_region_watch **at;

	if (accel_object_is_inherited(&dev->obj))
		return;
	pthread_mutex_lock(&dev->lock);
	for (at = &dev->watches; *at && *at != watch; at = &(*at)->next)
		;
	if (*at)
		*at = watch->next;
	pthread_mutex_unlock(&dev->lock);
}
