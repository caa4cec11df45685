// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* ACCEL_OPTS: names, values, precedence, and what a bad string is told. */
#include "object.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *error_text(void)
{
	static struct accel_error error;

	error.size = sizeof(error);
	accel_error_get(NULL, &error);
	return error.text;
}

static int group_read(const char *env, struct accel_group_opts *opts, char **strings)
{
	*opts = (struct accel_group_opts){.size = sizeof(*opts)};
	setenv("ACCEL_OPTS", env, 1);
	return accel_opts_from_env_group(opts, strings);
}

static int ep_read(const char *env, struct accel_ep_opts *opts)
{
	*opts = (struct accel_ep_opts){.size = sizeof(*opts)};
	setenv("ACCEL_OPTS", env, 1);
	return accel_opts_from_env_ep(opts);
}

TEST(opts, unset_and_empty_change_nothing)
{
	struct accel_group_opts group = {.size = sizeof(group)}, group_before = group;
	struct accel_ep_opts ep, ep_before = {.size = sizeof(ep)};
	char *strings = (char *)1;

	unsetenv("ACCEL_OPTS");
	CHECK_EQ(accel_opts_from_env_group(&group, &strings), 0);
	CHECK(!strings && !memcmp(&group, &group_before, sizeof(group)));
	CHECK_EQ(ep_read("", &ep), 0);
	CHECK(!memcmp(&ep, &ep_before, sizeof(ep)));
	CHECK_EQ(ep_read(",,", &ep), 0);
	CHECK(!memcmp(&ep, &ep_before, sizeof(ep)));
}

TEST(opts, every_group_name_sets_its_field)
{
	struct accel_group_opts opts;
	char *strings = NULL;

	REQUIRE_EQ(
		group_read(
			"master_addr=10.0.0.1,master_port=1234,name=a group,socket_dir=/run/x=y,"
			"transports=verbs+shm,timeout_ms=5000,address=eth1,"
			"verbs.devices=mlx5_0:1+mlx5_1,verbs.gid=fe80::1,verbs.library=/x/y.so,"
			"verbs.rails=2,verbs.qps=3,verbs.traffic_class=104,verbs.service_level=5,"
			"verbs.mtu=1024,verbs.inline_bytes=64,verbs.depth=512,"
			"verbs.stripe_bytes=65536,verbs.ack_timeout=10,verbs.retries=6",
			&opts, &strings),
		0);
	CHECK(!strcmp(opts.master_addr, "10.0.0.1"));
	CHECK_EQ(opts.master_port, 1234);
	CHECK(!strcmp(opts.name, "a group"));
	CHECK(!strcmp(opts.socket_dir, "/run/x=y"));
	CHECK(!strcmp(opts.transports, "verbs,shm"));
	CHECK_EQ(opts.timeout_ns, 5000000000);
	CHECK(!strcmp(opts.address, "eth1"));
	CHECK(!strcmp(opts.verbs_devices, "mlx5_0:1,mlx5_1"));
	CHECK(!strcmp(opts.verbs_gid, "fe80::1"));
	CHECK(!strcmp(opts.verbs_library, "/x/y.so"));
	CHECK_EQ(opts.verbs_rails, 2);
	CHECK_EQ(opts.verbs_qps, 3);
	CHECK_EQ(opts.verbs_traffic_class, 104);
	CHECK_EQ(opts.verbs_service_level, 5);
	CHECK_EQ(opts.verbs_mtu, 1024);
	CHECK_EQ(opts.verbs_inline_bytes, 64);
	CHECK_EQ(opts.verbs_depth, 512);
	CHECK_EQ(opts.verbs_stripe_bytes, 65536);
	CHECK_EQ(opts.verbs_ack_timeout, 10);
	CHECK_EQ(opts.verbs_retries, 6);
	free(strings);
}

TEST(opts, every_ep_name_sets_its_field)
{
	struct accel_ep_opts opts;

	REQUIRE_EQ(
		ep_read("dtype=fp8,receive=landed,combine_input=expert,quant=ue8m0,lanes=4,on_timeout=mask,"
			"spin_us=4294967295,huge=need,output_rows=17",
			&opts),
		0);
	CHECK_EQ(opts.dtype, ACCEL_DTYPE_FP8_E4M3);
	CHECK_EQ(opts.receive, ACCEL_RECEIVE_LANDED);
	CHECK_EQ(opts.combine_input, ACCEL_COMBINE_EXPERT);
	CHECK_EQ(opts.quant, ACCEL_QUANT_UE8M0);
	CHECK_EQ(opts.lanes, 4);
	CHECK_EQ(opts.on_timeout, ACCEL_ON_TIMEOUT_MASK);
	CHECK_EQ(opts.spin_us, UINT32_MAX);
	CHECK_EQ(opts.output_rows, 17);
	CHECK_EQ(opts.huge, ACCEL_HUGE_NEED);
	CHECK_EQ(opts.timeout_ns, 0);
	CHECK_EQ(
		ep_read("dtype=bf16,receive=in_place,combine_input=rank,quant=div,on_timeout=error,huge=never",
			&opts),
		0);
	CHECK_EQ(opts.dtype, ACCEL_DTYPE_BF16);
	CHECK_EQ(opts.receive, ACCEL_RECEIVE_IN_PLACE);
	CHECK_EQ(opts.combine_input, ACCEL_COMBINE_RANK);
	CHECK_EQ(opts.quant, ACCEL_QUANT_DIV);
	CHECK_EQ(opts.on_timeout, ACCEL_ON_TIMEOUT_ERROR);
	CHECK_EQ(opts.huge, ACCEL_HUGE_NEVER);
	CHECK_EQ(ep_read("quant=mul,huge=try", &opts), 0);
	CHECK_EQ(opts.quant, ACCEL_QUANT_MUL);
	CHECK_EQ(opts.huge, ACCEL_HUGE_TRY);
}

TEST(opts, one_string_serves_both_structs)
{
	const char *both = "name=x,lanes=3";
	struct accel_group_opts group;
	struct accel_ep_opts ep;
	char *strings = NULL;

	CHECK_EQ(group_read(both, &group, &strings), 0);
	CHECK_EQ(ep_read(both, &ep), 0);
	CHECK(!strcmp(group.name, "x"));
	CHECK_EQ(ep.lanes, 3);
	free(strings);
}

TEST(opts, the_program_comes_first)
{
	struct accel_group_opts group = {
		.size = sizeof(group), .name = "mine", .timeout_ns = 7, .master_port = 1};
	struct accel_ep_opts ep = {.size = sizeof(ep), .lanes = 1};
	char *strings = NULL;

	setenv("ACCEL_OPTS",
	       "name=theirs,timeout_ms=1,master_port=2,master_addr=a,lanes=2,dtype=fp8", 1);
	CHECK_EQ(accel_opts_from_env_group(&group, &strings), 0);
	CHECK(!strcmp(group.name, "mine"));
	CHECK_EQ(group.timeout_ns, 7);
	CHECK_EQ(group.master_port, 1);
	CHECK(!strcmp(group.master_addr, "a"));
	CHECK_EQ(accel_opts_from_env_ep(&ep), 0);
	CHECK_EQ(ep.lanes, 1);
	CHECK_EQ(ep.dtype, ACCEL_DTYPE_FP8_E4M3);
	free(strings);
}

TEST(opts, unknown_name_is_named_and_the_known_are_listed)
{
	struct accel_ep_opts opts;

	CHECK_EQ(ep_read("lanes=2,lane=2", &opts), -EINVAL);
	CHECK(strstr(error_text(), "'lane'"));
	CHECK(strstr(error_text(), " master_addr ") && strstr(error_text(), " spin_us ") &&
	      strstr(error_text(), " huge ") && strstr(error_text(), " verbs.library ") &&
	      strstr(error_text(), " output_rows"));
	CHECK_EQ(opts.lanes, 0); /* nothing is half done */
}

TEST(opts, bad_values_are_named)
{
	static const char *const bad[] = {"lanes=0",
					  "lanes=5",
					  "lanes=",
					  "lanes=two",
					  "lanes=-1",
					  "lanes=+1",
					  "lanes= 1",
					  "lanes=1 ",
					  "lanes=0x1",
					  "lanes=99999999999999999999999",
					  "master_port=65536",
					  "timeout_ms=9223372036855",
					  "timeout_ms=-5",
					  "spin_us=4294967296",
					  "dtype=fp4",
					  "dtype=",
					  "dtype=FP8",
					  "dtype=1",
					  "receive=out",
					  "combine_input=all",
					  "quant=x",
					  "on_timeout=die",
					  "huge=always",
					  "name=",
					  "master_addr=",
					  "transports=",
					  "socket_dir=",
					  "address=",
					  "verbs.devices=",
					  "verbs.gid=",
					  "verbs.rails=5",
					  "verbs.qps=9",
					  "verbs.traffic_class=256",
					  "verbs.service_level=16",
					  "verbs.mtu=4097",
					  "verbs.inline_bytes=1025",
					  "verbs.depth=32769",
					  "verbs.stripe_bytes=4294967296",
					  "verbs.ack_timeout=32",
					  "verbs.retries=8"};
	struct accel_ep_opts ep, ep_before = {.size = sizeof(ep)};
	struct accel_group_opts group;
	char *strings, name[32];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CHECK_EQ(ep_read(bad[i], &ep), -EINVAL); /* whichever struct it belongs to */
		CHECK(!memcmp(&ep, &ep_before, sizeof(ep)));
		strings = (char *)1;
		CHECK_EQ(group_read(bad[i], &group, &strings), -EINVAL);
		CHECK(strings == (char *)1);
		snprintf(name, sizeof(name), "%.*s=", (int)strcspn(bad[i], "="), bad[i]);
		CHECK(strstr(error_text(), name));
	}
	CHECK_EQ(ep_read("dtype=fp4", &ep), -EINVAL);
	CHECK(strstr(error_text(), "bf16 fp8"));
	CHECK_EQ(ep_read("lanes=9", &ep), -EINVAL);
	CHECK(strstr(error_text(), "1 to 4"));
}

TEST(opts, malformed_entries_are_refused)
{
	struct accel_group_opts opts;
	char *strings = NULL, longest[4096];

	CHECK_EQ(group_read("transports=verbs,shm", &opts, &strings), -EINVAL);
	CHECK(strstr(error_text(), "'shm'") && strstr(error_text(), "'+'"));
	CHECK_EQ(group_read("=x", &opts, &strings), -EINVAL);
	CHECK_EQ(group_read("name=a,name=b", &opts, &strings), -EINVAL);
	CHECK(strstr(error_text(), "twice"));
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	CHECK_EQ(group_read(longest, &opts, &strings), -EINVAL);
	longest[100] = '=';
	CHECK_EQ(group_read(longest, &opts, &strings), -EINVAL);
}
