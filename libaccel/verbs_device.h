/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Which RDMA ports and GIDs there are, and which of them a rank takes without being told; and the
 * devices it has opened.
 */
#ifndef ACCEL_VERBS_DEVICE_H
#define ACCEL_VERBS_DEVICE_H

#include "object.h"
#include "verbs_gid.h"

#define ACCEL_RAILS_MAX 4
#define ACCEL_VERBS_PORTS_MAX 64 /* looked at */
#define ACCEL_VERBS_WHY_BYTES 256

/* What a rank was told by options; 0 or NULL: it finds out. Those of accel_group_opts. */
struct accel_verbs_opts {
	const char *devices, *gid, *library;
	uint32_t rails, qps, traffic_class, service_level, mtu, inline_bytes, depth, stripe_bytes,
		ack_timeout, retries;
	uint32_t host_rank, host_ranks; /* of this rank on its host: they spread over the ports */
};

struct accel_group_opts;
/* Those of a group; the rank's place on its host is the caller's to add. */
void accel_verbs_opts_init(struct accel_verbs_opts *opts, const struct accel_group_opts *group);

/* One port, with the GID that is used of it. */
struct accel_verbs_port {
	char device[64];
	uint8_t port;
	bool usable;
	struct ibv_port_attr attr;
	struct ibv_device_attr device_attr;
	int numa_node; /* -1: unknown */
	/* 0: that of cores of this process, 1: unknown, 2: another */
	int distance;
	int named;			       /* position in opts->devices; -1: not there */
	uint32_t rate_mbps;		       /* 0: unknown */
	char netdev[ACCEL_VERBS_NETDEV_BYTES]; /* of a RoCE GID; may be empty */
	int gid_index;			       /* -1: none that is usable */
	union ibv_gid gid;
	uint32_t gid_type;		 /* enum ibv_gid_type; IB for InfiniBand */
	char why[ACCEL_VERBS_WHY_BYTES]; /* taken, or not: the reason, for people */
};

/* "10.8.0.1" or "fe80::1": of a GID, as people write it. */
#define ACCEL_GID_TEXT_BYTES 48
const char *accel_verbs_gid_text(const union ibv_gid *gid, char text[ACCEL_GID_TEXT_BYTES]);

/*
 * All ports, each with its best GID (opts->gid, where it has that) and whether it can be used; best
 * first, which is the order of choice: those that opts->devices names, as named; else usable, the
 * NUMA node of this process's cores, the higher rate, name and number. *count of up to
 * ACCEL_VERBS_PORTS_MAX. 0, also with *count 0; decided: -EINVAL an option names what is not there
 * (the sentence lists what is), or is malformed; -ENOMEM.
 */
int accel_verbs_ports(const struct accel_verbs_api *api, const struct accel_verbs_opts *opts,
		      struct accel_verbs_port *ports, int *count);

/*
 * All GIDs of one port, up to ACCEL_VERBS_GIDS_MAX: their number; decided: -ENODEV there is no such port,
 * -EIO it cannot be opened or asked.
 */
int accel_verbs_port_gids(const struct accel_verbs_api *api, const char *device, uint32_t port,
			  struct accel_verbs_gid *gids);

/*
 * Of those, what this rank takes, first the one it uses for small messages: with opts->devices all
 * of them, else up to opts->rails (0: 1) usable ones, beginning at this rank's turn among the best of
 * its host. taken[i]: index into ports, whose why says how each fared. Returns the number, or decided:
 * -ENODEV nothing is usable, or one that is named is not (why, port by port).
 */
int accel_verbs_choose(const struct accel_verbs_opts *opts, struct accel_verbs_port *ports,
		       int count, int taken[ACCEL_RAILS_MAX]);

/* A device that is open, with what all contexts of a group share of it. */
struct accel_verbs_rail {
	struct accel_verbs_port port;
	struct ibv_context *context;
	struct ibv_pd *pd;
	uint32_t gather_max;	/* local entries a work request takes, 1..ACCEL_GATHER_MAX */
	_Atomic bool no_dmabuf; /* the device has refused one: mappings are registered instead */
	/* verbs_event.c: it has failed for good; and since when its port is down, 0: it is not */
	_Atomic bool fatal;
	_Atomic int64_t down_ns;
};

#define ACCEL_GATHER_MAX 30
uint32_t accel_verbs_gather_max(const struct accel_verbs_port *port);

/*
 * Open the ports that were taken. An accel_verbs begins with them and its registrations
 * (verbs_reg.h). Logs what was chosen and why, at info. Decided: as the two calls above, and -EIO a
 * device cannot be opened (the sentence has the cause and the cure: rights, RLIMIT_MEMLOCK), -ENOMEM.
 */
struct accel_verbs;
int accel_verbs_open(const struct accel_verbs_opts *opts, struct accel_verbs **verbs);
void accel_verbs_close(
	struct accel_verbs *verbs); /* NULL is fine; its registrations must be unused */

/*
 * Does this host have an RDMA device at all, or an option that names a library? Reads a directory of
 * sysfs and loads nothing.
 */
bool accel_verbs_is_there(const char *library);

#endif
