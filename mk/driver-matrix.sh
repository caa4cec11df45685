#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Builds accel.ko against the headers of each kernel that Debian has of 6.12 and later, with W=1, and prints a table.
# The kernel of Debian 12 builds here; the newer ones, whose tools need a newer C library, in a minimal Debian 13 that
# is made once in the cache. That takes root and debootstrap, and a minute the first time.
set -u
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
cd "$(dirname "$0")/.." || exit
suite=trixie

usage() {
	cat <<'TEXT'
usage: mk/driver-matrix.sh [--update]

    --update  take the newest kernels of the archive, not those of the last run

Environment: BUILD (build), under whose driver-matrix/ the modules go; ACCEL_CACHE (~/.cache/accel), where headers stay.
Exit status: 0 if all builds passed without a warning, 1 if one did not, 2 wrong usage, 3 something is missing.
TEXT
}

die() {
	echo "driver-matrix: $*" >&2
	exit 3
}

update=
case "$*" in
--help) usage && exit ;;
--update) update=yes ;;
'') ;;
*) usage >&2 && exit 2 ;;
esac

home=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
cache=${ACCEL_CACHE:-${home:+$home/accel}}
[ -n "$cache" ] || die 'neither ACCEL_CACHE nor HOME is set: no place to keep headers'
mkdir -p "$cache" "${BUILD:=build}/driver-matrix" || exit 3
root=$(cd "$cache" && pwd)/headers-$suite
out=$(cd "$BUILD/driver-matrix" && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# A command in $1, with the tree at /source and the place for modules at /out.
inside() {
	where=$1
	shift
	env -i PATH="$PATH" HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		WHERE="$where" SOURCE="$PWD" OUT="$out" \
		unshare --mount --pid --fork --kill-child sh -eu -c '
			mount --make-rprivate /
			mkdir -p "$WHERE/source" "$WHERE/out"
			mount -t proc proc "$WHERE/proc"
			mount --bind -o ro "$SOURCE" "$WHERE/source"
			mount --bind "$OUT" "$WHERE/out"
			exec chroot "$WHERE" "$@"' - "$@"
}

make_root() {
	mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
		awk '$2 !~ /-/ { print $1; exit }')
	[ -n "$mirror" ] || die 'this machine has no apt that knows a mirror of Debian'
	echo "driver-matrix: making a Debian $suite with gcc-14 in $root"
	rm -rf "$root.new"
	debootstrap --variant=minbase --include=gcc-14,make,libelf1t64,xz-utils,kmod,perl \
		"$suite" "$root.new" "$mirror" >"$log" 2>&1 || {
		tail -n 5 "$log" >&2
		die 'debootstrap failed (above)'
	}
	printf 'deb %s %s main\n' "$mirror" "$suite" "$mirror" "$suite-backports" >"$root.new/etc/apt/sources.list"
	cp /etc/resolv.conf /etc/hosts "$root.new/etc/"
	mv "$root.new" "$root"
}

# Unpacks the newest kernel headers of each series. Their vmlinux would call for pahole; no kernel runs in there.
fetch_headers() {
	inside "$root" sh -euc '
		apt-get -qq update
		cd /var/tmp
		rm -rf ./*.deb /usr/src/linux-headers-*
		releases=$(apt-cache pkgnames linux-headers- |
			sed -nE "s/^linux-headers-(([0-9]+\.[0-9]+)\.[0-9]+\+deb[0-9]+)-amd64$/\2 \1/p" |
			sort -V | awk "{ newest[\$1] = \$2 } END { for (series in newest) print newest[series] }")
		for release in $releases; do
			apt-get -qq -o APT::Sandbox::User=root download linux-headers-$release-amd64 \
				linux-headers-$release-common linux-kbuild-$release
		done
		for deb in *.deb; do dpkg -x "$deb" /; done
		rm -f ./*.deb /usr/src/linux-headers-*/vmlinux' >"$log" 2>&1 || {
		tail -n 5 "$log" >&2
		die 'the headers of newer kernels could not be had (above)'
	}
}

verdict=0
ours='/(driver|uapi)/[a-z_]*\.[ch]:.*warning:' # the kernel's make warns of other things, too: of no pahole, say
# $1 release, rest: the command that builds for it.
build_for() {
	release=$1
	shift
	start=$(date +%s)
	rm -rf "${out:?}/$release" # what was built already would not warn again
	result=built
	"$@" >"$log" 2>&1 || result=FAILED
	warnings=$(grep -cE "$ours" "$log")
	compiler=$(sed -n 's/^CONFIG_CC_VERSION_TEXT=//p' "$config" | awk '{ print $1, $NF }')
	printf '%-26s %-34s %-7s %8d %7d\n' "$release" "$compiler" "$result" "$warnings" $(($(date +%s) - start))
	if [ $result = FAILED ] || [ "$warnings" != 0 ]; then
		grep -E "$ours|rror" "$log" | head -n 20
		verdict=1
	fi
}

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
	die 'the newer kernels take root and debootstrap (apt-get install debootstrap)'
fi
[ -d "$root" ] || make_root
if [ -n "$update" ] || ! ls "$root"/usr/src/linux-headers-*-amd64 >/dev/null 2>&1; then
	fetch_headers
fi
kdir=$(mk/kernel.sh ${update:+--update} KDIR) || exit
printf '%-26s %-34s %-7s %8s %7s\n' kernel 'compiler of the kernel' module warnings seconds
config=$kdir/include/config/auto.conf
build_for "$(cat "$kdir/include/config/kernel.release")" mk/driver.sh "$kdir" "$out" W=1

for headers in "$root"/usr/src/linux-headers-*-amd64; do
	config=$headers/include/config/auto.conf
	build_for "${headers##*/linux-headers-}" inside "$root" sh -euc 'cd /source; exec mk/driver.sh "$@"' - \
		"${headers#"$root"}" /out W=1
done
exit $verdict
