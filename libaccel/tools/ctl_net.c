// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accelctl net: the RDMA ports of this host, and which of them a group would take. */
#include "ctl.h"

#include <accel/accel_net.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PORTS_MAX 64
#define GIDS_MAX 256 /* of a port, shown */

/* 0: they cannot be had; why is said of the port. */
static uint32_t gids_get(const struct accel_net_port *port, struct accel_net_gid gids[GIDS_MAX])
{
	uint32_t count;

	gids->size = sizeof(*gids);
	if (accel_net_gids_get(NULL, port->device, port->port, gids, GIDS_MAX, &count))
		return 0;
	return count < GIDS_MAX ? count : GIDS_MAX;
}

json_t *ctl_port_json(const struct accel_net_port *port)
{
	json_t *json = json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:i, s:b, s:s}", "device",
				 port->device, "port", (int)port->port, "state", port->state,
				 "link", port->link, "rate_mbps", (json_int_t)port->rate_mbps,
				 "mtu_bytes", (json_int_t)port->mtu_bytes, "mtu_bytes_max",
				 (json_int_t)port->mtu_bytes_max, "numa_node", (int)port->numa_node,
				 "usable", (int)port->usable, "why", port->why);

	if (port->rail)
		json_object_set_new(json, "rail", json_integer(port->rail));
	if (port->lid)
		json_object_set_new(json, "lid", json_integer(port->lid));
	if (*port->firmware)
		json_object_set_new(json, "firmware", json_string(port->firmware));
	json_object_set_new(json, "gather_max", json_integer(port->gather_max));
	if (port->gid_index < 0)
		return json;
	json_object_set_new(json, "gid",
			    json_pack("{s:i, s:s, s:s, s:s}", "index", (int)port->gid_index, "type",
				      port->gid_type, "address", port->gid, "netdev",
				      port->netdev));
	return json;
}

static void port_print(const struct accel_net_port *port)
{
	char name[80], rate[CTL_TEXT_BYTES] = "-", node[CTL_TEXT_BYTES] = "-",
		       index[CTL_TEXT_BYTES] = "-";

	snprintf(name, sizeof(name), "%s:%u", port->device, port->port);
	if (port->rate_mbps)
		snprintf(rate, sizeof(rate), "%g Gb/s", port->rate_mbps / 1000.0);
	if (port->numa_node >= 0)
		snprintf(node, sizeof(node), "%d", port->numa_node);
	if (port->gid_index >= 0)
		snprintf(index, sizeof(index), "%d", port->gid_index);
	printf("%-12s %-8s %-10s %9s %5u %4s %3s %-10s %-25s %s\n", name, port->state, port->link,
	       rate, port->mtu_bytes, node, index, *port->gid_type ? port->gid_type : "-",
	       *port->gid ? port->gid : "-", port->netdev);
	if (port->rail)
		printf("    rail %u: %s\n", port->rail, port->why);
	else
		printf("    %s: %s\n", port->usable ? "not taken" : "not usable", port->why);
}

/* All that verbs.gid could name; the one that is used stands with the port. */
static void gids_print(const struct accel_net_port *port)
{
	static struct accel_net_gid gids[GIDS_MAX];
	uint32_t count = gids_get(port, gids);

	for (uint32_t i = 0; i < count && count > 1; i++)
		printf("    GID %-3d %-10s %-25s %s%s\n", gids[i].index, gids[i].type, gids[i].gid,
		       gids[i].netdev, gids[i].index == port->gid_index ? " (used)" : "");
}

static json_t *gids_json(const struct accel_net_port *port)
{
	static struct accel_net_gid gids[GIDS_MAX];
	uint32_t count = gids_get(port, gids);
	json_t *list = json_array();

	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:i, s:s, s:s, s:s, s:b}", "index",
						      (int)gids[i].index, "type", gids[i].type,
						      "address", gids[i].gid, "netdev",
						      gids[i].netdev, "here", (int)gids[i].here));
	return list;
}

static void list_json(const struct accel_net_port *ports, uint32_t count)
{
	json_t *list = json_array(), *port;

	for (uint32_t i = 0; i < count; i++) {
		port = ctl_port_json(&ports[i]);
		json_object_set_new(port, "gids", gids_json(&ports[i]));
		json_array_append_new(list, port);
	}
	ctl_json_print(json_pack("{s:s, s:s, s:o}", "schema", "accelctl-net/1", "version",
				 accel_version(), "ports", list),
		       false);
}

static int list(bool json)
{
	static struct accel_net_port ports[PORTS_MAX] = {{.size = sizeof(*ports)}};
	bool some_taken = false;
	uint32_t count;
	int rc = accel_net_ports_get(NULL, ports, PORTS_MAX, &count);

	if (rc) {
		ctl_refused();
		return rc == -EINVAL ? CTL_USAGE : CTL_MISSING;
	}
	if (count > PORTS_MAX)
		count = PORTS_MAX;
	for (uint32_t i = 0; i < count; i++)
		some_taken |= ports[i].rail > 0;
	if (json) {
		list_json(ports, count);
	} else {
		printf("%-12s %-8s %-10s %9s %5s %4s %3s %-10s %-25s %s\n", "PORT", "STATE", "LINK",
		       "RATE", "MTU", "NUMA", "GID", "TYPE", "ADDRESS", "INTERFACE");
		for (uint32_t i = 0; i < count; i++) {
			port_print(&ports[i]);
			gids_print(&ports[i]);
		}
	}
	if (some_taken)
		return CTL_PASS;
	fprintf(stderr, "accelctl: no RDMA port can be used: the reasons are above, and "
			"docs/rdma.md has more\n");
	return CTL_MISSING;
}

int ctl_net(const struct ctl_opts *opts)
{
	return opts->test ? ctl_net_test(opts) : list(opts->json);
}
