/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The ioctls of axl_importer.ko on /dev/axl_importer: each open file is one importer of one
 * dma-buf, which it holds until RELEASE or the file is closed.
 */
#ifndef AXL_IMPORTER_H
#define AXL_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

enum axl_importer_kind {
	AXL_IMPORTER_STATIC,  /* as most drivers do: mapped once, never moved */
	AXL_IMPORTER_DYNAMIC, /* can be told that the buffer moves */
	AXL_IMPORTER_PINNED,  /* can be told, and pins it so that it does not */
	AXL_IMPORTER_UMEM,    /* by the RDMA core on behalf of an RDMA device */
};

/* Attaches and maps. */
struct axl_importer_attach {
	__s32 fd;
	__u32 kind;
	__u64 offset_bytes; /* UMEM: the range to register; else 0 */
	__u64 size_bytes;   /* UMEM: likewise; else (out) what is mapped */
	__u32 segments;	    /* (out) in the scatter list */
	__u32 pad;
	char ib_device[32]; /* UMEM */
};

/* Words that follow seed, as pattern_write() of tests/node.c has them, through the DMA addresses. */
struct axl_importer_pattern {
	__u64 seed;
	__u64 wrong_bytes_at; /* (out) of CHECK: the first place that differs, ~0 when none does */
};

#define AXL_IMPORTER_ATTACH _IOWR('I', 0, struct axl_importer_attach)
#define AXL_IMPORTER_RELEASE _IO('I', 1)
#define AXL_IMPORTER_WRITE _IOW('I', 2, struct axl_importer_pattern)
#define AXL_IMPORTER_CHECK _IOWR('I', 3, struct axl_importer_pattern)
#define AXL_IMPORTER_MOVES _IO('I', 4) /* how often a dynamic importer was told of a move */

#endif
