/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The insides of the verbs transport:
 *     verbs.c         the table: open, reg, dereg, close
 *     verbs_meet.c    what a pair tells each other, checked, and connect
 *     verbs_qp.c      queue pairs, from RESET to RTS, to the error state and away
 *     verbs_send.c    from a signal to work requests
 *     verbs_cq.c      completions: what arrived, what was sent, what failed
 *     verbs_wait.c    poll: what can be said of a peer, and sleeping until there is more
 *     verbs_event.c   what befalls devices, ports and queue pairs besides
 *
 * Messages. Stripe i of a message is rows, written into the peer's slice by any number of WRITEs, then
 * its line (ep_slice.h) by a WRITE_WITH_IMM on the same queue pair. A WRITE is visible when a
 * completion of a later request of its queue pair is polled, so a line vouches for its own queue
 * pair's rows alone, and a message has come when its lines have and their counts add up. The immediate
 * says which line to look at; all else is in the line:
 *
 *     bits 31..30 lane   29..28 way (2: goodbye)   27..25 stripe   24..0 round, low bits
 *
 * Receives. A queue pair always has accel_verbs_receives(lanes) receives posted, one for each WRITE_WITH_IMM
 * that can be on its way before this rank polls: of a lane at most one dispatch and one combine, since
 *     the peer's dispatch k + 1 begins after its combine_end of round k, which needs this rank's combine
 *     k, which is sent after this rank's dispatch_end k has polled the peer's dispatch k; and
 *     the peer's combine k + 1 is sent after its dispatch_end k + 1, which needs this rank's dispatch
 *     k + 1, which is sent after this rank's combine_end k has polled the peer's combine k;
 * and one goodbye. A message has one line a queue pair at most. A completion that is polled posts its
 * receive again at once, so a peer that keeps to the protocol never finds none.
 *
 * Completion queues. One a device holds as many entries as all queue pairs on it can have requests
 * posted, sends (of which each completes by itself when it is flushed) and receives, and a queue pair is
 * destroyed when its own were polled: it cannot overrun.
 *
 * Threads. One mutex guards all of a context's transport, completion queues included; whoever polls takes in
 * everything. Lock order: this mutex, then channel, object, or accel_verbs. A lane's thread that sleeps
 * is woken by its eventfd when another has taken in what it waits for.
 */
#ifndef ACCEL_VERBS_H
#define ACCEL_VERBS_H

#include "ep_slice.h"
#include "verbs_reg.h"

#include <errno.h>

#define ACCEL_WAY_GOODBYE 2 /* in an immediate, beside enum accel_way */
#define ACCEL_VERBS_VERSION 1
#define ACCEL_GATHER_MIN 3 /* entries of one row: codes, scales, padding */
#define ACCEL_VERBS_DEPTH_MIN 16
#define ACCEL_VERBS_BATCH 32 /* work requests posted at a time */
/* Waited for at most: requests that were flushed, and goodbyes. */
#define ACCEL_VERBS_END_NS_MAX INT64_C(1000000000)

#define ACCEL_IMM_ROUND_MASK 0x1ffffffu
#define ACCEL_IMM(lane, way, stripe, round)                                                        \
	((uint32_t)(lane) << 30 | (uint32_t)(way) << 28 | (uint32_t)(stripe) << 25 |               \
	 ((uint32_t)(round)&ACCEL_IMM_ROUND_MASK))

struct accel_verbs_peer;

struct accel_verbs_qp {
	struct ibv_qp *qp; /* NULL: none */
	struct accel_verbs_peer *peer;
	uint8_t index; /* in the peer's qp[] */
	uint8_t rail;
	bool stopped; /* put into the error state by this rank: what is flushed is no news */
	uint32_t inline_bytes;
	uint32_t depth; /* sends that it has posted at most */
	uint32_t psn;
	/* Work requests, counted modulo 2^32. */
	uint32_t posted, completed;
	uint32_t signalled; /* posted, when one last asked for a completion */
	uint32_t receives;  /* posted */
	/* enum ibv_event_type + 1; written by whoever reads the device's events */
	_Atomic uint32_t event;
};

/* Rows [row, end) are still to be posted, then the records from rest on, then the line. */
struct accel_verbs_stripe {
	uint8_t qp; /* in the peer's qp[] */
	bool lined; /* all is posted */
	uint32_t begin, row, end;
	uint64_t rest; /* bytes */
	uint32_t last; /* qp->posted behind the line */
};

/* What is on its way to a peer: one a lane and way at a time. */
struct accel_verbs_message {
	bool busy; /* read from memory */
	uint8_t stripes;
	uint32_t lane, round, count, base;
	enum accel_way way;
	const uint8_t *records; /* NULL: row i of the message is row base + i of the memory */
	uint64_t records_bytes; /* of which records_head go with the line */
	uint64_t records_head;
	struct {
		const uint8_t *addr; /* of row 0 */
		uint64_t stride;
		uint32_t bytes;
		struct accel_verbs_mr *mr;
	} rows, scales;
	uint32_t pad_bytes; /* after the scales */
	uint64_t remote;    /* address of row 0 of the message */
	uint32_t remote_row_bytes;
	struct accel_verbs_stripe stripe[ACCEL_STRIPES_MAX];
};

/* What has come: the last message of a lane and way. */
struct accel_verbs_arrival {
	uint32_t round, count, base;
	uint32_t rows;	  /* of the stripes that came */
	uint8_t stripes;  /* 0: nothing came since the peer was connected */
	uint8_t came;	  /* stripes, bits */
	bool whole, read; /* poll() said 1 */
};

enum accel_verbs_state {
	ACCEL_VERBS_APART = 0,
	ACCEL_VERBS_SHOWN = 1,	   /* queue pairs in INIT, and the peer was told of them */
	ACCEL_VERBS_CONNECTED = 2, /* in RTS, or failed */
};

struct accel_verbs_peer {
	int rank;
	uint32_t remote; /* index in ep_slice.h's slices, and in the transport's peer[] */
	enum accel_verbs_state state;
	uint16_t generation; /* of its queue pairs: completions of older ones are not looked at */
	int error;	     /* 0, -EIO or -EPROTO: sticky; trouble in ep.h has the sentence */
	bool stopped;	     /* nothing is sent any more: its queue pairs are flushed */
	bool left;
	bool masks_us;
	uint64_t incarnation;
	uint64_t left_round[ACCEL_LANES_MAX];
	struct {
		uint64_t inbox, inbox_pitch; /* of lane 0, and to the next lane's; bytes */
		uint64_t landed, returned, landed_pitch;
		uint64_t returned_rows;
		uint32_t inbox_key[ACCEL_RAILS_MAX], landed_key[ACCEL_RAILS_MAX];
	} there;
	uint8_t rails, qps; /* used: of either end's the smaller number; qps: a rail */
	uint8_t qp_count;   /* made: rail r's q-th is qp[q * rails of this rank + r] */
	uint8_t pending;    /* messages that are busy: bit lane * ACCEL_WAYS + way */
	struct accel_verbs_qp qp[ACCEL_STRIPES_MAX];
	struct accel_verbs_message message[ACCEL_LANES_MAX][ACCEL_WAYS];
	struct accel_verbs_arrival arrival[ACCEL_LANES_MAX][ACCEL_WAYS];
};

/* A thread that waits for a lane. */
struct accel_verbs_sleeper {
	int fd; /* eventfd */
	bool asleep;
};

struct accel_verbs_transport {
	struct accel_transport base;
	struct accel_verbs *verbs;
	uint32_t lanes, remotes;
	uint32_t depth;		  /* of a queue pair's sends, if the device makes one so deep */
	uint32_t qps;		  /* a peer and rail */
	uint64_t write_bytes_max; /* of a work request */
	struct accel_verbs_mr *window; /* all of it, to be read */
	struct accel_verbs_mr *inboxes, *landed;

	/* The last region that reg() was given: no order is needed, it spares a look at the cache. */
	_Atomic uint64_t registered;

	pthread_mutex_t lock; /* guards what follows */
	struct {
		struct ibv_comp_channel *channel;
		struct ibv_cq *cq;
		_Atomic bool overrun; /* or broken otherwise: the device says so */
	} queue[ACCEL_RAILS_MAX];
	struct accel_verbs_sleeper sleeper[ACCEL_LANES_MAX];
	uint32_t news; /* lanes for which something came, bits */
	struct ibv_send_wr wr[ACCEL_VERBS_BATCH];
	struct ibv_sge sge[ACCEL_VERBS_BATCH][ACCEL_GATHER_MAX];
	struct accel_verbs_peer peer[]; /* [remotes] */
};

static inline struct accel_verbs_transport *accel_verbs_transport(struct accel_transport *transport)
{
	return (struct accel_verbs_transport *)transport;
}

static inline struct accel_verbs_peer *accel_verbs_peer(struct accel_verbs_transport *t, int rank)
{
	return &t->peer[t->base.ep->peers[rank].remote];
}

static inline const struct accel_verbs_rail *accel_verbs_rail(const struct accel_verbs_transport *t,
							      const struct accel_verbs_qp *qp)
{
	return &t->verbs->rail[qp->rail];
}

static inline uint32_t accel_verbs_receives(uint32_t lanes)
{
	return lanes * ACCEL_WAYS + 1;
}

/* libibverbs answers with an errno, some calls of some providers with -1 and errno. */
static inline int accel_verbs_errno(int answer)
{
	return answer > 0 ? answer : errno;
}

/*
 * wr_id: whose request it is and of which generation of queue pairs; of a send also qp->posted with
 * it. The opcode of a completion in error may not be looked at, so this says what it was.
 */
#define ACCEL_WR_RECEIVE (UINT64_C(1) << 63)

static inline uint64_t accel_verbs_wr_id(const struct accel_verbs_qp *qp, uint32_t posted)
{
	return (uint64_t)qp->peer->remote << 51 | (uint64_t)qp->index << 48 |
	       (uint64_t)qp->peer->generation << 32 | posted;
}

_Static_assert(ACCEL_RANKS_MAX <= 1 << 12 && ACCEL_STRIPES_MAX <= 1 << 3, "bits of a wr_id");
_Static_assert(ACCEL_LANES_MAX <= 1 << 2 && ACCEL_LANES_MAX * ACCEL_WAYS <= 8, "bits of a byte");

/* verbs_qp.c. With the lock held. */
/*
 * As many as this rank would use, in INIT, with their receives posted. Decided, the context's object has
 * the sentence: -EIO, -ENOMEM.
 */
int accel_verbs_qps_create(struct accel_verbs_transport *t, struct accel_verbs_peer *p);
/* One's other end, from what the peer said. */
struct accel_verbs_end {
	uint32_t qpn, psn;
	enum ibv_mtu mtu;
	uint16_t lid;
	bool global; /* by its GID */
	union ibv_gid gid;
};
/* To RTR and RTS. Decided: -EIO. */
int accel_verbs_qp_connect(struct accel_verbs_transport *t, struct accel_verbs_qp *qp,
			   const struct accel_verbs_end *end);
int accel_verbs_qp_receive(struct accel_verbs_qp *qp); /* post one; 0 or an errno */
/* Into the error state: what is posted is flushed. A device that is gone has nothing to flush. */
void accel_verbs_qp_stop(struct accel_verbs_transport *t, struct accel_verbs_qp *qp);
void accel_verbs_qp_destroy(struct accel_verbs_transport *t, struct accel_verbs_qp *qp);
static inline bool accel_verbs_qp_is_flushed(const struct accel_verbs_qp *qp)
{
	return !qp->qp || (qp->posted == qp->completed && !qp->receives);
}
/*
 * Stop, flush (until the deadline at most) and destroy all of a peer's. When it returns no device reads or
 * writes for it.
 */
void accel_verbs_peer_end(struct accel_verbs_transport *t, struct accel_verbs_peer *p,
			  int64_t deadline_ns);

/* verbs_meet.c */
/* Make queue pairs and tell the peer, with the lock held. Decided: see reg() in transport.h. */
int accel_verbs_show(struct accel_verbs_transport *t, struct accel_verbs_peer *p);
int accel_verbs_connect(struct accel_transport *transport, int peer, uint64_t window,
			uint64_t payload, uint64_t incarnation);

/* verbs_send.c */
int accel_verbs_send(struct accel_transport *transport, int peer, uint32_t lane, enum accel_way way,
		     uint32_t round, const struct accel_signal *signal);
/* Completions have come: end messages that were read to their end, go on with the others. Locked. */
void accel_verbs_advance(struct accel_verbs_transport *t, struct accel_verbs_peer *p);
/* Lines that tell a peer it will hear no more. Locked; all that was sent to it has completed. */
void accel_verbs_goodbye(struct accel_verbs_transport *t, struct accel_verbs_peer *p);

/* verbs_cq.c. With the lock held. */
void accel_verbs_progress(struct accel_verbs_transport *t);
/* The peer cannot be reached any more, or is not believed any more: once, what is said first counts. */
void accel_verbs_fail(struct accel_verbs_transport *t, struct accel_verbs_peer *p, int code,
		      const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The same of one queue pair, whose device and port the sentence begins with. */
void accel_verbs_qp_fail(struct accel_verbs_transport *t, const struct accel_verbs_qp *qp,
			 const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Send to it no more: its queue pairs go into the error state, and are flushed. */
void accel_verbs_stop(struct accel_verbs_transport *t, struct accel_verbs_peer *p);

/* verbs_wait.c */
int accel_verbs_poll(struct accel_transport *transport, int peer, uint32_t lane, enum accel_way way,
		     uint32_t round, int64_t sleep_ns, struct accel_signal *signal);
/* Instead of the mutex's: wakes the lanes for which something came. */
void accel_verbs_unlock(struct accel_verbs_transport *t);
/* Until a completion comes, for ns at most; the lock is held before and after. */
void accel_verbs_nap(struct accel_verbs_transport *t, int64_t ns);

/* verbs_event.c */
/* Take in what the devices say of themselves, whichever context it is about. */
void accel_verbs_events(struct accel_verbs *verbs);
/* Fail the peers whose device, port or queue pair was hit. Locked. */
void accel_verbs_events_judge(struct accel_verbs_transport *t);

#endif
