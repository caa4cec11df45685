// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Groups under a real PMIx launcher, mpirun of Open MPI: a test that begins with UNDER_MPIRUN(n)
 * has mpirun start n processes of this program, which run the rest of that test as ranks; what they
 * say is shown if one of them fails.
 *
 * check: no-tsan (libpmix has threads that TSan does not see)
 */
#define _GNU_SOURCE
#include "pmix.h"

#include "deadline.h"
#include "group.h"
#include "meet.h"
#include "pair.h"
#include "ranks.h"

#include <errno.h>
#include <signal.h>

#define MESSAGE 100 /* a type of no one else's */

#define UNDER_MPIRUN(count, options)                                                               \
	do {                                                                                       \
		if (!accel_pmix_is_there()) {                                                      \
			mpirun(count, options, __func__);                                          \
			return;                                                                    \
		}                                                                                  \
	} while (0)

/* function: of a TEST, whose name it is but for the underscore between noun and behaviour. */
static void mpirun(int count, const char *options, const char *function)
{
	char self[4096] = "", command[8192], said[4096] = "", line[512];
	size_t used = 0;
	FILE *output;
	int status, sound = 0;
	bool failed = false;

	if (system("command -v mpirun.openmpi >/dev/null"))
		SKIP("no mpirun of Open MPI (Debian: openmpi-bin)");
	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	/* Leaks of libpmix are not ours; LSan does not run without them. */
	snprintf(command, sizeof(command),
		 "ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 timeout -k 1 40 mpirun.openmpi "
		 "--allow-run-as-root --oversubscribe -n %d %s '%s' '%s' 2>&1 </dev/null",
		 count, options, self, strchr(function, '_') + 1);
	output = popen(command, "r");
	while (fgets(line, sizeof(line), output)) {
		size_t len = strlen(line);

		sound += !strncmp(line, "ok ", 3);
		failed |= !strncmp(line, "not ok ", 7);
		if (used + len < sizeof(said)) {
			memcpy(said + used, line, len + 1);
			used += len;
		}
	}
	status = pclose(output);
	/* Ranks that have all passed have passed: mpirun itself hangs at its end now and then. */
	if (!tap_check(!status || (sound == count && !failed), __FILE__, __LINE__,
		       "mpirun ended with status %#x, %d of %d ranks passed", status, sound, count))
		tap_diag("%s", said);
}

static int my_rank(void)
{
	return atoi(getenv("PMIX_RANK"));
}

/* A group of the whole job. */
static int create(struct accel_device *dev, const char *name, int64_t timeout_ns,
		  struct accel_group **group)
{
	struct accel_group_opts opts = {
		.size = sizeof(opts), .name = name, .timeout_ns = timeout_ns};

	return accel_group_create(dev, -1, -1, &opts, group);
}

static void say_error(struct accel_error *error)
{
	error->size = sizeof(*error);
	CHECK_EQ(accel_error_get(NULL, error), 0);
	tap_diag("rank %d: %s", my_rank(), error->text);
}

/* Everybody is there, and the ranks are the launcher's. */
static void talk(struct accel_group *group, int world)
{
	struct accel_group_info info = {.size = sizeof(info)};
	uint32_t all[16], mine = 1000 + (uint32_t)my_rank();

	REQUIRE_EQ(accel_group_info_get(group, &info), 0);
	CHECK_EQ(info.rank, my_rank());
	REQUIRE_EQ(info.world, world);
	CHECK(!strcmp(info.met, "pmix"));
	CHECK_EQ(info.store_port, 0);
	REQUIRE_EQ(
		accel_group_exchange(group, &group->obj, MESSAGE, 0, &mine, sizeof(mine), all, -1),
		0);
	for (int r = 0; r < world; r++)
		CHECK_EQ(all[r], 1000 + r);
}

static void create_and_talk(struct accel_device *dev, const char *name, int world)
{
	struct accel_group *group = NULL;
	struct accel_error error;

	if (!CHECK_EQ(create(dev, name, LONG, &group), 0))
		say_error(&error);
	else
		talk(group, world);
	accel_group_destroy(group);
}

TEST(pmix, ranks_meet)
{
	struct accel_device *dev;

	UNDER_MPIRUN(4, "");
	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	for (int i = 0; i < 5; i++)
		create_and_talk(dev, i == 3 ? "another" : NULL, 4);
	accel_device_close(dev);
}

TEST(pmix, one_rank_is_a_world)
{
	struct accel_group_info info = {.size = sizeof(info)};
	struct accel_group *group;
	struct accel_device *dev;

	UNDER_MPIRUN(1, "");
	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	REQUIRE_EQ(create(dev, NULL, LONG, &group), 0);
	CHECK_EQ(accel_group_info_get(group, &info), 0);
	CHECK_EQ(info.world, 1);
	CHECK(!strcmp(info.met, "self"));
	accel_group_destroy(group);
	accel_device_close(dev);
}

static void create_in_thread(int index, void *dev)
{
	static const char *const names[] = {"a", "b", "c"};

	/* Every rank begins with another one. */
	create_and_talk(dev, names[(index + my_rank()) % 3], 3);
}

TEST(pmix, groups_of_threads_in_any_order)
{
	struct accel_device *dev;

	UNDER_MPIRUN(3, "");
	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	for (int i = 0; i < 5; i++)
		meet_threads(3, create_in_thread, dev);
	accel_device_close(dev);
}

static void fail_without_rank_1(struct accel_device *dev)
{
	int64_t start_ns = accel_now_ns(), took_ns;
	struct accel_group *group = NULL;
	struct accel_error error;

	CHECK_EQ(create(dev, "early", 700 * MS, &group), -ETIMEDOUT);
	took_ns = accel_now_ns() - start_ns;
	say_error(&error);
	CHECK_EQ(error.code, -ETIMEDOUT);
	CHECK_EQ(error.rank, 1);
	CHECK_EQ(error.missing[0], 2);
	CHECK(strstr(error.text, "rank 1 of group \"early\""));
	CHECK(took_ns >= 700 * MS);
	tap_check(took_ns < 3 * SECOND, __FILE__, __LINE__, "it took %lld ms",
		  (long long)(took_ns / MS));
}

/* Rank 1 is in no group "early", and its fence of "late" passes for its part in that. */
static void miss_rank_1(void)
{
	struct accel_device *dev;

	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	if (my_rank() != 1)
		fail_without_rank_1(dev);
	create_and_talk(dev, "late", 3);
	create_and_talk(dev, "later", 3);
	accel_device_close(dev);
}

TEST(pmix, rank_that_never_comes_is_named)
{
	UNDER_MPIRUN(3, "");
	miss_rank_1();
}

TEST(pmix, rank_missing_between_nodes)
{
	if (!accel_pmix_is_there() && system("unshare --uts hostname nodeb 2>/dev/null"))
		SKIP("no right to a host name of its own (unshare --uts)");
	UNDER_MPIRUN(3, "--mca plm_rsh_agent 'sh tests/libaccel/rsh_agent.sh' "
			"--host $(hostname):2,nodeb:2");
	miss_rank_1();
}

/* The launcher is stopped; whatever PMIx call is under way ends on time. */
static void meet_stopped_launcher(bool is_initialised)
{
	struct accel_group *group = NULL;
	struct accel_error error;
	struct accel_device *dev;
	int64_t start_ns, took_ns;
	int rank, world, rc;

	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	if (is_initialised)
		REQUIRE_EQ(accel_pmix_job(LONG, &rank, &world), 0);
	kill(getppid(), SIGSTOP);
	start_ns = accel_now_ns();
	rc = create(dev, NULL, 500 * MS, &group);
	took_ns = accel_now_ns() - start_ns;
	CHECK_EQ(rc, -ETIMEDOUT);
	say_error(&error);
	CHECK(strstr(error.text, "the launcher does not answer"));
	CHECK(took_ns >= 500 * MS);
	tap_check(took_ns < 3 * SECOND, __FILE__, __LINE__, "it took %lld ms",
		  (long long)(took_ns / MS));
	kill(getppid(), SIGCONT);
	/* What was given up has come to its end. */
	CHECK_EQ(accel_pmix_job(LONG, &rank, &world), 0);
	CHECK_EQ(rank, my_rank());
	accel_device_close(dev);
}

TEST(pmix, launcher_that_hangs_at_first)
{
	UNDER_MPIRUN(1, "");
	meet_stopped_launcher(false);
}

TEST(pmix, launcher_that_hangs_later)
{
	int rank, world;

	UNDER_MPIRUN(2, "");
	if (!my_rank())
		meet_stopped_launcher(true);
	else /* a rank that never says hello would end the job */
		CHECK_EQ(accel_pmix_job(LONG, &rank, &world), 0);
}

static int allgather_alone(void *arg, const void *mine, void *all, size_t bytes)
{
	struct accel_member *members = all;

	(void)arg;
	memcpy(&members[my_rank()], mine, bytes);
	return -ENETDOWN;
}

/* What else says how to meet goes before PMIx. */
TEST(pmix, comes_after_arguments_and_environment)
{
	struct accel_group_opts opts = {.size = sizeof(opts), .timeout_ns = LONG};
	struct accel_group_info info = {.size = sizeof(info)};
	struct accel_group *group;
	struct accel_device *dev;
	char rank[16];
	int port;

	if (!accel_pmix_is_there()) {
		snprintf(rank, sizeof(rank), "%d", meet_free_ports());
		setenv("TEST_PORT", rank, 1);
	}
	UNDER_MPIRUN(2, "-x TEST_PORT");
	port = atoi(getenv("TEST_PORT"));
	REQUIRE_EQ(accel_device_open("host", &dev), 0);

	/* An address in the options: ranks by PMIx, meeting at the store. */
	opts.master_addr = "127.0.0.1";
	opts.master_port = (uint32_t)port;
	REQUIRE_EQ(accel_group_create(dev, -1, -1, &opts, &group), 0);
	CHECK_EQ(accel_group_info_get(group, &info), 0);
	CHECK_EQ(info.rank, my_rank());
	CHECK(!strcmp(info.met, "store") && info.store_port >= port);
	accel_group_destroy(group);

	/* One argument that agrees, and one that does not. */
	REQUIRE_EQ(accel_group_create(dev, my_rank(), -1, NULL, &group), 0);
	accel_group_destroy(group);
	CHECK_EQ(accel_group_create(dev, !my_rank(), -1, NULL, &group), -EINVAL);
	CHECK_EQ(accel_group_create(dev, -1, 3, NULL, &group), -EINVAL);

	/* The caller's allgather. */
	opts.allgather = allgather_alone;
	CHECK_EQ(accel_group_create(dev, -1, -1, &opts, &group), -ENETDOWN);
	opts.allgather = NULL;

	/* RANK and WORLD_SIZE, here the other way round. */
	snprintf(rank, sizeof(rank), "%d", !my_rank());
	setenv("RANK", rank, 1);
	setenv("WORLD_SIZE", "2", 1);
	REQUIRE_EQ(accel_group_create(dev, -1, -1, &opts, &group), 0);
	CHECK_EQ(accel_group_info_get(group, &info), 0);
	CHECK_EQ(info.rank, !my_rank());
	CHECK(!strcmp(info.met, "store"));
	accel_group_destroy(group);
	accel_device_close(dev);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

TEST(pmix, refuses_blobs_of_two_sizes)
{
	char mine[32] = "", all[64];
	struct accel_error error;

	UNDER_MPIRUN(2, "");
	CHECK_EQ(accel_pmix_allgather("odd", my_rank(), 2, LONG, mine, my_rank() ? 32 : 16, all),
		 -EPROTO);
	say_error(&error);
	CHECK_EQ(error.rank, !my_rank());
	CHECK(strstr(error.text, "run the same library"));
}

static bool refuse_after_fork(int rank, void *arg)
{
	struct accel_group *group = NULL;
	struct accel_error error;
	struct accel_device *dev = arg;

	(void)rank;
	if (!CHECK_EQ(create(dev, NULL, LONG, &group), -ENOTCONN))
		return false;
	say_error(&error);
	return CHECK(strstr(error.text, "forked"));
}

TEST(pmix, refuses_a_forked_child)
{
	struct accel_device *dev;

	UNDER_MPIRUN(2, "");
	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	create_and_talk(dev, NULL, 2);
	meet_processes(1, refuse_after_fork, dev);
	create_and_talk(dev, NULL, 2); /* the child's exit() has not taken PMIx away */
	accel_device_close(dev);
}

/* In a child, since libpmix stays loaded. */
static bool refuse(int rank, void *arg)
{
	const int *code = arg;
	struct accel_group *group = NULL;
	struct accel_device *dev;
	struct accel_error error;
	bool ok;

	(void)rank;
	setenv("PMIX_RANK", "0", 1);
	setenv("PMIX_NAMESPACE", "nobody's", 1);
	if (!CHECK_EQ(accel_device_open("host", &dev), 0))
		return false;
	ok = CHECK_EQ(create(dev, NULL, LONG, &group), *code);
	say_error(&error);
	accel_device_close(dev);
	fflush(stdout);
	_exit(!(ok && CHECK(strstr(error.text, "PMIx")))); /* libpmix may leak */
}

TEST(pmix, refuses_an_environment_without_a_launcher)
{
	int code = -ENOTCONN;

	if (system("ldconfig -p | grep -q 'libpmix\\.so\\.2 '"))
		SKIP("no libpmix.so.2 (Debian: libpmix2)");
	meet_processes(1, refuse, &code);
}
