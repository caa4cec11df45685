// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The lock, the engine's thread, and what ThreadSanitizer is told of both: nothing. Its functions
 * are there only in a program that is built with it, so all of them are weak here.
 */
#define _GNU_SOURCE
#include "loop_inside.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define WEAK __attribute__((weak))

extern void AnnotateIgnoreReadsBegin(const char *file, int line) WEAK;
extern void AnnotateIgnoreReadsEnd(const char *file, int line) WEAK;
extern void AnnotateIgnoreWritesBegin(const char *file, int line) WEAK;
extern void AnnotateIgnoreWritesEnd(const char *file, int line) WEAK;
extern void AnnotateIgnoreSyncBegin(const char *file, int line) WEAK;
extern void AnnotateIgnoreSyncEnd(const char *file, int line) WEAK;
extern void __tsan_acquire(void *addr) WEAK;
extern void __tsan_release(void *addr) WEAK;
extern void __tsan_read_range(void *addr, long bytes) WEAK;
extern void __tsan_write_range(void *addr, long bytes) WEAK;
extern void *__tsan_get_current_fiber(void) WEAK;
extern void *__tsan_create_fiber(unsigned flags) WEAK;
extern void __tsan_destroy_fiber(void *fiber) WEAK;
extern void __tsan_switch_to_fiber(void *fiber, unsigned flags) WEAK;

enum { NO_SYNC = 1, YIELDS_MAX = 1000 };

#define AWAIT_NS_MAX INT64_C(10000000000)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static _Atomic unsigned waiting; /* threads that want the lock */
static pthread_t thread;
static bool stop, joining;

__attribute__((constructor)) static void set_up(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &attr);
	pthread_condattr_destroy(&attr);
	/* The engine holds the lock now and then: not in a child, where it does not run on. */
	pthread_atfork(loop_enter, loop_leave, loop_leave);
}

/* Of this thread: TSan looks away. */
static void blind_begin(void)
{
	if (!AnnotateIgnoreSyncBegin)
		return;
	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
	AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}

static void blind_end(void)
{
	if (!AnnotateIgnoreSyncBegin)
		return;
	AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

void loop_enter(void)
{
	blind_begin();
	atomic_fetch_add(&waiting, 1);
	pthread_mutex_lock(&lock);
	atomic_fetch_sub(&waiting, 1);
}

void loop_leave(void)
{
	pthread_mutex_unlock(&lock);
	blind_end();
}

void loop_changed(void)
{
	pthread_cond_broadcast(&changed);
}

int64_t loop_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void wait_until(int64_t end_ns)
{
	const struct timespec end = {.tv_sec = end_ns / 1000000000, .tv_nsec = end_ns % 1000000000};

	if (end_ns == LOOP_NEVER)
		pthread_cond_wait(&changed, &lock);
	else
		pthread_cond_timedwait(&changed, &lock, &end);
}

bool loop_await(int64_t *since_ns)
{
	const int64_t now_ns = loop_now_ns();

	if (!*since_ns)
		*since_ns = now_ns;
	if (now_ns - *since_ns >= AWAIT_NS_MAX)
		return false;
	wait_until(*since_ns + AWAIT_NS_MAX);
	return true;
}

/* Whoever wants the lock gets it: the engine comes back at once, and a mutex is not fair. */
static void let_others(void)
{
	if (!atomic_load(&waiting))
		return;
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < YIELDS_MAX && atomic_load(&waiting); i++)
		sched_yield();
	pthread_mutex_lock(&lock);
}

static void *engine(void *arg)
{
	prctl(PR_SET_TIMERSLACK, 1);
	loop_enter();
	while (!stop) {
		const int64_t now_ns = loop_now_ns(), due_ns = loop_step(now_ns);

		if (due_ns > now_ns)
			wait_until(due_ns);
		else
			let_others();
	}
	loop_leave();
	return arg;
}

int loop_engine_start(void)
{
	int rc;

	while (joining)
		pthread_cond_wait(&changed, &lock);
	if (loop.live.threads) /* by another that waited */
		return 0;
	stop = false;
	rc = pthread_create(&thread, NULL, engine, NULL);
	loop.live.threads += !rc;
	return rc;
}

void loop_engine_stop(void)
{
	const pthread_t ended = thread;

	stop = joining = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	pthread_join(ended, NULL);
	pthread_mutex_lock(&lock);
	joining = false;
	loop.live.threads--;
	pthread_cond_broadcast(&changed);
}

/* ---- ThreadSanitizer ------------------------------------------------------------------------- */

void *loop_fiber_create(void)
{
	return __tsan_create_fiber ? __tsan_create_fiber(0) : NULL;
}

void loop_fiber_destroy(void *fiber)
{
	if (fiber)
		__tsan_destroy_fiber(fiber);
}

/* The calls between these two are the fiber's. A fiber is not blind; the thread it began in is. */
static void *fiber_begin(void *fiber)
{
	void *self = NULL;

	if (fiber) {
		self = __tsan_get_current_fiber();
		__tsan_switch_to_fiber(fiber, NO_SYNC);
	} else {
		blind_end();
	}
	return self;
}

static void fiber_end(void *self)
{
	if (self)
		__tsan_switch_to_fiber(self, NO_SYNC);
	else
		blind_begin();
}

void loop_acquire(void *fiber, void *sync)
{
	void *self;

	if (!__tsan_acquire)
		return;
	self = fiber_begin(fiber);
	__tsan_acquire(sync);
	fiber_end(self);
}

void loop_release(void *fiber, void *sync)
{
	void *self;

	if (!__tsan_release)
		return;
	self = fiber_begin(fiber);
	__tsan_release(sync);
	fiber_end(self);
}

void loop_touch(void *fiber, const void *read, void *written, size_t bytes)
{
	void *self;

	if (!__tsan_read_range)
		return;
	self = fiber_begin(fiber);
	if (read)
		__tsan_read_range((void *)(uintptr_t)read, (long)bytes);
	if (written)
		__tsan_write_range(written, (long)bytes);
	fiber_end(self);
}
