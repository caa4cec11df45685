#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The stock Debian kernel that accel.ko is built for and tested on: image, headers and build tools, downloaded with apt
# and unpacked into a cache. Nothing is installed, nothing of this machine's system changes, and no root is needed. A
# kernel appears in the cache in one rename, so it is whole or absent, whoever else runs this at the same time.
set -u
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
series=6.12

usage() {
	cat <<'TEXT'
usage: mk/kernel.sh [--update] [NAME...]
       mk/kernel.sh --clean

Prints where the newest cached Debian kernel lies, after downloading one (125 MB, 205 MB unpacked) if there is
none: lines for eval, or the value of each NAME.

    RELEASE   what uname -r says under it
    KDIR      its headers, for make -C "$KDIR" M=...
    VMLINUZ   its image
    MODULES   the folder whose lib/modules has its modules, for modprobe -d

    --update  ask the archive for a newer one of the series first
    --clean   remove all cached kernels

Environment: ACCEL_CACHE, the cache; by default $XDG_CACHE_HOME/accel or ~/.cache/accel.
Exit status: 0, 2 wrong usage, 3 no kernel could be had, and why.
TEXT
}

say() {
	echo "kernel: $*" >&2
}

die() {
	say "$*"
	exit 3
}

# The newest cached release, if any.
cached() {
	for dir in "$cache/$series".*; do
		[ -d "$dir" ] && basename "$dir"
	done | sort -V | tail -n 1
}

# What a release consists of.
packages() {
	base=${1%-amd64}
	echo "linux-image-$1 linux-headers-$1 linux-headers-$base-common linux-kbuild-$base"
}

# The newest release of the series all of whose packages apt knows; options for apt in $apt.
newest() { # shellcheck disable=SC2086,SC2046 # lists
	apt-cache $apt pkgnames "linux-image-$series." |
		sed -nE "s/^linux-image-($series\.[0-9]+\+[a-z]+[0-9]*-amd64)\$/\1/p" | sort -rV |
		while read -r release; do
		if apt-cache $apt show --no-all-versions $(packages "$release") >/dev/null 2>&1; then
			echo "$release"
			break
		fi
	done
}

# Lists of our own, for when those of the system are absent or older than the archive, or only root may renew them.
own_lists() {
	apt="-c $new/apt.conf"
	mkdir -p "$new/lists/partial" "$new/cache/archives/partial"
	cat >"$new/apt.conf" <<CONF
Dir::State::lists "$new/lists";
Dir::Cache "$new/cache";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "$(id -un)";
CONF
	say "reading the archive's lists"
	# shellcheck disable=SC2086 # options
	apt-get $apt -qq update >"$new/log" 2>&1 </dev/null
}

# Downloads $release into $new; the reason of a failure stays in $new/log.
download() {
	release=$(newest)
	[ -n "$release" ] || return
	[ ! -d "$cache/$release" ] || return 0
	say "downloading $release into $cache"
	# shellcheck disable=SC2086,SC2046 # lists
	(cd "$new" && apt-get $apt -qq -o APT::Sandbox::User="$(id -un)" download $(packages "$release")) \
		>"$new/log" 2>&1 </dev/null
}

# Makes of the unpacked packages a tree that builds modules where it lies.
prepare() {
	headers=$new/tree/usr/src/linux-headers-$release
	# The packaged one names an absolute path.
	echo "include \$(dir \$(lastword \$(MAKEFILE_LIST)))../linux-headers-${release%-amd64}-common/Makefile" \
		>"$headers/Makefile" || return
	# With it, every module would get BTF of the kernel's types, which takes pahole.
	rm -f "$headers/vmlinux"
	[ -e "$new/tree/lib" ] || ln -s usr/lib "$new/tree/lib"
	[ -n "$(vmlinuz "$new/tree")" ]
}

vmlinuz() {
	for file in "$1/boot/vmlinuz-$release" "$1/usr/lib/modules/$release/vmlinuz"; do
		[ ! -e "$file" ] || echo "$file"
	done
}

fetch() {
	command -v apt-get >/dev/null || die "no apt-get here to download Debian's kernel with; give make driver a \
KDIR= and mk/vm.sh a VM_KERNEL= and VM_MODULES= of your own (see their --help)"
	[ "$(dpkg --print-architecture)" = amd64 ] || die "only for amd64; give make driver a KDIR= of your own"
	apt=
	if [ -n "$update" ]; then
		own_lists || die "could not read the archive's lists: $(tail -n 3 "$new/log")"
	fi
	# The system's lists first: that takes no network but for the packages.
	if ! download && { [ -n "$update" ] || ! own_lists || ! download; }; then
		cat "$new/log" >&2 2>/dev/null
		[ -n "$release" ] || die "apt's sources have no linux-image-$series.*-amd64 with its headers: Debian \
12 has it in bookworm-security, Debian 13 in trixie; add that to /etc/apt/sources.list"
		die "could not download $release; what apt-get said is above (is the network there?)"
	fi
	[ ! -d "$cache/$release" ] || return 0
	say "unpacking $release"
	mkdir "$new/tree"
	for deb in "$new"/*.deb; do
		dpkg -x "$deb" "$new/tree" || die "could not unpack ${deb##*/} into $cache (is the disk full?)"
	done
	prepare || die "$release is not laid out as Debian's kernels of the series $series are"
	mv "$new/tree" "$cache/$release" || exit 3
}

update=
case ${1:-} in
--help)
	usage
	exit
	;;
--update)
	update=yes
	shift
	;;
esac

home=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
cache=${ACCEL_CACHE:-${home:+$home/accel}}
[ -n "$cache" ] || die "neither ACCEL_CACHE nor HOME is set: no place to keep a kernel"
cache=$cache/kernel
case $cache in
/*) ;;
*) cache=$PWD/$cache ;;
esac
case $cache in
*[[:space:]]*) die "$cache: the kernel's makefiles bear no spaces in paths; set ACCEL_CACHE" ;;
esac

if [ "${1:-}" = --clean ]; then
	rm -rf "$cache"
	exit
fi
for name in "$@"; do
	case $name in
	RELEASE | KDIR | VMLINUZ | MODULES) ;;
	*)
		usage >&2
		exit 2
		;;
	esac
done

release=$(cached)
if [ -z "$release" ] || [ -n "$update" ]; then
	mkdir -p "$cache" || exit 3
	exec 9>"$cache/lock"
	flock -n 9 || {
		say "waiting for another run that downloads into $cache"
		flock 9
	}
	rm -rf "$cache"/.new.*
	release=$(cached)
	if [ -z "$release" ] || [ -n "$update" ]; then
		new=$(mktemp -d "$cache/.new.XXXXXX") || exit 3
		trap 'rm -rf "$new"' EXIT
		trap 'exit 130' INT TERM
		fetch
	fi
fi

dir=$cache/$release
value() {
	case $1 in
	RELEASE) echo "$release" ;;
	KDIR) echo "$dir/usr/src/linux-headers-$release" ;;
	VMLINUZ) vmlinuz "$dir" ;;
	MODULES) echo "$dir" ;;
	esac
}
if [ $# = 0 ]; then
	for name in RELEASE KDIR VMLINUZ MODULES; do
		echo "$name='$(value $name)'"
	done
fi
for name in "$@"; do
	value "$name"
done
