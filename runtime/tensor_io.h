/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The files with which anyone can feed layers and check what came out, safetensors both; N tokens, L layers, R ranks.
 *
 * IN   hidden_states BF16|F32 [N,H]; rank r takes its share in order
 *      rank_offsets I64 [R+1]: optional; rank r takes rows rank_offsets[r]..rank_offsets[r+1]-1; else an even split
 *      topk_ids I32|I64 [L,N,K] and topk_weights F32 [L,N,K]: optional, both or none; then the gate is not run
 * OUT  hidden_states BF16 [N,H] after the last layer; moe_out BF16 [L,N,H] before the residual; topk_ids I32 [L,N,K];
 *      topk_weights F32 [L,N,K]; scores F32 [L,N,E] if wanted; recv_tokens I64 [L,R,S] by rank and slot, S being the
 *      most slots of a rank, -1 where it has no such slot; slot_experts I64 [L,R,S] the expert in each, or -1;
 *      incomplete U8 [N]; __metadata__ as the caller says
 */
#ifndef ACCEL_RUNTIME_TENSOR_IO_H
#define ACCEL_RUNTIME_TENSOR_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "error.h"
#include "safetensors.h"

struct moe_input {
	uint32_t tokens;  /* N */
	uint16_t *hidden; /* [N,H] bf16, a copy */
	int64_t *
		rank_offsets; /* [R+1], given or the even split: the first N mod R ranks take one more */
	int32_t *topk_ids;   /* [L,N,K], or NULL: run the gate; -1: none */
	float *topk_weights; /* [L,N,K], or NULL */
};

/**
 * moe_input_read - read and check an IN file
 * F32 states are rounded to nearest even; ids must be -1 or below config->experts.
 * Return: 0; -EINVAL with a sentence that names the tensor and both values; as moe_safetensors_open(); -ENOMEM.
 */
int moe_input_read(const char *path, const struct moe_config *config, uint32_t layers,
		   uint32_t ranks, struct moe_input *input, struct moe_error *err);
void moe_input_fini(struct moe_input *input);

enum moe_output_id {
	MOE_OUTPUT_HIDDEN_STATES,
	MOE_OUTPUT_MOE_OUT,
	MOE_OUTPUT_TOPK_IDS,
	MOE_OUTPUT_TOPK_WEIGHTS,
	MOE_OUTPUT_RECV_TOKENS,
	MOE_OUTPUT_INCOMPLETE,
	MOE_OUTPUT_SCORES,
	MOE_OUTPUT_SLOT_EXPERTS,
};

struct moe_output;

/**
 * moe_output_create - begin an OUT file
 * @slots: S, the most slots of a rank
 * @scores: whether it has scores
 * Return: as moe_safetensors_create().
 */
int moe_output_create(const char *path, const struct moe_config *config, uint32_t tokens,
		      uint32_t layers, uint32_t ranks, uint32_t slots, bool scores,
		      const struct moe_metadata *metadata, size_t metadata_count,
		      struct moe_output **output, struct moe_error *err);

/**
 * moe_output_write - rows of one layer's part of a tensor
 * @layer: 0-based among those that run; 0 for tensors without layers
 * @row, @rows: tokens, or ranks for recv_tokens
 * @data:  [rows, columns] in the tensor's dtype
 * Return: 0; -EINVAL beyond the tensor, or scores in a file without; what pwrite returns.
 */
int moe_output_write(struct moe_output *output, enum moe_output_id id, uint32_t layer, uint32_t row,
		     uint32_t rows, const void *data, struct moe_error *err);

/** moe_output_finish - as moe_safetensors_finish(): every element must have been written once */
int moe_output_finish(struct moe_output *output, struct moe_error *err);

/** moe_output_abandon - delete the unfinished file; NULL allowed */
void moe_output_abandon(struct moe_output *output);

#endif
