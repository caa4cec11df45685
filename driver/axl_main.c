// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * The module: its parameters, checked once when it loads, and its providers. accel(4) documents
 * the parameters for operators.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "axl_device.h"

static unsigned int soft;
module_param(soft, uint, 0444);
MODULE_PARM_DESC(soft, "software devices to make at load (default 0)");

unsigned long long axl_mem_bytes_max;
module_param_named(mem_bytes_max, axl_mem_bytes_max, ullong, 0444);
MODULE_PARM_DESC(mem_bytes_max, "most bytes of all buffers of one device (default 0: half of RAM)");

unsigned long long axl_user_bytes_max;
module_param_named(user_bytes_max, axl_user_bytes_max, ullong, 0444);
MODULE_PARM_DESC(user_bytes_max,
		 "most bytes of one user's buffers on one device (default 0: mem_bytes_max)");

/* One bound and its default; @of says what @bytes_most is. */
static int axl_limit_check(const char *name, unsigned long long *bytes, u64 bytes_default,
			   u64 bytes_most, const char *of)
{
	if (!*bytes)
		*bytes = bytes_default;
	if (*bytes < PAGE_SIZE) {
		pr_err("%s=%llu is less than a page: use %lu or more, or 0 for the default\n", name,
		       *bytes, PAGE_SIZE);
		return -EINVAL;
	}
	if (*bytes > bytes_most) {
		pr_err("%s=%llu is more than %s: use %llu or less, or 0 for the default\n", name,
		       *bytes, of, bytes_most);
		return -EINVAL;
	}
	return 0;
}

static int __init axl_init(void)
{
	u64 ram_bytes = (u64)totalram_pages() << PAGE_SHIFT;
	int err;

	err = axl_limit_check("mem_bytes_max", &axl_mem_bytes_max, ram_bytes / 2, ram_bytes,
			      "this machine's RAM");
	if (!err)
		err = axl_limit_check("user_bytes_max", &axl_user_bytes_max, axl_mem_bytes_max,
				      axl_mem_bytes_max, "mem_bytes_max");
	if (err)
		return err;
	return axl_soft_init(soft);
}
module_init(axl_init);

static void __exit axl_exit(void)
{
	axl_soft_exit();
}
module_exit(axl_exit);

MODULE_AUTHOR("The accel authors");
MODULE_DESCRIPTION("Accelerator memory that NICs can register and processes share");
MODULE_LICENSE("GPL");
