/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The higher rank's side of a pair: it asks the lower one, at its Unix sockets or, where they have none
 * in common, at its addresses, until one answers. And the HELLO of both sides.
 */
#ifndef ACCEL_PAIR_ASK_H
#define ACCEL_PAIR_ASK_H

#include "channel.h"
#include "pair.h"

#define ACCEL_PATHS_MAX 16 /* to a peer that are tried */

struct accel_hello {
	struct accel_message_head head;
	uint32_t version;
	uint32_t from, to;
	uint32_t reserved;
	uint8_t cookie[ACCEL_COOKIE_BYTES]; /* of the one it is sent to */
};

/* A connection, and what has come of the other end's hello. */
struct accel_talk {
	int fd;
	uint32_t got;
	struct accel_hello hello;
};

/* Who pairs. */
struct accel_pair_self {
	struct accel_listener *listener;
	const struct accel_member *members;
	int rank, world;
};

/* The whole hello went; a fresh socket has room for it. */
bool accel_hello_send(const struct accel_pair_self *self, int fd, int peer);
/*
 * The rank that proves to be at the other end; -1: somebody else, or the end; -EAGAIN: it has not said
 * all so far (which is not -1).
 */
int accel_hello_recv(const struct accel_pair_self *self, struct accel_talk *talk);
/* By the uid of the process at the other end of a Unix socket. */
bool accel_pair_is_trusted(int fd);
/* Decide that no socket is to be had. */
int accel_pair_fail_errno(int error, int peer);

/* One try at one address, or at the Unix sockets. */
struct accel_path {
	struct accel_talk talk; /* fd -1: not begun, or failed */
	uint8_t address;
	bool connecting;
	uint32_t scope;
	int64_t since_ns;
	int error; /* why it failed the last time; 0: it has not */
	int pfd;   /* for the one who polls */
};

struct accel_asking {
	int peer;
	bool tcp;
	bool refused; /* by some address, in every round so far */
	int paths, begun, rounds;
	int64_t next_ns; /* when the next path is begun, though those before are not done */
	struct accel_path path[ACCEL_PATHS_MAX];
};

void accel_ask_init(struct accel_asking *asking, const struct accel_pair_self *self, int peer);
/* Begin what is due. 0, or decided: -ECONNRESET, -EHOSTUNREACH, -ENOMEM. */
int accel_ask_step(struct accel_asking *asking, const struct accel_pair_self *self);
/*
 * Something happened on a path. 1 the peer is there, *fd is the connection to it and the others are
 * closed; 0; or decided, as above.
 */
int accel_ask_hear(struct accel_asking *asking, const struct accel_pair_self *self, int path,
		   int *fd);
/* The time is up: decide -EHOSTUNREACH if no address of it has even let itself be connected to, else 0. */
int accel_ask_give_up(const struct accel_asking *asking, const struct accel_pair_self *self);
void accel_ask_close(struct accel_asking *asking);

#endif
