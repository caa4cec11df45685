/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * RDMA ports as libaccel sees them: which there are, which of them a group would take and why, and
 * which a group has taken. Nothing here is needed to use a group; it is for tools and logs, and
 * accelctl net prints it.
 */
#ifndef ACCEL_NET_H
#define ACCEL_NET_H

#include <accel/accel_ep.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** struct accel_net_port - an RDMA port, with the address (GID) that is used of it */
struct accel_net_port {
	size_t size;		/* of each struct in an array: set it in the first */
	char device[64];	/* "mlx5_0" */
	uint32_t port;		/* from 1 */
	uint32_t usable;	/* 1: a group can take it; else why says what is in the way */
	uint32_t rail;		/* from 1: taken, in this order; 0: not */
	uint32_t rate_mbps;	/* 0: unknown */
	uint32_t mtu_bytes;	/* of the port now: a packet's payload */
	uint32_t mtu_bytes_max; /* that the device can do */
	int32_t numa_node;	/* -1: unknown */
	int32_t gid_index;	/* -1: it has no GID */
	uint32_t lid;		/* of InfiniBand; else 0 */
	uint32_t gather_max;	/* rows that one work request collects */
	char state[16];		/* "active", "down", "init", "armed", "unknown" */
	char link[16];		/* "ethernet", "infiniband" */
	char gid[48];		/* "10.8.0.1", "fe80::1"; empty: none */
	char gid_type[16];	/* "RoCE v2", "RoCE v1", "InfiniBand" */
	char netdev[32];	/* the interface that has it, of Ethernet; may be empty */
	char firmware[64];	/* as the device says it; may be empty */
	char why[256];		/* taken, not taken, or not usable: the reason, a sentence */
};

/**
 * accel_net_ports_get - the RDMA ports of this host, and which of them a group would take
 * @opts:  those of verbs and ACCEL_OPTS count; NULL: defaults
 * @ports: [@room] written, in the order of choice; set size of the first
 * @room:  count
 * @count: how many there are; the first @room of them are written
 * The choice is that of the first rank of this host, on the CPUs that the caller may run on: see
 * docs/rdma.md in the source. Opens every device for a moment, as far as this process may.
 * Return: 0, also where none can be used; -EINVAL; -E2BIG; -ENOENT no libibverbs; -ENODEV this host
 * has no RDMA device, or the kernel no support for one; -ENOMEM.
 */
int accel_net_ports_get(const struct accel_group_opts *opts, struct accel_net_port *ports,
			uint32_t room, uint32_t *count);

/** struct accel_net_gid - one address of a port, by which a queue pair can speak */
struct accel_net_gid {
	size_t size;	 /* of each struct in an array: set it in the first */
	int32_t index;	 /* what verbs.gid names, as it does the address */
	uint32_t here;	 /* 1: an interface of this network namespace has the address */
	char gid[48];	 /* "10.8.0.1", "fe80::1" */
	char type[16];	 /* "RoCE v2", "RoCE v1", "InfiniBand" */
	char netdev[32]; /* the interface, of Ethernet; may be empty */
};

/**
 * accel_net_gids_get - all addresses of a port
 * @opts:   verbs_library and that of ACCEL_OPTS count; NULL: defaults
 * @device: "mlx5_0"
 * @port:   from 1
 * @gids:   [@room] written, in order of index; set size of the first
 * @count:  how many there are; the first @room of them are written
 * Return: 0; -EINVAL; -E2BIG; -ENOENT no libibverbs; -ENODEV there is no such port; -EIO it cannot be
 * opened or asked; -ENOMEM.
 */
int accel_net_gids_get(const struct accel_group_opts *opts, const char *device, uint32_t port,
		       struct accel_net_gid *gids, uint32_t room, uint32_t *count);

/**
 * accel_net_rails_get - the RDMA ports that a group uses
 * @rails: [@room] written, rail by rail; set size of the first
 * @count: how many there are: 0 where no context of the group has needed one yet
 * Return: 0; -EINVAL.
 */
int accel_net_rails_get(struct accel_group *group, struct accel_net_port *rails, uint32_t room,
			uint32_t *count);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
