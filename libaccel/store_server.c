// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The store's server: the host inside its own accel_store_allgather(), one poll loop, no thread.
 *
 * Anybody may connect. Until a whole hello of this group has come, a connection is a stranger: it
 * has STRANGER_NS to say one, there are at most STRANGERS_MAX, the oldest makes room for a new one,
 * and nothing that it does is heard elsewhere. A hello of this group that disagrees is a mistake of
 * the operator, and ends the rendezvous for all with a verdict, which ranks that come a little later
 * are told too.
 */
#define _GNU_SOURCE
#include "store_wire.h"

#include "deadline.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define STRANGERS_MAX 64
#define STRANGER_NS (2000 * ACCEL_NS_PER_MS)
#define LINGER_NS (2000 * ACCEL_NS_PER_MS) /* with a verdict, for ranks that are still to come */
#define TICK_MS 100
#define BIND_RETRY_MS 20

struct conn {
	int fd;	    /* -1: closed, swept later */
	int rank;   /* -1: a stranger */
	bool whole; /* its blob is there */
	size_t got; /* bytes of the hello or blob; of the result when that is sent */
	int64_t since_ns;
	struct store_hello hello;
};

struct server {
	struct store *store;
	int listen_fd;
	struct conn *conns;
	struct pollfd *pfds;
	int count, room;
	int due;			  /* blobs of a whole meeting */
	int whole;			  /* blobs that are there, own one included */
	uint64_t came[ACCEL_RANKS_WORDS]; /* ranks whose blob was there at some time */
	struct store_reply refusal;	  /* kind 0: none yet */
	uint64_t told[ACCEL_RANKS_WORDS]; /* ranks that were told the refusal */
};

static void conn_close(struct server *server, struct conn *conn)
{
	char discarded[256];

	if (conn->fd < 0)
		return;
	/* What is left unread would turn into a reset, which may overtake the last words. */
	shutdown(conn->fd, SHUT_WR);
	for (int i = 0; i < 64 && recv(conn->fd, discarded, sizeof(discarded), MSG_DONTWAIT) > 0;
	     i++)
		continue;
	close(conn->fd);
	conn->fd = -1;
	server->whole -= conn->whole;
	conn->whole = false;
	conn->rank = -1;
}

/*
 * A fresh or idle socket always has room for one reply; one that has not is not worth waiting for.
 */
static void conn_say(struct server *server, struct conn *conn, struct store_reply *reply)
{
	memcpy(reply->magic, STORE_MAGIC, sizeof(reply->magic));
	reply->version = STORE_VERSION;
	if (send(conn->fd, reply, sizeof(*reply), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(*reply))
		conn_close(server, conn);
}

/* Those that never came; when all had come and some left again, those. */
static void missing_ranks(const struct server *server, uint64_t *missing)
{
	const struct store *store = server->store;
	int world = store->opts->world, never = 0;

	for (int r = 0; r < world; r++) {
		if (!accel_ranks_has(server->came, r) && !store_is_absent(store, r)) {
			accel_ranks_add(missing, r);
			never++;
		}
	}
	for (int r = 0; !never && r < world; r++)
		if (r != store->opts->rank && !store_is_absent(store, r))
			accel_ranks_add(missing, r);
	for (int i = 0; !never && i < server->count; i++)
		if (server->conns[i].whole)
			accel_ranks_remove(missing, server->conns[i].rank);
}

static int end_all(struct server *server, struct store_reply *reply)
{
	for (int i = 0; i < server->count; i++)
		if (server->conns[i].rank >= 0)
			conn_say(server, &server->conns[i], reply);
	return store_verdict(server->store, reply);
}

static int disagree(struct server *server, struct conn *conn, enum store_field field,
		    uint64_t theirs, uint64_t ours)
{
	struct store_reply reply = {
		.kind = STORE_DISAGREE,
		.field = field,
		.rank = (int32_t)(conn->hello.rank < ACCEL_RANKS_MAX ? conn->hello.rank
								     : ACCEL_RANKS_MAX - 1),
		.theirs = theirs,
		.ours = ours,
	};

	server->refusal = reply;
	accel_ranks_add(server->told, reply.rank);
	conn_say(server, conn, &reply);
	for (int i = 0; i < server->count; i++)
		if (server->conns[i].rank >= 0)
			accel_ranks_add(server->told, server->conns[i].rank);
	return end_all(server, &reply);
}

/* After the verdict: tell it to whoever comes now. */
static int refuse(struct server *server, struct conn *conn)
{
	if (conn->hello.rank < ACCEL_RANKS_MAX)
		accel_ranks_add(server->told, (int)conn->hello.rank);
	conn_say(server, conn, &server->refusal);
	conn_close(server, conn);
	return 0;
}

/* A whole hello is there. 0: go on; -errno: the rendezvous is over. */
static int conn_hello(struct server *server, struct conn *conn)
{
	const struct accel_store_opts *opts = server->store->opts;
	const struct store_hello *hello = &conn->hello;
	struct store_reply reply = {.kind = STORE_OTHER};
	bool joins = !memcmp(hello->magic, STORE_MAGIC_JOINS, sizeof(hello->magic));

	if ((!joins && memcmp(hello->magic, STORE_MAGIC, sizeof(hello->magic))) ||
	    !memchr(hello->name, 0, sizeof(hello->name))) {
		conn_close(server, conn);
		return 0;
	}
	if (joins != opts->joins || strcmp(hello->name, opts->name) ||
	    (hello->rank < (uint32_t)opts->world &&
	     store_is_absent(server->store, (int)hello->rank))) {
		conn_say(server, conn, &reply);
		conn_close(server, conn);
		return 0;
	}
	if (server->refusal.kind)
		return refuse(server, conn);
	if (hello->version != STORE_VERSION)
		return disagree(server, conn, STORE_FIELD_VERSION, hello->version, STORE_VERSION);
	if (hello->world != (uint32_t)opts->world)
		return disagree(server, conn, STORE_FIELD_WORLD, hello->world,
				(uint64_t)opts->world);
	if (hello->blob_bytes != server->store->bytes)
		return disagree(server, conn, STORE_FIELD_BLOB, hello->blob_bytes,
				server->store->bytes);
	if (hello->rank >= hello->world) {
		conn_close(server, conn);
		return 0;
	}
	for (int i = 0; i < server->count; i++) {
		struct conn *other = &server->conns[i];

		if (other->rank != (int)hello->rank)
			continue;
		if (other->hello.nonce == hello->nonce ||
		    !recv(other->fd, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT))
			conn_close(server, other); /* the same again, or the other has left */
		else
			return disagree(server, conn, STORE_FIELD_RANK, hello->rank, hello->rank);
	}
	if ((int)hello->rank == opts->rank)
		return disagree(server, conn, STORE_FIELD_RANK, hello->rank, hello->rank);
	conn->rank = (int)hello->rank;
	conn->got = 0;
	reply.kind = STORE_WELCOME;
	conn_say(server, conn, &reply);
	return 0;
}

static void conn_status(struct server *server, struct conn *conn)
{
	struct store_reply reply = {.kind = STORE_STATUS};

	missing_ranks(server, reply.missing);
	conn_say(server, conn, &reply);
}

/* Something can be read. 0: go on; -errno: the rendezvous is over. */
static int conn_read(struct server *server, struct conn *conn)
{
	size_t bytes = server->store->bytes;
	ssize_t n;
	char asked;

	if (conn->rank < 0)
		n = recv(conn->fd, (char *)&conn->hello + conn->got,
			 sizeof(conn->hello) - conn->got, MSG_DONTWAIT);
	else if (conn->whole)
		n = recv(conn->fd, &asked, 1, MSG_DONTWAIT);
	else
		n = recv(conn->fd, server->store->all + (size_t)conn->rank * bytes + conn->got,
			 bytes - conn->got, MSG_DONTWAIT);
	if (n <= 0) {
		if (!n || (errno != EAGAIN && errno != EINTR))
			conn_close(server, conn);
		return 0;
	}
	if (conn->whole) {
		if (asked == 'q')
			conn_status(server, conn);
		else
			conn_close(server, conn);
		return 0;
	}
	conn->got += (size_t)n;
	if (conn->rank < 0)
		return conn->got == sizeof(conn->hello) ? conn_hello(server, conn) : 0;
	if (conn->got == bytes) {
		conn->whole = true;
		server->whole++;
		accel_ranks_add(server->came, conn->rank);
	}
	return 0;
}

static struct conn *oldest_stranger(struct server *server)
{
	struct conn *oldest = NULL;

	for (int i = 0; i < server->count; i++) {
		struct conn *conn = &server->conns[i];

		if (conn->fd >= 0 && conn->rank < 0 &&
		    (!oldest || conn->since_ns < oldest->since_ns))
			oldest = conn;
	}
	return oldest;
}

/* Forget what was closed and what has been a stranger for too long. */
static void sweep(struct server *server)
{
	int64_t now_ns = accel_now_ns();

	for (int i = server->count - 1; i >= 0; i--) {
		struct conn *conn = &server->conns[i];

		if (conn->rank < 0 && now_ns - conn->since_ns > STRANGER_NS)
			conn_close(server, conn);
		if (conn->fd < 0)
			*conn = server->conns[--server->count];
	}
}

static int accept_new(struct server *server)
{
	for (int i = 0; i < STRANGERS_MAX; i++) {
		int one = 1;
		int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct conn *oldest = fd < 0 || server->count == server->room
					      ? oldest_stranger(server)
					      : NULL;

		if (fd < 0 &&
		    (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
			if (!oldest)
				return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
						  "rank %d cannot accept another connection: %s; "
						  "raise RLIMIT_NOFILE (ulimit -n)",
						  server->store->opts->rank, strerror(errno));
			conn_close(server, oldest);
			sweep(server);
			continue;
		}
		if (fd < 0)
			return 0;
		if (oldest) {
			conn_close(server, oldest);
			sweep(server);
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		server->conns[server->count++] = (struct conn){
			.fd = fd, .rank = -1, .since_ns = accel_now_ns()};
	}
	return 0;
}

static int poll_all(struct server *server, short events)
{
	server->pfds[0] = (struct pollfd){.fd = server->listen_fd, .events = POLLIN};
	for (int i = 0; i < server->count; i++)
		server->pfds[i + 1] = (struct pollfd){.fd = server->conns[i].fd, .events = events};
	if (poll(server->pfds, (nfds_t)server->count + 1,
		 accel_deadline_poll_ms(server->store->deadline_ns, TICK_MS)) < 0)
		return 0;
	return server->count;
}

static bool all_are_told(const struct server *server)
{
	int told = 0;

	for (int r = 0; r < server->store->opts->world; r++)
		told += r != server->store->opts->rank && accel_ranks_has(server->told, r);
	return told == server->due - 1;
}

/* The rendezvous is over, but ranks may still come that would wait for it in vain. */
static void linger(struct server *server)
{
	int64_t until_ns = accel_now_ns() + LINGER_NS;

	for (int i = 0; i < server->count; i++)
		if (server->conns[i].rank >= 0)
			conn_close(server, &server->conns[i]);
	sweep(server);
	while (!all_are_told(server) && accel_now_ns() < until_ns &&
	       !accel_deadline_passed(server->store->deadline_ns)) {
		int count = poll_all(server, POLLIN);

		for (int i = 0; i < count; i++)
			if (server->pfds[i + 1].revents && server->conns[i].fd >= 0)
				conn_read(server, &server->conns[i]);
		sweep(server);
		if (server->pfds[0].revents && accept_new(server))
			return;
	}
}

static int gather(struct server *server)
{
	while (server->whole < server->due) {
		struct store_reply reply = {.kind = STORE_MISSING};
		int count = poll_all(server, POLLIN), rc = 0;

		for (int i = 0; i < count && !rc; i++)
			if (server->pfds[i + 1].revents && server->conns[i].fd >= 0)
				rc = conn_read(server, &server->conns[i]);
		sweep(server);
		if (!rc && server->pfds[0].revents)
			rc = accept_new(server);
		if (rc)
			return rc;
		if (server->whole < server->due &&
		    accel_deadline_passed(server->store->deadline_ns)) {
			missing_ranks(server, reply.missing);
			return end_all(server, &reply);
		}
	}
	return 0;
}

/* One push of header and blobs; true when all of it went, or nobody is there to take it. */
static bool conn_feed(struct server *server, struct conn *conn)
{
	struct store_reply reply = {
		.magic = STORE_MAGIC, .version = STORE_VERSION, .kind = STORE_RESULT};
	size_t bytes = server->store->bytes * (size_t)server->store->opts->world,
	       whole = sizeof(reply) + bytes;
	size_t head = conn->got < sizeof(reply) ? sizeof(reply) - conn->got : 0;
	struct iovec iov[2] = {
		{(char *)&reply + sizeof(reply) - head, head},
		{server->store->all + (conn->got + head - sizeof(reply)), whole - conn->got - head},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n = sendmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		conn_close(server, conn);
	if (n > 0)
		conn->got += (size_t)n;
	return conn->fd < 0 || conn->got == whole;
}

/* The listener is closed by now: who comes for the next allgather must not find this one. */
static int scatter(struct server *server)
{
	for (int i = server->count - 1; i >= 0; i--) {
		server->conns[i].got = 0;
		if (server->conns[i].rank < 0)
			conn_close(server, &server->conns[i]);
	}
	sweep(server);
	while (server->count) {
		struct store_reply reply = {.kind = STORE_MISSING};
		int count = poll_all(server, POLLOUT);

		for (int i = 0; i < count; i++)
			if (server->pfds[i + 1].revents && conn_feed(server, &server->conns[i]))
				conn_close(server, &server->conns[i]);
		sweep(server);
		if (!server->count || !accel_deadline_passed(server->store->deadline_ns))
			continue;
		for (int i = 0; i < server->count; i++)
			accel_ranks_add(reply.missing, server->conns[i].rank);
		return store_verdict(server->store, &reply);
	}
	return 0;
}

/* A name that leads here through a proxy is no address of this host: then any address will do. */
static int bind_to(const struct addrinfo *address, int port, int backlog)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			IPPROTO_TCP);
	struct sockaddr_storage any = {.ss_family = (sa_family_t)address->ai_family};
	struct addrinfo wild = {.ai_family = address->ai_family,
				.ai_addr = (struct sockaddr *)&any};
	int one = 1, rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	rc = bind(fd, address->ai_addr, address->ai_addrlen);
	if (rc && errno == EADDRNOTAVAIL) {
		store_address_set_port(&wild, port);
		rc = bind(fd, wild.ai_addr, address->ai_addrlen);
	}
	if (!rc)
		rc = listen(fd, backlog);
	if (!rc)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/*
 * A descriptor, or STORE_NEXT stored in *verdict, or the verdict of a store of this very group that
 * was there before.
 */
static int listen_once(struct store *store, int *error, int *verdict)
{
	*verdict = STORE_NEXT;
	for (int i = 0; i < ACCEL_STORE_PORTS && store->opts->port + i <= UINT16_MAX; i++) {
		for (struct addrinfo *address = store->addresses; address;
		     address = address->ai_next) {
			int fd;

			store->port = store->opts->port + i;
			store_address_set_port(address, store->port);
			fd = bind_to(address, store->port, store->opts->world + STRANGERS_MAX);
			if (fd >= 0)
				return fd;
			*error = *error == EADDRINUSE ? EADDRINUSE : -fd;
			if (fd == -EADDRINUSE)
				*verdict = store_client_probe(store, address, store->port);
			if (*verdict != STORE_NEXT)
				return -1;
		}
	}
	return -1;
}

static int listen_somewhere(struct store *store, int *listen_fd)
{
	int error = 0, verdict;

	do {
		*listen_fd = listen_once(store, &error, &verdict);
		if (*listen_fd >= 0)
			return 0;
		if (verdict < 0)
			return verdict;
		poll(NULL, 0, accel_deadline_poll_ms(store->deadline_ns, BIND_RETRY_MS));
	} while (error == EADDRINUSE && !accel_deadline_passed(store->deadline_ns));
	return accel_fail(
		NULL, error == EMFILE || error == ENFILE || error == ENOMEM ? -ENOMEM : -EADDRINUSE,
		ACCEL_AT_CREATE,
		"rank %d cannot listen at %s on any of the ports %d to %d: %s; "
		"set master_port or MASTER_PORT to a free one",
		store->opts->rank, store->opts->addr, store->opts->port,
		store->opts->port + ACCEL_STORE_PORTS - 1, strerror(error));
}

int store_server_run(struct store *store)
{
	struct server server = {.store = store, .listen_fd = -1, .whole = 1};
	int rc;

	accel_ranks_add(server.came, store->opts->rank);
	memset(store->all, 0, store->bytes * (size_t)store->opts->world);
	for (int r = 0; r < store->opts->world; r++)
		server.due += !store_is_absent(store, r);

	server.room = store->opts->world + STRANGERS_MAX;
	server.conns = calloc((size_t)server.room, sizeof(*server.conns));
	server.pfds = calloc((size_t)server.room + 1, sizeof(*server.pfds));
	if (!server.conns || !server.pfds) {
		rc = accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				"no memory for the store's %d connections", server.room);
		goto out;
	}
	rc = listen_somewhere(store, &server.listen_fd);
	if (rc)
		goto out;
	memcpy(store->all + (size_t)store->opts->rank * store->bytes, store->mine, store->bytes);
	rc = gather(&server);
	if (server.refusal.kind)
		linger(&server);
	close(server.listen_fd);
	server.listen_fd = -1;
	if (!rc)
		rc = scatter(&server);
	for (int i = 0; i < server.count; i++)
		conn_close(&server, &server.conns[i]);
out:
	free(server.pfds);
	free(server.conns);
	return rc;
}
