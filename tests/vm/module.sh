#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# modprobe accel, and rmmod: nodes come and go with the module, and the kernel log has nothing to say about it.
set -u
. tests/tap.sh

nodes() {
	ls /dev/accel 2>/dev/null
}

equal() {
	[ "$1" = "$2" ] || echo "'$1', not '$2'"
}

! grep -q '^accel ' /proc/modules || rmmod accel # an earlier test's
tap_ok 'the module that was built here loads by its name' "$(modprobe accel soft=2 2>&1
	modinfo -n accel | grep -q /updates/ || modinfo accel)"
tap_ok 'two devices have two nodes' "$(equal "$(nodes | tr '\n' ' ')" 'accel0 accel1 ')"
tap_ok 'a node opens' "$(cat /dev/null 2>&1 <>/dev/accel/accel0)"
exec 7<>/dev/accel/accel1
tap_ok 'with a node open the module stays' "$(! rmmod accel 2>/dev/null || echo 'it was removed')"
exec 7>&-
tap_ok 'with all closed it goes' "$(rmmod accel 2>&1)"
tap_ok 'and so do the nodes' "$(nodes)"
tap_ok 'without soft= there is no device' "$(modprobe accel 2>&1; nodes)"
tap_ok 'modprobe removes it as well' "$(modprobe -r accel 2>&1; grep '^accel ' /proc/modules)"
tap_done
