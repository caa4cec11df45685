// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The RDMA ports as accel_net.h shows them. */
#include <accel/accel_net.h>

#include "group.h"
#include "verbs_reg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *state_text(enum ibv_port_state state)
{
	switch (state) {
	case IBV_PORT_DOWN:
		return "down";
	case IBV_PORT_INIT:
		return "init";
	case IBV_PORT_ARMED:
		return "armed";
	case IBV_PORT_ACTIVE:
	case IBV_PORT_ACTIVE_DEFER:
		return "active";
	default:
		return "unknown";
	}
}

static uint32_t mtu_bytes(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

#define TEXT(to, ...) snprintf((to), sizeof(to), __VA_ARGS__)

static void port_show(const struct accel_verbs_port *port, uint32_t rail,
		      struct accel_net_port *show)
{
	char gid[ACCEL_GID_TEXT_BYTES];

	*show = (struct accel_net_port){
		.size = sizeof(*show),
		.port = port->port,
		.usable = port->usable,
		.rail = rail,
		.rate_mbps = port->rate_mbps,
		.mtu_bytes = mtu_bytes(port->attr.active_mtu),
		.mtu_bytes_max = mtu_bytes(port->attr.max_mtu),
		.numa_node = port->numa_node,
		.gid_index = port->gid_index,
		.lid = port->attr.lid,
		.gather_max = accel_verbs_gather_max(port),
	};
	TEXT(show->device, "%s", port->device);
	TEXT(show->state, "%s", state_text(port->attr.state));
	TEXT(show->link, "%s",
	     port->attr.link_layer == IBV_LINK_LAYER_ETHERNET ? "ethernet" : "infiniband");
	TEXT(show->netdev, "%s", port->netdev);
	TEXT(show->firmware, "%s", port->device_attr.fw_ver);
	TEXT(show->why, "%s", port->why);
	if (port->gid_index < 0)
		return;
	TEXT(show->gid, "%s", accel_verbs_gid_text(&port->gid, gid));
	TEXT(show->gid_type, "%s", accel_verbs_gid_type_text(port->gid_type));
}

/* An array of the caller's structs, whose size may be older or newer than ours. */
struct shown {
	struct accel_object *obj;
	const char *name; /* of the struct */
	uint8_t *at;
	size_t stride;
	uint32_t room, count;
};

/* array: of structs that begin with their size */
static int shown_init(struct shown *shown, const char *name, void *array, uint32_t room,
		      const uint32_t *count)
{
	shown->name = name;
	shown->at = array;
	shown->room = room;
	if (!count || (room && !array))
		return accel_fail(shown->obj, -EINVAL, NULL, "no place for each %s was passed",
				  name);
	if (room)
		memcpy(&shown->stride, array, sizeof(shown->stride));
	if (room && shown->stride < sizeof(shown->stride))
		return accel_fail(shown->obj, -EINVAL, NULL,
				  "%s: size is %zu; set it in the first of the array", name,
				  shown->stride);
	return 0;
}

static void shown_add(struct shown *shown, const void *show, size_t bytes)
{
	if (shown->count < shown->room) {
		memcpy(shown->at, &shown->stride, sizeof(shown->stride));
		accel_struct_copy_out(shown->obj, shown->name, show, bytes, shown->at);
		shown->at += shown->stride;
	}
	shown->count++;
}

static void port_add(struct shown *shown, const struct accel_verbs_port *port, uint32_t rail)
{
	struct accel_net_port show;

	port_show(port, rail, &show);
	shown_add(shown, &show, sizeof(show));
}

/* The caller's options and the environment's; strings: free it when done with them. */
static int opts_get(const struct accel_group_opts *opts, struct accel_verbs_opts *verbs,
		    char **strings)
{
	struct accel_group_opts known;
	int rc = accel_struct_copy_in(NULL, "struct accel_group_opts", opts, &known, sizeof(known));

	if (!rc)
		rc = accel_opts_from_env_group(&known, strings);
	if (!rc)
		accel_verbs_opts_init(verbs, &known);
	return rc;
}

/* Those there are into ports, with which would be taken in rail, from 1. */
static int look(const struct accel_verbs_opts *opts, struct accel_verbs_port *ports, uint32_t *rail,
		int *count)
{
	const struct accel_verbs_api *api;
	int taken[ACCEL_RAILS_MAX], rails, rc;

	rc = accel_verbs_api_get(opts->library, &api);
	if (!rc)
		rc = accel_verbs_ports(api, opts, ports, count);
	if (rc)
		return rc;
	rails = accel_verbs_choose(opts, ports, *count, taken);
	for (int i = 0; i < rails; i++)
		rail[taken[i]] = (uint32_t)i + 1;
	/* With ports that cannot be used there is something to show: each says why. */
	return rails < 0 && !*count ? rails : 0;
}

int accel_net_ports_get(const struct accel_group_opts *opts, struct accel_net_port *ports,
			uint32_t room, uint32_t *count)
{
	struct accel_verbs_port *found = NULL;
	uint32_t rail[ACCEL_VERBS_PORTS_MAX] = {0};
	struct accel_verbs_opts verbs;
	struct shown shown = {0};
	char *strings = NULL;
	int all = 0, rc;

	rc = shown_init(&shown, "struct accel_net_port", ports, room, count);
	if (!rc)
		rc = opts_get(opts, &verbs, &strings);
	if (rc)
		return rc;
	found = calloc(ACCEL_VERBS_PORTS_MAX, sizeof(*found));
	rc = found ? look(&verbs, found, rail, &all)
		   : accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to look for ports");
	for (int i = 0; i < all && !rc; i++)
		port_add(&shown, &found[i], rail[i]);
	free(found);
	free(strings);
	if (!rc)
		*count = shown.count;
	return rc;
}

static void gid_add(struct shown *shown, const struct accel_verbs_gid *gid)
{
	struct accel_net_gid show = {.size = sizeof(show), .index = gid->index, .here = gid->here};
	char text[ACCEL_GID_TEXT_BYTES];

	TEXT(show.gid, "%s", accel_verbs_gid_text(&gid->gid, text));
	TEXT(show.type, "%s", accel_verbs_gid_type_text(gid->type));
	TEXT(show.netdev, "%s", gid->netdev);
	shown_add(shown, &show, sizeof(show));
}

int accel_net_gids_get(const struct accel_group_opts *opts, const char *device, uint32_t port,
		       struct accel_net_gid *gids, uint32_t room, uint32_t *count)
{
	const struct accel_verbs_api *api;
	struct accel_verbs_opts verbs;
	struct accel_verbs_gid *found;
	struct shown shown = {0};
	char *strings = NULL;
	int rc = shown_init(&shown, "struct accel_net_gid", gids, room, count);

	if (!rc && !device)
		rc = accel_fail(NULL, -EINVAL, NULL, "no device was named");
	if (!rc)
		rc = opts_get(opts, &verbs, &strings);
	if (rc)
		return rc;
	found = malloc(ACCEL_VERBS_GIDS_MAX * sizeof(*found));
	rc = found ? accel_verbs_api_get(verbs.library, &api)
		   : accel_fail(NULL, -ENOMEM, NULL, "no memory to look for GIDs");
	if (!rc)
		rc = accel_verbs_port_gids(api, device, port, found);
	for (int i = 0; i < rc; i++)
		gid_add(&shown, &found[i]);
	free(found);
	free(strings);
	if (rc < 0)
		return rc;
	*count = shown.count;
	return 0;
}

int accel_net_rails_get(struct accel_group *group, struct accel_net_port *rails, uint32_t room,
			uint32_t *count)
{
	struct shown shown = {0};
	int rc;

	if (!group)
		return -EINVAL;
	shown.obj = &group->obj;
	rc = shown_init(&shown, "struct accel_net_port", rails, room, count);
	if (rc)
		return rc;
	pthread_mutex_lock(&group->dev->lock);
	for (int i = 0; group->verbs && i < group->verbs->rail_count; i++)
		port_add(&shown, &group->verbs->rail[i].port, (uint32_t)i + 1);
	pthread_mutex_unlock(&group->dev->lock);
	*count = shown.count;
	return 0;
}
