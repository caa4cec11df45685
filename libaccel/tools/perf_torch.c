// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * PyTorch as a peer (perf_peer.h), bf16: a python3 beside this process computes what a user of PyTorch
 * writes, from weights and rows in memory that both share, and takes the time itself. It is told by a
 * pipe which expert to run, and answers with a number of ns.
 */
#define _GNU_SOURCE
#define ACCEL_NUM_FLOAT
#include "perf_machine.h"
#include "perf_peer.h"
#include "perf_ranks.h"
#include "uapi/accel_num.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Its arguments: the shared memory, hidden, intermediate, rows, experts, threads. */
static const char program[] =
	"import mmap, os, sys, time\n"
	"os.environ['OMP_PROC_BIND'] = 'true'\n"
	"try:\n"
	"    import torch\n"
	"except ImportError as e:\n"
	"    sys.exit(print('-', str(e).splitlines()[0]))\n"
	"from torch.nn.functional import linear, silu\n"
	"fd, hidden, inter, rows, experts, threads = map(int, sys.argv[1:])\n"
	"torch.set_num_threads(threads)\n"
	"torch.set_grad_enabled(False)\n"
	"memory, at = mmap.mmap(fd, 0), 0\n"
	"def matrix(height, width, dtype):\n"
	"    global at\n"
	"    made = torch.frombuffer(memory, dtype=dtype, count=height * width, offset=at)\n"
	"    at += made.nbytes\n"
	"    return made.view(height, width)\n"
	"y = matrix(rows, hidden, torch.float32)\n"
	"x = matrix(rows, hidden, torch.bfloat16)\n"
	"w = [(matrix(2 * inter, hidden, torch.bfloat16), matrix(hidden, inter, torch.bfloat16))\n"
	"     for e in range(experts)]\n"
	"print('+', torch.__version__, flush=True)\n"
	"for line in sys.stdin:\n"
	"    m, e = map(int, line.split())\n"
	"    begin = time.perf_counter_ns()\n"
	"    gate_up = linear(x[:m], w[e][0])\n"
	"    out = linear(silu(gate_up[:, :inter]) * gate_up[:, inter:], w[e][1])\n"
	"    ns = time.perf_counter_ns() - begin\n"
	"    y[:m] = out\n"
	"    print(ns, flush=True)\n";

struct torch {
	struct perf_peer peer;
	pid_t child;
	FILE *to, *from;
	void *memory; /* y, x, then each expert's weights, as the program has them */
	size_t bytes;
	uint16_t *x, *weights;
};

static size_t elements_of(const struct perf_peer_shape *s)
{
	return 3 * (size_t)s->hidden * s->intermediate;
}

static size_t expert_bytes(const struct perf_peer_shape *s)
{
	return elements_of(s) * sizeof(uint16_t);
}

static void close_torch(struct perf_peer *peer)
{
	struct torch *t = (struct torch *)peer;

	if (t->to)
		fclose(t->to); /* which ends it */
	if (t->from)
		fclose(t->from);
	if (t->child > 0)
		waitpid(t->child, NULL, 0);
	if (t->memory)
		munmap(t->memory, t->bytes);
	free(t);
}

static void round_all(const float *from, uint16_t *to, size_t begin, size_t end)
{
	for (size_t i = begin; i < end; i++)
		to[i] = accel_num_f32_to_bf16(accel_num_bits(from[i]));
}

static void pack_job(void *arg, unsigned member, unsigned threads)
{
	const struct torch *t = arg;
	const struct perf_peer_shape *s = t->peer.shape;
	size_t elements = elements_of(s), rows = (size_t)s->rows_max * s->hidden;

	round_all(s->x, t->x, rows * member / threads, rows * (member + 1) / threads);
	for (unsigned e = 0; e < s->experts; e++)
		round_all(s->plain[e], t->weights + e * elements, elements * member / threads,
			  elements * (member + 1) / threads);
}

static bool map_shared(struct torch *t, int *fd)
{
	const struct perf_peer_shape *s = t->peer.shape;
	size_t rows = (size_t)s->rows_max * s->hidden;

	t->bytes = rows * (sizeof(float) + sizeof(uint16_t)) + s->experts * expert_bytes(s);
	*fd = memfd_create("accel-perf torch", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, (off_t)t->bytes))
		return false;
	t->memory = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (t->memory == MAP_FAILED) {
		t->memory = NULL;
		return false;
	}
	t->peer.y = t->memory;
	t->x = (uint16_t *)(t->peer.y + rows);
	t->weights = t->x + rows;
	return true;
}

/* A python3 whose standard input and output are ours, and whose descriptor 3 is the memory. */
static int start(struct torch *t, int memory)
{
	const struct perf_peer_shape *s = t->peer.shape;
	const unsigned number[] = {3,		s->hidden,  s->intermediate,
				   s->rows_max, s->experts, perf_team_threads(s->team)};
	enum { NUMBERS = sizeof(number) / sizeof(*number) };
	char text[NUMBERS][16], *argv[3 + NUMBERS + 1] = {"python3", "-c", (char *)program};
	posix_spawn_file_actions_t actions;
	int in[2], out[2], rc;

	for (unsigned i = 0; i < NUMBERS; i++) {
		snprintf(text[i], sizeof(text[i]), "%u", number[i]);
		argv[3 + i] = text[i];
	}
	if (pipe2(in, O_CLOEXEC))
		return errno;
	if (pipe2(out, O_CLOEXEC)) {
		rc = errno;
		close(in[0]);
		close(in[1]);
		return rc;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, memory, 3);
	rc = posix_spawnp(&t->child, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	t->to = fdopen(in[1], "w");
	t->from = fdopen(out[0], "r");
	return rc ? rc : t->to && t->from ? 0 : ENOMEM;
}

/* Its first line is "+ VERSION", or "- " and why it cannot. */
static int greet(struct torch *t, char *why, unsigned why_bytes)
{
	char line[128] = "- python3 said nothing";

	if (fgets(line, sizeof(line), t->from) && *line == '+')
		return sscanf(line, "+ %31s", t->peer.software) == 1 ? 0 : -ENOENT;
	line[strcspn(line, "\n")] = '\0';
	snprintf(why, why_bytes, "%s", line + 2);
	return -ENOENT;
}

static int open_torch(const struct perf_peer_shape *s, struct perf_peer **peer, char *why,
		      unsigned why_bytes)
{
	struct torch *t = calloc(1, sizeof(*t));
	int fd = -1, rc;

	if (!t)
		return -ENOMEM;
	t->peer.ops = &perf_peer_torch;
	t->peer.shape = s;
	t->peer.payload_bytes = expert_bytes(s);
	signal(SIGPIPE, SIG_IGN); /* run() sees that it is gone */
	if (!map_shared(t, &fd)) {
		snprintf(why, why_bytes, "no memory for its weights");
		rc = -ENOMEM;
	} else {
		rc = -start(t, fd);
		if (rc)
			snprintf(why, why_bytes, "python3: %s", strerror(-rc));
		else
			rc = greet(t, why, why_bytes);
	}
	if (fd >= 0)
		close(fd);
	if (rc) {
		close_torch(&t->peer);
		return rc;
	}
	perf_team_run(s->team, pack_job, t);
	*peer = &t->peer;
	return 0;
}

static int64_t run(struct perf_peer *peer, unsigned expert)
{
	struct torch *t = (struct torch *)peer;
	long long ns;

	if (fprintf(t->to, "%u %u\n", peer->m, expert) > 0 && !fflush(t->to) &&
	    fscanf(t->from, "%lld", &ns) == 1)
		return ns;
	fprintf(stderr, "accel-perf ffn: the python3 that ran PyTorch has ended\n");
	exit(PERF_MISSING);
}

static bool prepare(struct perf_peer *peer, uint32_t m)
{
	peer->m = m;
	for (unsigned t = 0; t < PERF_PEER_TRIES; t++)
		run(peer, t % peer->shape->experts);
	snprintf(peer->settings, sizeof(peer->settings), "PyTorch %s, linear of bf16",
		 peer->software);
	return true;
}

const struct perf_peer_ops perf_peer_torch = {
	.method = "torch",
	.library = "torch",
	.dtype = "bf16",
	.error_max = 1e-2, /* it rounds what each step gives to bf16 */
	.expert_bytes = expert_bytes,
	.open = open_torch,
	.prepare = prepare,
	.run = run,
	.close = close_torch,
};
