// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The machine's own limits; see perf_machine.h. */
#define _GNU_SOURCE
#include "perf_machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif

enum {
	PASSES = 5,
	MAC_CHAINS = 12, /* independent sums: more than latency times units of any CPU we know */
	MAC_ROUNDS = 2000000,
	CACHE_GUESS_BYTES = 256 << 20,
};

int64_t perf_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void perf_cpu_name(char *name, size_t name_bytes)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256], *value;

	snprintf(name, name_bytes, "unknown");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "model name", 10) && (value = strchr(line, ':'))) {
			value[strcspn(value, "\n")] = '\0';
			snprintf(name, name_bytes, "%s", value + 2);
			break;
		}
	if (file)
		fclose(file);
}

size_t perf_cache_bytes(void)
{
	long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);

	return l3 > 0 ? (size_t)l3 : l2 > 0 ? (size_t)l2 : CACHE_GUESS_BYTES;
}

size_t perf_memory_free_bytes(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file) &&
	       !sscanf(line, "MemAvailable: %llu kB", &kib))
		;
	if (file)
		fclose(file);
	return kib << 10;
}

void *perf_map(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	madvise(map, bytes, MADV_HUGEPAGE);
	return map;
}

void perf_unmap(void *map, size_t bytes)
{
	if (map)
		munmap(map, bytes);
}

/* Eight floats or four words, in whatever registers the CPU has. */
typedef float floats8 __attribute__((vector_size(32)));
typedef uint64_t words4 __attribute__((vector_size(32)));

struct read_job {
	struct perf_team *team;
	const words4 *memory;
	size_t count;
	int64_t ns;
	uint64_t sum; /* keeps the reads alive */
};

static void read_job(void *arg, unsigned member, unsigned threads)
{
	struct read_job *job = arg;
	const words4 *from = job->memory + job->count * member / threads;
	const words4 *to = job->memory + job->count * (member + 1) / threads;
	words4 sum[4] = {0};
	int64_t start;

	perf_team_barrier(job->team);
	start = perf_now_ns();
	for (; from + 4 <= to; from += 4) {
		__builtin_prefetch(from + 64);
		__builtin_prefetch(from + 66);
		for (unsigned i = 0; i < 4; i++)
			sum[i] += from[i];
	}
	perf_team_barrier(job->team);
	if (!member)
		job->ns = perf_now_ns() - start;
	sum[0] += sum[1] + sum[2] + sum[3];
	__atomic_fetch_add(&job->sum, sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3],
			   __ATOMIC_RELAXED);
}

double perf_read_rate(struct perf_team *team, const void *memory, size_t bytes)
{
	struct read_job job = {.team = team, .memory = memory, .count = bytes / sizeof(words4)};
	double best = 0;

	for (unsigned pass = 0; pass < PASSES; pass++) {
		perf_team_run(team, read_job, &job);
		if (bytes * 1e9 / job.ns > best)
			best = bytes * 1e9 / job.ns;
	}
	return best;
}

struct mac_job {
	struct perf_team *team;
	int64_t ns;
	float sum; /* keeps the arithmetic alive */
};

/* Chains that begin with different values, or a compiler would compute one of them. */
static void chains_init(floats8 *sum)
{
	for (unsigned c = 0; c < MAC_CHAINS; c++)
		for (unsigned i = 0; i < 8; i++)
			sum[c][i] = c + i / 8.0f;
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static float macs_fused(unsigned rounds)
{
	const floats8 x = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
	floats8 sum[MAC_CHAINS];

	chains_init(sum);
	for (unsigned i = 0; i < rounds; i++)
		UNROLL
	for (unsigned c = 0; c < MAC_CHAINS; c++)
		sum[c] = __builtin_ia32_vfmaddps256(sum[c], x, x);
	for (unsigned c = 1; c < MAC_CHAINS; c++)
		sum[0] += sum[c];
	return sum[0][0];
}
#endif

static float macs_plain(unsigned rounds)
{
	const floats8 x = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
	floats8 sum[MAC_CHAINS];

	chains_init(sum);
	for (unsigned i = 0; i < rounds; i++)
		UNROLL
	for (unsigned c = 0; c < MAC_CHAINS; c++)
		sum[c] = sum[c] * x + x;
	for (unsigned c = 1; c < MAC_CHAINS; c++)
		sum[0] += sum[c];
	return sum[0][0];
}

static void mac_job(void *arg, unsigned member, unsigned threads)
{
	struct mac_job *job = arg;
	int64_t start;
	float sum;

	(void)threads;
	perf_team_barrier(job->team);
	start = perf_now_ns();
#ifdef __x86_64__
	sum = __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2")
		      ? macs_fused(MAC_ROUNDS)
		      : macs_plain(MAC_ROUNDS);
#else
	sum = macs_plain(MAC_ROUNDS);
#endif
	perf_team_barrier(job->team);
	if (!member) {
		job->ns = perf_now_ns() - start;
		job->sum = sum;
	}
}

double perf_mac_rate(struct perf_team *team)
{
	struct mac_job job = {.team = team};
	double best = 0;

	for (unsigned pass = 0; pass < PASSES; pass++) {
		double macs = (double)MAC_ROUNDS * MAC_CHAINS * 8 * perf_team_threads(team);

		perf_team_run(team, mac_job, &job);
		if (macs * 1e9 / job.ns > best)
			best = macs * 1e9 / job.ns;
	}
	return best;
}
