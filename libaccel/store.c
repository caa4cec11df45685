// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The rendezvous: what both sides share. The words they use are in store_wire.h. */
#include "store_wire.h"

#include "deadline.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define RESOLVE_RETRY_MS 100

const char *store_host_text(const struct store *store, char *text, size_t room)
{
	if (store->opts->host >= 0)
		snprintf(text, room, "rank %d", store->opts->host);
	else
		snprintf(text, room, "the lowest rank that lets others join");
	return text;
}

static int fail_disagree(const struct store *store, const struct store_reply *reply)
{
	static const char *const fields[] = {
		[STORE_FIELD_VERSION] = "version of the rendezvous",
		[STORE_FIELD_WORLD] = "world size",
		[STORE_FIELD_BLOB] = "member size in bytes",
	};
	struct accel_failure where = {.rank = reply->rank, .phase = ACCEL_PHASE_CREATE, .lane = -1};
	char host[64];

	if (reply->rank < 0 || reply->rank >= ACCEL_RANKS_MAX)
		where.rank = -1;
	if (reply->field == STORE_FIELD_RANK)
		return accel_fail(NULL, -EPROTO, &where,
				  "two processes claim rank %d of group \"%s\" at %s port %d: "
				  "give each its own RANK, or their "
				  "groups different names or ports",
				  where.rank, store->opts->name, store->opts->addr, store->port);
	if (reply->field < STORE_FIELD_VERSION || reply->field > STORE_FIELD_BLOB)
		return accel_fail(
			NULL, -EPROTO, &where,
			"ranks of group \"%s\" disagree about something this version does not know",
			store->opts->name);
	return accel_fail(NULL, -EPROTO, &where,
			  "ranks of group \"%s\" disagree: %s is %llu on rank %d and %llu on %s; "
			  "it must be equal on all ranks",
			  store->opts->name, fields[reply->field],
			  (unsigned long long)reply->theirs, where.rank,
			  (unsigned long long)reply->ours,
			  store_host_text(store, host, sizeof(host)));
}

int store_verdict(const struct store *store, const struct store_reply *reply)
{
	struct accel_failure where = {
		.phase = ACCEL_PHASE_CREATE, .lane = -1, .missing = reply->missing};
	char ranks[160];

	if (reply->kind == STORE_DISAGREE)
		return fail_disagree(store, reply);
	where.rank = accel_ranks_first(reply->missing);
	if (where.rank < 0) /* the host itself, whose rank one that joins does not know */
		store_host_text(store, ranks, sizeof(ranks));
	else
		accel_ranks_text(reply->missing, ranks, sizeof(ranks));
	return accel_fail(
		NULL, -ETIMEDOUT, &where,
		"%s of group \"%s\" (%d ranks) did not come to %s port %d within %lld ms: "
		"start every rank%s, with the same "
		"address, port and group name",
		ranks, store->opts->name, store->opts->world, store->opts->addr, store->port,
		(long long)(store->opts->timeout_ns / ACCEL_NS_PER_MS),
		store->opts->joins ? " that joins, and call accel_group_join() on the others" : "");
}

void store_address_set_port(struct addrinfo *address, int port)
{
	if (address->ai_family == AF_INET6)
		((struct sockaddr_in6 *)address->ai_addr)->sin6_port = htons((uint16_t)port);
	else
		((struct sockaddr_in *)address->ai_addr)->sin_port = htons((uint16_t)port);
}

/* A name server that is busy is asked again; a name that does not exist is the caller's mistake. */
static int resolve(struct store *store)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
	int rc;

	while ((rc = getaddrinfo(store->opts->addr, "1", &hints, &store->addresses)) == EAI_AGAIN &&
	       !accel_deadline_passed(store->deadline_ns))
		poll(NULL, 0, RESOLVE_RETRY_MS);
	if (rc)
		return accel_fail(NULL, rc == EAI_MEMORY ? -ENOMEM : -EINVAL, ACCEL_AT_CREATE,
				  "the address of rank 0, \"%s\", does not resolve: %s; "
				  "set master_addr or MASTER_ADDR to a host name "
				  "or an IP address",
				  store->opts->addr, gai_strerror(rc));
	return 0;
}

static int check(const struct accel_store_opts *opts, size_t bytes)
{

	if (opts->world < 1 || opts->world > ACCEL_RANKS_MAX || opts->rank < 0 ||
	    opts->rank >= opts->world)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "rank %d of %d is outside 0..world-1, with a world of at most %d",
				  opts->rank, opts->world, ACCEL_RANKS_MAX);
	if (bytes < 1 || bytes > ACCEL_STORE_BLOB_BYTES_MAX)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "a member of %zu bytes is outside 1..%d", bytes,
				  ACCEL_STORE_BLOB_BYTES_MAX);
	if (!opts->port)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "port 0 cannot be met at");
	if (strlen(opts->name) >= ACCEL_STORE_NAME_BYTES)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "the group's name has %zu characters, and may have %d",
				  strlen(opts->name), ACCEL_STORE_NAME_BYTES - 1);
	return 0;
}

int accel_store_allgather(const struct accel_store_opts *opts, const void *mine, size_t bytes,
			  void *all, int *port)
{
	struct store store = {
		.opts = opts, .mine = mine, .bytes = bytes, .all = all, .port = opts->port};
	int rc = check(opts, bytes);

	if (rc)
		return rc;
	if (opts->world == 1) {
		memcpy(all, mine, bytes);
		*port = 0;
		return 0;
	}
	store.deadline_ns = accel_deadline_after(opts->timeout_ns);
	while (getrandom(&store.nonce, sizeof(store.nonce), 0) != sizeof(store.nonce))
		continue;
	rc = resolve(&store);
	if (rc)
		return rc;
	rc = store_is_host(&store) ? store_server_run(&store) : store_client_run(&store);
	freeaddrinfo(store.addresses);
	if (!rc)
		*port = store.port;
	return rc;
}
