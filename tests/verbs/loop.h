/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * libaccel-verbs-loop.so: libibverbs without a NIC. It has the symbols of libaccel/verbs_api.h and
 * reliably connected queue pairs between its own devices, loop0 and on, all in one process; ranks
 * are threads. One thread does what NICs do, as late, as scattered and in as unlucky an order as
 * a NIC may: it reads a source when it executes, writes a message piece by piece in any order, and
 * reports a send long after the receiver knew of it. Only a completion that was polled says
 * anything of memory: ThreadSanitizer sees the ordering that verbs promise, and no other.
 *
 * It is a strict NIC. What the specification calls optional does not happen to work: attributes
 * must be complete, keys, bounds and rights right, a send queue is full until a later signalled
 * completion was polled, a completion queue that overruns kills the device.
 *
 * A test finds struct loop_control by the symbol loop_control; a tool has the environment variable
 * LOOP, "devices=4,ports=2,rate=200,infiniband=1,dmabuf=1,delay_us=50" and SEED.
 */
#ifndef ACCEL_TESTS_VERBS_LOOP_H
#define ACCEL_TESTS_VERBS_LOOP_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>

enum { LOOP_DEVICES_MAX = 8, LOOP_PORTS_MAX = 2, LOOP_GATHER_MAX = 32, LOOP_GIDS = 4 };

/* What the devices are. 0 in any field: its default. */
struct loop_config {
	uint32_t devices;    /* 2 */
	uint32_t ports;	     /* of each; 1 */
	uint32_t rate;	     /* of a port, in Gb/s: 10, 25, 40, 50, 100, 200 or 400; 100 */
	uint32_t mtu;	     /* active_mtu, in bytes; 1024 */
	uint32_t infiniband; /* 1: ports have LIDs, one GID each; else RoCE, LOOP_GIDS GIDs */
	uint32_t subnets;    /* InfiniBand: device d is in subnet d % subnets; 1 */
	uint32_t grh;	     /* 1: InfiniBand ports require a global route */
	uint32_t dmabuf;     /* 1: a descriptor that can be mapped is registered; else EOPNOTSUPP */
	uint32_t max_sge;    /* 16 */
	uint32_t max_wr;     /* of a queue; 4096 */
	uint32_t granted_wr; /* of a send queue that can really be made; all of max_wr */
	uint32_t max_cqe;    /* 65536 */
	uint32_t max_inline; /* bytes; 256 */
	uint32_t delay_us;   /* of each stage of a work request, at most; 100 */
};

/* What exists now; all 0 when everything was given back. */
struct loop_live {
	uint32_t contexts, pds, mrs, channels, cqs, qps, threads;
};

/* Since configure(). */
struct loop_stats {
	uint64_t posts;	      /* calls of ibv_post_send() that took something */
	uint64_t requests;    /* work requests executed */
	uint64_t with_imm;    /* of those, WRITE_WITH_IMM */
	uint64_t entries_max; /* of one, local */
	uint64_t bytes;	      /* that were written into remote memory */
	uint64_t rnr_waits;   /* WRITE_WITH_IMMs that found no receive */
	uint64_t overruns;    /* of completion queues */
	uint64_t flushed;     /* work requests and receives */
};

enum loop_hold {
	LOOP_HOLD_REQUESTS, /* of this device: none is begun */
	LOOP_HOLD_ACKS,	    /* to this device: its sends stay without a completion */
	LOOP_HOLDS,
};

struct loop_control {
	/* NULL: the defaults, or those of LOOP. Nothing is open. Ends all faults and clears stats. */
	void (*configure)(const struct loop_config *config);
	void (*seed)(uint64_t seed); /* of every choice and delay from now on */
	struct loop_live (*live)(void);
	struct loop_stats (*stats)(void);
	/*
	 * The nth call (from 1) of "ibv_reg_mr" and so on from now on fails so; those of the fast
	 * path are "ibv_post_send", "ibv_post_recv", "ibv_poll_cq", "ibv_req_notify_cq". NULL: none.
	 * What gives something back fails too, and has given it back.
	 */
	void (*fail_call)(const char *call, unsigned nth, int error);
	bool (*call_failed)(void); /* has it? */
	/* The nth work request of the device from now on ends with that status, unexecuted. */
	void (*fail_request)(unsigned device, unsigned nth, enum ibv_wc_status status);
	/*
	 * The device's nth WRITE_WITH_IMM from now on lies: its immediate (as the host has it) and the
	 * byte at that place of its message come with those bits turned over.
	 */
	void (*lie)(unsigned device, unsigned nth, uint32_t imm_bits, unsigned at, uint8_t bits);
	/* What goes from one device to another is lost from now on, or no longer. */
	void (*drop)(unsigned from, unsigned to, bool on);
	void (*hold)(unsigned device, enum loop_hold what, bool on);
	void (*port)(unsigned device, unsigned port, bool up); /* ports count from 1 */
	/*
	 * Pull the card: its contexts get DEVICE_FATAL, every call of theirs but close says EIO, nothing
	 * is completed. false: a new card is in the slot, which can be opened anew.
	 */
	void (*remove)(unsigned device, bool on);
};

extern const struct loop_control loop_control;

#endif
