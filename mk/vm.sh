#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Boots a guest, or several on one network, and runs programs of this machine in it. The host's half: builds what the
# guest starts from, starts QEMU, watches over it, and judges the kernel's log. The guest's half is mk/vm/init.sh and
# mk/vm/guest.sh. A program's output travels in files of a folder that guest and host share, the kernel's log alone over
# the console, so that neither disturbs the other and what was written before a crash is there.
set -u
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
tree=$(cd "$(dirname "$0")/.." && pwd)

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
    -t, --timeout S       seconds until all is ended, boot included (120)
    -g, --guests N        guests with one network, 1..8 (1): the program runs in each, with VM_GUEST=1..N, VM_GUESTS=N
                          and VM_NIC, its card; guestI is 10.77.0.I; /run/vm is one folder for all of them
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
		[ -n "${VM_MODULES:-}" ] || die 'VM_KERNEL needs VM_MODULES beside it, the folder whose lib/modules has its modules'
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

# The modules that were built here for this kernel.
built_modules() {
	find "$build/driver" "$build/tests/vm" -name '*.ko' 2>/dev/null | sort | while read -r module; do
		case $(modinfo -F vermagic "$module") in
		"$release "*) echo "$module" ;;
		esac
	done
}

# What a guest can have a use for: no driver of hardware, whose indexing takes longer than booting.
useful='arch block crypto fs kernel lib mm net security virt drivers/accel drivers/block drivers/char drivers/dma-buf
drivers/gpu/drm/*.ko* drivers/gpu/drm/scheduler drivers/gpu/drm/vgem drivers/infiniband/core drivers/infiniband/sw
drivers/net/*.ko* drivers/pci drivers/vfio drivers/vhost drivers/virtio'

# $1 folder: makes its lib/modules/$release of the kernel's modules, which stay where they are, and ours.
index_modules() {
	from=$modules/lib/modules/$release
	to=$1/lib/modules/$release
	mkdir -p "$to/updates"
	# shellcheck disable=SC2086 # patterns
	(cd "$from/kernel" && for path in $useful; do
		[ -e "$path" ] || continue
		mkdir -p "$to/kernel/$(dirname "$path")"
		ln -s "$from/kernel/$path" "$to/kernel/$path"
	done)
	cp "$from"/modules.order "$from"/modules.builtin* "$to/"
	# shellcheck disable=SC2086 # a list
	[ -z "$ours" ] || cp $ours "$to/updates/"
	depmod -b "$1" "$release"
}

# $1 folder with those modules: makes its initrd of busybox, init.sh and what mounting the root takes.
make_initrd() {
	ird=$1/initramfs
	mkdir -p "$ird/bin" "$ird/modules" "$ird/dev" "$ird/proc" "$ird/sys"
	busybox=$(command -v busybox)
	cp "$busybox" "$ird/bin/busybox"
	for library in $(ldd "$busybox" 2>/dev/null | grep -o '/[^ ]*'); do
		install -D "$library" "$ird$library"
	done
	install -m 755 "$tree/mk/vm/init.sh" "$ird/init"
	for module in virtio_pci virtio_net 9pnet_virtio 9p overlay; do
		modprobe -d "$1" -S "$release" --show-depends $module
	done 2>/dev/null | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		name=${file##*/}
		case $name in
		*.xz) busybox unxz -c "$file" >"$ird/modules/${name%.xz}" ;;
		*) cp "$file" "$ird/modules/" ;;
		esac
		echo "${name%.xz}"
	done >"$ird/modules/order"
	(cd "$ird" && find . | busybox cpio -o -H newc) >"$1/initrd" 2>/dev/null
	rm -rf "$ird"
}

# Sets boot, a folder with an initrd and indexed modules. It is made again, under another name, when anything that it is
# made of has changed: a guest that runs keeps its own.
prepare_boot() {
	ours=$(built_modules)
	# shellcheck disable=SC2086 # a list
	boot=$build/vm/$(ls -lL --time-style=full-iso "$vmlinuz" "$modules/lib/modules/$release/modules.order" \
		"$tree/mk/vm/init.sh" "$tree/mk/vm.sh" $ours | cksum | cut -d ' ' -f 1)
	[ ! -d "$boot" ] || return 0
	mkdir -p "$build/vm"
	find "$build/vm" -mindepth 1 -maxdepth 1 -mmin +600 -exec rm -rf {} +
	new=$(mktemp -d "$build/vm/.new.XXXXXX") || exit 3
	index_modules "$new" 2>"$new/log" || die "cannot index the modules of $release: $(tail -n 3 "$new/log")"
	make_initrd "$new" || die "cannot make an initramfs in $new"
	# Where another run was first, its folder is the same.
	mv -T "$new" "$boot" 2>/dev/null || rm -rf "$new"
}

# $1 accelerator, $2 seconds at most, $3 file for the console, $4 words for the kernel, rest: options of QEMU.
run_qemu() {
	cpu=max how=tcg,thread=multi
	[ "$1" = tcg ] || cpu=host how=$1
	seconds=$2 console=$3 words=$4
	shift 4
	exec timeout -k 5 "$seconds" qemu-system-x86_64 -M q35 -accel $how -cpu $cpu -m "$memory" -smp "$cpus" -nodefaults \
		-no-reboot -display none -serial "file:$console" -kernel "$vmlinuz" -initrd "$boot/initrd" \
		-append "console=ttyS0 ignore_loglevel panic=-1 oops=panic net.ifnames=0 mitigations=off $words" "$@" </dev/null
}

# Sets accelerator. KVM is of use only if it boots this kernel, which is asked once per boot of the host.
choose_accelerator() {
	accelerator=${VM_ACCEL:-}
	[ -z "$accelerator" ] || return 0
	accelerator=tcg
	[ -r /dev/kvm ] && [ -w /dev/kvm ] || return 0
	answer=$build/vm/accelerator-$(cat /proc/sys/kernel/random/boot_id)-$release
	if [ ! -e "$answer" ]; then
		{ (run_qemu kvm 10 "$run/kvm" vm_tag=vm:boots) & wait $!; } >/dev/null 2>&1
		if grep -q '^vm:boots' "$run/kvm" 2>/dev/null; then
			accelerator=kvm
		else
			say "KVM does not boot $release here: emulating the CPU (TCG)"
		fi
		echo "$accelerator" >"$answer.$$"
		mv "$answer.$$" "$answer"
	fi
	accelerator=$(cat "$answer")
}

# Options for the network cards of guest $1: guest 1 has one for every other guest, which all lead to it.
cards() {
	[ "$guests" -gt 1 ] || { echo -net none; return; }
	for peer in $(seq 2 "$guests"); do
		case $1 in
		1) near=$run/$peer.a far=$run/$peer.b mac=52:54:00:00:01:0$peer ;;
		"$peer") near=$run/$peer.b far=$run/$peer.a mac=52:54:00:00:00:0$peer ;;
		*) continue ;;
		esac
		echo "-netdev dgram,id=n$peer,local.type=unix,local.path=$near,remote.type=unix,remote.path=$far"
		echo "-device virtio-net-pci,netdev=n$peer,mac=$mac,host_mtu=9000"
	done
}

# Starts guest $1 in the background; its exit status will be in $run/$1.exit.
start() {
	# What the load of the host can cause is no fault of the guest's kernel: it is given minutes.
	words="printk.devkmsg=on log_buf_len=4M rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60 $append"
	words="$words vm_guest=$1 vm_guests=$guests vm_tree=$tree vm_modules=$boot/lib/modules/$release"
	mkdir "$run/share/$1"
	{
		# shellcheck disable=SC2046 # words
		(run_qemu "$accelerator" "$limit" "$run/$1.console" "$words" $(cards "$1") \
			-fsdev local,id=r,path=/,security_model=none,readonly=on,multidevs=remap \
			-device virtio-9p-pci,fsdev=r,mount_tag=root \
			-fsdev "local,id=s,path=$run/share,security_model=none" \
			-device virtio-9p-pci,fsdev=s,mount_tag=share) >"$run/$1.qemu" 2>&1 &
		echo $! >"$run/$1.pid"
		wait $!
		echo $? >"$run/$1.exit"
	} &
	until [ -e "$run/$1.pid" ]; do sleep 0.01; done
}

# Waits until all guests have ended. If one ends before it has said how its work went, the others are ended too: it is
# the $culprit.
await_all() {
	culprit=
	ended=0
	while [ $ended -lt "$guests" ]; do
		sleep 0.1
		ended=0
		for guest in $(seq "$guests"); do
			[ -e "$run/$guest.exit" ] || continue
			ended=$((ended + 1))
			[ -z "$culprit" ] && [ ! -e "$run/share/$guest/status" ] || continue
			culprit=$guest
			stop_all
		done
	done
}

stop_all() {
	for pid in "$run"/*.pid; do
		[ ! -e "$pid" ] || [ -e "${pid%.pid}.exit" ] || kill "$(cat "$pid")" 2>/dev/null
	done
}

complaints() {
	awk -f "$tree/mk/vm/splats.awk" "$run/$1.console"
}

# Says how guest $1 failed to end, and sets status.
judge_culprit() {
	name='the guest'
	[ "$guests" = 1 ] || name="guest $1"
	during=$(running "$1")
	during=${during:+ in $during}
	status=125
	case $(cat "$run/$1.exit") in
	124 | 137)
		status=124
		say "$limit s were up and $name was not done$during; the end of its console:"
		;;
	*)
		crash=$(complaints "$1" | grep -m 1 -E 'panic|Oops|BUG' | cut -f 2)
		if [ -n "$crash" ]; then
			say "the kernel of $name crashed$during: $crash; the end of its console:"
		else
			say "$name ended before its work was done$during; what QEMU said, and the end of its console:"
			cat "$run/$1.qemu" >&2
		fi
		;;
	esac
	tail -n 40 "$run/$1.console" >&2
}

# The test that guest $1 began last, while it has not said that it is done.
running() {
	awk '/vm: test / { sub(/\r$/, ""); sub(/.*vm: test /, ""); test = $0 } /vm: done/ { test = "" } END { print test }' \
		"$run/$1.console"
}

# What is wrong with test $1 beyond what it says itself, a line each.
problems() {
	if [ ! -e "$run/share/1/check/$1.tap" ] && [ "$(running 1)" != "$1" ]; then
		echo 'not run: the guest had ended'
	elif ! grep -q '^# exit ' "$run/share/1/check/$1.tap"; then
		echo 'the guest ended during this test'
	fi
	for guest in $(seq 2 "$guests"); do
		tap=$run/share/$guest/check/$1.tap
		grep -q '^# exit 0' "$tap" 2>/dev/null || echo "guest $guest: $(grep -m 1 -E '^(not ok|# exit)' "$tap")"
	done
	for guest in $(seq "$guests"); do
		complaints "$guest" | awk -F '\t' -v test="$1" '$1 == test { print "kernel log: " $2 }'
	done
}

# Keeps the results of test $1 where the host's tests have theirs; fails if the test did.
keep_result() {
	kept=$results/$1
	mkdir -p "$(dirname "$kept")"
	cat "$run/share/1/check/$1.log" >"$kept.log" 2>/dev/null
	problems "$1" >"$run/problems"
	if [ -s "$run/problems" ]; then
		{
			grep -vE '^(1\.\.|# exit)' "$run/share/1/check/$1.tap"
			sed 's/#/ /g; s/^/not ok - /' "$run/problems"
		} 2>/dev/null | awk '/^(not )?ok / { count++ } { print } END { print "1.." count; print "# exit 1" }' >"$kept.tap"
		awk -v begin="vm: test $1" '/vm: (test|done)/ { inside = 0 } index($0, begin) { inside = 1 } inside' \
			"$run/1.console" >>"$kept.log"
	else
		cp "$run/share/1/check/$1.tap" "$kept.tap"
	fi
	grep -q '^# exit 0' "$kept.tap" && ! grep -q '^not ok' "$kept.tap"
}

keep_results() {
	while read -r test; do
		if keep_result "$test"; then
			echo "# passed $test"
		else
			echo "# FAILED $test"
			grep -E '^(not ok|#)' "$results/$test.tap" | tail -n 40 >&2
			tail -n 40 "$results/$test.log" >&2
			[ $status != 0 ] || status=1
		fi
	done <"$run/share/tests"
}

# How the program of every guest ended; the first that failed decides.
job_status() {
	for guest in $(seq "$guests"); do
		[ $status = 0 ] || return 0
		status=$(cat "$run/share/$guest/status")
		[ "$status" = 0 ] || [ "$guests" = 1 ] || say "guest $guest: the program's exit status is $status"
	done
}

# What the kernels said outside of tests, which no test answers for.
job_complaints() {
	for guest in $(seq "$guests"); do
		complaints "$guest" | awk -F '\t' -v guest="$guest" '$1 == "-" { print "vm: kernel log of guest " guest ": " $2 }'
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

memory=1024 cpus=2 limit=120 guests=1 append=${VM_APPEND:-} logs='' mode=job
variables='BUILD
SEED
TEST_SECONDS_MAX'
words=$(getopt -n vm -o +hm:c:t:g:a:e:l: -l help,memory:,cpus:,timeout:,guests:,append:,env:,logs:,tests -- "$@") ||
	bad_usage
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
	-t | --timeout) limit=$1 ;;
	-g | --guests) guests=$1 ;;
	-a | --append) append="$append $1" ;;
	-e | --env) variables="$variables
$1" ;;
	-l | --logs) logs=$1 ;;
	esac
	shift
done
shift
case "$memory,$cpus,$limit,$guests" in
*[!0-9,]* | ,* | *,,* | *,) bad_usage 'memory, cpus, timeout and guests are numbers' ;;
esac
[ "$guests" -ge 1 ] && [ "$guests" -le 8 ] || bad_usage 'there can be 1 to 8 guests'
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
	first=$(cat "$run/1.pid")
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
