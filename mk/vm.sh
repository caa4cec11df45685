#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Boots a guest, or several on one network, and runs programs of this machine in it. mk/vm/boot.sh is how a guest starts
# and mk/vm/verdict.sh what became of it; init.sh and guest.sh there are the guest's own half. A program's output goes
# through files of a folder that guest and host share, the kernel's log alone over the console, so that neither disturbs
# the other and what was written before a crash is there.
set -u
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
tree=$(cd "$(dirname "$0")/.." && pwd)
. "$tree/mk/vm/boot.sh"
. "$tree/mk/vm/verdict.sh"

usage() {
	cat <<'TEXT'
usage: mk/vm.sh [options] [--] PROGRAM [ARGUMENT...]
       mk/vm.sh [options] --tests TEST...

Boots a Debian kernel under QEMU whose root is this machine's, read-only under a file system that keeps changes in
memory, and runs PROGRAM there as root, from the top of this tree. Standard output, standard error and exit status are
the program's; any complaint of the guest's kernel (WARNING, Oops, lockdep, KASAN, a hung task...) makes it a failure.
modprobe finds the modules that were built here beside the kernel's own.

    -m, --memory MIB      of each guest, MiB (1024)
    -c, --cpus N          of each guest (2)
        --nodes N         NUMA nodes of each guest, among which its memory and CPUs are shared out (1)
    -t, --timeout S       seconds until all is ended, boot included (120)
    -g, --guests N        guests with one network, 1..8 (1): the program runs in each, with VM_GUEST=1..N, VM_GUESTS=N
                          and VM_NIC, its card; guestI is 10.77.0.I; /run/vm is one folder for all of them
        --leaves I        guest I, not 1, goes in the midst of its program, as if its plug were pulled: the program
                          makes the file /run/vm/I/leaves, then "echo b >/proc/sysrq-trigger". To stay is a failure
    -a, --append TEXT     more for the kernel's command line
    -e, --env NAME[=VAL]  a variable for the program, as here or VAL; BUILD, SEED and TEST_SECONDS_MAX always go
    -l, --logs DIR        keep each guest's console and output in DIR
        --tests           the arguments are tests, programs and scripts that speak TAP: each runs by mk/test.sh, its
                          results are kept in $CHECK_DIR (build/check), and one that makes the kernel complain fails

Environment: BUILD (build); VM_KERNEL and VM_MODULES, another kernel's bzImage and the folder whose
lib/modules/RELEASE has its modules (else the kernel of mk/kernel.sh); VM_APPEND, as --append; VM_ACCEL=tcg or kvm (else
KVM if it boots the kernel); ACCEL_CACHE as for mk/kernel.sh.
Exit status: the program's; 1 if it passed and the kernel complained, or if a test failed; 2 wrong usage; 3 something is
missing; 124 the time was up; 125 a guest died or did not boot.
TEXT
}

say() {
	echo "vm: $*" >&2
}

die() {
	say "$*"
	exit 3
}

quoted() {
	for word in "$@"; do
		printf "'%s' " "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
	done
	echo
}

absolute() {
	case $1 in
	/*) echo "$1" ;;
	*) echo "$PWD/$1" ;;
	esac
}

# Sets release, vmlinuz and modules, the folder that modprobe -d takes.
find_kernel() {
	if [ -n "${VM_KERNEL:-}" ]; then
		[ -n "${VM_MODULES:-}" ] || die 'VM_KERNEL needs VM_MODULES, where lib/modules has its modules'
		vmlinuz=$(absolute "$VM_KERNEL")
		modules=$(absolute "$VM_MODULES")
		release=$(ls "$modules/lib/modules" 2>/dev/null)
		case $release in
		'' | *[[:space:]]*) die "$modules/lib/modules must hold the modules of one kernel, not '$release'" ;;
		esac
	else
		kernel=$("$tree/mk/kernel.sh" RELEASE VMLINUZ MODULES) || exit
		{ read -r release; read -r vmlinuz; read -r modules; } <<LINES
$kernel
LINES
	fi
	[ -r "$vmlinuz" ] || die "cannot read the kernel $vmlinuz"
}

# Waits until all guests have ended. If one ends before it has said how its work went, the others are ended too: it is
# the $culprit. But if it is the one that $leaves, and has said so, they are told.
await_all() {
	culprit=
	ended=0
	while [ $ended -lt "$guests" ]; do
		sleep 0.1
		ended=0
		for guest in $(seq "$guests"); do
			[ -e "$run/$guest.exit" ] || continue
			ended=$((ended + 1))
			if [ "$guest" = "$leaves" ] && [ -e "$run/share/$guest/leaves" ]; then
				: >"$run/share/$guest/left"
				continue
			fi
			[ -z "$culprit" ] && [ ! -e "$run/share/$guest/status" ] || continue
			culprit=$guest
			stop_all
		done
	done
}

stop_all() {
	: >"$run/stop"
	for pid in "$run"/*.pid; do
		[ ! -e "$pid" ] || [ -e "${pid%.pid}.exit" ] || kill "$(cat "$pid")" 2>/dev/null
	done
}

clean_up() {
	stop_all
	[ -z "$logs" ] || { mkdir -p "$logs" && cp -r "$run"/*.console "$run"/*.qemu "$run/share" "$logs"; } 2>/dev/null
	rm -rf "$run"
}

# $1 a list of NAME or NAME=VALUE, a line each: what the guest's program shall have of them in its environment.
environment() {
	echo "$1" | while IFS= read -r variable; do
		name=${variable%%=*}
		case $variable in
		*=*) value=${variable#*=} ;;
		*) eval "[ \"\${$name+set}\" ]" && eval "value=\$$name" || continue ;;
		esac
		echo "export $name=$(quoted "$value")"
	done
}

bad_usage() {
	[ -z "${1:-}" ] || say "$1"
	usage >&2
	exit 2
}

memory=1024 cpus=2 nodes=1 limit=120 guests=1 leaves=0 append=${VM_APPEND:-} logs='' mode=job
variables='BUILD
SEED
TEST_SECONDS_MAX'
long=help,memory:,cpus:,nodes:,timeout:,guests:,leaves:,append:,env:,logs:,tests
words=$(getopt -n vm -o +hm:c:t:g:a:e:l: -l $long -- "$@") || bad_usage
eval "set -- $words"
while [ "$1" != -- ]; do
	option=$1
	shift
	case $option in
	-h | --help)
		usage
		exit
		;;
	--tests)
		mode=tests
		continue
		;;
	-m | --memory) memory=$1 ;;
	-c | --cpus) cpus=$1 ;;
	--nodes) nodes=$1 ;;
	-t | --timeout) limit=$1 ;;
	-g | --guests) guests=$1 ;;
	--leaves) leaves=$1 ;;
	-a | --append) append="$append $1" ;;
	-e | --env) variables="$variables
$1" ;;
	-l | --logs) logs=$1 ;;
	esac
	shift
done
shift
case "$memory,$cpus,$nodes,$limit,$guests,$leaves" in
*[!0-9,]* | ,* | *,,* | *,) bad_usage 'memory, cpus, nodes, timeout, guests and leaves are numbers' ;;
esac
[ "$nodes" -ge 1 ] && [ "$nodes" -le "$cpus" ] || bad_usage 'each NUMA node has a CPU at least'
[ "$guests" -ge 1 ] && [ "$guests" -le 8 ] || bad_usage 'there can be 1 to 8 guests'
[ "$leaves" != 1 ] && [ "$leaves" -le "$guests" ] || bad_usage 'who leaves is a guest, and not guest 1'
[ $# -gt 0 ] || bad_usage

for tool in qemu-system-x86_64 busybox depmod; do
	command -v $tool >/dev/null || die "no $tool here: run 'make deps'"
done
build=$(absolute "${BUILD:-$tree/build}")
results=$(absolute "${CHECK_DIR:-$build/check}")
run=$(mktemp -d "${TMPDIR:-/tmp}/vm.XXXXXX") || exit 3
trap clean_up EXIT
trap 'exit 130' INT TERM
find_kernel
prepare_boot
choose_accelerator

mkdir "$run/share"
environment "$variables" >"$run/share/environment"
if [ $mode = tests ]; then
	printf '%s\n' "$@" >"$run/share/tests"
else
	quoted "$@" >"$run/share/job"
fi
for guest in $(seq "$guests"); do
	start "$guest"
done
if [ $mode = job ]; then
	: >"$run/share/1/stdout"
	: >"$run/share/1/stderr"
	tail -c +1 -f -s 0.1 --pid="$first" "$run/share/1/stdout" &
	tail -c +1 -f -s 0.1 --pid="$first" "$run/share/1/stderr" >&2 &
fi
await_all
wait

status=0
[ -z "$culprit" ] || judge_culprit "$culprit"
if [ $mode = tests ]; then
	keep_results
else
	job_status
fi
complained=$(job_complaints)
if [ -n "$complained" ]; then
	echo "$complained" | head -n 20 >&2
	[ $status != 0 ] || [ $mode = tests ] || status=1
	[ $status -gt 1 ] || [ $mode = job ] || status=125
fi
exit $status
