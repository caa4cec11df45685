// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The store: ranks as threads, foreign and hostile neighbours as sockets of the test. */
#define _GNU_SOURCE
#include "store_wire.h"

#include "meet.h"

#include <errno.h>

#define WORLD_MAX 16
#define BLOB 200

struct gathering {
	const char *addr, *name;
	int port, world;
	int64_t timeout_ns;
	int absent;		    /* a rank that never comes, or -1 */
	int world_of[WORLD_MAX];    /* 0: world */
	int rank_of[WORLD_MAX];	    /* -1: the thread's number */
	size_t bytes_of[WORLD_MAX]; /* 0: BLOB */
	int64_t timeout_of[WORLD_MAX];
	bool joins;
	int host_of[WORLD_MAX];
	uint64_t away; /* bit r: rank r is not waited for */
	int rc[WORLD_MAX], met[WORLD_MAX];
	struct accel_error error[WORLD_MAX];
	uint8_t all[WORLD_MAX][WORLD_MAX * BLOB];
};

static struct gathering *gathering_new(int world)
{
	struct gathering *g = calloc(1, sizeof(*g));
	static _Atomic int number;
	char *name = malloc(32);

	snprintf(name, 32, "test-%d-%d", getpid(), number++);
	g->addr = "127.0.0.1";
	g->name = name;
	g->port = meet_free_ports();
	g->world = world;
	g->timeout_ns = LONG;
	g->absent = -1;
	memset(g->rank_of, -1, sizeof(g->rank_of));
	return g;
}

static void gathering_free(struct gathering *g)
{
	free((char *)g->name);
	free(g);
}

static void take_part(int index, void *arg)
{
	struct gathering *g = arg;
	struct accel_store_opts opts = {
		.addr = g->addr,
		.port = (uint16_t)g->port,
		.name = g->name,
		.rank = g->rank_of[index] < 0 ? index : g->rank_of[index],
		.world = g->world_of[index] ? g->world_of[index] : g->world,
		.timeout_ns = g->timeout_of[index] ? g->timeout_of[index] : g->timeout_ns,
		.joins = g->joins,
		.host = g->host_of[index],
	};
	uint64_t away[ACCEL_RANKS_WORDS] = {g->away};
	uint8_t mine[2 * BLOB];

	opts.absent = opts.host >= 0 ? away : NULL;

	if (index == g->absent)
		return;
	memset(mine, 100 + index, sizeof(mine));
	g->rc[index] = accel_store_allgather(&opts, mine,
					     g->bytes_of[index] ? g->bytes_of[index] : BLOB,
					     g->all[index], &g->met[index]);
	g->error[index].size = sizeof(g->error[index]);
	if (g->rc[index])
		accel_error_get(NULL, &g->error[index]);
}

static void check_gathered(struct gathering *g)
{
	for (int r = 0; r < g->world; r++) {
		CHECK_EQ(g->rc[r], 0);
		CHECK_EQ(g->met[r], g->met[0]);
		for (int s = 0; s < g->world; s++)
			CHECK(g->all[r][s * BLOB] == 100 + s &&
			      g->all[r][s * BLOB + BLOB - 1] == 100 + s);
	}
}

/* Every index that came failed so, naming exactly one missing rank (-1: none). */
static void check_failed(struct gathering *g, int indices, int code, int missing, const char *text)
{
	for (int i = 0; i < indices; i++) {
		if (i == g->absent)
			continue;
		CHECK_EQ(g->rc[i], code);
		CHECK_EQ(g->error[i].code, code);
		for (int r = 0; r < ACCEL_RANKS_MAX; r++)
			if (accel_ranks_has(g->error[i].missing, r) != (r == missing))
				tap_check(false, __FILE__, __LINE__,
					  "index %d: missing bit %d is wrong: %s", i, r,
					  g->error[i].text);
		tap_check(strstr(g->error[i].text, text), __FILE__, __LINE__,
			  "index %d: \"%s\" is not in: %s", i, text, g->error[i].text);
	}
}

TEST(ranks, in_words)
{
	uint64_t ranks[ACCEL_RANKS_WORDS] = {0};
	char text[64];

	CHECK(!strcmp(accel_ranks_text(ranks, text, sizeof(text)), "no rank"));
	CHECK_EQ(accel_ranks_first(ranks), -1);
	accel_ranks_add(ranks, 1023);
	CHECK(!strcmp(accel_ranks_text(ranks, text, sizeof(text)), "rank 1023"));
	for (int r = 60; r < 70; r++)
		accel_ranks_add(ranks, r);
	accel_ranks_remove(ranks, 65);
	CHECK(!strcmp(accel_ranks_text(ranks, text, sizeof(text)), "ranks 60-64, 66-69, 1023"));
	CHECK_EQ(accel_ranks_first(ranks), 60);
	for (int r = 0; r < ACCEL_RANKS_MAX; r += 2)
		accel_ranks_add(ranks, r);
	for (size_t room = 16; room <= sizeof(text); room++) {
		memset(text, 1, sizeof(text));
		accel_ranks_text(ranks, text, room);
		CHECK(strnlen(text, room) < room && !strcmp(text + strlen(text) - 3, "..."));
	}
}

TEST(store, gathers_one_to_sixteen_ranks)
{
	int fds = meet_open_fds();

	for (int world = 1; world <= WORLD_MAX; world = world < 4 ? world + 1 : 2 * world) {
		struct gathering *g = gathering_new(world);

		meet_threads(world, take_part, g);
		check_gathered(g);
		CHECK(world == 1 ? g->met[0] == 0
				 : g->met[0] >= g->port && g->met[0] < g->port + ACCEL_STORE_PORTS);
		gathering_free(g);
	}
	CHECK_EQ(meet_open_fds(), fds);
}

TEST(store, meets_by_ipv6_and_host_name)
{
	static const char *const addrs[] = {"::1", "localhost"};

	for (int i = 0; i < 2; i++) {
		struct gathering *g = gathering_new(3);

		g->addr = addrs[i];
		meet_threads(3, take_part, g);
		check_gathered(g);
		gathering_free(g);
	}
}

TEST(store, refuses_bad_arguments)
{
	struct gathering *g = gathering_new(2);
	char name[ACCEL_STORE_NAME_BYTES + 1];

	g->addr = "not a host name";
	meet_threads(2, take_part, g);
	check_failed(g, 2, -EINVAL, -1, "does not resolve");
	g->addr = "127.0.0.1";
	g->rank_of[0] = 2;
	take_part(0, g);
	CHECK_EQ(g->rc[0], -EINVAL);
	g->rank_of[0] = 0;
	g->bytes_of[0] = ACCEL_STORE_BLOB_BYTES_MAX + 1;
	take_part(0, g);
	CHECK_EQ(g->rc[0], -EINVAL);
	g->bytes_of[0] = 0;
	g->port = 0;
	take_part(0, g);
	CHECK_EQ(g->rc[0], -EINVAL);
	g->port = 1;
	memset(name, 'x', sizeof(name));
	name[ACCEL_STORE_NAME_BYTES] = 0;
	free((char *)g->name);
	g->name = strdup(name);
	take_part(0, g);
	CHECK_EQ(g->rc[0], -EINVAL);
	gathering_free(g);
}

/* ---- A port that is another's ---------------------------------------------------------------- */

struct foreign {
	int fd;
	const char *says; /* NULL: nothing, and keeps the connection; "": closes it */
	_Atomic int accepted;
	pthread_t thread;
};

static void *foreign_thread(void *arg)
{
	struct foreign *f = arg;
	int kept[64], count = 0, fd;

	while (count < 64 && (fd = accept(f->fd, NULL, NULL)) >= 0) {
		if (f->says && *f->says)
			send(fd, f->says, strlen(f->says), MSG_NOSIGNAL);
		if (f->says)
			close(fd);
		else
			kept[count++] = fd;
		f->accepted++;
	}
	for (int i = 0; i < count; i++)
		close(kept[i]);
	return NULL;
}

static void foreign_start(struct foreign *f, int port, const char *says)
{
	*f = (struct foreign){.fd = meet_listen(port), .says = says};
	CHECK(f->fd >= 0);
	pthread_create(&f->thread, NULL, foreign_thread, f);
}

static void foreign_stop(struct foreign *f)
{
	shutdown(f->fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->fd);
}

TEST(store, goes_to_the_next_port_when_one_is_anothers)
{
	char noise[sizeof(struct store_reply) + 10] = {0};
	const char *says[] = {NULL, "", noise};

	memset(noise, 3, sizeof(noise) - 1);
	for (int i = 0; i < 3; i++) {
		struct gathering *g = gathering_new(3);
		struct foreign foreign;

		foreign_start(&foreign, g->port, says[i]);
		meet_threads(3, take_part, g);
		check_gathered(g);
		CHECK_EQ(g->met[0], g->port + 1);
		CHECK(foreign.accepted >= 3);
		foreign_stop(&foreign);
		gathering_free(g);
	}
}

TEST(store, waits_for_a_late_rank_0)
{
	struct gathering *g = gathering_new(3);
	struct meet_rank late[3];
	struct foreign foreign;

	/* The others have been turned away here when rank 0 comes. */
	foreign_start(&foreign, g->port, "");
	for (int r = 1; r < 3; r++) {
		late[r] = (struct meet_rank){.rank = r, .run = take_part, .arg = g};
		pthread_create(&late[r].thread, NULL, meet_thread, &late[r]);
	}
	while (foreign.accepted < 4)
		sched_yield();
	foreign_stop(&foreign);
	take_part(0, g);
	for (int r = 1; r < 3; r++)
		pthread_join(late[r].thread, NULL);
	check_gathered(g);
	gathering_free(g);
}

TEST(store, says_when_no_port_is_free)
{
	struct gathering *g = gathering_new(2);
	struct foreign foreign[ACCEL_STORE_PORTS];

	g->timeout_ns = 300 * MS;
	for (int i = 0; i < ACCEL_STORE_PORTS; i++)
		foreign_start(&foreign[i], g->port + i, "");
	take_part(0, g);
	check_failed(g, 1, -EADDRINUSE, -1, "MASTER_PORT");
	for (int i = 0; i < ACCEL_STORE_PORTS; i++)
		foreign_stop(&foreign[i]);
	gathering_free(g);
}

static void take_part_in_one_of(int index, void *arg)
{
	struct gathering **groups = arg;

	take_part(index / 3, groups[index % 3]);
}

TEST(store, serves_groups_of_different_names_at_one_address)
{
	struct gathering *g[3];

	for (int i = 0; i < 3; i++) {
		g[i] = gathering_new(4);
		g[i]->port = g[0]->port;
	}
	meet_threads(12, take_part_in_one_of, g);
	for (int i = 0; i < 3; i++) {
		check_gathered(g[i]);
		gathering_free(g[i]);
	}
}

/* ---- Ranks that join ------------------------------------------------------------------------- */

/* Ranks 1 and 3 let rank 2 join, which knows no host; rank 0 is away. */
static struct gathering *joining_new(void)
{
	struct gathering *g = gathering_new(4);

	g->joins = true;
	g->absent = 0;
	g->away = 1;
	g->host_of[1] = g->host_of[3] = 1;
	g->host_of[2] = -1;
	return g;
}

static void check_joined(struct gathering *g)
{
	static const uint8_t zeros[BLOB];

	for (int r = 1; r < g->world; r++) {
		CHECK_EQ(g->rc[r], 0);
		CHECK(!memcmp(g->all[r], zeros, BLOB));
		for (int s = 1; s < g->world; s++)
			CHECK_EQ(g->all[r][s * BLOB], 100 + s);
	}
}

TEST(store_of_joins, is_hosted_by_the_lowest_that_is_there)
{
	struct gathering *g = joining_new();

	memset(g->all, 0xff, sizeof(g->all));
	meet_threads(4, take_part, g);
	check_joined(g);
	gathering_free(g);
}

TEST(store_of_joins, names_a_rank_that_does_not_join)
{
	struct gathering *g = joining_new();

	g->timeout_ns = SECOND;
	g->host_of[0] = g->host_of[1];
	g->absent = 2;
	meet_threads(4, take_part, g);
	for (int r = 1; r < 4; r += 2) {
		CHECK_EQ(g->rc[r], -ETIMEDOUT);
		CHECK_EQ(g->error[r].rank, 2);
		CHECK(strstr(g->error[r].text, "rank 2 of group"));
		CHECK(strstr(g->error[r].text, "accel_group_join()"));
	}
	/* Rank 0 came though it is counted as away: it is heard by nobody. */
	CHECK_EQ(g->rc[0], -ETIMEDOUT);
	gathering_free(g);
}

TEST(store_of_joins, is_looked_for_in_vain_when_nobody_lets_join)
{
	struct gathering *g = joining_new();

	g->timeout_ns = SECOND / 2;
	g->rank_of[0] = 2;
	g->host_of[0] = -1;
	g->absent = -1;
	meet_threads(1, take_part, g);
	CHECK_EQ(g->rc[0], -ETIMEDOUT);
	CHECK_EQ(g->error[0].rank, -1);
	CHECK(strstr(g->error[0].text, "the lowest rank that lets others join"));
	gathering_free(g);
}

static void take_part_in_either(int index, void *arg)
{
	struct gathering **g = arg;

	take_part(index % 4, g[index / 4]);
}

/* The ranks of a new group do not take those that join an old one of that name for theirs. */
TEST(store_of_joins, is_no_store_of_a_new_group)
{
	struct gathering *g[2] = {joining_new(), gathering_new(4)};

	g[1]->port = g[0]->port;
	free((char *)g[1]->name);
	g[1]->name = strdup(g[0]->name);
	meet_threads(8, take_part_in_either, g);
	check_joined(g[0]);
	check_gathered(g[1]);
	gathering_free(g[0]);
	gathering_free(g[1]);
}

/* ---- Ranks that are missing or disagree ------------------------------------------------------ */

TEST(store, names_the_missing_rank_on_every_rank)
{
	for (int absent = 0; absent < 4; absent += 2) {
		struct gathering *g = gathering_new(4);

		g->absent = absent;
		g->timeout_ns = 3 * SECOND;
		meet_threads(4, take_part, g);
		check_failed(g, 4, -ETIMEDOUT, absent,
			     absent ? "rank 2 of group" : "rank 0 of group");
		gathering_free(g);
	}
}

TEST(store, names_the_missing_rank_to_one_that_gives_up_first)
{
	struct gathering *g = gathering_new(3);

	g->absent = 2;
	g->timeout_of[0] = 3 * SECOND;
	g->timeout_of[1] = SECOND;
	meet_threads(3, take_part, g);
	check_failed(g, 3, -ETIMEDOUT, 2, "rank 2 of group");
	gathering_free(g);
}

TEST(store, refuses_ranks_that_disagree)
{
	struct gathering *g = gathering_new(4);

	g->world_of[1] = 3;
	meet_threads(2, take_part, g);
	check_failed(g, 2, -EPROTO, -1, "world size is 3 on rank 1 and 4 on rank 0");
	CHECK_EQ(g->error[0].rank, 1);
	gathering_free(g);

	g = gathering_new(3);
	g->bytes_of[2] = 2 * BLOB;
	meet_threads(3, take_part, g);
	check_failed(g, 3, -EPROTO, -1, "member size in bytes is 400 on rank 2 and 200 on rank 0");
	gathering_free(g);
}

TEST(store, refuses_two_that_claim_one_rank)
{
	struct gathering *g = gathering_new(3);

	g->rank_of[2] = 1;
	meet_threads(3, take_part, g);
	check_failed(g, 3, -EPROTO, -1, "two processes claim rank 1");
	gathering_free(g);

	g = gathering_new(3);
	g->rank_of[1] = 0;
	meet_threads(2, take_part, g);
	check_failed(g, 2, -EPROTO, -1, "two processes claim rank 0");
	gathering_free(g);
}

/* ---- Hostile clients ------------------------------------------------------------------------- */

static struct store_hello hello_of(const struct gathering *g, uint32_t rank)
{
	struct store_hello hello = {.magic = STORE_MAGIC,
				    .version = STORE_VERSION,
				    .rank = rank,
				    .world = (uint32_t)g->world,
				    .blob_bytes = BLOB,
				    .nonce = 7};

	snprintf(hello.name, sizeof(hello.name), "%s", g->name);
	return hello;
}

static void take_part_after_the_first(int index, void *arg)
{
	take_part(index + 1, arg);
}

TEST(store, is_not_disturbed_by_strangers)
{
	struct gathering *g = gathering_new(4);
	struct meet_rank first = {.rank = 0, .run = take_part, .arg = g};
	struct store_hello hello = hello_of(g, 3), wrong[4];
	int fd[200], count = 0;
	uint64_t state = tap_seed();
	uint8_t noise[4096];

	pthread_create(&first.thread, NULL, meet_thread, &first);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)tap_random(&state);
	for (int i = 0; i < 4; i++)
		wrong[i] = hello;
	wrong[0].magic[0] ^= 1;
	memset(wrong[1].name, 'x', sizeof(wrong[1].name)); /* no end */
	wrong[2].name[0] ^= 1;				   /* another group */
	wrong[3].rank = UINT32_MAX;
	for (int i = 0; i < 4; i++) {
		fd[count] = meet_connect(g->port);
		send(fd[count++], &wrong[i], sizeof(wrong[i]), MSG_NOSIGNAL);
	}
	fd[count] = meet_connect(g->port); /* half a hello, and no more */
	send(fd[count++], &hello, sizeof(hello) / 2, MSG_NOSIGNAL);
	fd[count] = meet_connect(g->port);
	send(fd[count++], noise, sizeof(noise), MSG_NOSIGNAL);
	while (count < 200) /* more than it has room for, all silent */
		fd[count++] = meet_connect(g->port);
	meet_threads(3, take_part_after_the_first, g);
	pthread_join(first.thread, NULL);
	check_gathered(g);
	for (int i = 0; i < count; i++)
		close(fd[i]);
	gathering_free(g);
}

TEST(store, takes_a_rank_again_after_its_process_died)
{
	struct gathering *g = gathering_new(2);
	struct meet_rank first = {.rank = 0, .run = take_part, .arg = g};
	struct store_hello hello = hello_of(g, 1);
	struct store_reply reply;
	int fd, again;

	pthread_create(&first.thread, NULL, meet_thread, &first);
	fd = meet_connect(g->port);
	CHECK_EQ(send(fd, &hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
	CHECK_EQ(recv(fd, &reply, sizeof(reply), MSG_WAITALL), sizeof(reply));
	CHECK_EQ(reply.kind, STORE_WELCOME);
	again = meet_connect(
		g->port); /* of the same nonce, while the first still stands: the same client */
	CHECK_EQ(send(again, &hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
	CHECK_EQ(recv(again, &reply, sizeof(reply), MSG_WAITALL), sizeof(reply));
	CHECK_EQ(reply.kind, STORE_WELCOME);
	CHECK_EQ(recv(fd, &reply, sizeof(reply), MSG_WAITALL), 0);
	close(fd);
	close(again);
	take_part(1, g);
	pthread_join(first.thread, NULL);
	check_gathered(g);
	gathering_free(g);
}
