// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Groups whose ranks have no Unix socket in common: on one host, each told that the others are on
 * another, or each in a network namespace of its own with a wire to each other one. That they have an
 * RDMA device is what they are told, too: no group loads it before a context needs it.
 */
#define _GNU_SOURCE
#include "group.h"

#include "error_is.h"
#include "leaks.h"
#include "pair_net.h"
#include "ranks.h"
#include "tap.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WORLD = 3,
	MESSAGE = 100, /* a type of no one else's */
	STRANGERS = 100,
};

enum event { ALONE, WIRED, MADE, GONE, DONE };

#define SECOND_NS INT64_C(1000000000)

/* A rank, and the allgather that it believes. */
struct member {
	struct ranks_ctx *ctx;
	int rank;
	struct accel_group_opts opts; /* the ranks' own way to meet is in inner */
	struct accel_group_opts inner;
	void (*believe)(struct member *m, struct accel_member *members);
	int stranger[STRANGERS];
	struct accel_device *dev;
	struct accel_group *group;
};

static int allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	struct member *m = arg;
	int rc = m->inner.allgather(m->inner.allgather_arg, mine, all, bytes);

	if (!rc && m->believe)
		m->believe(m, all);
	return rc;
}

/* What struct member says before this is what the group gets. */
static int create(struct member *m, struct ranks_ctx *ctx, int rank)
{
	struct accel_error error = {.size = sizeof(error)};
	int rc;

	m->ctx = ctx;
	m->rank = rank;
	ranks_group_opts(ctx, rank, 0, &m->inner);
	m->opts.size = sizeof(m->opts);
	m->opts.join = m->inner.join;
	m->opts.allgather = allgather;
	m->opts.allgather_arg = m;
	m->opts.verbs_library = "/nowhere/libverbs.so";
	if (!m->opts.timeout_ns)
		m->opts.timeout_ns = m->inner.timeout_ns;
	if (!CHECK_EQ(accel_device_open("host", &m->dev), 0))
		return -EIO;
	rc = accel_group_create(m->dev, rank, ctx->world, &m->opts, &m->group);
	if (rc) {
		accel_error_get(NULL, &error);
		tap_diag("rank %d: %d: %s", rank, rc, error.text);
	}
	return rc;
}

static void destroy(struct member *m)
{
	accel_group_destroy(m->group);
	accel_device_close(m->dev);
}

/* All others are on other hosts; or those of another parity. */
static void all_elsewhere(struct member *m, struct accel_member *members)
{
	for (int r = 0; r < m->ctx->world; r++)
		if (r != m->rank)
			snprintf(members[r].boot_id, sizeof(members[r].boot_id), "host %d", r);
}

static void some_elsewhere(struct member *m, struct accel_member *members)
{
	for (int r = 0; r < m->ctx->world; r++)
		if (r % 2 != m->rank % 2)
			snprintf(members[r].boot_id, sizeof(members[r].boot_id), "elsewhere");
}

static bool talk(struct member *m, uint64_t tag)
{
	static uint8_t mine[ACCEL_MESSAGE_BYTES_MAX], all[RANKS_MAX][ACCEL_MESSAGE_BYTES_MAX];
	bool ok;

	memset(mine, m->rank + 1, sizeof(mine));
	ok = CHECK_EQ(accel_group_exchange(m->group, &m->group->obj, MESSAGE, tag, mine,
					   sizeof(mine), all, -1),
		      0);
	for (int r = 0; ok && r < m->ctx->world; r++)
		ok = CHECK(all[r][0] == r + 1 && all[r][sizeof(mine) - 1] == r + 1);
	return ok;
}

static bool is_over(const struct member *m, const char *transport, uint32_t host_rank,
		    uint32_t host_ranks)
{
	struct accel_group_info info = {.size = sizeof(info)};
	uint32_t near = strstr(transport, "shm") ? host_ranks : 1;

	return CHECK_EQ(accel_group_info_get(m->group, &info), 0) &&
	       tap_check(!strcmp(info.transport, transport), __FILE__, __LINE__,
			 "transport \"%s\", not \"%s\"", info.transport, transport) &&
	       CHECK_EQ(info.remote_ranks, (uint32_t)info.world - near) &&
	       CHECK_EQ(m->group->host_rank, host_rank) &&
	       CHECK_EQ(m->group->host_ranks, host_ranks);
}

static bool uses_tcp(const struct member *m, int peer)
{
	int domain = -1;
	socklen_t len = sizeof(domain);

	getsockopt(accel_channel_fd(m->group->channel[peer]), SOL_SOCKET, SO_DOMAIN, &domain, &len);
	return domain == AF_INET || domain == AF_INET6;
}

static void run(int world, void (*body)(struct ranks_ctx *ctx, int rank), uint64_t dies)
{
	struct ranks_opts opts = {.world = world, .dies = dies};

	ranks_run(&opts, body);
}

/* ---- Hosts that are believed ----------------------------------------------------------------- */

static void far_apart(struct ranks_ctx *ctx, int rank)
{
	const struct leaks held = leaks_count();
	struct member m = {.believe = all_elsewhere};

	if (CHECK_EQ(create(&m, ctx, rank), 0)) {
		is_over(&m, "verbs", 0, 1);
		for (int r = 0; r < ctx->world; r++)
			CHECK(r == rank ? m.group->link[r] == ACCEL_LINK_SELF
					: m.group->link[r] == ACCEL_LINK_VERBS && uses_tcp(&m, r));
		CHECK(!m.group->oversubscribed);
		for (uint64_t tag = 0; tag < 3; tag++)
			talk(&m, tag);
	}
	destroy(&m);
	CHECK_NO_LEAKS(held);
}

TEST_OF_PROCESSES(net_group, meets_over_tcp)
{
	run(2, far_apart, 0);
	run(8, far_apart, 0);
}

static void on_two_hosts(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.believe = some_elsewhere};

	if (CHECK_EQ(create(&m, ctx, rank), 0)) {
		is_over(&m, "shm,verbs", (uint32_t)rank / 2, rank % 2 ? 2 : 3);
		for (int r = 0; r < ctx->world; r++)
			if (r != rank)
				CHECK(uses_tcp(&m, r) == (r % 2 != rank % 2) &&
				      uses_tcp(&m, r) == (m.group->link[r] == ACCEL_LINK_VERBS));
		talk(&m, 1);
	}
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, of_two_hosts_takes_each_pairs_own_way)
{
	run(5, on_two_hosts, 0);
}

/* Rank 0's order decides, and a common Unix socket serves a pair that takes verbs. */
static void ordered(struct ranks_ctx *ctx, int rank)
{
	static const char *const transports[] = {"verbs,shm", "shm,verbs", "shm"};
	struct member m = {.opts.transports = transports[rank]};

	if (CHECK_EQ(create(&m, ctx, rank), 0)) {
		if (rank < 2)
			CHECK_EQ(m.group->link[1 - rank], ACCEL_LINK_VERBS);
		CHECK_EQ(m.group->link[rank == 2 ? 0 : 2], ACCEL_LINK_SHM);
		for (int r = 0; r < WORLD; r++)
			CHECK(r == rank || !uses_tcp(&m, r));
		talk(&m, 1);
	}
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, takes_the_order_of_the_lower_rank)
{
	run(WORLD, ordered, 0);
}

/* Both ranks of a hopeless pair say the same of it, and what would help. */
static const struct hopeless {
	const char *transports[2];
	bool far, no_device;
	const char *text[2];
} hopeless[] = {
	{{"shm", "shm,verbs"}, true, false, {"on another host", "transports of rank 0"}},
	{{"verbs", "shm"},
	 false,
	 false,
	 {"shm: it is not in the transports of rank 0", "of rank 1"}},
	{{NULL, NULL}, true, true, {"on another host", "rank 1 on \"there\" has no RDMA device"}},
};

static void lacks_a_device(struct member *m, struct accel_member *members)
{
	all_elsewhere(m, members);
	if (m->rank == 1)
		return;
	members[1].has_rdma = 0;
	snprintf(members[1].host, sizeof(members[1].host), "there");
}

static void without_hope(struct ranks_ctx *ctx, int rank)
{
	const struct hopeless *h = ctx->arg;
	struct member m = {.opts.transports = h->transports[rank],
			   .opts.timeout_ns = SECOND_NS / 2,
			   .believe = h->no_device ? lacks_a_device
				      : h->far	   ? all_elsewhere
						   : NULL};
	int rc = create(&m, ctx, rank);

	if (h->no_device && rank == 1) { /* it believes that it has one */
		CHECK_EQ(rc, -ECONNRESET);
	} else {
		CHECK_EQ(rc, -EHOSTUNREACH);
		for (int i = 0; i < 2; i++)
			error_is(NULL, -EHOSTUNREACH, 1 - rank, h->text[i]);
	}
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, says_of_each_transport_why_it_does_not_reach)
{
	for (size_t i = 0; i < sizeof(hopeless) / sizeof(*hopeless); i++) {
		struct ranks_opts opts = {.world = 2, .arg = (void *)&hopeless[i]};

		ranks_run(&opts, without_hope);
	}
}

/* ---- Strangers and lies ---------------------------------------------------------------------- */

/* Rank 2 has another cookie of rank 0 than rank 0 has. */
static void with_a_wrong_cookie(struct member *m, struct accel_member *members)
{
	all_elsewhere(m, members);
	if (m->rank == 2)
		members[0].cookie[3] ^= 1;
}

static void turned_away(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.believe = with_a_wrong_cookie, .opts.timeout_ns = 3 * SECOND_NS};
	int rc = create(&m, ctx, rank);

	if (rank == 0 && CHECK_EQ(rc, -ETIMEDOUT))
		error_is(NULL, -ETIMEDOUT, 2, "rank 2 met at the rendezvous but did not connect");
	if (rank == 1)
		CHECK_EQ(rc, 0);
	if (rank == 2 && CHECK_EQ(rc, -ECONNRESET))
		error_is(NULL, -ECONNRESET, 0, "no longer listens");
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, turns_away_who_does_not_know_the_cookie)
{
	run(WORLD, turned_away, 0);
}

/* Connections to its own listener that say nothing, half a hello, nonsense, or end, before peers come. */
static void among_strangers(struct member *m, struct accel_member *members)
{
	const struct accel_member *mine = &members[m->rank];
	uint8_t noise[100] = {0x41, 0x43, 0x43, 0x4c, 1};
	struct sockaddr_storage address;
	socklen_t len;

	all_elsewhere(m, members);
	len = accel_pair_net_sockaddr(mine->address[0], mine->port, 0, &address);
	for (int i = 0; i < STRANGERS; i++) {
		m->stranger[i] = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CHECK(!connect(m->stranger[i], (struct sockaddr *)&address, len));
		if (i % 4 == 1)
			send(m->stranger[i], noise, sizeof(noise), MSG_NOSIGNAL);
		if (i % 4 == 2)
			send(m->stranger[i], noise, 30, MSG_NOSIGNAL);
		if (i % 4 == 3)
			shutdown(m->stranger[i], SHUT_WR);
	}
}

static void disturbed(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.believe = among_strangers};

	if (CHECK_EQ(create(&m, ctx, rank), 0))
		talk(&m, 1);
	for (int i = 0; i < STRANGERS; i++)
		close(m.stranger[i]);
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, is_not_disturbed_by_strangers)
{
	run(WORLD, disturbed, 0);
}

/* Of rank 0's port rank 1 knows another, where nobody listens. */
static void with_a_closed_port(struct member *m, struct accel_member *members)
{
	all_elsewhere(m, members);
	if (m->rank == 1)
		members[0].port = 1;
}

static void refused(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.believe = with_a_closed_port, .opts.timeout_ns = 3 * SECOND_NS};

	CHECK_EQ(create(&m, ctx, rank), rank ? -ECONNRESET : -ETIMEDOUT);
	error_is(NULL, rank ? -ECONNRESET : -ETIMEDOUT, 1 - rank,
		 rank ? "Connection refused" : " port ");
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, says_soon_that_a_rank_no_longer_listens)
{
	run(2, refused, 0);
}

/* ---- Addresses ------------------------------------------------------------------------------- */

static void with_address(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.believe = all_elsewhere, .opts.address = ctx->arg};

	if (CHECK_EQ(create(&m, ctx, rank), 0)) {
		struct sockaddr_storage address;
		socklen_t len = sizeof(address);
		char text[INET6_ADDRSTRLEN] = "";

		getpeername(accel_channel_fd(m.group->channel[1 - rank]),
			    (struct sockaddr *)&address, &len);
		if (address.ss_family == AF_INET)
			inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, text,
				  sizeof(text));
		CHECK(rank == 0 || !strcmp(text, "127.0.0.1")); /* its own end may be mapped */
		talk(&m, 1);
	}
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, uses_the_address_or_interface_that_it_is_told)
{
	static const char *const addresses[] = {"127.0.0.1", "lo"};

	for (int i = 0; i < 2; i++) {
		struct ranks_opts opts = {.world = 2, .arg = (void *)addresses[i]};

		ranks_run(&opts, with_address);
	}
}

TEST(net_group, refuses_an_address_that_is_not_this_hosts)
{
	static const char *const bad[] = {"192.0.2.1", "2001:db8::1", "nowhere0", "127.0.0.256"};
	struct accel_group *group;
	struct accel_device *dev;

	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	for (int i = 0; i < 4; i++) {
		struct accel_group_opts opts = {
			.size = sizeof(opts), .address = bad[i], .verbs_library = "/x"};

		CHECK_EQ(accel_group_create(dev, 0, 2, &opts, &group), -EINVAL);
		error_is(NULL, -EINVAL, -1, "127.0.0.1 (lo)");
	}
	accel_device_close(dev);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static int64_t await_end(struct accel_channel *ch)
{
	const uint64_t since_ns = ranks_now_ns();

	while (!accel_channel_drain(ch) && ranks_now_ns() - since_ns < 30 * SECOND_NS) {
		struct pollfd pfd = {.fd = accel_channel_fd(ch), .events = POLLIN};

		poll(&pfd, 1, 1000);
	}
	CHECK_EQ(accel_channel_drain(ch), -ECONNRESET);
	return (int64_t)(ranks_now_ns() - since_ns);
}

static void one_is_killed(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.believe = all_elsewhere};

	if (!CHECK_EQ(create(&m, ctx, rank), 0))
		return;
	talk(&m, 1);
	ranks_meet(ctx, MADE, 1, ctx->world);
	if (rank == 1)
		raise(SIGKILL);
	CHECK(await_end(m.group->channel[1]) < 5 * SECOND_NS);
	CHECK_EQ(accel_channel_drain(m.group->channel[rank ? 0 : 2]), 0);
	ranks_meet(ctx, DONE, 1, ctx->world - 1);
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, hears_at_once_of_a_rank_that_is_killed)
{
	run(WORLD, one_is_killed, 1u << 1);
}

/* The old ends know nothing; the new life is reached as the old one was, or is not let in. */
static void one_comes_back(struct ranks_ctx *ctx, int rank)
{
	const uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << 1};
	const bool nearer = ctx->arg;
	struct member m = {.believe = nearer && ctx->life ? NULL : all_elsewhere,
			   .opts.timeout_ns = 4 * SECOND_NS};
	int rc = create(&m, ctx, rank);

	if (ctx->life && nearer) {
		CHECK(rc < 0);
		destroy(&m);
		return;
	}
	if (!CHECK_EQ(rc, 0))
		return;
	if (!ctx->life) {
		talk(&m, 1);
		ranks_meet(ctx, MADE, 1, ctx->world);
		if (rank == 1)
			raise(SIGKILL);
		m.believe = nearer ? NULL : all_elsewhere;
		if (!rank)
			ranks_restart(ctx, 1, false);
		rc = accel_group_join(m.group, joining, NULL, -1);
		CHECK_EQ(rc, nearer ? -EHOSTUNREACH : 0);
		ranks_meet(ctx, DONE, 1, ctx->world - 1);
	}
	if (!nearer) {
		is_over(&m, "verbs", 0, 1);
		CHECK(uses_tcp(&m, (rank + 1) % WORLD));
		talk(&m, 2);
	}
	destroy(&m);
}

TEST_OF_PROCESSES(net_group, lets_a_killed_rank_come_back)
{
	run(WORLD, one_comes_back, 1u << 1);
}

TEST_OF_PROCESSES(net_group, does_not_let_one_in_that_another_transport_reaches_now)
{
	struct ranks_opts opts = {.world = WORLD, .dies = 1u << 1, .arg = (void *)1};

	ranks_run(&opts, one_comes_back);
}

/* ---- Network namespaces ---------------------------------------------------------------------- */

static bool can_have_networks(void)
{
	return !geteuid() &&
	       !system("unshare --net sh -c 'ip link add one type veth peer name two && "
		       "nsenter -t $$ -n true' 2>/dev/null");
}

#define NEEDS_NETWORKS()                                                                           \
	do {                                                                                       \
		if (!can_have_networks())                                                          \
			SKIP("needs root, network namespaces, veth, ip (iproute2) and nsenter");   \
	} while (0)

/* Shell in the network of a rank. */
static bool in_network(struct ranks_ctx *ctx, int rank, const char *command)
{
	char text[512];

	snprintf(text, sizeof(text), "nsenter -t %d -n sh -c '%s'", (int)ranks_pid(ctx, rank),
		 command);
	return tap_check(!system(text), __FILE__, __LINE__, "failed: %s", text);
}

/* From rank a, as to_B, to rank b, as to_A. */
static bool wire(struct ranks_ctx *ctx, int a, int b)
{
	char text[256];
	bool ok;

	snprintf(text, sizeof(text),
		 "ip link del to_%d 2>/dev/null; " /* of a life before */
		 "ip link add to_%d type veth peer name to_%d netns %d && ip link set to_%d up && "
		 "ip addr add 10.9.%d%d.1/24 dev to_%d",
		 b, b, a, (int)ranks_pid(ctx, b), b, a, b, b);
	ok = in_network(ctx, a, text);
	snprintf(text, sizeof(text), "ip link set to_%d up && ip addr add 10.9.%d%d.2/24 dev to_%d",
		 a, a, b, a);
	return ok && in_network(ctx, b, text);
}

/*
 * Into a network of this rank's own, where the first address leads nowhere: others have a route to it
 * that ends in silence.
 */
static bool leave_network(struct ranks_ctx *ctx, int rank)
{
	char text[256];

	if (!CHECK(!unshare(CLONE_NEWNET)))
		return false;
	snprintf(text, sizeof(text),
		 "ip link set lo up && ip link add first type veth peer name mute && "
		 "ip link set first up && ip link set mute up && "
		 "ip addr add 10.8.0.%d/24 dev first",
		 rank + 1);
	return in_network(ctx, rank, text);
}

static bool wire_all(struct ranks_ctx *ctx, int rank)
{
	bool ok = leave_network(ctx, rank) && ranks_meet(ctx, ALONE, 1, ctx->world);

	for (int a = 0; ok && !rank && a < ctx->world; a++)
		for (int b = a + 1; ok && b < ctx->world; b++)
			ok = wire(ctx, a, b);
	return ranks_meet(ctx, WIRED, 1, ctx->world) && ok;
}

static void in_networks(struct ranks_ctx *ctx, int rank)
{
	const uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << 1};
	struct member m = {.opts.transports = "verbs"};
	bool ok;

	if (!ctx->life)
		ok = wire_all(ctx, rank);
	else
		ok = leave_network(ctx, rank) && wire(ctx, 0, 1) && wire(ctx, 2, 1);
	if (!ok || !CHECK_EQ(create(&m, ctx, rank), 0))
		return;
	is_over(&m, "verbs", (uint32_t)rank, WORLD); /* of one kernel */
	if (!ctx->life) {
		talk(&m, 1);
		ranks_meet(ctx, MADE, 1, ctx->world);
		if (rank == 1)
			raise(SIGKILL);
		CHECK(await_end(m.group->channel[1]) < 5 * SECOND_NS);
		ranks_meet(ctx, GONE, 1, 2);
		if (!rank)
			ranks_restart(ctx, 1, false);
		CHECK_EQ(accel_group_join(m.group, joining, NULL, -1), 0);
	}
	talk(&m, 2);
	destroy(&m);
}

TEST_OF_PROCESSES(networks, with_wires_between_them_and_a_rank_that_is_killed_and_comes_back)
{
	NEEDS_NETWORKS();
	run(WORLD, in_networks, 1u << 1);
}

/* With a wire that nobody answers at first, and none at all. */
static void without_a_way(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.opts.transports = "verbs", .opts.timeout_ns = 5 * SECOND_NS};

	if (!leave_network(ctx, rank) || !ranks_meet(ctx, ALONE, 1, ctx->world))
		return;
	CHECK_EQ(create(&m, ctx, rank), rank ? -EHOSTUNREACH : -ETIMEDOUT);
	error_is(NULL, rank ? -EHOSTUNREACH : -ETIMEDOUT, 1 - rank, "10.8.0.1");
	if (rank)
		error_is(NULL, -EHOSTUNREACH, 0, "set address on rank 0");
	destroy(&m);
}

TEST_OF_PROCESSES(networks, without_a_wire_name_the_addresses_that_were_tried)
{
	NEEDS_NETWORKS();
	run(2, without_a_way, 0);
}

/* The wire is cut: nothing comes any more, not even an end. */
static void cut_off(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.opts.transports = "verbs"};
	int64_t took_ns;

	if (!wire_all(ctx, rank) || !CHECK_EQ(create(&m, ctx, rank), 0))
		return;
	talk(&m, 1);
	ranks_meet(ctx, MADE, 1, ctx->world);
	if (!rank)
		in_network(ctx, 0, "ip addr flush dev to_1 && ip link set to_1 down");
	ranks_meet(ctx, GONE, 1, ctx->world);
	if (!rank) /* with bytes on their way, and without */
		CHECK_EQ(accel_channel_send(m.group->channel[1], MESSAGE, 7, NULL, 0, 0), 0);
	took_ns = await_end(m.group->channel[1 - rank]);
	tap_diag("rank %d: %lld ms", rank, (long long)(took_ns / 1000000));
	CHECK(took_ns < 13 * SECOND_NS);
	destroy(&m);
}

TEST_OF_PROCESSES(networks, that_fall_apart_are_noticed_in_about_ten_seconds)
{
	NEEDS_NETWORKS();
	run(2, cut_off, 0);
}
