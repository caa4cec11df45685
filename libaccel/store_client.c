// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The store's clients: find the host among the ports and addresses, hand over a blob and wait for all
 * of them.
 *
 * The host may come late, and whoever holds a port may be silent, close, or talk of other things:
 * each is given a short while, which doubles from round to round for the sake of far or busy
 * machines.
 */
#include "store_wire.h"

#include "deadline.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_NS (300 * ACCEL_NS_PER_MS) /* for a connection and a hello, in the first round */
#define PATIENCE_NS_MAX (1200 * ACCEL_NS_PER_MS)
#define ROUND_PAUSE_MS 10
#define ASK_NS_MAX (1000 * ACCEL_NS_PER_MS) /* before the deadline: who is missing? */
#define ASKS 4 /* times, since ranks still come, and the server may be busy */

static int64_t earlier(int64_t a_ns, int64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

static int wait_for(int fd, short events, int64_t deadline_ns)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	for (;;) {
		int n = poll(&pfd, 1, accel_deadline_poll_ms(deadline_ns, INT32_MAX));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (accel_deadline_passed(deadline_ns))
			return -ETIMEDOUT;
	}
}

static int recv_whole(int fd, void *buf, size_t bytes, int64_t deadline_ns)
{
	for (size_t got = 0; got < bytes;) {
		ssize_t n = recv(fd, (char *)buf + got, bytes - got, MSG_DONTWAIT);
		int rc;

		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		if (!n)
			return -ECONNRESET;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		rc = wait_for(fd, POLLIN, deadline_ns);
		if (rc)
			return rc;
	}
	return 0;
}

static int send_whole(int fd, const void *buf, size_t bytes, int64_t deadline_ns)
{
	for (size_t sent = 0; sent < bytes;) {
		ssize_t n = send(fd, (const char *)buf + sent, bytes - sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		int rc;

		if (n >= 0) {
			sent += (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		rc = wait_for(fd, POLLOUT, deadline_ns);
		if (rc)
			return rc;
	}
	return 0;
}

static int connect_to(const struct addrinfo *address, int64_t deadline_ns)
{
	int one = 1, error = 0, rc = 0;
	socklen_t len = sizeof(error);
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			IPPROTO_TCP);

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, address->ai_addr, address->ai_addrlen)) {
		rc = errno == EINPROGRESS ? wait_for(fd, POLLOUT, deadline_ns) : -errno;
		if (!rc && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
			rc = -error;
	}
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

static bool is_ours(const struct store_reply *reply)
{
	return !memcmp(reply->magic, STORE_MAGIC, sizeof(reply->magic));
}

/*
 * Until the end: RESULT, a verdict, a server that goes away (STORE_NEXT: it may come again), or the
 * deadline.
 */
static int await_result(struct store *store, int fd)
{
	int64_t ask_ns = earlier(store->opts->timeout_ns / 2, ASK_NS_MAX);
	int64_t next_ns = store->deadline_ns - ask_ns;
	struct store_reply reply, status = {.kind = STORE_MISSING};
	const char *own;
	int rc;

	if (store->opts->host >= 0)
		accel_ranks_add(status.missing, store->opts->host);
	for (;;) {
		rc = wait_for(fd, POLLIN, earlier(next_ns, store->deadline_ns));
		if (rc == -ETIMEDOUT && next_ns < store->deadline_ns) {
			send_whole(fd, "q", 1, store->deadline_ns);
			next_ns += ask_ns / ASKS + 1;
			continue;
		}
		if (!rc)
			rc = recv_whole(fd, &reply, sizeof(reply), store->deadline_ns);
		if (rc == -ETIMEDOUT)
			return store_verdict(store, &status);
		if (rc || !is_ours(&reply))
			return STORE_NEXT;
		if (reply.kind == STORE_STATUS)
			memcpy(status.missing, reply.missing, sizeof(status.missing));
		else if (reply.kind == STORE_DISAGREE || reply.kind == STORE_MISSING)
			return store_verdict(store, &reply);
		else if (reply.kind == STORE_RESULT)
			break;
		else
			return STORE_NEXT;
	}
	rc = recv_whole(fd, store->all, store->bytes * (size_t)store->opts->world,
			store->deadline_ns);
	if (rc == -ETIMEDOUT)
		return store_verdict(store, &status);
	own = store->all + (size_t)store->opts->rank * store->bytes;
	return rc || memcmp(own, store->mine, store->bytes) ? STORE_NEXT : STORE_DONE;
}

/* A connection's whole life, from the hello. */
static int talk(struct store *store, int fd, int64_t patience_end_ns, const char **why)
{
	struct store_hello hello = {
		.magic = STORE_MAGIC,
		.version = STORE_VERSION,
		.rank = (uint32_t)store->opts->rank,
		.world = (uint32_t)store->opts->world,
		.blob_bytes = (uint32_t)store->bytes,
		.nonce = store->nonce,
	};
	struct store_reply reply;

	if (store->opts->joins)
		memcpy(hello.magic, STORE_MAGIC_JOINS, sizeof(hello.magic));
	memcpy(hello.name, store->opts->name, strlen(store->opts->name));
	*why = "what listens there is no accel store";
	if (send_whole(fd, &hello, sizeof(hello), patience_end_ns) ||
	    recv_whole(fd, &reply, sizeof(reply), patience_end_ns) || !is_ours(&reply))
		return STORE_NEXT;
	*why = "the store there belongs to a group of another name, or has no place for this rank";
	if (reply.kind == STORE_DISAGREE || reply.kind == STORE_MISSING)
		return store_verdict(store, &reply);
	if (reply.kind != STORE_WELCOME || store_is_host(store))
		return STORE_NEXT;
	*why = "the host left before all ranks had come";
	/* When this fails the server may still have said why. */
	send_whole(fd, store->mine, store->bytes, store->deadline_ns);
	return await_result(store, fd);
}

int store_client_probe(struct store *store, const struct addrinfo *address, int port)
{
	int64_t patience_end_ns = accel_deadline_after(PATIENCE_NS_MAX);
	int fd = connect_to(address, patience_end_ns);
	const char *why;
	int rc;

	if (fd < 0)
		return STORE_NEXT;
	store->port = port;
	rc = talk(store, fd, patience_end_ns, &why);
	close(fd);
	return rc;
}

/*
 * Every port at every address once. Keeps what is worth telling: anything says more than a refused
 * connection.
 */
static int try_all(struct store *store, int64_t patience_ns, const char **told)
{
	for (int i = 0; i < ACCEL_STORE_PORTS && store->opts->port + i <= UINT16_MAX; i++) {
		for (struct addrinfo *address = store->addresses; address;
		     address = address->ai_next) {
			int64_t end_ns = earlier(accel_deadline_after(patience_ns),
						 store->deadline_ns);
			const char *why = "nothing listens there";
			int rc = STORE_NEXT, fd;

			store->port = store->opts->port + i;
			store_address_set_port(address, store->port);
			fd = connect_to(address, end_ns);
			if (fd >= 0) {
				rc = talk(store, fd, end_ns, &why);
				close(fd);
			}
			if (rc != STORE_NEXT)
				return rc;
			if (fd == -EMFILE || fd == -ENFILE)
				why = "no descriptor was free for a connection; raise RLIMIT_NOFILE";
			if (fd != -ECONNREFUSED || !*told)
				*told = why;
			if (accel_deadline_passed(store->deadline_ns))
				return STORE_NEXT;
		}
	}
	return STORE_NEXT;
}

int store_client_run(struct store *store)
{
	uint64_t missing[ACCEL_RANKS_WORDS] = {0};
	struct accel_failure where = {.rank = store->opts->host,
				      .phase = ACCEL_PHASE_CREATE,
				      .lane = -1,
				      .missing = missing};
	int64_t patience_ns = PATIENCE_NS;
	const char *told = NULL;
	char host[64];

	if (store->opts->host >= 0)
		accel_ranks_add(missing, store->opts->host);
	do {
		int rc = try_all(store, patience_ns, &told);

		if (rc != STORE_NEXT)
			return rc;
		patience_ns = earlier(2 * patience_ns, PATIENCE_NS_MAX);
		poll(NULL, 0, accel_deadline_poll_ms(store->deadline_ns, ROUND_PAUSE_MS));
	} while (!accel_deadline_passed(store->deadline_ns));
	return accel_fail(
		NULL, -ETIMEDOUT, &where,
		"%s of group \"%s\" was not met at %s ports %d to %d within %lld ms (%s): "
		"%s, and give all ranks the "
		"same address, port and group name",
		store_host_text(store, host, sizeof(host)), store->opts->name, store->opts->addr,
		store->opts->port, store->opts->port + ACCEL_STORE_PORTS - 1,
		(long long)(store->opts->timeout_ns / ACCEL_NS_PER_MS), told,
		store->opts->joins ? "call accel_group_join() there" : "start it");
}
