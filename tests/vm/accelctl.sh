#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accelctl and accel-moe on accel0: what they say of it, and an MoE layer of R1's hidden size whose rows, results and
# windows are all in accel buffers, bit-equal to one process.
set -u
. tests/tap.sh
. tests/ctl.sh
BUILD=${BUILD:-build}
bin=$BUILD/bin
out=$(mktemp -d)
holder=
trap '[ -z "$holder" ] || kill "$holder"; rm -rf "$out"' EXIT

modprobe -r accel
tap_ok 'without the module, list says how to get a device' "$(runs 0 $bin/accelctl list; says 'modprobe accel soft=1')"
modprobe accel soft=1
tap_ok 'list' "$(runs 0 $bin/accelctl list; says '^accel0 *soft *running *0 B')"
tap_ok 'info' "$(runs 0 $bin/accelctl info; says '^device  *accel0'; says '^provider  *soft'
	says '^of this user  *0 B of ')"
tap_ok 'info --json' "$(runs 0 $bin/accelctl info --json; json 'd["memory_bytes_max"] >= d["user_bytes_max"] > 0')"
tap_ok 'selftest' "$(runs 0 $bin/accelctl selftest; says '^ok *quota'; says '^PASS'; says '2.0 MiB$')"
tap_ok 'selftest --json' "$(runs 0 $bin/accelctl selftest accel0 --bytes 12345 --json
	json 'd["passed"] and d["device"] == "accel0" and all(s["result"] == "passed" for s in d["steps"])')"
tap_ok 'nothing of it is left' "$(runs 0 $bin/accelctl info --json; json 'd["memory_bytes_used"] == 0')"

# Somebody with a buffer, who says when it is made and keeps it until the other pipe is closed.
mkfifo "$out/hold" "$out/made"
python3 -c 'import ctypes, sys
lib = ctypes.CDLL(sys.argv[1] + "/lib/libaccel.so")
dev, buf = ctypes.c_void_p(), ctypes.c_void_p()
assert not lib.accel_device_open(b"accel0", ctypes.byref(dev))
assert not lib.accel_buffer_create(dev, ctypes.c_uint64(3 << 20), None, ctypes.byref(buf))
print("made", flush=True)
sys.stdin.read()' "$BUILD" <"$out/hold" >"$out/made" 2>&1 &
holder=$!
exec 9>"$out/hold"
read -r made <"$out/made"
tap_ok 'a process has a buffer' "$([ "$made" = made ] || echo "it says: $made")"
tap_ok 'top has the process and its bytes' "$(runs 0 $bin/accelctl top --once --json
	json '[c["memory_bytes"] for c in d["clients"] if c["pid"] == '$holder'] == [3 << 20]'
	json 'd["devices"][0]["memory_bytes_used"] == 3 << 20')"
tap_ok 'top for people' "$(runs 0 $bin/accelctl top --once; says "$holder *python3 *3.0 MiB")"
exec 9>&-
wait "$holder"
holder=

moe() {
	runs 0 $bin/accel-moe run --ranks 2 --threads 1 --tokens 4 --experts 16 --intermediate 128 --groups 4 \
		--topk-groups 2 --topk 4 --check --json "$out/json" "$@"
	says '^PASS'
	json 'd["run"]["device"] == "accel0"' "$out/json"
	json 'all(layer["counters"]["bytes_staged"] == 0 for layer in d["layers"])' "$out/json"
}
tap_ok 'accel-moe run --device accel0, fp8 in place' "$(moe --device accel0)"
tap_ok 'accel-moe run --device accel0, bf16 landed' "$(moe --device accel0 --dtype bf16 --receive landed)"
tap_ok 'accel-perf ep --device accel0' "$(runs 0 $bin/accel-perf ep --device accel0 --ranks 2 --tokens 8 --quick \
	--receive in_place --dtype bf16 --combine rank --json "$out/json"
	json 'all(r["verified"] for r in d["results"])' "$out/json"
	json 'sum(r["counters"]["bytes_staged"] for r in d["results"] if r["method"] == "accel") == 0' "$out/json")"
tap_ok 'nothing of all that is left' "$(runs 0 $bin/accelctl info --json; json 'd["memory_bytes_used"] == 0')"
tap_done
