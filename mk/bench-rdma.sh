#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The exchange over RDMA devices beside what else moves bytes by them: perftest, and Open MPI by UCX (rc_verbs) and by
# TCP. All of it in each run on the same devices, so that what disturbs one disturbs all.
#
#     mk/bench-rdma.sh [--quick] [--devices A,B[,...]] [--hosts A,B [--rsh AGENT]] [--runs N] [--samples N] [--out DIR]
#
# Rank r has the r-th device; perftest runs between the first two. The ranks are processes of this host, or with --hosts
# of two, of which A is this one: both have perftest, Open MPI and this tree, built, at the same path, and AGENT (ssh)
# is called as AGENT HOST COMMAND. Without --devices it boots two guests with a Soft-RoCE device each and measures
# between them: ratios then say more than times do.
# Writes DIR ($BUILD/bench-rdma): bench.json (schema accel-perf/1), table.md, and what each program said.
#
# --runs (3) and --samples are for the patient and for the hurried: a bar wants the default, which is accel-perf's.
# --samples counts those of 128 and of 512 tokens; of 1 and 8, whose times scatter more, it takes eight times as many.
# --quick takes a minute or two: few samples, and bars that leave room for noise.
# Exit: 0 all bars met, 1 one was missed or a result is wrong, 2 usage, 3 something is missing.
set -u
cd "$(dirname "$0")/.." || exit 3
unset MAKEFLAGS MFLAGS MAKELEVEL
export PATH="/usr/bin:/bin:/usr/sbin:/sbin:$PATH" BUILD="${BUILD:-build}"
quick='' devices='' hosts='' rsh=ssh runs=3 samples='' out=$BUILD/bench-rdma
while [ $# -gt 0 ]; do
	case $1,${2-} in
	--quick,*) quick=--quick ;;
	--devices,?*) devices=$2; shift ;;
	--hosts,?*,?*) hosts=$2; shift ;;
	--rsh,?*) rsh=$2; shift ;;
	--out,?*) out=$2; shift ;;
	--runs,[1-9]*) runs=$2; shift ;;
	--samples,[1-9]*) samples=$2; shift ;;
	--help,*) sed -n '5,/^# Exit/s/^# \{0,1\}//p' "$0"; exit 0 ;;
	*) echo "bench-rdma: $1: not an option, or without its value; see --help" >&2; exit 2 ;;
	esac
	shift
done

say() {
	printf 'bench-rdma: %s\n' "$*" >&2
}

# ---- in guests ----

if [ -z "$devices" ]; then
	mk/deps.sh build bench-rdma || exit
	make -s -j"$(nproc)" BUILD="$BUILD" tools || exit 3
	rm -rf "$out" && mkdir -p "$out" || exit 3
	mk/vm.sh --guests 2 --memory 1536 --timeout 7200 --logs "$out/guest" -- sh -c '
		. tests/vm/link.sh && link_up && link_meet up || exit 3
		[ "$VM_GUEST" = 1 ] || { link_serve; exit 0; }
		mk/bench-rdma.sh "$@"
		code=$?
		link_over
		exit $code' bench --hosts guest1,guest2 --rsh mk/vm/rsh.sh --devices rxe1,rxe2 \
		--runs "$runs" ${samples:+--samples "$samples"} --out /run/vm/bench $quick
	code=$?
	[ ! -d "$out/guest/share/bench" ] || cp "$out/guest/share/bench"/* "$out/"
	say "$(ls "$out/bench.json" "$out/table.md" 2>&1 | tr '\n' ' ')"
	exit $code
fi

# ---- on the devices ----

first=${devices%%,*}
second=${devices#*,}
second=${second%%,*}
if [ "$first" = "$devices" ]; then
	say '--devices needs two, with commas between them: a rank has one'
	exit 2
fi
first_host=127.0.0.1 second_host=
if [ -n "$hosts" ]; then
	first_host=${hosts%%,*}
	second_host=${hosts#*,}
fi
case $rsh in
/*) ;;
*/*) rsh=$PWD/$rsh ;;
esac

# On the second device's host.
on_second() {
	if [ -n "$second_host" ]; then
		"$rsh" "$second_host" "cd '$PWD' && $*"
	else
		eval "$*"
	fi
}

first_port=$(mk/rdma-port.sh "$first") && second_port=$(on_second "mk/rdma-port.sh '$second'") || exit 3
for program in ib_write_bw ib_write_lat ib_send_lat mpirun.openmpi; do
	command -v $program >/dev/null || { say "there is no $program here (mk/deps.sh bench-rdma)"; exit 3; }
done
perf=$BUILD/bin/accel-perf-openmpi
[ -x "$perf" ] || { say "$perf was not built: Open MPI's compiler is missing"; exit 3; }
rm -rf "$out" && mkdir -p "$out" || exit 3
trap 'exit 130' INT TERM
began=$(date +%s)
failed=0

# 2^18 x 4.096 us before a packet counts as lost, by all methods: an emulated CPU is slow to acknowledge.
ack_timeout=18
mpirun=${hosts:+--host $hosts --mca plm_rsh_agent $rsh}
export ACCEL_OPTS="${ACCEL_OPTS:+$ACCEL_OPTS,}verbs.ack_timeout=$ack_timeout"

# Waits until something listens at the port.
await_port() {
	looks=200
	until grep -qi ":$(printf %04x "$1") .* 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null; do
		looks=$((looks - 1))
		[ $looks -gt 0 ] && kill -0 "$2" 2>/dev/null || return 1
		sleep 0.05
	done
}

# $1 where its output goes, $2 program of perftest, rest: its words. The first device serves, the second measures.
perftest() {
	file=$out/$1
	program=$2
	shift 2
	echo "$program $*" >"$file.txt"
	# shellcheck disable=SC2086 # words
	timeout 120 "$program" $first_port -p 18515 -u $ack_timeout -F "$@" >"$file.server" 2>&1 &
	server=$!
	if ! await_port 18515 $server ||
		! on_second "timeout 120 $program $second_port -p 18515 -u $ack_timeout -F $* $first_host" \
			>>"$file.txt" 2>&1; then
		say "$program $* failed: $(tail -n 1 "$file.txt")"
		kill $server 2>/dev/null
		failed=3
	fi
	wait $server
}

# $1 name, rest: options of accel-perf ep.
exchange() {
	name=$1
	shift
	say "$(($(date +%s) - began)) s: $name"
	"$perf" ${mpirun:+--mpirun "$mpirun"} "$@" --transport verbs --devices "$devices" --combine rank --runs 1 \
		--json "$out/$name.json" >"$out/$name.log" 2>&1 </dev/null
	code=$?
	[ $code -gt 1 ] || return 0
	say "$name: exit $code: $(tail -n 1 "$out/$name.log")"
	failed=3
}

# $1 run
measure() {
	for dtype in $dtypes; do
		[ "$dtype" = bf16 ] && row=14336 || row=7392 # FP8: 7168 codes and 56 scales
		for tokens in $barred; do
			for try in $(seq $tries); do
				perftest "$1.ib_write_bw.$dtype.$tokens.$try" ib_write_bw -b -s "$row" -n "$tokens"
			done
		done
		perftest "$1.ib_write_lat.$dtype.1.1" ib_write_lat -s "$row" -n 200
		perftest "$1.ib_send_lat.$dtype.1.1" ib_send_lat -s 8 -n 200
		exchange "$1.ucx.$dtype.few" --dtype $dtype --tokens 1,8 ${samples:+--samples $((8 * samples))}
		exchange "$1.ucx.$dtype" --dtype $dtype --tokens "$many" ${samples:+--samples "$samples"}
	done
}

if [ -n "$quick" ]; then
	dtypes=fp8 barred=128 tries=1 many=128 samples=${samples:-2}
else
	dtypes='bf16 fp8' barred='128 512' tries=3 many=128,512
fi
for run in $(seq "$runs"); do
	measure $run
done
if [ -z "$quick" ]; then
	exchange 1.tcp.bf16 --tcp --dtype bf16 --tokens 1,8,128 --samples "${samples:-50}"
	[ -n "$hosts" ] || exchange 1.four.bf16 --ranks 4 --dtype bf16 --tokens 1,8,128 --samples "${samples:-50}"
fi
python3 mk/bench_rdma.py $quick "$out"
code=$?
say "$(($(date +%s) - began)) s"
[ $failed = 0 ] || exit $failed
exit $code
