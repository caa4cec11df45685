// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See safetensors_read.h. A file is: u64 length of the header, the header (JSON), the tensors' bytes; little-endian. */
#include "safetensors_read.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_file(const char *path, uint8_t **bytes, size_t *size_bytes)
{
	FILE *file = fopen(path, "rb");
	int err = -EIO;
	long end;

	if (!file)
		return errno ? -errno : -EIO;
	if (fseek(file, 0, SEEK_END) || (end = ftell(file)) < 8)
		goto close_file;
	rewind(file);
	*size_bytes = (size_t)end;
	*bytes = malloc(*size_bytes);
	if (*bytes && fread(*bytes, 1, *size_bytes, file) == *size_bytes)
		err = 0;
	else
		free(*bytes);
close_file:
	fclose(file);
	return err;
}

int golden_open(struct golden *golden, const char *name)
{
	const char *folder = getenv("TEST_DATA");
	uint64_t header_bytes;
	size_t size_bytes = 0;
	char path[4096];
	int err;

	memset(golden, 0, sizeof(*golden));
	snprintf(path, sizeof(path), "%s/%s", folder ? folder : "tests/golden", name);
	err = read_file(path, &golden->file, &size_bytes);
	if (err) {
		tap_diag("%s: %s (set TEST_DATA to the folder with the golden files)", path,
			 strerror(-err));
		return err;
	}
	memcpy(&header_bytes, golden->file, sizeof(header_bytes));
	golden->header = header_bytes <= size_bytes - 8
				 ? strndup((char *)golden->file + 8, header_bytes)
				 : NULL;
	if (!golden->header) {
		tap_diag("%s: not a safetensors file", path);
		golden_close(golden);
		return -EINVAL;
	}
	golden->data = golden->file + 8 + header_bytes;
	return 0;
}

void golden_close(struct golden *golden)
{
	unsigned i;

	for (i = 0; i < golden->copies; i++)
		free(golden->copy[i]);
	free(golden->header);
	free(golden->file);
	memset(golden, 0, sizeof(*golden));
}

static size_t element_bytes(const char *dtype)
{
	if (!strcmp(dtype, "F32") || !strcmp(dtype, "I32"))
		return 4;
	return !strcmp(dtype, "BF16") ? 2 : 1;
}

void *golden_get(struct golden *golden, const char *tensor, const char *dtype, size_t *count)
{
	size_t begin, end;
	char text[128];
	const char *at;
	void *copy;

	snprintf(text, sizeof(text), "\"%s\":{", tensor);
	at = strstr(golden->header, text);
	snprintf(text, sizeof(text), "{\"dtype\":\"%s\",", dtype);
	if (!at || !(at = strchr(at, '{')) || strncmp(at, text, strlen(text)))
		return NULL;
	at = strstr(at, "\"data_offsets\":[");
	if (!at || sscanf(at, "\"data_offsets\":[%zu,%zu]", &begin, &end) != 2)
		return NULL;
	copy = malloc(end - begin + 1); /* one more, so that an empty tensor is not NULL */
	if (!copy || golden->copies == GOLDEN_TENSORS_MAX) {
		free(copy);
		return NULL;
	}
	golden->copy[golden->copies++] = memcpy(copy, golden->data + begin, end - begin);
	*count = (end - begin) / element_bytes(dtype);
	return copy;
}
