#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# mk/rdma-port.sh DEVICE[:PORT]: the words by which a program of perftest takes that port of this host, and on Ethernet
# its first GID of RoCE v2, one of IPv4 if there is one. Exit: 3 there is no such device.
device=${1%%:*}
port=1
case $1 in *:*) port=${1#*:} ;; esac
dir=/sys/class/infiniband/$device/ports/$port
if ! [ -e "$dir" ]; then
	echo "there is no RDMA device $1 on $(uname -n)" >&2
	exit 3
fi
words="-d $device -i $port"
if grep -q Ethernet "$dir/link_layer"; then
	for gid in "$dir"/gids/*; do
		index=${gid##*/}
		[ "$(cat "$dir/gid_attrs/types/$index" 2>/dev/null)" = 'RoCE v2' ] || continue
		best=${best:-$index}
		! grep -q '^0000:0000:0000:0000:0000:ffff:' "$gid" || { best=$index; break; }
	done
	words="$words -x ${best:-0}"
fi
echo "$words"
