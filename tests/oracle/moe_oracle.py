# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
"""Judge what `accel-moe run --output` wrote, from the safetensors files alone.

No code is shared with the product. Each layer is judged by itself: its input comes from the
product's own output of the layer before.
    --residual none     x[0] = bf16(hidden_states), x[l+1] = moe_out[l]
    --residual rmsnorm  h[0] = bf16(hidden_states), h[l+1] = bf16(h[l] + moe_out[l]),
                        x[l] = bf16(h[l] / sqrt(mean(h[l]^2) + eps) * norm), rounded once, where
                        norm is post_attention_layernorm of the checkpoint, or 1
The reference of a row is sum(weight * expert(x)) + shared expert(x), where
expert(x) = down(silu(gate(x)) * up(x)).
    --dtype fp8   x is quantised 1x128 (tensors.quantise) before gate and up, and silu(gate) * up, a
                  float32 row, once more before down; the shared expert likewise
    --dtype bf16  nothing is quantised
Nothing else is rounded: products are float32, sums over experts float64. So the product's own bf16
roundings (of an expert's row, of a rank's part, of the total: together about 0.003 of a row) are
inside the error that is judged.

PASS is: ids equal, but for near ties (last chosen and first left out, expert or group, closer than
1e-6: counted); weights within 1e-5 relative, plus what one running float32 sum of the logit may
lose; relative L2 error of each row of moe_out at most --bar; the last hidden_states exactly as
above; recv_tokens as the ids say; no NaN; no token incomplete.
Where silu(gate) * up, divided by its scale, lies so close to half way between two codes that
float32 arithmetic may take either, the step between them is allowed beside the bar (root of the sum
of squares); rows that needed it are counted. It matters in small geometries, where one code can be
0.03 of a row; in R1's it is below 0.001.

Exit: 0 pass, 1 fail, 2 usage, 3 something is missing.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # one expert a core is better than one product on all
try:
    import numpy as np
except ImportError:
    sys.stderr.write("moe_oracle: numpy is missing; install it: apt-get install python3-numpy\n")
    sys.exit(3)

from tensors import (
    E4M3_MIDPOINTS,
    File,
    Malformed,
    Missing,
    bf16_decode,
    bf16_encode,
    bf16_round,
    quantise,
    save,
)
from weights import R1, SHARED, Checkpoint, Config, Synthetic

NEAR_TIE = 1e-6
WEIGHT_BAR = 1e-5
FLOAT32_ULP = 2.0**-24
CORES = len(os.sched_getaffinity(0))
_task = None  # what the processes that work on experts inherit: (weights, layer, x, quantised x)


def rmsnorm(rows, weight, eps):
    mean = np.square(rows.astype(np.float64)).mean(1, keepdims=True)
    return bf16_round((rows / np.sqrt(mean + eps) * weight).astype(np.float32))


def top_groups(biased, config):
    """(group scores [T,G], mask of the groups kept [T,G], margin of the last one kept [T])."""
    best_two = np.sort(
        biased.reshape(len(biased), config.groups, config.experts // config.groups), axis=2
    )[:, :, -2:]
    score = best_two.sum(2, dtype=np.float32)
    order = np.argsort(-score, axis=1, kind="stable")
    ranked = np.take_along_axis(score, order, 1)
    kept = np.zeros(score.shape, bool)
    np.put_along_axis(kept, order[:, : config.groups_kept], True, axis=1)
    if config.groups_kept >= config.groups:
        return score, kept, np.full(len(biased), np.inf)
    return (
        score,
        kept,
        (ranked[:, config.groups_kept - 1] - ranked[:, config.groups_kept]).astype(np.float64),
    )


class Routing:
    """R1's noaux_tc gate: ids [T,K] in descending biased score; and may another answer be right?"""

    def __init__(self, logits, bias, config):
        self.config = config
        with np.errstate(over="ignore"):
            self.scores = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
        self.biased = self.scores + bias
        self.group_scores, kept, group_margin = top_groups(self.biased, config)
        masked = np.where(
            np.repeat(kept, config.experts // config.groups, axis=1), self.biased, -np.inf
        )
        order = np.argsort(-masked, axis=1, kind="stable")
        ranked = np.take_along_axis(masked, order, 1).astype(np.float64)
        self.ids = order[:, : config.topk]
        self.margin = group_margin
        if config.topk < config.experts:
            self.margin = np.minimum(
                group_margin, ranked[:, config.topk - 1] - ranked[:, config.topk]
            )

    def weights(self, ids):
        """float64, for any ids; those below 0 weigh nothing."""
        chosen = np.take_along_axis(self.scores, np.maximum(ids, 0), 1).astype(np.float64) * (
            ids >= 0
        )
        if self.config.normalise:
            chosen /= chosen.sum(1, keepdims=True) + 1e-20
        return chosen * self.config.scale

    def may_choose(self, token, ids):
        """Whether some way to break near ties gives a token exactly these ids."""
        config = self.config
        if not self.margin[token] < NEAR_TIE or len(set(ids)) < config.topk:
            return False
        score = self.group_scores[token].astype(np.float64)
        last = np.sort(score)[-config.groups_kept]
        sure = np.flatnonzero(score >= last + NEAR_TIE)
        near = np.flatnonzero(np.abs(score - last) < NEAR_TIE)
        group = np.arange(config.experts) // (config.experts // config.groups)
        for others in itertools.islice(
            itertools.combinations(near, config.groups_kept - len(sure)), 1000
        ):
            masked = np.where(np.isin(group, [*sure, *others]), self.biased[token], -np.inf).astype(
                np.float64
            )
            last_chosen = np.sort(masked)[-config.topk]
            must = np.flatnonzero(masked >= last_chosen + NEAR_TIE)
            if np.isin(must, ids).all() and (masked[ids] > last_chosen - NEAR_TIE).all():
                return True
        return False


def gate(x, weights, layer):
    """(Routing, [T] what one running float32 sum may lose of a logit, five standard deviations)."""
    router, bias = weights.router(layer)
    x, router = x.astype(np.float64), router.astype(np.float64)
    lost = (
        np.sqrt((np.square(x) @ np.square(router).T).max(1, initial=0) * x.shape[1])
        * 2
        * FLOAT32_ULP
    )
    return Routing((x @ router.T).astype(np.float32), bias, weights.config), lost


def near_codes(gated, gate_rows, up_rows, scale):
    """The step to the other code [rows,width] where float32 arithmetic may take either, else 0.

    The error of a sum is taken as 2^-19 of its row's root mean square: more than 7168 products lose
    in a few dozen partial sums, far less than a code's step.
    """
    sigmoid = 1 / (1 + np.exp(-gate_rows.astype(np.float64)))
    slope = np.abs(up_rows * sigmoid * (1 + gate_rows * (1 - sigmoid)))
    loss = [
        np.sqrt(np.square(rows, dtype=np.float64).mean(1, keepdims=True)) * 2.0**-19
        for rows in (gate_rows, up_rows)
    ]
    error = slope * loss[0] + np.abs(gate_rows * sigmoid) * loss[1]
    width, starts = gated.shape[1], np.arange(0, gated.shape[1], 128)
    block = np.maximum.reduceat(error, starts, axis=1)  # the block's largest element sets its scale
    magnitude = np.abs(gated) / scale
    error = error / scale + magnitude / 448 * np.repeat(block, 128, axis=1)[:, :width] / scale
    above = np.minimum(np.searchsorted(E4M3_MIDPOINTS, magnitude), len(E4M3_MIDPOINTS) - 1)
    below = np.maximum(above - 1, 0)
    near = (
        np.minimum(
            np.abs(E4M3_MIDPOINTS[above] - magnitude), np.abs(E4M3_MIDPOINTS[below] - magnitude)
        )
        < error
    )
    step = np.maximum(2.0 ** (np.floor(np.log2(np.maximum(magnitude, 2.0**-6))) - 3), 2.0**-9)
    return near * step * scale


def expert_rows(matrices, plain, quantised):
    """(rows from plain and from quantised input, [T] square of what near codes may add)."""
    up_gate = np.concatenate([plain, quantised])
    gate_rows, up_rows = (matrix.apply(up_gate)[0] for matrix in matrices[:2])
    with np.errstate(over="ignore"):
        gated = (gate_rows / (1 + np.exp(-gate_rows.astype(np.float64))) * up_rows).astype(
            np.float32
        )
    count = len(plain)
    if len(quantised) == 0:
        return matrices[2].apply(gated)[0], None, None
    back, scale = quantise(gated[count:])
    step = near_codes(gated[count:], gate_rows[count:], up_rows[count:], scale)
    columns = np.flatnonzero(step.any(0))
    rows, norm = matrices[2].apply(np.concatenate([gated[:count], back]), columns)
    return rows[:count], rows[count:], np.square(step[:, columns] * norm).sum(1)


def expert_job(job):
    weights, layer, x, back = _task
    expert, tokens = job
    return expert_rows(
        weights.expert(layer, expert), x[tokens], back[tokens] if len(back) else back
    )


def each_expert(jobs, config):
    """expert_job of each, in order; on all cores where the work is worth their start."""
    if CORES == 1 or len(jobs) * config.hidden * config.intermediate < 2**24:
        yield from map(expert_job, jobs)
    else:  # processes, not threads: the steps are too short to pass an interpreter lock around
        with multiprocessing.get_context("fork").Pool(CORES) as pool:
            yield from pool.imap(expert_job, jobs)


def reference(x, ids, ids_weights, weights, layer, fp8):
    """float64: (unquantised [T,H], reference [T,H], square of what near codes may add [T])."""
    global _task
    chosen = [(int(expert), *np.nonzero(ids == expert)) for expert in np.unique(ids[ids >= 0])]
    chosen = [(expert, tokens, ids_weights[tokens, place]) for expert, tokens, place in chosen]
    if weights.config.shared_width:
        chosen.insert(0, (SHARED, np.arange(len(x)), np.ones(len(x))))
    _task = weights, layer, x, quantise(x)[0] if fp8 else x[:0]
    exact = np.zeros(x.shape)
    result, slack = (np.zeros(x.shape) if fp8 else exact), np.zeros(len(x))
    rows_of_each = each_expert([(expert, tokens) for expert, tokens, _ in chosen], weights.config)
    for (_, tokens, weight), (plain, rows, step) in zip(chosen, rows_of_each):
        np.add.at(exact, tokens, weight[:, None] * plain)
        if fp8:
            np.add.at(result, tokens, weight[:, None] * rows)
            np.add.at(slack, tokens, np.square(weight) * step)
    return exact, result, slack


def row_errors(rows, expected):
    length = np.linalg.norm(expected, axis=1)
    error = np.linalg.norm(rows - expected, axis=1)
    return np.divide(error, length, out=np.where(error > 0, np.inf, 0.0), where=length > 0)


def near_error(slack, expected):
    """What near codes may add to a row's error; steps of different columns hardly correlate."""
    length = np.linalg.norm(expected, axis=1)
    return np.divide(1.1 * np.sqrt(slack), length, out=np.zeros(len(length)), where=length > 0)


class Judge:
    """Collects what is wrong; every fault is a sentence."""

    def __init__(self):
        self.faults = []

    def check(self, bad, sentence):
        """bad: [T] bool; sentence takes the first bad token."""
        bad = np.asarray(bad)
        if bad.any():
            self.faults.append(
                f"{sentence(int(np.flatnonzero(bad)[0]))} ({int(bad.sum())} of {len(bad)} tokens)"
            )


def judge_routing(judge, layer, routing, lost, out_ids, out_weights, near_ties):
    """The ids and weights to go on with: the product's where a near tie explains them."""
    ids = routing.ids.copy()
    for token in np.flatnonzero((np.sort(out_ids, 1) != np.sort(ids, 1)).any(1)):
        if (
            (out_ids[token] >= 0) & (out_ids[token] < routing.config.experts)
        ).all() and routing.may_choose(token, out_ids[token]):
            near_ties.append(int(token))
            ids[token] = out_ids[token]
    wrong = (np.sort(out_ids, 1) != np.sort(ids, 1)).any(1)
    judge.check(
        wrong,
        lambda t: f"layer {layer} token {t}: ids {out_ids[t].tolist()}, not {ids[t].tolist()},"
        f" and no near tie (margin {routing.margin[t]:.3g})",
    )
    ids_weights = routing.weights(ids)
    ours, theirs = np.argsort(ids, 1, kind="stable"), np.argsort(out_ids, 1, kind="stable")
    expected = np.take_along_axis(ids_weights, ours, 1)
    error = np.abs(np.take_along_axis(out_weights.astype(np.float64), theirs, 1) - expected)
    off = ~(error <= expected * (WEIGHT_BAR + lost[:, None])).all(1) & ~wrong
    judge.check(
        off,
        lambda t: f"layer {layer} token {t}: weights {out_weights[t].tolist()},"
        f" not {ids_weights[t].tolist()}",
    )
    return ids, ids_weights


def judge_counts(judge, layer, ids, recv_tokens, slot_experts, experts):
    """recv_tokens [R,S] against the ids; slot_experts [R,S] says whose they are, -1 being no slot."""
    if recv_tokens is None or slot_experts is None:
        return
    held = slot_experts >= 0
    if (held != (recv_tokens >= 0)).any() or slot_experts.max() >= experts:
        judge.faults.append(f"layer {layer}: slot_experts and recv_tokens do not fit")
        return
    expected = np.array([(ids == expert).any(1).sum() for expert in range(experts)])
    entries = np.bincount(ids[ids >= 0], minlength=experts)
    got = np.bincount(slot_experts[held], recv_tokens[held], minlength=experts)
    for expert in np.flatnonzero((got != expected) & (got != entries))[:1]:
        judge.faults.append(
            f"layer {layer}: expert {expert} received {got[expert]} tokens, not {expected[expert]}"
        )


def judge_layer(judge, args, weights, layer, x, given, out):
    """The figures of a layer. given: (ids, weights) that replace the gate, or None."""
    began = time.monotonic()
    near_ties, faults_before = [], len(judge.faults)
    if given is None:
        routing, lost = gate(x, weights, layer)
        ids, ids_weights = judge_routing(
            judge, layer, routing, lost, out["ids"], out["weights"], near_ties
        )
        if out["scores"] is not None:
            off = ~(
                np.abs(out["scores"] - routing.scores)
                <= routing.scores * (lost[:, None] + 4 * FLOAT32_ULP)
            ).all(1)
            judge.check(off, lambda t: f"layer {layer} token {t}: scores differ")
    else:
        ids, ids_weights = given[0], given[1].astype(np.float64)
        judge.check(
            (out["ids"] != ids).any(1) | (out["weights"] != given[1]).any(1),
            lambda t: f"layer {layer} token {t}: ids or weights are not those of the input",
        )
    equal = len(judge.faults) == faults_before
    judge_counts(
        judge, layer, ids, out["recv_tokens"], out["slot_experts"], weights.config.experts
    )
    exact, expected, slack = reference(x, ids, ids_weights, weights, layer, args.dtype == "fp8")
    rows = bf16_decode(out["moe_out"]).astype(np.float64)
    nan = ~np.isfinite(rows).all(1) | ~np.isfinite(out["weights"]).all(1)
    judge.check(nan, lambda t: f"layer {layer} token {t}: not a finite number")
    rows[nan] = 0
    error, unquantised = row_errors(rows, expected), row_errors(rows, exact)
    allowed = np.hypot(args.bar, near_error(slack, expected))
    judge.check(
        ~(error <= allowed),
        lambda t: f"layer {layer} token {t}: relative error {error[t]:.3g} > {allowed[t]:.3g}",
    )
    entries = np.bincount(ids[ids >= 0], minlength=1)
    return {
        "layer": layer,
        "tokens": len(x),
        "experts_active": int((entries > 0).sum()),
        "seconds": round(time.monotonic() - began, 2),
        "routing": {
            "hottest_expert_share": float(entries.max() / max(entries.sum(), 1)),
            "equal": equal,
            "near_ties": len(near_ties),
        },
        "error": {
            "rel_l2_max": float(error.max(initial=0)),
            "rel_l2_mean": float(error.mean()) if len(error) else 0.0,
            "max_abs": float(np.abs(rows - expected).max(initial=0)),
            "bar_rel_l2": args.bar,
            "rows_near_code": int((error > args.bar).sum() - (~(error <= allowed)).sum()),
            "unquantised_rel_l2_max": float(unquantised.max(initial=0)),
            "unquantised_rel_l2_mean": float(unquantised.mean()) if len(unquantised) else 0.0,
        },
    }


def take(file, name, shape, dtypes):
    if file.dtype(name) not in dtypes or file.get(name).shape != shape:
        raise Malformed(
            f"{file.path}: {name} is {file.dtype(name)} {file.get(name).shape},"
            f" not {'|'.join(dtypes)} {shape}"
        )
    return file.get(name)


def judge_all(args, weights):
    config, source, product = weights.config, File(args.input), File(args.output)
    hidden = source.floats("hidden_states")
    if hidden.ndim != 2 or hidden.shape[1] != config.hidden:
        raise Malformed(
            f"{args.input}: hidden_states is {hidden.shape}, not [tokens, {config.hidden}]"
        )
    tokens, layers, topk = len(hidden), len(args.layers), config.topk
    moe_out = take(product, "moe_out", (layers, tokens, config.hidden), ["BF16"])
    ids = take(product, "topk_ids", (layers, tokens, topk), ["I32"])
    ids_weights = take(product, "topk_weights", (layers, tokens, topk), ["F32"])
    scores = (
        take(product, "scores", (layers, tokens, config.experts), ["F32"])
        if "scores" in product
        else None
    )
    counts = product.get("recv_tokens") if "recv_tokens" in product else None
    held = product.get("slot_experts") if "slot_experts" in product else None
    given = None
    if "topk_ids" in source:
        given = (
            take(source, "topk_ids", (layers, tokens, topk), ["I32", "I64"]),
            take(source, "topk_weights", (layers, tokens, topk), ["F32"]),
        )
    judge, results = Judge(), []
    if "incomplete" in product:
        judge.check(product.get("incomplete") != 0, lambda t: f"token {t} lacks a rank's part")
    h = bf16_round(hidden)
    for i, layer in enumerate(args.layers):
        x = rmsnorm(h, weights.norm(layer), config.eps) if args.residual == "rmsnorm" else h
        out = {
            "moe_out": moe_out[i],
            "ids": ids[i].astype(np.int64),
            "weights": ids_weights[i],
            "scores": None if scores is None else scores[i],
            "recv_tokens": None if counts is None else counts[i],
            "slot_experts": None if held is None else held[i],
        }
        results.append(
            judge_layer(judge, args, weights, layer, x, given and (given[0][i], given[1][i]), out)
        )
        print_layer(results[-1])
        after = bf16_decode(moe_out[i])
        h = bf16_round(h + after) if args.residual == "rmsnorm" else after
    last = take(product, "hidden_states", (tokens, config.hidden), ["BF16"])
    judge.check(
        (last != bf16_encode(h)).any(1),
        lambda t: f"token {t}: hidden_states is not what moe_out and --residual give",
    )
    return judge.faults, results


def print_layer(result):
    routing, error = result["routing"], result["error"]
    print(
        f"layer {result['layer']}: {result['tokens']} tokens, {result['experts_active']} experts,"
        f" hottest {routing['hottest_expert_share']:.3f};"
        f" ids {'equal' if routing['equal'] else 'DIFFER'}, {routing['near_ties']} near ties;"
        f" error max {error['rel_l2_max']:.2e} mean {error['rel_l2_mean']:.2e}"
        f" (bar {error['bar_rel_l2']:g}, {error['rows_near_code']} rows past it by near codes),"
        f" largest {error['max_abs']:.2e}; against unquantised"
        f" max {error['unquantised_rel_l2_max']:.2e} mean {error['unquantised_rel_l2_mean']:.2e};"
        f" {result['seconds']} s",
        flush=True,
    )


def make_input(args, config):
    """Normal rows, so that a run has something to work on when there is no real input."""
    rows = np.random.default_rng(args.seed).standard_normal((args.tokens, config.hidden))
    save(args.make_input, {"hidden_states": ("BF16", bf16_encode(rows))})


def parse(argv):
    parser = argparse.ArgumentParser(
        description="Judge the output of accel-moe run from the safetensors files alone."
    )
    parser.add_argument("--weights", required=True, help="a checkpoint's folder, or synthetic")
    parser.add_argument(
        "--seed", type=int, default=1, help="of synthetic weights and of --make-input"
    )
    parser.add_argument("--input")
    parser.add_argument("--output")
    parser.add_argument("--layers", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--dtype", choices=["fp8", "bf16"], default="fp8")
    parser.add_argument("--residual", choices=["none", "rmsnorm"], default="rmsnorm")
    parser.add_argument("--bar", type=float, default=5e-3, help="relative L2 error of a row")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument(
        "--make-input", metavar="FILE", help="write --tokens seeded rows and judge nothing"
    )
    parser.add_argument("--tokens", type=int, default=32)
    geometry = {
        "hidden": "hidden_size",
        "intermediate": "moe_intermediate_size",
        "experts": "n_routed_experts",
        "topk": "num_experts_per_tok",
        "groups": "n_group",
        "topk-groups": "topk_group",
        "shared-experts": "n_shared_experts",
    }
    for option, name in geometry.items():
        parser.add_argument(
            f"--{option}", type=int, dest=name, default=R1[name], help="of synthetic weights"
        )
    parser.add_argument(
        "--scale", type=float, dest="routed_scaling_factor", default=R1["routed_scaling_factor"]
    )
    args = parser.parse_args(argv)
    if not args.make_input and not (args.input and args.output and args.layers):
        parser.error("--input, --output and --layers are needed")
    return args


def main(argv):
    args = parse(argv)
    try:
        if args.weights == "synthetic":
            config = Config(
                {**R1, **{name: getattr(args, name) for name in R1 if hasattr(args, name)}}
            )
            weights = Synthetic(args.seed, config)
        else:
            weights = Checkpoint(args.weights)
        if args.make_input:
            make_input(args, weights.config)
            return 0
        faults, results = judge_all(args, weights)
    except Missing as error:
        sys.stderr.write(f"moe_oracle: missing: {error}\n")
        return 3
    except Malformed as error:
        faults, results = [str(error)], []
    for fault in faults[:20]:
        print(f"FAIL {fault}")
    verdict = "fail" if faults else "pass"
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "schema": "accel-oracle/1",
                    "layers": results,
                    "faults": faults,
                    "verdict": verdict,
                },
                file,
                indent=1,
            )
    print(f"oracle: {verdict.upper()}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
