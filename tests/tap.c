// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The TAP runner behind tap.h: main(), the list of tests and the checks. Not thread-safe but for
 * tap_check. Failed checks are counted in shared memory, so that those of a forked child count too.
 */
#include "tap.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

static struct tap_test *tests, **tests_tail = &tests;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned *failures; /* of the test that runs, children included */
static char skip_reason[256];

void tap_add(struct tap_test *test)
{
	*tests_tail = test;
	tests_tail = &test->next;
}

static void diag(const char *fmt, va_list args)
{
	fputs("# ", stdout);
	vprintf(fmt, args);
	putchar('\n');
	fflush(stdout);
}

void tap_diag(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	pthread_mutex_lock(&lock);
	diag(fmt, args);
	pthread_mutex_unlock(&lock);
	va_end(args);
}

bool tap_check(bool ok, const char *file, int line, const char *fmt, ...)
{
	va_list args;

	if (ok)
		return true;
	va_start(args, fmt);
	pthread_mutex_lock(&lock);
	if (__atomic_fetch_add(failures, 1, __ATOMIC_RELAXED) < 20) {
		printf("# %s:%d: ", file, line);
		vprintf(fmt, args);
		putchar('\n');
		fflush(stdout);
	}
	pthread_mutex_unlock(&lock);
	va_end(args);
	return false;
}

void tap_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(skip_reason, sizeof(skip_reason), fmt, args);
	va_end(args);
}

bool tap_failing(void)
{
	return __atomic_load_n(failures, __ATOMIC_RELAXED) > 0;
}

uint64_t tap_seed(void)
{
	static uint64_t seed;
	const char *env = getenv("SEED");

	if (seed)
		return seed;
	if (env)
		seed = strtoull(env, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = 1;
	seed |= !seed;
	tap_diag("SEED=%" PRIu64, seed);
	return seed;
}

uint64_t tap_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t tap_random_below(uint64_t *state, uint64_t bound)
{
	return tap_random(state) % bound;
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	unsigned count = 0, number = 0, failed = 0;

	if (argc == 2 && !strcmp(argv[1], "-l")) {
		for (struct tap_test *t = tests; t; t = t->next)
			puts(t->name);
		return 0;
	}
	for (struct tap_test *t = tests; t; t = t->next)
		count += wanted(t->name, argc, argv);
	failures = mmap(NULL, sizeof(*failures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (failures == MAP_FAILED) {
		puts("Bail out! no shared memory");
		return 1;
	}
	printf("1..%u\n", count);
	fflush(stdout);
	for (struct tap_test *t = tests; t; t = t->next) {
		if (!wanted(t->name, argc, argv))
			continue;
		*failures = 0;
		skip_reason[0] = '\0';
		t->run();
		failed += *failures > 0;
		printf("%sok %u - %s", *failures ? "not " : "", ++number, t->name);
		if (skip_reason[0] && !*failures)
			printf(" # SKIP %s", skip_reason);
		putchar('\n');
		fflush(stdout);
	}
	return failed > 0;
}
