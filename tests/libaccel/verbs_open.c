// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Devices that are opened, and what accel_net.h shows of them, on a libibverbs without a NIC; and that
 * whatever of its calls fails, nothing stays open.
 */
#include "libaccel/error_is.h"
#include "tap.h"
#include "verbs_loop.h"
#include "verbs_reg.h"

#include <accel/accel_net.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_BYTES = 512 }; /* of the log */

static struct accel_verbs_opts on_loop(void)
{
	return (struct accel_verbs_opts){.library = verbs_loop_path()};
}

TEST(verbs_open, takes_defaults_and_keeps_its_own_strings)
{
	char devices[] = "loop1", gid[] = "3";
	struct accel_verbs_opts opts = on_loop();
	struct accel_verbs *verbs = NULL;

	verbs_loop()->configure(NULL);
	opts.devices = devices;
	REQUIRE_EQ(accel_verbs_open(&opts, &verbs), 0);
	memset(devices, 'x', sizeof(devices) - 1);
	CHECK(!strcmp(verbs->opts.devices, "loop1"));
	CHECK_EQ(verbs->opts.qps, 1);
	CHECK_EQ(verbs->opts.inline_bytes, 256);
	CHECK_EQ(verbs->opts.depth, 256);
	CHECK_EQ(verbs->opts.stripe_bytes, 256 << 10);
	CHECK_EQ(verbs->opts.ack_timeout, 14);
	CHECK_EQ(verbs->opts.retries, 7);
	CHECK_EQ(verbs->rail_count, 1);
	CHECK_EQ(verbs->rail[0].gather_max, 16);
	CHECK(!strcmp(verbs->rail[0].port.device, "loop1"));
	CHECK_EQ(verbs_loop()->live().contexts, 1);
	CHECK_EQ(verbs_loop()->live().pds, 1);
	accel_verbs_close(verbs);
	accel_verbs_close(NULL);
	CHECK_LOOP_EMPTY();
	opts = (struct accel_verbs_opts){.library = verbs_loop_path(), .gid = gid, .qps = 3};
	REQUIRE_EQ(accel_verbs_open(&opts, &verbs), 0);
	CHECK_EQ(verbs->rail[0].port.gid_index, 3);
	CHECK_EQ(verbs->opts.qps, 3);
	accel_verbs_close(verbs);
	CHECK_LOOP_EMPTY();
}

TEST(verbs_open, of_a_device_with_many_entries_takes_what_a_request_may_have)
{
	static const struct {
		uint32_t max_sge, gather;
	} cases[] = {{1, 1}, {16, 16}, {30, 30}, {32, 30}};
	struct accel_verbs_opts opts = on_loop();
	struct accel_verbs *verbs = NULL;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		verbs_loop()->configure(&(struct loop_config){.max_sge = cases[i].max_sge});
		REQUIRE_EQ(accel_verbs_open(&opts, &verbs), 0);
		CHECK_EQ(verbs->rail[0].gather_max, cases[i].gather);
		accel_verbs_close(verbs);
	}
}

TEST(verbs_open, two_rails_are_two_devices)
{
	struct accel_verbs_opts opts = on_loop();
	struct accel_verbs *verbs = NULL;

	verbs_loop()->configure(&(struct loop_config){.devices = 3});
	opts.rails = 2;
	opts.host_rank = 1;
	opts.host_ranks = 2;
	REQUIRE_EQ(accel_verbs_open(&opts, &verbs), 0);
	REQUIRE_EQ(verbs->rail_count, 2);
	CHECK(!strcmp(verbs->rail[0].port.device, "loop2"));
	CHECK(!strcmp(verbs->rail[1].port.device, "loop0"));
	accel_verbs_close(verbs);
	CHECK_LOOP_EMPTY();
	verbs_loop()->configure(NULL);
}

static void log_keep(void *arg, int level, const char *line)
{
	if (level == ACCEL_LOG_INFO && !strncmp(line, "verbs: ", 7))
		snprintf(arg, LINE_BYTES, "%s", line);
}

TEST(verbs_open, logs_what_was_taken_and_why)
{
	struct accel_verbs_opts opts = on_loop();
	struct accel_verbs *verbs = NULL;
	char line[LINE_BYTES] = "";

	verbs_loop()->configure(&(struct loop_config){.devices = 2, .infiniband = 1, .mtu = 4096});
	opts.host_rank = 1;
	opts.host_ranks = 2;
	CHECK_EQ(accel_log_set(ACCEL_LOG_INFO, log_keep, line), 0);
	CHECK_EQ(accel_verbs_open(&opts, &verbs), 0);
	CHECK_EQ(accel_log_set(ACCEL_LOG_NONE, NULL, NULL), 0);
	accel_verbs_close(verbs);
	CHECK(!strcmp(line, "verbs: rail 0 is loop1:1, 100 Gb/s, MTU 4096, InfiniBand GID 0 "
			    "fe80::200:ff:fe00:101, 16 entries a gather: its NUMA node is unknown, "
			    "rank 1 of 2 on this host, turn 1 of 2"));
	if (tap_failing())
		tap_diag("%s", line);
	CHECK_LOOP_EMPTY();
	verbs_loop()->configure(NULL);
}

/* Each call that open makes, failing at each of its turns. */
TEST(verbs_open, whatever_fails_leaves_nothing_open)
{
	static const struct {
		const char *call;
		int error, code;
		const char *says;
	} calls[] = {
		{"ibv_open_device", EACCES, -EIO, "/dev/infiniband/uverbs"},
		{"ibv_open_device", ENODEV, -EIO, "just gone"},
		{"ibv_alloc_pd", ENOMEM, -ENOMEM, "RLIMIT_MEMLOCK"},
		{"ibv_alloc_pd", EIO, -EIO, "dmesg"},
		{"ibv_query_device", EIO, 0, NULL},
		{"ibv_query_port", EIO, 0, NULL},
	};
	struct accel_verbs_opts opts = on_loop();

	opts.devices = "loop0,loop1";
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		for (unsigned nth = 1, failed = 1; failed; nth++) {
			struct accel_verbs *verbs = NULL;
			int rc;

			verbs_loop()->configure(NULL);
			verbs_loop()->fail_call(calls[i].call, nth, calls[i].error);
			rc = accel_verbs_open(&opts, &verbs);
			failed = verbs_loop()->call_failed();
			CHECK_EQ(!rc, !failed);
			/* The first look at all ports makes one that cannot be used of a failure. */
			if (failed && rc != -ENODEV) {
				CHECK_EQ(rc, calls[i].code);
				CHECK_SAYS(calls[i].says);
			}
			CHECK(failed || nth > 1);
			accel_verbs_close(verbs);
			CHECK_LOOP_EMPTY();
		}
	verbs_loop()->configure(NULL);
}

TEST(verbs_open, a_registration_goes_with_the_devices)
{
	static uint8_t memory[8192];
	struct accel_verbs_opts opts = on_loop();
	struct accel_verbs *verbs = NULL;
	struct accel_region *region = NULL;
	struct accel_verbs_mr *mr = NULL;

	verbs_loop()->configure(NULL);
	REQUIRE_EQ(accel_verbs_open(&opts, &verbs), 0);
	REQUIRE_EQ(accel_region_import_ptr(NULL, 1, memory, sizeof(memory), &region), 0);
	REQUIRE_EQ(accel_verbs_use(verbs, NULL, region, 0, sizeof(memory), true, &mr), 0);
	accel_verbs_unuse(verbs, mr);
	CHECK_EQ(verbs_loop()->live().mrs, 1);
	accel_verbs_close(verbs);
	accel_region_put(region);
	CHECK_LOOP_EMPTY();
}

TEST(verbs_open, a_forked_child_leaves_the_parent_s_devices_alone)
{
	static uint8_t memory[8192];
	struct accel_verbs_opts opts = on_loop();
	struct accel_verbs *verbs = NULL;
	struct accel_region *region = NULL;
	struct accel_verbs_mr *mr = NULL;
	struct loop_live live;
	int status = -1;
	pid_t child;

	verbs_loop()->configure(NULL);
	REQUIRE_EQ(accel_verbs_open(&opts, &verbs), 0);
	REQUIRE_EQ(accel_region_import_ptr(NULL, 1, memory, sizeof(memory), &region), 0);
	REQUIRE_EQ(accel_verbs_use(verbs, NULL, region, 0, sizeof(memory), false, &mr), 0);
	child = fork();
	if (!child) {
		accel_verbs_close(verbs); /* while it is in use */
		live = verbs_loop()->live();
		_exit(live.contexts == 1 && live.pds == 1 && live.mrs == 1 ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_EQ(status, 0);
	accel_verbs_unuse(verbs, mr);
	accel_verbs_close(verbs);
	accel_region_put(region);
	CHECK_LOOP_EMPTY();
}

/* ---- accel_net.h ----------------------------------------------------------------------------- */

TEST(net, ports_get_shows_each_port_and_the_choice)
{
	struct accel_net_port ports[5] = {{.size = sizeof(*ports)}};
	struct accel_group_opts opts = {.size = sizeof(opts), .verbs_library = verbs_loop_path()};
	uint32_t count = 0;

	verbs_loop()->configure(&(struct loop_config){.devices = 2, .ports = 2, .rate = 200});
	verbs_loop()->port(0, 1, false);
	REQUIRE_EQ(accel_net_ports_get(&opts, ports, 5, &count), 0);
	REQUIRE_EQ(count, 4);
	CHECK(!strcmp(ports[0].device, "loop0") && ports[0].port == 2 && ports[0].rail == 1);
	CHECK(!strcmp(ports[0].state, "active") && !strcmp(ports[0].link, "ethernet"));
	CHECK_EQ(ports[0].rate_mbps, 200000);
	CHECK_EQ(ports[0].mtu_bytes, 1024);
	CHECK_EQ(ports[0].usable, 1);
	CHECK(!strcmp(ports[0].gid_type, "RoCE v2"));
	CHECK(*ports[0].gid && ports[0].gid_index >= 0);
	CHECK_EQ(ports[1].rail, 0);
	CHECK(!strcmp(ports[3].device, "loop0") && !strcmp(ports[3].state, "down"));
	CHECK_EQ(ports[3].usable, 0);
	CHECK(strstr(ports[3].why, "down"));
	CHECK_EQ(ports[4].port, 0);
	CHECK_LOOP_EMPTY();
}

TEST(net, ports_get_fills_an_older_and_a_newer_caller_s_structs)
{
	struct accel_group_opts opts = {.size = sizeof(opts), .verbs_library = verbs_loop_path()};
	struct {
		struct accel_net_port port;
		uint64_t later;
	} newer[2] = {{.port = {.size = sizeof(*newer)}, .later = 7}};
	struct {
		size_t size;
		char device[64];
	} older[2] = {{.size = sizeof(*older)}};
	uint32_t count = 0;

	verbs_loop()->configure(NULL);
	REQUIRE_EQ(accel_net_ports_get(&opts, &newer[0].port, 2, &count), 0);
	CHECK(!strcmp(newer[0].port.device, "loop0") && !strcmp(newer[1].port.device, "loop1"));
	CHECK_EQ(newer[1].port.size, sizeof(*newer));
	REQUIRE_EQ(accel_net_ports_get(&opts, (struct accel_net_port *)older, 2, &count), 0);
	CHECK(!strcmp(older[0].device, "loop0") && !strcmp(older[1].device, "loop1"));
	REQUIRE_EQ(accel_net_ports_get(&opts, NULL, 0, &count), 0);
	CHECK_EQ(count, 2);
}

TEST(net, where_no_port_can_be_used_all_are_shown)
{
	struct accel_net_port ports[2] = {{.size = sizeof(*ports)}};
	struct accel_group_opts opts = {.size = sizeof(opts), .verbs_library = verbs_loop_path()};
	uint32_t count = 0;

	verbs_loop()->configure(NULL);
	verbs_loop()->port(0, 1, false);
	verbs_loop()->port(1, 1, false);
	REQUIRE_EQ(accel_net_ports_get(&opts, ports, 2, &count), 0);
	CHECK_EQ(count, 2);
	for (uint32_t i = 0; i < count; i++)
		CHECK(!ports[i].rail && !ports[i].usable && strstr(ports[i].why, "down"));
	verbs_loop()->configure(NULL);
}

TEST(net, infiniband_has_a_lid_and_its_own_gid)
{
	struct accel_net_port port = {.size = sizeof(port)};
	struct accel_group_opts opts = {.size = sizeof(opts), .verbs_library = verbs_loop_path()};
	uint32_t count = 0;

	verbs_loop()->configure(&(struct loop_config){.devices = 1, .infiniband = 1});
	REQUIRE_EQ(accel_net_ports_get(&opts, &port, 1, &count), 0);
	CHECK(!strcmp(port.link, "infiniband") && !strcmp(port.gid_type, "InfiniBand"));
	CHECK_EQ(port.gid_index, 0);
	CHECK(port.lid > 0);
	verbs_loop()->configure(NULL);
}
