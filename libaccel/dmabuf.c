// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* dma-bufs: whose they are, and mapping those of a caller. */
#define _GNU_SOURCE
#include "dmabuf.h"
#include "object.h"
#include "region.h"

#include <axl_drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#ifndef DMA_BUF_MAGIC
#define DMA_BUF_MAGIC 0x444d4142
#endif

#define FDINFO_EXPORTER "exp_name:\t"

bool accel_dmabuf_is(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == DMA_BUF_MAGIC;
}

uint64_t accel_dmabuf_bytes(int fd)
{
	off_t end = lseek(fd, 0, SEEK_END); /* moves no position: a dma-buf has none */

	return end > 0 ? (uint64_t)end : 0;
}

/* The first such line: a name that a process gave to the dma-buf comes after it. */
int accel_dmabuf_exporter_get(int fd, char name[ACCEL_EXPORTER_BYTES])
{
	char path[64], line[128];
	int rc = -ENOENT;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	if (!info)
		return -errno;
	while (rc && fgets(line, sizeof(line), info)) {
		if (strncmp(line, FDINFO_EXPORTER, strlen(FDINFO_EXPORTER)))
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(name, ACCEL_EXPORTER_BYTES, "%.*s", ACCEL_EXPORTER_BYTES - 1,
			 line + strlen(FDINFO_EXPORTER));
		rc = 0;
	}
	fclose(info);
	return rc;
}

int accel_dmabuf_is_ours(int fd)
{
	char name[ACCEL_EXPORTER_BYTES];
	int rc;

	if (!accel_dmabuf_is(fd))
		return 0;
	rc = accel_dmabuf_exporter_get(fd, name);
	return rc ? rc : !strcmp(name, AXL_DRIVER_NAME);
}

static int fail_map(struct accel_object *obj, int error, int fd, uint64_t bytes)
{
	char name[ACCEL_EXPORTER_BYTES] = "?";

	if (error == ENOMEM)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE, "import of %llu bytes: mmap: %s",
				  (unsigned long long)bytes, strerror(error));
	accel_dmabuf_exporter_get(fd, name);
	return accel_fail(
		obj, -EOPNOTSUPP, ACCEL_AT_CREATE,
		"import: the dma-buf is of \"%s\", which lets no CPU map it (%s); copy it "
		"by a device that can reach it",
		name, strerror(error));
}

int accel_dmabuf_import(struct accel_object *obj, struct accel_region *region, int fd,
			uint64_t offset, uint64_t bytes)
{
	int access = fcntl(fd, F_GETFL) & O_ACCMODE, prot = PROT_READ, ours, rc;
	uint64_t dmabuf_bytes;

	ours = accel_dmabuf_is_ours(fd);
	if (ours < 0)
		return accel_fail(obj, ours == -ENOENT ? -EOPNOTSUPP : -ENOMEM, ACCEL_AT_CREATE,
				  "import: whose dma-buf it is cannot be read in /proc: %s",
				  strerror(-ours));
	if (access == O_WRONLY)
		return accel_fail(obj, -EINVAL, ACCEL_AT_CREATE,
				  "import: the dma-buf cannot be read");
	rc = accel_range_check(fd, offset, bytes, &dmabuf_bytes);
	if (rc)
		return accel_range_fail(obj, rc, offset, bytes, dmabuf_bytes);
	if (access == O_RDWR)
		prot |= PROT_WRITE;
	if (accel_range_map(region, fd, offset, bytes, prot))
		return fail_map(obj, errno, fd, bytes);
	region->numa_node = accel_node_of(region->addr);
	if (!ours) {
		region->nic_fd = fd;
		region->fd = -1;
	}
	return 0;
}
