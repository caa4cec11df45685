/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The sleep of order.h as a model: rank A waits on two lanes for signals of rank B, each lane of B signals twice. A
 * plain store waits in its core's store buffer, one deep, and loads of that core pass it; an atomic exchange,
 * an atomic add and a system call empty the buffer first. The kernel's FUTEX_WAIT compares and queues in one step.
 *
 *     here              in the code
 *     round[] fields[]  struct board_line of A's two lanes, on B's board
 *     asleep            struct board_peer.asleep on A's board: one word, both lanes'
 *     signaller()       shm_send and wake
 *     sleeper()         sleep_on, within the loop of accel_ep_gather
 *
 * The code sleeps for a slice of 4 ms at most, so a lost wakeup costs that. Here a sleep has no end, so that a
 * lost wakeup is a deadlock, which spin calls an invalid end state. tests/libaccel/ep_model.sh runs this.
 */
#define LANES 2
#define ROUNDS 2

byte fields[LANES], round[LANES], done[LANES];
byte asleep;
bool queued[LANES]; /* by FUTEX_WAIT */

/* The store of round that has not left B's core for the memory, if any. */
bool buffered[LANES];
byte buffer[LANES];

#define FLUSH(lane) if :: buffered[lane] -> round[lane] = buffer[lane]; buffered[lane] = false :: else fi

proctype signaller(byte lane)
{
	byte next = 1;

	do
	:: next <= ROUNDS ->
		fields[lane] = next;
#ifdef BAD_PLAIN_STORE
		atomic { buffer[lane] = next; buffered[lane] = true };
#else
		round[lane] = next;
#endif
		if
		:: asleep > 0 -> atomic { FLUSH(lane); queued[lane] = false } /* FUTEX_WAKE */
		:: asleep == 0
		fi;
		done[lane] == next; /* the credit for the next round */
		next++
	:: else -> break
	od
}

/* B's core, at any time. */
proctype store_buffer(byte lane)
{
end:	do
	:: atomic { buffered[lane] -> FLUSH(lane) }
	od
}

proctype sleeper(byte lane)
{
	byte open = 1, seen;

	do
	:: open > ROUNDS -> break
	:: open <= ROUNDS && round[lane] == open ->
		assert(fields[lane] == open);
		done[lane] = open;
		open++
	:: open <= ROUNDS && round[lane] != open ->
#ifdef BAD_ASLEEP_FLAG
		asleep = 1;
#else
		asleep++;
#endif
		seen = round[lane];
		if
#ifndef BAD_SLEEP_UNCHECKED
		:: seen == open
		:: seen != open ->
#else
		:: true ->
#endif
			atomic { /* FUTEX_WAIT */
				if
#ifndef BAD_WAIT_UNCOMPARED
				:: round[lane] == seen -> queued[lane] = true
				:: else
#else
				:: queued[lane] = true
#endif
				fi
			};
			!queued[lane]
		fi;
		seen = 0;
#ifdef BAD_ASLEEP_FLAG
		asleep = 0
#else
		asleep--
#endif
	od
}

init {
	atomic {
		run signaller(0);
		run signaller(1);
		run sleeper(0);
		run sleeper(1);
		run store_buffer(0);
		run store_buffer(1)
	}
}
