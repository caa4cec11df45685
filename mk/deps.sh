#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# What each target needs, and how to get it: mk/deps.sh build|demo|check|bench...
# Each row of the table is: target, Debian package, and a command that succeeds where the thing is present, however it
# got there. As root on a system with apt the missing packages are installed; otherwise the command to run is printed
# and the exit status is 3.
set -u
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
CC=${CC:-cc}

table() {
	cat <<'ROWS'
build gcc                   command -v "$CC" ld ar objcopy
build libc6-dev             has_header stdio.h
build libjansson-dev        has_header jansson.h
build libdrm-dev            has_header libdrm/drm.h
build libibverbs-dev        has_header infiniband/verbs.h
driver gcc                  command -v gcc
driver libelf1              ls /usr/lib/*/libelf.so.1
demo  python3-numpy         python3 -c 'import numpy'
demo  libopenblas0-pthread  ls /usr/lib/*/openblas-pthread/libopenblas.so.0
check python3-numpy         python3 -c 'import numpy'
check perl                  command -v prove
check g++                   command -v g++
check clang-14              command -v clang-14
check libclang-rt-14-dev    ls "$(clang-14 -print-resource-dir)"/lib/linux/libclang_rt.fuzzer-*.a
check clang-format-14       command -v clang-format-14
check spin                  command -v spin
check mandoc                command -v mandoc
check pkg-config            command -v pkg-config
check openmpi-bin           command -v mpirun.openmpi
check iproute2              command -v ip
check python3-yaml          python3 -c 'import yaml'
check libpmix-dev           pkg-config --exists pmix
check libopenblas0-pthread  ls /usr/lib/*/openblas-pthread/libopenblas.so.0
check libopenmpi-dev        command -v mpicc.openmpi
check openmpi-bin           command -v mpirun.openmpi
check libmpich-dev          command -v mpicc.mpich
check mpich                 command -v mpiexec.mpich
check gnuplot-nox           command -v gnuplot
check dkms                  command -v dkms
check kmod                  command -v depmod modprobe modinfo
check linux-source-6.12     ls /usr/src/linux-source-6.*.tar.xz
check sparse                command -v sparse
check xz-utils              command -v xz
check qemu-system-x86       command -v qemu-system-x86_64
check busybox-static        command -v busybox
check ibverbs-providers     ls /usr/lib/*/libibverbs/librxe-rdmav*.so
check perftest              command -v ib_write_bw ib_write_lat ib_send_lat
bench-rdma perftest         command -v ib_write_bw ib_write_lat ib_send_lat
bench-rdma libopenmpi-dev   command -v mpicc.openmpi
bench-rdma openmpi-bin      command -v mpirun.openmpi
bench-rdma python3          command -v python3
bench-rdma iproute2         command -v ip rdma tc
bench-rdma qemu-system-x86  command -v qemu-system-x86_64
bench-rdma busybox-static   command -v busybox
bench-rdma kmod             command -v depmod modprobe modinfo
bench-rdma ibverbs-providers ls /usr/lib/*/libibverbs/librxe-rdmav*.so
bench python3               command -v python3
bench gnuplot-nox           command -v gnuplot
bench libopenblas0-pthread  ls /usr/lib/*/openblas-pthread/libopenblas.so.0
bench libopenmpi-dev        command -v mpicc.openmpi
bench openmpi-bin           command -v mpirun.openmpi
bench libmpich-dev          command -v mpicc.mpich
bench mpich                 command -v mpiexec.mpich
check libsimde-dev          has_header simde/x86/avx512.h
check libdnnl2              ls /usr/lib/*/libdnnl.so.2
check libdnnl-dev           has_header oneapi/dnnl/dnnl.h
bench libdnnl2              ls /usr/lib/*/libdnnl.so.2
bench libdnnl-dev           has_header oneapi/dnnl/dnnl.h
debug-kernel flex           command -v flex
debug-kernel bison          command -v bison
debug-kernel bc             command -v bc
debug-kernel xz-utils       command -v xz
debug-kernel libelf-dev     has_header gelf.h
ROWS
}

has_header() {
	echo "#include <$1>" | $CC -E - >/dev/null
}

missing=
for target in "$@"; do
	while read -r row_target package probe; do
		[ "$row_target" = "$target" ] || continue
		eval "$probe" >/dev/null 2>&1 </dev/null || missing="$missing $package"
	done <<ROWS
$(table)
ROWS
done
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
missing=${missing% }
[ -n "$missing" ] || exit 0

install="apt-get install --yes --no-install-recommends $missing"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "deps: not installed: $missing. As root: $install" >&2
	exit 3
fi
echo "deps: installing $missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Lists may be absent or stale: fetch them only when the packages cannot be had with those that are here.
if ! $install >"$log" 2>&1 </dev/null && ! { apt-get update && $install; } >"$log" 2>&1 </dev/null; then
	tail -n 15 "$log" >&2
	rm -f "$log"
	echo "deps: could not install $missing; what apt-get said is above" >&2
	exit 3
fi
rm -f "$log"
