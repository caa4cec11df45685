/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A test program is a set of TEST()s; tap.c has main(), which runs them in order of definition and
 * speaks TAP.
 *
 *     TEST(queue, post_full_ring_returns_eagain)
 *     {
 *             CHECK_EQ(queue_post(...), -EAGAIN);
 *     }
 *
 * A failed CHECK prints the place and both values and goes on; REQUIRE also leaves the test.
 * SKIP("reason") leaves it as skipped. Arguments of the program are substrings: only tests whose
 * name holds one of them run; -l lists. Random tests take their seed from tap_seed(): printed, and
 * set with SEED=n in the environment.
 */
#ifndef ACCEL_TESTS_TAP_H
#define ACCEL_TESTS_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap_test {
	const char *name;
	void (*run)(void);
	struct tap_test *next;
};

void tap_add(struct tap_test *test);
bool tap_check(bool ok, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void tap_diag(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tap_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool tap_failing(void); /* has a check of the running test failed, in this process or a child? */
uint64_t tap_seed(void);
uint64_t tap_random(uint64_t *state);			    /* splitmix64 */
uint64_t tap_random_below(uint64_t *state, uint64_t bound); /* 0..bound-1; bound > 0 */

#define TEST(noun, behaviour)                                                                      \
	static void noun##_##behaviour(void);                                                      \
	static struct tap_test noun##_##behaviour##_test = {#noun " " #behaviour,                  \
							    noun##_##behaviour, NULL};             \
	__attribute__((constructor)) static void noun##_##behaviour##_add(void)                    \
	{                                                                                          \
		tap_add(&noun##_##behaviour##_test);                                               \
	}                                                                                          \
	static void noun##_##behaviour(void)

#define CHECK(cond) tap_check(!!(cond), __FILE__, __LINE__, "%s", #cond)
#define CHECK_EQ(got, want)                                                                        \
	({                                                                                         \
		long long tap_got = (long long)(got), tap_want = (long long)(want);                \
		tap_check(tap_got == tap_want, __FILE__, __LINE__, "%s is %lld, not %s = %lld",    \
			  #got, tap_got, #want, tap_want);                                         \
	})
#define REQUIRE(cond)                                                                              \
	do {                                                                                       \
		if (!CHECK(cond))                                                                  \
			return;                                                                    \
	} while (0)
#define REQUIRE_EQ(got, want)                                                                      \
	do {                                                                                       \
		if (!CHECK_EQ(got, want))                                                          \
			return;                                                                    \
	} while (0)
#define SKIP(...)                                                                                  \
	do {                                                                                       \
		tap_skip(__VA_ARGS__);                                                             \
		return;                                                                            \
	} while (0)

#endif
