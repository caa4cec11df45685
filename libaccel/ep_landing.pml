/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The dispatch and combine protocol with peers that land, as a model that spin searches exhaustively:
 * tests/libaccel/ep_model.sh runs it, as the code is and with one mistake (BAD_...) at a time. What is the same
 * as over shared memory is argued in ep.pml; here a NIC reads the sender's rows where they lie, at any time until
 * their message has completed, and writes them into the receiver's slices, where they are read.
 *
 * A process calls() is one lane of one rank, as in ep.pml, with the same LATE, DIES, QUITS and ANY_LATE. A process nic()
 * carries what rank i sends to rank p on one queue pair: one half of each row, and its line. So the two halves
 * of a message come on two queue pairs, in any order.
 *
 *     here                  in the code
 *     x y landed returned   rows of x, of y or parts; the slices of ep_slice.h. Each half holds the round it was made in,
 *                           y that of the rows that the expert saw. Records are read as rows are, and not so long
 *     line[] unread[]       struct accel_line, known by its completion; not looked at yet by its rank
 *     posted[] busy[]       send queues; requests of a message whose completion was not polled, a bit a queue pair
 *     up[] broken[]         queue pairs that a rank has to others, a bit a rank; those that have failed
 *     told[] left[]         the peers' MASKED that have come, and their goodbyes, of either kind
 *     begun[]               masked ranks. ACCEL_MASK_BEGUN and FENCED are one here: masks are made by the thread that waits
 *     post mask gather      accel_ep_tell with send(); accel_ep_mask with close(); accel_ep_gather with poll()
 *     stop                  close()'s way with queue pairs: to the error state, flushed, destroyed
 *
 * What must hold, besides that every wait ends:
 *     torn_row       combine_begin: each half of a row received is of this round, and was until now
 *     torn_sum       combine_end: so is each half of each part summed
 *     wrong_signal   no line of another round was taken for one of this
 *     given_back     what a NIC reads is what was handed over: its owner has not had it back
 *     overrun        a line finds the receive that its way has: the last one there was looked at
 *     slot_busy      a message is sent when the last one its way has completed
 *     missed_signal  nobody is said to have left whose message of the round has come
 *
 * Left out: joining, since a new process has queue pairs of its own, and what is known of those before it is
 * forgotten; the other lanes, which share nothing but queue pairs.
 */

#ifndef RANKS
#define RANKS 2
#endif
#ifndef STRIPES
#define STRIPES 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define LATE (RANKS - 1)

#define DISPATCH 0
#define COMBINE 1

#define OTHER 255 /* what a caller writes that has its memory back */

typedef row_t {
	byte half[2]
}

#define LINK(i, p) ((i) * RANKS + (p)) /* from rank i to rank p, at either end */
#define MESSAGE(i, p, way) (LINK(i, p) * 2 + (way))
#define QUEUE(i, p, s) (LINK(i, p) * STRIPES + (s))
#define LINE(i, p, way, s) (MESSAGE(i, p, way) * STRIPES + (s))

row_t x[RANKS], y[RANKS * RANKS], landed[RANKS * RANKS], returned[RANKS * RANKS];
byte line[RANKS * RANKS * 2 * STRIPES];
bit unread[RANKS * RANKS * 2 * STRIPES];
byte busy[RANKS * RANKS * 2];
byte up[RANKS], broken[RANKS], told[RANKS], left[RANKS], begun[RANKS];
chan posted[RANKS * RANKS * STRIPES] = [2] of { bit, byte };
bit dead; /* LATE was killed */

hidden byte torn_row, torn_sum, wrong_signal, given_back, overrun, slot_busy, missed_signal;

#define BIT(p) (1 << (p))
#define HAS(set, p) (((set) >> (p)) & 1)
#define OTHERS ((BIT(RANKS) - 1) & ~BIT(me))
#define UNMASKED (OTHERS & ~begun[me])

#if defined(ANY_LATE)
#define TIMES_OUT(p) true
#else
#define TIMES_OUT(p) ((p) == LATE)
#endif

/* EXPECT: the one property that is looked at, so that a variant shows what it breaks and not what breaks first. */
#ifdef EXPECT
#define CHECK(property, violated) property = (violated); assert(!EXPECT); property = 0
#else
#define CHECK(property, violated) property = (violated); assert(!property); property = 0
#endif

/* ---- a queue pair of a NIC ---- */

#define UP(i, p) (HAS(up[i], p) && HAS(up[p], i))

/* With one queue pair all halves come on it. */
#if STRIPES == 1
#define FIRST 0
#define LAST 1
#else
#define FIRST s
#define LAST s
#endif

#define SOURCE(h) (way == DISPATCH -> x[i].half[h] : y[LINK(i, p)].half[h])
#define STEP(...) \
	if \
	:: atomic { UP(i, p) -> __VA_ARGS__ } \
	:: atomic { !UP(i, p) -> goto failed } \
	fi

/* Read as late as can be, which is the worst for its owner. */
inline carry(h)
{
	STEP(CHECK(given_back, SOURCE(h) != round);
		if
		:: way == DISPATCH -> landed[LINK(i, p)].half[h] = SOURCE(h)
		:: else -> returned[LINK(i, p)].half[h] = SOURCE(h)
		fi)
}

proctype nic(byte i, p, s)
{
	byte round;
	bit way;

end:	do
	:: posted[QUEUE(i, p, s)] ? way, round ->
		carry(FIRST);
#if STRIPES == 1
		carry(LAST);
#endif
		STEP(CHECK(overrun, unread[LINE(i, p, way, s)]);
		     line[LINE(i, p, way, s)] = round; unread[LINE(i, p, way, s)] = 1);
		/* Not acknowledged yet: it may have to be sent again. */
		STEP(CHECK(given_back, SOURCE(FIRST) != round || SOURCE(LAST) != round);
		     busy[MESSAGE(i, p, way)] = busy[MESSAGE(i, p, way)] & ~BIT(s); round = 0; way = 0);
		goto end
	od;
failed:
	/* Flushed; the rank finds that out, unless it is its own doing. */
	atomic {
		if
		:: HAS(up[i], p) -> up[i] = up[i] & ~BIT(p); broken[i] = broken[i] | BIT(p)
		:: else
		fi;
		do
		:: posted[QUEUE(i, p, s)] ? way, round
		:: empty(posted[QUEUE(i, p, s)]) -> break
		od;
		busy[MESSAGE(i, p, DISPATCH)] = busy[MESSAGE(i, p, DISPATCH)] & ~BIT(s);
		busy[MESSAGE(i, p, COMBINE)] = busy[MESSAGE(i, p, COMBINE)] & ~BIT(s);
		round = 0;
		way = 0
	};
	goto end
}

/* ---- what a rank does with its queue pairs ---- */

#define EACH(set, ...) \
	for (p : 0 .. RANKS - 1) { \
		if \
		:: HAS(set, p) -> __VA_ARGS__ \
		:: else \
		fi \
	} \
	p = 0

/* When it returns nothing is read on behalf of the peer any more, nor written. */
inline stop(q)
{
	up[me] = up[me] & ~BIT(q);
	!busy[MESSAGE(me, q, DISPATCH)] && !busy[MESSAGE(me, q, COMBINE)]
}

inline post(way)
{
	EACH(UNMASKED,
	     atomic {
		if
		:: HAS(up[me], p) ->
			CHECK(slot_busy, busy[MESSAGE(me, p, way)]);
			busy[MESSAGE(me, p, way)] = BIT(STRIPES) - 1;
			posted[QUEUE(me, p, 0)] ! way, round;
#if STRIPES > 1
			posted[QUEUE(me, p, 1)] ! way, round
#endif
		:: else
		fi
	     })
}

inline mask(q)
{
	atomic { begun[me] = begun[me] | BIT(q); told[q] = told[q] | BIT(me) };
#ifndef BAD_MASK_UNFLUSHED
	stop(q)
#endif
}

#define IS_SENT(p) (!busy[MESSAGE(me, p, DISPATCH)] && !busy[MESSAGE(me, p, COMBINE)])

#ifdef BAD_GOODBYE_EARLY
#define SAYS_GOODBYE(p) UP(me, p)
#else
#define SAYS_GOODBYE(p) (UP(me, p) && IS_SENT(p))
#endif

/* Over the queue pair, after all else; to a peer that this does not reach in time over the socket, when none is left. */
inline goodbye()
{
	EACH(UNMASKED,
	     if
	     :: IS_SENT(p)
	     :: TIMES_OUT(p)
	     fi;
	     atomic {
		if
		:: SAYS_GOODBYE(p) -> left[p] = left[p] | BIT(me)
		:: else
		fi
	     };
#ifndef BAD_LEAVES_UNFLUSHED
	     stop(p);
#endif
	     left[p] = left[p] | BIT(me)
	     )
}

/* ---- waiting ---- */

#define WAITED(q) (HAS(missing, q) && !HAS(begun[me], q))

#if defined(BAD_ROUND_UNCHECKED)
#define CAME(q, way, s) (line[LINE(q, me, way, s)] != 0)
#else
#define CAME(q, way, s) (line[LINE(q, me, way, s)] == round)
#endif
#if STRIPES == 1 || defined(BAD_ONE_LINE)
#define COME(q, way) CAME(q, way, 0)
#else
#define COME(q, way) (CAME(q, way, 0) && CAME(q, way, 1))
#endif

/* What was sent to the peer one way before is still read. */
#if defined(BAD_X_BEFORE_COMPLETION)
#define STILL_READ(q, way) ((way) == DISPATCH && busy[MESSAGE(me, q, 1 - (way))])
#elif defined(BAD_Y_BEFORE_COMPLETION)
#define STILL_READ(q, way) ((way) == COMBINE && busy[MESSAGE(me, q, 1 - (way))])
#else
#define STILL_READ(q, way) (busy[MESSAGE(me, q, 1 - (way))])
#endif

#define GONE(q) (HAS(told[me], q) || HAS(left[me], q) || HAS(broken[me], q))

inline take(q, way)
{
	wrong = wrong || line[LINE(q, me, way, 0)] != round;
	unread[LINE(q, me, way, 0)] = 0;
#if STRIPES > 1
	unread[LINE(q, me, way, 1)] = 0;
#endif
	missing = missing & ~BIT(q)
}

/* All that a look at rank q, or waiting for it, can come to. */
#define LOOK(q, way) \
	:: atomic { WAITED(q) && COME(q, way) && !STILL_READ(q, way) -> take(q, way) } \
	:: WAITED(q) && COME(q, way) && STILL_READ(q, way) && GONE(q) -> stop(q) \
	:: atomic { WAITED(q) && !COME(q, way) && HAS(told[me], q) -> goto leave } /* -ESTALE */ \
	:: atomic { WAITED(q) && !COME(q, way) && HAS(left[me], q) -> \
		CHECK(missed_signal, UP(q, me) && busy[MESSAGE(q, me, way)]) }; mask(q) /* -ESHUTDOWN */ \
	:: WAITED(q) && !COME(q, way) && HAS(broken[me], q) -> mask(q) /* -EIO, -ECONNRESET */ \
	:: WAITED(q) && TIMES_OUT(q) -> mask(q) /* -ETIMEDOUT */

inline gather(way)
{
	missing = OTHERS;
	do
	:: !(missing & ~begun[me]) -> break
#ifdef QUITS
	:: me == LATE -> goto leave /* its caller gives up in the middle of a round */
#endif
	LOOK(0, way)
	LOOK(1, way)
#if RANKS > 2
	LOOK(2, way)
#endif
	od
}

/* ---- a round ---- */

/*
 * What is read over some time is read in one step at the end of it, and what is written in one: the rounds in a cell
 * only grow, so what was overwritten meanwhile still is; and what had not come yet may come later in another run.
 */
#define READ(row) torn = torn || row.half[0] != round || row.half[1] != round
#define WRITE(row, value) row.half[0] = value; row.half[1] = value

inline dispatch_begin()
{
	atomic { round++; WRITE(x[me], round) }; /* by the caller */
	post(DISPATCH)
}

/* The caller's: each received row is read where it landed, and a row is made of it. */
inline expert()
{
	atomic {
		EACH(OTHERS & ~missing, READ(landed[LINK(p, me)]));
		EACH(OTHERS, WRITE(y[LINK(me, p)], (torn -> OTHER : round)))
	}
}

inline combine_begin()
{
	atomic {
		CHECK(torn_row, torn);
		CHECK(wrong_signal, wrong);
		torn = 0;
		wrong = 0
	};
	post(COMBINE)
}

inline sum()
{
	atomic {
		EACH(UNMASKED & ~missing, READ(returned[LINK(p, me)]));
		CHECK(torn_sum, torn);
		CHECK(wrong_signal, wrong);
		torn = 0;
		wrong = 0;
		missing = 0
	}
}

#ifdef DIES
#define UNLESS_KILLED unless { dead && me == LATE -> skip }
#else
#define UNLESS_KILLED
#endif

proctype calls(byte me)
{
	byte p, missing, round;
	bit torn, wrong;
#ifdef BAD_BEGINS_EARLY
	bit early;
#endif

	{
	do
	:: atomic { round == ROUNDS -> WRITE(x[me], OTHER) }; break /* x is the caller's again */
	:: round < ROUNDS ->
#ifdef BAD_BEGINS_EARLY
		if
		:: early -> round++; early = 0
		:: else -> dispatch_begin()
		fi;
#else
		dispatch_begin();
#endif
		gather(DISPATCH);
		expert();
		combine_begin();
#ifdef BAD_BEGINS_EARLY
		if
		:: round < ROUNDS -> dispatch_begin(); round--; early = 1
		:: else
		fi;
#endif
		gather(COMBINE);
		sum()
	od;
leave:
	atomic { p = 0; missing = 0; torn = 0; wrong = 0; round = 0 };
	goodbye();
	/* x and y are the caller's again. */
	atomic {
		EACH(OTHERS, WRITE(y[LINK(me, p)], OTHER));
		WRITE(x[me], OTHER)
	}
	} UNLESS_KILLED
}

#ifdef DIES
/* The kernel destroys the queue pairs of a process that it kills. */
proctype killer()
{
	atomic { dead = true; up[LATE] = 0 }
}
#endif

init {
	byte i, p, s;

	atomic {
		for (i : 0 .. RANKS - 1) {
			up[i] = (BIT(RANKS) - 1) & ~BIT(i);
			run calls(i);
			for (p : 0 .. RANKS - 1) {
				for (s : 0 .. STRIPES - 1) {
					if
					:: i != p -> run nic(i, p, s)
					:: else
					fi
				}
			}
		}
#ifdef DIES
		run killer();
#endif
		i = 0;
		p = 0;
		s = 0
	}
}
