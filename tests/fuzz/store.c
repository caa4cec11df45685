// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The store's two parsers fed by an enemy. The first byte says which: the server's, with a new
 * connection for every length byte that follows, or the client's, which says its hello and gets the
 * rest for an answer.
 */
#define _GNU_SOURCE
#include "../../libaccel/store_client.c"
#include "../../libaccel/store_server.c"

#define WORLD 4
#define BLOB 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct accel_store_opts opts = {.addr = "127.0.0.1",
					     .port = 29400,
					     .name = "g",
					     .world = WORLD,
					     .timeout_ns = ACCEL_NS_PER_MS};

static void feed(struct server *server, int fd, const uint8_t *data, size_t bytes)
{
	send(fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	for (int rounds = 0; rounds < 64; rounds++) {
		size_t got = 0;

		for (int i = 0; i < server->count; i++) {
			got -= server->conns[i].got;
			if (server->conns[i].fd >= 0 && conn_read(server, &server->conns[i]))
				return; /* a verdict */
			got += server->conns[i].got;
		}
		sweep(server);
		if (!got)
			return;
	}
}

static void fuzz_server(const uint8_t *data, size_t size)
{
	struct accel_store_opts zero = opts;
	char mine[BLOB] = {0}, all[WORLD * BLOB];
	struct store store = {.opts = &zero,
			      .mine = mine,
			      .bytes = BLOB,
			      .all = all,
			      .deadline_ns = INT64_MAX,
			      .port = 29400};
	struct conn conns[16];
	struct server server = {.store = &store,
				.listen_fd = -1,
				.conns = conns,
				.room = 16,
				.whole = 1,
				.came = {1}};
	uint64_t missing[ACCEL_RANKS_WORDS] = {0};
	int peers[64], count = 0, whole = 1;

	while (size && count < 16 && server.count < 16) {
		size_t bytes = *data++ % 160;
		int fd[2];

		size--;
		bytes = bytes < size ? bytes : size;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd))
			abort();
		conns[server.count++] = (struct conn){
			.fd = fd[0], .rank = -1, .since_ns = accel_now_ns()};
		peers[count++] = fd[1];
		feed(&server, fd[1], data, bytes);
		data += bytes;
		size -= bytes;
	}
	for (int i = 0; i < server.count; i++)
		whole += server.conns[i].fd >= 0 && server.conns[i].whole;
	missing_ranks(&server, missing);
	if (server.whole != whole || server.whole > WORLD || missing[0] >> WORLD || missing[0] & 1)
		abort();
	for (int i = 0; i < server.count; i++)
		conn_close(&server, &server.conns[i]);
	for (int i = 0; i < count; i++)
		close(peers[i]);
}

static void fuzz_client(const uint8_t *data, size_t size)
{
	struct accel_store_opts one = opts;
	char mine[BLOB] = {0}, *all = malloc(WORLD * BLOB);
	struct store store = {.opts = &one,
			      .mine = mine,
			      .bytes = BLOB,
			      .all = all,
			      .deadline_ns = INT64_MAX,
			      .port = 29400};
	const char *why;
	int fd[2], rc;

	one.rank = 1;
	if (!all || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd))
		abort();
	send(fd[1], data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(fd[1], SHUT_WR);
	rc = talk(&store, fd[0], INT64_MAX, &why);
	if (rc > STORE_NEXT || (rc == STORE_DONE && memcmp(all + BLOB, mine, BLOB)))
		abort();
	close(fd[0]);
	close(fd[1]);
	free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (*data & 1)
		fuzz_server(data + 1, size - 1);
	else
		fuzz_client(data + 1, size - 1);
	return 0;
}
