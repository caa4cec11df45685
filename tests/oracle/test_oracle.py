#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
"""Judge the judge: the oracle against vectors of public implementations, and that it can say no.

TAP. The golden checkpoints have tensors at odd addresses, blocks cut short and empty inputs.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
try:
    import numpy as np
except ImportError:
    print("1..0 # SKIP numpy is missing: apt-get install python3-numpy")
    sys.exit(0)

import moe_oracle
import tensors
import weights as sources
from moe_oracle import Routing, gate, reference, row_errors
from tensors import File, bf16_decode, bf16_encode, save
from weights import Checkpoint, Config, Synthetic

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "moe")
CASES = [
    (name, rows, layer)
    for name, sizes, layers in (("tiny", (0, 1, 48), (1, 2)), ("ragged", (0, 1, 24), (0,)))
    for rows in sizes
    for layer in layers
]
SMALL = Config(
    {
        "hidden_size": 264,
        "moe_intermediate_size": 136,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "n_shared_experts": 2,
    }
)


def case(name, rows, layer):
    folder = os.path.join(GOLDEN, name)
    x = File(os.path.join(folder, f"t{rows}", "input.safetensors")).floats("hidden_states")
    return (
        Checkpoint(folder),
        x,
        File(os.path.join(folder, f"t{rows}", f"layer{layer}.safetensors")),
    )


def golden_gate():
    for name, rows, layer in CASES:
        checkpoint, x, golden = case(name, rows, layer)
        routing, lost = gate(x, checkpoint, layer)
        assert np.array_equal(
            routing.ids, golden.get("topk_ids")
        ), f"{name} t{rows} layer {layer}: ids"
        expected = golden.get("topk_weights")
        error = np.abs(routing.weights(routing.ids) - expected)
        assert (error <= expected * 1e-6).all(), f"{name} t{rows} layer {layer}: weights"
        assert (lost < 1e-4).all()
        assert np.allclose(routing.margin, golden.get("margin"), atol=1e-6)


def golden_layers():
    for name, rows, layer in CASES:
        checkpoint, x, golden = case(name, rows, layer)
        routing, _ = gate(x, checkpoint, layer)
        exact, fp8, slack = reference(
            x, routing.ids, routing.weights(routing.ids), checkpoint, layer, True
        )
        plain, same, none = reference(
            x, routing.ids, routing.weights(routing.ids), checkpoint, layer, False
        )
        where = f"{name} t{rows} layer {layer}"
        assert same is plain and not none.any() and (row_errors(plain, exact) < 2e-6).all(), where
        assert (row_errors(exact, golden.get("output_exact")) < 2e-6).all(), where
        expected = golden.get("output_fp8").astype(np.float64)
        error, allowed = row_errors(fp8, expected), moe_oracle.near_error(slack, expected)
        print(
            f"# {where}: error exact"
            f" {row_errors(exact, golden.get('output_exact')).max(initial=0):.1e},"
            f" fp8 {error.max(initial=0):.1e}, near codes allow {allowed.max(initial=0):.1e}"
            f" in {int((allowed > 0).sum())} rows"
        )
        assert (error <= 2e-6 + allowed).all(), where
        assert allowed.sum() <= 1e-3 * rows, where


def golden_shared_expert():
    for name, rows, layer in CASES:
        checkpoint, x, golden = case(name, rows, layer)
        nobody = np.full((rows, checkpoint.config.topk), -1)
        shared, _, _ = reference(x, nobody, np.zeros(nobody.shape), checkpoint, layer, False)
        assert (
            row_errors(shared, golden.get("shared_exact")) < 2e-6
        ).all(), f"{name} t{rows} layer {layer}"


def e4m3_rounding():
    code = np.arange(256)
    finite = code[(code & 0x7F) != 0x7F]
    assert np.array_equal(tensors.e4m3_round(tensors.E4M3[finite]), tensors.E4M3[finite])
    assert np.array_equal(np.signbit(tensors.e4m3_round(np.float32([-0.0, 0.0]))), [True, False])
    for low in range(
        0x7E
    ):  # half way goes to the even code; a float32 step beyond goes the other way
        middle = np.float32((np.float64(tensors.E4M3[low]) + tensors.E4M3[low + 1]) / 2)
        around = np.array(
            [np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(1e9))]
        )
        expected = tensors.E4M3[[low, low + low % 2, low + 1]]
        assert np.array_equal(tensors.e4m3_round(around), expected), f"around {middle}"
    assert np.array_equal(
        tensors.e4m3_round(np.float32([464, 1e30, -1e30])), np.float32([448, 448, -448])
    )
    for width in (1, 2, 7, 128):
        codes = np.resize(code, (5, width)).astype(np.uint8)
        out = tensors.e4m3_decode(codes, np.empty(5 * width, np.float32))
        assert np.array_equal(out, tensors.E4M3[codes], equal_nan=True)


def near_ties_excuse_only_near_choices():
    config = Config(
        {
            "hidden_size": 8,
            "moe_intermediate_size": 8,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
        }
    )
    logits = np.float32([[2, 1, 1 + 1e-6, 0, -1, -1, -1, -1]])
    routing = Routing(logits, np.zeros(8, np.float32), config)
    assert routing.ids.tolist() == [[0, 2]]
    assert routing.may_choose(0, np.array([0, 1]))
    judge, near, other = moe_oracle.Judge(), [], np.array([[0, 1]])
    ids, ids_weights = moe_oracle.judge_routing(
        judge, 0, routing, np.zeros(1), other, routing.weights(other), near
    )
    assert near == [0] and not judge.faults and ids.tolist() == [[0, 1]]
    assert np.array_equal(ids_weights, routing.weights(other))
    for ids in ([0, 3], [1, 2], [0, 4], [0, 0]):
        assert not routing.may_choose(0, np.array(ids)), f"{ids} excused"
    wide = Routing(np.float32([[2, 1, 1.01, 0, -1, -1, -1, -1]]), np.zeros(8, np.float32), config)
    assert not wide.may_choose(0, np.array([0, 1]))
    groups = Routing(np.float32([[1, 1, 0, 0, 1, 1, 0, 0]]), np.zeros(8, np.float32), config)
    assert groups.ids.tolist() == [[0, 1]]
    assert groups.may_choose(0, np.array([4, 5])) and not groups.may_choose(0, np.array([0, 4]))


def synthetic_equals_product():
    """Every tensor of a checkpoint that the product writes, against our reading of its rules."""
    program = os.path.join(os.environ.get("BUILD", "build"), "bin", "accel-moe")
    if not os.path.exists(program):
        return f"{program} is not built"
    with tempfile.TemporaryDirectory() as folder:
        command = "--seed 9 --layers 3,4 --experts 8 --hidden 328 --intermediate 200 --topk 2"
        command = (
            f"{program} synth {folder}/w {command} --groups 2 --topk-groups 1 --shared-experts 2"
        )
        subprocess.run(command.split(), check=True, capture_output=True)
        written = Checkpoint(os.path.join(folder, "w"))
        ours = Synthetic(9, written.config)
        for layer in (3, 4):
            for ours_part, part in zip(ours.router(layer), written.router(layer)):
                assert np.array_equal(ours_part, part), f"router of layer {layer}"
            assert np.array_equal(ours.norm(layer), written.norm(layer)), f"norm of layer {layer}"
            for expert in (*range(8), sources.SHARED):
                pairs = zip(ours.expert(layer, expert), written.expert(layer, expert))
                for number, (our, its) in enumerate(pairs):
                    where = f"layer {layer} expert {expert} matrix {number}"
                    assert np.array_equal(our.scale, its.scale), f"scales of {where}"
                    for row in range(0, our.shape[0], 128):
                        last = min(row + 128, our.shape[0])
                        assert np.array_equal(our.codes(row, last), its.codes(row, last)), where
    return None


def synthetic_word(seed, layer, expert, tensor, index):
    mask, g = 2**64 - 1, 0x9E3779B97F4A7C15

    def step(z):
        z = (z + g) & mask
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        return z ^ z >> 31

    key = step(step(step(step(seed) ^ layer) ^ expert) ^ tensor)
    z = (key + index * g) & mask
    z = ((z ^ z >> 32) * 0xD6E8FEB86659FD93) & mask
    return z ^ z >> 32


def synthetic_elements():
    source = Synthetic(7, SMALL)
    for expert in (5, sources.SHARED):
        for tensor, matrix in enumerate(source.expert(3, expert)):
            height, width = matrix.shape
            for row, column in ((0, 0), (1, 3), (height - 1, width - 1), (130, 9), (128, 0)):
                index = row * width + column
                word = synthetic_word(7, 3, expert, tensor, index // 8)
                code = (((word >> 8 * (index % 8)) & 0xBF) + 0x3F) & 0xFF
                first = row // 128 * 128
                assert matrix.codes(first, min(first + 128, height))[row - first, column] == code
            unit = np.float32((synthetic_word(7, 3, expert, tensor + 3, 1) >> 41) * 2.0**-23)
            base = np.float32(1 / np.sqrt(19866.363525390625 * width))
            assert matrix.scale.ravel()[1] == base * (unit + np.float32(0.5))
    router, bias = source.router(3)
    assert bias[4] == (
        np.float32((synthetic_word(7, 3, sources.LAYER_ITSELF, 7, 4) >> 41) * 2.0**-23)
        - np.float32(0.5)
    ) * np.float32(0.125)
    index = 5 * SMALL.hidden + 2  # 4^7 >= 49 * 264
    bits = (
        synthetic_word(7, 3, sources.LAYER_ITSELF, 6, index // 4) >> 16 * (index % 4) & 0x81FF
    ) + (120 << 7)
    assert bf16_encode(router)[5, 2] == bits
    bits = 0x3F40 + (synthetic_word(7, 3, sources.LAYER_ITSELF, 8, 65) >> 48 & 0x7F)
    assert bf16_encode(source.norm(3))[263] == bits


class Product:
    """What a flawless product would write for a case; tests spoil it and ask for a verdict."""

    def __init__(self, folder, dtype="fp8", residual="none", layers=(1,), count=48):
        self.folder, self.layers, self.dtype, self.residual = folder, layers, dtype, residual
        self.weights = os.path.join(GOLDEN, "tiny")
        checkpoint, x, _ = case("tiny", count, 1)
        self.input = os.path.join(self.weights, f"t{count}", "input.safetensors")
        parts, h = [], x
        for layer in layers:
            if residual == "rmsnorm":
                x = moe_oracle.rmsnorm(h, checkpoint.norm(layer), checkpoint.config.eps)
            routing, _ = gate(x, checkpoint, layer)
            _, rows, _ = reference(
                x, routing.ids, routing.weights(routing.ids), checkpoint, layer, dtype == "fp8"
            )
            x = bf16_decode(bf16_encode(rows))
            h = tensors.bf16_round(h + x)
            counts = np.bincount(routing.ids.ravel(), minlength=16).reshape(4, 4)
            parts.append(
                (
                    bf16_encode(rows),
                    routing.ids,
                    routing.weights(routing.ids),
                    counts,
                    routing.scores,
                    np.arange(16).reshape(4, 4),
                )
            )
        names = ("moe_out", "topk_ids", "topk_weights", "recv_tokens", "scores", "slot_experts")
        self.out = {name: np.stack([part[i] for part in parts]) for i, name in enumerate(names)}
        self.out["topk_weights"] = self.out["topk_weights"].astype(np.float32)
        self.out["hidden_states"] = (
            bf16_encode(h) if residual == "rmsnorm" else self.out["moe_out"][-1].copy()
        )
        self.out["incomplete"] = np.zeros(len(x), np.uint8)

    def verdict(self, *options):
        dtypes = {
            "moe_out": "BF16",
            "hidden_states": "BF16",
            "topk_ids": "I32",
            "topk_weights": "F32",
            "recv_tokens": "I64",
            "slot_experts": "I64",
            "scores": "F32",
            "incomplete": "U8",
        }
        path = os.path.join(self.folder, "out.safetensors")
        save(path, {name: (dtypes[name], array) for name, array in self.out.items()})
        self.text = io.StringIO()
        with contextlib.redirect_stdout(self.text), contextlib.redirect_stderr(self.text):
            return moe_oracle.main(
                [
                    "--weights",
                    self.weights,
                    "--input",
                    self.input,
                    "--output",
                    path,
                    "--dtype",
                    self.dtype,
                    "--layers",
                    ",".join(map(str, self.layers)),
                    "--residual",
                    self.residual,
                    *options,
                ]
            )


def in_folder(test):
    def run():
        with tempfile.TemporaryDirectory() as folder:
            test(folder)

    run.__name__ = test.__name__
    return run


@in_folder
def good_output_passes(folder):
    for dtype in ("fp8", "bf16"):
        for residual, layers in (("none", (1,)), ("none", (1, 2)), ("rmsnorm", (1, 2))):
            for count in (0, 1, 48):
                product = Product(folder, dtype, residual, layers, count)
                assert product.verdict() == 0, product.text.getvalue()


@in_folder
def golden_output_passes(folder):
    for layer in (1, 2):
        _, _, golden = case("tiny", 48, layer)
        for dtype, name in (("fp8", "output_fp8"), ("bf16", "output_exact")):
            product = Product(folder, dtype, "none", (layer,))
            product.out["moe_out"][0] = product.out["hidden_states"][:] = bf16_encode(
                golden.get(name)
            )
            product.out["topk_ids"][0], product.out["topk_weights"][0] = golden.get(
                "topk_ids"
            ), golden.get("topk_weights")
            assert product.verdict() == 0, product.text.getvalue()


def set_at(name, index, change):
    def spoil(out):
        out[name][index] = change(out[name][index])

    return spoil


def swap_rows(out, first, second):
    out["moe_out"][0, [first, second]] = out["moe_out"][0, [second, first]]
    out["hidden_states"][:] = out["moe_out"][0]


def wrong_id(out):
    ids = out["topk_ids"][0, 7]
    ids[2] = next(i for i in range(16) if i not in ids)


def change_row(out, change):
    out["moe_out"][0, 9] = change(out["moe_out"][0, 9])
    out["hidden_states"][:] = out["moe_out"][0]


SPOILT = {
    "one bit of the exponent": lambda out: change_row(
        out, lambda row: row ^ (np.arange(256) == int(np.argmax(row & 0x7FFF))) * np.uint16(0x80)
    ),
    "a row one percent off": lambda out: change_row(
        out, lambda row: bf16_encode(bf16_decode(row) * 1.01)
    ),
    "a row of zeros": lambda out: change_row(out, lambda row: row * np.uint16(0)),
    "a NaN": lambda out: change_row(
        out, lambda row: np.where(np.arange(256) == 5, np.uint16(0x7FC0), row)
    ),
    "two rows swapped": lambda out: swap_rows(out, 3, 4),
    "a wrong id": wrong_id,
    "an id out of range": set_at("topk_ids", (0, 7, 2), lambda _: 16),
    "an id of -1": set_at("topk_ids", (0, 7, 2), lambda _: -1),
    "a duplicate id": set_at("topk_ids", (0, 7), lambda ids: ids[[0, 0, 2, 3]]),
    "a weight 5e-5 off": set_at("topk_weights", (0, 47, 3), lambda w: w * 1.00005),
    "a weight of NaN": set_at("topk_weights", (0, 0, 0), lambda _: np.nan),
    "swapped weights": set_at("topk_weights", (0, 1), lambda w: w[::-1].copy()),
    "a wrong score": set_at("scores", (0, 2, 5), lambda s: s * 1.001),
    "an expert in another's slot": set_at("slot_experts", (0, 0), lambda row: row[::-1].copy()),
    "an expert that is none": set_at("slot_experts", (0, 3, 3), lambda _: 16),
    "a slot that is none": set_at("slot_experts", (0, 2, 2), lambda _: -1),
    "a lost token": set_at("recv_tokens", (0, 1, 1), lambda n: n - 1),
    "an incomplete token": set_at("incomplete", 11, lambda _: 1),
    "a changed last state": set_at("hidden_states", (5, 5), lambda bits: bits ^ 1),
}


@in_folder
def spoilt_output_fails(folder):
    for what, spoil in SPOILT.items():
        product = Product(folder)
        spoil(product.out)
        assert (
            product.verdict() == 1 and "FAIL" in product.text.getvalue()
        ), f"passed with {what}: {product.text.getvalue()}"
    product = Product(folder, "fp8", "rmsnorm", (1, 2))
    product.out["moe_out"][0, 3] = product.out["moe_out"][0, 4]
    assert (
        product.verdict() == 1
    ), "passed with a row copied over another in the first of two layers"


@in_folder
def other_quantising_fails(folder):
    for made, judged in (("fp8", "bf16"), ("bf16", "fp8")):
        product = Product(folder, made)
        product.dtype = judged
        assert product.verdict() == 1, f"{made} passed as {judged}"


@in_folder
def given_ids_replace_the_gate(folder):
    product = Product(folder)
    ids, ids_weights = product.out["topk_ids"], product.out["topk_weights"]
    ids[0, 0], ids[0, 1], ids[0, 2, 1] = -1, [5, 5, 9, -1], -1  # nothing, a duplicate, a hole
    product.input = os.path.join(folder, "in.safetensors")
    checkpoint, x, _ = case("tiny", 48, 1)
    save(
        product.input,
        {
            "hidden_states": ("F32", x),
            "topk_ids": ("I64", ids),
            "topk_weights": ("F32", ids_weights),
        },
    )
    _, rows, _ = reference(x, ids[0], ids_weights[0].astype(np.float64), checkpoint, 1, True)
    product.out["moe_out"][0] = product.out["hidden_states"][:] = bf16_encode(rows)
    product.out["recv_tokens"][0] = np.bincount(ids[ids >= 0], minlength=16).reshape(4, 4)
    assert product.verdict() == 0, product.text.getvalue()
    ids[0, 2, 1] = 3
    assert product.verdict() == 1, "passed with ids that were not given"


@in_folder
def what_is_missing_is_named(folder):
    product = Product(folder)
    del product.out["topk_ids"]
    assert product.verdict() == 3 and "topk_ids" in product.text.getvalue()
    product = Product(folder)
    product.input = os.path.join(folder, "nowhere.safetensors")
    assert product.verdict() == 3 and "nowhere" in product.text.getvalue()
    product = Product(folder)
    product.weights = os.path.join(folder, "weights")
    shutil.copytree(os.path.join(GOLDEN, "tiny"), product.weights)
    os.remove(os.path.join(product.weights, "model-00002-of-00002.safetensors"))
    assert product.verdict() == 3 and "model-00002" in product.text.getvalue()
    with open(os.path.join(product.weights, "model-00002-of-00002.safetensors"), "wb") as file:
        file.write(b"\xff" * 100)
    assert product.verdict() == 1 and "not a safetensors file" in product.text.getvalue()
    product = Product(folder)
    product.out["moe_out"] = product.out["moe_out"][:, :47]
    assert product.verdict() == 1 and "moe_out" in product.text.getvalue()


TESTS = [
    golden_gate,
    golden_layers,
    golden_shared_expert,
    e4m3_rounding,
    near_ties_excuse_only_near_choices,
    synthetic_elements,
    synthetic_equals_product,
    good_output_passes,
    golden_output_passes,
    spoilt_output_fails,
    other_quantising_fails,
    given_ids_replace_the_gate,
    what_is_missing_is_named,
]


def main():
    failed = 0
    print(f"1..{len(TESTS)}")
    for number, test in enumerate(TESTS, 1):
        try:
            skip = test()
            print(
                f"ok {number} - oracle {test.__name__}" + (f" # SKIP {skip}" if skip else ""),
                flush=True,
            )
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(
                f"not ok {number} - oracle {test.__name__}\n# "
                + f"{type(error).__name__}: {error}".replace("\n", "\n# "),
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
