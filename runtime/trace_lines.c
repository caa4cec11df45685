// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Traces as JSON lines: see trace.h. One line is in memory at a time. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <kernels.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "trace_form.h"

static const char schema[] = "accel-trace/1";

static int bad_line(const struct moe_trace *t, struct moe_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int bad_line(const struct moe_trace *t, struct moe_error *err, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return moe_error_set(err, -EINVAL, "%s: line %" PRIu64 ": %s", t->name, t->line_number,
			     text);
}

/* The next line that is not empty, as an object the caller owns; NULL with 0 at the end. */
static int read_line(struct moe_trace *t, json_t **object, struct moe_error *err)
{
	json_error_t error;
	size_t count = 0;
	int c;

	*object = NULL;
	do {
		t->line_number++;
		for (count = 0; (c = getc_unlocked(t->file)) != EOF && c != '\n';) {
			if (count == MOE_TRACE_LINE_BYTES_MAX)
				return bad_line(t, err, "longer than %d bytes",
						MOE_TRACE_LINE_BYTES_MAX);
			if (count || (c != ' ' && c != '\t' && c != '\r'))
				t->line[count++] = (char)c;
		}
	} while (!count && c != EOF);
	if (ferror(t->file))
		return moe_error_set(err, -EIO, "%s: %s", t->name, strerror(errno));
	if (!count)
		return 0;
	*object = json_loadb(t->line, count, JSON_REJECT_DUPLICATES, &error);
	if (!*object)
		return bad_line(t, err, "column %d: %s", error.column, error.text);
	if (json_is_object(*object))
		return 0;
	json_decref(*object);
	*object = NULL;
	return bad_line(t, err, "not a JSON object");
}

static int take_number(const struct moe_trace *t, const json_t *object, const char *key,
		       uint32_t max, uint32_t *number, struct moe_error *err)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
	    json_integer_value(value) > max)
		return bad_line(t, err, "\"%s\" is not a whole number from 1 to %" PRIu32, key,
				max);
	*number = (uint32_t)json_integer_value(value);
	return 0;
}

static int take_layers(struct moe_trace *t, const json_t *layers, struct moe_error *err)
{
	size_t count = json_array_size(layers); /* 0 of what is no array */

	if (!count || count > MOE_LAYERS_MAX)
		return bad_line(t, err, "\"layers\" is not an array of 1 to %d layers",
				MOE_LAYERS_MAX);
	for (size_t i = 0; i < count; i++) {
		const json_t *layer = json_array_get(layers, i);
		json_int_t number = json_integer_value(layer);

		if (!json_is_integer(layer) || number < 0 || number >= MOE_LAYERS_MAX ||
		    (i && number <= t->head.layers[i - 1]))
			return bad_line(t, err, "\"layers\" are not ascending numbers from 0 to %d",
					MOE_LAYERS_MAX - 1);
		t->head.layers[i] = (uint32_t)number;
	}
	t->head.layer_count = (uint32_t)count;
	return 0;
}

static int take_head(struct moe_trace *t, const json_t *object, struct moe_error *err)
{
	const char *found = json_string_value(json_object_get(object, "schema"));
	const json_t *weights = json_object_get(object, "weights");
	int rc;

	if (!found || strcmp(found, schema))
		return bad_line(t, err, "\"schema\" is not \"%s\"", schema);
	if (weights && !json_is_boolean(weights))
		return bad_line(t, err, "\"weights\" is neither true nor false");
	t->head.weights = json_is_true(weights);
	rc = take_number(t, object, "experts", K_EXPERTS_MAX, &t->head.experts, err);
	if (!rc)
		rc = take_number(t, object, "topk", K_TOPK_MAX, &t->head.topk, err);
	return rc ? rc : take_layers(t, json_object_get(object, "layers"), err);
}

int moe_trace_lines_start(struct moe_trace *t, struct moe_error *err)
{
	json_t *object = NULL;
	int rc;

	t->line = malloc(MOE_TRACE_LINE_BYTES_MAX);
	if (!t->line)
		return moe_error_set(err, -ENOMEM, "%s: no memory for a line", t->name);
	rc = read_line(t, &object, err);
	if (!rc)
		rc = take_head(t, object, err); /* the form was told by a {, so there is one */
	json_decref(object);
	return rc;
}

static int make_room(struct moe_trace *t, size_t tokens, struct moe_error *err)
{
	if (tokens <= t->tokens_room)
		return 0;
	free(t->ids);
	free(t->weights);
	t->ids = calloc(tokens * t->head.topk, sizeof(*t->ids));
	t->weights = calloc(tokens * t->head.topk, sizeof(*t->weights));
	t->tokens_room = t->ids && t->weights ? (uint32_t)tokens : 0;
	return t->tokens_room ? 0
			      : moe_error_set(err, -ENOMEM, "%s: no memory for %zu tokens", t->name,
					      tokens);
}

/* Row @token of [tokens][topk], or NULL with what is wrong. */
static const json_t *row_of(const struct moe_trace *t, const json_t *rows, const char *key,
			    size_t token, struct moe_error *err)
{
	const json_t *row = json_array_get(rows, token);

	if (json_is_array(row) && json_array_size(row) == t->head.topk)
		return row;
	bad_line(t, err, "\"%s\" of token %zu is not an array of %" PRIu32, key, token,
		 t->head.topk);
	return NULL;
}

static int take_token(struct moe_trace *t, const json_t *ids, const json_t *weights, size_t token,
		      struct moe_error *err)
{
	const json_t *row = row_of(t, ids, "ids", token, err);
	size_t at = token * t->head.topk;

	for (uint32_t k = 0; row && k < t->head.topk; k++) {
		const json_t *id = json_array_get(row, k);

		if (!json_is_integer(id) || json_integer_value(id) < -1 ||
		    json_integer_value(id) >= t->head.experts)
			return bad_line(t, err,
					"id %" PRIu32 " of token %zu is not -1 or one of %" PRIu32
					" experts",
					k, token, t->head.experts);
		t->ids[at + k] = (int32_t)json_integer_value(id);
	}
	if (!row || !t->head.weights)
		return row ? 0 : -EINVAL;
	row = row_of(t, weights, "weights", token, err);
	for (uint32_t k = 0; row && k < t->head.topk; k++) {
		const json_t *weight = json_array_get(row, k);

		t->weights[at + k] = (float)json_number_value(weight);
		if (!json_is_number(weight) || !isfinite(t->weights[at + k]))
			return bad_line(t, err, "weight %" PRIu32 " of token %zu is not a number",
					k, token);
	}
	return row ? 0 : -EINVAL;
}

static bool has_layer(const struct moe_trace_head *head, const json_t *layer)
{
	for (uint32_t i = 0; json_is_integer(layer) && i < head->layer_count; i++)
		if (json_integer_value(layer) == head->layers[i])
			return true;
	return false;
}

static int take_line(struct moe_trace *t, const json_t *object, struct moe_trace_batch *batch,
		     struct moe_error *err)
{
	const json_t *layer = json_object_get(object, "layer");
	const json_t *ids = json_object_get(object, "ids");
	const json_t *weights = json_object_get(object, "weights");
	size_t tokens = json_array_size(ids);
	int rc;

	if (!has_layer(&t->head, layer))
		return bad_line(t, err, "\"layer\" is not one of the head's \"layers\"");
	if (!tokens)
		return bad_line(t, err, "\"ids\" is not an array with at least one token");
	if (t->head.weights != (weights != NULL) || (weights && json_array_size(weights) != tokens))
		return bad_line(t, err, "\"weights\" %s",
				t->head.weights
					? "are not an array of as many tokens as \"ids\""
					: "are there, but the head has no \"weights\":true");
	rc = make_room(t, tokens, err);
	for (size_t i = 0; i < tokens && !rc; i++)
		rc = take_token(t, ids, weights, i, err);
	if (!rc)
		*batch = (struct moe_trace_batch){
			.layer = (uint32_t)json_integer_value(layer),
			.tokens = (uint32_t)tokens,
			.ids = t->ids,
			.weights = t->head.weights ? t->weights : NULL,
		};
	return rc;
}

int moe_trace_lines_next(struct moe_trace *t, struct moe_trace_batch *batch, struct moe_error *err)
{
	json_t *object;
	int rc = read_line(t, &object, err);

	if (rc || !object)
		return rc;
	rc = take_line(t, object, batch, err);
	json_decref(object);
	return rc ? rc : 1;
}

/* ---- writing ---- */

int moe_trace_begin(const char *path, const struct moe_trace_head *head, FILE **file,
		    struct moe_error *err)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return moe_error_set(err, -errno, "%s: cannot be written: %s", path,
				     strerror(errno));
	fprintf(f, "{\"schema\":\"%s\",\"experts\":%" PRIu32 ",\"topk\":%" PRIu32 ",\"layers\":[",
		schema, head->experts, head->topk);
	for (uint32_t i = 0; i < head->layer_count; i++)
		fprintf(f, "%s%" PRIu32, i ? "," : "", head->layers[i]);
	fprintf(f, "],\"weights\":%s}\n", head->weights ? "true" : "false");
	*file = f;
	return 0;
}

void moe_trace_write(FILE *f, const struct moe_trace_head *head,
		     const struct moe_trace_batch *batch)
{
	fprintf(f, "{\"layer\":%" PRIu32 ",\"ids\":[", batch->layer);
	for (uint32_t t = 0; t < batch->tokens; t++)
		for (uint32_t k = 0; k < head->topk; k++)
			fprintf(f, "%s%" PRId32,
				k   ? ","
				: t ? "],["
				    : "[",
				batch->ids[(size_t)t * head->topk + k]);
	for (uint32_t t = 0; batch->weights && t < batch->tokens; t++)
		for (uint32_t k = 0; k < head->topk; k++)
			fprintf(f, "%s%.9g",
				k   ? ","
				: t ? "],["
				    : "]],\"weights\":[[",
				(double)batch->weights[(size_t)t * head->topk + k]);
	fputs("]]}\n", f);
}

int moe_trace_end(FILE *file, const char *path, struct moe_error *err)
{
	bool failed = ferror(file);

	if (!fclose(file) && !failed)
		return 0;
	remove(path);
	return moe_error_set(err, -EIO, "%s: cannot be written: %s", path, strerror(errno));
}
