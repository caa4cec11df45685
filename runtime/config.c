// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * config.json of the DeepSeek-V3 family: one table of fields, read and written through it. What this code cannot
 * compute (softmax scores, other block sizes, other activations) is refused by name, never guessed.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

enum { CONFIG_BYTES_MAX = 16 << 20 };

const struct moe_config moe_config_r1 = {
	.hidden = 7168,
	.intermediate = 2048,
	.experts = 256,
	.topk = 8,
	.groups = 8,
	.groups_kept = 4,
	.shared_experts = 1,
	.layers = 61,
	.first_moe = 3,
	.moe_stride = 1,
	.normalise = true,
	.scale = 2.5f,
	.norm_eps = 1e-6f,
};

#define REQUIRED (-1)

/* Integer fields: where, what absent or null means, and the name on a command line if it has one. */
static const struct field {
	const char *json, *option;
	size_t offset;
	int absent;
	uint32_t min, max;
} fields[] = {
#define FIELD(member) offsetof(struct moe_config, member)
	{"hidden_size", "hidden", FIELD(hidden), REQUIRED, 8, MOE_HIDDEN_MAX},
	{"moe_intermediate_size", "intermediate", FIELD(intermediate), REQUIRED, 1,
	 MOE_INTERMEDIATE_MAX},
	{"n_routed_experts", "experts", FIELD(experts), REQUIRED, 1, K_EXPERTS_MAX},
	{"num_experts_per_tok", "topk", FIELD(topk), REQUIRED, 1, K_TOPK_MAX},
	{"n_group", "groups", FIELD(groups), 1, 1, K_EXPERTS_MAX},
	{"topk_group", "topk-groups", FIELD(groups_kept), 1, 1, K_EXPERTS_MAX},
	{"n_shared_experts", "shared-experts", FIELD(shared_experts), 0, 0, MOE_INTERMEDIATE_MAX},
	{"num_hidden_layers", NULL, FIELD(layers), REQUIRED, 1, MOE_LAYERS_MAX},
	{"first_k_dense_replace", NULL, FIELD(first_moe), 0, 0, MOE_LAYERS_MAX},
	{"moe_layer_freq", NULL, FIELD(moe_stride), 1, 1, MOE_LAYERS_MAX},
#undef FIELD
};

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

/* Words that must be what the kernels compute; absent is taken as that. */
static const struct word {
	const char *name, *value;
} words[] = {
	{"scoring_func", "sigmoid"},
	{"topk_method", "noaux_tc"},
	{"hidden_act", "silu"},
};

static uint32_t *member(struct moe_config *config, const struct field *field)
{
	return (uint32_t *)((char *)config + field->offset);
}

bool moe_config_is_moe(const struct moe_config *config, uint32_t layer)
{
	return layer >= config->first_moe && layer < config->layers &&
	       layer % config->moe_stride == 0;
}

uint32_t moe_config_shared_width(const struct moe_config *config)
{
	return config->shared_experts * config->intermediate;
}

int moe_config_check(const struct moe_config *config, struct moe_error *err)
{
	for (const struct field *f = fields; f < fields + FIELDS; f++) {
		uint32_t value = *member((struct moe_config *)config, f);

		if (value < f->min || value > f->max)
			return moe_error_set(err, -EINVAL,
					     "%s is %" PRIu32 ", not in %" PRIu32 "..%" PRIu32,
					     f->json, value, f->min, f->max);
	}
	if (config->hidden % 8)
		return moe_error_set(err, -EINVAL,
				     "hidden_size is %" PRIu32
				     ", not a multiple of 8 (16 bytes of bf16)",
				     config->hidden);
	if (config->experts % config->groups)
		return moe_error_set(err, -EINVAL,
				     "n_routed_experts %" PRIu32
				     " is not a multiple of n_group %" PRIu32,
				     config->experts, config->groups);
	if (config->groups_kept > config->groups)
		return moe_error_set(err, -EINVAL,
				     "topk_group %" PRIu32 " is above n_group %" PRIu32,
				     config->groups_kept, config->groups);
	if (config->topk > config->groups_kept * (config->experts / config->groups))
		return moe_error_set(err, -EINVAL,
				     "num_experts_per_tok %" PRIu32 " is above the %" PRIu32
				     " experts in the groups that topk_group keeps",
				     config->topk,
				     config->groups_kept * (config->experts / config->groups));
	if ((uint64_t)config->shared_experts * config->intermediate > MOE_INTERMEDIATE_MAX)
		return moe_error_set(err, -EINVAL,
				     "n_shared_experts %" PRIu32 " x moe_intermediate_size %" PRIu32
				     " is above %d",
				     config->shared_experts, config->intermediate,
				     MOE_INTERMEDIATE_MAX);
	if (!isfinite(config->scale) || config->scale <= 0)
		return moe_error_set(err, -EINVAL,
				     "routed_scaling_factor is %g, not a positive number",
				     (double)config->scale);
	if (!isfinite(config->norm_eps) || config->norm_eps < 0 || config->norm_eps >= 1)
		return moe_error_set(err, -EINVAL, "rms_norm_eps is %g, not in 0..1",
				     (double)config->norm_eps);
	return 0;
}

static int parse_number(const json_t *root, const char *file, const char *name, double absent,
			float *value, struct moe_error *err)
{
	const json_t *json = json_object_get(root, name);

	if (!json || json_is_null(json)) {
		if (absent < 0)
			return moe_error_set(err, -EINVAL, "%s: %s is missing", file, name);
		*value = (float)absent;
		return 0;
	}
	if (!json_is_number(json))
		return moe_error_set(err, -EINVAL, "%s: %s is not a number", file, name);
	if (fabs(json_number_value(json)) > 1e30)
		return moe_error_set(err, -EINVAL, "%s: %s is %g, above 1e30", file, name,
				     json_number_value(json));
	*value = (float)json_number_value(json);
	return 0;
}

static int parse_fields(const json_t *root, const char *file, struct moe_config *config,
			struct moe_error *err)
{
	for (const struct field *f = fields; f < fields + FIELDS; f++) {
		const json_t *json = json_object_get(root, f->json);
		json_int_t value;

		if (!json || json_is_null(json)) {
			if (f->absent == REQUIRED)
				return moe_error_set(err, -EINVAL, "%s: %s is missing", file,
						     f->json);
			*member(config, f) = (uint32_t)f->absent;
			continue;
		}
		if (!json_is_integer(json))
			return moe_error_set(err, -EINVAL, "%s: %s is not an integer", file,
					     f->json);
		value = json_integer_value(json);
		if (value < (json_int_t)f->min || value > (json_int_t)f->max)
			return moe_error_set(err, -EINVAL,
					     "%s: %s is %" JSON_INTEGER_FORMAT ", not in %" PRIu32
					     "..%" PRIu32,
					     file, f->json, value, f->min, f->max);
		*member(config, f) = (uint32_t)value;
	}
	return 0;
}

static int parse_words(const json_t *root, const char *file, struct moe_error *err)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const json_t *json = json_object_get(root, words[i].name);

		if (!json)
			continue;
		if (!json_is_string(json))
			return moe_error_set(err, -EINVAL,
					     "%s: %s is not a string but must be \"%s\"", file,
					     words[i].name, words[i].value);
		if (strcmp(json_string_value(json), words[i].value))
			return moe_error_set(
				err, -EINVAL, "%s: %s is \"%.64s\"; only \"%s\" is supported", file,
				words[i].name, json_string_value(json), words[i].value);
	}
	return 0;
}

static int parse_quantization(const json_t *root, const char *file, struct moe_error *err)
{
	const json_t *quant = json_object_get(root, "quantization_config");
	const json_t *block = json_object_get(quant, "weight_block_size");
	const json_t *method = json_object_get(quant, "quant_method");
	const json_t *fmt = json_object_get(quant, "fmt");

	if (!json_is_object(quant))
		return moe_error_set(err, -EINVAL,
				     "%s: quantization_config is missing; only FP8 weights under "
				     "128x128 scales are supported",
				     file);
	if (!json_is_string(method) || strcmp(json_string_value(method), "fp8"))
		return moe_error_set(err, -EINVAL,
				     "%s: quant_method is \"%.64s\"; only \"fp8\" is supported",
				     file, json_is_string(method) ? json_string_value(method) : "");
	if (fmt && (!json_is_string(fmt) || strcmp(json_string_value(fmt), "e4m3")))
		return moe_error_set(err, -EINVAL,
				     "%s: fmt is \"%.64s\"; only \"e4m3\" is supported", file,
				     json_is_string(fmt) ? json_string_value(fmt) : "");
	if (json_array_size(block) != 2)
		return moe_error_set(err, -EINVAL,
				     "%s: weight_block_size has %zu numbers, not 2: [%d, %d]", file,
				     json_array_size(block), K_BLOCK, K_BLOCK);
	for (size_t i = 0; i < 2; i++) {
		const json_t *side = json_array_get(block, i);

		if (!json_is_integer(side) || json_integer_value(side) != K_BLOCK)
			return moe_error_set(err, -EINVAL,
					     "%s: weight_block_size[%zu] is %" JSON_INTEGER_FORMAT
					     "; only %d is supported",
					     file, i, json_integer_value(side), K_BLOCK);
	}
	return 0;
}

static int parse_root(const json_t *root, const char *file, struct moe_config *config,
		      struct moe_error *err)
{
	const json_t *normalise = json_object_get(root, "norm_topk_prob");
	struct moe_error why;
	int rc;

	if (!json_is_object(root))
		return moe_error_set(err, -EINVAL, "%s: not a JSON object", file);
	rc = parse_fields(root, file, config, err);
	if (rc)
		return rc;
	if (!json_is_boolean(normalise))
		return moe_error_set(err, -EINVAL, "%s: norm_topk_prob is %s", file,
				     normalise ? "neither true nor false" : "missing");
	config->normalise = json_is_true(normalise);
	rc = parse_number(root, file, "routed_scaling_factor", -1, &config->scale, err);
	if (!rc)
		rc = parse_number(root, file, "rms_norm_eps", 1e-6, &config->norm_eps, err);
	if (!rc)
		rc = parse_words(root, file, err);
	if (!rc)
		rc = parse_quantization(root, file, err);
	if (rc)
		return rc;
	rc = moe_config_check(config, &why);
	return rc ? moe_error_set(err, rc, "%s: %.300s", file, why.text) : 0;
}

int moe_config_parse(const char *text, size_t size, const char *name, struct moe_config *config,
		     struct moe_error *err)
{
	struct moe_config parsed = {0};
	json_error_t why;
	json_t *root;
	int rc;

	root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return moe_error_set(err, -EINVAL, "%s: line %d: %s", name, why.line, why.text);
	rc = parse_root(root, name, &parsed, err);
	json_decref(root);
	if (!rc)
		*config = parsed;
	return rc;
}

int moe_config_read(const char *path, struct moe_config *config, struct moe_error *err)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size;
	int rc;

	if (!file) {
		rc = -errno;
		return moe_error_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	text = malloc(CONFIG_BYTES_MAX + 1);
	if (!text) {
		rc = moe_error_set(err, -ENOMEM, "%s: no memory to read it", path);
		goto out;
	}
	size = fread(text, 1, CONFIG_BYTES_MAX + 1, file);
	if (ferror(file))
		rc = moe_error_set(err, -EIO, "%s: cannot be read: %s", path, strerror(errno));
	else if (size > CONFIG_BYTES_MAX)
		rc = moe_error_set(err, -EINVAL, "%s: larger than %d bytes", path,
				   CONFIG_BYTES_MAX);
	else
		rc = moe_config_parse(text, size, path, config, err);
out:
	free(text);
	fclose(file);
	return rc;
}

char *moe_config_text(const struct moe_config *config)
{
	json_t *root, *quant;
	char *text = NULL;
	int failed = 0;

	quant = json_pack("{s:s, s:s, s:s, s:[i, i]}", "activation_scheme", "dynamic", "fmt",
			  "e4m3", "quant_method", "fp8", "weight_block_size", K_BLOCK, K_BLOCK);
	root = json_pack("{s:[s], s:s, s:b, s:f, s:f}", "architectures", "DeepseekV3ForCausalLM",
			 "model_type", "deepseek_v3", "norm_topk_prob", config->normalise,
			 "routed_scaling_factor", (double)config->scale, "rms_norm_eps",
			 (double)config->norm_eps);
	failed |= json_object_set_new(root, "quantization_config", quant);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		failed |= json_object_set_new(root, words[i].name, json_string(words[i].value));
	for (const struct field *f = fields; f < fields + FIELDS; f++) {
		uint32_t value = *member((struct moe_config *)config, f);

		failed |= json_object_set_new(root, f->json, json_integer(value));
	}
	if (!failed)
		text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
	json_decref(root);
	return text;
}

static int parse_u32(const char **text, uint32_t *value)
{
	char *end;
	unsigned long long wide;

	if (**text < '0' || **text > '9')
		return -EINVAL;
	errno = 0;
	wide = strtoull(*text, &end, 10);
	if (errno || wide > UINT32_MAX)
		return -EINVAL;
	*text = end;
	*value = (uint32_t)wide;
	return 0;
}

int moe_config_set(struct moe_config *config, const char *name, const char *value,
		   struct moe_error *err)
{
	const char *end = value;
	uint32_t number;

	if (!strcmp(name, "scale")) {
		char *tail;
		float scale = strtof(value, &tail);

		if (tail == value || *tail)
			return moe_error_set(err, -EINVAL, "--scale: \"%s\" is not a number",
					     value);
		config->scale = scale;
		return 0;
	}
	for (const struct field *f = fields; f < fields + FIELDS; f++) {
		if (!f->option || strcmp(name, f->option))
			continue;
		if (parse_u32(&end, &number) || *end)
			return moe_error_set(err, -EINVAL, "--%s: \"%s\" is not a whole number",
					     name, value);
		if (number < f->min || number > f->max)
			return moe_error_set(err, -EINVAL,
					     "--%s is %" PRIu32 ", not in %" PRIu32 "..%" PRIu32,
					     name, number, f->min, f->max);
		*member(config, f) = number;
		return 0;
	}
	return moe_error_set(err, -ENOENT, "--%s: no such option", name);
}

void moe_config_cover(struct moe_config *config, const uint32_t *layers, uint32_t count)
{
	if (!count)
		return;
	if (layers[0] < config->first_moe)
		config->first_moe = layers[0];
	if (layers[count - 1] >= config->layers)
		config->layers = layers[count - 1] + 1;
}

int moe_layers_parse(const char *text, uint32_t *layers, struct moe_error *err)
{
	const char *at = text;
	uint32_t first, last;
	int count = 0;

	do {
		at += at != text; /* past the comma */
		if (parse_u32(&at, &first))
			goto err_syntax;
		last = first;
		if (*at == '-') {
			at++;
			if (parse_u32(&at, &last))
				goto err_syntax;
		}
		if (last < first || (count && first <= layers[count - 1]))
			return moe_error_set(err, -EINVAL,
					     "--layers: \"%s\" is not in ascending order", text);
		if (last >= MOE_LAYERS_MAX)
			return moe_error_set(err, -EINVAL,
					     "--layers: layer %" PRIu32 " is above %d", last,
					     MOE_LAYERS_MAX - 1);
		for (uint32_t layer = first; layer <= last; layer++)
			layers[count++] = layer;
	} while (*at == ',');
	if (!*at)
		return count;
err_syntax:
	return moe_error_set(err, -EINVAL, "--layers: \"%s\" is not a list such as 3,4 or 3-10",
			     text);
}
