// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Model configurations: read, written, set from options; whatever is wrong is refused by name and value. */
#define _GNU_SOURCE 1
#include "runtime/config.h"

#include <errno.h>
#include <jansson.h>

#include "tests/runtime/scratch.h"
#include "tests/tap.h"

static const char good[] =
	"{\"hidden_size\": 512, \"moe_intermediate_size\": 256, \"n_routed_experts\": 32, "
	"\"num_experts_per_tok\": 4, \"n_group\": 4, \"topk_group\": 2, \"n_shared_experts\": 2, "
	"\"num_hidden_layers\": 9, \"first_k_dense_replace\": 1, \"moe_layer_freq\": 2, \"norm_topk_prob\": true, "
	"\"routed_scaling_factor\": 1.5, \"rms_norm_eps\": 1e-5, \"scoring_func\": \"sigmoid\", "
	"\"topk_method\": \"noaux_tc\", \"hidden_act\": \"silu\", \"quantization_config\": {\"fmt\": \"e4m3\", "
	"\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}}";

/* good with the first `from` replaced by `to` (NULL: as it is), parsed. */
static int parse_with(const char *from, const char *to, struct moe_config *config,
		      struct moe_error *err)
{
	char text[2048];
	const char *at = from ? strstr(good, from) : NULL;

	if (from && !at) {
		tap_check(false, __FILE__, __LINE__, "the text has no %s", from);
		return 0;
	}
	if (!at)
		return moe_config_parse(good, strlen(good), "c.json", config, err);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
	return moe_config_parse(text, strlen(text), "c.json", config, err);
}

static void same(const struct moe_config *a, const struct moe_config *b)
{
	CHECK_EQ(a->hidden, b->hidden);
	CHECK_EQ(a->intermediate, b->intermediate);
	CHECK_EQ(a->experts, b->experts);
	CHECK_EQ(a->topk, b->topk);
	CHECK_EQ(a->groups, b->groups);
	CHECK_EQ(a->groups_kept, b->groups_kept);
	CHECK_EQ(a->shared_experts, b->shared_experts);
	CHECK_EQ(a->layers, b->layers);
	CHECK_EQ(a->first_moe, b->first_moe);
	CHECK_EQ(a->moe_stride, b->moe_stride);
	CHECK_EQ(a->normalise, b->normalise);
	CHECK(a->scale == b->scale);
	CHECK(a->norm_eps == b->norm_eps);
}

TEST(config, parses_every_field)
{
	const struct moe_config want = {
		.hidden = 512,
		.intermediate = 256,
		.experts = 32,
		.topk = 4,
		.groups = 4,
		.groups_kept = 2,
		.shared_experts = 2,
		.layers = 9,
		.first_moe = 1,
		.moe_stride = 2,
		.normalise = true,
		.scale = 1.5f,
		.norm_eps = 1e-5f,
	};
	struct moe_config config;
	struct moe_error err;

	REQUIRE_EQ(parse_with(NULL, NULL, &config, &err), 0);
	same(&config, &want);
	CHECK_EQ(moe_config_shared_width(&config), 512);
	CHECK(!moe_config_is_moe(&config, 0));
	CHECK(!moe_config_is_moe(&config, 1));
	CHECK(moe_config_is_moe(&config, 2));
	CHECK(!moe_config_is_moe(&config, 9));
	CHECK(!moe_config_is_moe(&config, 10));
}

TEST(config, r1_survives_its_own_text)
{
	struct moe_config config;
	struct moe_error err;
	char *text = moe_config_text(&moe_config_r1);

	REQUIRE(text);
	CHECK_EQ(moe_config_check(&moe_config_r1, &err), 0);
	CHECK_EQ(moe_config_parse(text, strlen(text), "r1", &config, &err), 0);
	same(&config, &moe_config_r1);
	CHECK(!moe_config_is_moe(&config, 2));
	CHECK(moe_config_is_moe(&config, 3));
	CHECK(moe_config_is_moe(&config, 60));
	CHECK(!moe_config_is_moe(&config, 61));
	free(text);
}

TEST(config, reads_golden_checkpoints)
{
	struct moe_config config;
	struct moe_error err = {0};

	CHECK_EQ(moe_config_read("tests/golden/moe/tiny/config.json", &config, &err), 0);
	CHECK_EQ(config.hidden, 256);
	CHECK_EQ(config.experts, 16);
	CHECK_EQ(config.layers, 3);
	CHECK_EQ(moe_config_read("tests/golden/moe/ragged/config.json", &config, &err), 0);
	CHECK_EQ(config.hidden, 320);
	CHECK_EQ(config.intermediate, 192);
	CHECK_EQ(config.first_moe, 0);
}

TEST(config, null_or_absent_means_none)
{
	struct moe_config config;
	struct moe_error err = {0};

	CHECK_EQ(parse_with("\"n_shared_experts\": 2", "\"n_shared_experts\": null", &config, &err),
		 0);
	CHECK_EQ(config.shared_experts, 0);
	CHECK_EQ(parse_with("\"n_shared_experts\": 2", "\"n_shared_experts\": 0", &config, &err),
		 0);
	CHECK_EQ(config.shared_experts, 0);
	CHECK_EQ(moe_config_shared_width(&config), 0);
	CHECK_EQ(
		parse_with("\"n_group\": 4, \"topk_group\": 2", "\"n_group\": null", &config, &err),
		0);
	CHECK_EQ(config.groups, 1);
	CHECK_EQ(config.groups_kept, 1);
	CHECK_EQ(parse_with("\"rms_norm_eps\": 1e-5, ", "", &config, &err), 0);
	CHECK(config.norm_eps == 1e-6f);
	CHECK_EQ(parse_with("\"moe_layer_freq\": 2, ", "", &config, &err), 0);
	CHECK_EQ(config.moe_stride, 1);
	CHECK_EQ(parse_with("\"scoring_func\": \"sigmoid\", ", "", &config, &err), 0);
	CHECK_EQ(parse_with("1.5", "2", &config, &err), 0); /* an integer is a number */
	CHECK(config.scale == 2);
}

TEST(config, refuses_by_name_and_value)
{
	static const struct {
		const char *from, *to, *says, *value;
	} cases[] = {
		{"\"hidden_size\"", "\"x\"", "hidden_size is missing", ""},
		{"\"moe_intermediate_size\"", "\"x\"", "moe_intermediate_size is missing", ""},
		{"\"n_routed_experts\"", "\"x\"", "n_routed_experts is missing", ""},
		{"\"num_experts_per_tok\"", "\"x\"", "num_experts_per_tok is missing", ""},
		{"\"num_hidden_layers\"", "\"x\"", "num_hidden_layers is missing", ""},
		{"\"norm_topk_prob\"", "\"x\"", "norm_topk_prob is missing", ""},
		{"true", "1", "norm_topk_prob is neither", ""},
		{"\"routed_scaling_factor\"", "\"x\"", "routed_scaling_factor is missing", ""},
		{"1.5", "\"1.5\"", "routed_scaling_factor is not a number", ""},
		{"1.5", "-1.5", "routed_scaling_factor is -1.5", ""},
		{"1.5", "0", "routed_scaling_factor is 0", ""},
		{"1.5", "1e300", "routed_scaling_factor is 1e+300", ""},
		{"1.5", "1e-300", "routed_scaling_factor is 0", ""},
		{"1e-5", "-1", "rms_norm_eps is -1", ""},
		{"512", "0", "hidden_size is 0", "8..65536"},
		{"512", "-512", "hidden_size is -512", "8..65536"},
		{"512", "4294967808", "hidden_size is 4294967808", "8..65536"},
		{"512", "65544", "hidden_size is 65544", "8..65536"},
		{"512", "514", "hidden_size is 514", "multiple of 8"},
		{"512", "512.0", "hidden_size is not an integer", ""},
		{"256", "0", "moe_intermediate_size is 0", "1..65536"},
		{"32,", "4097,", "n_routed_experts is 4097", "1..4096"},
		{"\"num_experts_per_tok\": 4", "\"num_experts_per_tok\": 65",
		 "num_experts_per_tok is 65", "1..64"},
		{"\"num_experts_per_tok\": 4", "\"num_experts_per_tok\": 17",
		 "num_experts_per_tok 17", "16"},
		{"\"n_group\": 4", "\"n_group\": 5", "n_routed_experts 32", "n_group 5"},
		{"\"n_group\": 4", "\"n_group\": 0", "n_group is 0", "1..4096"},
		{"\"topk_group\": 2", "\"topk_group\": 5", "topk_group 5", "n_group 4"},
		{"\"n_shared_experts\": 2", "\"n_shared_experts\": 257", "n_shared_experts 257 x",
		 "256"},
		{"\"num_hidden_layers\": 9", "\"num_hidden_layers\": 2000",
		 "num_hidden_layers is 2000", "1..1024"},
		{"\"moe_layer_freq\": 2", "\"moe_layer_freq\": 0", "moe_layer_freq is 0",
		 "1..1024"},
		{"sigmoid", "softmax", "scoring_func is \"softmax\"", "sigmoid"},
		{"\"sigmoid\"", "1", "scoring_func is not a string", "sigmoid"},
		{"noaux_tc", "greedy", "topk_method is \"greedy\"", "noaux_tc"},
		{"silu", "gelu", "hidden_act is \"gelu\"", "silu"},
		{"quantization_config", "x", "quantization_config is missing", "FP8"},
		{"fp8", "awq", "quant_method is \"awq\"", "fp8"},
		{"e4m3", "e5m2", "fmt is \"e5m2\"", "e4m3"},
		{"[128, 128]", "[128]", "weight_block_size has 1", "2"},
		{"[128, 128]", "[128, 64]", "weight_block_size[1] is 64", "128"},
		{"[128, 128]", "[128, null]", "weight_block_size[1] is 0", "128"},
		{"{\"hidden_size\"", "[{\"hidden_size\"", "c.json: line 1", ""},
		{"\"hidden_size\": 512", "\"hidden_size\": 512, \"hidden_size\": 512", "duplicate",
		 "hidden_size"},
		{"512", "99999999999999999999", "too big", ""},
		{"512", "NaN", "c.json: line 1", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct moe_config config = {.hidden = 77};
		struct moe_error err = {0};
		int rc = parse_with(cases[i].from, cases[i].to, &config, &err);

		tap_check(rc == -EINVAL && strstr(err.text, cases[i].says) &&
				  strstr(err.text, cases[i].value) && config.hidden == 77,
			  __FILE__, __LINE__, "%s -> %s gives %d: %s", cases[i].from, cases[i].to,
			  rc, err.text);
	}
}

TEST(config, refuses_every_truncation)
{
	struct moe_config config;
	struct moe_error err;

	for (size_t size = 0; size < strlen(good); size++)
		CHECK_EQ(moe_config_parse(good, size, "cut", &config, &err), -EINVAL);
	CHECK_EQ(moe_config_parse("[]", 2, "list", &config, &err), -EINVAL);
	CHECK_EQ(moe_config_parse("null", 4, "null", &config, NULL), -EINVAL);
}

TEST(config, survives_deep_nesting_and_control_characters)
{
	enum { DEPTH = 200000 };
	char *deep = malloc(DEPTH);
	struct moe_config config;
	struct moe_error err;

	memset(deep, '[', DEPTH);
	CHECK_EQ(moe_config_parse(deep, DEPTH, "deep", &config, &err), -EINVAL);
	free(deep);
	CHECK_EQ(parse_with("sigmoid", "\\u001b[31m\\n", &config, &err), -EINVAL);
	CHECK(strstr(err.text, "\"?[31m?\""));
}

TEST(config, read_names_the_file)
{
	enum { BIG = (16 << 20) + 1 };
	struct moe_config config;
	struct moe_error err;
	char *big = malloc(BIG);

	CHECK_EQ(moe_config_read(scratch("absent.json"), &config, &err), -ENOENT);
	CHECK(strstr(err.text, "absent.json: No such file"));
	CHECK_EQ(moe_config_read(scratch(""), &config, &err), -EIO);
	memset(big, ' ', BIG);
	CHECK_EQ(moe_config_read(scratch_write("big.json", big, BIG), &config, &err), -EINVAL);
	CHECK(strstr(err.text, "big.json: larger than"));
	free(big);
}

TEST(config, set_takes_options)
{
	static const char *const bad[][3] = {
		{"experts", "x", "--experts: \"x\""},
		{"experts", "", "--experts: \"\""},
		{"experts", "-1", "\"-1\""},
		{"experts", "4294967297", "4294967297"},
		{"experts", "5000", "5000, not in"},
		{"hidden", "7168x", "7168x"},
		{"scale", "", "--scale"},
		{"scale", "2.5x", "2.5x"},
	};
	struct moe_config config = moe_config_r1;
	struct moe_error err;

	CHECK_EQ(moe_config_set(&config, "experts", "64", &err), 0);
	CHECK_EQ(moe_config_set(&config, "hidden", "1024", &err), 0);
	CHECK_EQ(moe_config_set(&config, "intermediate", "512", &err), 0);
	CHECK_EQ(moe_config_set(&config, "topk", "6", &err), 0);
	CHECK_EQ(moe_config_set(&config, "groups", "4", &err), 0);
	CHECK_EQ(moe_config_set(&config, "topk-groups", "3", &err), 0);
	CHECK_EQ(moe_config_set(&config, "shared-experts", "0", &err), 0);
	CHECK_EQ(moe_config_set(&config, "scale", "1.25", &err), 0);
	CHECK_EQ(config.experts, 64);
	CHECK_EQ(config.groups_kept, 3);
	CHECK_EQ(config.shared_experts, 0);
	CHECK(config.scale == 1.25f);
	CHECK_EQ(moe_config_check(&config, &err), 0);
	CHECK_EQ(moe_config_set(&config, "n_group", "4", &err), -ENOENT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_EQ(moe_config_set(&config, bad[i][0], bad[i][1], &err), -EINVAL);
		CHECK(strstr(err.text, bad[i][2]));
	}
}

TEST(config, layers_parse_takes_lists_and_ranges)
{
	static const char *const bad[] = {"",	  "x",	    "3,",	   ",3", "3,,4",  "4,3",
					  "3,3",  "5-3",    "3-",	   "-3", "3-5-7", "3-5,5",
					  "1024", "0-1024", "99999999999", "3 4"};
	static uint32_t layers[MOE_LAYERS_MAX];
	struct moe_config config = moe_config_r1;
	struct moe_error err;

	CHECK_EQ(moe_layers_parse("3,4", layers, &err), 2);
	CHECK(layers[0] == 3 && layers[1] == 4);
	CHECK_EQ(moe_layers_parse("1,3-5,70", layers, &err), 5);
	CHECK(layers[0] == 1 && layers[1] == 3 && layers[3] == 5 && layers[4] == 70);
	moe_config_cover(&config, layers, 5);
	CHECK(moe_config_is_moe(&config, 1) && moe_config_is_moe(&config, 70));
	CHECK_EQ(config.layers, 71);
	CHECK_EQ(moe_layers_parse("0-1023", layers, &err), 1024);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		tap_check(moe_layers_parse(bad[i], layers, &err) == -EINVAL, __FILE__, __LINE__,
			  "\"%s\" is taken", bad[i]);
}

static unsigned allocations_left;

static void *fail_at_last(size_t size)
{
	return allocations_left && --allocations_left ? malloc(size) : NULL;
}

TEST(config, any_failed_allocation_is_an_error)
{
	struct moe_config config;
	struct moe_error err;
	unsigned n;

	for (n = 1; n < 10000; n++) {
		char *text;

		allocations_left = n;
		json_set_alloc_funcs(fail_at_last, free);
		text = moe_config_text(&moe_config_r1);
		json_set_alloc_funcs(malloc, free);
		if (!text)
			continue;
		/* Nothing may have been left out on the way. */
		CHECK_EQ(moe_config_parse(text, strlen(text), "r1", &config, &err), 0);
		same(&config, &moe_config_r1);
		free(text);
		break;
	}
	CHECK(n > 20 && n < 10000);
	for (n = 1; n < 10000; n++) {
		int rc;

		allocations_left = n;
		json_set_alloc_funcs(fail_at_last, free);
		rc = moe_config_parse(good, strlen(good), "good", &config, &err);
		json_set_alloc_funcs(malloc, free);
		if (!rc)
			break;
		CHECK(rc < 0 && err.text[0]);
	}
	CHECK(n > 20 && n < 10000);
}
