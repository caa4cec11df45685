// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ports: found by opening every device once, ordered, and chosen from. What cannot be used is listed
 * too, with the reason, since that is what an operator looks for. verbs_open.c opens what was chosen.
 */
#define _GNU_SOURCE
#include "verbs_device.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS_MAX 8192 /* as the kernel's own bound, CONFIG_NR_CPUS */

bool accel_verbs_is_there(const char *library)
{
	DIR *class = library ? NULL : opendir("/sys/class/infiniband");
	struct dirent *entry;
	bool is = library;

	while (!is && class && (entry = readdir(class)))
		is = entry->d_name[0] != '.';
	if (class)
		closedir(class);
	return is;
}

/* ---- What options name ----------------------------------------------------------------------- */

struct device_name {
	char device[sizeof(((struct accel_verbs_port *)0)->device)];
	uint8_t port;
};

static bool name_parse(const char *item, size_t len, struct device_name *name)
{
	const char *colon = memchr(item, ':', len);
	size_t device_len = colon ? (size_t)(colon - item) : len;
	char *end = NULL;
	unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 1;

	if (!device_len || device_len >= sizeof(name->device) || port < 1 || port > UINT8_MAX ||
	    (end && end != item + len))
		return false;
	memcpy(name->device, item, device_len);
	name->device[device_len] = 0;
	name->port = (uint8_t)port;
	return true;
}

/* "mlx5_0,mlx5_1:2": how many, or decided. */
static int names_parse(const char *list, struct device_name names[ACCEL_RAILS_MAX])
{
	int count = 0;

	for (const char *at = list; at; at = strchr(at, ',')) {
		size_t len;

		at += *at == ',' && at != list;
		len = strcspn(at, ",");
		if (count == ACCEL_RAILS_MAX)
			return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
					  "verbs.devices=\"%.80s\" names more than %d ports", list,
					  ACCEL_RAILS_MAX);
		if (!name_parse(at, len, &names[count]))
			return accel_fail(
				NULL, -EINVAL, ACCEL_AT_CREATE,
				"verbs.devices=\"%.80s\": \"%.*s\" is no DEVICE or DEVICE:PORT",
				list, (int)len, at);
		for (int i = 0; i < count; i++)
			if (!strcmp(names[i].device, names[count].device) &&
			    names[i].port == names[count].port)
				return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
						  "verbs.devices=\"%.80s\" names %s twice", list,
						  names[i].device);
		count++;
	}
	return count;
}

/* "rxe0:1 rxe1:1", as much as there is room for. */
static void ports_list(const struct accel_verbs_port *ports, int count, bool with_gids, char *text,
		       size_t room)
{
	char gid[ACCEL_GID_TEXT_BYTES];
	size_t len = 0;

	text[0] = 0;
	for (int i = 0; i < count && len < room; i++) {
		const struct accel_verbs_port *p = &ports[i];
		int more = 0;

		if (!with_gids)
			more = snprintf(text + len, room - len, " %s:%u", p->device, p->port);
		else if (p->gid_index >= 0)
			more = snprintf(text + len, room - len, " %s (%s:%u, index %d)",
					accel_verbs_gid_text(&p->gid, gid), p->device, p->port,
					p->gid_index);
		len += (size_t)more;
	}
	if (!len)
		snprintf(text, room, " none");
}

static int names_match(const char *list, const struct device_name *names, int name_count,
		       struct accel_verbs_port *ports, int count)
{
	char known[256];

	for (int n = 0; n < name_count; n++) {
		bool is_there = false;

		for (int i = 0; i < count; i++)
			if (!strcmp(ports[i].device, names[n].device) &&
			    ports[i].port == names[n].port) {
				ports[i].named = n;
				is_there = true;
			}
		if (is_there)
			continue;
		ports_list(ports, count, false, known, sizeof(known));
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "verbs.devices=\"%.80s\": there is no port %s:%u; there is:%s",
				  list, names[n].device, names[n].port, known);
	}
	return 0;
}

/* ---- One port -------------------------------------------------------------------------------- */

/* Of 4 lanes at that speed and so on, where sysfs does not say. Source: IBTA vol. 1, PortInfo. */
static uint32_t rate_from_attr(const struct ibv_port_attr *attr)
{
	static const struct {
		uint8_t code;
		uint32_t mbps; /* of a lane */
	} speeds[] = {{1, 2500},   {2, 5000},	{4, 10000},  {8, 10000},
		      {16, 14000}, {32, 25000}, {64, 50000}, {128, 100000}};
	uint32_t lanes = attr->active_width == 16 ? 2 : attr->active_width == 1 ? 1 : 0;

	if (!lanes) /* 2: 4 lanes, 4: 8, 8: 12 */
		lanes = attr->active_width == 8 ? 12 : attr->active_width * 2u;
	for (size_t i = 0; i < sizeof(speeds) / sizeof(*speeds); i++)
		if (speeds[i].code == attr->active_speed)
			return lanes * speeds[i].mbps;
	return 0;
}

static uint32_t rate_get(const struct ibv_device *device, const struct accel_verbs_port *port)
{
	char line[64];
	double gbps = 0;

	/* "400 Gb/sec (4X NDR)": knows speeds that the attribute's 8 bits do not */
	if (accel_verbs_sysfs(device, line, sizeof(line), "ports/%u/rate", port->port))
		gbps = strtod(line, NULL);
	return gbps > 0 ? (uint32_t)(gbps * 1000) : rate_from_attr(&port->attr);
}

static int numa_node_get(const struct ibv_device *device)
{
	char line[32];

	return accel_verbs_sysfs(device, line, sizeof(line), "device/numa_node") ? atoi(line) : -1;
}

/* Has this thread a core of the node? As the kernel links them in sysfs. */
static int distance_get(int node)
{
	cpu_set_t *cpus = CPU_ALLOC(CPUS_MAX);
	size_t bytes = CPU_ALLOC_SIZE(CPUS_MAX);
	int distance = 2;
	char path[96];

	if (node < 0 || !cpus || sched_getaffinity(0, bytes, cpus)) {
		CPU_FREE(cpus);
		return 1;
	}
	for (int cpu = 0; cpu < CPUS_MAX && distance; cpu++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/node%d", cpu, node);
		if (CPU_ISSET_S(cpu, bytes, cpus) && !access(path, F_OK))
			distance = 0;
	}
	CPU_FREE(cpus);
	return distance;
}

static void gid_take(struct accel_verbs_port *port, const struct accel_verbs_gid *gid)
{
	port->gid_index = gid->index;
	port->gid = gid->gid;
	port->gid_type = gid->type;
	snprintf(port->netdev, sizeof(port->netdev), "%s", gid->netdev);
}

static void __attribute__((format(printf, 2, 3)))
unusable(struct accel_verbs_port *port, const char *fmt, ...)
{
	va_list args;

	port->usable = false;
	va_start(args, fmt);
	vsnprintf(port->why, sizeof(port->why), fmt, args);
	va_end(args);
}

/* What can be known of a port before its GID. */
static void state_check(struct accel_verbs_port *port)
{
	bool is_ethernet = port->attr.link_layer == IBV_LINK_LAYER_ETHERNET;

	switch (port->attr.state) {
	case IBV_PORT_ACTIVE:
	case IBV_PORT_ACTIVE_DEFER:
		break;
	case IBV_PORT_INIT:
	case IBV_PORT_ARMED:
		unusable(port, "the port has a link, but no subnet manager has set it up: start "
			       "opensm, or the switch's");
		break;
	default:
		unusable(port, is_ethernet
				       ? "the port is down: no cable, or its interface is down (ip "
					 "link set DEV up)"
				       : "the port is down: no cable, or its other end is off");
	}
}

/*
 * The GID that is wanted, or the best. True where opts->gid was found, or there is none. Without the
 * wanted one the port keeps its best, for the list of those that there are.
 */
static bool gid_choose(struct accel_verbs_port *port, const struct accel_verbs_gid *gids, int count,
		       const char *wanted_text, const struct accel_verbs_gid_name *wanted)
{
	bool is_ethernet = port->attr.link_layer == IBV_LINK_LAYER_ETHERNET;
	const struct accel_verbs_gid *best = accel_verbs_gid_best(gids, count, is_ethernet);
	const struct accel_verbs_gid *found = wanted ? accel_verbs_gid_find(gids, count, wanted)
						     : best;

	if (found)
		gid_take(port, found);
	else if (best)
		gid_take(port, best);
	if (found || !port->usable)
		return found || !wanted;
	if (wanted)
		unusable(port, "it has no GID %.64s", wanted_text);
	else
		unusable(port, "it has no GID: give its interface an address (ip addr add)");
	return !wanted;
}

struct search {
	const struct accel_verbs_api *api;
	const struct accel_verbs_opts *opts;
	const struct accel_verbs_gid_name *wanted; /* NULL: the best */
	bool wanted_found;
	struct accel_verbs_gid *gids; /* [ACCEL_VERBS_GIDS_MAX], scratch */
	struct accel_verbs_port *ports;
	int count;
};

static void port_add(struct search *s, struct ibv_device *device, struct ibv_context *context,
		     const struct accel_verbs_port *like, uint8_t number)
{
	struct accel_verbs_port *port = &s->ports[s->count++];
	int rc, count;

	*port = *like;
	port->port = number;
	rc = s->api->query_port(context, number, &port->attr); /* cleared above */
	if (rc) {
		unusable(port, "the port cannot be asked: %s", strerror(rc > 0 ? rc : -rc));
		return;
	}
	port->rate_mbps = rate_get(device, port);
	if (device->transport_type == IBV_TRANSPORT_IWARP)
		unusable(port, "the device speaks iWARP, which has no write with immediate data");
	else if (device->transport_type != IBV_TRANSPORT_IB)
		unusable(port, "the device has no reliable connections (RC queue pairs)");
	else
		state_check(port);
	count = accel_verbs_gids(s->api, device, context, number, &port->attr, s->gids);
	s->wanted_found |= gid_choose(port, s->gids, count, s->opts->gid, s->wanted);
}

static void device_add(struct search *s, struct ibv_device *device)
{
	struct accel_verbs_port like = {.named = -1, .gid_index = -1, .usable = true};
	struct ibv_context *context;
	int rc;

	snprintf(like.device, sizeof(like.device), "%s", s->api->get_device_name(device));
	like.numa_node = numa_node_get(device);
	like.distance = distance_get(like.numa_node);
	context = s->api->open_device(device);
	rc = context ? s->api->query_device(context, &like.device_attr) : errno;
	if (rc) {
		struct accel_verbs_port *port = &s->ports[s->count++];

		*port = like;
		port->port = 1;
		unusable(port, "it cannot be opened: %s%s", strerror(rc > 0 ? rc : -rc),
			 rc == EACCES || rc == EPERM || rc == ENOENT
				 ? ": may this user read and write /dev/infiniband/uverbs*, and "
				   "are they in this container?"
				 : "");
	}
	for (int i = 1; !rc && i <= like.device_attr.phys_port_cnt; i++)
		if (s->count < ACCEL_VERBS_PORTS_MAX)
			port_add(s, device, context, &like, (uint8_t)i);
	if (context)
		s->api->close_device(context);
}

/* ---- All of them ----------------------------------------------------------------------------- */

static int port_compare(const void *left, const void *right)
{
	const struct accel_verbs_port *a = left, *b = right;
	int names;

	if (a->named != b->named) /* -1 as unsigned comes last */
		return (unsigned)a->named < (unsigned)b->named ? -1 : 1;
	if (a->usable != b->usable)
		return a->usable ? -1 : 1;
	if (a->distance != b->distance)
		return a->distance - b->distance;
	if (a->rate_mbps != b->rate_mbps)
		return a->rate_mbps > b->rate_mbps ? -1 : 1;
	names = strverscmp(a->device, b->device);
	return names ? names : a->port - b->port;
}

static int fail_gid(const struct search *s)
{
	char known[256];

	ports_list(s->ports, s->count, true, known, sizeof(known));
	return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
			  "verbs.gid=\"%.64s\": no port has it; there is:%s", s->opts->gid, known);
}

int accel_verbs_ports(const struct accel_verbs_api *api, const struct accel_verbs_opts *opts,
		      struct accel_verbs_port *ports, int *count)
{
	struct search s = {.api = api, .opts = opts, .ports = ports};
	struct device_name names[ACCEL_RAILS_MAX];
	struct accel_verbs_gid_name wanted;
	struct ibv_device **list;
	int devices = 0, name_count = 0, rc;

	if (opts->devices)
		name_count = names_parse(opts->devices, names);
	if (name_count < 0)
		return name_count;
	if (opts->gid && !accel_verbs_gid_parse(opts->gid, &wanted))
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "verbs.gid=\"%.64s\" is neither an index nor an address",
				  opts->gid);
	s.wanted = opts->gid ? &wanted : NULL;
	s.gids = malloc(ACCEL_VERBS_GIDS_MAX * sizeof(*s.gids));
	if (!s.gids)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				  "no memory to look for RDMA ports");
	list = api->get_device_list(&devices); /* NULL: the kernel has no RDMA at all */
	for (int i = 0; list && i < devices && s.count < ACCEL_VERBS_PORTS_MAX; i++)
		device_add(&s, list[i]);
	if (list)
		api->free_device_list(list);
	free(s.gids);
	if (s.count) { /* without a port the choice has a better sentence */
		rc = names_match(opts->devices, names, name_count, ports, s.count);
		if (!rc && opts->gid && !s.wanted_found)
			rc = fail_gid(&s);
		if (rc)
			return rc;
	}
	qsort(ports, (size_t)s.count, sizeof(*ports), port_compare);
	*count = s.count;
	return 0;
}

static int device_gids(const struct accel_verbs_api *api, struct ibv_device *device, uint32_t port,
		       struct accel_verbs_gid *gids)
{
	struct ibv_context *context = api->open_device(device);
	struct ibv_port_attr attr = {0};
	int rc = context ? api->query_port(context, (uint8_t)port, &attr) : errno, count = 0;

	if (!rc)
		count = accel_verbs_gids(api, device, context, (uint8_t)port, &attr, gids);
	if (context)
		api->close_device(context);
	if (rc)
		return accel_fail(NULL, -EIO, NULL, "%s port %u cannot be opened or asked: %s",
				  api->get_device_name(device), port, strerror(rc > 0 ? rc : -rc));
	return count;
}

int accel_verbs_port_gids(const struct accel_verbs_api *api, const char *device, uint32_t port,
			  struct accel_verbs_gid *gids)
{
	struct ibv_device **list = api->get_device_list(NULL);
	bool found = false;
	int rc = 0;

	for (int i = 0; list && list[i] && !found && port && port <= UINT8_MAX; i++) {
		found = !strcmp(api->get_device_name(list[i]), device);
		if (found)
			rc = device_gids(api, list[i], port, gids);
	}
	if (list)
		api->free_device_list(list);
	if (found)
		return rc;
	return accel_fail(NULL, -ENODEV, NULL, "there is no RDMA port %.63s:%u", device, port);
}

/* ---- The choice ------------------------------------------------------------------------------ */

static int fail_none(const struct accel_verbs_port *ports, int count)
{
	char list[ACCEL_ERROR_TEXT_BYTES] = "";
	size_t len = 0;

	if (!count)
		return accel_fail(
			NULL, -ENODEV, ACCEL_AT_CREATE,
			"there is no RDMA device: load the NIC's driver and ib_uverbs; in "
			"a container, pass /dev/infiniband to it; to try without a NIC: "
			"modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0");
	for (int i = 0; i < count && len < sizeof(list); i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s:%u: %s",
					i ? "; " : "", ports[i].device, ports[i].port,
					ports[i].why);
	return accel_fail(NULL, -ENODEV, ACCEL_AT_CREATE, "no RDMA port can be used: %s", list);
}

static int choose_named(struct accel_verbs_port *ports, int count, int taken[ACCEL_RAILS_MAX])
{
	int rails = 0;

	for (int i = 0; i < count; i++) {
		struct accel_verbs_port *p = &ports[i];

		if (p->named >= 0 && !p->usable)
			return accel_fail(NULL, -ENODEV, ACCEL_AT_CREATE,
					  "verbs.devices names %s:%u, which cannot be used: %s",
					  p->device, p->port, p->why);
		if (p->named >= 0) {
			taken[rails++] = i;
			snprintf(p->why, sizeof(p->why), "named by verbs.devices");
		} else if (p->usable) {
			snprintf(p->why, sizeof(p->why), "not named by verbs.devices");
		}
	}
	return rails;
}

static const char *near_text(const struct accel_verbs_port *port, char text[48])
{
	if (port->distance == 1)
		return "its NUMA node is unknown";
	snprintf(text, 48, "NUMA node %d is %s", port->numa_node,
		 port->distance ? "another" : "this process's");
	return text;
}

int accel_verbs_choose(const struct accel_verbs_opts *opts, struct accel_verbs_port *ports,
		       int count, int taken[ACCEL_RAILS_MAX])
{
	uint32_t rails = opts->rails ? opts->rails : 1, best = 0, usable = 0, turn;
	char near[48];

	if (opts->devices && count)
		return choose_named(ports, count, taken);
	/* The usable come first, and of these the best, which are alike. */
	for (int i = 0; i < count && ports[i].usable; i++) {
		usable++;
		best += ports[i].distance == ports[0].distance &&
			ports[i].rate_mbps == ports[0].rate_mbps;
		snprintf(ports[i].why, sizeof(ports[i].why), "not needed");
		if (best < usable)
			snprintf(ports[i].why, sizeof(ports[i].why), "not needed: %s, %g Gb/s",
				 near_text(&ports[i], near), ports[i].rate_mbps / 1000.0);
	}
	if (!usable)
		return fail_none(ports, count);
	if (rails > usable)
		rails = usable;
	if (rails > ACCEL_RAILS_MAX)
		rails = ACCEL_RAILS_MAX;
	turn = opts->host_rank % best * rails % best;
	for (uint32_t i = 0; i < rails; i++) {
		/* Round the best first; what they cannot give, from those after them. */
		uint32_t at = i < best ? (turn + i) % best : i;
		struct accel_verbs_port *p = &ports[at];

		taken[i] = (int)at;
		snprintf(p->why, sizeof(p->why), "%s, rank %u of %u on this host, turn %u of %u",
			 near_text(p, near), opts->host_rank,
			 opts->host_ranks ? opts->host_ranks : 1, at, best);
	}
	return (int)rails;
}
