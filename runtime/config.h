/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The geometry of a model's MoE layers: DeepSeek-R1's as data, or another of the same family from its config.json
 * (sigmoid scores with a correction bias, FP8 E4M3 weights under 128x128 scales). Only what an MoE layer needs is read;
 * attention, vocabulary and the rest of config.json are ignored.
 */
#ifndef ACCEL_RUNTIME_CONFIG_H
#define ACCEL_RUNTIME_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum {
	MOE_HIDDEN_MAX = 65536,	      /* elements of a row */
	MOE_INTERMEDIATE_MAX = 65536, /* of one expert, and of all shared experts together */
	MOE_LAYERS_MAX = 1024,
};

/* The name of each field in config.json stands beside it. */
struct moe_config {
	uint32_t hidden;	 /* hidden_size; a multiple of 8: 16 bytes of bf16 */
	uint32_t intermediate;	 /* moe_intermediate_size, of one expert */
	uint32_t experts;	 /* n_routed_experts */
	uint32_t topk;		 /* num_experts_per_tok */
	uint32_t groups;	 /* n_group; 1 where absent or null */
	uint32_t groups_kept;	 /* topk_group; 1 where absent or null */
	uint32_t shared_experts; /* n_shared_experts; 0 where absent or null */
	uint32_t layers;	 /* num_hidden_layers */
	uint32_t first_moe; /* first_k_dense_replace; layers before it are dense; 0 where absent */
	uint32_t
		moe_stride; /* moe_layer_freq; layers that it does not divide are dense; 1 where absent */
	bool normalise; /* norm_topk_prob */
	float scale;	/* routed_scaling_factor */
	float norm_eps; /* rms_norm_eps; 1e-6 where absent */
};

/** moe_config_r1 - DeepSeek-R1 */
extern const struct moe_config moe_config_r1;

/** moe_config_check - 0, or -EINVAL with a sentence that names the field, its value and the limit */
int moe_config_check(const struct moe_config *config, struct moe_error *err);

/** moe_config_is_moe - whether a layer, numbered as in the checkpoint, has routed experts */
bool moe_config_is_moe(const struct moe_config *config, uint32_t layer);

/** moe_config_shared_width - intermediate size of the shared experts, which are stored as one; 0: there are none */
uint32_t moe_config_shared_width(const struct moe_config *config);

/**
 * moe_config_parse - read the text of a config.json
 * @name: of the file, for the error
 * Return: 0; -EINVAL malformed, out of range or of another family.
 */
int moe_config_parse(const char *text, size_t size, const char *name, struct moe_config *config,
		     struct moe_error *err);

/** moe_config_read - the same from a file; also -ENOENT and what open and read return */
int moe_config_read(const char *path, struct moe_config *config, struct moe_error *err);

/** moe_config_text - a config.json that parses back to @config; the caller frees it; NULL: no memory */
char *moe_config_text(const struct moe_config *config);

/**
 * moe_config_set - set one field by its option name, as command lines do
 * @name: hidden, intermediate, experts, topk, groups, topk-groups, shared-experts or scale
 * Return: 0; -ENOENT no such option; -EINVAL not a number. Whole configurations are checked by moe_config_check().
 */
int moe_config_set(struct moe_config *config, const char *name, const char *value,
		   struct moe_error *err);

/**
 * moe_config_cover - widen the range of MoE layers so that it holds those asked for
 * For configurations that come from no checkpoint. @layers: [count], ascending
 */
void moe_config_cover(struct moe_config *config, const uint32_t *layers, uint32_t count);

/**
 * moe_layers_parse - "3,4" or "3-10" or a mixture, ascending, without repeats
 * @layers: [MOE_LAYERS_MAX]
 * Return: how many; -EINVAL.
 */
int moe_layers_parse(const char *text, uint32_t *layers, struct moe_error *err);

#endif
