// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * /sys/class/accel/accelN/...: one value a file, units in the names. ABI.txt defines each, and what
 * is written there is kept: monitoring reads it.
 */
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <linux/device.h>
#include <linux/stringify.h>
#include <linux/sysfs.h>

#include "axl_device.h"
#include "axl_drm.h"

/* kdev is the node's device; the core gave it the minor to hold. */
static struct axl_device *device_of(struct device *kdev)
{
	struct drm_minor *minor = dev_get_drvdata(kdev);

	return axl_device_of(minor->dev);
}

static struct axl_usage sys_of(struct device *kdev)
{
	struct axl_usage sys, import, user;

	axl_quota_get(&device_of(kdev)->quota, &sys, &import, &user);
	return sys;
}

static struct axl_usage import_of(struct device *kdev)
{
	struct axl_usage sys, import, user;

	axl_quota_get(&device_of(kdev)->quota, &sys, &import, &user);
	return import;
}

/* The file _name that shows _value, an expression of kdev. */
#define AXL_SYSFS(_name, _format, _value)                                                          \
	static ssize_t _name##_show(struct device *kdev, struct device_attribute *attr, char *buf) \
	{                                                                                          \
		return sysfs_emit(buf, _format "\n", _value);                                      \
	}                                                                                          \
	static DEVICE_ATTR_RO(_name)

AXL_SYSFS(provider, "%s", device_of(kdev)->ops->name);
AXL_SYSFS(api_version, "%s", __stringify(AXL_API_MAJOR) "." __stringify(AXL_API_MINOR));
AXL_SYSFS(state, "%s", drm_dev_is_unplugged(&device_of(kdev)->drm) ? "unplugged" : "running");
AXL_SYSFS(numa_node, "%d", device_of(kdev)->numa_node);
AXL_SYSFS(mem_max_bytes, "%llu", device_of(kdev)->quota.bytes_max);
AXL_SYSFS(mem_used_bytes, "%llu", sys_of(kdev).bytes);
AXL_SYSFS(user_max_bytes, "%llu", device_of(kdev)->quota.user_bytes_max);
AXL_SYSFS(bo_count, "%llu", sys_of(kdev).bos);
AXL_SYSFS(import_bytes, "%llu", import_of(kdev).bytes);
AXL_SYSFS(import_count, "%llu", import_of(kdev).bos);
AXL_SYSFS(client_count, "%d", atomic_read(&device_of(kdev)->drm.open_count));
AXL_SYSFS(dmabuf_exports_count, "%d", atomic_read(&device_of(kdev)->exports));

static struct attribute *axl_sysfs_attrs[] = {
	&dev_attr_provider.attr,
	&dev_attr_api_version.attr,
	&dev_attr_state.attr,
	&dev_attr_numa_node.attr,
	&dev_attr_mem_max_bytes.attr,
	&dev_attr_mem_used_bytes.attr,
	&dev_attr_user_max_bytes.attr,
	&dev_attr_bo_count.attr,
	&dev_attr_import_bytes.attr,
	&dev_attr_import_count.attr,
	&dev_attr_client_count.attr,
	&dev_attr_dmabuf_exports_count.attr,
	NULL,
};

static const struct attribute_group axl_sysfs_group = {
	.attrs = axl_sysfs_attrs,
};

const struct attribute_group *axl_sysfs_groups[] = {
	&axl_sysfs_group,
	NULL,
};
