/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Seeded weights: every element is a function of (seed, layer, expert, tensor, index) and the model's geometry, so
 * that ranks, a written checkpoint and a checker in another language agree without exchanging a byte.
 *
 * All integers are unsigned 64-bit, arithmetic modulo 2^64; >> is a logical shift; f32 and f64 are IEEE, every
 * operation rounded to nearest even.
 *
 *     G = 0x9e3779b97f4a7c15        M = 0xd6e8feb86659fd93
 *
 * Key of a tensor. S is the step of splitmix64:
 *     S(z): z = z + G
 *           z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
 *           z = (z ^ (z >> 27)) * 0x94d049bb133111eb
 *           return z ^ (z >> 31)
 *     key = S(S(S(S(seed) ^ layer) ^ expert) ^ tensor)
 * layer is the checkpoint's number of the layer. expert is the number of a routed expert, 0xffffffff for the shared
 * expert (all shared experts are one of n times the width), 0xfffffffe for tensors of the layer itself. tensor:
 *     0 gate_proj.weight   1 up_proj.weight   2 down_proj.weight    (of an expert)
 *     3 gate_proj.weight_scale_inv   4 up_proj.weight_scale_inv   5 down_proj.weight_scale_inv
 *     6 mlp.gate.weight   7 mlp.gate.e_score_correction_bias   8 post_attention_layernorm.weight   (of a layer)
 *
 * Word i of a tensor:
 *     z = key + i * G
 *     z = (z ^ (z >> 32)) * M
 *     word(i) = z ^ (z >> 32)
 *
 * Elements, numbered row-major over the whole tensor (rows are not padded):
 *
 * Weight codes (0, 1, 2), E4M3, eight a word, the first in the lowest byte: with w = word(index / 8),
 *     w = (w & 0xbfbfbfbfbfbfbfbf) + 0x3f3f3f3f3f3f3f3f           (no byte carries into the next)
 *     code = (w >> 8 * (index % 8)) & 0xff
 * that is a random sign and a magnitude code from 0x3f to 0x7e, 1.875 to 448, even in code: never NaN, never zero.
 * Their mean square is exactly 19866.363525390625.
 *
 * Scales (3, 4, 5), f32 [ceil(out / 128), ceil(in / 128)], one a word, `in` being the columns of the weight (H for
 * gate and up, the width of the expert for down):
 *     base = f32(1.0 / sqrt(19866.363525390625 * in))             one product, root and quotient in f64, then f32
 *     u = f32(word(index) >> 41) * 2^-23                          exact, 0 <= u < 1
 *     scale = base * (u + 0.5f)                                   the sum is exact, the product rounded once to f32
 *
 * Gate weight (6), bf16 [E,H], four a word, the first in the lowest 16 bits: n = the least integer with
 * 4^n >= 49 * H, then with w = word(index / 4) >> 16 * (index % 4),
 *     bits = (w & 0x81ff) + ((127 - n) << 7)
 * a random sign, one of four exponents and a random mantissa; n makes logits of unit rows of order 1/2 to 1.
 *
 * Bias (7), f32 [E], one a word: (u - 0.5f) * 0.125f, u as above; exact. From -1/16 to 1/16.
 *
 * Norm weight (8), bf16 [H], four a word like the gate's: bits = 0x3f40 + (w & 0x7f). From 0.75 to 1.5.
 */
#ifndef ACCEL_RUNTIME_SYNTHETIC_H
#define ACCEL_RUNTIME_SYNTHETIC_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "error.h"
#include "team.h"
#include "weights.h"

/**
 * moe_synthetic_fill - elements of one tensor
 * @layer, @expert: as numbered above (MOE_EXPERT_SHARED, MOE_EXPERT_NONE)
 * @first:  index of the first element; a multiple of 8
 * @count:  how many elements
 * @dst:    takes them; any alignment
 */
void moe_synthetic_fill(const struct moe_config *config, uint64_t seed, uint32_t layer,
			uint32_t expert, enum moe_tensor_id tensor, uint64_t first, uint64_t count,
			void *dst);

/**
 * moe_synthetic_cache_bytes - what one of @sharers processes of this host may keep resident
 * Half of the memory available (MemAvailable and what the cgroup leaves), shared evenly.
 */
uint64_t moe_synthetic_cache_bytes(unsigned sharers);

struct moe_synthetic;

struct moe_synthetic_stats {
	uint64_t made, evicted;	 /* experts, since create */
	uint64_t resident_bytes; /* of slots, used or kept for reuse */
	uint32_t slots, slots_max;
};

/**
 * moe_synthetic_create - a bounded cache of experts made on first use
 * @bytes: bound of all slots together; 0: moe_synthetic_cache_bytes(1)
 * @team:  threads that make an expert together, or NULL: the caller alone
 * One thread at a time. Each slot is an anonymous mapping of its own, reused for the next expert, freed by destroy.
 * Return: 0; -EINVAL; -ENOMEM also where not even one expert fits into @bytes.
 */
int moe_synthetic_create(const struct moe_config *config, uint64_t seed, uint64_t bytes,
			 struct moe_team *team, struct moe_synthetic **cache,
			 struct moe_error *err);
void moe_synthetic_destroy(struct moe_synthetic *cache);

/**
 * moe_synthetic_get - an expert, made now if it is not resident; the least recently used makes room
 * Return: 0; -EAGAIN all slots are held: put one first; -ENOMEM.
 */
int moe_synthetic_get(struct moe_synthetic *cache, uint32_t layer, uint32_t expert,
		      struct moe_expert *out, struct moe_error *err);

/** moe_synthetic_put - end of one get */
void moe_synthetic_put(struct moe_synthetic *cache, uint32_t layer, uint32_t expert);

void moe_synthetic_stats(const struct moe_synthetic *cache, struct moe_synthetic_stats *stats);

#endif
