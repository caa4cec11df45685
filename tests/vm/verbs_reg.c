// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Devices and registrations of libaccel on a real kernel: Soft-RoCE is found and its GID chosen
 * unasked, and buffers of accel0, of the host and of a bare pointer are registered so that the NIC
 * reads and writes them. It takes no dma-bufs, so accel0's go by their mapping.
 */
#define _GNU_SOURCE
#include "device.h"
#include "libaccel/error_is.h"
#include "node.h"
#include "rxe.h"
#include "tap.h"
#include "verbs_reg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define BYTES ((size_t)2 * MIB + 4096)
#define NOBODY 65534

static const struct accel_verbs_opts on_rxe = {.devices = RXE_NAME};

static int verbs_open(const struct accel_verbs_opts *opts, struct accel_verbs **verbs)
{
	int rc = accel_verbs_open(opts, verbs);

	if (rc)
		tap_diag("%s", error_text());
	return rc;
}

TEST(verbs, the_device_and_its_ipv4_gid_are_found_unasked)
{
	struct accel_verbs *verbs = NULL;
	const struct accel_verbs_rail *rail;
	char text[ACCEL_GID_TEXT_BYTES];

	REQUIRE(rxe_up());
	CHECK(accel_verbs_is_there(NULL));
	REQUIRE_EQ(verbs_open(&on_rxe, &verbs), 0);
	rail = &verbs->rail[0];
	CHECK_EQ(verbs->rail_count, 1);
	CHECK(!strcmp(rail->port.device, RXE_NAME));
	CHECK(!strcmp(rail->port.netdev, RXE_CARD));
	CHECK(!strcmp(accel_verbs_gid_text(&rail->port.gid, text), RXE_ADDRESS));
	CHECK_EQ(rail->port.gid_type, IBV_GID_TYPE_ROCE_V2);
	CHECK(rail->port.rate_mbps > 0);
	CHECK(rail->gather_max >= 16 && rail->gather_max <= ACCEL_GATHER_MAX);
	CHECK_EQ(verbs->opts.depth, 256);
	accel_verbs_close(verbs);
	REQUIRE_EQ(verbs_open(&(struct accel_verbs_opts){0}, &verbs), 0);
	CHECK(verbs->rail[0].port.gid_index >= 0);
	accel_verbs_close(verbs);
}

TEST(verbs, an_old_library_s_types_come_from_sysfs)
{
	const struct accel_verbs_api *now;
	struct accel_verbs_api old;
	struct accel_verbs_port ports[2][ACCEL_VERBS_PORTS_MAX];
	int count[2] = {0};

	REQUIRE_EQ(accel_verbs_api_get(NULL, &now), 0);
	CHECK(now->query_gid_ex);
	old = *now;
	old.query_gid_ex = NULL;
	REQUIRE_EQ(accel_verbs_ports(now, &on_rxe, ports[0], &count[0]), 0);
	REQUIRE_EQ(accel_verbs_ports(&old, &on_rxe, ports[1], &count[1]), 0);
	REQUIRE_EQ(count[0], count[1]);
	for (int i = 0; i < count[0]; i++) {
		CHECK_EQ(ports[0][i].gid_index, ports[1][i].gid_index);
		CHECK_EQ(ports[0][i].gid_type, ports[1][i].gid_type);
	}
}

TEST(verbs, a_gid_is_named_by_its_address)
{
	struct accel_verbs_opts opts = {.devices = RXE_NAME, .gid = "10.98.0.1"};
	struct accel_verbs *verbs = NULL;
	char text[ACCEL_GID_TEXT_BYTES];

	CHECK_EQ(verbs_open(&opts, &verbs), -EINVAL);
	CHECK_SAYS(RXE_ADDRESS " (" RXE_NAME ":1, index");
	REQUIRE(!run("ip addr add 10.98.0.1/24 dev " RXE_CARD));
	CHECK_EQ(verbs_open(&opts, &verbs), 0);
	if (verbs)
		CHECK(!strcmp(accel_verbs_gid_text(&verbs->rail[0].port.gid, text), opts.gid));
	accel_verbs_close(verbs);
	CHECK(!run("ip addr del 10.98.0.1/24 dev " RXE_CARD));
}

TEST(verbs, a_port_that_is_down_says_so)
{
	struct accel_verbs *verbs = NULL;

	REQUIRE(!run("ip link set " RXE_CARD " down"));
	CHECK_EQ(verbs_open(&on_rxe, &verbs), -ENODEV);
	CHECK_SAYS("ip link set DEV up");
	REQUIRE(!run("ip link set " RXE_CARD " up"));
	CHECK_EQ(verbs_open(&on_rxe, &verbs), 0);
	accel_verbs_close(verbs);
}

TEST(verbs, a_user_who_may_not_open_it_is_told_what_to_pass)
{
	struct accel_verbs *verbs = NULL;
	const struct accel_verbs_opts opts = {0};

	REQUIRE(!run("chmod 600 /dev/infiniband/uverbs*"));
	REQUIRE(!seteuid(NOBODY));
	CHECK_EQ(verbs_open(&opts, &verbs), -ENODEV);
	CHECK(!seteuid(0));
	CHECK_SAYS("/dev/infiniband/uverbs");
	CHECK(!run("chmod 666 /dev/infiniband/uverbs*"));
}

/* ---- Registered ------------------------------------------------------------------------------ */

struct side {
	struct accel_device *dev;
	struct accel_buffer *buf;
	struct accel_region *region;
	uint8_t *addr;
};

static bool side_open(struct side *side, const char *device)
{
	bool ok = CHECK_EQ(accel_device_open(device, &side->dev), 0) &&
		  CHECK_EQ(accel_buffer_create(side->dev, BYTES, NULL, &side->buf), 0);

	if (!ok)
		return false;
	side->addr = accel_buffer_addr(side->buf);
	side->region = accel_device_region_find(side->dev, side->addr, BYTES, false);
	return CHECK(side->region);
}

static void side_close(struct side *side)
{
	accel_region_put(side->region);
	accel_buffer_destroy(side->buf);
	accel_device_close(side->dev);
}

/* What is written from one, lands in the other; and not where no peer was let in. */
static void check_write(struct accel_verbs *verbs, struct rxe *rxe, const struct side *from,
			const struct side *to)
{
	struct accel_verbs_mr *source = NULL, *inbox = NULL;

	REQUIRE_EQ(accel_verbs_use(verbs, NULL, from->region, 0, BYTES, false, &source), 0);
	REQUIRE_EQ(accel_verbs_use(verbs, NULL, to->region, 4096, BYTES - 4096, true, &inbox), 0);
	pattern_write(from->addr, BYTES, 7);
	memset(to->addr, 0, BYTES);
	CHECK_EQ(rxe_move(rxe, IBV_WR_RDMA_WRITE, from->addr, source->mr[0]->lkey, to->addr + 4096,
			  inbox->mr[0]->rkey, BYTES - 4096),
		 IBV_WC_SUCCESS);
	CHECK(pattern_holds(to->addr + 4096, BYTES - 4096, 7));
	CHECK(is_zero(to->addr, 4096));
	accel_verbs_unuse(verbs, source);
	accel_verbs_unuse(verbs, inbox);
}

/* Queues on a rail; close leaves the rail's own. */
static bool queues_open(struct rxe *rxe, const struct accel_verbs_rail *rail)
{
	*rxe = (struct rxe){.context = rail->context, .pd = rail->pd};
	return CHECK_EQ(rxe_pair(rxe), 0);
}

static void queues_close(struct rxe *rxe)
{
	rxe->context = NULL;
	rxe->pd = NULL;
	rxe_close(rxe);
}

static void check_refused(struct accel_verbs *verbs, const struct side *from, const struct side *to,
			  uint64_t offset, bool remote_write)
{
	struct accel_verbs_mr *source = NULL, *inbox = NULL;
	struct rxe rxe;

	REQUIRE(queues_open(&rxe, &verbs->rail[0]));
	REQUIRE_EQ(accel_verbs_use(verbs, NULL, from->region, 0, BYTES, false, &source), 0);
	REQUIRE_EQ(accel_verbs_use(verbs, NULL, to->region, 4096, 4096, remote_write, &inbox), 0);
	CHECK_EQ(rxe_move(&rxe, IBV_WR_RDMA_WRITE, from->addr, source->mr[0]->lkey,
			  to->addr + offset, inbox->mr[0]->rkey, 4096),
		 IBV_WC_REM_ACCESS_ERR);
	accel_verbs_unuse(verbs, source);
	accel_verbs_unuse(verbs, inbox);
	queues_close(&rxe);
}

TEST(verbs, buffers_of_accel_and_of_the_host_are_read_and_written_by_the_nic)
{
	struct side accel = {0}, host = {0}, plain = {0};
	struct accel_verbs *verbs = NULL;
	struct rxe rxe;

	REQUIRE(rxe_up());
	REQUIRE(!run("[ -e /sys/module/accel ] || modprobe accel soft=1"));
	REQUIRE_EQ(verbs_open(&on_rxe, &verbs), 0);
	plain.addr = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(plain.addr != MAP_FAILED);
	REQUIRE_EQ(accel_region_import_ptr(NULL, 1000, plain.addr, BYTES, &plain.region), 0);
	REQUIRE(queues_open(&rxe, &verbs->rail[0]));
	REQUIRE(side_open(&accel, "accel0") && side_open(&host, "host"));
	check_write(verbs, &rxe, &accel, &host);
	CHECK(verbs->rail[0].no_dmabuf); /* Soft-RoCE was asked, once */
	check_write(verbs, &rxe, &host, &accel);
	check_write(verbs, &rxe, &plain, &accel);
	check_refused(verbs, &host, &accel, 0, true);	 /* before the range */
	check_refused(verbs, &host, &accel, 8192, true); /* behind it */
	accel_verbs_forget(verbs, 0);
	check_refused(verbs, &host, &accel, 4096, false); /* for this rank's NIC alone */
	accel_verbs_forget(verbs, 0);
	CHECK(!verbs->mrs);
	queues_close(&rxe);
	side_close(&accel);
	side_close(&host);
	accel_region_put(plain.region);
	munmap(plain.addr, BYTES);
	accel_verbs_close(verbs);
}

/* As a user whom RLIMIT_MEMLOCK holds: root it does not. */
static int pin_too_much(void *arg)
{
	static uint8_t memory[1 << 20] __attribute__((aligned(4096)));
	const struct rlimit tight = {64 << 10, 64 << 10};
	struct accel_verbs *verbs = NULL;
	struct accel_region *region = NULL;
	struct accel_verbs_mr *mr = NULL;

	(void)arg;
	if (!CHECK_EQ(verbs_open(&on_rxe, &verbs), 0) ||
	    !CHECK(!setrlimit(RLIMIT_MEMLOCK, &tight) && !setuid(NOBODY)))
		return 1;
	CHECK_EQ(accel_region_import_ptr(NULL, 1, memory, sizeof(memory), &region), 0);
	CHECK_EQ(accel_verbs_use(verbs, NULL, region, 0, 4096, false, &mr), 0);
	accel_verbs_unuse(verbs, mr);
	CHECK_EQ(accel_verbs_use(verbs, NULL, region, 0, sizeof(memory), false, &mr), -ENOMEM);
	CHECK_SAYS("cannot pin 1048576 bytes beside 4096");
	CHECK_SAYS("RLIMIT_MEMLOCK is 65536");
	accel_verbs_forget(verbs, 0);
	accel_region_put(region);
	accel_verbs_close(verbs);
	return tap_failing();
}

TEST(verbs, the_limit_of_pinned_memory_is_named)
{
	pid_t child;

	REQUIRE(rxe_up());
	child = child_start(pin_too_much, NULL);
	REQUIRE(child > 0);
	CHECK_EQ(child_wait(child), 0);
}
