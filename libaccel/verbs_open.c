// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The devices that a group uses: chosen (verbs_device.c), opened, and closed with what is registered. */
#include "verbs_reg.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QPS_DEFAULT 1
#define INLINE_BYTES_DEFAULT 256
#define DEPTH_DEFAULT 256
#define STRIPE_BYTES_DEFAULT (256u << 10)
#define ACK_TIMEOUT_DEFAULT 14 /* 67 ms; with the retries half a second before a peer is given up */
#define RETRIES_DEFAULT 7

void accel_verbs_opts_init(struct accel_verbs_opts *opts, const struct accel_group_opts *group)
{
	*opts = (struct accel_verbs_opts){
		.devices = group->verbs_devices,
		.gid = group->verbs_gid,
		.library = group->verbs_library,
		.rails = group->verbs_rails,
		.qps = group->verbs_qps,
		.traffic_class = group->verbs_traffic_class,
		.service_level = group->verbs_service_level,
		.mtu = group->verbs_mtu,
		.inline_bytes = group->verbs_inline_bytes,
		.depth = group->verbs_depth,
		.stripe_bytes = group->verbs_stripe_bytes,
		.ack_timeout = group->verbs_ack_timeout,
		.retries = group->verbs_retries,
	};
}

uint32_t accel_verbs_gather_max(const struct accel_verbs_port *port)
{
	int most = port->device_attr.max_sge;

	return most < 1 ? 1 : most < ACCEL_GATHER_MAX ? (uint32_t)most : ACCEL_GATHER_MAX;
}

static void defaults_set(struct accel_verbs_opts *opts)
{
	opts->qps = opts->qps ? opts->qps : QPS_DEFAULT;
	opts->inline_bytes = opts->inline_bytes ? opts->inline_bytes : INLINE_BYTES_DEFAULT;
	opts->depth = opts->depth ? opts->depth : DEPTH_DEFAULT;
	opts->stripe_bytes = opts->stripe_bytes ? opts->stripe_bytes : STRIPE_BYTES_DEFAULT;
	opts->ack_timeout = opts->ack_timeout ? opts->ack_timeout : ACK_TIMEOUT_DEFAULT;
	opts->retries = opts->retries ? opts->retries : RETRIES_DEFAULT;
}

/* The options' strings become this one's. */
static int opts_own(struct accel_verbs *verbs, const struct accel_verbs_opts *opts)
{
	const char **texts[] = {&verbs->opts.devices, &verbs->opts.gid, &verbs->opts.library};
	size_t bytes = 1;
	char *at;

	verbs->opts = *opts;
	defaults_set(&verbs->opts);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		bytes += *texts[i] ? strlen(*texts[i]) + 1 : 0;
	verbs->strings = at = malloc(bytes);
	if (!at)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for verbs options");
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		if (!*texts[i])
			continue;
		bytes = strlen(*texts[i]) + 1;
		*texts[i] = memcpy(at, *texts[i], bytes);
		at += bytes;
	}
	return 0;
}

static int fail_open(const struct accel_verbs_port *port, const char *call, int error)
{
	const char *cure = "see dmesg for what the driver says";

	if (error == EACCES || error == EPERM || error == ENOENT)
		cure = "this process needs to read and write /dev/infiniband/uverbs*";
	else if (error == ENOMEM)
		cure = "raise RLIMIT_MEMLOCK (ulimit -l unlimited), which old drivers count this "
		       "against, or the device has no room";
	else if (error == ENODEV)
		cure = "the device has just gone";
	return accel_fail(NULL, error == ENOMEM ? -ENOMEM : -EIO, ACCEL_AT_CREATE, "%s: %s: %s; %s",
			  port->device, call, strerror(error), cure);
}

static int rail_open(struct accel_verbs *verbs, struct accel_verbs_rail *rail,
		     const struct accel_verbs_port *port)
{
	const struct accel_verbs_api *api = verbs->api;
	struct ibv_device **list = api->get_device_list(NULL);

	rail->port = *port;
	rail->gather_max = accel_verbs_gather_max(port);
	errno = ENODEV;
	for (int i = 0; list && list[i] && !rail->context; i++)
		if (!strcmp(api->get_device_name(list[i]), port->device))
			rail->context = api->open_device(list[i]);
	if (!rail->context) {
		int rc = fail_open(port, "ibv_open_device", errno);

		if (list)
			api->free_device_list(list);
		return rc;
	}
	api->free_device_list(list);
	rail->pd = api->alloc_pd(rail->context);
	if (rail->pd)
		return 0;
	return fail_open(port, "ibv_alloc_pd", errno);
}

static void rail_log(int i, const struct accel_verbs_rail *rail)
{
	const struct accel_verbs_port *port = &rail->port;
	char gid[ACCEL_GID_TEXT_BYTES];

	accel_log(
		ACCEL_LOG_INFO,
		"verbs: rail %d is %s:%u, %g Gb/s, MTU %u, %s GID %d %s%s%s, %u entries a gather: "
		"%s",
		i, port->device, port->port, port->rate_mbps / 1000.0,
		128u << port->attr.active_mtu, accel_verbs_gid_type_text(port->gid_type),
		port->gid_index, accel_verbs_gid_text(&port->gid, gid),
		port->netdev[0] ? " on " : "", port->netdev, rail->gather_max, port->why);
}

/* Into verbs->rail, opened. */
static int rails_open(struct accel_verbs *verbs)
{
	struct accel_verbs_port *ports = calloc(ACCEL_VERBS_PORTS_MAX, sizeof(*ports));
	int taken[ACCEL_RAILS_MAX], count = 0, rails, rc;

	if (!ports)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				  "no memory to look for RDMA ports");
	rc = accel_verbs_ports(verbs->api, &verbs->opts, ports, &count);
	rails = rc ? rc : accel_verbs_choose(&verbs->opts, ports, count, taken);
	rc = rails < 0 ? rails : 0;
	for (int i = 0; i < rails && !rc; i++) {
		verbs->rail_count = i + 1;
		rc = rail_open(verbs, &verbs->rail[i], &ports[taken[i]]);
	}
	for (int i = 0; i < rails && !rc; i++)
		rail_log(i, &verbs->rail[i]);
	free(ports);
	return rc;
}

int accel_verbs_open(const struct accel_verbs_opts *opts, struct accel_verbs **verbs)
{
	struct accel_verbs *new = calloc(1, sizeof(*new));
	int rc;

	if (!new)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for RDMA devices");
	pthread_mutex_init(&new->lock, NULL);
	pthread_cond_init(&new->settled, NULL);
	new->pid = getpid();
	rc = opts_own(new, opts);
	if (!rc)
		rc = accel_verbs_api_get(new->opts.library, &new->api);
	if (!rc)
		rc = rails_open(new);
	if (rc) {
		accel_verbs_close(new);
		return rc;
	}
	*verbs = new;
	return 0;
}

/* Without a call into the library: a forked child's would undo its parent's. */
static void leave(struct accel_verbs *verbs)
{
	struct accel_verbs_mr *mr;

	while ((mr = verbs->mrs)) {
		verbs->mrs = mr->next;
		free(mr);
	}
}

void accel_verbs_close(struct accel_verbs *verbs)
{
	if (!verbs)
		return;
	if (verbs->pid == getpid()) {
		accel_verbs_forget(verbs, 0);
		assert(!verbs->mrs);
		for (int i = verbs->rail_count; i-- > 0;) {
			struct accel_verbs_rail *rail = &verbs->rail[i];

			if (rail->pd)
				verbs->api->dealloc_pd(rail->pd);
			if (rail->context)
				verbs->api->close_device(rail->context);
		}
	}
	leave(verbs);
	pthread_cond_destroy(&verbs->settled);
	pthread_mutex_destroy(&verbs->lock);
	free(verbs->strings);
	free(verbs);
}
