#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# make demo: installs what is missing, builds, and runs two DeepSeek-R1 MoE layers across four ranks of this machine,
# checked against one process and against a script that shares no code with the product.
set -u
cd "$(dirname "$0")/.." || exit
unset MAKEFLAGS MFLAGS MAKELEVEL
# Debian's python3 first: that is the one whose modules mk/deps.sh installs.
export PATH="/usr/bin:/bin:$PATH" BUILD="${BUILD:-build}"

mk/deps.sh build demo || exit
make -s -j"$(nproc)" BUILD="$BUILD" all || exit
exec "$BUILD/bin/accel-moe" run --layers 3,4 --tokens 8 --ranks 4 --experts 256 --weights synthetic --dtype fp8 --check
