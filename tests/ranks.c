// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ranks as processes or threads; see ranks.h. What they share lies in one anonymous mapping made
 * before they start: events (futex words), process ids, and the places where the allgather callback
 * meets.
 */
#define _GNU_SOURCE
#include "ranks.h"

#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	LIMIT_S = 60,
	GATHER_BYTES_MAX = 16384, /* a rank's part of an allgather */
};

#define AWAIT_NS INT64_C(30000000000)

struct place {					   /* where the ranks of one group gather */
	_Atomic uint32_t arrived, rounds, present; /* present: bit r, 0: all */
	uint8_t part[RANKS_MAX * GATHER_BYTES_MAX];
};

struct seat { /* allgather_arg */
	struct place *place;
	int rank, world;
};

struct run;

struct ranks_shared {
	_Atomic uint32_t event[RANKS_EVENTS];
	_Atomic pid_t pid[RANKS_MAX];
	_Atomic bool done[RANKS_LIVES];
	_Atomic int lives; /* started, or asked for; of threads */
	struct run *runs;  /* [RANKS_LIVES], of threads */
	int ask;	   /* where processes ask for a restart */
	uint16_t port;
	char name[RANKS_GROUPS][16];
	struct seat seat[RANKS_GROUPS][RANKS_MAX];
	struct place place[RANKS_GROUPS];
};

/* One life of a rank. */
struct run {
	struct ranks_ctx ctx;
	void (*body)(struct ranks_ctx *ctx, int rank);
	int rank, index;
	bool dies;
	pid_t pid;
	int end; /* of the process's pipe */
	pthread_t thread;
};

struct request {
	int rank;
	bool dies;
};

uint64_t ranks_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Wait until (int32_t)(*word - count) >= 0, that is, until it has reached count. */
static bool futex_await(_Atomic uint32_t *word, uint32_t count, int64_t limit_ns)
{
	const uint64_t end_ns = ranks_now_ns() + (uint64_t)limit_ns;
	uint32_t value;

	while ((int32_t)((value = atomic_load(word)) - count) < 0) {
		const int64_t left_ns = (int64_t)(end_ns - ranks_now_ns());
		struct timespec step = {.tv_nsec = left_ns < 100000000 ? left_ns : 100000000};

		if (left_ns <= 0)
			return false;
		syscall(SYS_futex, word, FUTEX_WAIT, value, &step, NULL, 0);
	}
	return true;
}

void ranks_raise(struct ranks_ctx *ctx, int event)
{
	atomic_fetch_add(&ctx->shared->event[event], 1);
	futex_wake(&ctx->shared->event[event]);
}

bool ranks_raised(struct ranks_ctx *ctx, int event, uint32_t count)
{
	return atomic_load(&ctx->shared->event[event]) >= count;
}

bool ranks_await_for(struct ranks_ctx *ctx, int event, uint32_t count, int64_t limit_ns)
{
	return futex_await(&ctx->shared->event[event], count, limit_ns);
}

bool ranks_await(struct ranks_ctx *ctx, int event, uint32_t count)
{
	bool ok = ranks_await_for(ctx, event, count, AWAIT_NS);

	return tap_check(ok, __FILE__, __LINE__, "event %d stayed at %u, waiting for %u", event,
			 atomic_load(&ctx->shared->event[event]), count);
}

bool ranks_meet(struct ranks_ctx *ctx, int event, uint32_t number, int members)
{
	ranks_raise(ctx, event);
	return ranks_await(ctx, event, number * (uint32_t)members);
}

pid_t ranks_pid(struct ranks_ctx *ctx, int rank)
{
	return atomic_load(&ctx->shared->pid[rank]);
}

/*
 * Two meetings: all parts are written before anyone reads, and all are read before anyone writes
 * the next.
 */
static int allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	struct seat *seat = arg;
	struct place *place = seat->place;
	const uint32_t all_ranks = (1u << seat->world) - 1, asked = atomic_load(&place->present),
		       present = asked ? asked : all_ranks;
	const uint32_t members = (uint32_t)__builtin_popcount(present);
	uint32_t round;

	if (bytes > GATHER_BYTES_MAX)
		return -EMSGSIZE;
	for (int r = 0; r < seat->world; r++)
		if (!(present >> r & 1))
			memset(place->part + (size_t)r * bytes, 0, bytes);
	memcpy(place->part + (size_t)seat->rank * bytes, mine, bytes);
	for (int meeting = 0; meeting < 2; meeting++) {
		round = atomic_load(&place->rounds);
		if (atomic_fetch_add(&place->arrived, 1) + 1 == members) {
			atomic_store(&place->arrived, 0);
			atomic_fetch_add(&place->rounds, 1);
			futex_wake(&place->rounds);
		} else if (!futex_await(&place->rounds, round + 1, AWAIT_NS)) {
			return -ETIMEDOUT;
		}
		if (!meeting)
			memcpy(all, place->part, bytes * (size_t)seat->world);
	}
	return 0;
}

void ranks_meet_as(struct ranks_ctx *ctx, int number, uint32_t present)
{
	atomic_store(&ctx->shared->place[number].present, present);
}

void ranks_group_opts(struct ranks_ctx *ctx, int rank, int number, struct accel_group_opts *opts)
{
	struct seat *seat = &ctx->shared->seat[number][rank];

	*opts = (struct accel_group_opts){
		.size = sizeof(*opts), .timeout_ns = 20000000000, .join = ctx->life > 0};
	if (ctx->store) {
		opts->master_addr = ctx->store_addr;
		opts->master_port = ctx->shared->port;
		opts->name = ctx->shared->name[number];
		return;
	}
	*seat = (struct seat){&ctx->shared->place[number], rank, ctx->world};
	opts->allgather = allgather;
	opts->allgather_arg = seat;
}

int ranks_group_create(struct ranks_ctx *ctx, int rank, int number, struct accel_device **dev,
		       struct accel_group **group)
{
	struct accel_error error = {.size = sizeof(error)};
	struct accel_group_opts opts;
	const char *device = ctx->device[rank % 2];
	int rc = accel_device_open(device ? device : "host", dev);

	if (rc)
		return rc;
	ranks_group_opts(ctx, rank, number, &opts);
	rc = accel_group_create(*dev, rank, ctx->world, &opts, group);
	if (rc) {
		accel_error_get(NULL, &error);
		tap_diag("rank %d: accel_group_create: %d: %s", rank, rc, error.text);
		accel_device_close(*dev);
	}
	return rc;
}

uint16_t ranks_free_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && !bind(fd, (struct sockaddr *)&addr, len) &&
		  !getsockname(fd, (struct sockaddr *)&addr, &len);

	tap_check(ok, __FILE__, __LINE__, "no free TCP port: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return ntohs(addr.sin_port);
}

static void *run_rank(void *arg)
{
	struct run *run = arg;

	run->body(&run->ctx, run->rank);
	atomic_store(&run->ctx.shared->done[run->index], true);
	return NULL;
}

/* The next life of a rank, made from its first. */
static struct run *run_again(struct run *runs, int index, int rank, bool dies)
{
	struct run *run = &runs[index];

	if (index >= RANKS_LIVES) {
		puts("Bail out! more restarts than a run can have");
		exit(1);
	}
	*run = runs[rank - runs->ctx.first];
	run->index = index;
	run->dies = dies;
	for (int i = 0; i < index; i++)
		run->ctx.life += runs[i].rank == rank;
	return run;
}

static void start_thread(struct run *run)
{
	if (pthread_create(&run->thread, NULL, run_rank, run)) {
		puts("Bail out! no more threads");
		exit(1);
	}
}

void ranks_restart(struct ranks_ctx *ctx, int rank, bool dies)
{
	const struct request request = {rank, dies};
	struct ranks_shared *shared = ctx->shared;

	if (ctx->threads)
		start_thread(
			run_again(shared->runs, atomic_fetch_add(&shared->lives, 1), rank, dies));
	else
		tap_check(write(shared->ask, &request, sizeof(request)) == sizeof(request),
			  __FILE__, __LINE__, "no restart: %s", strerror(errno));
}

/* Threads that are started meanwhile are waited for, too: one starts them that has not ended. */
static bool run_threads(struct run *runs, int count, unsigned limit_s)
{
	struct ranks_shared *shared = runs[0].ctx.shared;
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += limit_s;
	shared->runs = runs;
	atomic_store(&shared->lives, count);
	for (int i = 0; i < count; i++)
		start_thread(&runs[i]);
	for (int i = 0; i < atomic_load(&shared->lives); i++) {
		if (!pthread_timedjoin_np(runs[i].thread, NULL, &end))
			continue;
		for (int hung = 0; hung < atomic_load(&shared->lives); hung++)
			if (!atomic_load(&shared->done[hung]))
				tap_diag("rank %d (a thread) has not ended in %u s",
					 runs[hung].rank, limit_s);
		puts("Bail out! threads that hang cannot be killed");
		fflush(stdout);
		_exit(1);
	}
	return true;
}

/* A process holds the write end of its own pipe, whose end of file says that it has gone. */
static void start_process(struct run *run)
{
	int ends[2];

	if (pipe(ends) || (run->pid = fork()) < 0) {
		puts("Bail out! no more processes");
		exit(1);
	}
	if (run->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		atomic_store(&run->ctx.shared->pid[run->rank], getpid());
		run_rank(run);
		exit(0);
	}
	atomic_store(&run->ctx.shared->pid[run->rank], run->pid);
	close(ends[1]);
	run->end = ends[0];
}

/* Until all have gone; those that are asked for meanwhile are started. */
static bool await_children(struct run *runs, int *lives, int asked, unsigned limit_s)
{
	const uint64_t end_ns = ranks_now_ns() + limit_s * 1000000000ull;
	struct pollfd fds[RANKS_LIVES + 1];
	struct request request;

	for (int alive = *lives; alive;) {
		uint64_t now_ns = ranks_now_ns();
		int count = *lives;

		if (now_ns >= end_ns)
			return false;
		for (int i = 0; i < count; i++)
			fds[i] = (struct pollfd){.fd = runs[i].end, .events = POLLIN};
		fds[count] = (struct pollfd){.fd = asked, .events = POLLIN};
		if (poll(fds, (nfds_t)count + 1, (int)((end_ns - now_ns) / 1000000 + 1)) <= 0)
			continue;
		if (fds[count].revents &&
		    read(asked, &request, sizeof(request)) == sizeof(request)) {
			start_process(run_again(runs, (*lives)++, request.rank, request.dies));
			alive++;
			continue; /* who asked may be gone already: its request came first */
		}
		for (int i = 0; i < count; i++) {
			if (!fds[i].revents)
				continue;
			close(runs[i].end);
			runs[i].end = -1;
			alive--;
		}
	}
	return true;
}

static bool reap(struct run *runs, int lives, bool in_time, unsigned limit_s)
{
	bool ok = in_time;

	for (struct run *run = runs; run < runs + lives; run++) {
		int status = 0;

		if (!in_time && !waitpid(run->pid, &status, WNOHANG)) {
			tap_check(false, __FILE__, __LINE__,
				  "rank %d (pid %d, life %d) has not ended in %u s", run->rank,
				  run->pid, run->ctx.life, limit_s);
			kill(run->pid, SIGKILL);
			waitpid(run->pid, &status, 0);
			continue;
		}
		if (in_time)
			waitpid(run->pid, &status, 0);
		if (run->dies)
			ok &= tap_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
					__FILE__, __LINE__,
					"rank %d was to be killed, its status is %#x", run->rank,
					(unsigned)status);
		else
			ok &= tap_check(WIFEXITED(status) && !WEXITSTATUS(status) &&
						run->ctx.shared->done[run->index],
					__FILE__, __LINE__, "rank %d ended with status %#x",
					run->rank, (unsigned)status);
	}
	return ok;
}

static bool run_processes(struct run *runs, int count, unsigned limit_s)
{
	int ask[2], lives = count;
	bool ok;

	fflush(NULL);
	if (pipe(ask)) {
		puts("Bail out! no pipe");
		exit(1);
	}
	runs[0].ctx.shared->ask = ask[1];
	for (int i = 0; i < count; i++)
		start_process(&runs[i]);
	ok = await_children(runs, &lives, ask[0], limit_s);
	ok = reap(runs, lives, ok, limit_s);
	for (int i = 0; i < lives; i++)
		if (runs[i].end >= 0)
			close(runs[i].end);
	close(ask[0]);
	close(ask[1]);
	return ok;
}

bool ranks_run(const struct ranks_opts *opts, void (*body)(struct ranks_ctx *ctx, int rank))
{
	const unsigned limit_s = opts->limit_s ? opts->limit_s : LIMIT_S;
	const size_t head_bytes = (sizeof(struct ranks_shared) + 4095) / 4096 * 4096;
	const int here = opts->here ? opts->here : opts->world;
	struct ranks_ctx ctx = {.world = opts->world,
				.first = opts->first,
				.here = here,
				.store_addr = opts->store_addr ? opts->store_addr : "127.0.0.1",
				.threads = opts->threads,
				.store = opts->store,
				.device = {opts->device[0], opts->device[1]},
				.arg = opts->arg};
	struct run runs[RANKS_LIVES];
	uint8_t *map;
	bool ok;

	map = mmap(NULL, head_bytes + opts->area_bytes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (opts->world > RANKS_MAX || map == MAP_FAILED) {
		puts("Bail out! more ranks or memory than a run can have");
		exit(1);
	}
	ctx.shared = (struct ranks_shared *)map;
	ctx.area = map + head_bytes;
	ctx.shared->port = opts->store_port ?: opts->store ? ranks_free_port() : 0;
	for (int number = 0; number < RANKS_GROUPS; number++)
		snprintf(ctx.shared->name[number], sizeof(ctx.shared->name[number]), "group%d",
			 number);
	for (int i = 0; i < here; i++)
		runs[i] = (struct run){.ctx = ctx,
				       .body = body,
				       .rank = opts->first + i,
				       .index = i,
				       .dies = opts->dies >> (opts->first + i) & 1};
	ok = opts->threads ? run_threads(runs, here, limit_s) : run_processes(runs, here, limit_s);
	munmap(map, head_bytes + opts->area_bytes);
	return ok;
}
