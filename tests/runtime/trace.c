// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Traces: each form says the same, what is written is read again, and what is wrong is named with its place. */
#define _GNU_SOURCE 1
#include "runtime/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runtime/scratch.h"
#include "tests/tap.h"

static struct moe_error err;

/* Layers 0..4, of which 2, 3 and 4 have experts; 10 experts, top-2. */
static struct moe_config small(void)
{
	struct moe_config config = moe_config_r1;

	config.experts = 10;
	config.topk = 2;
	config.groups = config.groups_kept = 1;
	config.layers = 5;
	config.first_moe = 2;
	return config;
}

static int open_bytes(const void *bytes, size_t size, const uint32_t *layers, uint32_t count,
		      struct moe_trace **trace)
{
	static struct moe_config config;
	const struct moe_trace_opts opts = {
		.config = &config, .layers = layers, .layer_count = count};

	config = small();
	err.text[0] = '\0';
	return moe_trace_open(scratch_write("trace", bytes, size), &opts, trace, &err);
}

/* All of a trace in words, such as "3:1,2;-1,0 4:5,6", with @weights; or the error's number. */
static const char *told(const void *bytes, size_t size, const uint32_t *layers, uint32_t count)
{
	static char text[4096];
	struct moe_trace_batch batch;
	struct moe_trace *trace;
	size_t used = 0;
	int rc = open_bytes(bytes, size, layers, count, &trace);

	text[0] = '\0';
	if (rc) {
		snprintf(text, sizeof(text), "open %d", rc);
		return text;
	}
	while ((rc = moe_trace_next(trace, &batch, &err)) == 1) {
		uint32_t topk = moe_trace_head(trace)->topk;

		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u:", used ? " " : "",
					 batch.layer);
		for (uint32_t i = 0; i < batch.tokens * topk; i++)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%d",
						 !i	    ? ""
						 : i % topk ? ","
							    : ";",
						 batch.ids[i]);
		for (uint32_t i = 0; batch.weights && i < batch.tokens * topk; i++)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%c%g",
						 i ? ',' : '@', (double)batch.weights[i]);
	}
	if (rc)
		snprintf(text + used, sizeof(text) - used, " next %d", rc);
	moe_trace_close(trace);
	return text;
}

static void expect(const char *got, const char *want)
{
	tap_check(!strcmp(got, want), __FILE__, __LINE__, "\"%s\", not \"%s\": %s", got, want,
		  err.text);
}

static const char *lines(const char *text)
{
	return told(text, strlen(text), NULL, 0);
}

#define HEAD "{\"schema\":\"accel-trace/1\",\"experts\":10,\"topk\":2,\"layers\":[3,4]}\n"
#define WEIGHED                                                                                    \
	"{\"schema\":\"accel-trace/1\",\"experts\":10,\"topk\":2,\"layers\":[3],\"weights\":true}\n"

TEST(trace, lines_are_read_as_they_come)
{
	expect(lines(HEAD
		     "{\"layer\":3,\"ids\":[[1,2],[-1,9]]}\n\n  {\"layer\":4,\"ids\":[[5,5]]}\n"
		     "{\"layer\":3,\"ids\":[[0,7]],\"more\":{}}"),
	       "3:1,2;-1,9 4:5,5 3:0,7");
	expect(lines(WEIGHED "{\"layer\":3,\"ids\":[[1,2]],\"weights\":[[0.5,2]]}\r\n"),
	       "3:1,2@0.5,2");
	expect(lines(HEAD), "");
}

static void refused(const char *text, const char *words)
{
	const char *got = lines(text);

	tap_check(strstr(got, "-22") && strstr(err.text, words), __FILE__, __LINE__,
		  "%s: \"%s\" does not say \"%s\"", got, err.text, words);
}

TEST(trace, lines_that_are_wrong_are_named)
{
	refused("", "empty");
	refused("{\n", "line 1: column");
	refused("{\"schema\":\"accel-trace/2\"}", "line 1: \"schema\"");
	refused("{\"schema\":\"accel-trace/1\",\"experts\":0}", "\"experts\" is not");
	refused("{\"schema\":\"accel-trace/1\",\"experts\":4097}", "1 to 4096");
	refused("{\"schema\":\"accel-trace/1\",\"experts\":10,\"topk\":65}", "1 to 64");
	refused("{\"schema\":\"accel-trace/1\",\"experts\":10,\"topk\":2}", "\"layers\"");
	refused("{\"schema\":\"accel-trace/1\",\"experts\":10,\"topk\":2,\"layers\":[4,3]}",
		"ascending");
	refused("{\"schema\":\"accel-trace/1\",\"schema\":1}", "duplicate");
	refused(HEAD "[]", "line 2: not a JSON object");
	refused(HEAD "{\"layer\":5,\"ids\":[[1,2]]}", "\"layer\"");
	refused(HEAD "{\"layer\":3}", "\"ids\"");
	refused(HEAD "{\"layer\":3,\"ids\":[]}", "at least one token");
	refused(HEAD "{\"layer\":3,\"ids\":[[1,2],[3]]}", "\"ids\" of token 1");
	refused(HEAD "{\"layer\":3,\"ids\":[[1,10]]}", "id 1 of token 0");
	refused(HEAD "{\"layer\":3,\"ids\":[[-2,1]]}", "id 0 of token 0");
	refused(HEAD "{\"layer\":3,\"ids\":[[1,2.0]]}", "id 1 of token 0");
	refused(HEAD "{\"layer\":3,\"ids\":[[1,2]],\"weights\":[[1,1]]}", "the head has no");
	refused(WEIGHED "{\"layer\":3,\"ids\":[[1,2]]}", "as many tokens");
	refused(WEIGHED "{\"layer\":3,\"ids\":[[1,2]],\"weights\":[[1]]}",
		"\"weights\" of token 0");
	refused(WEIGHED "{\"layer\":3,\"ids\":[[1,2]],\"weights\":[[1,1e39]]}", "weight 1");
	refused(HEAD "{\"layer\":3,\"ids\":[[1,2]]}\n{\"layer\"", "line 3: column");
}

TEST(trace, a_line_too_long_is_refused_before_it_is_held)
{
	size_t size = strlen(HEAD) + MOE_TRACE_LINE_BYTES_MAX + 2;
	char *text = malloc(size);

	REQUIRE(text);
	memcpy(text, HEAD, strlen(HEAD));
	memset(text + strlen(HEAD), '[', size - strlen(HEAD));
	CHECK(strstr(told(text, size, NULL, 0), "-22"));
	CHECK(strstr(err.text, "line 2: longer than 1048576"));
	free(text);
}

/* Two tokens: layers 0 and 1 are dense and hold zeros. */
static const int32_t all_layers[2][5][2] = {
	{{0, 0}, {0, 0}, {1, 2}, {3, 4}, {5, 6}},
	{{0, 0}, {0, 0}, {7, 8}, {9, 0}, {-1, 2}},
};
static const char all_told[] = "2:1,2 3:3,4 4:5,6 2:7,8 3:9,0 4:-1,2";

TEST(trace, raw_dumps_hold_all_layers_or_those_with_experts)
{
	static const uint32_t two[2] = {3, 4};
	int32_t moe_layers[2][3][2], pair[1][2][2] = {{{1, 2}, {3, 4}}};

	expect(told(all_layers, sizeof(all_layers), NULL, 0), all_told);
	for (unsigned t = 0; t < 2; t++)
		memcpy(moe_layers[t], all_layers[t][2], sizeof(moe_layers[t]));
	expect(told(moe_layers, sizeof(moe_layers), NULL, 0), all_told);
	expect(told(pair, sizeof(pair), two, 2), "3:1,2 4:3,4");
	expect(told(pair, sizeof(pair), NULL, 0), "open -22");
	CHECK(strstr(err.text, "16 bytes"));
	expect(told(all_layers, sizeof(all_layers) - 1, NULL, 0), "open -22");
}

TEST(trace, raw_dumps_are_checked)
{
	int32_t dump[1][5][2] = {{{0, 0}, {0, 0}, {1, 2}, {3, 10}, {5, 6}}};

	expect(told(dump, sizeof(dump), NULL, 0), "2:1,2 next -22");
	CHECK(strstr(err.text, "token 0 of layer 3 chose expert 10"));
	dump[0][0][1] = 99; /* a dense layer: nobody's business */
	dump[0][3][1] = -2;
	expect(told(dump, sizeof(dump), NULL, 0), "2:1,2 next -22");
}

/* As the coreutils write it, by hand: RFC 4648. */
static size_t encode(const uint8_t *bytes, size_t size, size_t width, char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t used = 0, column = 0;

	for (size_t i = 0; i < size; i += 3) {
		uint32_t three = (uint32_t)bytes[i] << 16;

		three |= i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0;
		three |= i + 2 < size ? bytes[i + 2] : 0;
		for (unsigned d = 0; d < 4; d++) {
			text[used++] = i + d > size ? '=' : digits[three >> (18 - 6 * d) & 63];
			if (width && ++column % width == 0)
				text[used++] = '\n';
		}
	}
	return used;
}

TEST(trace, base64_is_the_same_in_one_string_or_more)
{
	const uint8_t *bytes = (const uint8_t *)all_layers;
	size_t half = sizeof(all_layers) / 2, used;
	char text[512];

	for (size_t width = 0; width < 80; width += 19) {
		used = encode(bytes, 2 * half, width, text);
		expect(told(text, used, NULL, 0), all_told);
	}
	used = encode(bytes, half, 0, text);
	used += encode(bytes + half, half, 0, text + used);
	CHECK(memchr(text, '=', used / 2 + 1)); /* padded in the middle */
	expect(told(text, used, NULL, 0), all_told);
	text[7] = '*';
	expect(told(text, used, NULL, 0), "open -22");
	CHECK(strstr(err.text, "byte 8"));
	expect(told(text, 5, NULL, 0), "open -22");
}

TEST(trace, what_is_written_is_read_again)
{
	const int32_t ids[2][2] = {{3, -1}, {9, 9}};
	const float weights[2][2] = {{0.1f, 2.0f}, {3.402823466e38f, 1e-45f}};
	const struct moe_trace_head head = {
		.experts = 10, .topk = 2, .layers = {0, 7}, .layer_count = 2, .weights = true};
	const struct moe_config config = small();
	const struct moe_trace_opts opts = {.config = &config};
	const char *path = scratch("written");
	struct moe_trace_batch batch = {7, 2, ids[0], weights[0]};
	struct moe_trace *trace;
	FILE *file;

	REQUIRE_EQ(moe_trace_begin(path, &head, &file, &err), 0);
	moe_trace_write(file, &head, &batch);
	moe_trace_write(file, &head, &(struct moe_trace_batch){0, 1, ids[1], weights[1]});
	REQUIRE_EQ(moe_trace_end(file, path, &err), 0);
	REQUIRE_EQ(moe_trace_open(path, &opts, &trace, &err), 0);
	CHECK_EQ(moe_trace_head(trace)->layers[1], 7);
	REQUIRE_EQ(moe_trace_next(trace, &batch, &err), 1);
	CHECK_EQ(batch.layer, 7);
	CHECK(batch.tokens == 2 && !memcmp(batch.ids, ids, sizeof(ids)));
	CHECK(!memcmp(batch.weights, weights, sizeof(weights)));
	REQUIRE_EQ(moe_trace_next(trace, &batch, &err), 1);
	CHECK(batch.tokens == 1 && batch.ids[0] == 9);
	CHECK_EQ(moe_trace_next(trace, &batch, &err), 0);
	moe_trace_close(trace);
	moe_trace_close(NULL);
}

TEST(trace, files_that_are_missing_or_full_are_named)
{
	const struct moe_config config = small();
	const struct moe_trace_opts opts = {.config = &config};
	const struct moe_trace_head head = {.experts = 1, .topk = 1, .layer_count = 1};
	struct moe_trace *trace;
	FILE *file;

	CHECK_EQ(moe_trace_open(scratch("none"), &opts, &trace, &err), -ENOENT);
	CHECK_EQ(moe_trace_begin(scratch("no/where"), &head, &file, &err), -ENOENT);
	REQUIRE_EQ(moe_trace_begin(scratch("full"), &head, &file, &err), 0);
	fclose(file);
	file = fopen("/dev/full", "we");
	REQUIRE(file);
	fputs("x", file);
	CHECK_EQ(moe_trace_end(file, scratch("full"), &err), -EIO);
	CHECK(access(scratch("full"), F_OK));
}
