# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
"""Small jobs on the files of `accel-moe run` for the shell tests; jobs come one a line on stdin.

    golden OUT LAYERFILE fp8|bf16   moe_out of a run of one layer is what the golden layer says
    same OUT OUT                    every tensor has the same bits
    route IN NEW LAYERS E K SEED    IN with made-up routing: ids may repeat or be -1
    given IN OUT NEW                NEW is IN with the routing that OUT had
    ids OUT OUT                     both chose the same experts
    routed OUT OUT                  and gave them the same weights
    report JSON VERDICT             has every field of an accel-moe/1 report, and that verdict

Prints what is wrong, a line each; nothing is a pass.
"""

import json
import sys

import numpy as np

from tensors import File, Malformed, Missing, bf16_decode, save

# The largest relative error of a row, and their mean. Rounding to bf16 thrice costs 0.003 of a row.
# With FP8 one code more or less, where arithmetic of any order may take either, costs up to 0.03.
BARS = {"bf16": (5e-3, 4e-3), "fp8": (4e-2, 6e-3)}
TENSORS = {"bf16": "output_exact", "fp8": "output_fp8"}

REPORT = {
    "": "schema version commit argv host model run layers tokens_per_s memory errors verdict",
    "model": "layers hidden intermediate experts topk groups topk_groups scale shared_experts",
    "run": "ranks transport receive dtype device tokens_per_rank placement redundant weights seed launcher",
    "memory": "weights_bytes ep_bytes",
    "memory.ep_bytes": "recv returned output meta",
    "layers.0": "layer per_rank layer_ns counters routing error",
    "layers.0.per_rank.0": "rank gate_ns dispatch_ns shared_ns experts_ns combine_ns total_ns"
    " tokens_in rows_received experts_active wait_ns_by_peer",
    "layers.0.counters": "bytes_wire bytes_landed bytes_quantised bytes_staged maps work_requests",
    "layers.0.routing": "hottest_expert_share equal near_ties busiest_rank busiest_rank_in_order",
    "layers.0.error": "rel_l2_max rel_l2_mean max_abs bits_equal_single_process bar_rel_l2",
    "errors.0": "rank phase lane round code text",
}


def golden(out, layer_file, dtype):
    got, layer = File(out), File(layer_file)
    want = layer.get(TENSORS[dtype]).astype(np.float64)
    rows = bf16_decode(got.get("moe_out")[0]).astype(np.float64)
    if rows.shape != want.shape:
        return [f"moe_out is {rows.shape}, not {want.shape}"]
    if (np.sort(got.get("topk_ids")[0], 1) != np.sort(layer.get("topk_ids"), 1)).any():
        return ["topk_ids differ"]
    if not len(rows):
        return []
    error = np.linalg.norm(rows - want, axis=1) / np.linalg.norm(want, axis=1)
    worst, mean = BARS[dtype]
    if error.max() <= worst and error.mean() <= mean:
        return []
    return [f"relative error max {error.max():.3g} mean {error.mean():.3g} (bars {worst}, {mean})"]


def same(one, other):
    one, other = File(one), File(other)
    if one.header.keys() != other.header.keys():
        return [f"tensors {sorted(one.header)} and {sorted(other.header)}"]
    return [
        f"{name} differs"
        for name in one.header
        if one.get(name).shape != other.get(name).shape
        or one.get(name).tobytes() != other.get(name).tobytes()
    ]


def route(source, new, layers, experts, topk, seed):
    rng, hidden = np.random.default_rng(int(seed)), File(source).get("hidden_states")
    shape = (int(layers), len(hidden), int(topk))
    ids = rng.integers(-1, int(experts), shape)
    ids[:, 0] = -1  # a token that chooses nobody
    ids[:, 1] = 2  # and one that chooses the same expert again and again
    weights = rng.random(shape, np.float32) * (ids >= 0)
    save(
        new,
        {
            "hidden_states": ("BF16", hidden),
            "topk_ids": ("I64", ids),
            "topk_weights": ("F32", weights),
        },
    )
    return []


def given(source, out, new):
    out = File(out)
    save(
        new,
        {
            "hidden_states": ("BF16", File(source).get("hidden_states")),
            "topk_ids": ("I32", out.get("topk_ids")),
            "topk_weights": ("F32", out.get("topk_weights")),
        },
    )
    return []


def ids(one, other):
    alike = File(one).get("topk_ids").tobytes() == File(other).get("topk_ids").tobytes()
    return [] if alike else ["topk_ids differ"]


def routed(one, other):
    alike = File(one).get("topk_weights").tobytes() == File(other).get("topk_weights").tobytes()
    return ids(one, other) + ([] if alike else ["topk_weights differ"])


def report(path, verdict):
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    faults = []
    for where, names in REPORT.items():
        node = document
        for step in filter(None, where.split(".")):
            step = int(step) if step.isdigit() else step
            absent = len(node) <= step if isinstance(node, list) else step not in node
            node = None if absent else node[step]
            if node is None:
                break
        if node is None and (where.startswith("errors") or where.startswith("layers")):
            continue  # a run has the one or the other
        missing = set(names.split()) - set(node or ())
        if missing:
            faults.append(f"{where or 'document'} lacks {sorted(missing)}")
    if not document["layers"] and not document["errors"]:
        faults.append("neither layers nor errors")
    if (document["schema"], document["verdict"]) != ("accel-moe/1", verdict):
        faults.append(f"schema {document['schema']}, verdict {document['verdict']}")
    return faults


def main():
    jobs = {
        "golden": golden,
        "same": same,
        "route": route,
        "given": given,
        "ids": ids,
        "routed": routed,
        "report": report,
    }
    failed = False
    for line in sys.stdin:
        name, *words = line.split()
        try:
            faults = jobs[name](*words)
        except (Missing, Malformed, OSError, ValueError, KeyError) as error:
            faults = [str(error)]
        for fault in faults:
            print(f"{line.strip()}: {fault}")
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
