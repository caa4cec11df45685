/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What the store's two sides say to each other, over TCP, little-endian:
 *
 *     client: hello
 *     server: WELCOME; or OTHER, for a group of another name, or a meeting of the other kind (try the
 *             next port); or a verdict
 *     client: blob, blob_bytes long
 *     server: nothing until all are there, then RESULT and world x blob_bytes
 *     client: one byte 'q' when its time is nearly up
 *     server: STATUS with the ranks that are missing, and the client goes on waiting
 *
 * A verdict, DISAGREE or MISSING, ends the rendezvous on every rank: all make the same sentence of
 * it. Lengths are fixed, so nothing that is read says how much to read. The nonce tells a client
 * that comes again from another of the same rank.
 */
#ifndef ACCEL_STORE_WIRE_H
#define ACCEL_STORE_WIRE_H

#include "ranks.h"
#include "store.h"

#include <netdb.h>

#define STORE_MAGIC "accelst"
#define STORE_MAGIC_JOINS "acceljn" /* of a hello to the meeting of ranks that join */
#define STORE_VERSION 1

struct store_hello {
	char magic[8];
	uint32_t version;
	uint32_t rank, world;
	uint32_t blob_bytes;
	uint64_t nonce;
	char name[ACCEL_STORE_NAME_BYTES];
};

enum store_kind {
	STORE_WELCOME = 1,
	STORE_OTHER,
	STORE_STATUS,
	STORE_RESULT,
	STORE_DISAGREE,
	STORE_MISSING,
};

enum store_field {
	STORE_FIELD_VERSION = 1,
	STORE_FIELD_WORLD,
	STORE_FIELD_BLOB,
	STORE_FIELD_RANK, /* two claim it */
};

struct store_reply {
	char magic[8];
	uint32_t version;
	uint32_t kind;
	uint32_t field; /* of DISAGREE */
	int32_t rank;	/* whose value differs from the host's */
	uint64_t theirs, ours;
	uint64_t missing[ACCEL_RANKS_WORDS]; /* of STATUS and MISSING */
};

_Static_assert(sizeof(struct store_hello) == 96, "as sent");
_Static_assert(sizeof(struct store_reply) == 168, "as sent");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "wire structs are sent as they lie");

/* One rank's part in one allgather. */
struct store {
	const struct accel_store_opts *opts;
	const void *mine;
	size_t bytes;
	char *all;
	int64_t deadline_ns;
	uint64_t nonce;
	struct addrinfo *addresses;
	int port; /* where it was met */
};

enum store_talk { STORE_DONE = 0, STORE_NEXT = 1 }; /* or -errno, decided */

/* Decide a verdict's error: the same sentence on every rank. */
int store_verdict(const struct store *store, const struct store_reply *reply);

static inline bool store_is_host(const struct store *store)
{
	return store->opts->rank == store->opts->host;
}

static inline bool store_is_absent(const struct store *store, int rank)
{
	return store->opts->absent && accel_ranks_has(store->opts->absent, rank);
}

/* "rank 0", or what is known of the host, into text[room]. Returns text. */
const char *store_host_text(const struct store *store, char *text, size_t room);

/* store_client.c: meet the host and stay until it is over. */
int store_client_run(struct store *store);
/*
 * Is the holder of this address a store of this very group? Then the rank is claimed twice: the
 * verdict. Else STORE_NEXT.
 */
int store_client_probe(struct store *store, const struct addrinfo *address, int port);

/* store_server.c: the host's side. */
int store_server_run(struct store *store);

void store_address_set_port(struct addrinfo *address, int port);

#endif
