// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* IN files accepted and refused, OUT files written and read back. */
#define _GNU_SOURCE 1
#include "runtime/tensor_io.h"

#include <errno.h>

#include "tests/runtime/scratch.h"
#include "tests/tap.h"

enum { N = 5, H = 16, K = 2, L = 3, R = 2, E = 5, S = 3 };

static const struct moe_config config = {
	.hidden = H,
	.intermediate = 8,
	.experts = E,
	.topk = K,
	.groups = 1,
	.groups_kept = 1,
	.layers = L,
	.moe_stride = 1,
	.scale = 1,
};

/* Tensors of an IN file; a shape of no dimensions leaves one out. */
struct in {
	struct moe_tensor hidden, offsets, ids, weights;
};

static uint16_t rows[N * H];
static float wide[N * H];
static int64_t offsets[R + 1] = {0, 4, N};
static int32_t ids[L * N * K];
static int64_t long_ids[L * N * K];
static float topk_weights[L * N * K];

static struct in good(void)
{
	for (unsigned i = 0; i < N * H; i++) {
		rows[i] = (uint16_t)(0x3f80 + i);
		wide[i] = (float)i / 3;
	}
	for (unsigned i = 0; i < L * N * K; i++) {
		ids[i] = (int)(i % (E + 1)) - 1;
		long_ids[i] = ids[i];
		topk_weights[i] = (float)i;
	}
	return (struct in){
		.hidden = {"hidden_states", MOE_DTYPE_BF16, 2, {N, H}, rows, 0},
		.offsets = {"rank_offsets", MOE_DTYPE_I64, 1, {R + 1}, offsets, 0},
		.ids = {"topk_ids", MOE_DTYPE_I32, 3, {L, N, K}, ids, 0},
		.weights = {"topk_weights", MOE_DTYPE_F32, 3, {L, N, K}, topk_weights, 0},
	};
}

/* Write the file, odd_bytes first so that all that follows is misaligned, and read it as an input. */
static int read_in(const struct in *in, uint64_t odd_bytes, struct moe_input *input,
		   struct moe_error *err)
{
	const struct moe_tensor odd = {"odd", MOE_DTYPE_U8, 1, {odd_bytes}, "abc", 0};
	const struct moe_tensor *all[] = {&odd, &in->hidden, &in->offsets, &in->ids, &in->weights};
	const char *path = scratch("in.safetensors");
	struct moe_tensor tensors[5];
	struct moe_safetensors_writer *w;
	struct moe_error none = {0};
	size_t count = 0;

	for (size_t i = 0; i < 5; i++)
		if (all[i]->dims)
			tensors[count++] = *all[i];
	if (!CHECK_EQ(moe_safetensors_create(path, tensors, count, NULL, 0, &w, &none), 0))
		return 1;
	for (size_t i = 0; i < count; i++) {
		size_t size = moe_dtype_bytes(tensors[i].dtype);
		static const uint8_t zeros[4096];

		for (unsigned d = 0; d < tensors[i].dims; d++)
			size *= tensors[i].shape[d];
		CHECK_EQ(moe_safetensors_write(w, i, 0, tensors[i].data ? tensors[i].data : zeros,
					       size, &none),
			 0);
	}
	CHECK_EQ(moe_safetensors_finish(w, &none), 0);
	return moe_input_read(path, &config, L, R, input, err);
}

TEST(input, takes_all_that_is_given)
{
	struct in in = good();
	struct moe_input input;
	struct moe_error err = {0};

	for (unsigned odd = 0; odd < 4; odd++) {
		REQUIRE_EQ(read_in(&in, odd, &input, &err), 0);
		CHECK_EQ(input.tokens, N);
		CHECK(!memcmp(input.hidden, rows, sizeof(rows)));
		CHECK(!memcmp(input.rank_offsets, offsets, sizeof(offsets)));
		CHECK(!memcmp(input.topk_ids, ids, sizeof(ids)));
		CHECK(!memcmp(input.topk_weights, topk_weights, sizeof(topk_weights)));
		moe_input_fini(&input);
	}
	moe_input_fini(NULL);
}

TEST(input, takes_wider_types)
{
	struct in in = good();
	struct moe_input input;
	struct moe_error err = {0};

	in.hidden.dtype = MOE_DTYPE_F32;
	in.hidden.data = wide;
	in.ids.dtype = MOE_DTYPE_I64;
	in.ids.data = long_ids;
	REQUIRE_EQ(read_in(&in, 1, &input, &err), 0);
	CHECK_EQ(input.hidden[0], 0);
	CHECK_EQ(input.hidden[1], 0x3eab); /* 1/3 = 0x3eaaaaab, up */
	CHECK_EQ(input.hidden[2], 0x3f2b); /* 2/3 */
	CHECK_EQ(input.hidden[3], 0x3f80);
	CHECK(!memcmp(input.topk_ids, ids, sizeof(ids)));
	moe_input_fini(&input);
}

TEST(input, splits_evenly_when_not_told)
{
	struct in in = good();
	struct moe_input input;
	struct moe_error err = {0};

	in.offsets.dims = in.ids.dims = in.weights.dims = 0;
	REQUIRE_EQ(read_in(&in, 0, &input, &err), 0);
	CHECK(input.rank_offsets[0] == 0 && input.rank_offsets[1] == 3 &&
	      input.rank_offsets[2] == 5);
	CHECK(!input.topk_ids && !input.topk_weights);
	moe_input_fini(&input);
	in.hidden.shape[0] = 0;
	REQUIRE_EQ(read_in(&in, 0, &input, &err), 0);
	CHECK_EQ(input.tokens, 0);
	CHECK_EQ(input.rank_offsets[R], 0);
	moe_input_fini(&input);
}

static void refused(const struct in *in, int code, const char *says, int line)
{
	struct moe_input input;
	struct moe_error err = {0};
	int rc = read_in(in, 0, &input, &err);

	tap_check(rc == code && strstr(err.text, says), __FILE__, line, "%d %s, not %s", rc,
		  err.text, says);
}

#define REFUSED(says, change)                                                                      \
	do {                                                                                       \
		struct in in = good();                                                             \
		change;                                                                            \
		refused(&in, -EINVAL, says, __LINE__);                                             \
	} while (0)

TEST(input, refuses_by_name_and_value)
{
	struct in none = good();

	none.hidden.dims = 0;
	refused(&none, -ENOENT, "hidden_states is missing", __LINE__);
	REFUSED("hidden_states is F16, must be BF16 or F32", in.hidden.dtype = MOE_DTYPE_F16);
	REFUSED("hidden_states has 1 dimensions, must have 2", in.hidden.dims = 1);
	REFUSED("hidden_states: shape[1] is 15, must be 16", in.hidden.shape[1] = 15);
	REFUSED("rank_offsets is F64", in.offsets.dtype = MOE_DTYPE_F64);
	REFUSED("rank_offsets: shape[0] is 2, must be 3", in.offsets.shape[0] = 2);
	REFUSED("topk_ids is there without topk_weights", in.weights.dims = 0);
	REFUSED("topk_weights is there without topk_ids", in.ids.dims = 0);
	REFUSED("topk_ids is U32", in.ids.dtype = MOE_DTYPE_U32);
	REFUSED("topk_ids: shape[0] is 2, must be 3", in.ids.shape[0] = 2);
	REFUSED("topk_ids: shape[1] is 4, must be 5", in.ids.shape[1] = 4);
	REFUSED("topk_ids: shape[2] is 1, must be 2", in.ids.shape[2] = 1);
	REFUSED("topk_weights is I32", in.weights.dtype = MOE_DTYPE_I32);
	REFUSED("topk_weights has 2 dimensions", in.weights.dims = 2);
	REFUSED("topk_ids: element 7 is 5, not in -1..4", ids[7] = E);
	REFUSED("topk_ids: element 29 is -2", ids[29] = -2);
	REFUSED("element 0 is 4294967296",
		(long_ids[0] = 1ll << 32, in.ids.dtype = MOE_DTYPE_I64, in.ids.data = long_ids));
}

TEST(input, refuses_offsets_that_do_not_ascend_to_n)
{
	static int64_t bad[][R + 1] = {{1, 4, N},     {0, 4, N - 1},	 {0, 4, N + 1},
				       {0, N + 1, N}, {0, -1, N},	 {-1, 4, N},
				       {0, 4, 3},     {0, INT64_MAX, N}, {0, INT64_MIN, N}};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		REFUSED("must ascend from 0 to the 5 tokens", in.offsets.data = bad[i]);
}

TEST(input, refuses_no_layers_and_no_file)
{
	struct moe_input input;
	struct moe_error err;

	CHECK_EQ(moe_input_read(scratch("absent"), &config, L, R, &input, &err), -ENOENT);
	CHECK_EQ(moe_input_read(scratch("absent"), &config, 0, R, &input, &err), -EINVAL);
	CHECK_EQ(moe_input_read(scratch("absent"), &config, L, 0, &input, &err), -EINVAL);
}

static void write_all(struct moe_output *o, bool scores)
{
	struct moe_error err = {0};
	static const float zeros[N * E];
	const int64_t recv[R * S] = {1, 2, 3, 4, 5, -1};
	const int64_t held[R * S] = {4, 0, 1, 2, 3, -1};
	const uint8_t incomplete[N] = {0, 1, 0, 0, 0};

	for (uint32_t l = 0; l < L; l++) {
		for (uint32_t row = N; row-- > 0;)
			CHECK_EQ(moe_output_write(o, MOE_OUTPUT_MOE_OUT, l, row, 1, rows + row * H,
						  &err),
				 0);
		CHECK_EQ(moe_output_write(o, MOE_OUTPUT_TOPK_IDS, l, 0, N, ids + l * N * K, &err),
			 0);
		CHECK_EQ(moe_output_write(o, MOE_OUTPUT_TOPK_WEIGHTS, l, 0, N,
					  topk_weights + l * N * K, &err),
			 0);
		CHECK_EQ(moe_output_write(o, MOE_OUTPUT_RECV_TOKENS, l, 0, R, recv, &err), 0);
		CHECK_EQ(moe_output_write(o, MOE_OUTPUT_SLOT_EXPERTS, l, 0, R, held, &err), 0);
		CHECK_EQ(moe_output_write(o, MOE_OUTPUT_SCORES, l, 0, N, zeros, &err),
			 scores ? 0 : -EINVAL);
	}
	CHECK_EQ(moe_output_write(o, MOE_OUTPUT_HIDDEN_STATES, 0, 0, N, rows, &err), 0);
	CHECK_EQ(moe_output_write(o, MOE_OUTPUT_INCOMPLETE, 0, 0, N, incomplete, &err), 0);
	CHECK_EQ(moe_output_write(o, MOE_OUTPUT_INCOMPLETE, 1, 0, N, incomplete, &err), -EINVAL);
	CHECK_EQ(moe_output_write(o, MOE_OUTPUT_MOE_OUT, L, 0, 1, rows, &err), -EINVAL);
	CHECK_EQ(moe_output_write(o, MOE_OUTPUT_MOE_OUT, 0, N, 1, rows, &err), -EINVAL);
	CHECK_EQ(moe_output_write(o, MOE_OUTPUT_MOE_OUT, 0, UINT32_MAX, 2, rows, &err), -EINVAL);
	CHECK_EQ(moe_output_write(o, (enum moe_output_id)8, 0, 0, 1, rows, &err), -EINVAL);
}

TEST(output, reads_back)
{
	const struct moe_metadata metadata[] = {{"transport", "shm"}, {"seed", "1"}};
	const char *path = scratch("out.safetensors");
	struct moe_safetensors *file;
	struct moe_error err = {0};
	struct moe_output *o;

	good();
	for (int scores = 0; scores < 2; scores++) {
		REQUIRE_EQ(
			moe_output_create(path, &config, N, L, R, S, scores, metadata, 2, &o, &err),
			0);
		write_all(o, scores);
		REQUIRE_EQ(moe_output_finish(o, &err), 0);
		REQUIRE_EQ(moe_safetensors_open(path, &file, &err), 0);
		CHECK(!strcmp(moe_safetensors_metadata(file, "transport"), "shm"));
		CHECK(!memcmp(moe_safetensors_find(file, "hidden_states")->data, rows,
			      sizeof(rows)));
		CHECK(!memcmp((const uint8_t *)moe_safetensors_find(file, "moe_out")->data +
				      2 * sizeof(rows),
			      rows, sizeof(rows)));
		CHECK(!memcmp(moe_safetensors_find(file, "topk_ids")->data, ids, sizeof(ids)));
		CHECK(!memcmp(moe_safetensors_find(file, "topk_weights")->data, topk_weights,
			      sizeof(topk_weights)));
		CHECK_EQ(((const int64_t *)moe_safetensors_find(file, "recv_tokens")
				  ->data)[R * S * L - 1],
			 -1);
		CHECK_EQ(moe_safetensors_find(file, "recv_tokens")->shape[2], S);
		CHECK_EQ(((const int64_t *)moe_safetensors_find(file, "slot_experts")->data)[0], 4);
		CHECK_EQ(((const uint8_t *)moe_safetensors_find(file, "incomplete")->data)[1], 1);
		CHECK_EQ(!!moe_safetensors_find(file, "scores"), scores);
		moe_safetensors_close(file);
	}
}

TEST(output, an_in_file_can_be_made_of_it)
{
	const char *path = scratch("again.safetensors");
	struct moe_input input;
	struct moe_error err = {0};
	struct moe_output *o;

	good();
	REQUIRE_EQ(moe_output_create(path, &config, N, L, R, S, false, NULL, 0, &o, &err), 0);
	write_all(o, false);
	REQUIRE_EQ(moe_output_finish(o, &err), 0);
	REQUIRE_EQ(moe_input_read(path, &config, L, R, &input, &err), 0);
	CHECK(!memcmp(input.topk_ids, ids, sizeof(ids)));
	moe_input_fini(&input);
}

TEST(output, unfinished_leaves_nothing)
{
	const char *path = scratch("never.safetensors");
	struct moe_error err;
	struct moe_output *o;

	REQUIRE_EQ(moe_output_create(path, &config, N, L, R, S, false, NULL, 0, &o, &err), 0);
	CHECK_EQ(moe_output_finish(o, &err), -EINVAL);
	REQUIRE_EQ(moe_output_create(path, &config, N, L, R, S, false, NULL, 0, &o, &err), 0);
	moe_output_abandon(o);
	moe_output_abandon(NULL);
	CHECK(access(path, F_OK) && access(scratch("never.safetensors.part"), F_OK));
	CHECK_EQ(
		moe_output_create(scratch("no/dir"), &config, N, L, R, S, false, NULL, 0, &o, &err),
		-ENOENT);
}
