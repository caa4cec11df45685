#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# conftest.sh KDIR OUT: writes to OUT a #define for each probe below that compiles against the kernel build tree KDIR.
# All probes are objects of one external module, built by the kernel's own make, so flags and compiler are the kernel's.
# A probe that uses nothing new must compile, else the tree, not the kernel's age, is the trouble, and that is an error.
set -eu

[ $# = 2 ] || { echo "usage: $0 KDIR OUT" >&2; exit 2; }
kdir=$1
out=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

names=
# probe NAME < code: a file of that name.
probe() {
	names="$names $1"
	{ echo '#include <linux/module.h>'; cat; } >"$dir/$1.c"
}

probe SANE <<'END'
int probe(void);
int probe(void) { return 0; }
END
probe IMPORT_NS_TOKEN <<'END'
MODULE_IMPORT_NS(DMA_BUF);
END
probe DRM_DRIVER_DATE <<'END'
#include <drm/drm_drv.h>
const struct drm_driver probe = { .date = "" };
END
probe VMA_IS_COW_MAPPING <<'END'
#include <linux/mm.h>
bool probe(const struct vm_area_struct *vma);
bool probe(const struct vm_area_struct *vma) { return vma_is_cow_mapping(vma); }
END
probe THP_GET_UNMAPPED_AREA <<'END'
#include <linux/mm.h>
unsigned long probe(struct file *file);
unsigned long probe(struct file *file) { return thp_get_unmapped_area(file, 0, 0, 0, 0); }
END

objects=
for name in $names; do
	objects="$objects $name.o"
done
echo "obj-m :=$objects" >"$dir/Kbuild"
# Not the variables of a make that may have called us. Failing probes are no failure of ours.
# shellcheck disable=SC2086 # a list of objects; variables that may be unset
env -i PATH="$PATH" HOME="${HOME:-/}" "${MAKE:-make}" -k -C "$kdir" M="$dir" ${CC:+"CC=$CC"} ${LLVM:+"LLVM=$LLVM"} \
	${ARCH:+"ARCH=$ARCH"} ${CROSS_COMPILE:+"CROSS_COMPILE=$CROSS_COMPILE"} $objects >"$dir/log" 2>&1 || :
if [ ! -f "$dir/SANE.o" ]; then
	cat "$dir/log" >&2
	echo "conftest.sh: $kdir cannot build even an empty module (above)" >&2
	exit 1
fi

{
	echo "/* What $(cat "$kdir/include/config/kernel.release") has; by conftest.sh. */"
	for name in $names; do
		[ ! -f "$dir/$name.o" ] || echo "#define AXL_HAVE_$name 1"
	done
} >"$dir/result"
mv "$dir/result" "$out"
