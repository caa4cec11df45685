// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Writing a safetensors file (format in safetensors.h): the header and the room for all data come first, so a full disk
 * is found before the work is done. The header is padded with spaces so that data starts at a multiple of 64 bytes.
 */
#define _GNU_SOURCE 1 /* asprintf */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "safetensors.h"

enum { HEADER_ALIGN_BYTES = 64 };

struct extent {
	uint64_t offset, size_bytes, written_bytes;
};

struct moe_safetensors_writer {
	char *path, *part; /* the name to be, and the name while it is written */
	int fd;
	size_t count;
	struct extent *tensor; /* [count] offsets in the file */
};

static int write_at(int fd, const void *data, size_t size, uint64_t offset)
{
	const uint8_t *at = data;

	while (size) {
		ssize_t n = pwrite(fd, at, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static json_t *describe(const struct moe_tensor *t, uint64_t begin, uint64_t end)
{
	json_t *shape = json_array();
	int failed = 0;

	for (unsigned d = 0; d < t->dims; d++)
		failed |= json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
	if (failed) {
		json_decref(shape);
		return NULL;
	}
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", moe_dtype_name(t->dtype), "shape", shape,
			 "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static bool is_utf8(const char *text)
{
	json_t *json = json_string(text);
	bool ok = json;

	json_decref(json);
	return ok;
}

static int add(const struct moe_safetensors_writer *w, json_t *object, const char *name,
	       json_t *value, struct moe_error *err)
{
	if (!json_object_set_new(object, name, value))
		return 0;
	return moe_error_set(err, -ENOMEM, "%s: no memory for its header", w->path);
}

/* Lay the tensors out one after the other and describe them; offsets count from the start of the data. */
static int lay_out(struct moe_safetensors_writer *w, const struct moe_tensor *tensors,
		   json_t *header, struct moe_error *err)
{
	uint64_t end = 0;

	for (size_t i = 0; i < w->count; i++) {
		const struct moe_tensor *t = &tensors[i];
		uint64_t size = moe_dtype_bytes(t->dtype), begin = end;
		bool overflow = t->dims > MOE_DIMS_MAX;
		int rc;

		for (unsigned d = 0; !overflow && d < t->dims; d++)
			overflow = __builtin_mul_overflow(size, t->shape[d], &size);
		if (overflow || size > INT64_MAX / 2 - end)
			return moe_error_set(err, -EINVAL,
					     "%s: tensor %s is larger than a file can be", w->path,
					     t->name);
		end += size;
		w->tensor[i] = (struct extent){.offset = begin, .size_bytes = size};
		if (json_object_get(header, t->name))
			return moe_error_set(err, -EINVAL, "%s: tensor %s comes twice", w->path,
					     t->name);
		rc = add(w, header, t->name, describe(t, begin, end), err);
		if (rc)
			return rc;
	}
	return 0;
}

static int check_names(const struct moe_safetensors_writer *w, const struct moe_tensor *tensors,
		       const struct moe_metadata *metadata, size_t metadata_count,
		       struct moe_error *err)
{
	for (size_t i = 0; i < w->count; i++)
		if (!is_utf8(tensors[i].name))
			return moe_error_set(err, -EINVAL, "%s: tensor name %s is not UTF-8",
					     w->path, tensors[i].name);
	for (size_t i = 0; i < metadata_count; i++)
		if (!is_utf8(metadata[i].name) || !is_utf8(metadata[i].value))
			return moe_error_set(err, -EINVAL, "%s: metadata %s is not UTF-8", w->path,
					     metadata[i].name);
	return 0;
}

static int make_header(struct moe_safetensors_writer *w, const struct moe_tensor *tensors,
		       const struct moe_metadata *metadata, size_t metadata_count, char **text,
		       struct moe_error *err)
{
	json_t *header = json_object(), *meta = json_object();
	int rc;

	rc = check_names(w, tensors, metadata, metadata_count, err);
	for (size_t i = 0; !rc && i < metadata_count; i++)
		rc = add(w, meta, metadata[i].name, json_string(metadata[i].value), err);
	if (!rc)
		rc = add(w, header, "__metadata__", json_incref(meta), err);
	if (!rc)
		rc = lay_out(w, tensors, header, err);
	if (!rc) {
		*text = json_dumps(header, JSON_COMPACT);
		if (!*text)
			rc = moe_error_set(err, -ENOMEM, "%s: no memory for its header", w->path);
	}
	json_decref(meta);
	json_decref(header);
	return rc;
}

static int begin_file(struct moe_safetensors_writer *w, const char *text, struct moe_error *err)
{
	static const char spaces[HEADER_ALIGN_BYTES] = {[0 ... HEADER_ALIGN_BYTES - 1] = ' '};
	size_t used = 8 + strlen(text);
	size_t pad = (HEADER_ALIGN_BYTES - used % HEADER_ALIGN_BYTES) % HEADER_ALIGN_BYTES;
	uint64_t n = used - 8 + pad, end = used + pad;
	uint8_t length[8];
	int rc;

	if (n > MOE_HEADER_BYTES_MAX)
		return moe_error_set(err, -EINVAL, "%s: a header of %" PRIu64 " bytes is above %d",
				     w->path, n, MOE_HEADER_BYTES_MAX);
	for (unsigned i = 0; i < 8; i++)
		length[i] = (uint8_t)(n >> 8 * i);
	for (size_t i = 0; i < w->count; i++) {
		w->tensor[i].offset += used + pad;
		end += w->tensor[i].size_bytes;
	}
	w->fd = open(w->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (w->fd < 0) {
		rc = -errno;
		return moe_error_set(err, rc, "%s: cannot be created: %s", w->part, strerror(-rc));
	}
	rc = -posix_fallocate(w->fd, 0, (off_t)end);
	if (rc)
		return moe_error_set(err, rc, "%s: no room for its %" PRIu64 " bytes: %s", w->part,
				     end, strerror(-rc));
	rc = write_at(w->fd, length, sizeof(length), 0);
	if (!rc)
		rc = write_at(w->fd, text, used - 8, 8);
	if (!rc)
		rc = write_at(w->fd, spaces, pad, used);
	if (rc)
		moe_error_set(err, rc, "%s: cannot be written: %s", w->part, strerror(-rc));
	return rc;
}

static void free_writer(struct moe_safetensors_writer *w)
{
	free(w->tensor);
	free(w->part);
	free(w->path);
	free(w);
}

int moe_safetensors_create(const char *path, const struct moe_tensor *tensors, size_t count,
			   const struct moe_metadata *metadata, size_t metadata_count,
			   struct moe_safetensors_writer **writer, struct moe_error *err)
{
	struct moe_safetensors_writer *w = calloc(1, sizeof(*w));
	char *text = NULL;
	int rc;

	if (!w)
		return moe_error_set(err, -ENOMEM, "%s: no memory to write it", path);
	w->fd = -1;
	w->count = count;
	w->path = strdup(path);
	if (asprintf(&w->part, "%s.part", path) < 0)
		w->part = NULL;
	w->tensor = calloc(count + 1, sizeof(*w->tensor));
	if (!w->path || !w->part || !w->tensor) {
		rc = moe_error_set(err, -ENOMEM, "%s: no memory to write it", path);
		goto err_free;
	}
	rc = make_header(w, tensors, metadata, metadata_count, &text, err);
	if (rc)
		goto err_free;
	rc = begin_file(w, text, err);
	free(text);
	if (rc) {
		moe_safetensors_abandon(w);
		return rc;
	}
	*writer = w;
	return 0;

err_free:
	free_writer(w);
	return rc;
}

int moe_safetensors_write(struct moe_safetensors_writer *writer, size_t number, uint64_t offset,
			  const void *data, size_t size, struct moe_error *err)
{
	struct extent *t;
	int rc;

	if (number >= writer->count)
		return moe_error_set(err, -EINVAL, "%s: tensor number %zu, but it has %zu",
				     writer->path, number, writer->count);
	t = &writer->tensor[number];
	if (size > t->size_bytes || offset > t->size_bytes - size)
		return moe_error_set(err, -EINVAL,
				     "%s: %zu bytes at %" PRIu64
				     " do not fit tensor number %zu of %" PRIu64 " bytes",
				     writer->path, size, offset, number, t->size_bytes);
	rc = write_at(writer->fd, data, size, t->offset + offset);
	if (rc)
		return moe_error_set(err, rc, "%s: cannot be written: %s", writer->part,
				     strerror(-rc));
	t->written_bytes += size;
	return 0;
}

int moe_safetensors_finish(struct moe_safetensors_writer *writer, struct moe_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < writer->count; i++) {
		const struct extent *t = &writer->tensor[i];

		if (t->written_bytes != t->size_bytes) {
			rc = moe_error_set(err, -EINVAL,
					   "%s: tensor number %zu got %" PRIu64
					   " bytes of its %" PRIu64,
					   writer->path, i, t->written_bytes, t->size_bytes);
			goto err_abandon;
		}
	}
	if (fsync(writer->fd) && errno != EINVAL) /* EINVAL: a file system without it */
		rc = -errno;
	if (close(writer->fd) && !rc)
		rc = -errno;
	writer->fd = -1;
	if (!rc && rename(writer->part, writer->path))
		rc = -errno;
	if (rc) {
		moe_error_set(err, rc, "%s: cannot be finished: %s", writer->path, strerror(-rc));
		goto err_abandon;
	}
	free_writer(writer);
	return 0;

err_abandon:
	moe_safetensors_abandon(writer);
	return rc;
}

void moe_safetensors_abandon(struct moe_safetensors_writer *writer)
{
	if (!writer)
		return;
	if (writer->fd >= 0)
		close(writer->fd);
	unlink(writer->part);
	free_writer(writer);
}
