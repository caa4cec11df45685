/* SPDX-License-Identifier: GPL-2.0-only */
/* Copyright (c) 2026 The accel authors */
/*
 * The face towards DRM: the driver, its ioctls, and the sentence that a file keeps of its last
 * failed one.
 */
#ifndef AXL_DRV_H
#define AXL_DRV_H

#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <linux/mutex.h>
#include <linux/types.h>

#define AXL_ERROR_TEXT_BYTES 256 /* of a sentence with its final NUL; longer ones are cut */

/* drm_file.driver_priv, as long as the file is open. */
struct axl_file {
	struct mutex lock; /* of all below; innermost */
	u64 failures;	   /* how many there were */
	int code;	   /* of the last one: -errno, or 0 */
	u32 ioctl_nr;	   /* DRM_AXL_* */
	char text[AXL_ERROR_TEXT_BYTES];
};

extern const struct drm_driver axl_drm_driver;

/*
 * axl_fail - say why an ioctl fails
 * @code: -errno
 * @fmt:  a sentence, without a full stop, that names the cause and the cure
 * Return: @code.
 */
__printf(4, 5) int axl_fail(struct drm_file *file, u32 ioctl_nr, int code, const char *fmt, ...);

#endif
