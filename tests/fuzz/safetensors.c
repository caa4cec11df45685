// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A safetensors file, and the index of a checkpoint, as hostile files. The input is taken as it is and, so that most of
 * the effort reaches the checks of tensors, also as a header before 64 bytes of data. Every byte of every tensor
 * accepted is read.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/safetensors.h"

enum { DATA_BYTES = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum;

static void read_all(const uint8_t *bytes, size_t size)
{
	struct moe_safetensors *file;
	const struct moe_tensor *t;
	struct moe_error err;
	uint64_t total = 0;

	if (moe_safetensors_parse(bytes, size, "fuzz", &file, &err)) {
		if (!memchr(err.text, 0, sizeof(err.text)) || !err.text[0])
			abort();
		return;
	}
	for (size_t i = 0; (t = moe_safetensors_at(file, i)); i++) {
		uint64_t expect = moe_dtype_bytes(t->dtype);

		for (unsigned d = 0; d < t->dims; d++)
			expect *= t->shape[d];
		if (expect != t->size_bytes || moe_safetensors_find(file, t->name) != t)
			abort();
		for (uint64_t b = 0; b < t->size_bytes; b++)
			sum += ((const uint8_t *)t->data)[b];
		total += t->size_bytes;
	}
	if (total > size - 8)
		abort();
	moe_safetensors_metadata(file, "format");
	moe_safetensors_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *whole = calloc(1, 8 + size + DATA_BYTES);
	struct moe_error err;

	if (!whole)
		return 0;
	read_all(data, size);
	moe_index_check((const char *)data, size, &err);
	for (unsigned i = 0; i < 8; i++)
		whole[i] = (uint8_t)((uint64_t)size >> 8 * i);
	memcpy(whole + 8, data, size);
	read_all(whole, 8 + size + DATA_BYTES);
	free(whole);
	return 0;
}
