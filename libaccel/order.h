/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Ordering between ranks, in one place: nobody else touches memory that another rank writes.
 *
 * Every word of a board (shm.c) has one writer. The three hand-overs are
 *
 *   signal  writer: fields, then round by a sequentially consistent exchange;
 *           reader: round by an acquire load, then fields.
 *   sleep   reader: asleep + 1, then round (both seq_cst), then FUTEX_WAIT, which compares round again
 *           in the kernel; writer: round, then asleep (both seq_cst), FUTEX_WAKE if it is not zero.
 *           One of the two sees the other's store.
 *   fence   owner: admits = none, fence, then it may write its rows; reader: reads rows, fence, loads
 *           admits: if a row it read was new, admits is no longer the reader's incarnation and the
 *           sum is thrown away (a seqlock whose counter never comes back to what it was).
 *
 * ep.pml and order.pml are models of this and of the protocol above it, searched by make check; with peers
 * that land, ep_landing.pml.
 */
#ifndef ACCEL_ORDER_H
#define ACCEL_ORDER_H

#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline uint32_t accel_load_acquire(const _Atomic uint32_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

static inline uint64_t accel_load_acquire_64(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

static inline void accel_store_release(_Atomic uint32_t *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

static inline void accel_store_release_64(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

/*
 * Rows before it are read, or admits is stored, before anything after it. ThreadSanitizer knows no
 * fences: there it is the bare instruction, since nothing but the seqlock of masks rests on it.
 */
static inline void accel_fence(void)
{
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
	__asm__ volatile("mfence" ::: "memory");
#elif defined(__SANITIZE_THREAD__)
	__sync_synchronize();
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void accel_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* Sleep while *word is value, at most ns. The word may lie in a read-only shared mapping. */
static inline void accel_futex_wait(const _Atomic uint32_t *word, uint32_t value, int64_t ns)
{
	struct timespec left = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	syscall(SYS_futex, word, FUTEX_WAIT, value, &left, NULL, 0);
}

static inline void accel_futex_wake(const _Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static inline int64_t accel_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

#endif
