#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Builds the kernel of make check-debug-kernel, once: half an hour on two cores. Run with --help for its use.
#
# What is kept, a folder for each version of source, options and compiler, laid out as Debian's packages unpack:
#     boot/vmlinuz-RELEASE   boot/config-RELEASE   boot/System.map-RELEASE
#     lib/modules/RELEASE/   modules.builtin and modules.order; build -> the tree below
#     usr/src/linux-RELEASE  what modules are built against (KDIR)
# It appears by one rename, when all of it is there. An interrupted build goes on where it was, and after a change of
# the options compiles only what that touches.
set -u
cd "$(dirname "$0")/.." || exit
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
package=linux-source-6.12
fragment=tests/vm/debug.config
room_mib=6000
jobs=${JOBS:-$(nproc)}
cache=${ACCEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/accel}/debug-kernel

usage() {
	cat <<USAGE
usage: mk/debug-kernel.sh [--path]

Builds a $package with the options of $fragment, unless it is there, and prints its folder.
With --path it builds nothing: exit status 3 if there is no such kernel yet.

Environment: ACCEL_CACHE, where kernels are kept (\$XDG_CACHE_HOME/accel or ~/.cache/accel); JOBS, processes at a time
(the number of cores). A build takes $room_mib MiB there, what it leaves 150 MiB; remove $cache
to have both back.
Exit status: 0 it is there, 1 the build failed, 2 usage, 3 something that it needs is missing.
USAGE
}

say() {
	echo "debug-kernel: $*" >&2
}

# $1 exit status, then what went wrong and what to do.
die() {
	status=$1
	shift
	say "$*"
	exit "$status"
}

# Runs a step whose output goes to the log; a failure shows the log's end.
step() {
	name=$1
	shift
	if ! "$@" >>"$log" 2>&1; then
		tail -n 25 "$log" >&2
		die 1 "$name failed; the end of $work/log is above. Run it again to go on from here, or remove $work" \
			"to start anew"
	fi
}

# Downloads and unpacks the source in a folder beside, so that half of one is never taken for a whole.
fetch() {
	rm -rf "$work/fetch" && mkdir -p "$work/fetch" || return
	(cd "$work/fetch" && apt-get download "$package=$version") || return
	dpkg-deb --fsys-tarfile "$work/fetch/$package"_*.deb | tar -xO "./usr/src/$package.tar.xz" |
		tar -xJ -C "$work/fetch" || return
	rm -rf "$work/source" "$work/build" "$work/version" || return
	mv "$work/fetch/$package" "$work/source" && echo "$version" >"$work/version" && rm -rf "$work/fetch"
}

# Kconfig drops what it cannot honour without a word: each line of the fragment must be in the result.
dropped_options() {
	awk '
		FILENAME != ARGV[2] {
			if (/^CONFIG_/)
				want[++n] = $0
			else if (/^# CONFIG_[A-Z0-9_]* is not set$/)
				off[$2] = 1
			next
		}
		{ have[$0] = 1 }
		/^CONFIG_/ && (substr($0, 1, index($0, "=") - 1) in off) { print $0 "   (must be off)" }
		END {
			for (i = 1; i <= n; i++)
				if (!(want[i] in have))
					print want[i]
		}' "$fragment" "$work/build/.config"
}

configure() {
	mkdir -p "$work/build"
	step 'configuring' make -C "$work/source" O="$work/build" KCONFIG_ALLCONFIG="$PWD/$fragment" allnoconfig
	step 'configuring' make -C "$work/build" olddefconfig
	dropped=$(dropped_options)
	[ -z "$dropped" ] || die 1 "these lines of $fragment have no effect in $version: an option was renamed," \
		"or one that it depends on is missing:
$dropped"
}

# Says how far it is while make runs.
compile() {
	started=$(date +%s)
	make -C "$work/build" -j"$jobs" bzImage modules >>"$log" 2>&1 &
	make_pid=$!
	trap 'kill $make_pid 2>/dev/null; exit 130' INT TERM
	while kill -0 "$make_pid" 2>/dev/null; do
		timeout 60 tail --pid="$make_pid" -f /dev/null
		say "$(grep -cE '^  (CC|AS|AR) ' "$log") steps, $((($(date +%s) - started) / 60)) min"
	done
	step 'compiling' wait "$make_pid"
	trap - INT TERM
}

# Puts what is kept into $1.
keep() {
	release=$(cat "$work/build/include/config/kernel.release") || return
	mkdir -p "$1/boot" "$1/lib/modules/$release/kernel" "$1/usr/src" || return
	for file in arch/x86/boot/bzImage:vmlinuz .config:config System.map:System.map; do
		cp "$work/build/${file%:*}" "$1/boot/${file#*:}-$release" || return
	done
	make -C "$work/build" INSTALL_MOD_PATH="$1" DEPMOD=true modules_install || return
	make -C "$work/build" run-command KBUILD_RUN_COMMAND="+\$(srctree)/scripts/package/install-extmod-build \
		$1/usr/src/linux-$release" || return
	cp "$work/build/.config" "$1/usr/src/linux-$release/" || return
	ln -sfn "../../../usr/src/linux-$release" "$1/lib/modules/$release/build"
}

case ${1:-} in
'' | --path) ;;
-h | --help)
	usage
	exit 0
	;;
*)
	usage >&2
	exit 2
	;;
esac

version=$(LC_ALL=C apt-cache policy "$package" 2>/dev/null | awk '$1 == "Candidate:" { print $2 }')
case $version in
'' | '(none)') die 3 "apt offers no $package: this needs Debian 12 or 13 with its security updates in" \
	"the sources, and lists that apt-get update has fetched" ;;
esac
compiler=$(gcc -dumpfullversion 2>/dev/null)
stamp=$({
	echo "$version $compiler"
	cat "$fragment"
} | sha256sum | cut -c 1-12)
kernel=$cache/$version-$stamp
if [ -d "$kernel" ]; then
	echo "$kernel"
	exit 0
fi
[ "${1:-}" != --path ] || die 3 "no kernel for $package $version and $fragment; mk/debug-kernel.sh builds it"

mk/deps.sh build debug-kernel || exit
work=$cache/work
mkdir -p "$work" || die 3 "cannot write to $cache; set ACCEL_CACHE to a folder with $room_mib MiB"
exec 9>"$work/lock"
flock -n 9 || die 3 "another run builds a kernel now, in $work; wait for it"
free_mib=$(df -Pm "$work" | awk 'NR == 2 { print $4 }')
[ "$free_mib" -ge "$room_mib" ] || [ -e "$work/build/vmlinux" ] ||
	die 3 "$cache has $free_mib MiB free and a build takes $room_mib; set ACCEL_CACHE to a folder with more"
log=$work/log
export LC_ALL=C KBUILD_BUILD_USER=accel KBUILD_BUILD_HOST=accel KBUILD_BUILD_TIMESTAMP='1970-01-01'
unset MAKEFLAGS MFLAGS MAKELEVEL O KBUILD_OUTPUT KCONFIG_CONFIG ARCH CROSS_COMPILE

if [ "$(cat "$work/version" 2>/dev/null)" != "$version" ]; then
	say "fetching $package $version"
	step "fetching $package" fetch
fi
configure
say "building $version with $jobs processes: half an hour on two cores; the log is $log"
compile
rm -rf "$work/kept"
step 'putting the kernel together' keep "$work/kept"
mv "$work/kept" "$kernel" || exit 1
rm -rf "$work"
say "built in $kernel, $(du -sm "$kernel" | cut -f 1) MiB"
echo "$kernel"
