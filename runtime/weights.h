/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The weights of a model's MoE layers as the kernels read them, from a checkpoint in the published format, mapped
 * and never copied, or made from a seed (synthetic.h), behind the same calls.
 *
 * Of layer N the checkpoint has, with O = model.layers.N and P one of gate_proj, up_proj, down_proj:
 *     O.mlp.gate.weight BF16 [E,H]    O.mlp.gate.e_score_correction_bias F32 [E]
 *     O.mlp.experts.e.P.weight F8_E4M3 [out,in]    O.mlp.experts.e.P.weight_scale_inv F32 [out/128,in/128], up
 *     O.mlp.shared_experts.P.weight, .weight_scale_inv likewise, n times as wide
 *     O.post_attention_layernorm.weight BF16 [H], which may be absent
 */
#ifndef ACCEL_RUNTIME_WEIGHTS_H
#define ACCEL_RUNTIME_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "error.h"
#include "safetensors.h"
#include "team.h"

/* The numbers are part of how synthetic weights are made (synthetic.h). */
enum moe_tensor_id {
	MOE_TENSOR_GATE_PROJ = 0,
	MOE_TENSOR_UP_PROJ = 1,
	MOE_TENSOR_DOWN_PROJ = 2,
	MOE_TENSOR_GATE_PROJ_SCALE = 3,
	MOE_TENSOR_UP_PROJ_SCALE = 4,
	MOE_TENSOR_DOWN_PROJ_SCALE = 5,
	MOE_TENSOR_GATE = 6,
	MOE_TENSOR_BIAS = 7,
	MOE_TENSOR_NORM = 8,
};

#define MOE_EXPERT_SHARED 0xffffffffu
#define MOE_EXPERT_NONE 0xfffffffeu /* of a tensor that belongs to the layer */

/* weight = code * scale of its 128x128 block: the fields in, out, weight and weight_scale of struct k_gemm. */
struct moe_matrix {
	uint32_t in, out;
	const uint8_t *codes; /* [out,in] E4M3 */
	const float *scales;  /* [ceil(out/128),ceil(in/128)] */
};

struct moe_expert {
	struct moe_matrix gate, up, down;
};

struct moe_layer {
	uint32_t number;	  /* as the checkpoint numbers it */
	const uint16_t *gate;	  /* [E,H] bf16 */
	const float *bias;	  /* [E] */
	const uint16_t *norm;	  /* [H] bf16, or NULL */
	struct moe_expert shared; /* all zero where the model has none */
};

/** struct moe_tensor_spec - what a tensor is called in a checkpoint and what it must be */
struct moe_tensor_spec {
	char name[112];
	enum moe_dtype dtype;
	unsigned dims;
	uint64_t shape[2];
	uint64_t size_bytes;
};

/** moe_tensor_spec - fill in the specification of one tensor; @expert may be MOE_EXPERT_SHARED or MOE_EXPERT_NONE */
void moe_tensor_spec(const struct moe_config *config, uint32_t layer, uint32_t expert,
		     enum moe_tensor_id tensor, struct moe_tensor_spec *spec);

/** moe_expert_bytes - codes and scales of one routed expert */
uint64_t moe_expert_bytes(const struct moe_config *config);

/** moe_progress_fn - told now and then, from the calling thread; @done reaches @total */
typedef void moe_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);

struct moe_weights_opts {
	const char *dir;		 /* of the checkpoint; NULL: synthetic */
	const struct moe_config *config; /* synthetic only; a checkpoint brings its own */
	uint64_t seed;			 /* synthetic only */
	uint64_t cache_bytes; /* synthetic only: of all that is made; 0: half of what is free */
	uint32_t
		experts_resident; /* synthetic only: as many as are worth keeping; 0: all there is room for */
	const uint32_t *layers; /* [layer_count] ascending, as the checkpoint numbers them */
	uint32_t layer_count;
	uint32_t expert_first; /* the experts this rank owns */
	uint32_t expert_count;
	bool preload;	       /* read or make the experts now, as many as there is room for */
	struct moe_team *team; /* synthetic only: makes them faster; NULL: the caller alone */
	moe_progress_fn *progress;
	void *progress_arg;
};

struct moe_weights;

/**
 * moe_weights_open - find and check every tensor of the layers asked for
 * Return: 0; -ENOENT a file or tensor is missing; -EINVAL a bad option, file, type, shape, or a scale, bias or gate
 * weight that is not finite; -ENOMEM. The sentence names the tensor and both values.
 */
int moe_weights_open(const struct moe_weights_opts *opts, struct moe_weights **weights,
		     struct moe_error *err);
void moe_weights_close(struct moe_weights *weights);

const struct moe_config *moe_weights_config(const struct moe_weights *weights);

/** moe_weights_layer - the @index-th of the layers asked for */
const struct moe_layer *moe_weights_layer(const struct moe_weights *weights, uint32_t index);

/**
 * moe_weights_get - one of this rank's experts, readable until moe_weights_put
 * @index:  of the layer, as in moe_weights_layer()
 * @expert: expert_first .. expert_first + expert_count - 1
 * One thread at a time.
 * Return: 0; -EAGAIN (synthetic) all the room is held: use what you have, put it, ask again; -EINVAL; -ENOMEM.
 */
int moe_weights_get(struct moe_weights *weights, uint32_t index, uint32_t expert,
		    struct moe_expert *out, struct moe_error *err);
void moe_weights_put(struct moe_weights *weights, uint32_t index, uint32_t expert);

/** moe_weights_bytes - bytes of all tensors this rank reads, mapped or to be made */
uint64_t moe_weights_bytes(const struct moe_weights *weights);

#endif
