// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Connecting the pairs of a group: one poll loop over the listeners, the connections that this rank
 * made, and strangers.
 *
 * Whoever connects is a stranger until its HELLO shows this rank's cookie. A wrong one is closed; a
 * silent one stays until STRANGERS_MAX others push it out; neither is waited for.
 */
#define _GNU_SOURCE
#include "pair.h"

#include "channel.h"
#include "deadline.h"
#include "ranks.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STRANGERS_MAX 64
#define TICK_MS 10

struct hello {
	struct accel_message_head head;
	uint32_t version;
	uint32_t from, to;
	uint32_t reserved;
	uint8_t cookie[ACCEL_COOKIE_BYTES]; /* of the one it is sent to */
};

struct pairing {
	struct accel_listener *listener;
	const struct accel_member *members;
	int rank, world;
	const uint64_t *with;	      /* set of ranks to pair with */
	int *fd;		      /* [world] paired */
	int *asking;		      /* [world] connected, HELLO sent, answer awaited; or -1 */
	int strangers[STRANGERS_MAX]; /* oldest first */
	int stranger_count;
	struct pollfd *pfds;
	int pfd_count;
};

static int fail_errno(int error, int peer)
{
	struct accel_failure where = {.rank = peer, .phase = ACCEL_PHASE_CREATE, .lane = -1};

	return accel_fail(
		NULL, -ENOMEM, &where, "no socket to rank %d: %s%s", peer, strerror(error),
		error == EMFILE || error == ENFILE ? "; raise RLIMIT_NOFILE (ulimit -n)" : "");
}

static bool hello_send(const struct pairing *p, int fd, int peer)
{
	struct hello hello = {
		.head = {.magic = ACCEL_MESSAGE_MAGIC,
			 .type = ACCEL_MESSAGE_HELLO,
			 .bytes = sizeof(hello) - sizeof(hello.head)},
		.version = ACCEL_MEMBER_VERSION,
		.from = (uint32_t)p->rank,
		.to = (uint32_t)peer,
	};

	memcpy(hello.cookie, p->members[peer].cookie, sizeof(hello.cookie));
	return send(fd, &hello, sizeof(hello), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(hello);
}

/*
 * The rank that proves to be at the other end; -1: a stranger; -EAGAIN: silent so far (which is not
 * -1).
 */
static int hello_recv(const struct pairing *p, int fd)
{
	struct hello hello;
	ssize_t n = recv(fd, &hello, sizeof(hello), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n != sizeof(hello) || hello.head.magic != ACCEL_MESSAGE_MAGIC ||
	    hello.head.type != ACCEL_MESSAGE_HELLO ||
	    hello.head.bytes != sizeof(hello) - sizeof(hello.head) ||
	    hello.version != ACCEL_MEMBER_VERSION || hello.to != (uint32_t)p->rank ||
	    hello.from >= (uint32_t)p->world ||
	    memcmp(hello.cookie, p->members[p->rank].cookie, sizeof(hello.cookie)))
		return -1;
	return (int)hello.from;
}

static bool is_trusted(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) &&
	       (cred.uid == geteuid() || !cred.uid);
}

static int connect_at(const struct sockaddr_un *address, size_t len)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -errno;
	if (!connect(fd, (const struct sockaddr *)address, (socklen_t)len))
		return fd;
	error = errno;
	close(fd);
	return -error;
}

/* Through the abstract namespace, or else through the directory. */
static int connect_to(const struct pairing *p, int peer)
{
	struct sockaddr_un abstract = {.sun_family = AF_UNIX}, file = {.sun_family = AF_UNIX};
	const struct accel_member *member = &p->members[peer];
	size_t len = strlen(member->name);
	int fd;

	memcpy(abstract.sun_path + 1, member->name, len);
	fd = connect_at(&abstract, offsetof(struct sockaddr_un, sun_path) + 1 + len);
	if (fd != -ECONNREFUSED || !p->listener->socket_dir)
		return fd;
	len = strlen(p->listener->socket_dir);
	memcpy(file.sun_path, p->listener->socket_dir, len);
	file.sun_path[len] = '/';
	memcpy(file.sun_path + len + 1, member->name, strlen(member->name));
	return connect_at(&file, sizeof(file));
}

static int fail_gone(int peer)
{
	struct accel_failure where = {.rank = peer, .phase = ACCEL_PHASE_CREATE, .lane = -1};

	return accel_fail(
		NULL, -ECONNRESET, &where,
		"rank %d closed its socket while the group was made: it failed, see what it says",
		peer);
}

/* A full backlog is tried again later. */
static int ask(struct pairing *p, int peer)
{
	struct accel_failure where = {.rank = peer, .phase = ACCEL_PHASE_CREATE, .lane = -1};
	const struct accel_member *member = &p->members[peer];
	int fd = connect_to(p, peer);

	if (fd == -EAGAIN || fd == -EINTR)
		return 0;
	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS)
		return fail_errno(-fd, peer);
	if (fd < 0 && (!member->netns_ino || !p->members[p->rank].netns_ino))
		return accel_fail(NULL, -EHOSTUNREACH, &where,
				  "rank %d shares a kernel with rank %d but no socket (%s); "
				  "set socket_dir to a directory that both see",
				  peer, p->rank, strerror(-fd));
	if (fd < 0)
		return fail_gone(peer);
	if (!is_trusted(fd)) {
		close(fd);
		return accel_fail(
			NULL, -EHOSTUNREACH, &where,
			"rank %d runs as another user than rank %d (uid %u there); run both as one",
			peer, p->rank, member->uid);
	}
	if (!hello_send(p, fd, peer)) {
		close(fd);
		return fail_gone(peer);
	}
	p->asking[peer] = fd;
	return 0;
}

/* 0; or the answer was no answer. */
static int hear(struct pairing *p, int peer)
{
	int from = hello_recv(p, p->asking[peer]);

	if (from == -EAGAIN)
		return 0;
	if (from != peer)
		return fail_gone(peer);
	p->fd[peer] = p->asking[peer];
	p->asking[peer] = -1;
	return 0;
}

static void stranger_remove(struct pairing *p, int index)
{
	memmove(&p->strangers[index], &p->strangers[index + 1],
		(size_t)(--p->stranger_count - index) * sizeof(p->strangers[0]));
}

static void stranger_hear(struct pairing *p, int index)
{
	int fd = p->strangers[index], from = hello_recv(p, fd);

	if (from == -EAGAIN)
		return;
	stranger_remove(p, index);
	if (from > p->rank && accel_ranks_has(p->with, from) && p->fd[from] < 0 &&
	    hello_send(p, fd, from))
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
			return fail_errno(errno, p->rank);
		if (full) {
			close(p->strangers[0]);
			stranger_remove(p, 0);
		}
		if (fd < 0)
			continue;
		if (!is_trusted(fd)) {
			close(fd);
			continue;
		}
		/*
		 * The honest have said their hello by now, so that it is not they who are pushed
		 * out.
		 */
		p->strangers[p->stranger_count++] = fd;
		stranger_hear(p, p->stranger_count - 1);
	}
	return 0;
}

static int unpaired(const struct pairing *p, uint64_t *missing)
{
	int count = 0;

	for (int r = 0; r < p->world; r++) {
		if (!accel_ranks_has(p->with, r) || p->fd[r] >= 0)
			continue;
		accel_ranks_add(missing, r);
		count++;
	}
	return count;
}

static int step(struct pairing *p, int64_t deadline_ns)
{
	int fds[2] = {p->listener->fd, p->listener->file_fd}, rc = 0, n = 0;
	int strangers = p->stranger_count;

	for (int r = 0; r < p->rank && !rc; r++)
		if (accel_ranks_has(p->with, r) && p->fd[r] < 0 && p->asking[r] < 0)
			rc = ask(p, r);
	if (rc)
		return rc;
	for (int i = 0; i < 2; i++)
		p->pfds[n++] = (struct pollfd){.fd = fds[i], .events = POLLIN};
	for (int i = 0; i < strangers; i++)
		p->pfds[n++] = (struct pollfd){.fd = p->strangers[i], .events = POLLIN};
	for (int r = 0; r < p->rank; r++)
		p->pfds[n++] = (struct pollfd){.fd = p->asking[r], .events = POLLIN};
	if (poll(p->pfds, (nfds_t)n, accel_deadline_poll_ms(deadline_ns, TICK_MS)) <= 0)
		return 0;
	for (int r = 0; r < p->rank && !rc; r++)
		if (p->pfds[2 + strangers + r].revents && p->asking[r] >= 0)
			rc = hear(p, r);
	for (int i = strangers - 1; i >= 0; i--)
		if (p->pfds[2 + i].revents)
			stranger_hear(p, i);
	for (int i = 0; i < 2 && !rc; i++)
		if (p->pfds[i].revents)
			rc = accept_new(p, fds[i]);
	return rc;
}

static int run(struct pairing *p, int64_t timeout_ns)
{
	int64_t deadline_ns = accel_deadline_after(timeout_ns);

	for (;;) {
		uint64_t missing[ACCEL_RANKS_WORDS] = {0};
		struct accel_failure where = {
			.phase = ACCEL_PHASE_CREATE, .lane = -1, .missing = missing};
		char ranks[160];
		int rc;

		if (!unpaired(p, missing))
			return 0;
		if (accel_deadline_passed(deadline_ns)) {
			where.rank = accel_ranks_first(missing);
			return accel_fail(
				NULL, -ETIMEDOUT, &where,
				"%s met at the rendezvous but did not connect to rank %d within %lld ms",
				accel_ranks_text(missing, ranks, sizeof(ranks)), p->rank,
				(long long)(timeout_ns / ACCEL_NS_PER_MS));
		}
		rc = step(p, deadline_ns);
		if (rc)
			return rc;
	}
}

int accel_pair_connect(struct accel_listener *listener, const struct accel_member *members,
		       int rank, int world, const uint64_t *with, int64_t timeout_ns, int *fd)
{
	struct pairing p = {.listener = listener,
			    .members = members,
			    .rank = rank,
			    .world = world,
			    .with = with,
			    .fd = fd};
	int rc;

	p.asking = calloc((size_t)world, sizeof(*p.asking));
	p.pfds = calloc((size_t)world + 2 + STRANGERS_MAX, sizeof(*p.pfds));
	for (int r = 0; r < world; r++)
		fd[r] = -1;
	for (int r = 0; p.asking && r < world; r++)
		p.asking[r] = -1;
	if (p.asking && p.pfds)
		rc = run(&p, timeout_ns);
	else
		rc = accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to pair %d ranks",
				world);
	for (int i = 0; i < p.stranger_count; i++)
		close(p.strangers[i]);
	for (int r = 0; r < world; r++) {
		if (p.asking && p.asking[r] >= 0)
			close(p.asking[r]);
		if (rc && fd[r] >= 0) {
			close(fd[r]);
			fd[r] = -1;
		}
	}
	free(p.pfds);
	free(p.asking);
	return rc;
}
