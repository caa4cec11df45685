# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
"""Where the oracle's weights come from: a checkpoint in R1's format, or the seeded generator.

Both have config, router(layer), norm(layer) and expert(layer, number), which gives three Matrix
objects: gate, up, down. The generator is written anew from the text at the top of
runtime/synthetic.h, which is its specification.
"""

import json
import math
import os

import numpy as np

from tensors import File, Malformed, Missing, bf16_decode, e4m3_decode

SHARED = 0xFFFFFFFF
LAYER_ITSELF = 0xFFFFFFFE
BLOCK = 128

R1 = {
    "hidden_size": 7168,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "n_shared_experts": 1,
    "rms_norm_eps": 1e-6,
}


class Config:
    """The geometry of an MoE layer, from a config.json as a dictionary."""

    def __init__(self, values):
        try:
            self.hidden = values["hidden_size"]
            self.intermediate = values["moe_intermediate_size"]
            self.experts = values["n_routed_experts"]
            self.topk = values["num_experts_per_tok"]
        except KeyError as error:
            raise Missing(f"config.json: no {error.args[0]}") from error
        self.groups = values.get("n_group") or 1
        self.groups_kept = values.get("topk_group") or 1
        self.scale = values.get("routed_scaling_factor", 1.0)
        self.normalise = values.get("norm_topk_prob", True)
        self.shared_width = (values.get("n_shared_experts") or 0) * self.intermediate
        self.eps = values.get("rms_norm_eps", 1e-6)
        block = values.get("quantization_config", {}).get("weight_block_size", [BLOCK, BLOCK])
        if block != [BLOCK, BLOCK]:
            raise Malformed(f"config.json: weight_block_size is {block}, not [128, 128]")


_buffers = {}


def scratch(name, count, dtype):
    """A reused buffer: fresh pages for every block would cost more than the arithmetic on them."""
    if len(_buffers.get(name, ())) < count:
        _buffers[name] = np.empty(count, dtype)
    return _buffers[name][:count]


class Matrix:
    """An E4M3 weight [out,in] under 128x128 scales, made or read 128 rows at a time.

    codes(first, last) gives rows of codes that stay valid until more are asked for.
    """

    def __init__(self, shape, scale, codes):
        self.shape, self.scale, self.codes = shape, scale, codes
        blocks = tuple(-(-n // BLOCK) for n in shape)
        if scale.shape != blocks:
            raise Malformed(f"the scales of a weight {shape} are {scale.shape}, not {blocks}")

    def apply(self, x, columns=None):
        """(x times the transposed weight, the L2 norm of each of `columns`), float32."""
        height, width = self.shape
        y = np.empty((height, len(x)), np.float32)
        square = np.zeros(0 if columns is None else len(columns))
        buf = scratch("values", BLOCK * width, np.float32)
        for row in range(0, height, BLOCK):
            w = e4m3_decode(self.codes(row, min(row + BLOCK, height)), buf)
            w *= np.repeat(self.scale[row // BLOCK], BLOCK)[:width]
            np.matmul(w, x.T, out=y[row : row + BLOCK])
            if len(square):
                square += np.square(w[:, columns]).sum(0)
        return y.T, np.sqrt(square)


class Checkpoint:
    """A folder with config.json, model.safetensors.index.json and the shards it names."""

    def __init__(self, folder):
        self.folder, self.files = folder, {}
        self.config = Config(self._json("config.json"))
        self.index = self._json("model.safetensors.index.json")["weight_map"]

    def _json(self, name):
        path = os.path.join(self.folder, name)
        try:
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        except OSError as error:
            raise Missing(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise Malformed(f"{path}: {error}") from error

    def _file(self, name):
        if name not in self.index:
            raise Missing(f"{self.folder}/model.safetensors.index.json: no tensor {name}")
        shard = self.index[name]
        if shard not in self.files:
            self.files[shard] = File(os.path.join(self.folder, shard))
        return self.files[shard]

    def _floats(self, name, shape):
        tensor = self._file(name).floats(name)
        if tensor.shape != shape:
            raise Malformed(f"{name} is {tensor.shape}, not {shape}")
        return tensor

    def router(self, layer):
        prefix = f"model.layers.{layer}.mlp.gate"
        return (
            self._floats(f"{prefix}.weight", (self.config.experts, self.config.hidden)),
            self._floats(f"{prefix}.e_score_correction_bias", (self.config.experts,)),
        )

    def norm(self, layer):
        name = f"model.layers.{layer}.post_attention_layernorm.weight"
        if name not in self.index:
            return np.ones(self.config.hidden, np.float32)
        return self._floats(name, (self.config.hidden,))

    def expert(self, layer, number):
        width = self.config.shared_width if number == SHARED else self.config.intermediate
        prefix = f"model.layers.{layer}.mlp." + (
            "shared_experts" if number == SHARED else f"experts.{number}"
        )
        return [
            self._matrix(f"{prefix}.{part}_proj.weight", shape)
            for part, shape in expert_shapes(self.config.hidden, width)
        ]

    def _matrix(self, name, shape):
        file = self._file(name)
        if file.dtype(name) != "F8_E4M3" or file.get(name).shape != shape:
            raise Malformed(
                f"{name} is {file.dtype(name)} {file.get(name).shape}, not F8_E4M3 {shape}"
            )
        codes = file.get(name)
        scale = self._file(f"{name}_scale_inv").floats(f"{name}_scale_inv")
        return Matrix(shape, scale, lambda first, last: codes[first:last])


class Synthetic:
    """The seeded generator: every element from (seed, layer, expert, tensor, index)."""

    G, M, MASK = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 2**64 - 1
    WEIGHT, SCALE, ROUTER, BIAS, NORM = (0, 1, 2), (3, 4, 5), 6, 7, 8
    MEAN_SQUARE = 19866.363525390625  # of a weight code's value

    def __init__(self, seed, config):
        self.seed, self.config = seed, config
        # The counter part of a whole 128-row block's words, computed once.
        width = max(config.hidden, config.intermediate, config.shared_width)
        words = max(BLOCK * width, config.experts * config.hidden, 8) // 4 + 2
        self.counter = np.arange(words, dtype=np.uint64) * np.uint64(self.G)

    def _key(self, layer, expert, tensor):
        key = self._step(self.seed)
        for part in (layer, expert, tensor):
            key = self._step(key ^ part)
        return key

    def _step(self, z):
        z = (z + self.G) & self.MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & self.MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & self.MASK
        return z ^ (z >> 31)

    def _words(self, key, first, count):
        out, shifted = scratch("words", count, np.uint64), scratch("shifted", 2**13, np.uint64)
        half, factor = np.uint64(32), np.uint64(self.M)
        base = np.uint64((key + first * self.G) & self.MASK)
        for i in range(0, count, 2**13):  # stays in the cache through all six passes
            z = out[i : i + 2**13]
            t = shifted[: len(z)]
            np.add(self.counter[i : i + len(z)], base, out=z)
            np.right_shift(z, half, out=t)
            np.bitwise_xor(z, t, out=z)
            np.multiply(z, factor, out=z)
            np.right_shift(z, half, out=t)
            np.bitwise_xor(z, t, out=z)
        return out

    def _unit(self, key, count):
        return (self._words(key, 0, count) >> np.uint64(41)).astype(np.float32) * np.float32(
            2.0**-23
        )

    def router(self, layer):
        experts, hidden = self.config.experts, self.config.hidden
        count, shift = experts * hidden, 0
        while 4**shift < 49 * hidden:
            shift += 1
        bits = self._words(self._key(layer, LAYER_ITSELF, self.ROUTER), 0, -(-count // 4)).view(
            "<u2"
        )[:count]
        weight = bf16_decode((bits & 0x81FF) + ((127 - shift) << 7)).reshape(experts, hidden)
        unit = self._unit(self._key(layer, LAYER_ITSELF, self.BIAS), experts)
        return weight, (unit - np.float32(0.5)) * np.float32(0.125)

    def norm(self, layer):
        hidden = self.config.hidden
        bits = self._words(self._key(layer, LAYER_ITSELF, self.NORM), 0, -(-hidden // 4)).view(
            "<u2"
        )[:hidden]
        return bf16_decode(0x3F40 + (bits & 0x7F))

    def expert(self, layer, number):
        width = self.config.shared_width if number == SHARED else self.config.intermediate
        return [
            self._matrix(layer, number, tensor, shape)
            for tensor, (_, shape) in enumerate(expert_shapes(self.config.hidden, width))
        ]

    def _matrix(self, layer, expert, tensor, shape):
        key = self._key(layer, expert, self.WEIGHT[tensor])
        height, width = shape
        blocks = (-(-height // BLOCK), -(-width // BLOCK))
        unit = self._unit(self._key(layer, expert, self.SCALE[tensor]), blocks[0] * blocks[1])
        base = np.float32(1.0 / math.sqrt(self.MEAN_SQUARE * width))

        def codes(first, last):
            count = (
                last - first
            ) * width  # first is a multiple of 128, so the first byte opens a word
            words = self._words(key, first * width // 8, -(-count // 8))
            words &= np.uint64(0xBFBFBFBFBFBFBFBF)
            words += np.uint64(0x3F3F3F3F3F3F3F3F)
            return words.view(np.uint8)[:count].reshape(last - first, width)

        return Matrix(shape, (base * (unit + np.float32(0.5))).reshape(blocks), codes)


def expert_shapes(hidden, width):
    return [("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))]
