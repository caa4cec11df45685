// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Connecting the pairs of a group: one poll loop over the listeners, the connections that this rank
 * made, and strangers.
 *
 * Whoever connects is a stranger until its HELLO shows this rank's cookie. A wrong one is closed; a
 * silent one stays until STRANGERS_MAX others push it out; neither is waited for. A peer that comes by
 * several addresses is answered once.
 */
#define _GNU_SOURCE
#include "pair.h"

#include "deadline.h"
#include "pair_ask.h"
#include "pair_net.h"
#include "ranks.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STRANGERS_MAX 64
#define LISTENERS 3
#define TICK_MS 10

struct pairing {
	struct accel_pair_self self;
	const uint64_t *with;	    /* set of ranks to pair with */
	int *fd;		    /* [world] paired */
	struct accel_asking *asked; /* [asked_count] lower ranks */
	int asked_count;
	struct accel_talk strangers[STRANGERS_MAX]; /* oldest first */
	int stranger_count;
	struct pollfd *pfds;
};

static void stranger_remove(struct pairing *p, int index)
{
	memmove(&p->strangers[index], &p->strangers[index + 1],
		(size_t)(--p->stranger_count - index) * sizeof(p->strangers[0]));
}

static void stranger_hear(struct pairing *p, int index)
{
	int fd = p->strangers[index].fd, from = accel_hello_recv(&p->self, &p->strangers[index]);

	if (from == -EAGAIN)
		return;
	stranger_remove(p, index);
	if (from > p->self.rank && accel_ranks_has(p->with, from) && p->fd[from] < 0 &&
	    accel_hello_send(&p->self, fd, from))
		p->fd[from] = fd;
	else
		close(fd);
}

/* Without a free descriptor accept4() fails before it looks. */
static bool is_asked(int listen_fd)
{
	struct pollfd pfd = {.fd = listen_fd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

static int accept_new(struct pairing *p, int listen_fd)
{
	for (int i = 0; i < STRANGERS_MAX; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		bool full = fd < 0 ? errno == EMFILE || errno == ENFILE
				   : p->stranger_count == STRANGERS_MAX;

		if (fd < 0 && (!full || !is_asked(listen_fd)))
			return 0;
		if (fd < 0 && !p->stranger_count)
			return accel_pair_fail_errno(errno, p->self.rank);
		if (full) {
			close(p->strangers[0].fd);
			stranger_remove(p, 0);
		}
		if (fd < 0)
			continue;
		if (listen_fd != p->self.listener->tcp_fd && !accel_pair_is_trusted(fd)) {
			close(fd);
			continue;
		}
		/*
		 * The honest have said their hello by now, so that it is not they who are pushed
		 * out.
		 */
		p->strangers[p->stranger_count++] = (struct accel_talk){.fd = fd};
		stranger_hear(p, p->stranger_count - 1);
	}
	return 0;
}

static int unpaired(const struct pairing *p, uint64_t *missing)
{
	int count = 0;

	for (int r = 0; r < p->self.world; r++) {
		if (!accel_ranks_has(p->with, r) || p->fd[r] >= 0)
			continue;
		accel_ranks_add(missing, r);
		count++;
	}
	return count;
}

static bool is_asking(const struct pairing *p, const struct accel_asking *asked)
{
	return p->fd[asked->peer] < 0;
}

/* What is polled on, from pfds[n] on: the number of all. */
static int poll_asked(struct pairing *p, int n)
{
	for (int i = 0; i < p->asked_count; i++) {
		for (int j = 0; j < p->asked[i].paths; j++) {
			struct accel_path *path = &p->asked[i].path[j];

			path->pfd = path->talk.fd < 0 ? -1 : n;
			if (path->talk.fd >= 0)
				p->pfds[n++] = (struct pollfd){.fd = path->talk.fd,
							       .events = path->connecting ? POLLOUT
											  : POLLIN};
		}
	}
	return n;
}

static int hear_asked(struct pairing *p, struct accel_asking *asked)
{
	int rc = 0;

	for (int i = 0; i < asked->paths && !rc; i++) {
		struct accel_path *path = &asked->path[i];

		if (path->pfd >= 0 && path->talk.fd >= 0 && p->pfds[path->pfd].revents)
			rc = accel_ask_hear(asked, &p->self, i, &p->fd[asked->peer]);
	}
	return rc < 0 ? rc : 0;
}

static int step(struct pairing *p, int64_t deadline_ns)
{
	const struct accel_listener *listener = p->self.listener;
	int fds[LISTENERS] = {listener->fd, listener->file_fd, listener->tcp_fd}, rc = 0, n = 0;
	int strangers = p->stranger_count;

	for (int i = 0; i < p->asked_count && !rc; i++)
		if (is_asking(p, &p->asked[i]))
			rc = accel_ask_step(&p->asked[i], &p->self);
	if (rc)
		return rc;
	for (int i = 0; i < LISTENERS; i++)
		p->pfds[n++] = (struct pollfd){.fd = fds[i], .events = POLLIN};
	for (int i = 0; i < strangers; i++)
		p->pfds[n++] = (struct pollfd){.fd = p->strangers[i].fd, .events = POLLIN};
	n = poll_asked(p, n);
	if (poll(p->pfds, (nfds_t)n, accel_deadline_poll_ms(deadline_ns, TICK_MS)) <= 0)
		return 0;
	for (int i = 0; i < p->asked_count && !rc; i++)
		rc = hear_asked(p, &p->asked[i]);
	for (int i = strangers - 1; i >= 0; i--)
		if (p->pfds[LISTENERS + i].revents)
			stranger_hear(p, i);
	for (int i = 0; i < LISTENERS && !rc; i++)
		if (p->pfds[i].revents)
			rc = accept_new(p, fds[i]);
	return rc;
}

/* Ranks that were to come here by TCP may have had no way to. */
static int fail_late(const struct pairing *p, const uint64_t *missing, int64_t timeout_ns)
{
	const struct accel_member *mine = &p->self.members[p->self.rank];
	struct accel_failure where = {.rank = accel_ranks_first(missing),
				      .phase = ACCEL_PHASE_CREATE,
				      .lane = -1,
				      .missing = missing};
	bool tcp = !accel_pair_has_socket(mine, &p->self.members[where.rank]);
	char ranks[160], addresses[160];

	for (int i = 0; i < p->asked_count; i++) {
		int rc = is_asking(p, &p->asked[i]) ? accel_ask_give_up(&p->asked[i], &p->self) : 0;

		if (rc)
			return rc;
	}
	return accel_fail(
		NULL, -ETIMEDOUT, &where,
		"%s met at the rendezvous but did not connect to rank %d within %lld ms%s%s%s",
		accel_ranks_text(missing, ranks, sizeof(ranks)), p->self.rank,
		(long long)(timeout_ns / ACCEL_NS_PER_MS), tcp ? " (" : "",
		tcp ? accel_pair_net_all(mine, addresses, sizeof(addresses)) : "", tcp ? ")" : "");
}

static int run(struct pairing *p, int64_t timeout_ns)
{
	int64_t deadline_ns = accel_deadline_after(timeout_ns);

	for (;;) {
		uint64_t missing[ACCEL_RANKS_WORDS] = {0};
		int rc;

		if (!unpaired(p, missing))
			return 0;
		if (accel_deadline_passed(deadline_ns))
			return fail_late(p, missing, timeout_ns);
		rc = step(p, deadline_ns);
		if (rc)
			return rc;
	}
}

static int pairing_init(struct pairing *p)
{
	size_t lower = 0;

	for (int r = 0; r < p->self.world; r++)
		p->fd[r] = -1;
	for (int r = 0; r < p->self.rank; r++)
		lower += accel_ranks_has(p->with, r);
	p->asked = calloc(lower + 1, sizeof(*p->asked));
	p->pfds = calloc(LISTENERS + STRANGERS_MAX + lower * ACCEL_PATHS_MAX, sizeof(*p->pfds));
	if (!p->asked || !p->pfds)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to pair %d ranks",
				  p->self.world);
	for (int r = 0; r < p->self.rank; r++)
		if (accel_ranks_has(p->with, r))
			accel_ask_init(&p->asked[p->asked_count++], &p->self, r);
	return 0;
}

int accel_pair_connect(struct accel_listener *listener, const struct accel_member *members,
		       int rank, int world, const uint64_t *with, int64_t timeout_ns, int *fd)
{
	struct pairing p = {.self = {listener, members, rank, world}, .with = with, .fd = fd};
	int rc = pairing_init(&p);

	if (!rc)
		rc = run(&p, timeout_ns);
	for (int i = 0; i < p.stranger_count; i++)
		close(p.strangers[i].fd);
	for (int i = 0; i < p.asked_count; i++)
		accel_ask_close(&p.asked[i]);
	for (int r = 0; rc && r < world; r++) {
		if (fd[r] >= 0)
			close(fd[r]);
		fd[r] = -1;
	}
	free(p.pfds);
	free(p.asked);
	return rc;
}
