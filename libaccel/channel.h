/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The control socket of a pair of ranks: one connection over which set-up messages travel, never rows
 * or signals of a round. It is a Unix SEQPACKET socket, over which descriptors can travel too, or
 * TCP. Everything read from it is hostile until checked.
 *
 * A message is struct accel_message_head and a body: over a Unix socket in one packet, with at most
 * one descriptor. REGION and UNREGION, which only a Unix socket has, are taken in when the socket is
 * drained; other types wait in a short queue until accel_channel_take() asks for them. Between ranks
 * of one process (SO_PEERCRED says this pid) a REGION carries the owner's struct accel_region itself,
 * with a reference, instead of a descriptor. So both ends must be made by connect() and accept() in
 * the processes that use them.
 *
 * TCP tells at once that the peer's process ended, within 10 s that its host vanished, and counts a
 * peer as gone that leaves full what it is sent for so long.
 *
 * Threads: every call takes the channel's lock; none waits for the peer but send and share, bounded
 * by their timeout, and these take in what the peer sends meanwhile. timeout_ns: > 0 for the whole
 * call; 0 try once; < 0 30 s.
 */
#ifndef ACCEL_CHANNEL_H
#define ACCEL_CHANNEL_H

#include "object.h"
#include "region.h"

#include <sys/types.h>

enum accel_message_type {
	ACCEL_MESSAGE_HELLO = 1, /* first of each side: proves the cookie */
	ACCEL_MESSAGE_REGION = 2,
	ACCEL_MESSAGE_UNREGION = 3,
	ACCEL_MESSAGE_EP_OPTS = 4,  /* tag: the context's number; body: what must be equal */
	ACCEL_MESSAGE_EP_READY = 5, /* tag as above; body: the window's region */
	ACCEL_MESSAGE_JOINED = 6,   /* all channels of a join are made; tag: of that meeting */
	ACCEL_MESSAGE_VERBS =
		7, /* tag: the context's; body: how to reach its queue pairs and slices */
	ACCEL_MESSAGE_MASKED =
		8, /* tag: the context's; no body: the sender has masked the receiver */
	/*
	 * tag: the context's; body: uint64_t [lanes], its last rounds: the sender leaves, and had no
	 * other way to say so
	 */
	ACCEL_MESSAGE_LEFT = 9,
};

#define ACCEL_MESSAGE_MAGIC 0x4c434341u /* "ACCL" */

struct accel_message_head {
	uint32_t magic;
	uint32_t type; /* enum accel_message_type */
	uint64_t tag;
	uint32_t bytes;	   /* of the body, all that follows */
	uint32_t reserved; /* 0 */
};

/* The body of REGION; that of UNREGION is the id alone. */
struct accel_message_region {
	uint64_t id;	 /* not 0 */
	uint64_t offset; /* in the descriptor that comes along, bytes */
	uint64_t bytes;
	uint64_t address; /* within one process: of the struct accel_region; else 0 */
};

#define ACCEL_MESSAGE_BYTES_MAX (ACCEL_EXPERTS_MAX * 8 + 4096)
#define ACCEL_CHANNEL_QUEUE_MAX 64     /* messages not yet taken */
#define ACCEL_CHANNEL_REGIONS_MAX 4096 /* of one peer, mapped here */

struct accel_channel; /* opaque outside channel.c */

/*
 * fd: a connected, non-blocking socket of one of the two kinds whose hello was exchanged; taken over
 * on success. peer: its rank, for messages. -EINVAL another kind; -ENOMEM; -errno.
 */
int accel_channel_create(int fd, int peer, struct accel_channel **ch);
void accel_channel_destroy(struct accel_channel *ch); /* NULL is fine */

/*
 * Send one message. 0; -ETIMEDOUT the socket stayed full; -EAGAIN it is, timeout 0; -ECONNRESET the
 * peer is gone; -EMSGSIZE. Over TCP the end of a message may still be here when the time is up: later
 * calls, drain and take included, go on with it before anything else.
 */
int accel_channel_send(struct accel_channel *ch, uint32_t type, uint64_t tag, const void *body,
		       size_t bytes, int64_t timeout_ns);
/* 0 all that was sent is out; -EAGAIN not yet; -ECONNRESET; -EPROTO; -ENOMEM. Does not block. */
int accel_channel_flush(struct accel_channel *ch);

/*
 * Send the region's descriptor unless this peer has it already. Fast when it has (one lock, one
 * lookup). As send, and -EOPNOTSUPP the region has no descriptor, or the channel passes none;
 * -ENOSPC the peer has ACCEL_CHANNEL_REGIONS_MAX; -EINVAL it was unshared; -ENOMEM.
 */
int accel_channel_share(struct accel_channel *ch, struct accel_region *region, int64_t timeout_ns);
/*
 * The region goes away: tell the peer if it has it. Never blocks: when the socket is full it is
 * told later or not at all.
 */
void accel_channel_unshare(struct accel_channel *ch, uint64_t region_id);

/*
 * Read all that is there. 0 alive; -ECONNRESET end of file without goodbye; -EPROTO nonsense.
 * Sticky. Does not block.
 */
int accel_channel_drain(struct accel_channel *ch);

/*
 * A waiting message of this type and tag: its size, body copied (up to room bytes). -EAGAIN none
 * yet (drains first); -ECONNRESET; -EPROTO; -EMSGSIZE larger than room (it stays). What came before
 * the peer's end can still be taken.
 */
ssize_t accel_channel_take(struct accel_channel *ch, uint32_t type, uint64_t tag, void *body,
			   size_t room);
/* Drain, then forget waiting messages of this type with smaller tags: of what was given up. */
void accel_channel_drop(struct accel_channel *ch, uint32_t type, uint64_t tag);

/*
 * The peer's region by its id, with a reference for the caller; drains when it is not known yet.
 * -ENOENT the peer never sent it; -ENOMEM it came, and could not be mapped here; -ECONNRESET;
 * -EPROTO.
 */
int accel_channel_region(struct accel_channel *ch, uint64_t region_id,
			 struct accel_region **region);
uint64_t accel_channel_maps(struct accel_channel *ch); /* regions taken in so far, count */

int accel_channel_fd(struct accel_channel *ch); /* to poll() on, or -1 when the peer is gone */
int accel_channel_peer(const struct accel_channel *ch);

#endif
