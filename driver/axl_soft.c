// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * The software device, for machines without an accelerator, and the bus it sits on:
 *
 *     echo "ID [NUMA_NODE]" >/sys/bus/axl_soft/new_device	makes accel_soft.ID
 *     echo "ID" >/sys/bus/axl_soft/del_device			takes it away, in use or not
 *
 * Both return when that is done. One lock orders everybody who adds and deletes; it is outside the
 * driver core's locks.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "axl_device.h"
#include "axl_drm.h"

#define AXL_SOFT_DEVICES_MAX 256 /* as many as DRM has minor numbers for accelerators */

struct axl_soft {
	struct device dev;
	struct device_dma_parameters dma_parms;
	struct axl_device *axl; /* while the driver is bound */
	int probe_err;
};

static DEFINE_MUTEX(soft_lock);
static struct axl_soft *soft_devices[AXL_SOFT_DEVICES_MAX]; /* soft_lock */
static bool soft_is_open;				    /* soft_lock */

/* Structs that exist, and one for the bus: the module's text must outlast their release. */
static refcount_t soft_alive;
static DECLARE_COMPLETION(soft_all_released);

static struct axl_soft *axl_soft_of(struct device *dev)
{
	return container_of(dev, struct axl_soft, dev);
}

static void axl_soft_alive_put(void)
{
	if (refcount_dec_and_test(&soft_alive))
		complete(&soft_all_released);
}

static void axl_soft_release(struct device *dev)
{
	kfree(axl_soft_of(dev));
	axl_soft_alive_put();
}

/* ---- The provider ---------------------------------------------------------------------------- */

/* It imports dma-bufs as a device that reaches all memory in segments of any length. */
static int axl_soft_provider_init(struct axl_device *axl)
{
	struct device *dev = axl->drm.dev;

	dev->dma_parms = &axl_soft_of(dev)->dma_parms;
	dma_set_max_seg_size(dev, UINT_MAX);
	return dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
}

static const struct axl_provider_ops axl_soft_ops = {
	.name = "soft",
	.id = AXL_PROVIDER_SOFT,
	.init = axl_soft_provider_init,
};

/* ---- Driver and bus -------------------------------------------------------------------------- */

static int axl_soft_probe(struct device *dev)
{
	struct axl_soft *soft = axl_soft_of(dev);

	soft->probe_err = axl_device_add(dev, &axl_soft_ops, &soft->axl);
	return soft->probe_err;
}

static void axl_soft_remove(struct device *dev)
{
	axl_device_remove(axl_soft_of(dev)->axl);
}

static ssize_t new_device_store(const struct bus_type *bus, const char *buf, size_t count);
static ssize_t del_device_store(const struct bus_type *bus, const char *buf, size_t count);
static BUS_ATTR_WO(new_device);
static BUS_ATTR_WO(del_device);

static struct attribute *axl_soft_bus_attrs[] = {
	&bus_attr_new_device.attr,
	&bus_attr_del_device.attr,
	NULL,
};
ATTRIBUTE_GROUPS(axl_soft_bus);

static const struct bus_type axl_soft_bus = {
	.name = "axl_soft",
	.bus_groups = axl_soft_bus_groups,
	.probe = axl_soft_probe,
	.remove = axl_soft_remove,
};

static struct device_driver axl_soft_driver = {
	.name = KBUILD_MODNAME,
	.bus = &axl_soft_bus,
	.owner = THIS_MODULE,
	.probe_type = PROBE_FORCE_SYNCHRONOUS, /* who writes new_device waits for the node */
};

/* ---- Devices that come and go ---------------------------------------------------------------- */

static int axl_soft_device_add(unsigned int id, int numa_node)
{
	struct axl_soft *soft;
	int err;

	lockdep_assert_held(&soft_lock);
	if (!soft_is_open)
		return -ENODEV;
	if (soft_devices[id])
		return -EEXIST;
	soft = kzalloc(sizeof(*soft), GFP_KERNEL);
	if (!soft)
		return -ENOMEM;
	refcount_inc(&soft_alive);
	device_initialize(&soft->dev);
	soft->dev.bus = &axl_soft_bus;
	soft->dev.release = axl_soft_release;
	set_dev_node(&soft->dev, numa_node);
	err = dev_set_name(&soft->dev, "accel_soft.%u", id);
	if (err)
		goto err_put_device;
	err = device_add(&soft->dev);
	if (err)
		goto err_put_device;
	err = soft->probe_err; /* device_add() itself says nothing of it */
	if (err)
		goto err_del_device;
	soft_devices[id] = soft;
	return 0;

err_del_device:
	device_del(&soft->dev);
err_put_device:
	put_device(&soft->dev);
	return err;
}

static int axl_soft_device_del(unsigned int id)
{
	lockdep_assert_held(&soft_lock);
	if (!soft_devices[id])
		return -ENOENT;
	device_unregister(&soft_devices[id]->dev);
	soft_devices[id] = NULL;
	return 0;
}

/* The numbers in buf: the id, then perhaps a NUMA node. Anything else is an error. */
static int axl_soft_parse(const char *buf, unsigned int *id, int *numa_node)
{
	int words, err;
	char **word = argv_split(GFP_KERNEL, buf, &words);

	if (!word)
		return -ENOMEM;
	err = -EINVAL;
	if (words == 1 || (words == 2 && numa_node))
		err = kstrtouint(word[0], 10, id);
	if (!err && words == 2)
		err = kstrtoint(word[1], 10, numa_node);
	argv_free(word);
	if (!err && *id >= AXL_SOFT_DEVICES_MAX)
		err = -EINVAL;
	return err;
}

static ssize_t new_device_store(const struct bus_type *bus, const char *buf, size_t count)
{
	int node = NUMA_NO_NODE, err;
	unsigned int id;

	err = axl_soft_parse(buf, &id, &node);
	if (err) {
		pr_err("new_device takes \"ID [NUMA_NODE]\", ID 0 to %d\n",
		       AXL_SOFT_DEVICES_MAX - 1);
		return err;
	}
	if (node != NUMA_NO_NODE &&
	    (node < 0 || node >= MAX_NUMNODES || !node_state(node, N_MEMORY))) {
		pr_err("new_device: NUMA node %d has no memory\n", node);
		return -ENOENT;
	}
	mutex_lock(&soft_lock);
	err = axl_soft_device_add(id, node);
	mutex_unlock(&soft_lock);
	return err ?: count;
}

static ssize_t del_device_store(const struct bus_type *bus, const char *buf, size_t count)
{
	unsigned int id;
	int err;

	err = axl_soft_parse(buf, &id, NULL);
	if (err) {
		pr_err("del_device takes \"ID\", 0 to %d\n", AXL_SOFT_DEVICES_MAX - 1);
		return err;
	}
	mutex_lock(&soft_lock);
	err = axl_soft_device_del(id);
	mutex_unlock(&soft_lock);
	return err ?: count;
}

/* ---- The module's calls ---------------------------------------------------------------------- */

/**
 * axl_soft_init - make the bus and the first devices on it
 * @devices: how many, from ID 0 on
 * Return: 0, though perhaps with fewer devices, which the log says; or -errno, and nothing is left.
 */
int axl_soft_init(unsigned int devices)
{
	unsigned int id;
	int err;

	if (devices > AXL_SOFT_DEVICES_MAX) {
		pr_err("soft=%u is more than %d devices\n", devices, AXL_SOFT_DEVICES_MAX);
		return -EINVAL;
	}
	err = bus_register(&axl_soft_bus);
	if (err)
		return err;
	err = driver_register(&axl_soft_driver);
	if (err) {
		bus_unregister(&axl_soft_bus);
		return err;
	}
	refcount_set(&soft_alive, 1);
	mutex_lock(&soft_lock);
	soft_is_open = true;
	for (id = 0; id < devices && !err; id++)
		err = axl_soft_device_add(id, NUMA_NO_NODE);
	mutex_unlock(&soft_lock);
	/* Whoever has one of the others open by now holds a module that has loaded. */
	if (err)
		pr_err("device %u of soft=%u cannot be made: error %d\n", id - 1, devices, err);
	return 0;
}

/** axl_soft_exit - remove every device, then the bus; nobody has anything open, else rmmod fails */
void axl_soft_exit(void)
{
	unsigned int id;

	mutex_lock(&soft_lock);
	soft_is_open = false; /* a writer of new_device may be waiting for the lock */
	for (id = 0; id < AXL_SOFT_DEVICES_MAX; id++)
		axl_soft_device_del(id);
	mutex_unlock(&soft_lock);
	driver_unregister(&axl_soft_driver);
	bus_unregister(&axl_soft_bus);
	axl_soft_alive_put();
	wait_for_completion(&soft_all_released);
}
