/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * dma-bufs as descriptors: what they are, and whose. A dma-buf cannot change its size, so that is
 * no way to a SIGBUS; but whether its exporter can take the pages away is the exporter's business.
 * accel.ko never does. So a peer's dma-buf is mapped only if accel.ko made it, which the kernel says
 * and no process can make it say otherwise.
 */
#ifndef ACCEL_DMABUF_H
#define ACCEL_DMABUF_H

#include <stdbool.h>
#include <stdint.h>

#define ACCEL_EXPORTER_BYTES 64

struct accel_object;
struct accel_region;

bool accel_dmabuf_is(int fd);
/* In bytes; 0: it does not say. */
uint64_t accel_dmabuf_bytes(int fd);
/*
 * The name of the kernel module that exported it. 0; -errno of the descriptor that this takes, such
 * as -EMFILE; -ENOENT there is no /proc, or it does not say.
 */
int accel_dmabuf_exporter_get(int fd, char name[ACCEL_EXPORTER_BYTES]);
/* 1 accel.ko's; 0 not; else as above. */
int accel_dmabuf_is_ours(int fd);

/*
 * Map a range of the caller's dma-buf, of which fd is already the region's own copy; the caller
 * closes it on failure. One that is not accel.ko's is for this process and its NICs alone: the region
 * has it as nic_fd.
 * -EINVAL, -EOVERFLOW; -EOPNOTSUPP its exporter lets no CPU map it; -ENOMEM.
 */
int accel_dmabuf_import(struct accel_object *obj, struct accel_region *region, int fd,
			uint64_t offset, uint64_t bytes);

#endif
