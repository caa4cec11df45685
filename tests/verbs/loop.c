// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Devices, ports and GIDs as they are found and opened; and what a test controls (loop.h). */
#include "loop_inside.h"

#include <errno.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FIRST_QP = 0x100 };

struct loop_state loop;
_Atomic bool loop_armed;

static struct {
	char call[40];
	unsigned left;
	int error;
	bool failed;
} fault;

static const struct loop_config defaults = {
	.devices = 2,
	.ports = 1,
	.rate = 100,
	.mtu = 1024,
	.subnets = 1,
	.max_sge = 16,
	.max_wr = 4096,
	.granted_wr = UINT32_MAX,
	.max_cqe = 65536,
	.max_inline = 256,
	.delay_us = 100,
};

#define FIELDS (sizeof(struct loop_config) / sizeof(uint32_t))
static const char *const field_names[FIELDS] = {
	"devices", "ports",   "rate",	"mtu",	      "infiniband", "subnets",	  "grh",
	"dmabuf",  "max_sge", "max_wr", "granted_wr", "max_cqe",    "max_inline", "delay_us"};

struct loop_context *loop_context(struct ibv_context *ibv)
{
	return (struct loop_context *)ibv;
}

bool loop_fails(const char *call, int *error)
{
	if (!fault.left || strcmp(fault.call, call) || --fault.left)
		return false;
	fault.failed = true;
	atomic_store(&loop_armed, false);
	*error = fault.error;
	return true;
}

uint64_t loop_random(uint64_t bound)
{
	uint64_t z = loop.random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % bound;
}

int64_t loop_delay_ns(void)
{
	return loop_random(2) ? (int64_t)loop_random(loop.config.delay_us * UINT64_C(1000) + 1) : 0;
}

int loop_check(struct ibv_context *context, const char *call)
{
	int error;

	if (loop_fails(call, &error))
		return error;
	return loop_context(context)->dead ? EIO : 0;
}

int loop_check_last(struct ibv_context *context, const char *call, bool *keep)
{
	const int rc = loop_check(context, call);

	*keep = loop_context(context)->dead;
	return rc;
}

/* ---- Devices --------------------------------------------------------------------------------- */

static void devices_set(void)
{
	memset(loop.device, 0, sizeof(loop.device));
	for (unsigned d = 0; d < loop.config.devices; d++) {
		struct ibv_device *ibv = &loop.device[d].ibv;

		loop.device[d].index = d;
		ibv->node_type = IBV_NODE_CA;
		ibv->transport_type = IBV_TRANSPORT_IB;
		snprintf(ibv->name, sizeof(ibv->name), "loop%u", d);
		snprintf(ibv->dev_name, sizeof(ibv->dev_name), "uverbs_loop%u", d);
	}
}

/* "name=number,...", of LOOP. */
static void config_parse(struct loop_config *config, const char *text)
{
	uint32_t *const field = (void *)config;

	while (text && *text) {
		const char *next = strchr(text, ',');

		for (unsigned i = 0; i < FIELDS; i++) {
			const size_t len = strlen(field_names[i]);

			if (!strncmp(text, field_names[i], len) && text[len] == '=')
				field[i] = (uint32_t)strtoul(text + len + 1, NULL, 0);
		}
		text = next ? next + 1 : NULL;
	}
}

static void configure_locked(const struct loop_config *config)
{
	struct loop_config given = {0};
	uint32_t *const to = (void *)&loop.config;
	const uint32_t *const from = (const void *)&given;

	loop.config = defaults;
	if (config)
		given = *config;
	else
		config_parse(&given, getenv("LOOP"));
	for (unsigned i = 0; i < FIELDS; i++)
		to[i] = from[i] ? from[i] : to[i];
	if (loop.config.devices > LOOP_DEVICES_MAX)
		loop.config.devices = LOOP_DEVICES_MAX;
	if (loop.config.ports > LOOP_PORTS_MAX)
		loop.config.ports = LOOP_PORTS_MAX;
	if (loop.config.max_sge > LOOP_GATHER_MAX)
		loop.config.max_sge = LOOP_GATHER_MAX;
	loop.stats = (struct loop_stats){0};
	fault.left = 0;
	devices_set();
}

__attribute__((constructor)) static void begin(void)
{
	const char *seed = getenv("SEED");

	loop.random = seed ? strtoull(seed, NULL, 0) : 1;
	loop.next_qp_num = FIRST_QP;
	configure_locked(NULL);
}

LOOP_EXPORT struct ibv_device **ibv_get_device_list(int *count)
{
	struct ibv_device **list = NULL;
	int found = 0, error = 0;

	loop_enter();
	if (!loop_fails("ibv_get_device_list", &error))
		list = calloc(loop.config.devices + 1u, sizeof(*list));
	for (unsigned d = 0; list && d < loop.config.devices; d++)
		if (!loop.device[d].removed)
			list[found++] = &loop.device[d].ibv;
	loop_leave();
	if (!list)
		errno = error ? error : ENOMEM;
	if (list && count)
		*count = found;
	return list;
}

LOOP_EXPORT void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

LOOP_EXPORT const char *ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

LOOP_EXPORT struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	struct loop_device *dev = (void *)device;
	struct loop_context *c = NULL;
	int rc = 0;

	loop_enter();
	if (!loop_fails("ibv_open_device", &rc))
		rc = dev->removed ? ENODEV : 0;
	if (!rc && !(c = calloc(1, sizeof(*c))))
		rc = ENOMEM;
	if (!rc && (c->ibv.async_fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)) < 0)
		rc = errno;
	if (!rc && !loop.live.contexts && (rc = loop_engine_start()))
		close(c->ibv.async_fd);
	if (!rc) {
		c->dev = dev;
		c->ibv.device = device;
		c->ibv.cmd_fd = -1;
		c->ibv.num_comp_vectors = 1;
		c->ibv.ops.post_send = loop_post_send;
		c->ibv.ops.post_recv = loop_post_recv;
		c->ibv.ops.poll_cq = loop_poll_cq;
		c->ibv.ops.req_notify_cq = loop_req_notify_cq;
		c->next = loop.contexts;
		loop.contexts = c;
		loop.live.contexts++;
	} else {
		free(c);
		c = NULL;
	}
	loop_leave();
	errno = rc;
	return c ? &c->ibv : NULL;
}

LOOP_EXPORT int ibv_close_device(struct ibv_context *context)
{
	struct loop_context *c = loop_context(context), **at = &loop.contexts;
	int rc = 0;

	loop_enter();
	loop_fails("ibv_close_device", &rc);
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (c->dead) {
		loop_queues_clear(c);
		loop_events_clear(c);
		loop_memory_clear(c);
	}
	close(context->async_fd);
	free(c);
	if (!--loop.live.contexts)
		loop_engine_stop();
	loop_leave();
	return rc;
}

LOOP_EXPORT int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	const struct loop_config *config = &loop.config;
	int rc;

	loop_enter();
	rc = loop_check(context, "ibv_query_device");
	if (!rc)
		*attr = (struct ibv_device_attr){
			.fw_ver = "loop",
			.node_guid = loop_context(context)->dev->index + 1,
			.max_mr_size = UINT64_MAX,
			.page_size_cap = ~UINT64_C(4095),
			.max_qp = 1 << 16,
			.max_qp_wr = (int)config->max_wr,
			.max_sge = (int)config->max_sge,
			.max_sge_rd = (int)config->max_sge,
			.max_cq = 1 << 16,
			.max_cqe = (int)config->max_cqe,
			.max_mr = 1 << 16,
			.max_pd = 1 << 16,
			.max_qp_rd_atom = 16,
			.max_qp_init_rd_atom = 16,
			.max_pkeys = 1,
			.local_ca_ack_delay = 15,
			.phys_port_cnt = (uint8_t)config->ports,
		};
	loop_leave();
	return rc;
}

/* The width (1X: 1, 4X: 2) and speed of a rate, as a port reports them. */
static void rate_set(struct ibv_port_attr *attr, uint32_t rate)
{
	static const struct {
		uint32_t rate;
		uint8_t width, speed;
	} rates[] = {{10, 2, 1},   {25, 1, 32},	 {40, 2, 4},   {50, 1, 64},
		     {100, 2, 32}, {200, 2, 64}, {400, 2, 128}};

	for (unsigned i = 0; i < sizeof(rates) / sizeof(*rates); i++)
		if (rates[i].rate == rate) {
			attr->active_width = rates[i].width;
			attr->active_speed = rates[i].speed;
		}
}

static enum ibv_mtu mtu_code(uint32_t bytes)
{
	enum ibv_mtu mtu = IBV_MTU_256;

	while (mtu < IBV_MTU_4096 && 256u << (mtu - IBV_MTU_256) < bytes)
		mtu++;
	return mtu;
}

LOOP_EXPORT int ibv_query_port(struct ibv_context *context, uint8_t port,
			       struct _compat_ibv_port_attr *to)
{
	const struct loop_device *dev = loop_context(context)->dev;
	int rc;

	loop_enter();
	rc = loop_check(context, "ibv_query_port");
	if (!rc && (!port || port > loop.config.ports))
		rc = EINVAL;
	if (!rc) {
		struct ibv_port_attr attr = {
			.state = IBV_PORT_ACTIVE,
			.max_mtu = IBV_MTU_4096,
			.active_mtu = mtu_code(loop.config.mtu),
			.gid_tbl_len = loop.config.infiniband ? 1
							      : LOOP_GIDS + 1, /* one is empty */
			.max_msg_sz = 1u << 30,
			.pkey_tbl_len = 1,
			.phys_state = 5, /* LinkUp */
			.link_layer = IBV_LINK_LAYER_ETHERNET,
		};

		if (dev->port[port - 1].down) {
			attr.state = IBV_PORT_DOWN;
			attr.phys_state = 3; /* Disabled */
		}
		if (loop.config.infiniband) {
			attr.link_layer = IBV_LINK_LAYER_INFINIBAND;
			attr.lid = (uint16_t)(dev->index * LOOP_PORTS_MAX + port);
			attr.flags = loop.config.grh ? IBV_QPF_GRH_REQUIRED : 0;
		}
		rate_set(&attr, loop.config.rate);
		/* As old as the symbol: what was appended to the struct since is not written. */
		memcpy(to, &attr, offsetof(struct ibv_port_attr, port_cap_flags2));
	}
	loop_leave();
	return rc;
}

/*
 * InfiniBand: one. RoCE: for the link-local address and then for 10.77.DEVICE.PORT, versions 1
 * and 2, as the kernel lists them.
 */
int loop_gid(const struct loop_device *dev, unsigned port, int index, struct ibv_gid_entry *entry)
{
	const uint8_t d = (uint8_t)dev->index, p = (uint8_t)port;
	const uint8_t subnet = loop.config.infiniband ? (uint8_t)(d % loop.config.subnets) : 0;
	const uint8_t local[16] = {0xfe, 0x80, 0, 0, 0, 0, 0, subnet, 2, 0, 0, 0xff, 0xfe, 0, d, p};
	const uint8_t routed[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, d, p};

	if (!port || port > loop.config.ports || index < 0 ||
	    index >= (loop.config.infiniband ? 1 : LOOP_GIDS))
		return ENODATA;
	*entry = (struct ibv_gid_entry){
		.gid_index = (uint32_t)index,
		.port_num = port,
		.gid_type = loop.config.infiniband ? IBV_GID_TYPE_IB
			    : index % 2		   ? IBV_GID_TYPE_ROCE_V2
						   : IBV_GID_TYPE_ROCE_V1,
		.ndev_ifindex = loop.config.infiniband ? 0 : if_nametoindex("lo"),
	};
	memcpy(entry->gid.raw, index < 2 ? local : routed, sizeof(local));
	return 0;
}

LOOP_EXPORT int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index,
				  struct ibv_gid_entry *entry, uint32_t flags, size_t entry_bytes)
{
	struct ibv_gid_entry found;
	int rc;

	loop_enter();
	rc = loop_check(context, "ibv_query_gid_ex");
	if (!rc && (flags || entry_bytes < sizeof(found)))
		rc = EINVAL;
	if (!rc)
		rc = loop_gid(loop_context(context)->dev, port, (int)index, &found);
	if (!rc)
		*entry = found;
	loop_leave();
	return rc;
}

/* Of an entry that is empty: 0 and a GID of zeroes, as sysfs has it. */
LOOP_EXPORT int ibv_query_gid(struct ibv_context *context, uint8_t port, int index,
			      union ibv_gid *gid)
{
	struct ibv_gid_entry found = {0};
	int rc;

	loop_enter();
	rc = loop_check(context, "ibv_query_gid");
	if (!rc) {
		loop_gid(loop_context(context)->dev, port, index, &found);
		*gid = found.gid;
	}
	loop_leave();
	errno = rc ? rc : errno;
	return rc ? -1 : 0;
}

/* ---- What is said of numbers ----------------------------------------------------------------- */

LOOP_EXPORT const char *ibv_wc_status_str(enum ibv_wc_status status)
{
	static const char *const texts[] = {
		[IBV_WC_SUCCESS] = "success",
		[IBV_WC_LOC_LEN_ERR] = "local length error",
		[IBV_WC_LOC_QP_OP_ERR] = "local QP operation error",
		[IBV_WC_LOC_PROT_ERR] = "local protection error",
		[IBV_WC_WR_FLUSH_ERR] = "Work Request Flushed Error",
		[IBV_WC_REM_INV_REQ_ERR] = "remote invalid request error",
		[IBV_WC_REM_ACCESS_ERR] = "remote access error",
		[IBV_WC_REM_OP_ERR] = "remote operation error",
		[IBV_WC_RETRY_EXC_ERR] = "transport retry counter exceeded",
		[IBV_WC_RNR_RETRY_EXC_ERR] = "RNR retry counter exceeded",
		[IBV_WC_FATAL_ERR] = "fatal error",
		[IBV_WC_GENERAL_ERR] = "general error",
	};

	return status < sizeof(texts) / sizeof(*texts) && texts[status] ? texts[status] : "unknown";
}

LOOP_EXPORT const char *ibv_event_type_str(enum ibv_event_type event)
{
	switch (event) {
	case IBV_EVENT_CQ_ERR:
		return "CQ error";
	case IBV_EVENT_QP_ACCESS_ERR:
		return "local access violation work queue error";
	case IBV_EVENT_COMM_EST:
		return "communication established";
	case IBV_EVENT_DEVICE_FATAL:
		return "local catastrophic error";
	case IBV_EVENT_PORT_ACTIVE:
		return "port active";
	case IBV_EVENT_PORT_ERR:
		return "port error";
	default:
		return "unknown";
	}
}

LOOP_EXPORT const char *ibv_port_state_str(enum ibv_port_state state)
{
	return state == IBV_PORT_ACTIVE ? "PORT_ACTIVE"
	       : state == IBV_PORT_DOWN ? "PORT_DOWN"
					: "invalid state";
}

/* ---- What a test controls -------------------------------------------------------------------- */

static void configure(const struct loop_config *config)
{
	loop_enter();
	if (loop.live.contexts) {
		fprintf(stderr, "loop: configured while a device is open\n");
		abort();
	}
	configure_locked(config);
	loop_leave();
}

static void seed_set(uint64_t seed)
{
	loop_enter();
	loop.random = seed;
	loop_leave();
}

static struct loop_live live(void)
{
	struct loop_live now;

	loop_enter();
	now = loop.live;
	loop_leave();
	return now;
}

static struct loop_stats stats(void)
{
	struct loop_stats now;

	loop_enter();
	now = loop.stats;
	loop_leave();
	return now;
}

static void fail_call(const char *call, unsigned nth, int error)
{
	loop_enter();
	fault.left = call ? nth : 0;
	fault.error = error;
	fault.failed = false;
	snprintf(fault.call, sizeof(fault.call), "%s", call ? call : "");
	atomic_store(&loop_armed, fault.left > 0);
	loop_leave();
}

static bool call_failed(void)
{
	bool failed;

	loop_enter();
	failed = fault.failed;
	loop_leave();
	return failed;
}

static void fail_request(unsigned device, unsigned nth, enum ibv_wc_status status)
{
	loop_enter();
	loop.device[device].fail_nth = nth;
	loop.device[device].fail_status = status;
	loop_leave();
}

static void lie(unsigned device, unsigned nth, uint32_t imm_bits, unsigned at, uint8_t bits)
{
	struct loop_device *dev = &loop.device[device];

	loop_enter();
	dev->lie_nth = nth;
	dev->lie_imm = htobe32(imm_bits);
	dev->lie_at = at;
	dev->lie_bits = bits;
	loop_leave();
}

static void drop(unsigned from, unsigned to, bool on)
{
	loop_enter();
	loop.device[from].lost[to] = on;
	loop_changed();
	loop_leave();
}

static void hold(unsigned device, enum loop_hold what, bool on)
{
	loop_enter();
	loop.device[device].held[what] = on;
	loop_changed();
	loop_leave();
}

static void port_set(unsigned device, unsigned port, bool up)
{
	struct loop_device *dev = &loop.device[device];

	loop_enter();
	if (dev->port[port - 1].down == up)
		for (struct loop_context *c = loop.contexts; c; c = c->next)
			if (c->dev == dev && !c->dead)
				loop_async(&c->ibv, up ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR,
					   NULL, (int)port);
	dev->port[port - 1].down = !up;
	loop_changed();
	loop_leave();
}

static void remove_set(unsigned device, bool on)
{
	struct loop_device *dev = &loop.device[device];

	loop_enter();
	dev->removed = on;
	for (struct loop_context *c = loop.contexts; c && on; c = c->next)
		if (c->dev == dev)
			loop_context_die(c);
	loop_changed();
	loop_leave();
}

LOOP_EXPORT const struct loop_control loop_control = {
	.configure = configure,
	.seed = seed_set,
	.live = live,
	.stats = stats,
	.fail_call = fail_call,
	.call_failed = call_failed,
	.fail_request = fail_request,
	.lie = lie,
	.drop = drop,
	.hold = hold,
	.port = port_set,
	.remove = remove_set,
};
