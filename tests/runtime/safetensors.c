// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* safetensors files read, refused, written, and checkpoints of several. */
#define _GNU_SOURCE 1
#include "runtime/safetensors.h"

#include <errno.h>
#include <jansson.h>

#include "tests/runtime/scratch.h"
#include "tests/tap.h"

/* A file in memory: this header, then size bytes 0, 1, 2, ...; the caller frees it. */
static uint8_t *make(const char *header, size_t data_bytes, size_t *size)
{
	size_t n = strlen(header);
	uint8_t *bytes = calloc(1, 8 + n + data_bytes);

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)((uint64_t)n >> 8 * i);
	memcpy(bytes + 8, header, n);
	for (size_t i = 0; i < data_bytes; i++)
		bytes[8 + n + i] = (uint8_t)i;
	*size = 8 + n + data_bytes;
	return bytes;
}

static int parse(const char *header, size_t data_bytes, struct moe_error *err)
{
	struct moe_safetensors *file;
	size_t size;
	uint8_t *bytes = make(header, data_bytes, &size);
	int rc = moe_safetensors_parse(bytes, size, "f", &file, err);

	if (!rc)
		moe_safetensors_close(file);
	free(bytes);
	return rc;
}

#define TWO                                                                                                         \
	"{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[5,17]}," \
	"\"b\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]}}  "

TEST(safetensors, finds_tensors_where_they_lie)
{
	struct moe_safetensors *file;
	const struct moe_tensor *t;
	struct moe_error err;
	size_t size;
	uint8_t *bytes = make(TWO, 17, &size);

	REQUIRE_EQ(moe_safetensors_parse(bytes, size, "f", &file, &err), 0);
	t = moe_safetensors_find(file, "w");
	REQUIRE(t);
	CHECK_EQ(t->dtype, MOE_DTYPE_BF16);
	CHECK_EQ(t->dims, 2);
	CHECK(t->shape[0] == 2 && t->shape[1] == 3);
	CHECK_EQ(t->size_bytes, 12);
	CHECK(t->data == bytes + size - 12);
	CHECK(!moe_safetensors_find(file, "x"));
	CHECK(!moe_safetensors_find(file, "__metadata__"));
	CHECK(!strcmp(moe_safetensors_at(file, 0)->name, "b"));
	CHECK(moe_safetensors_at(file, 1) == t);
	CHECK(!moe_safetensors_at(file, 2));
	CHECK(!strcmp(moe_safetensors_metadata(file, "format"), "pt"));
	CHECK(!moe_safetensors_metadata(file, "x"));
	moe_safetensors_close(file);
	moe_safetensors_close(NULL);
	free(bytes);
}

TEST(safetensors, refuses_every_truncation_and_any_tail)
{
	struct moe_safetensors *file;
	struct moe_error err;
	size_t size;
	uint8_t *bytes = make(TWO, 18, &size);

	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *exact = malloc(cut + !cut); /* so that a sanitizer sees a read beyond it */
		int rc;

		memcpy(exact, bytes, cut);
		rc = moe_safetensors_parse(exact, cut, "cut", &file, &err);
		if (cut == size - 1) {
			CHECK_EQ(rc, 0);
			moe_safetensors_close(file);
		} else {
			tap_check(rc == -EINVAL && !strncmp(err.text, "cut: ", 5), __FILE__,
				  __LINE__, "cut at %zu: %d %s", cut, rc, err.text);
		}
		free(exact);
	}
	CHECK_EQ(moe_safetensors_parse(bytes, size, "tail", &file, &err), -EINVAL);
	CHECK(strstr(err.text, "1 bytes after the last tensor"));
	free(bytes);
}

TEST(safetensors, refuses_hostile_header_lengths)
{
	static const uint64_t lengths[] = {
		0,	  1,	    UINT64_MAX, UINT64_MAX - 7, INT64_MAX, UINT64_C(1) << 63,
		33554433, 33554432, 1000};
	struct moe_safetensors *file;
	struct moe_error err;
	size_t size;
	uint8_t *bytes = make(TWO, 17, &size);

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		for (unsigned b = 0; b < 8; b++)
			bytes[b] = (uint8_t)(lengths[i] >> 8 * b);
		CHECK_EQ(moe_safetensors_parse(bytes, size, "f", &file, &err), -EINVAL);
	}
	free(bytes);
}

#define T(dtype, shape, offsets)                                                                   \
	"{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

TEST(safetensors, refuses_hostile_headers)
{
	static const struct {
		const char *header, *says;
		size_t data_bytes;
	} cases[] = {
		{"", "header, byte", 0},
		{"[]", "not a JSON object", 0},
		{"{", "header, byte", 0},
		{"{}x", "header, byte", 0},
		{"{\"w\":1}", "w has no dtype", 0},
		{"{\"w\":null}", "w has no dtype", 0},
		{"{\"__metadata__\":[]}", "__metadata__ is not", 0},
		{"{\"__metadata__\":{\"a\":1}}", "a is not a string", 0},
		{T("1", "[1]", "[0,1]"), "w has no dtype", 1},
		{T("\"F7\"", "[1]", "[0,1]"), "\"F7\", which is unknown", 1},
		{T("\"U8\"", "1", "[0,1]"), "w has no shape", 1},
		{T("\"U8\"", "[1.0]", "[0,1]"), "shape[0]", 1},
		{T("\"U8\"", "[-1]", "[0,1]"), "shape[0]", 1},
		{T("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), "9 dimensions", 1},
		{T("\"F64\"", "[4611686018427387904]", "[0,0]"), "overflows", 0},
		{T("\"U8\"", "[4294967296,4294967296]", "[0,0]"), "overflows", 0},
		{T("\"U8\"", "[9223372036854775807,2,2]", "[0,0]"), "overflows", 0},
		{T("\"U8\"", "[99999999999999999999]", "[0,0]"), "too big", 0},
		{T("\"U8\"", "[1]", "[0]"), "not two ascending", 1},
		{T("\"U8\"", "[1]", "[0,1,2]"), "not two ascending", 1},
		{T("\"U8\"", "[1]", "{}"), "not two ascending", 1},
		{T("\"U8\"", "[1]", "[-1,0]"), "not two ascending", 1},
		{T("\"U8\"", "[1]", "[1,0]"), "not two ascending", 1},
		{T("\"U8\"", "[1]", "[0,9223372036854775807]"), "ends at byte 9223372036854775807",
		 1},
		{T("\"U8\"", "[2]", "[0,2]"), "ends at byte 2 of the data, but the file has 1", 1},
		{T("\"U8\"", "[2]", "[0,1]"), "span 1 bytes, its shape needs 2", 1},
		{T("\"U8\"", "[1]", "[1,2]"), "gap", 2},
		{"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
		 "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
		 "overlap", 3},
		{"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
		 "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
		 "overlap", 2},
		{"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
		 "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
		 "duplicate", 2},
		{"{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
		 "header, byte", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct moe_error err = {0};
		int rc = parse(cases[i].header, cases[i].data_bytes, &err);

		tap_check(rc == -EINVAL && strstr(err.text, cases[i].says), __FILE__, __LINE__,
			  "%s gives %d: %s", cases[i].header, rc, err.text);
	}
}

TEST(safetensors, accepts_what_the_format_allows)
{
	struct moe_error err = {0};

	CHECK_EQ(parse("{}", 0, &err), 0);
	CHECK_EQ(parse(T("\"F32\"", "[]", "[0,4]"), 4, &err), 0); /* a scalar */
	CHECK_EQ(parse(T("\"F8_E8M0\"", "[3,0,9]", "[0,0]"), 0, &err), 0);
	CHECK_EQ(parse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
		       "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
		       "\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
		       2, &err),
		 0);
}

TEST(safetensors, open_names_the_file)
{
	struct moe_safetensors *file;
	struct moe_error err;

	CHECK_EQ(moe_safetensors_open(scratch("absent"), &file, &err), -ENOENT);
	CHECK(strstr(err.text, "absent: No such file"));
	CHECK_EQ(moe_safetensors_open(scratch(""), &file, &err), -EINVAL);
	CHECK(strstr(err.text, "not a regular file"));
	CHECK_EQ(moe_safetensors_open(scratch_write("empty", "", 0), &file, &err), -EINVAL);
	CHECK(strstr(err.text, "truncated"));
	REQUIRE_EQ(mkfifo(scratch("fifo"), 0600), 0);
	CHECK_EQ(moe_safetensors_open(scratch("fifo"), &file, &err), -EINVAL);
	CHECK_EQ(moe_safetensors_open(scratch_write("text", "hello, this is no tensor", 24), &file,
				      &err),
		 -EINVAL);
	CHECK(strstr(err.text, "not a safetensors file"));
}

TEST(safetensors, open_reads_golden_files)
{
	struct moe_safetensors *file;
	struct moe_error err = {0};
	const struct moe_tensor *t;

	REQUIRE_EQ(moe_safetensors_open("tests/golden/moe/tiny/t1/input.safetensors", &file, &err),
		   0);
	t = moe_safetensors_find(file, "hidden_states");
	REQUIRE(t);
	CHECK_EQ(t->dtype, MOE_DTYPE_BF16);
	CHECK(t->shape[0] == 1 && t->shape[1] == 256);
	moe_safetensors_close(file);
	REQUIRE_EQ(moe_safetensors_open("tests/golden/moe/tiny/t0/layer1.safetensors", &file, &err),
		   0);
	CHECK_EQ(moe_safetensors_find(file, "output_exact")->size_bytes, 0);
	moe_safetensors_close(file);
}

TEST(safetensors, written_files_read_back)
{
	const struct moe_tensor tensors[] = {
		{"a", MOE_DTYPE_F32, 2, {3, 5}, NULL, 0},
		{"none", MOE_DTYPE_BF16, 2, {0, 7168}, NULL, 0},
		{"caf\xc3\xa9", MOE_DTYPE_U8, 1, {7}, NULL, 0},
		{"scalar", MOE_DTYPE_I64, 0, {0}, NULL, 0},
	};
	const struct moe_metadata metadata[] = {{"seed", "1"}, {"quote", "\"\n"}};
	const char *path = scratch("out.safetensors");
	struct moe_safetensors_writer *w;
	struct moe_safetensors *file;
	const struct moe_tensor *t;
	struct moe_error err = {0};
	float a[15];
	int64_t scalar = -3;

	for (int i = 0; i < 15; i++)
		a[i] = (float)i;
	REQUIRE_EQ(moe_safetensors_create(path, tensors, 4, metadata, 2, &w, &err), 0);
	CHECK(access(path, F_OK));
	CHECK_EQ(moe_safetensors_write(w, 3, 0, &scalar, 8, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 0, 20, a + 5, 40, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 2, 0, "abcdefg", 7, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 0, 0, a, 20, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 1, 0, NULL, 0, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 4, 0, a, 1, &err), -EINVAL);
	CHECK_EQ(moe_safetensors_write(w, 0, 57, a, 4, &err), -EINVAL);
	CHECK_EQ(moe_safetensors_write(w, 0, UINT64_MAX, a, 4, &err), -EINVAL);
	REQUIRE_EQ(moe_safetensors_finish(w, &err), 0);
	CHECK(access(scratch("out.safetensors.part"), F_OK));

	REQUIRE_EQ(moe_safetensors_open(path, &file, &err), 0);
	t = moe_safetensors_find(file, "a");
	CHECK_EQ((uintptr_t)t->data % 64, 0);
	CHECK(!memcmp(t->data, a, sizeof(a)));
	CHECK(!memcmp(moe_safetensors_find(file, "caf\xc3\xa9")->data, "abcdefg", 7));
	CHECK(!memcmp(moe_safetensors_find(file, "scalar")->data, &scalar, 8));
	CHECK_EQ(moe_safetensors_find(file, "none")->shape[1], 7168);
	CHECK(!strcmp(moe_safetensors_metadata(file, "quote"), "\"\n"));
	moe_safetensors_close(file);
}

TEST(safetensors, writer_leaves_nothing_half_done)
{
	const struct moe_tensor tensor = {"a", MOE_DTYPE_U8, 1, {4}, NULL, 0};
	const char *path = scratch_write("kept", "old", 3);
	struct moe_safetensors_writer *w;
	struct moe_error err;
	size_t size;
	char *text;

	REQUIRE_EQ(moe_safetensors_create(path, &tensor, 1, NULL, 0, &w, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 0, 0, "abc", 3, &err), 0);
	CHECK_EQ(moe_safetensors_finish(w, &err), -EINVAL);
	CHECK(strstr(err.text, "got 3 bytes of its 4"));
	CHECK(access(scratch("kept.part"), F_OK));
	REQUIRE_EQ(moe_safetensors_create(path, &tensor, 1, NULL, 0, &w, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 0, 0, "abcd", 4, &err), 0);
	CHECK_EQ(moe_safetensors_write(w, 0, 0, "abcd", 4, &err), 0);
	CHECK_EQ(moe_safetensors_finish(w, &err), -EINVAL); /* twice written */
	REQUIRE_EQ(moe_safetensors_create(path, &tensor, 1, NULL, 0, &w, &err), 0);
	moe_safetensors_abandon(w);
	moe_safetensors_abandon(NULL);
	CHECK(access(scratch("kept.part"), F_OK));
	text = scratch_read(path, &size);
	CHECK(!strcmp(text, "old"));
	free(text);
}

TEST(safetensors, writer_refuses_what_no_file_can_hold)
{
	const struct moe_tensor twice[] = {{"a", MOE_DTYPE_U8, 1, {1}, NULL, 0},
					   {"a", MOE_DTYPE_U8, 1, {1}, NULL, 0}};
	const struct moe_tensor reserved = {"__metadata__", MOE_DTYPE_U8, 1, {1}, NULL, 0};
	const struct moe_tensor not_utf8 = {"\xff", MOE_DTYPE_U8, 1, {1}, NULL, 0};
	const struct moe_tensor overflow = {"a", MOE_DTYPE_F64, 2, {1ull << 32, 1ull << 32}, NULL,
					    0};
	const struct moe_tensor dims = {"a", MOE_DTYPE_U8, MOE_DIMS_MAX + 1, {1}, NULL, 0};
	const struct moe_tensor huge = {"a", MOE_DTYPE_U8, 1, {1ull << 60}, NULL, 0};
	const struct moe_metadata bad = {"k", "\xff"};
	const char *path = scratch("never");
	struct moe_safetensors_writer *w;
	struct moe_error err;
	int rc;

	CHECK_EQ(moe_safetensors_create(path, twice, 2, NULL, 0, &w, &err), -EINVAL);
	CHECK(strstr(err.text, "comes twice"));
	CHECK_EQ(moe_safetensors_create(path, &reserved, 1, NULL, 0, &w, &err), -EINVAL);
	CHECK_EQ(moe_safetensors_create(path, &not_utf8, 1, NULL, 0, &w, &err), -EINVAL);
	CHECK_EQ(moe_safetensors_create(path, &overflow, 1, NULL, 0, &w, &err), -EINVAL);
	CHECK_EQ(moe_safetensors_create(path, &dims, 1, NULL, 0, &w, &err), -EINVAL);
	CHECK_EQ(moe_safetensors_create(path, NULL, 0, &bad, 1, &w, &err), -EINVAL);
	rc = moe_safetensors_create(path, &huge, 1, NULL, 0, &w, &err);
	tap_check(rc == -ENOSPC || rc == -EFBIG, __FILE__, __LINE__, "2^60 bytes give %d", rc);
	CHECK(strstr(err.text, "no room"));
	CHECK_EQ(moe_safetensors_create(scratch("no/such/dir"), twice, 1, NULL, 0, &w, &err),
		 -ENOENT);
	CHECK(access(path, F_OK) && access(scratch("never.part"), F_OK));
}

static unsigned allocations_left;

static void *fail_at_last(size_t size)
{
	return allocations_left && --allocations_left ? malloc(size) : NULL;
}

TEST(safetensors, any_failed_allocation_is_an_error)
{
	const struct moe_tensor tensors[] = {{"a", MOE_DTYPE_U8, 2, {2, 0}, NULL, 0},
					     {"b", MOE_DTYPE_F32, 1, {0}, NULL, 0}};
	const struct moe_metadata metadata = {"k", "v"};
	const char *path = scratch("sweep");
	struct moe_safetensors_writer *w;
	struct moe_safetensors *file;
	struct moe_error err;
	unsigned n;
	int rc = -1;

	for (n = 1; rc && n < 10000; n++) {
		allocations_left = n;
		json_set_alloc_funcs(fail_at_last, free);
		rc = moe_safetensors_create(path, tensors, 2, &metadata, 1, &w, &err);
		json_set_alloc_funcs(malloc, free);
		CHECK(!rc || (rc < 0 && err.text[0] && access(scratch("sweep.part"), F_OK)));
	}
	REQUIRE(n > 20 && !rc);
	REQUIRE_EQ(moe_safetensors_finish(w, &err), 0);
	for (n = 1, rc = -1; rc && n < 10000; n++) {
		allocations_left = n;
		json_set_alloc_funcs(fail_at_last, free);
		rc = moe_safetensors_open(path, &file, &err);
		json_set_alloc_funcs(malloc, free);
		CHECK(!rc || (rc < 0 && err.text[0]));
	}
	REQUIRE(n > 20 && !rc);
	CHECK_EQ(moe_safetensors_find(file, "a")->dims, 2);
	CHECK(!strcmp(moe_safetensors_metadata(file, "k"), "v"));
	moe_safetensors_close(file);
}

TEST(checkpoint, finds_tensors_across_shards)
{
	static const char *const dirs[] = {"tests/golden/moe/tiny", "tests/golden/moe/ragged"};
	static const char *const layers[] = {"1", "0"};
	struct moe_checkpoint *c;
	const struct moe_tensor *t;
	struct moe_error err = {0};
	char name[128];

	for (int i = 0; i < 2; i++) {
		REQUIRE_EQ(moe_checkpoint_open(dirs[i], &c, &err), 0);
		for (int e = 0; e < 4; e++) {
			snprintf(name, sizeof(name),
				 "model.layers.%s.mlp.experts.%d.down_proj.weight", layers[i], e);
			CHECK(moe_checkpoint_has(c, name));
			CHECK_EQ(moe_checkpoint_find(c, name, &t, &err), 0);
			CHECK(!strcmp(t->name, name));
			snprintf(name, sizeof(name),
				 "model.layers.%s.mlp.experts.%d.down_proj.weight_scale_inv",
				 layers[i], e);
			CHECK_EQ(moe_checkpoint_find(c, name, &t, &err), 0);
			CHECK_EQ(t->dtype, MOE_DTYPE_F32);
		}
		CHECK(!moe_checkpoint_has(c, "x"));
		CHECK_EQ(moe_checkpoint_find(c, "x", &t, &err), -ENOENT);
		CHECK(strstr(err.text, "tensor x is missing from model.safetensors.index.json"));
		moe_checkpoint_close(c);
	}
	moe_checkpoint_close(NULL);
}

static int index_text(const char *text, struct moe_error *err)
{
	return moe_index_check(text, strlen(text), err);
}

TEST(checkpoint, index_leads_nowhere_else)
{
	static const char *const bad[] = {
		"../model.safetensors",
		"/etc/passwd",
		"a/b.safetensors",
		"..",
		".",
		"",
		".hidden",
		"a\\u0000",
	};
	struct moe_error err;
	char text[128];

	CHECK_EQ(index_text("{\"weight_map\":{\"a\":\"model.safetensors\"}}", &err), 0);
	CHECK_EQ(index_text("{\"weight_map\":{}}", &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "{\"weight_map\":{\"a\":\"%s\"}}", bad[i]);
		CHECK_EQ(index_text(text, &err), -EINVAL);
	}
	CHECK_EQ(index_text("{\"weight_map\":{\"a\":1}}", &err), -EINVAL);
	CHECK_EQ(index_text("{\"weight_map\":[]}", &err), -EINVAL);
	CHECK_EQ(index_text("{}", &err), -EINVAL);
	CHECK_EQ(index_text("[]", &err), -EINVAL);
	CHECK_EQ(index_text("", &err), -EINVAL);
	CHECK_EQ(index_text("{\"weight_map\":{\"a\":\"b\",\"a\":\"c\"}}", &err), -EINVAL);
	CHECK(strstr(err.text, "duplicate"));
}

TEST(checkpoint, names_what_is_missing)
{
	static const char index[] =
		"{\"weight_map\":{\"b\":\"one\",\"other\":\"one\",\"c\":\"two\",\"d\":\"three\"}}";
	struct moe_checkpoint *c;
	const struct moe_tensor *t;
	struct moe_error err;
	size_t size;
	uint8_t *bytes = make(TWO, 17, &size);

	CHECK_EQ(moe_checkpoint_open(scratch("nowhere"), &c, &err), -ENOENT);
	CHECK(strstr(err.text, "not the directory of a checkpoint"));
	scratch_mkdir("ck");
	scratch_write("ck/model.safetensors.index.json", index, sizeof(index) - 1);
	scratch_write("ck/one", bytes, size);
	scratch_write("ck/three", bytes, size - 1);
	REQUIRE_EQ(moe_checkpoint_open(scratch("ck"), &c, &err), 0);
	CHECK_EQ(moe_checkpoint_find(c, "b", &t, &err), 0);
	CHECK_EQ(moe_checkpoint_find(c, "other", &t, &err), -ENOENT);
	CHECK(strstr(err.text, "ck/one: tensor other is missing"));
	CHECK_EQ(moe_checkpoint_find(c, "c", &t, &err), -ENOENT);
	CHECK(strstr(err.text, "ck/two: No such file or directory (wanted for tensor c)"));
	CHECK_EQ(moe_checkpoint_find(c, "d", &t, &err), -EINVAL);
	CHECK(strstr(err.text, "ck/three: ") && strstr(err.text, "truncated") &&
	      strstr(err.text, "tensor d"));
	moe_checkpoint_close(c);
	scratch_write("ck/model.safetensors.index.json", index, sizeof(index) - 3);
	CHECK_EQ(moe_checkpoint_open(scratch("ck"), &c, &err), -EINVAL);
	CHECK(strstr(err.text, "index.json: line 1"));
	free(bytes);
}

TEST(checkpoint, may_be_one_file)
{
	struct moe_checkpoint *c;
	const struct moe_tensor *t;
	struct moe_error err = {0};
	size_t size;
	uint8_t *bytes = make(TWO, 17, &size);

	scratch_mkdir("single");
	scratch_write("single/model.safetensors", bytes, size);
	REQUIRE_EQ(moe_checkpoint_open(scratch("single"), &c, &err), 0);
	CHECK_EQ(moe_checkpoint_find(c, "w", &t, &err), 0);
	CHECK_EQ(t->size_bytes, 12);
	CHECK(moe_checkpoint_has(c, "b") && !moe_checkpoint_has(c, "x"));
	CHECK_EQ(moe_checkpoint_find(c, "x", &t, &err), -ENOENT);
	CHECK(strstr(err.text, "single/model.safetensors: tensor x is missing"));
	moe_checkpoint_close(c);
	scratch_write("single/model.safetensors", bytes, size - 1);
	CHECK_EQ(moe_checkpoint_open(scratch("single"), &c, &err), -EINVAL);
	free(bytes);
}
