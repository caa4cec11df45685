#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
"""What mk/bench-rdma.sh measured as one document and a Markdown table: bench_rdma.py [--quick] DIR.

Reads DIR/RUN.NAME.json (schema accel-perf/1) and DIR/RUN.PROGRAM.DTYPE.TOKENS.TRY.txt, what perftest printed; writes
DIR/bench.json and table.md, prints the bars. A ratio is of medians of one run; its bar holds in two runs of three.
Exit: 0 all bars met, 1 not, 3 nothing was measured.
"""
import glob
import json
import os
import re
import statistics
import sys

from bench_report import digits, table

MIB = 1 << 20  # what perftest calls MB
# Of few samples on an emulated CPU: how much longer a time may be than one taken in turn, or at another moment.
SLACK_TURNS, SLACK_MOMENTS = 2.0, 2.0
ROWS_A_REQUEST, REQUESTS_MORE = 8, 4  # a peer: one for so many rows, and so many besides


def row_bytes(dtype, hidden=7168):
    return 2 * hidden if dtype == "bf16" else hidden + 4 * (hidden // 128)


class Bench:
    """Results by (run, program's name, op, method, dtype, ranks, tokens), in ns."""

    def __init__(self, directory):
        self.document, self.by_key, self.ratios = None, {}, []
        for path in sorted(glob.glob(os.path.join(directory, "*.json"))):
            name = os.path.basename(path)[:-len(".json")]
            if re.fullmatch(r"\d+\..*", name):
                with open(path, encoding="utf-8") as file:
                    self.take_document(name, json.load(file))
        if self.document:
            for path in sorted(glob.glob(os.path.join(directory, "*.txt"))):
                self.take_perftest(path)

    def take_document(self, name, document):
        run, made_by = name.split(".", 1)
        made_by = made_by.split(".")[0]
        if not self.document:
            self.document = {key: document[key] for key in ("schema", "version", "commit", "host")}
            self.document.update(argv=["mk/bench-rdma.sh"], software={"perftest": perftest_version()}, results=[],
                                 skipped=[])
        self.document["software"].update(document["software"])
        self.document["skipped"] += document["skipped"]
        for result in document["results"]:
            self.add(dict(result, run=int(run), made_by=made_by))

    def add(self, result):
        result["id"] = f"r{len(self.document['results']) + 1}"
        self.document["results"].append(result)
        key = tuple(result.get(k) for k in ("run", "made_by", "op", "method", "dtype", "ranks", "tokens"))
        self.by_key.setdefault(key, []).append(result)

    def take_perftest(self, path):
        """The line of figures; bandwidth becomes the time that all messages of both directions took."""
        run, program, dtype, tokens, _ = os.path.basename(path)[:-len(".txt")].split(".")
        with open(path, encoding="utf-8") as file:
            command, *lines = file.read().splitlines()
        at = [i for i, line in enumerate(lines) if line.startswith(" #bytes")]
        if not at:
            self.document["skipped"].append({"what": command, "why": (lines or ["no output"])[-1].strip()})
            return
        figures = [float(word) for word in lines[at[0] + 1].split()]
        size, count = int(figures[0]), int(figures[1])
        result = {"op": "dispatch", "method": program, "run": int(run), "made_by": "perftest", "settings": command,
                  "transport": "verbs", "dtype": dtype, "ranks": 2, "tokens": int(tokens), "rows_m": None,
                  "verified": True}
        if program == "ib_write_bw":
            total = 2 * size * count
            ns = round(total / (figures[3] * MIB) * 1e9)
            result.update(samples=1, ns=dict.fromkeys(("min", "p10", "median", "p90", "max"), ns),
                          work={"rows": count, "payload_bytes": total // 2, "macs": 0})
        else:
            smallest, largest, typical = (round(us * 1e3) for us in figures[2:5])
            result.update(samples=count, ns={"min": smallest, "median": typical, "max": largest},
                          work={"rows": 1, "payload_bytes": size, "macs": 0})
        self.add(result)

    def find(self, *key):
        """The result of that key; of several tries the median."""
        found = sorted(self.by_key.get(key, []), key=lambda result: result["ns"]["median"])
        return found[len(found) // 2] if found else None

    def values(self, key):
        """Distinct values of a key among accel's results beside UCX, in order."""
        return sorted({r[key] for r in self.document["results"] if r["method"] == "accel" and r["made_by"] == "ucx"})

    def compare(self, name, pairs, bar=None, above=False, slack=1.0):
        """pairs: (value, num, den) of each run; bar: the most, or with above the least."""
        pairs = [pair for pair in pairs if pair]
        if not pairs:
            return
        limit = bar and (bar / slack if above else bar * slack)
        met = sum(not bar or (value >= limit if above else value <= limit) for value, _, _ in pairs)
        value, num, den = sorted(pairs, key=lambda pair: pair[0])[len(pairs) // 2]
        self.ratios.append({"name": name, "num": num, "den": den, "value": round(value, 4),
                            "bar": f"{'>=' if above else '<='} {limit:.2f}" if bar else None, "runs_met": met,
                            "runs": len(pairs), "pass": 3 * met >= 2 * len(pairs)})


def perftest_version():
    text = os.popen("ib_write_bw --version 2>/dev/null").read()
    found = re.search(r"\d[\d.]*", text)
    return found.group() if found else ""


def time_ratio(num, *dens):
    if not num or not all(dens):
        return None
    return (num["ns"]["median"] / sum(den["ns"]["median"] for den in dens), num["id"],
            "+".join(den["id"] for den in dens))


def bytes_a_peer(accel):
    """Of the rows that one rank sends to one other in a dispatch."""
    return accel["counters"]["bytes_wire"] / (accel["ranks"] * (accel["ranks"] - 1))


def rate(accel):
    """Bytes a ns that all ranks together send; rows that stay at their rank are no part of it."""
    return accel["counters"]["bytes_wire"] / accel["ns"]["median"]


def rate_ratio(accel, write_bw):
    if not accel or not write_bw:
        return None
    return rate(accel) / (2 * write_bw["work"]["payload_bytes"] / write_bw["ns"]["median"]), accel["id"], write_bw["id"]


def requests_ratio(accel):
    """Work requests a peer over what they may be; den: nothing measured."""
    if not accel:
        return None
    peers = accel["ranks"] * (accel["ranks"] - 1)
    rows = bytes_a_peer(accel) / row_bytes(accel["dtype"], accel["hidden"])
    return accel["counters"]["work_requests"] / peers / (rows / ROWS_A_REQUEST + REQUESTS_MORE), accel["id"], None


def compare_all(bench, slack_turns, slack_moments):
    runs = bench.values("run")
    for dtype in bench.values("dtype"):
        def accel(run, tokens, op="dispatch", name="ucx", ranks=2):
            return bench.find(run, name, op, "accel", dtype, ranks, tokens)

        def mpi(run, tokens, op="dispatch", name="ucx", ranks=2):
            return bench.find(run, name, op, "openmpi-alltoallv", dtype, ranks, tokens)

        def perftest(run, program, tokens):
            return bench.find(run, "perftest", "dispatch", program, dtype, 2, tokens)

        for tokens in bench.values("tokens"):
            case = f"R2_T{tokens}_{dtype}"
            bench.compare(f"dispatch_to_write_bw_{case}",
                          [rate_ratio(accel(run, tokens), perftest(run, "ib_write_bw", tokens)) for run in runs],
                          0.95, above=True, slack=slack_moments)
            bench.compare(f"dispatch_to_write_lat_and_send_lat_{case}",
                          [time_ratio(accel(run, tokens), perftest(run, "ib_write_lat", tokens),
                                      perftest(run, "ib_send_lat", tokens)) for run in runs], 1.5,
                          slack=slack_moments)
            bench.compare(f"dispatch_to_alltoallv_{case}",
                          [time_ratio(accel(run, tokens), mpi(run, tokens)) for run in runs],
                          1 / 1.5 if tokens <= 8 else 1.0, slack=slack_turns)
            bench.compare(f"requests_a_peer_{case}", [requests_ratio(accel(run, tokens)) for run in runs], 1.0)
            for op in "combine", "echo":
                bench.compare(f"{op}_to_alltoallv_{case}",
                              [time_ratio(accel(run, tokens, op), mpi(run, tokens, op)) for run in runs])
            bench.compare(f"dispatch_to_tcp_alltoallv_{case}",
                          [time_ratio(accel(run, tokens, name="tcp"), mpi(run, tokens, name="tcp")) for run in runs])
            bench.compare(f"dispatch_to_alltoallv_R4_T{tokens}_{dtype}",
                          [time_ratio(accel(run, tokens, name="four", ranks=4),
                                      mpi(run, tokens, name="four", ranks=4)) for run in runs])


def summary(bench):
    """A line a case: medians over the runs."""
    rows = [["tokens a rank, rows", "accel dispatch", "MB/s", "`ib_write_bw -b` MB/s", "`write_lat` + `send_lat`",
             "Alltoallv, UCX rc_verbs", "Alltoallv, TCP", "requests a peer"]]

    def median(take, *key):
        found = [take(r) for run in bench.values("run") if (r := bench.find(run, *key))]
        return statistics.median(found) if found else None

    def us(*key):
        value = median(lambda r: r["ns"]["median"] / 1e3, *key)
        return value and digits(value)

    for dtype in bench.values("dtype"):
        for tokens in bench.values("tokens"):
            case = (dtype, 2, tokens)
            accel = ("ucx", "dispatch", "accel") + case
            speed = median(lambda r: rate(r) * 1e3, *accel)
            peer = median(lambda r: 2e3 * r["work"]["payload_bytes"] / r["ns"]["median"], "perftest", "dispatch",
                          "ib_write_bw", *case)
            latencies = [us("perftest", "dispatch", program, *case) for program in ("ib_write_lat", "ib_send_lat")]
            requests = median(lambda r: r["counters"]["work_requests"] / 2, *accel)
            rows.append([f"{tokens}, {dtype.replace('fp8', 'FP8')}", us(*accel), speed and digits(speed),
                         peer and digits(peer), " + ".join(latencies) if all(latencies) else "",
                         us("ucx", "dispatch", "openmpi-alltoallv", *case),
                         us("tcp", "dispatch", "openmpi-alltoallv", *case), requests and f"{requests:.1f}"])
    return [[cell or "" for cell in row] for row in rows]


def write(bench, directory, passed):
    document = dict(bench.document, ratios=bench.ratios, verdict="pass" if passed else "fail")
    with open(os.path.join(directory, "bench.json"), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    host = document["host"]
    settings = sorted({f"- {r['made_by']}: `{r['settings']}`" for r in document["results"]
                       if r["method"].startswith("openmpi")})
    lines = [f"`mk/bench-rdma.sh` on {host['cores']} cores of {host['cpu']}, Linux {host['kernel']}, "
             f"commit {document['commit']}. Medians in µs of two ranks; rates are of both directions together.", "",
             *table(summary(bench)), "", *settings, "",
             *table([["", "ratio", "value", "bar", "runs met"]] + [
                 ["" if not q["bar"] else "met" if q["pass"] else "**missed**", q["name"], f"{q['value']:.2f}",
                  q["bar"] or "", f"{q['runs_met']} of {q['runs']}" if q["bar"] else ""] for q in bench.ratios]), "",
             *(f"Skipped: {s['what']}: {s['why']}." for s in document["skipped"])]
    with open(os.path.join(directory, "table.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines).rstrip() + "\n")


def main():
    *options, directory = sys.argv[1:]
    bench = Bench(directory)
    if not bench.document:
        print("bench-rdma: nothing was measured", file=sys.stderr)
        return 3
    if "--quick" in options:
        compare_all(bench, SLACK_TURNS, SLACK_MOMENTS)
    else:
        compare_all(bench, 1.0, 1.0)
    staged = [r["id"] for r in bench.document["results"] if r.get("counters", {}).get("bytes_staged")]
    barred = [q for q in bench.ratios if q["bar"]]
    passed = all(q["pass"] for q in barred) and not staged and all(r["verified"] for r in bench.document["results"])
    write(bench, directory, passed)
    for q in barred:
        print(f"{'pass' if q['pass'] else 'FAIL'}  {q['name']:<44} {q['value']:6.2f}  bar {q['bar']}, "
              f"met in {q['runs_met']} of {q['runs']}")
    for one in staged:
        print(f"FAIL  {one} staged payload bytes; none may be")
    for s in bench.document["skipped"]:
        print(f"skipped {s['what']}: {s['why']}")
    print("PASS" if passed else "FAIL")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
