#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The last of make check-debug-kernel's tests: what the others left behind. Nothing may have leaked while accel.ko was
# loaded nor when it is gone, and what watches the kernel must still be watching: a lock order that was reported, or a
# leak detector that ran out of memory, ends the checking of all that follows without a failure.
#
# check: debug-kernel
set -u
. tests/tap.sh
kmemleak=/sys/kernel/debug/kmemleak

# What kmemleak finds, of which 60 lines are enough. An object counts when two scans find nobody who points to it, the
# second of them five seconds after it was made at the earliest.
leaks() {
	sleep 6
	{ echo scan && echo scan; } >"$kmemleak" || echo 'kmemleak does not scan: it has turned itself off'
	head -n 60 "$kmemleak"
}

if [ ! -e "$kmemleak" ]; then
	tap_skip 'nothing leaks' 'the kernel looks for no leaks: make check-debug-kernel builds one that does'
	tap_done
fi
tap_ok 'nothing leaks while the module is loaded' "$(leaks)"
tap_ok 'the module can be unloaded' "$(for module in axl_importer accel; do
	[ ! -d /sys/module/$module ] || rmmod $module 2>&1; done)"
tap_ok 'nothing leaks when it is gone' "$(leaks)"
tap_ok 'the order of locks is still checked' "$(grep -qE 'debug_locks: +1' /proc/lockdep_stats ||
	grep debug_locks /proc/lockdep_stats)"
# 4096 and 8192: a module from outside the kernel's tree, without a signature.
tap_ok 'nothing tainted the kernel' "$(taint=$(cat /proc/sys/kernel/tainted)
	[ $((taint & ~(4096 | 8192))) = 0 ] || echo "taint flags $taint")"
tap_done
