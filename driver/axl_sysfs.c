// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * /sys/class/accel/accelN/...: one value a file, units in the names. ABI.txt defines each, and what
 * is written there is kept: monitoring reads it.
 */
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <linux/device.h>
#include <linux/sysfs.h>

#include "axl_device.h"
#include "axl_drm.h"

/* kdev is the node's device; the core gave it the minor to hold. */
static struct axl_device *axl_sysfs_device(struct device *kdev)
{
	struct drm_minor *minor = dev_get_drvdata(kdev);

	return axl_device_of(minor->dev);
}

/* AXL_SYSFS(NAME, FORMAT, EXPRESSION of dev): a file NAME that shows it. */
#define AXL_SYSFS(_name, _format, _value)                                                          \
	static ssize_t _name##_show(struct device *kdev, struct device_attribute *attr, char *buf) \
	{                                                                                          \
		struct axl_device *dev = axl_sysfs_device(kdev);                                   \
                                                                                                   \
		return sysfs_emit(buf, _format "\n", _value);                                      \
	}                                                                                          \
	static DEVICE_ATTR_RO(_name)

/* The same of what buffers take: EXPRESSION of sys and import. */
#define AXL_SYSFS_USED(_name, _value)                                                              \
	static ssize_t _name##_show(struct device *kdev, struct device_attribute *attr, char *buf) \
	{                                                                                          \
		struct axl_usage sys, import, user;                                                \
                                                                                                   \
		axl_quota_get(&axl_sysfs_device(kdev)->quota, &sys, &import, &user);               \
		return sysfs_emit(buf, "%llu\n", _value);                                          \
	}                                                                                          \
	static DEVICE_ATTR_RO(_name)

AXL_SYSFS(provider, "%s", dev->ops->name);
AXL_SYSFS(state, "%s", drm_dev_is_unplugged(&dev->drm) ? "unplugged" : "running");
AXL_SYSFS(numa_node, "%d", dev->numa_node);
AXL_SYSFS(mem_max_bytes, "%llu", dev->quota.bytes_max);
AXL_SYSFS(user_max_bytes, "%llu", dev->quota.user_bytes_max);
AXL_SYSFS(client_count, "%d", atomic_read(&dev->drm.open_count));
AXL_SYSFS(dmabuf_exports_count, "%d", atomic_read(&dev->exports));
AXL_SYSFS_USED(mem_used_bytes, sys.bytes);
AXL_SYSFS_USED(bo_count, sys.bos);
AXL_SYSFS_USED(import_bytes, import.bytes);
AXL_SYSFS_USED(import_count, import.bos);

static ssize_t api_version_show(struct device *kdev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d.%d\n", AXL_API_MAJOR, AXL_API_MINOR);
}
static DEVICE_ATTR_RO(api_version);

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
