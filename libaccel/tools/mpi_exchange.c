// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The exchange by MPI; see mpi_exchange.h. A received row is at [source, slot], where a slot counts
 * the rows of one source in order of tokens; beside it, or in a block of its own, lies its tail:
 *
 *     int32 token, int32 ids[K], float weights[K], float scales[scale_bytes / 4], to 64 bytes
 *
 * Memory is used again without asking. Whoever begins round k + 1 has combined round k, so has heard
 * from every peer that it had read its rows of round k; and whoever returns rows of round k + 1 has
 * received dispatch k + 1 of a peer that had by then read those of round k.
 */
#include "mpi_exchange.h"

#include <errno.h>
#include <kernels.h>
#include <mpi.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	RANKS_MAX = 64, /* a token's owners are bits of a word */
	LINE_BYTES = 64,
	LOOKS = 64, /* at a flag, between two looks by the MPI library at what it may have to do */
};

/* What a source tells this rank: the round in the upper half, a count or an offset in the lower. */
struct flags {
	_Atomic uint64_t dispatch; /* rows it has sent */
	_Atomic uint64_t combine;  /* window: where its results for this rank begin in its y */
	char pad[LINE_BYTES - 2 * sizeof(uint64_t)];
};

struct mpi_exchange {
	struct mpi_exchange_opts opts;
	const struct method *method;
	const struct k_ops *ops;
	int rank, world;
	int *owner; /* [E] */
	uint32_t round, tokens;
	size_t row_stride, tail_stride, wide_bytes;

	/* The layout of this rank's tokens: slots at each rank, and parts by token, ranks ascending. */
	int *sent;	       /* [R] rows */
	uint32_t *slot_token;  /* [R,M] */
	uint32_t *part_offset; /* [T+1] */
	uint32_t *part_index;  /* [parts] rank * M + slot */
	const void **part_row; /* [parts] the result */

	/* What came. */
	int *received; /* [R] rows */
	uint8_t *rows, *tails, *y;
	const void **row;
	const float **scale;
	int32_t *src_rank, *src_token, *topk_idx;
	float *topk_weights;
	uint32_t *rank_offset;

	/* Of one method or another. */
	uint8_t *staged;   /* alltoallv: records to send; put: tails to send */
	uint8_t *returned; /* [R,M] results of other ranks' experts */
	int *send_at, *receive_at, *y_at, *y_counts, *returned_counts;
	MPI_Datatype record_type, tail_type, wide_type;
	MPI_Win win;
	size_t win_bytes, flags_at, rows_at, tails_at, wide_at; /* offsets into a window */
	uint8_t **peer;						/* [R] window: their windows */
};

struct method {
	const char *name;
	bool packed; /* a row and its tail lie together */
	int (*create)(struct mpi_exchange *ex);
	/* Send rows and their number to all, take theirs. */
	void (*send)(struct mpi_exchange *ex, const struct mpi_exchange_input *input);
	/* Send results to all and take theirs. */
	void (*give_back)(struct mpi_exchange *ex);
	/* The result of the rank's experts for the slot. */
	const void *(*result)(const struct mpi_exchange *ex, uint32_t rank, uint32_t slot);
};

static size_t to_line(size_t bytes)
{
	return (bytes + LINE_BYTES - 1) & ~(size_t)(LINE_BYTES - 1);
}

static size_t slots(const struct mpi_exchange *ex) /* that this rank can receive */
{
	return (size_t)ex->world * ex->opts.tokens_max;
}

static size_t slot_index(const struct mpi_exchange *ex, int rank, uint32_t slot)
{
	return (size_t)rank * ex->opts.tokens_max + slot;
}

/* Memory of whole lines, touched, so that no page is first met while time is taken. */
static void *lines(size_t bytes)
{
	void *memory = aligned_alloc(LINE_BYTES, to_line(bytes ? bytes : 1));

	if (memory)
		memset(memory, 0, bytes);
	return memory;
}

/* ---- the layout of a round ---- */

static int check(const struct mpi_exchange *ex, const struct mpi_exchange_input *in)
{
	size_t choices = (size_t)in->tokens * ex->opts.topk;

	if (in->tokens > ex->opts.tokens_max)
		return -EINVAL;
	for (size_t i = 0; i < choices; i++)
		if (in->ids[i] < -1 || in->ids[i] >= (int32_t)ex->opts.experts)
			return -EINVAL;
	return 0;
}

static void lay_out(struct mpi_exchange *ex, const struct mpi_exchange_input *in)
{
	uint32_t parts = 0;

	memset(ex->sent, 0, (size_t)ex->world * sizeof(*ex->sent));
	for (uint32_t t = 0; t < in->tokens; t++) {
		const int32_t *ids = in->ids + (size_t)t * ex->opts.topk;
		uint64_t owners = 0;

		for (uint32_t k = 0; k < ex->opts.topk; k++)
			if (ids[k] >= 0)
				owners |= UINT64_C(1) << ex->owner[ids[k]];
		ex->part_offset[t] = parts;
		for (; owners; owners &= owners - 1) {
			int rank = __builtin_ctzll(owners);
			uint32_t index = (uint32_t)slot_index(ex, rank, (uint32_t)ex->sent[rank]++);

			ex->slot_token[index] = t;
			ex->part_index[parts++] = index;
		}
	}
	ex->part_offset[in->tokens] = parts;
	ex->tokens = in->tokens;
}

static void write_tail(const struct mpi_exchange *ex, const struct mpi_exchange_input *in,
		       uint32_t token, uint8_t *tail)
{
	size_t choices = ex->opts.topk * sizeof(int32_t);

	memcpy(tail, &token, sizeof(token));
	memcpy(tail + 4, in->ids + (size_t)token * ex->opts.topk, choices);
	memcpy(tail + 4 + choices, in->weights + (size_t)token * ex->opts.topk, choices);
	if (ex->opts.scale_bytes)
		memcpy(tail + 4 + 2 * choices,
		       (const uint8_t *)in->scales + token * ex->opts.scale_bytes,
		       ex->opts.scale_bytes);
}

static const uint8_t *row_of(const struct mpi_exchange *ex, const struct mpi_exchange_input *in,
			     uint32_t token)
{
	return (const uint8_t *)in->x + token * ex->opts.row_bytes;
}

/* Copy this rank's rows for the rank to where it reads them, or they are sent from. */
static void copy_rows(const struct mpi_exchange *ex, const struct mpi_exchange_input *in, int rank,
		      uint8_t *rows, uint8_t *tails)
{
	for (int slot = 0; slot < ex->sent[rank]; slot++) {
		uint32_t token = ex->slot_token[slot_index(ex, rank, (uint32_t)slot)];

		memcpy(rows + (size_t)slot * ex->row_stride, row_of(ex, in, token),
		       ex->opts.row_bytes);
		write_tail(ex, in, token, tails + (size_t)slot * ex->tail_stride);
	}
}

static void copy_own_rows(struct mpi_exchange *ex, const struct mpi_exchange_input *in)
{
	size_t first = slot_index(ex, ex->rank, 0);

	copy_rows(ex, in, ex->rank, ex->rows + first * ex->row_stride,
		  ex->tails + first * ex->tail_stride);
	ex->received[ex->rank] = ex->sent[ex->rank];
}

/* Lists of what came, out of the tails. */
static void list_received(struct mpi_exchange *ex)
{
	uint32_t n = 0, topk = ex->opts.topk;

	for (int source = 0; source < ex->world; source++) {
		ex->rank_offset[source] = n;
		for (int slot = 0; slot < ex->received[source]; slot++, n++) {
			size_t index = slot_index(ex, source, (uint32_t)slot);
			const uint8_t *tail = ex->tails + index * ex->tail_stride;
			const int32_t *word = (const int32_t *)tail;

			ex->row[n] = ex->rows + index * ex->row_stride;
			ex->scale[n] = (const float *)(word + 1 + 2 * topk);
			ex->src_rank[n] = source;
			ex->src_token[n] = word[0];
			for (uint32_t k = 0; k < topk; k++) {
				int32_t id = word[1 + k];
				bool mine = id >= 0 && ex->owner[id] == ex->rank;

				ex->topk_idx[(size_t)n * topk + k] = mine ? id : -1;
			}
			memcpy(ex->topk_weights + (size_t)n * topk, word + 1 + topk,
			       topk * sizeof(float));
		}
	}
	ex->rank_offset[ex->world] = n;
}

/* ---- alltoallv ---- */

static int alltoallv_create(struct mpi_exchange *ex)
{
	ex->rows = lines(slots(ex) * ex->row_stride);
	ex->tails = ex->rows ? ex->rows + to_line(ex->opts.row_bytes) : NULL;
	ex->staged = lines(slots(ex) * ex->row_stride);
	ex->returned = lines(slots(ex) * ex->wide_bytes);
	ex->y = lines(slots(ex) * ex->wide_bytes);
	return ex->rows && ex->staged && ex->returned && ex->y ? 0 : -ENOMEM;
}

static void alltoallv_send(struct mpi_exchange *ex, const struct mpi_exchange_input *in)
{
	int at = 0, own = ex->sent[ex->rank];

	for (int rank = 0; rank < ex->world; rank++) {
		uint8_t *record = ex->staged + (size_t)at * ex->row_stride;

		ex->send_at[rank] = at;
		if (rank == ex->rank)
			continue;
		copy_rows(ex, in, rank, record, record + to_line(ex->opts.row_bytes));
		at += ex->sent[rank];
	}
	copy_own_rows(ex, in);
	ex->sent[ex->rank] = 0; /* its rows are there already */
	MPI_Alltoall(ex->sent, 1, MPI_INT, ex->received, 1, MPI_INT, MPI_COMM_WORLD);
	MPI_Alltoallv(ex->staged, ex->sent, ex->send_at, ex->record_type, ex->rows, ex->received,
		      ex->receive_at, ex->record_type, MPI_COMM_WORLD);
	ex->sent[ex->rank] = ex->received[ex->rank] = own;
}

static void alltoallv_give_back(struct mpi_exchange *ex)
{
	for (int rank = 0; rank < ex->world; rank++) {
		ex->y_at[rank] = (int)ex->rank_offset[rank];
		ex->y_counts[rank] = rank == ex->rank ? 0 : ex->received[rank];
		ex->returned_counts[rank] = rank == ex->rank ? 0 : ex->sent[rank];
	}
	MPI_Alltoallv(ex->y, ex->y_counts, ex->y_at, ex->wide_type, ex->returned,
		      ex->returned_counts, ex->receive_at, ex->wide_type, MPI_COMM_WORLD);
}

static const void *returned_result(const struct mpi_exchange *ex, uint32_t rank, uint32_t slot)
{
	if ((int)rank == ex->rank)
		return ex->y + (ex->rank_offset[rank] + slot) * ex->wide_bytes;
	return ex->returned + slot_index(ex, (int)rank, slot) * ex->wide_bytes;
}

/* ---- flags in a window ---- */

static struct flags *flags_of(const struct mpi_exchange *ex, uint8_t *window, int source)
{
	return (struct flags *)(window + ex->flags_at) + source;
}

/* The lower half of the word, once its upper half is this round. */
static uint32_t await(const struct mpi_exchange *ex, _Atomic uint64_t *word)
{
	for (unsigned looks = 1;; looks++) {
		uint64_t value = atomic_load_explicit(word, memory_order_acquire);

		if (value >> 32 == ex->round)
			return (uint32_t)value;
		if (ex->opts.crowded)
			sched_yield();
#ifdef __x86_64__
		else
			__builtin_ia32_pause();
#endif
		if (looks % LOOKS == 0 && ex->opts.method == MPI_EXCHANGE_PUT) {
			int arrived;

			MPI_Win_sync(ex->win);
			MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &arrived,
				   MPI_STATUS_IGNORE);
		}
	}
}

/* Where things are in the window of each rank, the same on all. */
static void lay_out_window(struct mpi_exchange *ex)
{
	ex->flags_at = 0;
	ex->rows_at = to_line((size_t)ex->world * sizeof(struct flags));
	ex->tails_at = ex->rows_at + slots(ex) * ex->row_stride;
	ex->wide_at = ex->tails_at + slots(ex) * ex->tail_stride;
	ex->win_bytes = ex->wide_at + slots(ex) * ex->wide_bytes;
}

static void use_window(struct mpi_exchange *ex, uint8_t *window)
{
	memset(window, 0, ex->win_bytes);
	ex->rows = window + ex->rows_at;
	ex->tails = window + ex->tails_at;
	MPI_Win_lock_all(MPI_MODE_NOCHECK, ex->win);
	MPI_Barrier(MPI_COMM_WORLD);
}

/* ---- put ---- */

static int put_create(struct mpi_exchange *ex)
{
	uint8_t *window;

	lay_out_window(ex);
	ex->staged = lines(slots(ex) * ex->tail_stride);
	ex->y = lines(slots(ex) * ex->wide_bytes);
	if (!ex->staged || !ex->y)
		return -ENOMEM;
	MPI_Win_allocate((MPI_Aint)ex->win_bytes, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &window,
			 &ex->win);
	use_window(ex, window);
	ex->returned = window + ex->wide_at;
	return 0;
}

/* The word at an offset of the peer's window, after all that was put there before. */
static void put_flag(struct mpi_exchange *ex, int peer, size_t at, uint32_t low)
{
	const uint64_t word = (uint64_t)ex->round << 32 | low;

	MPI_Win_flush(peer, ex->win);
	MPI_Accumulate(&word, 1, MPI_UINT64_T, peer, (MPI_Aint)at, 1, MPI_UINT64_T, MPI_REPLACE,
		       ex->win);
	MPI_Win_flush(peer, ex->win);
}

static size_t flag_at(const struct mpi_exchange *ex, size_t member)
{
	return ex->flags_at + (size_t)ex->rank * sizeof(struct flags) + member;
}

static void put_send(struct mpi_exchange *ex, const struct mpi_exchange_input *in)
{
	size_t first = slot_index(ex, ex->rank, 0);
	uint8_t *window = ex->rows - ex->rows_at;

	for (int i = 1; i < ex->world; i++) {
		int peer = (ex->rank + i) % ex->world;
		uint8_t *tails = ex->staged + slot_index(ex, peer, 0) * ex->tail_stride;

		for (int slot = 0; slot < ex->sent[peer]; slot++) {
			uint32_t token = ex->slot_token[slot_index(ex, peer, (uint32_t)slot)];

			write_tail(ex, in, token, tails + (size_t)slot * ex->tail_stride);
			MPI_Put(row_of(ex, in, token), (int)ex->opts.row_bytes, MPI_BYTE, peer,
				(MPI_Aint)(ex->rows_at + (first + (size_t)slot) * ex->row_stride),
				(int)ex->opts.row_bytes, MPI_BYTE, ex->win);
		}
		if (ex->sent[peer])
			MPI_Put(tails, ex->sent[peer], ex->tail_type, peer,
				(MPI_Aint)(ex->tails_at + first * ex->tail_stride), ex->sent[peer],
				ex->tail_type, ex->win);
		put_flag(ex, peer, flag_at(ex, offsetof(struct flags, dispatch)),
			 (uint32_t)ex->sent[peer]);
	}
	copy_own_rows(ex, in);
	for (int source = 0; source < ex->world; source++)
		if (source != ex->rank)
			ex->received[source] = (int)await(ex,
							  &flags_of(ex, window, source)->dispatch);
}

static void put_give_back(struct mpi_exchange *ex)
{
	size_t first = slot_index(ex, ex->rank, 0);
	uint8_t *window = ex->rows - ex->rows_at;

	for (int i = 1; i < ex->world; i++) {
		int peer = (ex->rank + i) % ex->world;

		if (ex->received[peer])
			MPI_Put(ex->y + ex->rank_offset[peer] * ex->wide_bytes, ex->received[peer],
				ex->wide_type, peer,
				(MPI_Aint)(ex->wide_at + first * ex->wide_bytes),
				ex->received[peer], ex->wide_type, ex->win);
		put_flag(ex, peer, flag_at(ex, offsetof(struct flags, combine)), 0);
	}
	for (int source = 0; source < ex->world; source++)
		if (source != ex->rank)
			await(ex, &flags_of(ex, window, source)->combine);
}

/* ---- window ---- */

static int window_create(struct mpi_exchange *ex)
{
	uint8_t *window;
	MPI_Info info;

	lay_out_window(ex);
	ex->peer = calloc((size_t)ex->world, sizeof(*ex->peer));
	if (!ex->peer)
		return -ENOMEM;
	MPI_Info_create(&info);
	MPI_Info_set(info, "alloc_shared_noncontig", "true");
	MPI_Win_allocate_shared((MPI_Aint)ex->win_bytes, 1, info, MPI_COMM_WORLD, &window,
				&ex->win);
	MPI_Info_free(&info);
	use_window(ex, window);
	ex->y = window + ex->wide_at;
	for (int rank = 0; rank < ex->world; rank++) {
		MPI_Aint bytes;
		int unit;

		MPI_Win_shared_query(ex->win, rank, &bytes, &unit, &ex->peer[rank]);
	}
	return 0;
}

static void raise_flag(const struct mpi_exchange *ex, _Atomic uint64_t *word, uint32_t low)
{
	atomic_store_explicit(word, (uint64_t)ex->round << 32 | low, memory_order_release);
}

static void window_send(struct mpi_exchange *ex, const struct mpi_exchange_input *in)
{
	size_t first = slot_index(ex, ex->rank, 0);

	for (int i = 1; i < ex->world; i++) {
		int peer = (ex->rank + i) % ex->world;
		uint8_t *there = ex->peer[peer];

		copy_rows(ex, in, peer, there + ex->rows_at + first * ex->row_stride,
			  there + ex->tails_at + first * ex->tail_stride);
		raise_flag(ex, &flags_of(ex, there, ex->rank)->dispatch, (uint32_t)ex->sent[peer]);
	}
	copy_own_rows(ex, in);
	for (int source = 0; source < ex->world; source++)
		if (source != ex->rank)
			ex->received[source] = (int)await(
				ex, &flags_of(ex, ex->peer[ex->rank], source)->dispatch);
}

static void window_give_back(struct mpi_exchange *ex)
{
	for (int i = 1; i < ex->world; i++) {
		int peer = (ex->rank + i) % ex->world;

		raise_flag(ex, &flags_of(ex, ex->peer[peer], ex->rank)->combine,
			   ex->rank_offset[peer]);
	}
	for (int source = 0; source < ex->world; source++)
		ex->y_at[source] =
			source == ex->rank
				? (int)ex->rank_offset[source]
				: (int)await(ex,
					     &flags_of(ex, ex->peer[ex->rank], source)->combine);
}

static const void *window_result(const struct mpi_exchange *ex, uint32_t rank, uint32_t slot)
{
	return ex->peer[rank] + ex->wide_at + ((size_t)ex->y_at[rank] + slot) * ex->wide_bytes;
}

/* ---- what is called ---- */

static const struct method methods[MPI_EXCHANGE_METHODS] = {
	{"alltoallv", true, alltoallv_create, alltoallv_send, alltoallv_give_back, returned_result},
	{"put", false, put_create, put_send, put_give_back, returned_result},
	{"window", false, window_create, window_send, window_give_back, window_result},
};

const char *mpi_exchange_name(enum mpi_exchange_method method)
{
	return methods[method].name;
}

static size_t tail_bytes(const struct mpi_exchange_opts *o)
{
	return to_line(4 + 8 * (size_t)o->topk + o->scale_bytes);
}

uint64_t mpi_exchange_bytes(const struct mpi_exchange_opts *o, int world)
{
	uint64_t slots_count = (uint64_t)world * o->tokens_max,
		 row = to_line(o->row_bytes) + tail_bytes(o), wide = 2 * (uint64_t)o->hidden,
		 lists = 4 * (8 + 2 * (uint64_t)o->topk) + 16, each;

	switch (o->method) {
	case MPI_EXCHANGE_ALLTOALLV:
		each = 2 * row + 2 * wide;
		break;
	case MPI_EXCHANGE_PUT:
		each = row + tail_bytes(o) + 2 * wide;
		break;
	default:
		each = row + wide;
	}
	return slots_count * (each + lists);
}

static int lists_create(struct mpi_exchange *ex)
{
	size_t world = (size_t)ex->world, rows = slots(ex), choices = rows * ex->opts.topk;
	int *counts = calloc(7 * world, sizeof(*counts));

	ex->sent = counts;
	ex->owner = calloc(ex->opts.experts, sizeof(*ex->owner));
	ex->slot_token = calloc(rows, sizeof(*ex->slot_token));
	ex->part_offset = calloc((size_t)ex->opts.tokens_max + 1, sizeof(*ex->part_offset));
	ex->part_index = calloc(rows, sizeof(*ex->part_index));
	ex->part_row = calloc(rows, sizeof(*ex->part_row));
	ex->row = calloc(rows, sizeof(*ex->row));
	ex->scale = calloc(rows, sizeof(*ex->scale));
	ex->src_rank = calloc(rows, sizeof(*ex->src_rank));
	ex->src_token = calloc(rows, sizeof(*ex->src_token));
	ex->topk_idx = calloc(choices, sizeof(*ex->topk_idx));
	ex->topk_weights = calloc(choices, sizeof(*ex->topk_weights));
	ex->rank_offset = calloc(world + 1, sizeof(*ex->rank_offset));
	if (!counts || !ex->owner || !ex->slot_token || !ex->part_offset || !ex->part_index ||
	    !ex->part_row || !ex->row || !ex->scale || !ex->src_rank || !ex->src_token ||
	    !ex->topk_idx || !ex->topk_weights || !ex->rank_offset)
		return -ENOMEM;
	ex->received = counts + world;
	ex->send_at = counts + 2 * world;
	ex->receive_at = counts + 3 * world;
	ex->y_at = counts + 4 * world;
	ex->y_counts = counts + 5 * world;
	ex->returned_counts = counts + 6 * world;
	for (int rank = 0; rank < ex->world; rank++)
		ex->receive_at[rank] = (int)slot_index(ex, rank, 0);
	return 0;
}

static void take_owners(struct mpi_exchange *ex)
{
	uint32_t each = ex->opts.experts / (uint32_t)ex->world,
		 more = ex->opts.experts % (uint32_t)ex->world;

	for (uint32_t e = 0; e < ex->opts.experts; e++) {
		uint32_t wide = more * (each + 1);

		ex->owner[e] = ex->opts.expert_rank ? ex->opts.expert_rank[e]
			       : e < wide	    ? (int)(e / (each + 1))
						    : (int)(more + (e - wide) / each);
	}
	ex->opts.expert_rank = NULL; /* the caller's memory */
}

static void type_create(size_t bytes, MPI_Datatype *type)
{
	MPI_Type_contiguous((int)bytes, MPI_BYTE, type);
	MPI_Type_commit(type);
}

int mpi_exchange_create(const struct mpi_exchange_opts *opts, struct mpi_exchange **exchange)
{
	struct mpi_exchange *ex = calloc(1, sizeof(*ex));
	int rc;

	if (!ex)
		return -ENOMEM;
	ex->opts = *opts;
	ex->method = &methods[opts->method];
	ex->ops = k_ops_get(NULL);
	ex->win = MPI_WIN_NULL;
	MPI_Comm_rank(MPI_COMM_WORLD, &ex->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ex->world);
	ex->tail_stride = tail_bytes(opts);
	ex->row_stride = to_line(opts->row_bytes);
	if (ex->method->packed)
		ex->tail_stride = ex->row_stride += ex->tail_stride;
	ex->wide_bytes = 2 * (size_t)opts->hidden;
	type_create(ex->row_stride, &ex->record_type);
	type_create(ex->tail_stride, &ex->tail_type);
	type_create(ex->wide_bytes, &ex->wide_type);
	rc = ex->world > RANKS_MAX || slots(ex) > INT32_MAX ? -EINVAL : lists_create(ex);
	if (!rc) {
		take_owners(ex);
		rc = ex->method->create(ex);
	}
	if (rc) {
		mpi_exchange_destroy(ex);
		return rc;
	}
	*exchange = ex;
	return 0;
}

void mpi_exchange_destroy(struct mpi_exchange *ex)
{
	if (!ex)
		return;
	if (ex->win == MPI_WIN_NULL) {
		free(ex->rows);
		free(ex->returned);
	} else {
		MPI_Win_unlock_all(ex->win);
		MPI_Win_free(&ex->win);
	}
	if (ex->opts.method != MPI_EXCHANGE_WINDOW)
		free(ex->y);
	free(ex->staged);
	free(ex->peer);
	MPI_Type_free(&ex->record_type);
	MPI_Type_free(&ex->tail_type);
	MPI_Type_free(&ex->wide_type);
	free(ex->sent);
	free(ex->owner);
	free(ex->slot_token);
	free(ex->part_offset);
	free(ex->part_index);
	free(ex->part_row);
	free(ex->row);
	free(ex->scale);
	free(ex->src_rank);
	free(ex->src_token);
	free(ex->topk_idx);
	free(ex->topk_weights);
	free(ex->rank_offset);
	free(ex);
}

int mpi_exchange_dispatch(struct mpi_exchange *ex, const struct mpi_exchange_input *input,
			  struct mpi_exchange_recv *recv)
{
	if (check(ex, input))
		return -EINVAL;
	ex->round++;
	lay_out(ex, input);
	ex->method->send(ex, input);
	list_received(ex);
	*recv = (struct mpi_exchange_recv){
		.rows = ex->rank_offset[ex->world],
		.row = ex->row,
		.scale = ex->opts.scale_bytes ? ex->scale : NULL,
		.src_rank = ex->src_rank,
		.src_token = ex->src_token,
		.topk_idx = ex->topk_idx,
		.topk_weights = ex->topk_weights,
		.rank_offset = ex->rank_offset,
	};
	return 0;
}

uint16_t *mpi_exchange_y(struct mpi_exchange *ex)
{
	return (uint16_t *)ex->y;
}

void mpi_exchange_combine(struct mpi_exchange *ex, uint16_t *out)
{
	const struct k_combine combine = {
		.tokens = ex->tokens,
		.hidden = ex->opts.hidden,
		.part_offset = ex->part_offset,
		.row = ex->part_row,
		.out = out,
		.out_stride = ex->wide_bytes,
	};

	ex->method->give_back(ex);
	for (uint32_t p = 0; p < ex->part_offset[ex->tokens]; p++)
		ex->part_row[p] = ex->method->result(ex, ex->part_index[p] / ex->opts.tokens_max,
						     ex->part_index[p] % ex->opts.tokens_max);
	ex->ops->combine(&combine, 0, 1);
}
