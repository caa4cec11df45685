/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The insides of libaccel-verbs-loop.so. One lock guards everything; the engine (loop_engine.c) holds
 * it for a piece of a message at a time, so that whoever destroys something under it finds nothing
 * at work there.
 *
 * What ThreadSanitizer is told (loop_order.c): nothing of what happens under the lock, neither the
 * accesses nor the lock itself. Instead each queue pair is a fiber, a thread in TSan's eyes, that
 * acquires what the poster of a request had done, reads and writes the pieces, and releases to the
 * completions; polling one acquires. What destroys a queue pair or a registration acquires all
 * that was done through it.
 */
#ifndef ACCEL_TESTS_VERBS_LOOP_INSIDE_H
#define ACCEL_TESTS_VERBS_LOOP_INSIDE_H

#include "loop.h"

#include <stddef.h>

/* Calls that are macros in the header are functions in the library. */
#undef ibv_get_device_list
#undef ibv_query_port
#undef ibv_reg_mr

#define LOOP_EXPORT __attribute__((visibility("default")))
#define LOOP_NEVER INT64_MAX

enum { LOOP_ASYNC_MAX = 64 };

struct loop_port {
	bool down;
};

struct loop_device {
	struct ibv_device ibv;
	unsigned index;
	bool removed, held[LOOP_HOLDS], lost[LOOP_DEVICES_MAX]; /* to which devices */
	struct loop_port port[LOOP_PORTS_MAX];
	unsigned fail_nth; /* request from now; 0: none */
	enum ibv_wc_status fail_status;
	unsigned lie_nth; /* WRITE_WITH_IMM from now; 0: none */
	uint32_t lie_imm; /* as it is on the wire */
	unsigned lie_at;
	uint8_t lie_bits;
};

struct loop_context {
	struct ibv_context ibv;
	struct loop_device *dev;
	_Atomic bool dead;
	struct ibv_async_event event[LOOP_ASYNC_MAX];
	unsigned event_first, event_count;
	struct loop_pd *pds;
	struct loop_channel *channels;
	struct loop_context *next;
};

struct loop_pd {
	struct ibv_pd ibv;
	unsigned users;
	struct loop_pd *next;
};

struct loop_mr {
	struct ibv_mr ibv;
	uint64_t iova;
	uint8_t *pages; /* the byte at iova; the pages themselves, whatever is mapped there later */
	void *alias;	/* NULL: pages is the caller's own mapping */
	size_t alias_bytes;
	int access;
	unsigned slot;
	char fence; /* its address: what the deregistration waits for, to TSan */
};

struct loop_channel {
	struct ibv_comp_channel ibv;
	struct loop_channel *next;
};

/* A completion in its queue. */
struct loop_cqe {
	struct ibv_wc wc;
	struct loop_qp *qp;
	uint64_t index; /* of the request or receive */
	bool send;
};

struct loop_cq {
	struct ibv_cq ibv;
	struct loop_cqe *ring; /* [ibv.cqe] */
	unsigned first, users;
	_Atomic unsigned count; /* looked at without the lock */
	int armed;		/* 0; 1 for any; 2 for solicited ones and errors */
	unsigned events,
		reported; /* that nobody has read yet; read, of which ibv counts those acknowledged */
	unsigned async_reported;
	struct loop_cq *next;
};

/* A work request from post to poll. */
struct loop_request {
	uint64_t wr_id;
	enum ibv_wr_opcode opcode;
	unsigned flags;
	uint32_t imm, rkey;
	uint64_t remote_addr, bytes;
	int entries;
	struct ibv_sge entry[LOOP_GATHER_MAX];
	uint8_t *inlined; /* room for the queue's max_inline_data */
	enum ibv_wc_status status;
	uint64_t pieces; /* bit i: piece i is still to be written */
	uint64_t piece_bytes;
	unsigned lie_at; /* the byte of the message that comes with lie_bits turned over */
	uint8_t lie_bits;
	bool counted;	  /* among those that found no receive */
	unsigned refused; /* how often */
	int64_t next_ns;  /* when its next stage may be */
};

struct loop_receive {
	uint64_t wr_id;
	int entries;
	struct ibv_sge entry[LOOP_GATHER_MAX];
};

struct loop_qp {
	struct ibv_qp ibv;
	struct ibv_qp_cap cap;
	struct ibv_qp_attr attr;
	enum ibv_qp_state state;
	bool signal_all, failing, established;
	/* Requests so far, each count at most the one before: posted, begun, received, acknowledged, polled. */
	uint64_t posted, begun, received, completed, freed;
	struct loop_request *request; /* [cap.max_send_wr] */
	uint8_t *inlined;
	uint64_t receives_posted, receives_used, receives_freed;
	struct loop_receive *receive; /* [cap.max_recv_wr] */
	int64_t stalled_ns;	      /* since when its peer does not answer; 0: it does */
	int64_t flush_ns;
	unsigned async_reported;
	void *fiber;
	char fence;
	struct loop_qp *next;
};

struct loop_state {
	struct loop_config config;
	struct loop_device device[LOOP_DEVICES_MAX];
	struct loop_context *contexts;
	struct loop_qp *qps;
	struct loop_cq *cqs;
	struct loop_live live;
	struct loop_stats stats;
	uint64_t random;
	uint32_t next_qp_num;
};

extern struct loop_state loop;
extern _Atomic bool loop_armed; /* a call is to fail */

/* loop_order.c */
void loop_enter(void);
void loop_leave(void);
void loop_changed(void); /* the engine has something to look at, or a waiter */
/* Waits for a change; false: the caller has waited for 10 s in all since *since_ns, first 0. */
bool loop_await(int64_t *since_ns);
/* For the first device that is open, and after the last. Both may let the lock go meanwhile. */
int loop_engine_start(void);
void loop_engine_stop(void);
int64_t loop_now_ns(void);
void *loop_fiber_create(void);
void loop_fiber_destroy(void *fiber);
/* As a fiber, or with NULL as the calling thread. */
void loop_acquire(void *fiber, void *sync);
void loop_release(void *fiber, void *sync);
void loop_touch(void *fiber, const void *read, void *written,
		size_t bytes); /* either may be NULL */

/* loop.c */
bool loop_fails(const char *call, int *error); /* the call that a test has picked */
uint64_t loop_random(uint64_t bound);	       /* 0..bound-1 */
int64_t loop_delay_ns(void);
/* May the context be used for this call? 0, or its error. */
int loop_check(struct ibv_context *context, const char *call);
/*
 * The same of a call that gives something back. A device that is gone gives nothing back before it
 * is closed: *keep.
 */
int loop_check_last(struct ibv_context *context, const char *call, bool *keep);
struct loop_context *loop_context(struct ibv_context *ibv);
int loop_gid(const struct loop_device *dev, unsigned port, int index, struct ibv_gid_entry *entry);

/* loop_memory.c */
void loop_memory_clear(struct loop_context *c); /* what is left when it is closed */
struct loop_mr *loop_mr_local(const struct ibv_pd *pd, const struct ibv_sge *entry, int access);
struct loop_mr *loop_mr_remote(const struct ibv_pd *pd, uint64_t addr, uint64_t bytes,
			       uint32_t rkey);

/* loop_events.c */
void loop_events_clear(struct loop_context *c);
/* fiber: whose work it completes */
void loop_complete(struct loop_qp *qp, bool send, uint64_t index, const struct ibv_wc *wc,
		   bool solicited, void *fiber);
void loop_cq_forget(struct loop_cq *cq, struct loop_qp *qp); /* its completions */
void loop_async(struct ibv_context *context, enum ibv_event_type type, void *object, int port);
void loop_async_forget(struct ibv_context *context, void *object, unsigned *reported,
		       uint32_t *done);
void loop_context_die(struct loop_context *c);
int loop_poll_cq(struct ibv_cq *cq, int entries, struct ibv_wc *wc);
int loop_req_notify_cq(struct ibv_cq *cq, int solicited_only);

/* loop_queue.c */
void loop_queues_clear(struct loop_context *c);
struct loop_qp *loop_qp_of(uint32_t qp_num); /* NULL: there is none */
int loop_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int loop_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
void loop_qp_fail(struct loop_qp *qp); /* to the error state */

/* loop_engine.c */
/* The peer as its packets find it; NULL: they are lost. */
struct loop_qp *loop_peer(const struct loop_qp *qp);
/* Does what is due; when there may be more: now, a time, or LOOP_NEVER. */
int64_t loop_step(int64_t now_ns);

#endif
