#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
"""What mk/bench.sh measured as one document, a Markdown table and plots: bench_report.py DIR COMMAND.

Reads the documents (schema accel-perf/1) that DIR/plan names, writes DIR/bench.json, table.md and a PNG a plot; prints
the bars. Every ratio is of results of one program's run. Exit: 0 all bars met, 1 not, 3 nothing was measured.
"""
import json
import os
import statistics
import subprocess
import sys

LABELS = {"alltoallv": "MPI_Alltoallv", "put": "MPI_Put"}
OPS = "dispatch", "echo", "combine"
COLOURS = {"accel, in place": "#0b5394", "accel, landed": "#6fa8dc", "accel": "#0b5394", "floor": "#666666",
           "window by hand": "#6aa84f", "MPI_Put (Open MPI)": "#cc0000", "MPI_Put (MPICH)": "#ea9999",
           "MPI_Alltoallv (Open MPI)": "#b45f06", "MPI_Alltoallv (MPICH)": "#f6b26b"}
OTHER_COLOURS = ["#cc0000", "#b45f06", "#6aa84f", "#674ea7", "#f6b26b"]


def load(directory):
    """The documents in order of the plan, each with its name and the command that made it."""
    documents = []
    with open(os.path.join(directory, "plan"), encoding="utf-8") as plan:
        for line in plan:
            name, command = line.split(maxsplit=1)
            path = os.path.join(directory, name + ".json")
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    documents.append((name, command.strip(), json.load(file)))
    return documents


def merge(documents, directory, command):
    """One document of all; results keep their numbers, counted on, and say which command made them."""
    first = documents[0][2]
    merged = {key: first[key] for key in ("schema", "version", "commit", "host")}
    merged.update(argv=command.split(), commands={}, software={}, results=[], ratios=[], skipped=[])
    for name, made_by, document in documents:
        offset = len(merged["results"])

        def renamed(ids):
            return None if ids is None else "+".join(f"r{int(one[1:]) + offset}" for one in ids.split("+"))

        assert document["schema"] == merged["schema"], name
        merged["commands"][name] = made_by
        merged["software"].update(document["software"])
        merged["results"] += [dict(r, id=renamed(r["id"]), made_by=name) for r in document["results"]]
        merged["ratios"] += [dict(q, num=renamed(q["num"]), den=renamed(q["den"]), made_by=name)
                             for q in document["ratios"]]
        merged["skipped"] += [dict(s, made_by=name) for s in document["skipped"]]
    try:
        with open(os.path.join(directory, "skipped"), encoding="utf-8") as lines:
            merged["skipped"] += [dict(zip(("what", "why"), line.strip().split(": ", 1))) for line in lines]
    except FileNotFoundError:
        pass
    passed = all(d["verdict"] == "pass" for _, _, d in documents)
    merged["verdict"] = "pass" if passed else "fail"
    with open(os.path.join(directory, "bench.json"), "w", encoding="utf-8") as file:
        json.dump(merged, file, indent=1)
        file.write("\n")
    return merged


def method_of(result):
    """The method as tables and plots name it; the window by hand is one thing, whichever MPI maps it."""
    if result["method"] == "accel" and "receive" in result:
        return "accel, " + result["receive"].replace("_", " ")
    mpi, _, way = result["method"].partition("-")
    if way in LABELS:
        return f"{LABELS[way]} ({ {'openmpi': 'Open MPI', 'mpich': 'MPICH'}[mpi]})"
    return {"mpi3-window": "window by hand"}.get(result["method"], result["method"])


class Exchange:
    """Medians of the exchange by (program, ranks, tokens, rows, op, method); rows: bf16, fp8 or made fp8."""

    def __init__(self, results):
        values = {}
        for r in results:
            if r["op"] in OPS + ("quant",) and r.get("combine_input") != "expert":
                rows = r["dtype"] if r["dtype"] == r["x_dtype"] else "made fp8"
                key = (r["made_by"], r["ranks"], r["tokens"], rows, r["op"], method_of(r))
                values.setdefault(key, []).append(r["ns"]["median"])
        self.ns = {key: statistics.median(ns) for key, ns in values.items()}

    def floor(self, key):
        """Of the same program and case; where the library quantises, that is added."""
        made_by, ranks, tokens, rows, op, _ = key
        floor = self.ns.get((made_by, ranks, tokens, rows, op, "floor"), 0)
        if rows == "made fp8" and op != "combine":
            floor += self.ns.get((made_by, ranks, tokens, rows, "quant", "floor"), 0)
        return floor

    def cell(self, key):
        ns = self.ns.get(key)
        if not ns:
            return ""
        floor = self.floor(key)
        return f"{digits(ns / 1e3)} ({ns / floor:.2f}x)" if floor else digits(ns / 1e3)

    def cases(self, programs):
        """(program, ranks, tokens, rows) in a reader's order."""
        found = {key[:4] for key in self.ns if key[0] in programs}
        return sorted(found, key=lambda case: (case[1], ("bf16", "fp8", "made fp8").index(case[3]), case[2], case[0]))


def digits(value):
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(rows):
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|" + "---|" * len(rows[0])
    for row in rows[1:]:
        yield "| " + " | ".join(row) + " |"


def what(case):
    rows = case[3].replace("fp8", "FP8").replace("made", "bf16 made")
    return f"{case[2]}, {rows}" + (", skewed" if "skew" in case[0] else "")


def against_floors(exchange, programs):
    """In-place dispatch is shown with echo beside it, always."""
    columns = [("dispatch", "accel, in place"), ("echo", "accel, in place"), ("dispatch", "accel, landed"),
               ("echo", "accel, landed"), ("combine", "accel, in place")]
    rows = [["ranks", "tokens a rank, rows", "dispatch in place", "echo in place", "dispatch landed", "echo landed",
             "combine"]]
    for case in exchange.cases(programs):
        rows.append([str(case[1]), what(case)] + [exchange.cell(case + column) for column in columns])
    return rows


def against_mpi(exchange, programs):
    """accel over each peer of the same run: below 1 accel is faster."""
    pairs = [("echo", "accel, in place"), ("dispatch", "accel, landed"), ("combine", "accel, in place")]
    peers = sorted({key[5] for key in exchange.ns if key[0] in programs and
                    not key[5].startswith("accel") and key[5] != "floor"})
    rows = [["ranks", "tokens a rank, rows", "peer", "echo in place / its echo", "dispatch landed / its dispatch",
             "combine / its combine"]]
    for case in exchange.cases(programs):
        for peer in peers:
            cells = []
            for op, mine in pairs:
                accel, other = exchange.ns.get(case + (op, mine)), exchange.ns.get(case + (op, peer))
                cells.append(f"{accel / other:.2f} ({digits(other / 1e3)})" if accel and other else "")
            if any(cells):
                rows.append([str(case[1]), what(case), peer] + cells)
    return rows


def experts(results):
    found = {}
    for r in results:
        if r["op"] == "ffn":
            found.setdefault(r["method"], {}).setdefault(r["rows_m"], []).append(r["ns"]["median"] / 1e6)
    return {method: {m: statistics.median(ms) for m, ms in by_rows.items()} for method, by_rows in found.items()}


def experts_table(ffn):
    counts = sorted({m for by_rows in ffn.values() for m in by_rows})
    return [["rows"] + list(ffn)] + [[str(m)] + [f"{ffn[method][m]:.2f}" if m in ffn[method] else ""
                                                 for method in ffn] for m in counts]


def bars_table(ratios):
    return [["", "ratio", "value", "bar", "runs met"]] + [
        ["met" if q["pass"] else "**missed**", q["name"], f"{q['value']:.2f}", q["bar"],
         f"{q['runs_met']} of {q['runs']}"] for q in ratios if q["bar"]]


def is_peer_program(name):
    return "openmpi" in name or "mpich" in name or "range" in name


def write_table(merged, exchange, directory, command):
    host, names = merged["host"], list(merged["commands"])
    barred = [q for q in merged["ratios"] if q["bar"]]
    met = sum(q["pass"] for q in barred)
    lines = [f"`{command}` on {host['cores']} cores of {host['cpu']}, kernels {host['kernels']}, "
             f"commit {merged['commit']}; load {host['load1']:.1f} when it began.",
             "Medians in µs, and times the floor of the same run.", ""]
    lines += table(against_floors(exchange, [n for n in names if not is_peer_program(n)]))
    peers = against_mpi(exchange, [n for n in names if is_peer_program(n)])
    if len(peers) > 1:
        lines += ["", "accel's time over the peer's in the same run (and the peer's, µs): below 1 accel is faster.",
                  ""]
        lines += table(peers)
        lines += [""] + sorted({f"- {method_of(r)}: `{r['settings']}`" for r in merged["results"]
                                if is_peer_program(r["made_by"]) and r.get("settings")})
    quantise = [q for q in merged["ratios"] if q["name"].startswith("quantise_")]
    if quantise:
        lines += ["", "Quantising bf16, GB/s a core: " + ", ".join(
            f"{q['value']:.1f} ({q['name'].split('_')[2][1:]} rows)" for q in quantise) + "."]
    ffn = experts(merged["results"])
    if ffn:
        lines += ["", "One expert's FFN, ms.", ""] + list(table(experts_table(ffn)))
    lines += ["", f"{met} of {len(barred)} bars met.", ""]
    if barred:
        lines += table(bars_table(merged["ratios"]))
    lines += ["", *(f"Skipped: {s['what']}: {s.get('why', '')}." for s in merged["skipped"])]
    with open(os.path.join(directory, "table.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines).rstrip() + "\n")
    return met, barred


def plot(directory, name, script, lines):
    """lines: (title, [(x, y)]); both axes are logarithmic, with a tic at each x."""
    plots, data, others = [], "", iter(OTHER_COLOURS * len(lines))
    for i, (title, points) in enumerate(lines):
        colour, dash = COLOURS.get(title) or next(others), " dt 2" if title == "floor" else ""
        data += f"$line{i} << END\n" + "".join(f"{x} {y:.6g}\n" for x, y in points) + "END\n"
        plots.append(f"$line{i} using 1:2 with linespoints lc rgb '{colour}' lw 2 pt {i + 4} ps 1.1{dash} "
                     f"title \"{title}\" noenhanced")
    across, up = ([point[axis] for _, points in lines for point in points] for axis in (0, 1))
    tics = ", ".join(f"'{x}' {x}" for x in sorted(set(across)))
    path = os.path.join(directory, name + ".png")
    text = (f"{data}set terminal pngcairo size 1000,640 font 'sans,12'\nset output '{path}'\nset grid\n"
            f"set key outside right top\nset logscale xy\nset xtics ({tics})\n"
            f"set xrange [{min(across) / 1.25}:{max(across) * 1.25}]\nset yrange [{min(up) / 1.25}:{max(up) * 1.25}]\n"
            "set ytics add (0.03, 0.05, 0.2, 0.3, 0.5, 2, 3, 5, 20, 30, 50)\n"
            f"{script}plot " + ", \\\n".join(plots) + "\n")
    subprocess.run(["gnuplot", "-"], input=text.encode(), check=True)


def plot_exchange(merged, exchange, directory):
    """A plot for each op, ranks and rows: every method's time over the floor of its own run."""
    for ranks in sorted({key[1] for key in exchange.ns}):
        for rows in "bf16", "fp8":
            for op in OPS:
                lines = {}
                for key in exchange.ns:
                    if key[1] != ranks or key[3] != rows or key[4] != op or key[5] == "floor" or "skew" in key[0]:
                        continue
                    # A path that moves nothing at dispatch pays in echo: its dispatch is not shown by itself.
                    if op == "dispatch" and key[5] == "accel, in place":
                        continue
                    # accel beside its floors alone where that was measured, not once more beside each MPI
                    if key[5].startswith("accel") and is_peer_program(key[0]) and any(
                            other[1:] == key[1:] and not is_peer_program(other[0]) for other in exchange.ns):
                        continue
                    if exchange.floor(key):
                        ratio = exchange.ns[key] / exchange.floor(key)
                        lines.setdefault(key[5], {}).setdefault(key[2], []).append(ratio)
                points = [(method, sorted((t, statistics.median(v)) for t, v in by_tokens.items()))
                          for method, by_tokens in sorted(lines.items())]
                tokens = sorted({t for _, line in points for t, _ in line})
                if len(tokens) < 2:
                    continue
                floor = [("floor", [(tokens[0], 1.0), (tokens[-1], 1.0)])]
                plot(directory, f"{op}-r{ranks}-{rows}",
                     f"set title '{op}: {ranks} ranks, {rows} rows, {merged['host']['cpu']}'\n"
                     "set xlabel 'tokens a rank'\nset ylabel 'time / floor of the same run (1 = floor)'\n",
                     points + floor)


def plot_experts(merged, directory):
    ffn = experts(merged["results"])
    if ffn:
        plot(directory, "ffn", f"set title 'FFN of one expert, weights from memory, {merged['host']['cpu']}'\n"
             "set xlabel 'rows'\nset ylabel 'ms'\n",
             [(method, sorted(by_rows.items())) for method, by_rows in ffn.items()])


def main():
    directory, command = sys.argv[1:]
    documents = load(directory)
    if not documents:
        print("bench: nothing was measured", file=sys.stderr)
        return 3
    merged = merge(documents, directory, command)
    exchange = Exchange(merged["results"])
    met, barred = write_table(merged, exchange, directory, command)
    plot_exchange(merged, exchange, directory)
    plot_experts(merged, directory)
    for q in barred:
        if not q["pass"]:
            print(f"missed  {q['name']:<46} {q['value']:6.2f}  bar {q['bar']}, met in {q['runs_met']} of {q['runs']}")
    for s in merged["skipped"]:
        print(f"skipped {s['what']}: {s.get('why', '')}")
    print(f"{merged['verdict'].upper()}: {met} of {len(barred)} bars met")
    return 0 if merged["verdict"] == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
