/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The dispatch and combine protocol over shared memory, as a model that spin searches exhaustively:
 * tests/libaccel/ep_model.sh runs it, as the code is and with one mistake (BAD_...) at a time.
 *
 * A process calls() is one lane of one rank: it makes the calls of accel_ep.h in order, ROUNDS times, then
 * destroys the context. Rank LATE may be descheduled anywhere, for any time: whoever waits for it may time
 * out at any moment, and then masks it. With JOIN it comes back after round JOIN_AT as a new process, while
 * the old one, the zombie, may still run. With DIES it is killed anywhere, with QUITS it leaves in the middle
 * of a round, with MASKER another thread masks it, and with ANY_LATE nobody is in time.
 *
 *     here                  in the code
 *     board[i]              shm.c: the board at the start of the window of process i
 *       .left .done[lane]   struct board_head: i has begun its goodbye; the last round whose results it has read
 *       .admits[p]          struct board_peer: which incarnation of rank p may read what i owns. NOBODY: p is
 *                           masked; LEFT: i left and waited no longer
 *       .line[]             struct board_line, one a (peer, lane, way): its round, the round that its fields tell
 *                           of (signal), and the incarnation they are meant for (to)
 *     memory[i]             records in the window, x and y rows in any registered buffer. A row is two halves,
 *                           written and read in two steps; each holds the round it was written in. A y row is
 *                           what the expert made of an x row: torn x makes torn y.
 *     begun[i] fenced[i]    ep.h: ACCEL_MASK_BEGUN, ACCEL_MASK_FENCED; a bit a rank
 *     combined[]            struct accel_ep_lane.combined
 *     missing               ranks that accel_ep_gather() has not heard from
 *     torn wrong            ranks of which a cell, or a signal, was not of this round and for this incarnation
 *     tell mask stale       tell_peers with shm_send; accel_ep_mask with fence_off; accel_ep_stale
 *     goodbye               say_goodbye; IS_READ_BY is is_read_by
 *     gather take           accel_ep_gather with look and settle_failure, in any order of peers; arrived
 *     dispatch_begin ...    the calls of that name; expert is the caller's work between them
 *     join                  accel_group_join and accel_ep_join
 *
 * What must hold, besides that every wait ends (no invalid end state, nothing that goes round in a circle):
 *     torn_record    dispatch_end returned 0: each record listed is of this round, or its rank is masked here
 *     torn_row       combine_begin returned 0: so is each row received, read until then where it lies
 *     torn_sum       combine_end returned: every half of every part summed is of this round, without exception
 *     wrong_signal   none of them returned by a signal of another round, or for another incarnation
 *     missed_signal  nobody is said to have left whose signal of the round is there
 *
 * Left out: what one process does alone (own rows, lists, the order of sums), sizes and offsets (hostile values
 * are the tests' business), registration of buffers, abort, a join that fails. When a rank left, the caller masks
 * it and calls again.
 *
 * Steps interleave as on a sequentially consistent machine. Where the seqlock of order.h has a fence, NO_FENCE_OWNER
 * and NO_FENCE_READER do the reordering that it forbids. order.pml is the sleep of order.h, with store buffers.
 */

#ifndef RANKS
#define RANKS 2
#endif
#ifndef LANES
#define LANES 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define LATE (RANKS - 1)

#ifdef JOIN
#ifndef JOIN_AT
#define JOIN_AT 1
#endif
#define JOINER RANKS /* the process; its rank is LATE */
#define PROCESSES (RANKS + 1)
#else
#define PROCESSES RANKS
#endif

#define DISPATCH 0
#define COMBINE 1

#define NOBODY 0
#define INCARNATION(process) (2 * ((process) + 1))
#define LEFT(incarnation) ((incarnation) | 1)

#define OTHER 255 /* what a caller writes that has its memory back */

typedef line_t {
	byte signal;
	byte to;
	byte round
}

typedef board_t {
	bit left;
	byte admits[RANKS];
	byte done[LANES];
	line_t line[RANKS * LANES * 2]
}

typedef row_t {
	byte half[2]
}

typedef memory_t {
	byte record[LANES];
	row_t x[LANES];
	row_t y[LANES * RANKS]
}

board_t board[PROCESSES];
memory_t memory[PROCESSES];
byte begun[PROCESSES], fenced[PROCESSES];
byte combined[PROCESSES * LANES];
byte running[PROCESSES]; /* lanes that have not ended */
byte lent[PROCESSES];	 /* lanes whose x has been handed to dispatch, and y not yet to combine */
byte joined;		 /* processes that have been through join() */
bit dead;		 /* LATE was killed */
bit delayed;		 /* BAD_NO_FENCE_OWNER: the store that masks LATE is not out yet */

hidden byte torn_record, torn_row, torn_sum, wrong_signal, missed_signal;

#define BIT(p) (1 << (p))
#define HAS(set, p) (((set) >> (p)) & 1)

/* ---- what this process knows as rank p, and what it reads and writes there ---- */

#ifdef JOIN
#define PEER(p) ((p) == LATE && HAS(joined, me) -> JOINER : (p))
#else
#define PEER(p) (p)
#endif
#define OTHERS ((BIT(RANKS) - 1) & ~BIT(rank))
#define UNMASKED (OTHERS & ~fenced[me])

#define THEIR_LINE(p, way) board[PEER(p)].line[(rank * LANES + lane) * 2 + (way)]
#define OWN_LINE(p, way) board[me].line[((p) * LANES + lane) * 2 + (way)]
#define THEIR_X(p) memory[PEER(p)].x[lane]
#define THEIR_Y(p) memory[PEER(p)].y[lane * RANKS + rank]

/* Does rank p let this very process read? With a flag for the incarnation, any that has its rank. */
#ifdef BAD_UNMASK_SAME_INCARNATION
#define ADMITS_ME(p) (board[PEER(p)].admits[rank] > 1 && !(board[PEER(p)].admits[rank] & 1))
#else
#define ADMITS_ME(p) (board[PEER(p)].admits[rank] == INCARNATION(me))
#endif

#define LEFT_ME(p) (board[PEER(p)].admits[rank] == LEFT(INCARNATION(me)))

#ifdef BAD_ROUND_UNCHECKED
#define SIGNALLED(p, way) (THEIR_LINE(p, way).round != 0)
#else
#define SIGNALLED(p, way) (THEIR_LINE(p, way).round == round)
#endif

#if defined(ANY_LATE)
#define TIMES_OUT(p) true
#elif defined(JOINER_IN_TIME)
#define TIMES_OUT(p) ((p) == LATE && !HAS(joined, me))
#else
#define TIMES_OUT(p) ((p) == LATE)
#endif

/*
 * For each rank p of a set, which is looked at anew each time: first, in one step with the look, then rest in
 * steps of its own.
 */
#define NONE 255 /* so that NONE + 1 is rank 0 */
#if RANKS == 2
#define EACH(set, first, rest) \
	if \
	:: atomic { HAS(set, 1 - rank) -> p = 1 - rank; first }; rest; p = NONE \
	:: atomic { !HAS(set, 1 - rank) -> skip } \
	fi
#else
#define EACH(set, first, rest) \
	do \
	:: atomic { \
		p++; \
		do \
		:: p < RANKS && !HAS(set, p) -> p++ \
		:: else -> break \
		od; \
		if \
		:: p == RANKS -> p = NONE; break \
		:: else -> first \
		fi \
	}; \
	rest \
	od
#endif

/* A cell of rank p was read: torn unless it is of this round. */
#define READ(p, cell) torn = torn | ((cell) == round -> 0 : BIT(p))

/* EXPECT: the one property that is looked at, so that a variant shows what it breaks and not what breaks first. */
#ifdef EXPECT
#define CHECK(property, violated) property = (violated); assert(!EXPECT); property = 0
#else
#define CHECK(property, violated) property = (violated); assert(!property); property = 0
#endif

/* Where a rank writes nothing but what it alone owns, large models take several writes for one step. */
#ifdef COARSE
#define STEPS atomic
#else
#define STEPS
#endif

/* ---- shm.c ---- */

inline tell(way)
{
#ifdef BAD_SIGNAL_ROUND_FIRST
	EACH(UNMASKED, OWN_LINE(p, way).round = round,
	     atomic { OWN_LINE(p, way).signal = round; OWN_LINE(p, way).to = INCARNATION(PEER(p)) })
#else
#ifdef COARSE
	EACH(UNMASKED, OWN_LINE(p, way).signal = round; OWN_LINE(p, way).to = INCARNATION(PEER(p));
	     OWN_LINE(p, way).round = round, skip)
#else
	EACH(UNMASKED, OWN_LINE(p, way).signal = round; OWN_LINE(p, way).to = INCARNATION(PEER(p)),
	     OWN_LINE(p, way).round = round)
#endif
#endif
}

inline mask(q)
{
#if defined(BAD_MASK_ONE_STEP)
	atomic { begun[me] = begun[me] | BIT(q); fenced[me] = fenced[me] | BIT(q) };
	board[me].admits[q] = NOBODY
#elif defined(BAD_NO_FENCE_OWNER)
	atomic { begun[me] = begun[me] | BIT(q); fenced[me] = fenced[me] | BIT(q); delayed = true }
#else
	begun[me] = begun[me] | BIT(q);
	board[me].admits[q] = NOBODY;
	fenced[me] = fenced[me] | BIT(q)
#endif
}

/* poll(ACCEL_WAY_DONE) for all: may what was read before this be torn? A rank that left is masked. */
inline stale()
{
	EACH(UNMASKED, skip,
		if
		:: ADMITS_ME(p)
		:: !ADMITS_ME(p) && LEFT_ME(p) -> mask(p)
		:: !ADMITS_ME(p) && !LEFT_ME(p) -> goto leave /* -ESTALE */
		fi)
}

/* The check after reading, and the variants that have none, or have it before. */
#if defined(BAD_NO_SEQLOCK)
#define CHECK_BEFORE() skip
#define CHECK_AFTER() skip
#elif defined(BAD_NO_FENCE_READER)
#define CHECK_BEFORE() stale()
#define CHECK_AFTER() skip
#else
#define CHECK_BEFORE() skip
#define CHECK_AFTER() stale()
#endif

/* Does rank p still read what this one handed to combine? */
#define UNREAD(l) (combined[me * LANES + (l)] && board[PEER(p)].done[l] != combined[me * LANES + (l)])
#if LANES == 1
#define ANY_UNREAD UNREAD(0)
#else
#define ANY_UNREAD (UNREAD(0) || UNREAD(1))
#endif
#define IS_READ_BY(p) (!board[PEER(p)].left && ADMITS_ME(p) && ANY_UNREAD && !(dead && (p) == LATE))

inline goodbye()
{
	board[me].left = 1;
	EACH(UNMASKED, skip,
		if
		:: !IS_READ_BY(p)
		:: IS_READ_BY(p) && TIMES_OUT(p) ->
#ifndef BAD_GOODBYE_UNFENCED
			if
			:: IS_READ_BY(p) -> board[me].admits[p] = LEFT(board[me].admits[p])
			:: else
			fi
#else
			skip
#endif
		fi);
#ifndef BAD_X_UNFENCED
	/* Of a round that is open nobody says that it has read x. */
	if
	:: lent[me] -> EACH(UNMASKED, skip, board[me].admits[p] = LEFT(board[me].admits[p]))
	:: else
	fi
#endif
}

/* ---- ep_wait.c ---- */

#define WAITED(p) (HAS(missing, p) && !HAS(fenced[me], p))

inline take(q, way)
{
#ifdef LANDED
	if
	:: way == DISPATCH -> READ(q, THEIR_X(q).half[0]); READ(q, THEIR_X(q).half[1])
	:: else
	fi;
#endif
	atomic {
		if
		:: THEIR_LINE(q, way).signal != round || THEIR_LINE(q, way).to != INCARNATION(me) ->
			wrong = wrong | BIT(q)
		:: else
		fi;
		missing = missing & ~BIT(q)
	}
}

/* All that a look at rank q, or waiting for it, can come to. */
#define LOOK(q, way) \
	:: WAITED(q) && SIGNALLED(q, way) -> take(q, way) \
	:: WAITED(q) && !ADMITS_ME(q) && !LEFT_ME(q) -> goto leave /* -ESTALE */ \
	:: WAITED(q) && board[PEER(q)].left -> \
		if \
		:: SIGNALLED(q, way) -> take(q, way) \
		:: else -> atomic { CHECK(missed_signal, SIGNALLED(q, way)) }; mask(q) /* -ESHUTDOWN */ \
		fi \
	:: WAITED(q) && TIMES_OUT(q) -> mask(q) /* -ETIMEDOUT */ \
	LOOK_BADLY(q, way)

#ifdef BAD_LEFT_LOADED_LATE
#define LOOK_BADLY(q, way) \
	:: WAITED(q) && !SIGNALLED(q, way) -> \
		if \
		:: board[PEER(q)].left -> atomic { CHECK(missed_signal, SIGNALLED(q, way)) }; mask(q) \
		:: else \
		fi
#else
#define LOOK_BADLY(q, way)
#endif

inline gather(way)
{
	missing = OTHERS;
	do
	:: !(missing & ~fenced[me]) -> break
#ifdef QUITS
	:: rank == LATE -> goto leave /* its caller gives up in the middle of a round */
#endif
	LOOK(0, way)
	LOOK(1, way)
#if RANKS > 2
	LOOK(2, way)
#endif
	od
}

/* ---- a round ---- */

inline write_x(value)
{
	STEPS {
		memory[me].x[lane].half[0] = value;
		memory[me].x[lane].half[1] = value
	}
}

/* Half of the y row of every rank at once: each has one reader. Torn x makes torn y. */
inline write_y(h)
{
	atomic {
		for (p : 0 .. RANKS - 1) {
			memory[me].y[lane * RANKS + p].half[h] = (HAS(torn, p) -> OTHER : round)
		}
		p = NONE
	}
}

inline dispatch_begin()
{
	lent[me]++;
#ifdef BAD_SIGNAL_BEFORE_ROWS
	round++;
	tell(DISPATCH);
	write_x(round);
	memory[me].record[lane] = round
#else
	STEPS {
		write_x(round + 1); /* by the caller */
		memory[me].record[lane] = round + 1;
		round++
	};
	tell(DISPATCH)
#endif
}

inline dispatch_end()
{
	gather(DISPATCH);
	CHECK_BEFORE();
	EACH(UNMASKED & ~missing, READ(p, memory[PEER(p)].record[lane]), skip);
	CHECK_AFTER();
	atomic {
		CHECK(torn_record, torn & ~begun[me]);
		CHECK(wrong_signal, wrong);
		wrong = 0
	}
}

/* The caller's: each received row is read where it lies, and a row is made of it. */
inline expert()
{
#ifndef LANDED
	CHECK_BEFORE();
	EACH(UNMASKED & ~missing, READ(p, THEIR_X(p).half[0]), READ(p, THEIR_X(p).half[1]));
#endif
	STEPS {
		write_y(0);
		write_y(1)
	}
}

inline combine_begin()
{
	CHECK_AFTER();
	atomic {
		CHECK(torn_row, torn & ~begun[me]);
		torn = 0;
		combined[me * LANES + lane] = round;
		lent[me]--
	};
	tell(COMBINE)
}

/*
 * parts are the ranks summed: those that have come and that no lane has begun to mask. The sum is made again
 * if a mask began meanwhile.
 */
inline combine_end()
{
	gather(COMBINE);
	do
	:: atomic { masks = begun[me]; parts = OTHERS & ~masks & ~missing };
	   CHECK_BEFORE();
#ifdef BAD_DONE_BEFORE_SUM
	   board[me].done[lane] = round;
#endif
	   EACH(parts, READ(p, THEIR_Y(p).half[0]), READ(p, THEIR_Y(p).half[1]));
	   CHECK_AFTER();
	   if
#ifndef BAD_SUM_IGNORES_BEGUN
	   :: begun[me] != masks -> torn = 0
	   :: begun[me] == masks -> break
#else
	   :: break
#endif
	   fi
	od;
	atomic {
		CHECK(torn_sum, torn);
		CHECK(wrong_signal, wrong & parts);
		masks = 0; parts = 0; missing = 0; wrong = 0;
		board[me].done[lane] = round
	}
}

/* accel_group_join and accel_ep_join: at a survivor, whose lane is idle, and at the joiner. */
#ifdef JOIN
#define SURVIVORS ((BIT(RANKS) - 1) & ~BIT(LATE))
#define JOINS (round == JOIN_AT && me != LATE && !HAS(joined, me))
#else
#define JOINS false
#endif

inline join()
{
#ifdef JOIN
	atomic {
		if
		:: me != JOINER ->
			board[me].admits[LATE] = INCARNATION(JOINER);
			begun[me] = begun[me] & ~BIT(LATE);
			fenced[me] = fenced[me] & ~BIT(LATE)
		:: else
		fi;
		joined = joined | BIT(me)
	};
	joined == (SURVIVORS | BIT(JOINER))
#else
	skip
#endif
}

#ifdef DIES
#define UNLESS_KILLED unless { dead && me == LATE -> skip }
#else
#define UNLESS_KILLED
#endif

proctype calls(byte me, rank, lane, round)
{
	byte p = NONE, missing, torn, wrong, masks, parts;

	{
	do
	:: round == ROUNDS -> write_x(OTHER); break /* x is the caller's again */
	:: JOINS -> join()
	:: round < ROUNDS && !JOINS ->
		dispatch_begin();
		dispatch_end();
		expert();
		combine_begin();
		combine_end();
#ifdef BAD_Y_REUSED_EARLY
		atomic { torn = BIT(RANKS) - 1 }; write_y(0); write_y(1); torn = 0
#endif
	od;
leave:
	atomic {
		p = NONE; missing = 0; torn = 0; masks = 0; parts = 0; wrong = 0; round = 0;
		running[me]--;
		if
		:: running[me] -> goto done
		:: else
		fi
	};
	goodbye();
	/* x and y are the caller's again. */
	atomic {
		for (p : 0 .. LANES * RANKS - 1) {
			memory[me].y[p].half[0] = OTHER;
			memory[me].y[p].half[1] = OTHER
		}
		for (p : 0 .. LANES - 1) {
			memory[me].x[p].half[0] = OTHER;
			memory[me].x[p].half[1] = OTHER
		}
		p = NONE
	};
done:
	skip
	} UNLESS_KILLED
}

#ifdef MASKER
/* Another thread of rank 0 calls accel_ep_mask() when it likes. */
proctype masker(byte me)
{
	mask(LATE)
}
#endif

#ifdef DIES
proctype killer()
{
	dead = true
}
#endif

#ifdef BAD_NO_FENCE_OWNER
proctype store_buffer(byte me)
{
end:	do
	:: atomic { delayed -> delayed = false; board[me].admits[LATE] = NOBODY }
	od
}
#endif

init {
	byte i, l;

	atomic {
		for (i : 0 .. PROCESSES - 1) {
			running[i] = LANES;
			for (l : 0 .. RANKS - 1) {
				board[i].admits[l] = INCARNATION(l)
			}
		}
		for (i : 0 .. RANKS - 1) {
			for (l : 0 .. LANES - 1) {
				run calls(i, i, l, 0)
			}
		}
#ifdef MASKER
		run masker(0);
#endif
#ifdef DIES
		run killer();
#endif
#ifdef BAD_NO_FENCE_OWNER
		run store_buffer(0);
#endif
#ifdef JOIN
		board[JOINER].done[0] = JOIN_AT;
		run calls(JOINER, LATE, 0, JOIN_AT)
#endif
	}
}
