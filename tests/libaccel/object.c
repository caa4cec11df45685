// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accel_error.h: errors as data, the log; and the copying of size-prefixed structs. */
#include "object.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define HAS_TEXT(error, part) CHECK(strstr((error).text, part) != NULL)

static struct accel_error error_get(const void *obj)
{
	struct accel_error error = {.size = sizeof(error)};

	CHECK_EQ(accel_error_get(obj, &error), 0);
	return error;
}

TEST(error, says_what_failed)
{
	uint64_t missing[ACCEL_RANKS_MAX / 64] = {5};
	struct accel_failure where = {
		.rank = 7, .phase = ACCEL_PHASE_COMBINE, .lane = 1, .round = 9, .missing = missing};
	struct accel_object obj;
	struct accel_error error;

	accel_object_init(&obj, ACCEL_OBJECT_EP);
	error = error_get(&obj);
	CHECK_EQ(error.code, 0);
	CHECK_EQ(error.rank, -1);
	CHECK_EQ(error.lane, -1);
	CHECK_EQ(error.text[0], '\0');
	CHECK_EQ(accel_fail(&obj, -ETIMEDOUT, &where, "rank %d is late", 7), -ETIMEDOUT);
	error = error_get(&obj);
	CHECK_EQ(error.size, sizeof(error));
	CHECK_EQ(error.code, -ETIMEDOUT);
	CHECK_EQ(error.rank, 7);
	CHECK_EQ(error.phase, ACCEL_PHASE_COMBINE);
	CHECK_EQ(error.lane, 1);
	CHECK_EQ(error.round, 9);
	CHECK_EQ(error.missing[0], 5);
	CHECK(!strcmp(error.text, "rank 7 is late"));
	accel_object_fini(&obj);
}

TEST(error, of_a_failed_create_is_the_threads)
{
	struct accel_device *dev = NULL;

	CHECK_EQ(accel_device_open("no such", &dev), -ENOENT);
	CHECK(dev == NULL);
	CHECK_EQ(error_get(NULL).code, -ENOENT);
	CHECK_EQ(error_get(NULL).phase, ACCEL_PHASE_CREATE);
	HAS_TEXT(error_get(NULL), "no such");
}

static void *other_thread(void *arg)
{
	*(struct accel_error *)arg = error_get(NULL);
	return NULL;
}

TEST(error, of_another_thread_is_its_own)
{
	struct accel_error theirs;
	pthread_t thread;

	accel_fail(NULL, -EINVAL, NULL, "mine");
	REQUIRE_EQ(pthread_create(&thread, NULL, other_thread, &theirs), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(theirs.code, 0);
	CHECK_EQ(theirs.rank, -1);
	HAS_TEXT(error_get(NULL), "mine");
}

TEST(error, get_rejects_what_is_no_object)
{
	struct accel_error error = {.size = sizeof(error), .code = 42};
	uint64_t stray[16] = {1, 2, 3};
	struct accel_object gone;

	CHECK_EQ(accel_error_get(stray, &error), -EINVAL);
	accel_object_init(&gone, ACCEL_OBJECT_GROUP);
	accel_object_fini(&gone);
	CHECK_EQ(accel_error_get(&gone, &error), -EINVAL);
	CHECK_EQ(accel_error_get(NULL, NULL), -EINVAL);
	error.size = 0;
	CHECK_EQ(accel_error_get(NULL, &error), -EINVAL);
	CHECK_EQ(error.code, 42);
}

TEST(error, get_writes_no_more_than_the_caller_knows)
{
	struct accel_error error;

	accel_fail(NULL, -EINVAL, NULL, "a sentence that is longer than the room for it");
	memset(&error, 0x55, sizeof(error));
	error.size = offsetof(struct accel_error, phase);
	CHECK_EQ(accel_error_get(NULL, &error), 0);
	CHECK_EQ(error.code, -EINVAL);
	CHECK_EQ(error.phase, 0x55555555);
	error.size = offsetof(struct accel_error, text) + 11;
	CHECK_EQ(accel_error_get(NULL, &error), 0);
	CHECK(!strcmp(error.text, "a sentence"));
	CHECK_EQ(error.text[11], 0x55);
	error.size = SIZE_MAX; /* a newer caller's, or garbage: ours and no more */
	CHECK_EQ(accel_error_get(NULL, &error), 0);
	CHECK_EQ(error.size, SIZE_MAX);
}

TEST(error, text_is_cut_and_not_overrun)
{
	char longer[2 * ACCEL_ERROR_TEXT_BYTES];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	accel_fail(NULL, -EINVAL, NULL, "%s", longer);
	CHECK_EQ(strlen(error_get(NULL).text), ACCEL_ERROR_TEXT_BYTES - 1);
}

struct opts { /* as the library knows it */
	size_t size;
	uint64_t a, b;
};

TEST(struct_copy, in_takes_older_equal_and_newer)
{
	struct {
		struct opts known;
		uint64_t newer;
	} user = {.known = {.size = sizeof(user), .a = 1, .b = 2}};
	struct opts opts;

	memset(&opts, 0x55, sizeof(opts));
	CHECK_EQ(accel_struct_copy_in(NULL, "opts", NULL, &opts, sizeof(opts)), 0);
	CHECK(opts.size == sizeof(opts) && !opts.a && !opts.b);
	CHECK_EQ(accel_struct_copy_in(NULL, "opts", &user, &opts, sizeof(opts)), 0);
	CHECK(opts.size == sizeof(opts) && opts.a == 1 && opts.b == 2);
	user.known.size = offsetof(struct opts, b);
	CHECK_EQ(accel_struct_copy_in(NULL, "opts", &user, &opts, sizeof(opts)), 0);
	CHECK(opts.a == 1 && opts.b == 0);
}

TEST(struct_copy, in_rejects_no_size_and_unknown_fields)
{
	struct {
		struct opts known;
		uint64_t newer;
	} user = {.known = {.size = 0}, .newer = 1};
	struct opts opts = {.a = 42};

	for (user.known.size = 0; user.known.size < sizeof(size_t); user.known.size++)
		CHECK_EQ(accel_struct_copy_in(NULL, "opts", &user, &opts, sizeof(opts)), -EINVAL);
	HAS_TEXT(error_get(NULL), "opts");
	user.known.size = sizeof(user);
	CHECK_EQ(accel_struct_copy_in(NULL, "opts", &user, &opts, sizeof(opts)), -E2BIG);
	user.known.size = SIZE_MAX; /* must not be read to its end */
	CHECK_EQ(accel_struct_copy_in(NULL, "opts", &user, &opts, sizeof(opts)), -E2BIG);
	CHECK_EQ(opts.a, 42);
}

TEST(struct_copy, out_writes_what_both_know)
{
	struct opts known = {.size = 1234, .a = 1, .b = 2}, user = {.size = sizeof(user)};

	CHECK_EQ(accel_struct_copy_out(NULL, "opts", &known, sizeof(known), &user), 0);
	CHECK(user.size == sizeof(user) && user.a == 1 && user.b == 2);
	user = (struct opts){.size = offsetof(struct opts, b), .b = 9};
	CHECK_EQ(accel_struct_copy_out(NULL, "opts", &known, sizeof(known), &user), 0);
	CHECK(user.a == 1 && user.b == 9);
	user.size = 0;
	CHECK_EQ(accel_struct_copy_out(NULL, "opts", &known, sizeof(known), &user), -EINVAL);
	CHECK_EQ(accel_struct_copy_out(NULL, "opts", &known, sizeof(known), NULL), -EINVAL);
}

struct log {
	unsigned lines;
	int level;
	char line[1024];
};

static void log_keep(void *arg, int level, const char *line)
{
	struct log *kept = arg;

	kept->lines++;
	kept->level = level;
	snprintf(kept->line, sizeof(kept->line), "%s", line);
}

TEST(log, hands_a_failure_to_the_callback_once)
{
	struct log kept = {0};

	CHECK_EQ(accel_log_set(ACCEL_LOG_WARN, log_keep, &kept), 0);
	accel_fail(NULL, -EINVAL, NULL, "two\nlines");
	CHECK_EQ(kept.lines, 1);
	CHECK_EQ(kept.level, ACCEL_LOG_ERROR);
	CHECK(!strcmp(kept.line, "two?lines"));
	accel_log(ACCEL_LOG_INFO, "below the level");
	CHECK_EQ(kept.lines, 1);
	CHECK_EQ(accel_log_set(ACCEL_LOG_NONE, NULL, NULL), 0);
	accel_fail(NULL, -EINVAL, NULL, "nobody listens");
	CHECK_EQ(kept.lines, 1);
}

TEST(log, rejects_unknown_levels)
{
	CHECK_EQ(accel_log_set(-1, NULL, NULL), -EINVAL);
	CHECK_EQ(accel_log_set(ACCEL_LOG_DEBUG + 1, NULL, NULL), -EINVAL);
}

static void log_from_callback(void *arg, int level, const char *line)
{
	(void)line;
	if (level == ACCEL_LOG_ERROR) {
		++*(unsigned *)arg;
		accel_log(ACCEL_LOG_WARN, "the callback logs");
	} else {
		*(unsigned *)arg += 10;
	}
}

TEST(log, callback_may_call_the_library)
{
	unsigned calls = 0;

	accel_log_set(ACCEL_LOG_DEBUG, log_from_callback, &calls);
	accel_log(ACCEL_LOG_ERROR, "from outside");
	accel_log_set(ACCEL_LOG_NONE, NULL, NULL);
	CHECK_EQ(calls, 11);
}

static void log_drop(void *arg, int level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void *log_fail_many(void *arg)
{
	for (int i = 0; i < 1000; i++)
		accel_fail(arg, -EINVAL, NULL, "line %d", i);
	return NULL;
}

TEST(log, and_errors_are_safe_from_many_threads)
{
	struct accel_object obj;
	pthread_t threads[3];

	accel_object_init(&obj, ACCEL_OBJECT_EP);
	for (int i = 0; i < 3; i++)
		REQUIRE_EQ(pthread_create(&threads[i], NULL, log_fail_many, &obj), 0);
	for (int i = 0; i < 200; i++) {
		accel_log_set(i % 2 ? ACCEL_LOG_ERROR : ACCEL_LOG_NONE, log_drop, NULL);
		CHECK(!strncmp(error_get(&obj).text, "line ", error_get(&obj).code ? 5 : 0));
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	accel_log_set(ACCEL_LOG_NONE, NULL, NULL);
	accel_object_fini(&obj);
}

/*
 * The once-read environment needs a process of its own: this program again, with the name of the
 * test below.
 */
static void child_run(const char *value, char *text, size_t room)
{
	int out[2], status;
	ssize_t n;
	pid_t pid;

	text[0] = '\0';
	REQUIRE_EQ(pipe(out), 0);
	pid = fork();
	if (!pid) {
		setenv("ACCEL_LOG", value, 1);
		dup2(out[1], 2);
		dup2(open("/dev/null", O_WRONLY), 1);
		execl("/proc/self/exe", "object", "of_a_child_that_fails", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	n = read(out[0], text, room - 1);
	text[n > 0 ? n : 0] = '\0';
	close(out[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(log, of_a_child_that_fails)
{
	struct accel_device *dev;

	CHECK_EQ(accel_device_open("elsewhere", &dev), -ENOENT);
}

TEST(log, environment_decides_until_the_first_call)
{
	char text[512];

	child_run("error", text, sizeof(text));
	CHECK(!strncmp(text, "accel: error: ", 14) && strstr(text, "elsewhere") &&
	      strchr(text, '\n'));
	child_run("debug", text, sizeof(text));
	CHECK(!strncmp(text, "accel: error: ", 14));
	child_run("", text, sizeof(text));
	CHECK(!text[0]);
	child_run("loud", text, sizeof(text));
	CHECK(!text[0]);
}
