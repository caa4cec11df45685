// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * One equal-sized message to and from each of a set of ranks: the step that set-up is made of. One
 * poll loop; everybody is told before anybody is waited for, so that a rank's error keeps nobody.
 */
#include "group.h"

#include "deadline.h"
#include "ranks.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define EXCHANGE_POLL_MS 5 /* another thread may drain the socket that this one polls on */

struct exchange {
	const struct accel_exchange *what;
	struct accel_channel *const *channel;
	int world;
	uint64_t unsent[ACCEL_RANKS_WORDS], missing[ACCEL_RANKS_WORDS];
	uint64_t leaving[ACCEL_RANKS_WORDS]; /* sent, and the end of it is not out yet */
	int left;			     /* directions of peers that are not done */
};

static int fail_peer(const struct exchange *x, int code, int peer, ssize_t bytes)
{
	struct accel_failure where = {
		.rank = peer, .phase = ACCEL_PHASE_CREATE, .lane = -1, .missing = x->missing};
	struct accel_object *obj = x->what->obj;

	if (code == -ECONNRESET)
		return accel_fail(obj, code, &where,
				  "rank %d has gone: its process died, or destroyed its group",
				  peer);
	if (bytes >= 0)
		return accel_fail(
			obj, -EPROTO, &where,
			"rank %d sent %zd bytes where %zu were due: run the same library on all ranks",
			peer, bytes, x->what->bytes);
	if (code == -EMSGSIZE || code == -EPROTO)
		return accel_fail(obj, -EPROTO, &where,
				  "rank %d sent nonsense on its control socket", peer);
	return accel_fail(obj, code, &where, "exchange with rank %d failed: %s", peer,
			  strerror(-code));
}

static int send_one(struct exchange *x, int peer)
{
	const struct accel_exchange *what = x->what;
	int rc = 0;

	if (accel_ranks_has(x->unsent, peer)) {
		rc = accel_channel_send(x->channel[peer], what->type, what->tag, what->mine,
					what->bytes, 0);
		if (!rc) {
			accel_ranks_remove(x->unsent, peer);
			accel_ranks_add(x->leaving, peer);
		}
	}
	if (!rc && accel_ranks_has(x->leaving, peer)) {
		rc = accel_channel_flush(x->channel[peer]);
		if (!rc) {
			accel_ranks_remove(x->leaving, peer);
			x->left--;
		}
	}
	return rc && rc != -EAGAIN ? fail_peer(x, rc, peer, -1) : 0;
}

static int take_one(struct exchange *x, int peer)
{
	const struct accel_exchange *what = x->what;
	char *theirs = (char *)what->all + (size_t)peer * what->bytes;
	ssize_t n;

	if (!accel_ranks_has(x->missing, peer))
		return 0;
	n = accel_channel_take(x->channel[peer], what->type, what->tag, theirs, what->bytes);
	if (n < 0)
		return n == -EAGAIN ? 0 : fail_peer(x, (int)n, peer, -1);
	if ((size_t)n != what->bytes)
		return fail_peer(x, -EPROTO, peer, n);
	accel_ranks_remove(x->missing, peer);
	x->left--;
	return 0;
}

/*
 * What can be done now: first everybody is told, so that they are not kept waiting by an error of
 * this rank.
 */
static int exchange_step(struct exchange *x)
{
	int rc = 0;

	for (int r = 0; r < x->world && !rc; r++)
		rc = send_one(x, r);
	for (int r = 0; r < x->world && !rc; r++)
		rc = take_one(x, r);
	return rc;
}

static int fail_missing(struct exchange *x, int64_t timeout_ns)
{
	struct accel_failure where = {
		.phase = ACCEL_PHASE_CREATE, .lane = -1, .missing = x->missing};
	char ranks[160];

	for (int i = 0; i < ACCEL_RANKS_WORDS; i++)
		x->missing[i] |= x->unsent[i] | x->leaving[i];
	where.rank = accel_ranks_first(x->missing);
	return accel_fail(x->what->obj, -ETIMEDOUT, &where,
			  "%s did not take part within %lld ms: all ranks must make this call",
			  accel_ranks_text(x->missing, ranks, sizeof(ranks)),
			  (long long)(timeout_ns / ACCEL_NS_PER_MS));
}

static int exchange_all(struct exchange *x, struct pollfd *pfds, int64_t timeout_ns)
{
	int64_t deadline_ns = accel_deadline_after(timeout_ns);

	for (;;) {
		int rc = exchange_step(x);

		if (rc || !x->left)
			return rc;
		if (x->what->aborted && accel_load_acquire(x->what->aborted))
			return accel_fail(x->what->obj, -ECANCELED, ACCEL_AT_CREATE, "aborted");
		if (accel_deadline_passed(deadline_ns))
			return fail_missing(x, timeout_ns);
		for (int r = 0; r < x->world; r++) {
			bool sends = accel_ranks_has(x->unsent, r) ||
				     accel_ranks_has(x->leaving, r);
			short events = sends				? POLLIN | POLLOUT
				       : accel_ranks_has(x->missing, r) ? POLLIN
									: 0;

			pfds[r] = (struct pollfd){.fd = events ? accel_channel_fd(x->channel[r])
							       : -1,
						  .events = events};
		}
		poll(pfds, (nfds_t)x->world, accel_deadline_poll_ms(deadline_ns, EXCHANGE_POLL_MS));
	}
}

int accel_exchange(struct accel_group *group, const struct accel_exchange *what)
{
	struct exchange x = {.what = what,
			     .channel = what->channel ? what->channel : group->channel,
			     .world = group->world};
	struct pollfd *pfds = calloc((size_t)group->world, sizeof(*pfds));
	int rc;

	if (!pfds)
		return accel_fail(what->obj, -ENOMEM, ACCEL_AT_CREATE, "no memory to poll %d ranks",
				  group->world);
	for (int r = 0; r < group->world; r++) {
		if (r == group->rank || (what->with && !accel_ranks_has(what->with, r)))
			continue;
		accel_ranks_add(x.missing, r);
		accel_ranks_add(x.unsent, r);
		x.left += 2;
	}
	memcpy((char *)what->all + (size_t)group->rank * what->bytes, what->mine, what->bytes);
	rc = exchange_all(&x, pfds, what->timeout_ns < 0 ? group->timeout_ns : what->timeout_ns);
	free(pfds);
	return rc;
}

int accel_group_exchange(struct accel_group *group, struct accel_object *obj, uint32_t type,
			 uint64_t tag, const void *mine, size_t bytes, void *all,
			 int64_t timeout_ns)
{
	const struct accel_exchange what = {.obj = obj,
					    .type = type,
					    .tag = tag,
					    .mine = mine,
					    .bytes = bytes,
					    .all = all,
					    .timeout_ns = timeout_ns};

	return accel_exchange(group, &what);
}
