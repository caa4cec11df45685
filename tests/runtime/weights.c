// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Weights of checkpoints and from seeds behind one interface; each tensor that is wrong is named with both values. */
#define _GNU_SOURCE 1
#include "runtime/weights.h"

#include <errno.h>
#include <math.h>

#include "tests/runtime/scratch.h"
#include "runtime/synthetic.h"
#include "tests/tap.h"

static const struct moe_config small = {
	.hidden = 264,
	.intermediate = 136,
	.experts = 3,
	.topk = 2,
	.groups = 1,
	.groups_kept = 1,
	.shared_experts = 2,
	.layers = 5,
	.first_moe = 1,
	.moe_stride = 1,
	.scale = 1,
	.norm_eps = 1e-6f,
};

enum wrong { RIGHT, ABSENT, DTYPE, DIMS, SHAPE, NOT_FINITE, WRONGS };

enum { TENSORS = 3 + 4 * 6 }; /* of a layer with three experts and shared ones */

struct made {
	struct moe_tensor_spec spec;
	uint32_t expert;
	enum moe_tensor_id tensor;
};

static void list_tensors(struct made made[TENSORS])
{
	static const uint32_t owners[] = {MOE_EXPERT_NONE, MOE_EXPERT_SHARED, 0, 1, 2};
	unsigned count = 0;

	for (unsigned i = 0; i < 5; i++) {
		enum moe_tensor_id t = i ? MOE_TENSOR_GATE_PROJ : MOE_TENSOR_GATE;
		enum moe_tensor_id last = i ? MOE_TENSOR_DOWN_PROJ_SCALE : MOE_TENSOR_NORM;

		for (; t <= last; t++, count++) {
			made[count].expert = owners[i];
			made[count].tensor = t;
			moe_tensor_spec(&small, 2, owners[i], t, &made[count].spec);
		}
	}
}

/* A tensor as a file shall describe it: right, or not. */
static struct moe_tensor describe(const struct moe_tensor_spec *spec, enum wrong wrong)
{
	struct moe_tensor t = {.name = spec->name, .dtype = spec->dtype, .dims = spec->dims};

	memcpy(t.shape, spec->shape, sizeof(spec->shape));
	if (wrong == DTYPE)
		t.dtype = t.dtype == MOE_DTYPE_F32 ? MOE_DTYPE_I32 : MOE_DTYPE_F64;
	if (wrong == DIMS)
		t.shape[t.dims++] = 1;
	if (wrong == SHAPE)
		t.shape[t.dims - 1]++;
	return t;
}

static void write_tensor(struct moe_safetensors_writer *w, unsigned number, const struct made *made,
			 const struct moe_tensor *t, enum wrong wrong)
{
	size_t size = moe_dtype_bytes(t->dtype);
	struct moe_error err = {0};
	uint8_t *data;

	for (unsigned d = 0; d < t->dims; d++)
		size *= t->shape[d];
	data = calloc(1, size + made->spec.size_bytes);
	moe_synthetic_fill(&small, 7, 2, made->expert, made->tensor, 0,
			   made->spec.size_bytes / moe_dtype_bytes(made->spec.dtype), data);
	if (wrong == NOT_FINITE)
		memset(data, 0xff, 4);
	CHECK_EQ(moe_safetensors_write(w, number, 0, data, size, &err), 0);
	free(data);
}

/* Write layer 2 of small from seed 7 as one file with tensor number `at` wrong. */
static void write_checkpoint(const char *name, unsigned at, enum wrong wrong)
{
	struct made made[TENSORS];
	struct moe_tensor tensors[TENSORS];
	struct moe_safetensors_writer *w;
	struct moe_error err = {0};
	char path[64], *text = moe_config_text(&small);
	unsigned from[TENSORS], count = 0;

	snprintf(path, sizeof(path), "%s/config.json", name);
	scratch_write(path, text, strlen(text));
	free(text);
	list_tensors(made);
	for (unsigned i = 0; i < TENSORS; i++) {
		if (i == at && wrong == ABSENT)
			continue;
		from[count] = i;
		tensors[count++] = describe(&made[i].spec, i == at ? wrong : RIGHT);
	}
	snprintf(path, sizeof(path), "%s/model.safetensors", name);
	REQUIRE_EQ(moe_safetensors_create(scratch(path), tensors, count, NULL, 0, &w, &err), 0);
	for (unsigned i = 0; i < count; i++)
		write_tensor(w, i, &made[from[i]], &tensors[i], from[i] == at ? wrong : RIGHT);
	CHECK_EQ(moe_safetensors_finish(w, &err), 0);
}

static const uint32_t layer_2[] = {2};

static struct moe_weights_opts opts_of(const char *dir)
{
	return (struct moe_weights_opts){
		.dir = dir, .layers = layer_2, .layer_count = 1, .expert_count = 3};
}

TEST(weights, name_each_tensor_that_is_wrong)
{
	static const char *const says[] = {
		[ABSENT] = "missing",	 [DTYPE] = ", must be ", [DIMS] = "has shape [",
		[SHAPE] = "has shape [", [NOT_FINITE] = "nan",
	};
	const char *dir = scratch_mkdir("wrong");
	struct made made[TENSORS];
	struct moe_weights *w;
	struct moe_error err;

	list_tensors(made);
	for (enum wrong wrong = ABSENT; wrong < WRONGS; wrong++) {
		for (unsigned at = 0; at < TENSORS; at++) {
			const char *name = made[at].spec.name;
			struct moe_weights_opts opts = opts_of(dir);
			int rc, want = wrong == ABSENT ? -ENOENT : -EINVAL;

			if (wrong == NOT_FINITE && made[at].spec.dtype == MOE_DTYPE_F8_E4M3)
				continue; /* codes are not read when a model is opened */
			write_checkpoint("wrong", at, wrong);
			rc = moe_weights_open(&opts, &w, &err);
			if (wrong == ABSENT && made[at].tensor == MOE_TENSOR_NORM) {
				REQUIRE_EQ(rc, 0);
				CHECK(!moe_weights_layer(w, 0)->norm);
				moe_weights_close(w);
				continue;
			}
			tap_check(rc == want && strstr(err.text, name) &&
					  strstr(err.text, says[wrong]),
				  __FILE__, __LINE__, "%s wrong in way %d: %d %s", name, wrong, rc,
				  err.text);
		}
	}
}

static bool same_bytes(const void *a, const void *b, size_t size)
{
	return a && b && !memcmp(a, b, size);
}

static bool same_matrix(const struct moe_matrix *a, const struct moe_matrix *b)
{
	size_t blocks = (size_t)((a->in + 127) / 128) * ((a->out + 127) / 128);

	return a->in == b->in && a->out == b->out &&
	       same_bytes(a->codes, b->codes, (size_t)a->in * a->out) &&
	       same_bytes(a->scales, b->scales, 4 * blocks);
}

static bool same_expert(const struct moe_expert *a, const struct moe_expert *b)
{
	return same_matrix(&a->gate, &b->gate) && same_matrix(&a->up, &b->up) &&
	       same_matrix(&a->down, &b->down);
}

TEST(weights, of_a_file_and_of_a_seed_are_the_same)
{
	const char *dir = scratch_mkdir("same");
	struct moe_weights_opts opts = opts_of(dir), synthetic = opts_of(NULL);
	struct moe_weights *file, *seed;
	const struct moe_layer *a, *b;
	struct moe_error err = {0};

	write_checkpoint("same", 0, RIGHT);
	REQUIRE_EQ(moe_weights_open(&opts, &file, &err), 0);
	synthetic.config = &small;
	synthetic.seed = 7;
	REQUIRE_EQ(moe_weights_open(&synthetic, &seed, &err), 0);
	CHECK_EQ(moe_weights_config(file)->hidden, small.hidden);
	CHECK_EQ(moe_weights_bytes(file), moe_weights_bytes(seed));
	a = moe_weights_layer(file, 0);
	b = moe_weights_layer(seed, 0);
	CHECK_EQ(a->number, 2);
	CHECK(same_bytes(a->gate, b->gate, 2 * small.experts * small.hidden));
	CHECK(same_bytes(a->bias, b->bias, 4 * small.experts));
	CHECK(same_bytes(a->norm, b->norm, 2 * small.hidden));
	CHECK(same_expert(&a->shared, &b->shared));
	CHECK_EQ(a->shared.gate.in, 264);
	CHECK_EQ(a->shared.gate.out, 272);
	CHECK_EQ(a->shared.down.in, 272);
	for (uint32_t e = 0; e < 3; e++) {
		struct moe_expert x, y;

		REQUIRE_EQ(moe_weights_get(file, 0, e, &x, &err), 0);
		REQUIRE_EQ(moe_weights_get(seed, 0, e, &y, &err), 0);
		CHECK(same_expert(&x, &y));
		moe_weights_put(file, 0, e);
		moe_weights_put(seed, 0, e);
	}
	moe_weights_close(seed);
	moe_weights_close(file);
	moe_weights_close(NULL);
}

static void check_against_file(struct moe_checkpoint *c, const char *name, const void *data,
			       unsigned align)
{
	const struct moe_tensor *t;
	struct moe_error err = {0};

	REQUIRE_EQ(moe_checkpoint_find(c, name, &t, &err), 0);
	tap_check(!memcmp(data, t->data, t->size_bytes) && (uintptr_t)data % align == 0, __FILE__,
		  __LINE__, "%s is not what the file holds, or misaligned", name);
}

/* All of a golden checkpoint, which has shards cut by bytes and, in ragged, tensors at odd addresses. */
static void check_golden(const char *dir, const uint32_t *layers, uint32_t count)
{
	struct moe_weights_opts opts = {
		.dir = dir, .layers = layers, .layer_count = count, .preload = true};
	struct moe_checkpoint *c;
	struct moe_config config;
	struct moe_weights *w;
	struct moe_error err = {0};
	char name[160];

	snprintf(name, sizeof(name), "%s/config.json", dir);
	REQUIRE_EQ(moe_config_read(name, &config, &err), 0);
	opts.expert_count = config.experts;
	REQUIRE_EQ(moe_weights_open(&opts, &w, &err), 0);
	REQUIRE_EQ(moe_checkpoint_open(dir, &c, &err), 0);
	for (uint32_t l = 0; l < count; l++) {
		const struct moe_layer *layer = moe_weights_layer(w, l);

		snprintf(name, sizeof(name), "model.layers.%u.mlp.gate.weight", layers[l]);
		check_against_file(c, name, layer->gate, 2);
		snprintf(name, sizeof(name), "model.layers.%u.mlp.gate.e_score_correction_bias",
			 layers[l]);
		check_against_file(c, name, layer->bias, 4);
		snprintf(name, sizeof(name), "model.layers.%u.post_attention_layernorm.weight",
			 layers[l]);
		check_against_file(c, name, layer->norm, 2);
		snprintf(name, sizeof(name), "model.layers.%u.mlp.shared_experts.up_proj.weight",
			 layers[l]);
		check_against_file(c, name, layer->shared.up.codes, 1);
		for (uint32_t e = 0; e < config.experts; e++) {
			struct moe_expert x;

			REQUIRE_EQ(moe_weights_get(w, l, e, &x, &err), 0);
			CHECK_EQ(x.down.in, config.intermediate);
			CHECK_EQ(x.down.out, config.hidden);
			snprintf(name, sizeof(name),
				 "model.layers.%u.mlp.experts.%u.gate_proj.weight", layers[l], e);
			check_against_file(c, name, x.gate.codes, 1);
			snprintf(name, sizeof(name),
				 "model.layers.%u.mlp.experts.%u.gate_proj.weight_scale_inv",
				 layers[l], e);
			check_against_file(c, name, x.gate.scales, 4);
			snprintf(name, sizeof(name),
				 "model.layers.%u.mlp.experts.%u.down_proj.weight_scale_inv",
				 layers[l], e);
			check_against_file(c, name, x.down.scales, 4);
			moe_weights_put(w, l, e);
		}
	}
	moe_checkpoint_close(c);
	moe_weights_close(w);
}

TEST(weights, of_golden_checkpoints_are_what_the_files_hold)
{
	check_golden("tests/golden/moe/tiny", (const uint32_t[]){1, 2}, 2);
	check_golden("tests/golden/moe/ragged", (const uint32_t[]){0}, 1);
}

TEST(weights, open_refuses_bad_options)
{
	const uint32_t dense[] = {0}, beyond[] = {5}, descending[] = {3, 2}, twice[] = {2, 2};
	struct moe_weights_opts opts = opts_of(NULL);
	struct moe_weights *w;
	struct moe_error err;

	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL); /* no configuration */
	opts.config = &small;
	opts.layer_count = 0;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL);
	opts = opts_of(NULL);
	opts.config = &small;
	opts.layers = dense;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL);
	CHECK(strstr(err.text, "layer 0 has no experts: the model's MoE layers are 1..4"));
	opts.layers = beyond;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL);
	opts.layer_count = 2;
	opts.layers = descending;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL);
	CHECK(strstr(err.text, "3, 2"));
	opts.layers = twice;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL);
	opts = opts_of(NULL);
	opts.config = &small;
	opts.expert_first = 1;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL);
	CHECK(strstr(err.text, "3 experts from 1 on, but the model has 3"));
	opts.expert_first = UINT32_MAX;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -EINVAL);
	opts = opts_of(scratch("nowhere"));
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -ENOENT);
	CHECK(strstr(err.text, "nowhere/config.json"));
	opts = opts_of(NULL);
	opts.config = &small;
	opts.cache_bytes = 2 * moe_expert_bytes(&small);
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -ENOMEM);
	CHECK(strstr(err.text, "gates and shared experts of 1 layers take"));
	opts.cache_bytes = 2 * moe_expert_bytes(&small) + 3000;
	CHECK_EQ(moe_weights_open(&opts, &w, &err), -ENOMEM);
	CHECK(strstr(err.text, "an expert takes"));
}

TEST(weights, get_gives_only_this_ranks_experts)
{
	struct moe_weights_opts opts = opts_of(NULL);
	struct moe_weights *w;
	struct moe_expert x;
	struct moe_error err = {0};

	opts.config = &small;
	opts.expert_first = 1;
	opts.expert_count = 1;
	REQUIRE_EQ(moe_weights_open(&opts, &w, &err), 0);
	CHECK_EQ(moe_weights_get(w, 0, 1, &x, &err), 0);
	CHECK_EQ(moe_weights_get(w, 0, 0, &x, &err), -EINVAL);
	CHECK_EQ(moe_weights_get(w, 0, 2, &x, &err), -EINVAL);
	CHECK_EQ(moe_weights_get(w, 1, 1, &x, &err), -EINVAL);
	moe_weights_close(w);
	opts.expert_count = 0; /* more ranks than experts */
	REQUIRE_EQ(moe_weights_open(&opts, &w, &err), 0);
	CHECK_EQ(moe_weights_get(w, 0, 1, &x, &err), -EINVAL);
	moe_weights_close(w);
}

struct watch {
	uint64_t done, total;
	unsigned calls;
};

static void watch(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	struct watch *seen = arg;

	CHECK(done_bytes >= seen->done);
	CHECK(!seen->calls || total_bytes == seen->total);
	*seen = (struct watch){done_bytes, total_bytes, seen->calls + 1};
}

TEST(weights, progress_reaches_the_total)
{
	const uint32_t layers[] = {1, 2, 4};
	/* What three layers keep, with shared experts of twice the width, and five experts of nine. */
	const uint64_t few = 3 * (2 * moe_expert_bytes(&small) + 2 * small.experts * small.hidden) +
			     5 * moe_expert_bytes(&small);
	const char *dir = "tests/golden/moe/tiny";
	struct moe_error err = {0};

	for (int way = 0; way < 3; way++) {
		struct watch seen = {0};
		struct moe_weights_opts opts = {
			.dir = way ? NULL : dir,
			.config = &small,
			.layers = layers,
			.layer_count = way ? 3 : 2,
			.expert_count = 3,
			.cache_bytes = way == 1 ? few : 0,
			.preload = true,
			.progress = watch,
			.progress_arg = &seen,
		};
		struct moe_weights *w;

		REQUIRE_EQ(moe_weights_open(&opts, &w, &err), 0);
		CHECK(seen.calls > 3);
		CHECK(seen.total > 0);
		CHECK_EQ(seen.done, seen.total);
		moe_weights_close(w);
	}
}

TEST(weights, without_shared_experts_have_none)
{
	struct moe_config config = small;
	struct moe_weights_opts opts = opts_of(NULL);
	struct moe_weights *w;
	struct moe_error err = {0};

	config.shared_experts = 0;
	opts.config = &config;
	REQUIRE_EQ(moe_weights_open(&opts, &w, &err), 0);
	CHECK(!moe_weights_layer(w, 0)->shared.gate.codes);
	moe_weights_close(w);
}
