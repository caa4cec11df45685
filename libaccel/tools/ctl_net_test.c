// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accelctl net --test: two ranks on two hosts exchange rows of R1's size over RDMA alone, by the same
 * calls as a framework. Expert 0 is rank 0's, expert 1 rank 1's, and every token goes to the other's.
 *
 *     port           there is one that can be used
 *     introduction   a row that says which ports its sender uses
 *     bytes          ROWS rows there, each checked, and back as results, each checked
 *     latency        one row each, LATENCY_ROUNDS times; the median of each way
 *     bandwidth      ROWS rows from both at once, then from rank 0 alone; as many rounds as rank 0 finds
 *                    to take BANDWIDTH_NS, which it tells in a row
 *     end            one row more, and no byte was copied by a CPU
 *
 * What goes wrong is said with the part of docs/rdma.md that has the cure.
 */
#include "ctl.h"

#include <accel/accel_net.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HIDDEN 7168u
#define ROW_BYTES (2 * HIDDEN)
#define ROWS 512u
#define LATENCY_ROUNDS 200
#define BANDWIDTH_NS INT64_C(1000000000)
#define ROUNDS_MIN 1 /* 14 MiB of rows are enough of a slow link */
#define ROUNDS_MAX 2000
#define RAILS_MAX 8

/* The first row that each sends: what it is. */
struct introduction {
	uint32_t rail_count, rounds;
	struct accel_net_port rail[RAILS_MAX];
};

_Static_assert(sizeof(struct introduction) <= ROW_BYTES, "it travels as one row");

struct test {
	const struct ctl_opts *opts;
	struct accel_device *dev;
	struct accel_group *group;
	struct accel_ep *ep;
	struct accel_buffer *buf; /* x, then out */
	uint8_t *x, *out, *y;
	int rank;
	int32_t topk_idx[ROWS];
	struct introduction mine, theirs;
	int64_t dispatch_ns, combine_ns; /* of the last round */
	int64_t latency_ns[2];		 /* medians: dispatch, combine */
	double both_bytes_per_s, alone_bytes_per_s;
	struct accel_ep_stats stats;
	/* Where it ended, if it did not pass. */
	const char *step, *see;
	int code;
	char why[ACCEL_ERROR_TEXT_BYTES];
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ---- What is said of a failure --------------------------------------------------------------- */

#define SEE(section) "docs/rdma.md#" section

/* What is in the library's sentence, or the verbs', and who explains it. */
static const struct {
	const char *says, *see;
} cures[] = {
	{"transport retry counter", SEE("retry-exceeded")},
	{"RNR retry counter", SEE("rnr")},
	{"local protection", SEE("local-protection")},
	{"remote access", SEE("local-protection")},
	{"Flushed", SEE("flushed")},
	{"RLIMIT_MEMLOCK", SEE("pinned-memory")},
	{"uverbs", SEE("containers")},
	{"GID", SEE("gids")},
	{"did not come", SEE("control-connection")},
	{"leads there", SEE("control-connection")},
	{"listens on TCP", SEE("control-connection")},
};

static bool fail(struct test *t, const char *why, const char *see)
{
	t->see = see;
	if (!t->code)
		t->code = -EIO;
	snprintf(t->why, sizeof(t->why), "%s", why);
	return false;
}

/* In the library's words; obj NULL: it was a create. */
static bool refused(struct test *t, const void *obj, int code)
{
	struct accel_error error = {.size = sizeof(error)};
	const char *see = SEE("errors");

	t->code = code;
	accel_error_get(obj, &error);
	for (size_t i = sizeof(cures) / sizeof(*cures); i-- > 0;)
		if (strstr(error.text, cures[i].says))
			see = cures[i].see;
	return fail(t, error.text, see);
}

/* ---- A round --------------------------------------------------------------------------------- */

/* Depends on the place and the sender, so that a row that lies elsewhere is seen. */
static void row_fill(uint8_t *row, int rank, uint32_t index)
{
	for (uint32_t i = 0; i < ROW_BYTES / 4; i++) {
		uint32_t word = (index * ROW_BYTES + i * 4 + (uint32_t)rank) * 2654435761u;

		/* As two bf16 values that are ordinary numbers, so that a sum of one is itself. */
		word = (word & 0x807f807fu) | 0x3f803f80u;
		memcpy(row + i * 4, &word, 4);
	}
}

static bool dispatch(struct test *t, uint32_t tokens, struct accel_ep_recv *recv)
{
	struct accel_ep_input input = {
		.size = sizeof(input), .tokens = tokens, .x = t->x, .topk_idx = t->topk_idx};
	int64_t begun_ns = now_ns();
	int rc;

	recv->size = sizeof(*recv);
	rc = accel_ep_dispatch(t->ep, 0, &input, -1, recv);
	t->dispatch_ns = now_ns() - begun_ns;
	return rc ? refused(t, t->ep, rc) : true;
}

static bool combine(struct test *t, uint32_t tokens)
{
	int64_t begun_ns = now_ns();
	int rc = accel_ep_combine(t->ep, 0, NULL, -1, tokens ? t->out : NULL, 0, NULL);

	t->combine_ns = now_ns() - begun_ns;
	return rc ? refused(t, t->ep, rc) : true;
}

static bool round_run(struct test *t, uint32_t tokens)
{
	struct accel_ep_recv recv;

	return dispatch(t, tokens, &recv) && combine(t, tokens);
}

/* ---- The steps ------------------------------------------------------------------------------- */

/* Before the other host is waited for. */
static bool port_find(struct test *t)
{
	struct accel_net_port ports[RAILS_MAX] = {{.size = sizeof(*ports)}};
	uint32_t count = 0;
	int rc = accel_net_ports_get(NULL, ports, RAILS_MAX, &count);

	t->step = "looking for a port";
	if (rc)
		return refused(t, NULL, rc);
	for (uint32_t i = 0; i < count && i < RAILS_MAX; i++)
		if (ports[i].rail)
			return true;
	t->code = -ENODEV;
	return fail(t, ports[0].why, SEE("errors"));
}

static bool meet(struct test *t)
{
	struct accel_group_opts opts = {.size = sizeof(opts),
					.name = "accelctl net --test",
					.transports = "verbs",
					.master_addr = t->opts->peer,
					.master_port = t->opts->port};
	struct accel_group_info info = {.size = sizeof(info)};
	int world = t->opts->rank < 0 ? -1 : 2, rc;

	t->step = "meeting the other host";
	if (!opts.master_addr && t->opts->rank == 0)
		opts.master_addr = "0.0.0.0";
	rc = accel_device_open(t->opts->device ? t->opts->device : "host", &t->dev);
	if (!rc)
		rc = accel_group_create(t->dev, t->opts->rank, world, &opts, &t->group);
	if (rc)
		return refused(t, NULL, rc);
	accel_group_info_get(t->group, &info);
	t->rank = info.rank;
	if (info.world == 2)
		return true;
	return fail(t, "a link has two ends: set WORLD_SIZE=2, or give --rank",
		    SEE("accelctl-net"));
}

static bool connect_link(struct test *t)
{
	struct accel_ep_opts opts = {.size = sizeof(opts), .lanes = 1};
	struct accel_ep_output output = {.size = sizeof(output)};
	int rc;

	t->step = "connecting queue pairs";
	rc = accel_ep_create(t->group, HIDDEN, 1, 2, ROWS, &opts, &t->ep);
	if (!rc)
		rc = accel_buffer_create(t->dev, 2ull * ROWS * ROW_BYTES, NULL, &t->buf);
	if (rc)
		return refused(t, NULL, rc);
	accel_ep_output_get(t->ep, 0, &output);
	t->y = output.y;
	t->x = accel_buffer_addr(t->buf);
	t->out = t->x + ROWS * ROW_BYTES;
	for (uint32_t i = 0; i < ROWS; i++)
		t->topk_idx[i] = !t->rank;
	return true;
}

/* Each sends what it is, and rank 0 how many rounds to measure. */
static bool introduce(struct test *t, uint32_t rounds)
{
	struct accel_ep_recv recv;

	memset(&t->mine, 0, sizeof(t->mine));
	t->mine.rounds = rounds;
	t->mine.rail[0].size = sizeof(t->mine.rail[0]);
	accel_net_rails_get(t->group, t->mine.rail, RAILS_MAX, &t->mine.rail_count);
	memset(t->x, 0, ROW_BYTES);
	memcpy(t->x, &t->mine, sizeof(t->mine));
	if (!dispatch(t, 1, &recv))
		return false;
	if (recv.rows != 1)
		return fail(t, "the other side sent no row", SEE("errors"));
	memcpy(&t->theirs, recv.row[0], sizeof(t->theirs));
	if (t->theirs.rail_count > RAILS_MAX || t->theirs.rail[0].size != sizeof(t->theirs.rail[0]))
		return fail(t, "the other side is accelctl of another version",
			    SEE("accelctl-net"));
	return combine(t, 1);
}

static bool bytes_check(struct test *t)
{
	static uint8_t want[ROW_BYTES];
	struct accel_ep_recv recv;

	t->step = "comparing bytes";
	for (uint32_t i = 0; i < ROWS; i++)
		row_fill(t->x + i * ROW_BYTES, t->rank, i);
	if (!dispatch(t, ROWS, &recv))
		return false;
	if (recv.rows != ROWS)
		return fail(t, "rows are missing", SEE("errors"));
	for (uint32_t i = 0; i < ROWS; i++) {
		row_fill(want, !t->rank, (uint32_t)recv.src_token[i]);
		if (memcmp(recv.row[i], want, ROW_BYTES))
			return fail(t, "a row arrived with other bytes than were sent",
				    SEE("wrong-bytes"));
		memcpy(t->y + (size_t)i * ROW_BYTES, recv.row[i], ROW_BYTES);
	}
	if (!combine(t, ROWS))
		return false;
	if (memcmp(t->out, t->x, ROWS * ROW_BYTES))
		return fail(t, "a result came back with other bytes than its row had",
			    SEE("wrong-bytes"));
	return true;
}

static int compare_ns(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return a < b ? -1 : a > b;
}

static bool latency_measure(struct test *t)
{
	static int64_t ns[2][LATENCY_ROUNDS];

	t->step = "measuring one row";
	for (int i = 0; i < LATENCY_ROUNDS; i++) {
		if (!round_run(t, 1))
			return false;
		ns[0][i] = t->dispatch_ns;
		ns[1][i] = t->combine_ns;
	}
	for (int way = 0; way < 2; way++) {
		qsort(ns[way], LATENCY_ROUNDS, sizeof(ns[way][0]), compare_ns);
		t->latency_ns[way] = ns[way][LATENCY_ROUNDS / 2];
	}
	return true;
}

/*
 * Bytes a second in one direction. Where both send, each has two ways a round, one with rows and one
 * with results; where one does, there and back take turns.
 */
static bool rounds_measure(struct test *t, uint32_t rounds, bool sends, double *bytes_per_s)
{
	int64_t begun_ns = now_ns();

	for (uint32_t i = 0; i < rounds; i++)
		if (!round_run(t, sends ? ROWS : 0))
			return false;
	*bytes_per_s = 2e9 * rounds * ROWS * ROW_BYTES / (double)(now_ns() - begun_ns);
	return true;
}

static bool bandwidth_measure(struct test *t)
{
	int64_t begun_ns = now_ns(), rounds;

	t->step = "measuring many rows";
	if (!round_run(t, ROWS))
		return false;
	rounds = BANDWIDTH_NS / (now_ns() - begun_ns + 1);
	rounds = rounds < ROUNDS_MIN ? ROUNDS_MIN : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
	if (!introduce(t, (uint32_t)rounds))
		return false;
	rounds = t->rank ? t->theirs.rounds : rounds;
	return rounds_measure(t, (uint32_t)rounds, true, &t->both_bytes_per_s) &&
	       rounds_measure(t, (uint32_t)rounds, !t->rank, &t->alone_bytes_per_s);
}

/*
 * A last round of one row, after which both can leave: a peer waits for one that is still taking many
 * rows no longer than accel_ep_destroy() does.
 */
static bool finish(struct test *t)
{
	t->step = "ending together";
	if (!round_run(t, 1))
		return false;
	t->stats.size = sizeof(t->stats);
	accel_ep_stats_get(t->ep, &t->stats);
	return t->stats.bytes_staged ? fail(t, "rows were copied by the CPU", SEE("errors")) : true;
}

/* ---- The report ------------------------------------------------------------------------------ */

static void side_print(const char *side, int rank, const struct introduction *who)
{
	for (uint32_t i = 0; i < who->rail_count; i++) {
		const struct accel_net_port *p = &who->rail[i];

		printf("%-11s rank %d, rail %u: %.63s:%u, %g Gb/s, MTU %u, GID %d %.15s %.47s%s%.31s\n",
		       side, rank, i + 1, p->device, p->port, p->rate_mbps / 1000.0, p->mtu_bytes,
		       p->gid_index, p->gid_type, p->gid, *p->netdev ? " on " : "", p->netdev);
	}
}

/* What works, and could be better. */
static const char *advice(const struct test *t)
{
	const struct accel_net_port *here = &t->mine.rail[0], *there = &t->theirs.rail[0];

	if (here->mtu_bytes != there->mtu_bytes)
		return "the sides have different MTUs, and the lower is used: see " SEE("mtu");
	if (here->mtu_bytes < here->mtu_bytes_max)
		return "the MTU is lower than the device's: see " SEE("mtu");
	return NULL;
}

static void print(const struct test *t, bool passed)
{
	side_print("this side", t->rank, &t->mine);
	side_print("other side", !t->rank, &t->theirs);
	if (passed) {
		printf("bytes       %u rows of %u bytes there and back, equal\n", ROWS, ROW_BYTES);
		printf("latency     one row each: dispatch %.1f us, combine %.1f us, medians of %d\n",
		       (double)t->latency_ns[0] / 1e3, (double)t->latency_ns[1] / 1e3,
		       LATENCY_ROUNDS);
		printf("bandwidth   %.3f GB/s each way with both at once, %.3f GB/s one way at a "
		       "time\n",
		       t->both_bytes_per_s / 1e9, t->alone_bytes_per_s / 1e9);
		printf("zero copy   %" PRIu64 " bytes moved by the NIC in %" PRIu64
		       " work requests, %" PRIu64 " by the CPU\n",
		       t->stats.bytes_wire, t->stats.work_requests, t->stats.bytes_staged);
		if (advice(t))
			printf("note        %s\n", advice(t));
		printf("PASS\n");
		return;
	}
	printf("FAIL %s: %s\n     see %s\n", t->step, t->why, t->see);
}

static json_t *side_json(const struct introduction *who)
{
	json_t *rails = json_array();

	for (uint32_t i = 0; i < who->rail_count; i++)
		json_array_append_new(rails, ctl_port_json(&who->rail[i]));
	return rails;
}

static void print_json(const struct test *t, bool passed)
{
	json_t *json = json_pack("{s:s, s:s, s:b, s:i, s:o, s:o}", "schema", "accelctl-net-test/1",
				 "version", accel_version(), "passed", passed, "rank", t->rank,
				 "here", side_json(&t->mine), "there", side_json(&t->theirs));

	if (passed)
		json_object_update_new(json,
				       json_pack("{s:I, s:I, s:f, s:f, s:I, s:I}", "dispatch_ns",
						 (json_int_t)t->latency_ns[0], "combine_ns",
						 (json_int_t)t->latency_ns[1], "both_bytes_per_s",
						 t->both_bytes_per_s, "alone_bytes_per_s",
						 t->alone_bytes_per_s, "bytes_wire",
						 (json_int_t)t->stats.bytes_wire, "work_requests",
						 (json_int_t)t->stats.work_requests));
	else
		json_object_update_new(json, json_pack("{s:s, s:s, s:s}", "step", t->step, "why",
						       t->why, "see", t->see));
	ctl_json_print(json, false);
}

int ctl_net_test(const struct ctl_opts *opts)
{
	struct test *t = calloc(1, sizeof(*t));
	bool passed;
	int code;

	if (!t)
		return CTL_FAIL;
	t->opts = opts;
	passed = port_find(t) && meet(t) && connect_link(t);
	t->step = passed ? "introducing each other" : t->step;
	passed = passed && introduce(t, 0) && bytes_check(t) && latency_measure(t) &&
		 bandwidth_measure(t) && finish(t);
	accel_ep_destroy(t->ep);
	accel_buffer_destroy(t->buf);
	accel_group_destroy(t->group);
	accel_device_close(t->dev);
	if (opts->json)
		print_json(t, passed);
	else
		print(t, passed);
	code = t->code;
	free(t);
	if (passed)
		return CTL_PASS;
	return code == -ENODEV || code == -ENOENT ? CTL_MISSING : CTL_FAIL;
}
