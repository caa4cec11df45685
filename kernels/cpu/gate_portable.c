// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The gate's logits in plain C that compilers turn into vectors: each weight row is read once for a tile of tokens. */
#define ACCEL_NUM_FLOAT
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

/* Each lane's bf16 as a float; missing columns become zeros, whose products change no sum. */
static inline void load(const void *row, size_t column, size_t hidden, float value[K_GATE_LANES])
{
	uint16_t bf16[K_GATE_LANES] = {0};
	uint32_t bits[K_GATE_LANES], i;

	if (hidden - column >= K_GATE_LANES)
		memcpy(bf16, (const char *)row + column * 2, sizeof(bf16));
	else
		memcpy(bf16, (const char *)row + column * 2, (hidden - column) * 2);
	for (i = 0; i < K_GATE_LANES; i++)
		bits[i] = (uint32_t)bf16[i] << 16;
	memcpy(value, bits, sizeof(bits));
}

static void logits(const struct k_gate *gate, uint32_t first, uint32_t count, float *out)
{
	float lane[K_GATE_TOKENS][K_GATE_LANES], weight[K_GATE_LANES], x[K_GATE_LANES];
	uint32_t expert, token, i;
	size_t column;
	const void *row;

	for (expert = 0; expert < gate->experts; expert++) {
		row = gate->weight + (size_t)expert * gate->hidden;
		memset(lane, 0, sizeof(lane));
		for (column = 0; column < gate->hidden; column += K_GATE_LANES) {
			load(row, column, gate->hidden, weight);
			for (token = 0; token < count; token++) {
				load(k_at(gate->x, gate->x_stride, first + token), column,
				     gate->hidden, x);
				for (i = 0; i < K_GATE_LANES; i++)
					lane[token][i] += weight[i] * x[i];
			}
		}
		for (token = 0; token < count; token++)
			out[(size_t)token * gate->experts + expert] = k_gate_sum(lane[token]);
	}
}

int k_portable_gate_topk(const struct k_gate *gate, unsigned part, unsigned parts)
{
	return k_gate_run(gate, part, parts, logits);
}
