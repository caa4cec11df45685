// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Groups: ranks as threads of this process and as processes, by store and by allgather, with
 * failures of each step.
 */
#define _GNU_SOURCE
#include "group.h"

#include "meet.h"
#include "pair.h"
#include "ranks.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>

#define WORLD_MAX 8
#define MESSAGE 100 /* a type of no one else's */

/* A group that is made by all its ranks; in shared memory, so that they may be processes. */
struct meeting {
	int world, absent;
	struct accel_group_opts opts;
	char name[32];
	/* The test's own allgather: members are put here, and everybody waits for everybody. */
	pthread_barrier_t barrier;
	uint8_t blobs[WORLD_MAX][4096];
	void (*tamper)(struct accel_member *members, int rank); /* with what a rank is given */
	bool (*then)(struct meeting *meeting, struct accel_group *group, int rank);
	bool (*in_process)(int rank); /* before the rank meets */
	int fails_at;		      /* the rank whose allgather fails after all have met, or -1 */
	int strangers;		      /* connections made to every listener before ranks pair */
	int rc[WORLD_MAX];
	struct accel_error error[WORLD_MAX];
};

static struct meeting *meeting_new(int world)
{
	struct meeting *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static int number;
	pthread_barrierattr_t attr;

	m->world = world;
	m->absent = -1;
	m->fails_at = -1;
	snprintf(m->name, sizeof(m->name), "group-%d-%d", getpid(), number++);
	m->opts = (struct accel_group_opts){
		.size = sizeof(m->opts), .name = m->name, .timeout_ns = LONG};
	m->opts.master_port = (uint32_t)meet_free_ports();
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&m->barrier, &attr, (unsigned)world);
	pthread_barrierattr_destroy(&attr);
	return m;
}

static void meeting_free(struct meeting *m)
{
	pthread_barrier_destroy(&m->barrier);
	munmap(m, sizeof(*m));
}

struct caller {
	struct meeting *meeting;
	int rank;
};

static void be_a_stranger(const struct accel_member *member, int kind, int *fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint8_t noise[80] = {0x41, 0x43, 0x43, 0x4c, 1};

	memcpy(address.sun_path + 1, member->name, strlen(member->name));
	*fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	CHECK(!connect(
		*fd, (struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(member->name))));
	if (kind % 4 == 1)
		send(*fd, noise, sizeof(noise), MSG_NOSIGNAL);
	if (kind % 4 == 2)
		send(*fd, noise, 1, MSG_NOSIGNAL);
	if (kind % 4 == 3)
		shutdown(*fd, SHUT_WR);
}

static int strangers_fd[WORLD_MAX][128];

static int allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	struct caller *caller = arg;
	struct meeting *m = caller->meeting;

	memcpy(m->blobs[caller->rank], mine, bytes);
	pthread_barrier_wait(&m->barrier);
	for (int r = 0; r < m->world; r++)
		memcpy((uint8_t *)all + (size_t)r * bytes, m->blobs[r], bytes);
	for (int i = 0; i < m->strangers; i++)
		be_a_stranger(mine, i, &strangers_fd[caller->rank][i]);
	pthread_barrier_wait(&m->barrier);
	if (m->tamper)
		m->tamper(all, caller->rank);
	return caller->rank == m->fails_at ? -ENETDOWN : 0;
}

/* One rank's life. What its create returned is kept. */
static bool live(int rank, void *arg)
{
	struct meeting *m = arg;
	struct caller caller = {m, rank};
	struct accel_group_opts opts = m->opts;
	struct accel_group *group = NULL;
	struct accel_device *dev;
	bool ok = true;

	if (rank == m->absent)
		return true;
	if (m->in_process && !m->in_process(rank))
		return false;
	opts.allgather_arg = &caller;
	if (!CHECK_EQ(accel_device_open("host", &dev), 0))
		return false;
	m->rc[rank] = accel_group_create(dev, rank, m->world, &opts, &group);
	m->error[rank].size = sizeof(m->error[rank]);
	if (m->rc[rank])
		ok = CHECK_EQ(accel_error_get(NULL, &m->error[rank]), 0) && CHECK(!group);
	else if (m->then)
		ok = m->then(m, group, rank);
	accel_group_destroy(group);
	accel_device_close(dev);
	return ok;
}

static void live_thread(int rank, void *arg)
{
	CHECK(live(rank, arg));
}

static void check_all(struct meeting *m, int code, int about, const char *text)
{
	for (int r = 0; r < m->world; r++) {
		if (r == m->absent)
			continue;
		tap_check(m->rc[r] == code, __FILE__, __LINE__, "rank %d: %d, not %d: %s", r,
			  m->rc[r], code, m->error[r].text);
		if (m->rc[r] != code)
			continue;
		if (about >= 0)
			CHECK_EQ(m->error[r].rank, about);
		if (text)
			tap_check(strstr(m->error[r].text, text), __FILE__, __LINE__,
				  "rank %d: \"%s\" is not in: %s", r, text, m->error[r].text);
	}
}

/* Everybody is who they say, every pair can talk, and nobody leaves before all have. */
static bool talk(struct meeting *m, struct accel_group *group, int rank)
{
	struct accel_group_info info = {.size = sizeof(info)};
	uint32_t all[WORLD_MAX], mine = 1000 + (uint32_t)rank;
	bool ok = CHECK_EQ(accel_group_info_get(group, &info), 0) && CHECK_EQ(info.rank, rank) &&
		  CHECK_EQ(info.world, m->world) &&
		  CHECK(!strcmp(info.transport, m->world > 1 ? "shm" : "self")) &&
		  CHECK_EQ(!!info.store_port, m->world > 1 && !m->opts.allgather) &&
		  CHECK(!strcmp(info.met, m->world == 1	      ? "self"
					  : m->opts.allgather ? "allgather"
							      : "store"));

	for (uint64_t tag = 0; tag < 3; tag++) {
		ok = ok && CHECK_EQ(accel_group_exchange(group, &group->obj, MESSAGE, tag, &mine,
							 sizeof(mine), all, -1),
				    0);
		for (int r = 0; ok && r < m->world; r++)
			ok = CHECK_EQ(all[r], 1000 + r);
	}
	return ok;
}

TEST(group, of_threads)
{
	int fds = meet_open_fds();

	for (int world = 1; world <= WORLD_MAX; world++) {
		struct meeting *m = meeting_new(world);

		m->then = talk;
		meet_threads(world, live_thread, m);
		check_all(m, 0, -1, NULL);
		meeting_free(m);
	}
	CHECK_EQ(meet_open_fds(), fds);
}

TEST(group, of_processes)
{
	for (int world = 1; world <= WORLD_MAX; world *= 2) {
		struct meeting *m = meeting_new(world);

		m->then = talk;
		meet_processes(world, live, m);
		check_all(m, 0, -1, NULL);
		meeting_free(m);
	}
}

TEST(group, by_the_callers_allgather)
{
	struct meeting *m = meeting_new(5);

	m->then = talk;
	m->opts.allgather = allgather;
	meet_threads(5, live_thread, m);
	check_all(m, 0, -1, NULL);
	meet_processes(5, live, m);
	check_all(m, 0, -1, NULL);
	meeting_free(m);
}

/* ---- Environment and arguments --------------------------------------------------------------- */

static bool live_by_environment(int rank, void *arg)
{
	struct meeting *m = arg;
	struct accel_group_opts opts = {.size = sizeof(opts), .timeout_ns = LONG};
	struct accel_group_info info = {.size = sizeof(info)};
	struct accel_group *group;
	struct accel_device *dev;
	char text[64];
	bool ok;

	snprintf(text, sizeof(text), "%d", rank);
	setenv("RANK", text, 1);
	snprintf(text, sizeof(text), "%d", m->world);
	setenv("WORLD_SIZE", text, 1);
	setenv("MASTER_ADDR", "localhost", 1);
	snprintf(text, sizeof(text), "%d", (int)m->opts.master_port);
	setenv("MASTER_PORT", text, 1);
	snprintf(text, sizeof(text), "name=%s", m->name);
	setenv("ACCEL_OPTS", text, 1);
	ok = CHECK_EQ(accel_device_open("host", &dev), 0) &&
	     CHECK_EQ(accel_group_create(dev, -1, -1, &opts, &group), 0);
	if (!ok)
		return false;
	ok = CHECK_EQ(accel_group_info_get(group, &info), 0) && CHECK_EQ(info.rank, rank) &&
	     CHECK_EQ(info.world, m->world) &&
	     CHECK(info.store_port >= (int)m->opts.master_port &&
		   info.store_port < (int)m->opts.master_port + 4);
	accel_group_destroy(group);
	accel_device_close(dev);
	return ok;
}

TEST(group, by_the_launchers_environment)
{
	struct meeting *m = meeting_new(3);

	meet_processes(3, live_by_environment, m);
	meeting_free(m);
}

static bool refuse_environment(int rank, void *arg)
{
	static const char *const bad[][3] = {
		{NULL, NULL, NULL},
		{"0", NULL, NULL},
		{NULL, "2", NULL},
		{"", "2", NULL},
		{"x", "2", NULL},
		{"-1", "2", NULL},
		{"2", "2", NULL},
		{"0", "0", NULL},
		{"0", "1025", NULL},
		{"0", "1", "65536"},
		{"0", "1", "http"},
		{"0 ", "1", NULL},
		{"99999999999999999999", "2", NULL},
	};
	struct accel_device *dev = arg;
	struct accel_group *group;
	bool ok = true;

	(void)rank;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		static const char *const names[] = {"RANK", "WORLD_SIZE", "MASTER_PORT"};

		for (int j = 0; j < 3; j++)
			if (bad[i][j])
				setenv(names[j], bad[i][j], 1);
			else
				unsetenv(names[j]);
		ok = CHECK_EQ(accel_group_create(dev, -1, -1, NULL, &group), -EINVAL) && ok;
	}
	accel_device_close(dev);
	return ok;
}

TEST(group, refuses_bad_arguments)
{
	struct accel_group *group = NULL;
	struct accel_device *dev;
	struct {
		struct accel_group_opts opts;
		uint64_t newer;
	} o = {.opts.size = sizeof(o)};
	char name[100];

	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	meet_processes(1, refuse_environment, dev);
	CHECK_EQ(accel_group_create(NULL, 0, 1, NULL, &group), -EINVAL);
	CHECK_EQ(accel_group_create(dev, 0, 1, NULL, NULL), -EINVAL);
	CHECK_EQ(accel_group_create(dev, 1, 1, NULL, &group), -EINVAL);
	CHECK_EQ(accel_group_create(dev, 0, 0, NULL, &group), -EINVAL);
	CHECK_EQ(accel_group_create(dev, 0, ACCEL_RANKS_MAX + 1, NULL, &group), -EINVAL);
	o.newer = 1;
	CHECK_EQ(accel_group_create(dev, 0, 1, &o.opts, &group), -E2BIG);
	o.newer = 0;
	o.opts.size = 0;
	CHECK_EQ(accel_group_create(dev, 0, 1, &o.opts, &group), -EINVAL);
#define REFUSED(code, ...)                                                                         \
	o.opts = (struct accel_group_opts){.size = sizeof(o.opts), __VA_ARGS__};                   \
	CHECK_EQ(accel_group_create(dev, 0, 1, &o.opts, &group), code)
	REFUSED(-EINVAL, .join = 2);
	REFUSED(-EINVAL, .reserved = {[7] = 1});
	REFUSED(-EINVAL, .timeout_ns = -1);
	REFUSED(-EINVAL, .master_port = 65536);
	memset(name, 'n', sizeof(name));
	name[99] = 0;
	REFUSED(-EINVAL, .name = name);
	REFUSED(-EINVAL, .transports = "shmem");
	REFUSED(-EINVAL, .transports = "");
	REFUSED(-EINVAL, .transports = "verbs,,shm");
	REFUSED(-EINVAL, .transports = "shm,verb");
	REFUSED(-EOPNOTSUPP, .transports = "dpdk");
	REFUSED(-EINVAL, .socket_dir = "");
	REFUSED(-EINVAL, .address = "");
	REFUSED(-EINVAL, .verbs_devices = "");
	REFUSED(-EINVAL, .verbs_rails = 5);
	REFUSED(-EINVAL, .verbs_qps = 9);
	REFUSED(-EINVAL, .verbs_traffic_class = 256);
	REFUSED(-EINVAL, .verbs_service_level = 16);
	REFUSED(-EINVAL, .verbs_mtu = 128);
	REFUSED(-EINVAL, .verbs_mtu = 1500);
	REFUSED(-EINVAL, .verbs_mtu = 8192);
	REFUSED(-EINVAL, .verbs_inline_bytes = 1025);
	REFUSED(-EINVAL, .verbs_depth = 15);
	REFUSED(-EINVAL, .verbs_depth = 32769);
	REFUSED(-EINVAL, .verbs_ack_timeout = 32);
	REFUSED(-EINVAL, .verbs_retries = 8);
	REFUSED(0, .transports = "dpdk,verbs", .verbs_mtu = 4096, .verbs_depth = 16);
	accel_group_destroy(group);
	o.opts.transports = NULL;
	o.opts.socket_dir = "/nowhere/at/all";
	CHECK_EQ(accel_group_create(dev, 0, 2, &o.opts, &group), -EINVAL);
	o.opts.socket_dir = name;
	CHECK_EQ(accel_group_create(dev, 0, 2, &o.opts, &group), -EINVAL);
	accel_device_close(dev);
}

TEST(group, info_and_destroy)
{
	struct accel_group_info info = {.size = 0};
	struct accel_group *group;
	struct accel_device *dev;

	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	REQUIRE_EQ(accel_group_create(dev, 0, 1, NULL, &group), 0);
	CHECK_EQ(accel_group_info_get(NULL, &info), -EINVAL);
	CHECK_EQ(accel_group_info_get(group, NULL), -EINVAL);
	CHECK_EQ(accel_group_info_get(group, &info), -EINVAL);
	info = (struct accel_group_info){.size = offsetof(struct accel_group_info, transport),
					 .store_port = 77};
	CHECK_EQ(accel_group_info_get(group, &info), 0);
	CHECK_EQ(info.world, 1);
	CHECK_EQ(info.store_port, 77); /* beyond what the caller's size names */
	CHECK(!group->oversubscribed);
	accel_group_destroy(group);
	accel_group_destroy(NULL);
	accel_device_close(dev);
}

static bool is_oversubscribed(struct meeting *m, struct accel_group *group, int rank)
{
	(void)m;
	(void)rank;
	return CHECK(group->oversubscribed);
}

static bool take_one_core(int rank)
{
	cpu_set_t set;
	int core = 0;

	(void)rank;
	sched_getaffinity(0, sizeof(set), &set);
	while (!CPU_ISSET(core, &set))
		core++;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	return CHECK(!sched_setaffinity(0, sizeof(set), &set));
}

TEST(group, knows_when_it_has_more_ranks_than_cores)
{
	struct meeting *m = meeting_new(2);

	m->in_process = take_one_core;
	m->then = is_oversubscribed;
	meet_processes(2, live, m);
	check_all(m, 0, -1, NULL);
	meeting_free(m);
}

/* ---- Ranks that cannot meet ------------------------------------------------------------------ */

TEST(group, names_a_rank_that_never_comes)
{
	struct meeting *m = meeting_new(4);
	int fds = meet_open_fds();

	m->absent = 2;
	m->opts.timeout_ns = 3 * SECOND;
	meet_threads(4, live_thread, m);
	check_all(m, -ETIMEDOUT, 2, "rank 2");
	for (int r = 0; r < 4; r++)
		CHECK(r == 2 || m->error[r].missing[0] == 1u << 2);
	CHECK_EQ(meet_open_fds(), fds);
	meeting_free(m);
}

TEST(group, says_what_the_callers_allgather_returned)
{
	struct meeting *m = meeting_new(3);

	m->opts.allgather = allgather;
	m->opts.timeout_ns = 300 * MS;
	m->fails_at = 1;
	meet_threads(3, live_thread, m);
	CHECK_EQ(m->rc[1], -ENETDOWN);
	/* Rank 2 asks rank 1, or waits for it when both are still there; rank 0 waits for both. */
	CHECK_EQ(m->rc[0], -ETIMEDOUT);
	CHECK(m->error[0].missing[0] & 1u << 1);
	CHECK(m->rc[2] == -ECONNRESET || m->rc[2] == -ETIMEDOUT);
	CHECK_EQ(m->error[2].rank, 1);
	meeting_free(m);
}

#define TAMPER(name, what)                                                                         \
	static void tamper_##name(struct accel_member *members, int rank)                          \
	{                                                                                          \
		(void)rank;                                                                        \
		what;                                                                              \
	}
TAMPER(magic, members[1].magic[0] ^= 1)
TAMPER(version, members[1].version++)
TAMPER(world, members[1].world++)
TAMPER(order, members[1].rank = 0)
TAMPER(name, members[1].name[6] = '/')
TAMPER(name_end, memset(members[1].name, 'a', sizeof(members[1].name)))
TAMPER(host, members[1].host[0] = '\n')
TAMPER(own, members[rank].cookie[0] ^= 1)
TAMPER(boot, if (rank == 1) members[0].boot_id[0] ^= 1; else members[1].boot_id[0] ^= 1)

TEST(group, checks_what_the_allgather_gives)
{
	static void (*const tampers[])(struct accel_member *, int) = {
		tamper_magic, tamper_version,  tamper_world, tamper_order,
		tamper_name,  tamper_name_end, tamper_host,  tamper_own};

	for (size_t i = 0; i < sizeof(tampers) / sizeof(*tampers); i++) {
		struct meeting *m = meeting_new(2);

		m->opts.allgather = allgather;
		m->tamper = tampers[i];
		meet_threads(2, live_thread, m);
		check_all(m, -EPROTO, -1, NULL);
		meeting_free(m);
	}
}

TEST(group, says_when_a_rank_is_on_another_host)
{
	struct meeting *m = meeting_new(2);

	m->opts.allgather = allgather;
	m->tamper = tamper_boot;
	meet_threads(2, live_thread, m);
	check_all(m, -EHOSTUNREACH, -1, "on another host");
	CHECK_EQ(m->error[0].rank, 1);
	meeting_free(m);
}

static void wrong_cookie(struct accel_member *members, int rank)
{
	if (rank == 2)
		members[0].cookie[3] ^= 1;
}

TEST(group, turns_away_who_does_not_know_the_cookie)
{
	struct meeting *m = meeting_new(3);

	m->opts.allgather = allgather;
	m->opts.timeout_ns = 300 * MS;
	m->tamper = wrong_cookie;
	meet_threads(3, live_thread, m);
	CHECK_EQ(m->rc[0], -ETIMEDOUT);
	CHECK_EQ(m->error[0].missing[0], 1u << 2);
	CHECK_EQ(m->rc[2], -ECONNRESET);
	meeting_free(m);
}

TEST(group, is_not_disturbed_by_strangers)
{
	struct meeting *m = meeting_new(3);
	int fds = meet_open_fds();

	m->opts.allgather = allgather;
	m->strangers = 100; /* more than are waited for at once */
	m->then = talk;
	meet_threads(3, live_thread, m);
	check_all(m, 0, -1, NULL);
	for (int r = 0; r < 3; r++)
		for (int i = 0; i < m->strangers; i++)
			close(strangers_fd[r][i]);
	CHECK_EQ(meet_open_fds(), fds);
	meeting_free(m);
}

/* ---- One kernel, several network namespaces -------------------------------------------------- */

static bool leave_network(int rank)
{
	return !rank || !unshare(CLONE_NEWNET) || CHECK(!unshare(CLONE_NEWUSER | CLONE_NEWNET));
}

static bool can_leave_network(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET));
	return waitpid(pid, &status, 0) == pid && !status;
}

TEST(group, says_when_ranks_share_a_kernel_but_no_socket)
{
	struct meeting *m;

	if (!can_leave_network())
		SKIP("no network namespace can be made here");
	m = meeting_new(2);
	m->opts.allgather = allgather;
	m->in_process = leave_network;
	meet_processes(2, live, m);
	check_all(m, -EHOSTUNREACH, -1, "set socket_dir");
	meeting_free(m);
}

TEST(group, meets_in_a_common_directory)
{
	char dir[] = "/tmp/accel-test-XXXXXX";
	struct meeting *m;

	if (!can_leave_network())
		SKIP("no network namespace can be made here");
	REQUIRE(mkdtemp(dir));
	m = meeting_new(4);
	m->opts.allgather = allgather;
	m->opts.socket_dir = dir;
	m->in_process = leave_network;
	m->then = talk;
	meet_processes(4, live, m);
	check_all(m, 0, -1, NULL);
	meeting_free(m);
	CHECK_EQ(rmdir(dir), 0); /* empty: every socket was unlinked */
}

/* ---- After it was made ----------------------------------------------------------------------- */

/* Every socket to a peer is full in both directions before the exchange begins. */
static bool exchange_when_full(struct meeting *m, struct accel_group *group, int rank)
{
	static const uint8_t big[ACCEL_MESSAGE_BYTES_MAX];
	uint8_t *mine = malloc(sizeof(big)), *all = malloc(sizeof(big) * (size_t)m->world);
	int sent[WORLD_MAX] = {0};
	bool ok = true;

	for (int r = 0; r < m->world; r++)
		while (r != rank &&
		       !accel_channel_send(group->channel[r], MESSAGE + 1, 0, big, sizeof(big), 0))
			sent[r]++;
	memset(mine, 1 + rank, sizeof(big));
	ok = CHECK_EQ(
		accel_group_exchange(group, &group->obj, MESSAGE, 0, mine, sizeof(big), all, -1),
		0);
	for (int r = 0; ok && r < m->world; r++) {
		ok = CHECK(all[(size_t)r * sizeof(big)] == 1 + r &&
			   all[(size_t)(r + 1) * sizeof(big) - 1] == 1 + r) &&
		     CHECK(r == rank || sent[r] > 0);
	}
	free(mine);
	free(all);
	return ok;
}

TEST(group_exchange, does_not_deadlock_on_full_sockets)
{
	struct meeting *m = meeting_new(4);

	m->then = exchange_when_full;
	meet_threads(4, live_thread, m);
	check_all(m, 0, -1, NULL);
	meet_processes(4, live, m);
	meeting_free(m);
}

static bool exchange_without_rank_1(struct meeting *m, struct accel_group *group, int rank)
{
	struct accel_error error = {.size = sizeof(error)};
	uint64_t mine = 1, all[WORLD_MAX];
	bool ok = true;

	if (rank != 1)
		ok = CHECK_EQ(accel_group_exchange(group, &group->obj, MESSAGE, 0, &mine,
						   sizeof(mine), all, 100 * MS),
			      -ETIMEDOUT) &&
		     CHECK_EQ(accel_error_get(group, &error), 0) &&
		     CHECK_EQ(error.missing[0], 1u << 1) &&
		     CHECK(strstr(error.text, "rank 1 did not take part"));
	pthread_barrier_wait(&m->barrier);
	return ok;
}

TEST(group_exchange, names_the_missing_rank)
{
	struct meeting *m = meeting_new(3);

	m->then = exchange_without_rank_1;
	meet_threads(3, live_thread, m);
	check_all(m, 0, -1, NULL);
	meeting_free(m);
}

static bool exchange_of_other_sizes(struct meeting *m, struct accel_group *group, int rank)
{
	uint64_t mine[2] = {0}, all[2 * WORLD_MAX];
	struct accel_error error = {.size = sizeof(error)};
	bool ok = CHECK_EQ(accel_group_exchange(group, &group->obj, MESSAGE, 0, mine, rank ? 8 : 16,
						all, -1),
			   -EPROTO) &&
		  CHECK_EQ(accel_error_get(group, &error), 0) && CHECK_EQ(error.rank, !rank);

	pthread_barrier_wait(&m->barrier);
	return ok;
}

TEST(group_exchange, refuses_another_size)
{
	struct meeting *m = meeting_new(2);

	m->then = exchange_of_other_sizes;
	meet_threads(2, live_thread, m);
	check_all(m, 0, -1, NULL);
	meeting_free(m);
}

static bool lose_rank_0(struct meeting *m, struct accel_group *group, int rank)
{
	uint64_t mine = 0, all[WORLD_MAX];
	struct accel_error error = {.size = sizeof(error)};

	(void)m;
	if (!rank)
		_exit(3); /* as a crash would: nothing is said */
	return CHECK_EQ(accel_group_exchange(group, &group->obj, MESSAGE, 0, &mine, sizeof(mine),
					     all, -1),
			-ECONNRESET) &&
	       CHECK_EQ(accel_error_get(group, &error), 0) && CHECK_EQ(error.rank, 0) &&
	       CHECK_EQ(accel_channel_drain(group->channel[0]), -ECONNRESET);
}

TEST(group, tells_when_a_peer_has_gone)
{
	struct meeting *m = meeting_new(2);
	pid_t pid[2];
	int status[2] = {-1, -1};

	m->then = lose_rank_0;
	for (int r = 0; r < 2; r++) {
		pid[r] = fork();
		if (!pid[r])
			exit(live(r, m) ? 0 : 1);
	}
	for (int r = 0; r < 2; r++)
		CHECK_EQ(waitpid(pid[r], &status[r], 0), pid[r]);
	CHECK(WIFEXITED(status[0]) && WEXITSTATUS(status[0]) == 3);
	CHECK_EQ(status[1], 0);
	meeting_free(m);
}

/* Rank 0 shares a buffer and destroys it; rank 1 sees it come, change and go. */
static bool share_a_buffer(struct meeting *m, struct accel_group *group, int rank)
{
	struct accel_region *region = NULL, *again = NULL;
	struct accel_buffer *buf = NULL;
	bool ok = true;

	if (!rank) {
		ok = CHECK_EQ(accel_buffer_create(group->dev, 4096, NULL, &buf), 0) &&
		     CHECK_EQ(accel_channel_share(group->channel[1], buf->region, LONG), 0);
		memcpy(accel_buffer_addr(buf), "first", 6);
	}
	pthread_barrier_wait(&m->barrier);
	if (rank)
		ok = CHECK_EQ(accel_channel_region(group->channel[0], 1, &region), 0) &&
		     CHECK(!strcmp((char *)region->addr, "first"));
	pthread_barrier_wait(&m->barrier);
	if (!rank) {
		memcpy(accel_buffer_addr(buf), "later", 6);
		accel_buffer_destroy(buf);
	}
	pthread_barrier_wait(&m->barrier);
	if (rank)
		ok = ok && CHECK_EQ(accel_channel_drain(group->channel[0]), 0) &&
		     CHECK_EQ(accel_channel_region(group->channel[0], 1, &again), -ENOENT) &&
		     CHECK(!strcmp((char *)region->addr, "later")); /* the reference still stands */
	accel_region_put(region);
	pthread_barrier_wait(&m->barrier);
	return ok;
}

TEST(group, tells_peers_that_a_buffer_is_gone)
{
	struct meeting *m = meeting_new(2);

	m->then = share_a_buffer;
	meet_threads(2, live_thread, m);
	meet_processes(2, live, m);
	check_all(m, 0, -1, NULL);
	meeting_free(m);
}

static bool destroy_in_a_child(struct meeting *m, struct accel_group *group, int rank)
{
	int status = -1;
	pid_t pid;

	pthread_barrier_wait(&m->barrier);
	pid = rank ? 0 : fork();
	if (!rank && !pid) {
		accel_group_destroy(group);
		_exit(0);
	}
	if (!rank)
		waitpid(pid, &status, 0);
	pthread_barrier_wait(&m->barrier);
	return (rank || CHECK_EQ(status, 0)) && talk(m, group, rank);
}

TEST(group, survives_the_destroy_of_a_forked_child)
{
	struct meeting *m = meeting_new(3);

	m->then = destroy_in_a_child;
	meet_processes(3, live, m);
	check_all(m, 0, -1, NULL);
	meeting_free(m);
}

static void live_in_one_of(int index, void *arg)
{
	struct meeting **groups = arg;

	CHECK(live(index / 3, groups[index % 3]));
}

TEST(group, several_at_one_address)
{
	struct meeting *m[3];

	for (int i = 0; i < 3; i++) {
		m[i] = meeting_new(3);
		m[i]->opts.master_port = m[0]->opts.master_port;
		m[i]->then = talk;
	}
	meet_threads(9, live_in_one_of, m);
	for (int i = 0; i < 3; i++) {
		check_all(m[i], 0, -1, NULL);
		meeting_free(m[i]);
	}
}
