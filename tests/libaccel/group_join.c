// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ranks that come back into a group: killed ones as new processes, forgotten ones as new threads, by
 * store and by allgather; and what everybody reads when a rank does not come, dies on the way or was
 * told something else than the others.
 */
#include "group.h"

#include "error_is.h"
#include "leaks.h"
#include "pair.h"
#include "ranks.h"
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	WORLD = 4,
	MESSAGE = 100, /* a type of no one else's */
	JOINS = 20,
};

enum event { MADE, FAILED, AGAIN, DONE };

#define SECOND_NS INT64_C(1000000000)

struct plan {
	uint32_t joining, absent; /* bit r: rank r */
	bool late;		  /* those that were absent join afterwards */
};

struct member {
	struct ranks_ctx *ctx;
	int rank;
	struct accel_device *dev;
	struct accel_group *group;
};

static bool member_open(struct member *m, struct ranks_ctx *ctx, int rank)
{
	*m = (struct member){.ctx = ctx, .rank = rank};
	return CHECK_EQ(ranks_group_create(ctx, rank, 0, &m->dev, &m->group), 0);
}

static void member_close(struct member *m)
{
	accel_group_destroy(m->group);
	accel_device_close(m->dev);
}

/* These ranks hear each other, over whatever channels they have. */
static bool talk(struct member *m, uint32_t present, uint64_t tag)
{
	uint64_t with[ACCEL_RANKS_MAX / 64] = {present & ~(1u << m->rank)};
	uint32_t all[WORLD], mine = 1000 + (uint32_t)m->rank;
	struct accel_exchange what = {.with = with,
				      .obj = &m->group->obj,
				      .type = MESSAGE,
				      .tag = tag,
				      .mine = &mine,
				      .bytes = sizeof(mine),
				      .all = all,
				      .timeout_ns = -1};
	bool ok = CHECK_EQ(accel_exchange(m->group, &what), 0);

	for (int r = 0; ok && r < m->group->world; r++)
		if (present >> r & 1)
			ok = CHECK_EQ(all[r], 1000 + r);
	return ok;
}

static int join(struct member *m, uint32_t joining, uint32_t absent, int64_t timeout_ns)
{
	const uint64_t joins[ACCEL_RANKS_MAX / 64] = {joining},
					       away[ACCEL_RANKS_MAX / 64] = {absent};

	return accel_group_join(m->group, joins, absent ? away : NULL, timeout_ns);
}

/* ---- killed, and started again ---- */

static void killed(struct ranks_ctx *ctx, int rank)
{
	const struct plan *plan = ctx->arg;
	const uint32_t all = (1u << ctx->world) - 1, gone = plan->joining | plan->absent;
	const struct leaks held = leaks_count();
	struct member m;
	bool ok = true;

	if (!ctx->life || gone >> rank & 1)
		ok = member_open(&m, ctx, rank);
	if (!ctx->life) {
		ok = ok && talk(&m, all, 1);
		ranks_meet(ctx, MADE, 1, ctx->world);
		if (gone >> rank & 1)
			raise(SIGKILL);
		for (int r = 0; r < ctx->world && rank == __builtin_ctz(~gone); r++)
			if (plan->joining >> r & 1)
				ranks_restart(ctx, r, false);
		ranks_meet_as(ctx, 0, all & ~plan->absent);
		ok = ok && CHECK_EQ(join(&m, plan->joining, plan->absent, -1), 0);
	}
	if (!(plan->absent >> rank & 1)) {
		ok = ok && talk(&m, all & ~plan->absent, 2);
		ranks_meet(ctx, AGAIN, 1, ctx->world - __builtin_popcount(plan->absent));
		for (int r = 0; plan->late && r < ctx->world && rank == __builtin_ctz(~gone); r++)
			if (plan->absent >> r & 1)
				ranks_restart(ctx, r, false);
		ranks_meet_as(ctx, 0, all);
		ok = ok && (!plan->late || CHECK_EQ(join(&m, plan->absent, 0, -1), 0));
	}
	if (plan->late && ok)
		talk(&m, all, 3);
	member_close(&m);
	CHECK_NO_LEAKS(held);
}

static void run_killed(bool store, uint32_t joining, uint32_t absent)
{
	struct plan plan = {joining, absent, absent != 0};
	struct ranks_opts opts = {
		.world = WORLD, .store = store, .arg = &plan, .dies = joining | absent};

	ranks_run(&opts, killed);
	if (tap_failing())
		tap_diag("by %s, ranks %#x came back, and %#x later", store ? "store" : "allgather",
			 joining, absent);
}

TEST_OF_PROCESSES(killed_rank, comes_back_by_store)
{
	run_killed(true, 1u << 2, 0);
	run_killed(true, 1u << 0, 0);
}

TEST_OF_PROCESSES(killed_rank, comes_back_by_allgather)
{
	run_killed(false, 1u << 3, 0);
	run_killed(false, 1u << 0, 1u << 2);
}

TEST_OF_PROCESSES(killed_ranks, come_back_at_once)
{
	run_killed(true, 1u << 1 | 1u << 2, 0);
	run_killed(true, 1u << 0 | 1u << 1 | 1u << 3, 0);
}

TEST_OF_PROCESSES(killed_rank, comes_back_while_another_stays_away_and_that_one_later)
{
	run_killed(true, 1u << 2, 1u << 1);
	run_killed(true, 1u << 3, 1u << 0);
}

/* The last of three dies again and again; the others hold no more at the end than at first. */
static void again_and_again(struct ranks_ctx *ctx, int rank)
{
	const int victim = ctx->world - 1;
	struct leaks held;
	struct member m;
	bool ok = member_open(&m, ctx, rank);

	if (ok && rank == victim && talk(&m, (1u << ctx->world) - 1, (uint64_t)ctx->life)) {
		if (ctx->life < JOINS)
			raise(SIGKILL);
		member_close(&m);
		return;
	}
	ok = ok && talk(&m, (1u << ctx->world) - 1, 0);
	for (int i = 1; i <= JOINS && ok; i++) {
		if (i == 2)
			held = leaks_count();
		if (!rank)
			ranks_restart(ctx, victim, i < JOINS);
		ok = CHECK_EQ(join(&m, 1u << victim, 0, -1), 0) &&
		     talk(&m, (1u << ctx->world) - 1, (uint64_t)i);
	}
	if (ok)
		CHECK_NO_LEAKS(held);
	member_close(&m);
}

TEST_OF_PROCESSES(killed_rank, comes_back_again_and_again)
{
	struct ranks_opts opts = {.world = 3, .store = true, .dies = 1u << 2};

	ranks_run(&opts, again_and_again);
}

/* ---- ranks of one process ---- */

/* The first life of rank 1 stays, and hears nothing of it. */
static void forgotten(struct ranks_ctx *ctx, int rank)
{
	const uint32_t all = (1u << ctx->world) - 1;
	struct member m;
	bool ok = member_open(&m, ctx, rank);

	if (!ctx->life) {
		ok = ok && talk(&m, all, 1);
		ranks_meet(ctx, MADE, 1, ctx->world);
	}
	if (!ctx->life && rank == 1) {
		ranks_await(ctx, DONE, (uint32_t)ctx->world);
		CHECK_EQ(accel_channel_drain(m.group->channel[0]), -ECONNRESET);
	} else {
		if (!ctx->life && !rank)
			ranks_restart(ctx, 1, false);
		ok = ok && (ctx->life || CHECK_EQ(join(&m, 1u << 1, 0, -1), 0)) && talk(&m, all, 2);
		ranks_meet(ctx, DONE, 1, ctx->world);
	}
	member_close(&m);
}

TEST(forgotten_rank, comes_back_as_another_thread)
{
	const struct leaks held = leaks_count();

	for (int store = 0; store < 2; store++) {
		struct ranks_opts opts = {.world = 3, .threads = true, .store = store};

		ranks_run(&opts, forgotten);
	}
	CHECK_NO_LEAKS(held);
}

/* ---- ranks that do not come, or were told something else ---- */

/* Rank 2 is to join and never comes, or rank 1 is to let it and never does. */
static void missing(struct ranks_ctx *ctx, int rank)
{
	const int absentee = *(const int *)ctx->arg;
	struct accel_group *group;
	struct accel_device *dev;
	struct member m;

	if (ctx->life) {
		CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), -ETIMEDOUT);
		error_is(NULL, -ETIMEDOUT, absentee, "rank 1 of group");
		ranks_meet(ctx, DONE, 1, ctx->world + (absentee == 1));
		return;
	}
	if (!member_open(&m, ctx, rank))
		return;
	if (!rank && absentee == 1)
		ranks_restart(ctx, 2, false);
	if (rank != absentee && rank != 2) {
		CHECK_EQ(join(&m, 1u << 2, 0, SECOND_NS), -ETIMEDOUT);
		error_is(m.group, -ETIMEDOUT, absentee,
			 absentee == 1 ? "rank 1 of group" : "rank 2 of group");
	}
	ranks_meet(ctx, DONE, 1, ctx->world + (absentee == 1));
	talk(&m, (1u << ctx->world) - 1, 7); /* the old channels are as they were */
	member_close(&m);
}

TEST(rank, that_does_not_come_is_named_and_nothing_has_changed)
{
	for (int absentee = 1; absentee < 3; absentee++) {
		struct ranks_opts opts = {
			.world = 3, .threads = true, .store = true, .arg = &absentee};

		ranks_run(&opts, missing);
	}
}

/* What each rank passes; expected: the code, or 0 for any error. */
struct told {
	uint32_t joining[WORLD], absent[WORLD];
	int expected[WORLD], about[WORLD];
	const char *text[WORLD];
	bool restarts; /* rank 3 */
};

static void told_otherwise(struct ranks_ctx *ctx, int rank)
{
	const struct told *told = ctx->arg;
	const int members = ctx->world + told->restarts;
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct member m;
	int rc;

	if (ctx->life) {
		CHECK(ranks_group_create(ctx, rank, 0, &dev, &group) < 0);
		ranks_meet(ctx, DONE, 1, members);
		return;
	}
	if (!member_open(&m, ctx, rank))
		return;
	if (!rank && told->restarts)
		ranks_restart(ctx, WORLD - 1, false);
	if (told->joining[rank]) {
		rc = join(&m, told->joining[rank], told->absent[rank], SECOND_NS);
		CHECK(rc < 0);
		if (told->expected[rank] && CHECK_EQ(rc, told->expected[rank]))
			error_is(m.group, rc, told->about[rank], told->text[rank]);
	}
	ranks_meet(ctx, DONE, 1, members);
	talk(&m, (1u << ctx->world) - 1, 7);
	member_close(&m);
}

static void run_told(struct told told)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true, .store = true, .arg = &told};

	ranks_run(&opts, told_otherwise);
}

TEST(ranks, that_were_told_otherwise_say_so)
{
	/* Rank 1 thinks that 2 is there, whom rank 0, the host, counts as absent. */
	run_told((struct told){.joining = {8, 8},
			       .absent = {4, 0},
			       .expected = {0, -EPROTO},
			       .about = {0, 2},
			       .text = {NULL, "rank 2 takes no part"},
			       .restarts = true});
	/* Rank 3 lets itself be counted among those that go on. */
	run_told((struct told){.joining = {8, 8, 8, 1},
			       .expected = {0, -EPROTO, 0, 0},
			       .about = {0, 3},
			       .text = {NULL, "it must set join"}});
}

TEST(group_join, refuses_bad_arguments)
{
	uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << 1};
	struct accel_group_opts opts = {.size = sizeof(opts), .join = 1};
	struct accel_group *group = NULL;
	struct accel_device *dev;

	CHECK_EQ(accel_group_join(NULL, joining, NULL, -1), -EINVAL);
	error_is(NULL, -EINVAL, -1, "group is NULL");
	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	CHECK_EQ(accel_group_create(dev, 0, 1, &opts, &group), -EINVAL);
	error_is(NULL, -EINVAL, -1, "world of one");
	REQUIRE_EQ(accel_group_create(dev, 0, 1, NULL, &group), 0);
	CHECK_EQ(accel_group_join(group, NULL, NULL, -1), -EINVAL);
	error_is(group, -EINVAL, -1, "no rank is said to join");
	CHECK_EQ(accel_group_join(group, joining, NULL, 0), -EINVAL);
	error_is(group, -EINVAL, -1, "0 ns");
	CHECK_EQ(accel_group_join(group, joining, NULL, -1), -EINVAL);
	error_is(group, -EINVAL, 1, "no rank 1");
	joining[0] = 1;
	CHECK_EQ(accel_group_join(group, joining, NULL, -1), -EINVAL);
	error_is(group, -EINVAL, 0, "is this one");
	accel_group_destroy(group);
	group = NULL;
	accel_device_close(dev);
}

/* Both at once, of a rank that is there. */
static void both(struct ranks_ctx *ctx, int rank)
{
	struct member m;

	if (member_open(&m, ctx, rank)) {
		CHECK_EQ(join(&m, 1u << (1 - rank), 1u << (1 - rank), -1), -EINVAL);
		error_is(m.group, -EINVAL, 1 - rank, "cannot both");
		talk(&m, 3, 1);
	}
	member_close(&m);
}

TEST(group_join, refuses_a_rank_that_joins_and_is_absent)
{
	struct ranks_opts opts = {.world = 2, .threads = true};

	ranks_run(&opts, both);
}

/* ---- meetings that fail on the way ---- */

/* This process's allgather: the ranks' own, and in one call something happens after it. */
static struct {
	int (*inner)(void *arg, const void *mine, void *all, size_t bytes);
	int calls, fails_at, code; /* code 0: the process dies */
	bool elsewhere;		   /* instead: rank 1's host is another */
} detour;

static int take_detour(void *arg, const void *mine, void *all, size_t bytes)
{
	int rc = detour.inner(arg, mine, all, bytes);

	if (rc || ++detour.calls != detour.fails_at)
		return rc;
	if (detour.elsewhere)
		memcpy(((struct accel_member *)all)[1].boot_id, "elsewhere", 10);
	else if (!detour.code)
		raise(SIGKILL);
	return detour.code;
}

static int detoured_create(struct member *m, struct ranks_ctx *ctx, int rank, int fails_at)
{
	struct accel_group_opts opts;

	*m = (struct member){.ctx = ctx, .rank = rank};
	ranks_group_opts(ctx, rank, 0, &opts);
	detour.inner = opts.allgather;
	detour.fails_at = fails_at;
	detour.calls = 0;
	opts.allgather = take_detour;
	return CHECK_EQ(accel_device_open("host", &m->dev), 0)
		       ? accel_group_create(m->dev, rank, ctx->world, &opts, &m->group)
		       : -EIO;
}

/*
 * Rank 2 of 0, 1, 2 dies when it has met the others, and again when it joins; so does rank 1 when it
 * lets it join for the second time. Rank 2 then joins without rank 1.
 */
static void dies_half_way(struct ranks_ctx *ctx, int rank)
{
	struct member m;
	int rc = detoured_create(&m, ctx, rank,
				 rank == 2 && ctx->life == 1 ? 1
				 : rank == 1		     ? 3
							     : 0);

	if (rank == 2 && ctx->life == 2) {
		CHECK_EQ(rc, -ECONNRESET);
		error_is(NULL, -ECONNRESET, 1, "rank 1");
		accel_device_close(m.dev);
		return;
	}
	if (!CHECK_EQ(rc, 0))
		return;
	if (rank == 2 && !ctx->life && talk(&m, 7, 1))
		raise(SIGKILL);
	if (rank != 2) {
		talk(&m, 7, 1);
		ranks_meet(ctx, MADE, 1, 2);
		if (!rank)
			ranks_restart(ctx, 2, true);
		CHECK_EQ(join(&m, 1u << 2, 0, SECOND_NS), -ETIMEDOUT);
		error_is(m.group, -ETIMEDOUT, 2, "rank 2");
		talk(&m, 3, 2);
		ranks_meet(ctx, MADE, 2, 2);
		if (!rank)
			ranks_restart(ctx, 2, false);
		CHECK_EQ(join(&m, 1u << 2, 0, SECOND_NS), -ECONNRESET); /* rank 1 does not return */
		error_is(m.group, -ECONNRESET, 1, "rank 1");
		ranks_meet_as(ctx, 0, 5);
		ranks_restart(ctx, 2, false);
		CHECK_EQ(join(&m, 1u << 2, 1u << 1, -1), 0);
	}
	talk(&m, 5, 3);
	member_close(&m);
}

TEST_OF_PROCESSES(rank, that_dies_half_way_is_named_to_the_others)
{
	struct ranks_opts opts = {.world = 3, .dies = 1u << 1 | 1u << 2};

	ranks_run(&opts, dies_half_way);
}

/* What the allgather says is what the call returns. */
static void refused(struct ranks_ctx *ctx, int rank)
{
	const int code = *(const int *)ctx->arg;
	struct accel_group *group;
	struct accel_device *dev;
	struct member m;

	if (ctx->life) {
		CHECK(ranks_group_create(ctx, rank, 0, &dev, &group) < 0);
		return;
	}
	detour.elsewhere = code == -EHOSTUNREACH;
	detour.code = code == -EHOSTUNREACH ? 0 : code;
	if (CHECK_EQ(detoured_create(&m, ctx, rank, 2), 0)) {
		if (!rank)
			ranks_restart(ctx, 1, false);
		if (!rank) {
			CHECK_EQ(join(&m, 1u << 1, 0, -1), code);
			error_is(m.group, code, code == -EHOSTUNREACH ? 1 : -1,
				 code == -EHOSTUNREACH ? "another host" : "the caller's allgather");
		}
		ranks_meet(ctx, DONE, 1, 2);
		talk(&m, 3, 1);
	}
	member_close(&m);
}

TEST_OF_PROCESSES(group_join, returns_what_the_allgather_returned)
{
	int code = -ENETDOWN;
	struct ranks_opts opts = {.world = 2, .arg = &code};

	ranks_run(&opts, refused);
	code = -EHOSTUNREACH;
	ranks_run(&opts, refused);
}

/* Neither a port nor a descriptor for the store. */
static void no_room(struct ranks_ctx *ctx, int rank)
{
	struct accel_group_opts opts;
	struct rlimit limit, none;
	struct member m;
	int fd[4];

	if (!member_open(&m, ctx, rank))
		return;
	ranks_meet(ctx, MADE, 1, 2);
	ranks_group_opts(ctx, rank, 0, &opts);
	for (int i = 0; !rank && i < 4; i++) {
		struct sockaddr_in address = {.sin_family = AF_INET,
					      .sin_port = htons((uint16_t)(opts.master_port + i)),
					      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		const int one = 1;

		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fd[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (!bind(fd[i], (struct sockaddr *)&address, sizeof(address)))
			listen(fd[i], 8);
	}
	if (!rank) {
		CHECK_EQ(join(&m, 1u << 1, 0, SECOND_NS / 2), -EADDRINUSE);
		error_is(m.group, -EADDRINUSE, -1, "rank 0 cannot listen");
		for (int i = 0; i < 4; i++)
			close(fd[i]);
		getrlimit(RLIMIT_NOFILE, &limit);
		none = limit;
		none.rlim_cur = 3;
		setrlimit(RLIMIT_NOFILE, &none);
		CHECK_EQ(join(&m, 1u << 1, 0, SECOND_NS / 2), -ENOMEM);
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	ranks_meet(ctx, DONE, 1, 2);
	talk(&m, 3, 1);
	member_close(&m);
}

TEST_OF_PROCESSES(group_join, without_a_port_or_descriptor_changes_nothing)
{
	struct ranks_opts opts = {.world = 2, .store = true};

	ranks_run(&opts, no_room);
}
