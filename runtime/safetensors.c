// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Reading: one pass over the JSON header checks each tensor alone (type, shape, bytes, within the file), one pass in
 * order of offsets checks them together (no gap, no overlap). After that nothing is checked again.
 */
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

static const struct {
	const char *name;
	size_t bytes;
} dtypes[MOE_DTYPE_COUNT] = {
	[MOE_DTYPE_BOOL] = {"BOOL", 1},	      [MOE_DTYPE_U8] = {"U8", 1},
	[MOE_DTYPE_I8] = {"I8", 1},	      [MOE_DTYPE_F8_E4M3] = {"F8_E4M3", 1},
	[MOE_DTYPE_F8_E5M2] = {"F8_E5M2", 1}, [MOE_DTYPE_F8_E8M0] = {"F8_E8M0", 1},
	[MOE_DTYPE_I16] = {"I16", 2},	      [MOE_DTYPE_U16] = {"U16", 2},
	[MOE_DTYPE_F16] = {"F16", 2},	      [MOE_DTYPE_BF16] = {"BF16", 2},
	[MOE_DTYPE_I32] = {"I32", 4},	      [MOE_DTYPE_U32] = {"U32", 4},
	[MOE_DTYPE_F32] = {"F32", 4},	      [MOE_DTYPE_I64] = {"I64", 8},
	[MOE_DTYPE_U64] = {"U64", 8},	      [MOE_DTYPE_F64] = {"F64", 8},
};

struct moe_safetensors {
	char *name; /* for errors */
	void *map;  /* what close unmaps, or NULL */
	size_t map_bytes;
	json_t *header; /* owns the names */
	const uint8_t *data;
	uint64_t data_bytes;
	size_t count;
	struct moe_tensor *tensor; /* [count] ascending by name */
};

struct shard {
	const char *name; /* the index owns it */
	struct moe_safetensors *file;
};

struct moe_checkpoint {
	char *dir;
	json_t *index;		  /* NULL: one file */
	const json_t *weight_map; /* of the index */
	struct shard *shards;
	size_t count;
};

const char *moe_dtype_name(enum moe_dtype dtype)
{
	return dtypes[dtype].name;
}

size_t moe_dtype_bytes(enum moe_dtype dtype)
{
	return dtypes[dtype].bytes;
}

static int parse_dtype(const char *file, const json_t *json, struct moe_tensor *t,
		       struct moe_error *err)
{
	if (!json_is_string(json))
		return moe_error_set(err, -EINVAL, "%s: tensor %.128s has no dtype", file, t->name);
	for (unsigned i = 0; i < MOE_DTYPE_COUNT; i++) {
		if (!strcmp(json_string_value(json), dtypes[i].name)) {
			t->dtype = (enum moe_dtype)i;
			return 0;
		}
	}
	return moe_error_set(err, -EINVAL,
			     "%s: tensor %.128s has dtype \"%.32s\", which is unknown", file,
			     t->name, json_string_value(json));
}

/* The shape, and from it the size in bytes. */
static int parse_shape(const char *file, const json_t *json, struct moe_tensor *t,
		       struct moe_error *err)
{
	uint64_t bytes = moe_dtype_bytes(t->dtype);

	if (!json_is_array(json))
		return moe_error_set(err, -EINVAL, "%s: tensor %.128s has no shape", file, t->name);
	if (json_array_size(json) > MOE_DIMS_MAX)
		return moe_error_set(err, -EINVAL, "%s: tensor %.128s has %zu dimensions, above %d",
				     file, t->name, json_array_size(json), MOE_DIMS_MAX);
	t->dims = (unsigned)json_array_size(json);
	for (unsigned i = 0; i < t->dims; i++) {
		const json_t *size = json_array_get(json, i);

		if (!json_is_integer(size) || json_integer_value(size) < 0)
			return moe_error_set(err, -EINVAL,
					     "%s: tensor %.128s: shape[%u] is not a whole number",
					     file, t->name, i);
		t->shape[i] = (uint64_t)json_integer_value(size);
		if (__builtin_mul_overflow(bytes, t->shape[i], &bytes))
			return moe_error_set(err, -EINVAL,
					     "%s: tensor %.128s: its shape overflows 2^64 bytes",
					     file, t->name);
	}
	t->size_bytes = bytes;
	return 0;
}

static int parse_offsets(const struct moe_safetensors *file, const json_t *json,
			 struct moe_tensor *t, struct moe_error *err)
{
	const json_t *first = json_array_get(json, 0), *last = json_array_get(json, 1);
	json_int_t begin = json_integer_value(first), end = json_integer_value(last);

	if (json_array_size(json) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
	    begin < 0 || end < begin)
		return moe_error_set(
			err, -EINVAL,
			"%s: tensor %.128s: data_offsets are not two ascending whole numbers",
			file->name, t->name);
	if ((uint64_t)end > file->data_bytes)
		return moe_error_set(err, -EINVAL,
				     "%s: tensor %.128s ends at byte %" JSON_INTEGER_FORMAT
				     " of the data, but the file has %" PRIu64 ": truncated?",
				     file->name, t->name, end, file->data_bytes);
	if ((uint64_t)(end - begin) != t->size_bytes)
		return moe_error_set(err, -EINVAL,
				     "%s: tensor %.128s: data_offsets span %" JSON_INTEGER_FORMAT
				     " bytes, its shape needs %" PRIu64,
				     file->name, t->name, end - begin, t->size_bytes);
	t->data = file->data + begin;
	return 0;
}

static int parse_metadata(const char *file, json_t *json, struct moe_error *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(json))
		return moe_error_set(err, -EINVAL, "%s: __metadata__ is not an object", file);
	json_object_foreach(json, name, value) if (!json_is_string(value)) return moe_error_set(
		err, -EINVAL, "%s: __metadata__: %.128s is not a string", file, name);
	return 0;
}

static int compare_name(const void *a, const void *b)
{
	return strcmp(((const struct moe_tensor *)a)->name, ((const struct moe_tensor *)b)->name);
}

static int compare_data(const void *a, const void *b)
{
	const struct moe_tensor *x = a, *y = b;

	if (x->data != y->data)
		return (const uint8_t *)x->data < (const uint8_t *)y->data ? -1 : 1;
	return (x->size_bytes > y->size_bytes) - (x->size_bytes < y->size_bytes);
}

/* The tensors in order of offsets must cover the data exactly, as the format demands. */
static int check_cover(struct moe_safetensors *file, struct moe_error *err)
{
	const uint8_t *at = file->data, *end = file->data + file->data_bytes;

	qsort(file->tensor, file->count, sizeof(*file->tensor), compare_data);
	for (size_t i = 0; i < file->count; i++) {
		const struct moe_tensor *t = &file->tensor[i];

		if ((const uint8_t *)t->data != at)
			return moe_error_set(
				err, -EINVAL,
				"%s: tensor %.128s begins at byte %td of the data, but the one before "
				"ends at %td: %s",
				file->name, t->name, (const uint8_t *)t->data - file->data,
				at - file->data, (const uint8_t *)t->data < at ? "overlap" : "gap");
		at += t->size_bytes;
	}
	if (at != end)
		return moe_error_set(err, -EINVAL,
				     "%s: %td bytes after the last tensor belong to none",
				     file->name, end - at);
	return 0;
}

static int parse_tensors(struct moe_safetensors *file, struct moe_error *err)
{
	const char *name;
	json_t *value;
	int rc;

	file->tensor = calloc(json_object_size(file->header) + 1, sizeof(*file->tensor));
	if (!file->tensor)
		return moe_error_set(err, -ENOMEM, "%s: no memory for its header", file->name);
	json_object_foreach(file->header, name, value)
	{
		struct moe_tensor *t = &file->tensor[file->count];

		if (!strcmp(name, "__metadata__")) {
			rc = parse_metadata(file->name, value, err);
			if (rc)
				return rc;
			continue;
		}
		t->name = name;
		rc = parse_dtype(file->name, json_object_get(value, "dtype"), t, err);
		if (!rc)
			rc = parse_shape(file->name, json_object_get(value, "shape"), t, err);
		if (!rc)
			rc = parse_offsets(file, json_object_get(value, "data_offsets"), t, err);
		if (rc)
			return rc;
		file->count++;
	}
	rc = check_cover(file, err);
	if (!rc)
		qsort(file->tensor, file->count, sizeof(*file->tensor), compare_name);
	return rc;
}

static int parse_header(struct moe_safetensors *file, const uint8_t *bytes, size_t size,
			struct moe_error *err)
{
	uint64_t header_bytes = 0;
	json_error_t why;

	if (size < 8)
		return moe_error_set(err, -EINVAL,
				     "%s: %zu bytes, too few for a safetensors file: truncated?",
				     file->name, size);
	for (unsigned i = 0; i < 8; i++)
		header_bytes |= (uint64_t)bytes[i] << 8 * i;
	if (header_bytes > MOE_HEADER_BYTES_MAX)
		return moe_error_set(err, -EINVAL,
				     "%s: a header of %" PRIu64
				     " bytes is above the limit of %d: not a "
				     "safetensors file?",
				     file->name, header_bytes, MOE_HEADER_BYTES_MAX);
	if (header_bytes > size - 8)
		return moe_error_set(err, -EINVAL,
				     "%s: a header of %" PRIu64
				     " bytes, but only %zu follow: truncated?",
				     file->name, header_bytes, size - 8);
	file->data = bytes + 8 + header_bytes;
	file->data_bytes = size - 8 - header_bytes;
	file->header = json_loadb((const char *)bytes + 8, header_bytes, JSON_REJECT_DUPLICATES,
				  &why);
	if (!file->header)
		return moe_error_set(err, -EINVAL, "%s: header, byte %d: %s", file->name,
				     why.position, why.text);
	if (!json_is_object(file->header))
		return moe_error_set(err, -EINVAL, "%s: the header is not a JSON object",
				     file->name);
	return parse_tensors(file, err);
}

int moe_safetensors_parse(const void *data, size_t size, const char *name,
			  struct moe_safetensors **file, struct moe_error *err)
{
	struct moe_safetensors *f = calloc(1, sizeof(*f));
	int rc;

	if (f)
		f->name = strdup(name);
	if (!f || !f->name) {
		moe_safetensors_close(f);
		return moe_error_set(err, -ENOMEM, "%s: no memory to read it", name);
	}
	rc = parse_header(f, data, size, err);
	if (rc)
		moe_safetensors_close(f);
	else
		*file = f;
	return rc;
}

int moe_safetensors_open(const char *path, struct moe_safetensors **file, struct moe_error *err)
{
	void *map = MAP_FAILED;
	struct stat st;
	int fd, rc;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* of a FIFO, too, open returns */
	if (fd < 0 || fstat(fd, &st)) {
		rc = -errno;
		moe_error_set(err, rc, "%s: %s", path, strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < 8) {
		rc = moe_error_set(err, -EINVAL, "%s: %s", path,
				   S_ISREG(st.st_mode) ? "fewer than 8 bytes: truncated?"
						       : "not a regular file");
		goto out;
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		rc = -errno;
		moe_error_set(err, rc, "%s: cannot be mapped: %s", path, strerror(errno));
		goto out;
	}
	rc = moe_safetensors_parse(map, (size_t)st.st_size, path, file, err);
	if (rc) {
		munmap(map, (size_t)st.st_size);
		goto out;
	}
	(*file)->map = map;
	(*file)->map_bytes = (size_t)st.st_size;
out:
	if (fd >= 0)
		close(fd);
	return rc;
}

void moe_safetensors_close(struct moe_safetensors *file)
{
	if (!file)
		return;
	if (file->map)
		munmap(file->map, file->map_bytes);
	free(file->tensor);
	json_decref(file->header);
	free(file->name);
	free(file);
}

const struct moe_tensor *moe_safetensors_find(const struct moe_safetensors *file, const char *name)
{
	const struct moe_tensor key = {.name = name};

	return bsearch(&key, file->tensor, file->count, sizeof(key), compare_name);
}

const struct moe_tensor *moe_safetensors_at(const struct moe_safetensors *file, size_t number)
{
	return number < file->count ? &file->tensor[number] : NULL;
}

const char *moe_safetensors_metadata(const struct moe_safetensors *file, const char *name)
{
	return json_string_value(
		json_object_get(json_object_get(file->header, "__metadata__"), name));
}

/* A shard is a plain file name: nothing in an index may lead out of its directory. */
static bool is_shard_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

static int check_index(const json_t *index, const char *path, struct moe_error *err)
{
	json_t *map = json_object_get(index, "weight_map"), *value;
	const char *name;

	if (!json_is_object(map))
		return moe_error_set(err, -EINVAL, "%s: weight_map is missing", path);
	json_object_foreach(map, name, value)
	{
		if (!json_is_string(value))
			return moe_error_set(err, -EINVAL,
					     "%s: the shard of %.128s is not a string", path, name);
		if (!is_shard_name(json_string_value(value)))
			return moe_error_set(
				err, -EINVAL,
				"%s: the shard of %.128s is \"%.64s\", not a file name in the same "
				"directory",
				path, name, json_string_value(value));
	}
	return 0;
}

int moe_index_check(const char *text, size_t size, struct moe_error *err)
{
	json_error_t why;
	json_t *index = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
	int rc;

	if (!index)
		return moe_error_set(err, -EINVAL, "index: line %d: %s", why.line, why.text);
	rc = check_index(index, "index", err);
	json_decref(index);
	return rc;
}

static int open_index(struct moe_checkpoint *c, struct moe_error *err)
{
	char path[PATH_MAX];
	json_error_t why;
	FILE *file;
	int rc;

	if (snprintf(path, sizeof(path), "%s/" INDEX_NAME, c->dir) >= (int)sizeof(path))
		return moe_error_set(err, -ENAMETOOLONG, "%.128s...: the path is too long", c->dir);
	file = fopen(path, "re");
	if (!file) {
		rc = -errno;
		return moe_error_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	c->index = json_loadf(file, JSON_REJECT_DUPLICATES, &why);
	fclose(file);
	if (!c->index)
		return moe_error_set(err, -EINVAL, "%s: line %d: %s", path, why.line, why.text);
	c->weight_map = json_object_get(c->index, "weight_map");
	return check_index(c->index, path, err);
}

/* The shard by name, opened now if it was not. */
static int open_shard(struct moe_checkpoint *c, const char *name, struct moe_safetensors **file,
		      struct moe_error *err)
{
	char path[PATH_MAX];
	struct shard *shards;
	int rc;

	for (size_t i = c->count; i-- > 0;) {
		if (!strcmp(c->shards[i].name, name)) {
			*file = c->shards[i].file;
			return 0;
		}
	}
	if (snprintf(path, sizeof(path), "%s/%s", c->dir, name) >= (int)sizeof(path))
		return moe_error_set(err, -ENAMETOOLONG, "%.128s...: the path is too long", c->dir);
	shards = realloc(c->shards, (c->count + 1) * sizeof(*shards));
	if (!shards)
		return moe_error_set(err, -ENOMEM, "%s: no memory to open it", path);
	c->shards = shards;
	rc = moe_safetensors_open(path, &shards[c->count].file, err);
	if (rc)
		return rc;
	shards[c->count].name = name;
	*file = shards[c->count++].file;
	return 0;
}

int moe_checkpoint_open(const char *dir, struct moe_checkpoint **checkpoint, struct moe_error *err)
{
	struct moe_checkpoint *c = calloc(1, sizeof(*c));
	struct moe_safetensors *file;
	int rc;

	if (c)
		c->dir = strdup(dir);
	if (!c || !c->dir) {
		rc = moe_error_set(err, -ENOMEM, "%s: no memory to open it", dir);
		goto err_close;
	}
	rc = open_index(c, err);
	if (rc == -ENOENT) {
		rc = open_shard(c, SINGLE_NAME, &file, err);
		if (rc == -ENOENT)
			moe_error_set(err, rc,
				      "%s: neither " INDEX_NAME " nor " SINGLE_NAME
				      " is there: not the directory of a checkpoint",
				      dir);
	}
	if (rc)
		goto err_close;
	*checkpoint = c;
	return 0;

err_close:
	moe_checkpoint_close(c);
	return rc;
}

void moe_checkpoint_close(struct moe_checkpoint *checkpoint)
{
	if (!checkpoint)
		return;
	for (size_t i = 0; i < checkpoint->count; i++)
		moe_safetensors_close(checkpoint->shards[i].file);
	free(checkpoint->shards);
	json_decref(checkpoint->index);
	free(checkpoint->dir);
	free(checkpoint);
}

bool moe_checkpoint_has(const struct moe_checkpoint *checkpoint, const char *name)
{
	if (checkpoint->index)
		return json_object_get(checkpoint->weight_map, name);
	return moe_safetensors_find(checkpoint->shards[0].file, name);
}

int moe_checkpoint_find(struct moe_checkpoint *checkpoint, const char *name,
			const struct moe_tensor **tensor, struct moe_error *err)
{
	const char *shard = SINGLE_NAME;
	const struct moe_tensor *found;
	struct moe_safetensors *file;
	struct moe_error why;
	int rc;

	if (checkpoint->index)
		shard = json_string_value(json_object_get(checkpoint->weight_map, name));
	if (!shard)
		return moe_error_set(err, -ENOENT, "%s: tensor %s is missing from " INDEX_NAME,
				     checkpoint->dir, name);
	rc = open_shard(checkpoint, shard, &file, &why);
	if (rc)
		return moe_error_set(err, rc, "%.350s (wanted for tensor %s)", why.text, name);
	found = moe_safetensors_find(file, name);
	if (!found)
		return moe_error_set(err, -ENOENT, "%s/%s: tensor %s is missing", checkpoint->dir,
				     shard, name);
	*tensor = found;
	return 0;
}
