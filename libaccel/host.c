// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The device "host": ordinary memory of this machine, as memfd.c makes it. */
#include "device.h"
#include "memory_room.h"

#include <stdio.h>
#include <string.h>

static int host_open(struct accel_device *dev, const char *name)
{
	snprintf(dev->name, sizeof(dev->name), "%s", name);
	return 0;
}

static void host_close(struct accel_device *dev)
{
	(void)dev;
}

static int host_info_get(struct accel_device *dev, struct accel_device_info *info)
{
	struct accel_huge_room huge;

	(void)dev;
	accel_huge_room_get("", &huge);
	info->huge_page_bytes = huge.total ? ACCEL_HUGE_PAGE_BYTES : 0;
	info->huge_pages_free = huge.free > UINT32_MAX ? UINT32_MAX : (uint32_t)huge.free;
	return 0;
}

static int host_region_create(struct accel_device *dev, uint64_t id, uint64_t bytes,
			      const struct accel_region_opts *opts, struct accel_region **region)
{
	(void)dev;
	return accel_region_create(NULL, id, bytes, opts, region);
}

const struct accel_device_ops accel_host_ops = {
	.open = host_open,
	.close = host_close,
	.info_get = host_info_get,
	.region_create = host_region_create,
};
