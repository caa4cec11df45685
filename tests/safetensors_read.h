/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Golden files for tests: a small reader of safetensors that shares no code with the product's and trusts its input.
 * Files are looked for under $TEST_DATA (default: tests/golden).
 */
#ifndef ACCEL_TESTS_SAFETENSORS_READ_H
#define ACCEL_TESTS_SAFETENSORS_READ_H

#include <stddef.h>
#include <stdint.h>

enum {
	GOLDEN_TENSORS_MAX = 32,
};

struct golden {
	char *header;  /* JSON, NUL-terminated */
	uint8_t *file; /* whole */
	uint8_t *data; /* where the tensors begin in it */
	unsigned copies;
	void *copy[GOLDEN_TENSORS_MAX];
};

/* golden_open - read a file, such as "gate/logits_t1.safetensors"; 0, or -errno with the reason as a TAP comment */
int golden_open(struct golden *golden, const char *name);
void golden_close(struct golden *golden);

/* golden_get - an aligned copy of a tensor, valid until close; NULL when there is none of that name and dtype */
void *golden_get(struct golden *golden, const char *tensor, const char *dtype, size_t *count);

#endif
