// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Buffers: a region with a name in its device's list, where dispatch looks up the address of a
 * caller's tensor.
 */
#include "device.h"
#include "dmabuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Make a buffer of a region, which it takes over. */
static int buffer_add(struct accel_device *dev, struct accel_region *region,
		      struct accel_buffer **out)
{
	struct accel_buffer *buf = calloc(1, sizeof(*buf));

	if (!buf) {
		accel_region_put(region);
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				  "no memory for a buffer's bookkeeping");
	}
	accel_object_init(&buf->obj, ACCEL_OBJECT_BUFFER);
	buf->dev = dev;
	buf->region = region;
	pthread_mutex_lock(&dev->lock);
	buf->next = dev->buffers;
	dev->buffers = buf;
	pthread_mutex_unlock(&dev->lock);
	*out = buf;
	return 0;
}

static int opts_check(const struct accel_buffer_opts *opts)
{
	for (size_t i = 0; i < sizeof(opts->reserved) / sizeof(*opts->reserved); i++)
		if (opts->reserved[i])
			return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
					  "accel_buffer_opts: reserved[%zu] is not 0", i);
	if (opts->huge > ACCEL_HUGE_NEED)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "accel_buffer_opts: huge is %u, not an enum accel_huge",
				  opts->huge);
	if (opts->numa_node_plus1 > INT32_MAX)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "accel_buffer_opts: numa_node_plus1 is %u",
				  opts->numa_node_plus1);
	return 0;
}

static int fail_argument(const char *call, const char *argument)
{
	return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "%s: %s", call, argument);
}

int accel_buffer_create(struct accel_device *dev, uint64_t size_bytes,
			const struct accel_buffer_opts *opts, struct accel_buffer **buf)
{
	struct accel_buffer_opts known;
	struct accel_region *region;
	int rc;

	if (!dev || !buf || !size_bytes)
		return fail_argument("accel_buffer_create", !dev   ? "dev is NULL"
							    : !buf ? "buf is NULL"
								   : "size_bytes is 0");
	rc = accel_struct_copy_in(NULL, "accel_buffer_opts", opts, &known, sizeof(known));
	if (!rc)
		rc = opts_check(&known);
	if (rc)
		return rc;
	rc = accel_device_region_create(
		dev, size_bytes,
		&(const struct accel_region_opts){.huge = known.huge,
						  .numa_node = (int32_t)known.numa_node_plus1 - 1,
						  .what = "buffer"},
		&region);
	return rc ? rc : buffer_add(dev, region, buf);
}

int accel_buffer_import_fd(struct accel_device *dev, int fd, uint64_t offset, uint64_t size_bytes,
			   struct accel_buffer **buf)
{
	struct accel_region *region;
	int rc;

	if (!dev || !buf || fd < 0 || !size_bytes)
		return fail_argument("accel_buffer_import_fd", !dev	? "dev is NULL"
							       : !buf	? "buf is NULL"
							       : fd < 0 ? "fd is negative"
									: "size_bytes is 0");
	rc = accel_region_import_fd(NULL, accel_device_region_id(dev), fd, offset, size_bytes,
				    &region);
	return rc ? rc : buffer_add(dev, region, buf);
}

int accel_buffer_import_ptr(struct accel_device *dev, void *ptr, uint64_t size_bytes,
			    struct accel_buffer **buf)
{
	struct accel_region *region;
	int rc;

	if (!dev || !buf || !ptr || !size_bytes)
		return fail_argument("accel_buffer_import_ptr", !dev   ? "dev is NULL"
								: !buf ? "buf is NULL"
								: !ptr ? "ptr is NULL"
								       : "size_bytes is 0");
	rc = accel_region_import_ptr(NULL, accel_device_region_id(dev), ptr, size_bytes, &region);
	return rc ? rc : buffer_add(dev, region, buf);
}

/*
 * A memfd is opened anew and not dup'ed: a read-only descriptor, also of a caller's that is not
 * sealed against writing. A dma-buf cannot be; those of accelN are for reading only from the start.
 */
static int reopen(int fd)
{
	char path[64];

	if (accel_dmabuf_is(fd))
		return fcntl(fd, F_DUPFD_CLOEXEC, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int accel_buffer_export_fd(struct accel_buffer *buf, int *fd, uint64_t *offset)
{
	int copy;

	if (!buf || !fd || !offset)
		return accel_fail(buf ? &buf->obj : NULL, -EINVAL, NULL,
				  "accel_buffer_export_fd: %s is NULL",
				  !buf	? "buf"
				  : !fd ? "fd"
					: "offset");
	if (buf->region->fd < 0)
		return accel_fail(
			&buf->obj, -EOPNOTSUPP, NULL,
			"a bare pointer, or a dma-buf that is not accel.ko's, has no descriptor to pass on; use "
			"accel_buffer_create() or accel_buffer_import_fd()");
	copy = reopen(buf->region->fd);
	if (copy < 0)
		return accel_fail(
			&buf->obj, errno == EMFILE || errno == ENFILE ? -EMFILE : -EOPNOTSUPP, NULL,
			"cannot open a descriptor for the buffer's export: %s", strerror(errno));
	*fd = copy;
	*offset = buf->region->fd_offset;
	return 0;
}

int accel_buffer_info_get(struct accel_buffer *buf, struct accel_buffer_info *info)
{
	struct accel_buffer_info known = {0};

	if (!buf)
		return accel_fail(NULL, -EINVAL, NULL, "accel_buffer_info_get: buf is NULL");
	known.addr = buf->region->addr;
	known.size_bytes = buf->region->bytes;
	known.page_bytes = buf->region->page_bytes;
	known.numa_node = buf->region->numa_node;
	known.shareable = buf->region->fd >= 0;
	return accel_struct_copy_out(&buf->obj, "accel_buffer_info", &known, sizeof(known), info);
}

void *accel_buffer_addr(struct accel_buffer *buf)
{
	return buf ? buf->region->addr : NULL;
}

static void buffer_remove(struct accel_buffer *buf)
{
	struct accel_device *dev = buf->dev;
	struct accel_buffer **at;

	pthread_mutex_lock(&dev->lock);
	for (at = &dev->buffers; *at && *at != buf; at = &(*at)->next)
		;
	if (*at)
		*at = buf->next;
	for (struct accel_region_watch *watch = dev->watches; watch; watch = watch->next)
		watch->gone(watch->arg, buf->region);
	pthread_mutex_unlock(&dev->lock);
}

void accel_buffer_destroy(struct accel_buffer *buf)
{
	if (!buf)
		return;
	if (!accel_object_is_inherited(&buf->obj))
		buffer_remove(buf);
	accel_region_put(buf->region);
	accel_object_fini(&buf->obj);
	free(buf);
}
