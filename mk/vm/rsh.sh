#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# rsh.sh guestI COMMAND...: what ssh is between hosts, for guests, which share /run/vm. Guest I is in link_serve
# (tests/vm/link.sh).
job=/run/vm/${1#guest}/rsh.$$.$(date +%s%N)
shift
echo "$*" >"$job.new"
mv "$job.new" "$job.job"
until [ -e "$job.code" ]; do sleep 0.05; done
cat "$job.out"
cat "$job.err" >&2
exit "$(cat "$job.code")"
