// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What accelN says where there is no such device: names, and causes with their cures. What takes the
 * device is tested in a guest that has it, by tests/vm/ep_accel.c.
 */
#define _GNU_SOURCE
#include "device.h"
#include "dmabuf.h"
#include "libaccel/leaks.h"
#include "tap.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *text(void)
{
	static struct accel_error error;

	error.size = sizeof(error);
	return accel_error_get(NULL, &error) ? "" : error.text;
}

TEST(accel, names_that_are_none_are_enoent)
{
	static const char *const names[] = {"accel00",	  "accel01", "accelx",	"accel-1",
					    "accel99999", "accel ",  "accel0 ", "accell"};
	struct accel_device *dev = (struct accel_device *)1;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		CHECK_EQ(accel_device_open(names[i], &dev), -ENOENT);
		CHECK(strstr(text(), "there is: host, accelN"));
	}
	CHECK(dev == (struct accel_device *)1);
}

TEST(accel, without_a_node_names_the_cure)
{
	static const char *const names[] = {"accel255", "accel9999", "accel"};
	struct leaks before = leaks_count();
	struct accel_device *dev = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(names[i], "accel") && !access("/dev/accel", F_OK))
			continue;
		CHECK_EQ(accel_device_open(names[i], &dev), -ENOENT);
		CHECK(strstr(text(), "modprobe"));
		CHECK(strstr(text(), i == 2 ? "accel0" : names[i]));
	}
	CHECK_NO_LEAKS(before);
}

TEST(dmabuf, is_told_from_other_descriptors)
{
	int memfd = memfd_create("it", MFD_CLOEXEC), pipes[2];
	char name[ACCEL_EXPORTER_BYTES];

	REQUIRE(memfd >= 0 && !pipe(pipes));
	CHECK(!accel_dmabuf_is(memfd) && !accel_dmabuf_is(pipes[0]) && !accel_dmabuf_is(-1));
	CHECK_EQ(accel_dmabuf_is_ours(memfd), 0);
	CHECK_EQ(accel_dmabuf_exporter_get(memfd, name), -ENOENT);
	CHECK_EQ(accel_dmabuf_bytes(pipes[0]), 0);
	close(memfd);
	close(pipes[0]);
	close(pipes[1]);
}
