/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The rendezvous over TCP: one allgather of a small blob through rank 0, which listens on
 * MASTER_ADDR:MASTER_PORT for as long as that takes. The port may belong to another store
 * (torchrun's): a hello that is not answered in our words is given up and the next of
 * ACCEL_STORE_PORTS ports is tried, and rank 0 binds the first that is free.
 *
 * Ranks that let others join meet in the same way, but not with those that make a group of that name:
 * the lowest of them hosts the store, and absent ranks are not waited for.
 */
#ifndef ACCEL_STORE_H
#define ACCEL_STORE_H

#include "object.h"

#define ACCEL_STORE_PORTS 4
#define ACCEL_STORE_BLOB_BYTES_MAX 4096
#define ACCEL_STORE_NAME_BYTES 64 /* of a group's name, its NUL included */

struct accel_store_opts {
	const char *addr;
	uint16_t port;
	const char *name; /* of the group */
	int rank, world;
	int64_t timeout_ns; /* > 0 */
	bool joins;	    /* the meeting is one of ranks that join; the rest is for that alone */
	int host;	    /* who hosts the store; -1: one that joins does not know; else 0 */
	const uint64_t *absent; /* set of ranks, for the host: their blobs are zero; NULL: none */
};

/*
 * all[r * bytes] = rank r's mine, on every rank; zero: it is absent. *port: where the store was met. -ETIMEDOUT naming
 * the ranks that never came (every rank that did come is told); -EPROTO another world size, a rank
 * claimed twice, another blob size or version: names rank, field and both values; -EADDRINUSE;
 * -EINVAL an address that does not resolve; -ENOMEM no memory or descriptors. Errors are decided
 * with accel_fail(NULL, ...).
 */
int accel_store_allgather(const struct accel_store_opts *opts, const void *mine, size_t bytes,
			  void *all, int *port);

#endif
