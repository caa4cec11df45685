// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accel_net.h: what is refused, and what a host without an RDMA device hears. */
#include <accel/accel_net.h>

#include "libaccel/error_is.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct accel_net_port ports[4];

TEST(net, ports_get_rejects_bad_arguments)
{
	struct {
		struct accel_group_opts opts;
		uint64_t newer;
	} newer = {.opts = {.size = sizeof(newer)}, .newer = 1};
	struct accel_group_opts opts = {.size = sizeof(opts), .verbs_gid = "nowhere"};
	uint32_t count = 77;

	memset(ports, 0, sizeof(ports));
	CHECK_EQ(accel_net_ports_get(NULL, ports, 4, &count), -EINVAL); /* no size */
	CHECK_SAYS("size");
	ports[0].size = sizeof(ports[0]);
	CHECK_EQ(accel_net_ports_get(NULL, NULL, 4, &count), -EINVAL);
	CHECK_EQ(accel_net_ports_get(NULL, ports, 4, NULL), -EINVAL);
	CHECK_EQ(accel_net_ports_get(&newer.opts, ports, 4, &count), -E2BIG);
	CHECK_EQ(accel_net_ports_get(&(struct accel_group_opts){0}, ports, 4, &count), -EINVAL);
	CHECK_EQ(accel_net_ports_get(&opts, ports, 4, &count), -EINVAL);
	CHECK_SAYS("verbs.gid");
	opts = (struct accel_group_opts){.size = sizeof(opts), .verbs_library = "libnothing.so.9"};
	CHECK_EQ(accel_net_ports_get(&opts, ports, 4, &count), -ENOENT);
	CHECK_SAYS("libnothing.so.9");
	CHECK_SAYS("libibverbs1");
	opts.verbs_library = "libm.so.6";
	CHECK_EQ(accel_net_ports_get(&opts, ports, 4, &count), -ENOENT);
	CHECK_SAYS("lacks ibv_get_device_list");
	setenv("ACCEL_OPTS", "verbs.nothing=1", 1);
	CHECK_EQ(accel_net_ports_get(NULL, ports, 4, &count), -EINVAL);
	setenv("ACCEL_OPTS", "verbs.library=libother.so.9", 1);
	CHECK_EQ(accel_net_ports_get(NULL, ports, 4, &count), -ENOENT);
	CHECK_SAYS("libother.so.9");
	unsetenv("ACCEL_OPTS");
	CHECK_EQ(count, 77);
	CHECK_EQ(ports[0].port, 0);
}

TEST(net, gids_get_rejects_bad_arguments)
{
	struct accel_group_opts opts = {.size = sizeof(opts), .verbs_library = "libnothing.so.9"};
	struct accel_net_gid gids[2] = {0};
	uint32_t count = 77;

	CHECK_EQ(accel_net_gids_get(NULL, "mlx5_0", 1, gids, 2, &count), -EINVAL); /* no size */
	CHECK_SAYS("struct accel_net_gid: size is 0");
	gids[0].size = sizeof(gids[0]);
	CHECK_EQ(accel_net_gids_get(NULL, NULL, 1, gids, 2, &count), -EINVAL);
	CHECK_EQ(accel_net_gids_get(NULL, "mlx5_0", 1, NULL, 2, &count), -EINVAL);
	CHECK_EQ(accel_net_gids_get(NULL, "mlx5_0", 1, gids, 2, NULL), -EINVAL);
	CHECK_EQ(accel_net_gids_get(&opts, "mlx5_0", 1, gids, 2, &count), -ENOENT);
	CHECK_SAYS("libnothing.so.9");
	CHECK_EQ(accel_net_gids_get(NULL, "no such device", 1, gids, 2, &count), -ENODEV);
	CHECK_SAYS("no such device:1");
	CHECK_EQ(count, 77);
}

TEST(net, without_a_device_the_cure_is_told)
{
	uint32_t count = 77;

	if (!system("ls /sys/class/infiniband/* >/dev/null 2>&1"))
		SKIP("this host has an RDMA device");
	ports[0].size = sizeof(ports[0]);
	CHECK_EQ(accel_net_ports_get(NULL, ports, 4, &count), -ENODEV);
	CHECK_SAYS("rdma link add");
	CHECK_EQ(accel_net_ports_get(NULL, NULL, 0, &count), -ENODEV);
}

TEST(net, a_group_that_needed_no_nic_has_no_rails)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	uint32_t count = 77;

	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	REQUIRE_EQ(accel_group_create(dev, 0, 1, NULL, &group), 0);
	ports[0].size = sizeof(ports[0]);
	CHECK_EQ(accel_net_rails_get(group, ports, 4, &count), 0);
	CHECK_EQ(count, 0);
	CHECK_EQ(accel_net_rails_get(group, ports, 4, NULL), -EINVAL);
	CHECK_EQ(accel_net_rails_get(group, NULL, 4, &count), -EINVAL);
	CHECK_EQ(accel_net_rails_get(NULL, ports, 4, &count), -EINVAL);
	ports[0].size = 0;
	CHECK_EQ(accel_net_rails_get(group, ports, 4, &count), -EINVAL);
	accel_group_destroy(group);
	accel_device_close(dev);
}
