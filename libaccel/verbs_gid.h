/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The GIDs of a port: under which of them a queue pair speaks. On InfiniBand that is index 0, which
 * every port has. On Ethernet each address of the port's interfaces is one, once for RoCE v1, which
 * no router passes on, and once for RoCE v2, which is UDP.
 */
#ifndef ACCEL_VERBS_GID_H
#define ACCEL_VERBS_GID_H

#include "verbs_api.h"

#include <stdbool.h>

#define ACCEL_VERBS_GIDS_MAX 1024 /* of a port, looked at */
#define ACCEL_VERBS_NETDEV_BYTES 32

struct accel_verbs_gid {
	int index;
	union ibv_gid gid;
	uint32_t type; /* enum ibv_gid_type */
	bool here;     /* an interface of this network namespace has that address */
	char netdev[ACCEL_VERBS_NETDEV_BYTES]; /* may be empty */
};

/*
 * Those that a port has, in order of index: the number, up to ACCEL_VERBS_GIDS_MAX. device: of the
 * context, for sysfs where the library is too old to tell types.
 */
int accel_verbs_gids(const struct accel_verbs_api *api, const struct ibv_device *device,
		     struct ibv_context *context, uint8_t port, const struct ibv_port_attr *attr,
		     struct accel_verbs_gid *gids);

/*
 * The one to take, or NULL. On Ethernet RoCE v2 before v1; IPv4 before global IPv6, as it is what most
 * fabrics route, before link-local, which reaches no further than its own; the lowest index. What is
 * the address of another network namespace comes last, where that can be told.
 */
const struct accel_verbs_gid *accel_verbs_gid_best(const struct accel_verbs_gid *gids, int count,
						   bool is_ethernet);

/* What an option names: an index, or an address, of which RoCE v2 is taken if there is. */
struct accel_verbs_gid_name {
	bool is_index;
	int index;
	union ibv_gid gid;
};

bool accel_verbs_gid_parse(const char *text, struct accel_verbs_gid_name *name);
const struct accel_verbs_gid *accel_verbs_gid_find(const struct accel_verbs_gid *gids, int count,
						   const struct accel_verbs_gid_name *name);

bool accel_verbs_gid_is_ipv4(const union ibv_gid *gid); /* mapped into IPv6 */

/* "RoCE v2" and so on. */
const char *accel_verbs_gid_type_text(uint32_t type);

/*
 * The first line of a file of the device's in sysfs, below its directory, without the newline. False:
 * there is none, or it is empty.
 */
bool accel_verbs_sysfs(const struct ibv_device *device, char *line, size_t line_bytes,
		       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
