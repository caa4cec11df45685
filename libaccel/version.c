// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The version string. build_info.h is made by the Makefile and changes with the commit, so nothing
 * else includes it.
 */
#include <accel/accel.h>

#include "build_info.h"

const char *accel_version(void)
{
	return ACCEL_BUILD_VERSION " (" ACCEL_BUILD_COMMIT ")";
}
