// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Which ports and GIDs are found and chosen, on devices of a table, with files of sysfs in a
 * directory of the test's own.
 */
#define _GNU_SOURCE
#include "verbs_device.h"

#include "libaccel/error_is.h"
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEVICES_MAX 6
#define GIDS 8

struct gid {
	const char *address; /* NULL: an empty entry */
	uint32_t type;
};

struct nic {
	const char *name;
	int ports;
	int numa_node; /* -1: no such file */
	int gbps;
	enum ibv_port_state state;
	uint8_t link_layer;
	enum ibv_transport_type transport;
	int open_error;
	struct gid gid[GIDS];
};

static struct ibv_device devices[DEVICES_MAX], *list[DEVICES_MAX + 1];
static const struct nic *nics; /* [nic_count] */
static int nic_count, opened, lists;
static char root[] = "/tmp/accel-verbs-XXXXXX";

#define ROCE(address_)                                                                             \
	{                                                                                          \
		.address = (address_), .type = IBV_GID_TYPE_ROCE_V2                                \
	}
#define ROCE_V1(address_)                                                                          \
	{                                                                                          \
		.address = (address_), .type = IBV_GID_TYPE_ROCE_V1                                \
	}
#define ETHERNET                                                                                   \
	.ports = 1, .numa_node = -1, .gbps = 100, .state = IBV_PORT_ACTIVE,                        \
	.link_layer = IBV_LINK_LAYER_ETHERNET
#define INFINIBAND                                                                                 \
	.ports = 1, .numa_node = -1, .gbps = 100, .state = IBV_PORT_ACTIVE,                        \
	.link_layer = IBV_LINK_LAYER_INFINIBAND, .gid = {{.address = "fe80::5"}}

/* ---- The library that has them --------------------------------------------------------------- */

static const struct nic *nic_of(const struct ibv_device *device)
{
	return &nics[device - devices];
}

static struct ibv_device **get_device_list(int *count)
{
	for (int i = 0; i < nic_count; i++)
		list[i] = &devices[i];
	list[nic_count] = NULL;
	lists++;
	*count = nic_count;
	return list;
}

static void free_device_list(struct ibv_device **of)
{
	CHECK(of == list);
	lists--;
}

static const char *get_device_name(struct ibv_device *device)
{
	return nic_of(device)->name;
}

static struct ibv_context *open_device(struct ibv_device *device)
{
	struct ibv_context *context = calloc(1, sizeof(*context));

	if (nic_of(device)->open_error || !context) {
		errno = nic_of(device)->open_error;
		free(context);
		return NULL;
	}
	context->device = device;
	opened++;
	return context;
}

static int close_device(struct ibv_context *context)
{
	opened--;
	free(context);
	return 0;
}

static int query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	attr->phys_port_cnt = (uint8_t)nic_of(context->device)->ports;
	return 0;
}

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr)
{
	const struct nic *nic = nic_of(context->device);

	if (port > nic->ports)
		return EINVAL;
	attr->state = nic->state;
	attr->link_layer = nic->link_layer;
	attr->gid_tbl_len = GIDS;
	attr->active_width = 2; /* 4 lanes of 25 Gb/s, where sysfs says nothing */
	attr->active_speed = 32;
	return 0;
}

static void gid_parse(const char *text, union ibv_gid *gid)
{
	if (inet_pton(AF_INET, text, gid->raw + 12) == 1)
		gid->raw[10] = gid->raw[11] = 0xff;
	else
		CHECK_EQ(inet_pton(AF_INET6, text, gid->raw), 1);
}

static int query_gid(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid)
{
	const struct gid *entry = &nic_of(context->device)->gid[index];

	CHECK(port >= 1 && index < GIDS);
	memset(gid, 0, sizeof(*gid));
	if (entry->address)
		gid_parse(entry->address, gid);
	return 0;
}

static int query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index,
			struct ibv_gid_entry *entry, uint32_t flags, size_t entry_bytes)
{
	const struct gid *gid = &nic_of(context->device)->gid[index];

	CHECK(!flags && entry_bytes == sizeof(*entry));
	if (!gid->address)
		return ENODATA;
	*entry = (struct ibv_gid_entry){
		.gid_index = index, .port_num = port, .gid_type = gid->type, .ndev_ifindex = 1};
	gid_parse(gid->address, &entry->gid);
	return 0;
}

static struct accel_verbs_api api = {
	.get_device_list = get_device_list,
	.free_device_list = free_device_list,
	.get_device_name = get_device_name,
	.open_device = open_device,
	.close_device = close_device,
	.query_device = query_device,
	.query_port = query_port,
	.query_gid = query_gid,
	.query_gid_ex = query_gid_ex,
};

/* ---- Its sysfs ------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void put(const char *line, const char *fmt, ...)
{
	char path[512];
	va_list args;
	FILE *file;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	for (char *slash = path + strlen(root); (slash = strchr(slash + 1, '/'));) {
		*slash = 0;
		CHECK(!mkdir(path, 0700) || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(path, "we");
	REQUIRE(file);
	fprintf(file, "%s\n", line);
	fclose(file);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

static void sysfs_put(const struct nic *nic, struct ibv_device *device)
{
	char line[64];

	device->transport_type = nic->transport;
	snprintf(device->ibdev_path, sizeof(device->ibdev_path), "%s/%s", root, nic->name);
	snprintf(line, sizeof(line), "%d", nic->numa_node);
	if (nic->numa_node >= 0)
		put(line, "%s/%s/device/numa_node", root, nic->name);
	snprintf(line, sizeof(line), "%d Gb/sec (4X EDR)", nic->gbps);
	for (int p = 1; p <= nic->ports; p++) {
		if (nic->gbps)
			put(line, "%s/%s/ports/%d/rate", root, nic->name, p);
		for (int g = 0; g < GIDS; g++)
			if (nic->gid[g].address)
				put(nic->gid[g].type == IBV_GID_TYPE_ROCE_V2 ? "RoCE v2"
									     : "IB/RoCE v1",
				    "%s/%s/ports/%d/gid_attrs/types/%d", root, nic->name, p, g);
	}
}

/* ---- What a test asks ------------------------------------------------------------------------ */

static struct accel_verbs_port ports[ACCEL_VERBS_PORTS_MAX];

static int find(const struct nic *of, int count, const struct accel_verbs_opts *opts)
{
	int found = -1, rc;

	nics = of;
	nic_count = count;
	memset(devices, 0, sizeof(devices));
	memset(ports, 0xee, sizeof(ports));
	memcpy(root + strlen(root) - 6, "XXXXXX", 6);
	CHECK(mkdtemp(root));
	for (int i = 0; i < count; i++)
		sysfs_put(&of[i], &devices[i]);
	rc = accel_verbs_ports(&api, opts, ports, &found);
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	CHECK_EQ(opened, 0);
	CHECK_EQ(lists, 0);
	return rc ? rc : found;
}

#define FIND(of, opts) find(of, sizeof(of) / sizeof(*(of)), opts)

static const struct accel_verbs_opts unasked;

static const struct nic one[] = {{"mlx5_0", ETHERNET, .gid = {ROCE("10.8.0.1")}}};

/* ---- GIDs ------------------------------------------------------------------------------------ */

struct gid_case {
	const char *what;
	struct gid gid[GIDS];
	int index; /* that is to be taken; -1: none */
};

static const struct gid_case gid_cases[] = {
	{"a ConnectX's usual table",
	 {ROCE_V1("fe80::1"), ROCE("fe80::1"), ROCE_V1("10.8.0.1"), ROCE("10.8.0.1")},
	 3},
	{"IPv4 after global IPv6",
	 {ROCE("fe80::1"), ROCE("2001:db8::1"), ROCE("10.8.0.1"), ROCE("10.9.0.1")},
	 2},
	{"no IPv4", {ROCE_V1("fe80::1"), ROCE("fe80::1"), ROCE("2001:db8::1")}, 2},
	{"link-local alone", {ROCE_V1("fe80::1"), ROCE("fe80::1")}, 1},
	{"RoCE v1 alone: the routed address", {ROCE_V1("fe80::1"), ROCE_V1("10.8.0.1")}, 1},
	{"any v2 before v1", {ROCE_V1("10.8.0.1"), ROCE("fe80::1")}, 1},
	{"holes",
	 {{NULL, 0}, {NULL, 0}, {NULL, 0}, ROCE("fe80::1"), {NULL, 0}, ROCE("10.8.0.1")},
	 5},
	{"an address of another network namespace, and one that is here",
	 {ROCE("10.254.254.254"), ROCE("127.0.0.1")},
	 1},
	{"here in v1 alone", {ROCE("10.254.254.254"), ROCE_V1("127.0.0.1")}, 1},
	{"nothing", {{NULL, 0}}, -1},
};

TEST(verbs_gid, roce_takes_the_one_that_reaches_furthest)
{
	for (size_t i = 0; i < sizeof(gid_cases) / sizeof(*gid_cases); i++)
		for (int old = 0; old < 2; old++) {
			const struct gid_case *c = &gid_cases[i];
			struct nic nic = {"mlx5_0", ETHERNET};

			api.query_gid_ex = old ? NULL : query_gid_ex;
			memcpy(nic.gid, c->gid, sizeof(nic.gid));
			tap_diag("%s%s", c->what, old ? ", types from sysfs" : "");
			CHECK_EQ(find(&nic, 1, &unasked), 1);
			CHECK_EQ(ports[0].gid_index, c->index);
			CHECK_EQ(ports[0].usable, c->index >= 0);
			if (c->index >= 0)
				CHECK_EQ(ports[0].gid_type, c->gid[c->index].type);
			else
				CHECK_HOLDS(ports[0].why, "ip addr add");
		}
	api.query_gid_ex = query_gid_ex;
}

TEST(verbs_gid, infiniband_takes_index_0)
{
	struct nic nic[] = {{"mlx5_0", INFINIBAND}};

	nic[0].gid[1] = (struct gid){.address = "10.8.0.1"};
	CHECK_EQ(FIND(nic, &unasked), 1);
	CHECK_EQ(ports[0].gid_index, 0);
	CHECK_EQ(ports[0].gid_type, IBV_GID_TYPE_IB);
	CHECK(ports[0].usable);
}

TEST(verbs_gid, an_option_names_it_by_index_or_address)
{
	static const struct nic two[] = {
		{"mlx5_0", ETHERNET,
		 .gid = {ROCE_V1("fe80::1"), ROCE("fe80::1"), ROCE_V1("10.8.0.1"),
			 ROCE("10.8.0.1")}},
		{"mlx5_1", ETHERNET, .gid = {ROCE("10.9.0.1")}},
	};
	struct accel_verbs_opts opts = {.gid = "2"};

	CHECK_EQ(FIND(two, &opts), 2);
	CHECK_EQ(ports[0].gid_index, 2);
	CHECK_EQ(ports[0].gid_type, IBV_GID_TYPE_ROCE_V1);
	CHECK(ports[0].usable && !ports[1].usable);
	CHECK_HOLDS(ports[1].why, "no GID 2");
	opts.gid = "10.8.0.1";
	CHECK_EQ(FIND(two, &opts), 2);
	CHECK_EQ(ports[0].gid_index, 3); /* that address twice: v2 */
	opts.gid = "fe80::1";
	CHECK_EQ(FIND(two, &opts), 2);
	CHECK_EQ(ports[0].gid_index, 1);
	opts.gid = "10.8.0.2";
	CHECK_EQ(FIND(two, &opts), -EINVAL);
	CHECK_SAYS("10.8.0.2");
	CHECK_SAYS("10.8.0.1 (mlx5_0:1, index 3)");
	CHECK_SAYS("10.9.0.1 (mlx5_1:1, index 0)");
	opts.gid = "7";
	CHECK_EQ(FIND(two, &opts), -EINVAL);
	for (const char *const *bad = (const char *const[]){"", "-1", "1x", "10.8.0", "eth0",
							    "1234567", "fe80::1%eth0", NULL};
	     *bad; bad++) {
		opts.gid = *bad;
		CHECK_EQ(FIND(two, &opts), -EINVAL);
		CHECK_SAYS("neither an index nor an address");
	}
}

TEST(verbs_gid, text_is_as_people_write_it)
{
	static const char *const texts[] = {"10.8.0.1", "fe80::1", "2001:db8::5", "::1"};
	char text[ACCEL_GID_TEXT_BYTES];

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		union ibv_gid gid = {.raw = {0}};

		gid_parse(texts[i], &gid);
		CHECK(!strcmp(accel_verbs_gid_text(&gid, text), texts[i]));
	}
}

/* ---- Ports ----------------------------------------------------------------------------------- */

TEST(verbs_ports, are_in_order_of_choice)
{
	static const struct nic six[] = {
		{"mlx5_10", ETHERNET, .gid = {ROCE("10.0.0.10")}},
		{"mlx5_2", ETHERNET, .gid = {ROCE("10.0.0.2")}},
		{"slow", .ports = 1, .numa_node = -1, .gbps = 25, .state = IBV_PORT_ACTIVE,
		 .link_layer = IBV_LINK_LAYER_ETHERNET, .gid = {ROCE("10.0.0.3")}},
		{"down", .ports = 1, .numa_node = -1, .gbps = 400, .state = IBV_PORT_DOWN,
		 .link_layer = IBV_LINK_LAYER_ETHERNET, .gid = {ROCE("10.0.0.4")}},
		{"far", .ports = 1, .numa_node = 1000, .gbps = 400, .state = IBV_PORT_ACTIVE,
		 .link_layer = IBV_LINK_LAYER_ETHERNET, .gid = {ROCE("10.0.0.5")}},
		{"ib", .ports = 2, .numa_node = -1, .gbps = 200, .state = IBV_PORT_ACTIVE,
		 .link_layer = IBV_LINK_LAYER_INFINIBAND, .gid = {{.address = "fe80::1"}}},
	};
	static const char *const order[] = {"ib:1",   "ib:2",  "mlx5_2:1", "mlx5_10:1",
					    "slow:1", "far:1", "down:1"};
	char name[80];

	REQUIRE_EQ(FIND(six, &unasked), 7);
	for (int i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "%.63s:%u", ports[i].device, ports[i].port);
		tap_check(!strcmp(name, order[i]), __FILE__, __LINE__, "%d: %s, not %s", i, name,
			  order[i]);
	}
	CHECK_EQ(ports[0].rate_mbps, 200000);
	CHECK_EQ(ports[5].numa_node, 1000);
	CHECK_EQ(ports[5].distance, 2);
}

TEST(verbs_ports, one_near_this_process_comes_before_a_faster_one)
{
	unsigned cpu, node;

	REQUIRE(!getcpu(&cpu, &node));
	if (access("/sys/devices/system/cpu/cpu0/node0", F_OK))
		SKIP("this kernel tells no NUMA nodes");
	{
		const struct nic two[] = {
			{"fast", .ports = 1, .numa_node = -1, .gbps = 400, .state = IBV_PORT_ACTIVE,
			 .link_layer = IBV_LINK_LAYER_ETHERNET, .gid = {ROCE("10.0.0.1")}},
			{"near", .ports = 1, .numa_node = (int)node, .gbps = 100,
			 .state = IBV_PORT_ACTIVE, .link_layer = IBV_LINK_LAYER_ETHERNET,
			 .gid = {ROCE("10.0.0.2")}},
		};
		int taken[ACCEL_RAILS_MAX];

		CHECK_EQ(FIND(two, &unasked), 2);
		CHECK(!strcmp(ports[0].device, "near"));
		CHECK_EQ(ports[0].distance, 0);
		CHECK_EQ(accel_verbs_choose(&unasked, ports, 2, taken), 1);
		CHECK_HOLDS(ports[0].why, "is this process's");
		CHECK_HOLDS(ports[1].why, "not needed: its NUMA node is unknown, 400 Gb/s");
	}
}

TEST(verbs_ports, a_rate_that_sysfs_does_not_tell_is_the_attributes)
{
	struct nic nic = one[0];

	nic.gbps = 0;
	CHECK_EQ(find(&nic, 1, &unasked), 1);
	CHECK_EQ(ports[0].rate_mbps, 100000);
}

TEST(verbs_ports, what_cannot_be_used_says_why)
{
	const struct {
		struct nic nic;
		const char *why;
	} cases[] = {
		{{"a", ETHERNET, .open_error = EACCES, .gid = {ROCE("10.0.0.1")}},
		 "/dev/infiniband/uverbs"},
		{{"b", .ports = 1, .state = IBV_PORT_DOWN, .gid = {ROCE("10.0.0.1")},
		  .link_layer = IBV_LINK_LAYER_ETHERNET},
		 "ip link set DEV up"},
		{{"c", .ports = 1, .state = IBV_PORT_INIT, .gid = {{.address = "fe80::1"}},
		  .link_layer = IBV_LINK_LAYER_INFINIBAND},
		 "opensm"},
		{{"d", ETHERNET, .transport = IBV_TRANSPORT_IWARP, .gid = {ROCE("10.0.0.1")}},
		 "iWARP"},
		{{"e", ETHERNET, .transport = IBV_TRANSPORT_UNSPECIFIED, .gid = {ROCE("10.0.0.1")}},
		 "RC queue pairs"},
		{{"f", ETHERNET}, "has no GID"},
	};
	int taken[ACCEL_RAILS_MAX];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		CHECK_EQ(find(&cases[i].nic, 1, &unasked), 1);
		CHECK(!ports[0].usable);
		CHECK_HOLDS(ports[0].why, cases[i].why);
		CHECK_EQ(accel_verbs_choose(&unasked, ports, 1, taken), -ENODEV);
		CHECK_SAYS(cases[i].why);
	}
}

TEST(verbs_ports, none_is_no_error_and_no_choice)
{
	int taken[ACCEL_RAILS_MAX];
	const struct accel_verbs_opts named = {.devices = "mlx5_0", .gid = "10.8.0.1"};

	CHECK_EQ(find(NULL, 0, &unasked), 0);
	CHECK_EQ(accel_verbs_choose(&unasked, ports, 0, taken), -ENODEV);
	CHECK_SAYS("rdma link add");
	CHECK_EQ(find(NULL, 0, &named), 0);
	CHECK_EQ(accel_verbs_choose(&named, ports, 0, taken), -ENODEV);
}

/* ---- The choice ------------------------------------------------------------------------------ */

static const struct nic four[] = {
	{"mlx5_0", ETHERNET, .gid = {ROCE("10.8.0.1")}},
	{"mlx5_1", ETHERNET, .gid = {ROCE("10.8.0.2")}},
	{"mlx5_2", ETHERNET, .gid = {ROCE("10.8.0.3")}},
	{"slow", .ports = 1, .numa_node = -1, .gbps = 25, .state = IBV_PORT_ACTIVE,
	 .link_layer = IBV_LINK_LAYER_ETHERNET, .gid = {ROCE("10.8.0.4")}},
};

struct turn_case {
	uint32_t rails, host_rank;
	int count;
	int taken[ACCEL_RAILS_MAX];
};

static const struct turn_case turn_cases[] = {
	{0, 0, 1, {0}},	      {0, 1, 1, {1}},	       {0, 2, 1, {2}},		{0, 3, 1, {0}},
	{1, 7, 1, {1}},	      {2, 0, 2, {0, 1}},       {2, 1, 2, {2, 0}},	{2, 2, 2, {1, 2}},
	{3, 1, 3, {0, 1, 2}}, {4, 1, 4, {1, 2, 0, 3}}, {9, 0, 4, {0, 1, 2, 3}},
};

TEST(verbs_choose, ranks_of_a_host_take_turns_among_the_best)
{
	for (size_t i = 0; i < sizeof(turn_cases) / sizeof(*turn_cases); i++) {
		const struct turn_case *c = &turn_cases[i];
		struct accel_verbs_opts opts = {
			.rails = c->rails, .host_rank = c->host_rank, .host_ranks = 8};
		int taken[ACCEL_RAILS_MAX] = {-1, -1, -1, -1};

		REQUIRE_EQ(FIND(four, &opts), 4);
		CHECK_EQ(accel_verbs_choose(&opts, ports, 4, taken), c->count);
		for (int r = 0; r < c->count; r++)
			tap_check(taken[r] == c->taken[r], __FILE__, __LINE__,
				  "case %zu, rail %d: %d, not %d", i, r, taken[r], c->taken[r]);
		CHECK_HOLDS(ports[taken[0]].why, "of 8 on this host");
	}
	CHECK(!strcmp(ports[3].device, "slow"));
}

TEST(verbs_choose, named_ports_are_taken_as_named)
{
	struct accel_verbs_opts opts = {.devices = "slow,mlx5_1:1"};
	int taken[ACCEL_RAILS_MAX];

	REQUIRE_EQ(FIND(four, &opts), 4);
	REQUIRE_EQ(accel_verbs_choose(&opts, ports, 4, taken), 2);
	CHECK(!strcmp(ports[taken[0]].device, "slow"));
	CHECK(!strcmp(ports[taken[1]].device, "mlx5_1"));
	CHECK_HOLDS(ports[taken[0]].why, "named by verbs.devices");
	CHECK_HOLDS(ports[2].why, "not named");
}

TEST(verbs_choose, a_named_port_that_is_down_is_refused_and_not_left_out)
{
	struct nic two[] = {four[0], four[1]};
	struct accel_verbs_opts opts = {.devices = "mlx5_0,mlx5_1"};
	int taken[ACCEL_RAILS_MAX];

	two[1].state = IBV_PORT_DOWN;
	REQUIRE_EQ(FIND(two, &opts), 2);
	CHECK_EQ(accel_verbs_choose(&opts, ports, 2, taken), -ENODEV);
	CHECK_SAYS("mlx5_1:1");
	CHECK_SAYS("down");
}

TEST(verbs_choose, names_that_are_wrong_are_refused)
{
	static const struct {
		const char *devices, *says;
	} cases[] = {
		{"mlx5_9", "no port mlx5_9:1; there is: mlx5_0:1 mlx5_1:1 mlx5_2:1 slow:1"},
		{"mlx5_0:2", "no port mlx5_0:2"},
		{"mlx5_0,mlx5_0:1", "twice"},
		{"mlx5_0,mlx5_1,mlx5_2,slow,mlx5_0", "more than 4"},
		{"", "DEVICE:PORT"},
		{"mlx5_0,", "DEVICE:PORT"},
		{",mlx5_0", "DEVICE:PORT"},
		{"mlx5_0:", "DEVICE:PORT"},
		{"mlx5_0:0", "DEVICE:PORT"},
		{"mlx5_0:256", "DEVICE:PORT"},
		{"mlx5_0:1x", "DEVICE:PORT"},
		{":1", "DEVICE:PORT"},
		{"a-name-that-is-longer-than-any-that-the-kernel-would-give-to-a-device-of-rdma",
		 "DEVICE:PORT"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct accel_verbs_opts opts = {.devices = cases[i].devices};

		CHECK_EQ(FIND(four, &opts), -EINVAL);
		CHECK_SAYS(cases[i].says);
	}
}

TEST(verbs_is_there, an_option_that_names_a_library_says_yes)
{
	CHECK(accel_verbs_is_there("libaccel-verbs-loop.so"));
	CHECK_EQ(accel_verbs_is_there(NULL), !system("ls /sys/class/infiniband/* >/dev/null 2>&1"));
}
