#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# accel-moe run as in containers: each rank has network, IPC and host name of its own, and a wire between them, as two
# pods of one node have. With a socket_dir that both see they exchange rows through shared memory; without one the error
# says why not. The YAML of docs/launchers.md is what a parser takes.
set -u
. tests/runtime/moe.sh

# Runs a command as both ranks, in two containers. $1 is what they are given as ACCEL_OPTS.
containers() {
	# shellcheck disable=SC2016 # for the shells in there
	ACCEL_OPTS=$1 timeout -k 1 60 unshare --user --map-root-user --net --ipc --uts sh -c '
		hostname moe-0
		unshare --net --ipc --uts sh -c "
			read -r go
			hostname moe-1
			ip link set lo up && ip address add 10.9.0.2/24 dev wire && ip link set wire up || exit 99
			RANK=1 exec \"\$@\"" sh "$@" <"$dir/go" >"$dir/1.out" 2>&1 &
		other=$!
		exec 3>"$dir/go"
		until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do :; done
		ip link set lo up && ip link add wire type veth peer name wire netns $other &&
			ip address add 10.9.0.1/24 dev wire && ip link set wire up || exit 99
		echo go >&3
		RANK=0 "$@" >"$dir/0.out" 2>&1
		status=$?
		wait $other
		echo "$status $?"' sh env WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.9.0.1 \
		MASTER_PORT=29500 "$moe" run $small --layers 3,4 --tokens 4,2 --timeout-ms 20000 --check
}

# containers_end STATUS STATUS OPTIONS
containers_end() {
	said=$(containers "$3" 2>"$dir/err")
	[ "$said" = "$1 $2" ] || {
		echo "they ended with '$said', not $1 $2"
		tail -n 5 "$dir/0.out" "$dir/1.out" "$dir/err"
	}
}

export dir
mkfifo "$dir/go"
mkdir "$dir/sockets"
if unshare --user --map-root-user --net ip link add wire type veth peer name other 2>/dev/null; then
	tap_ok 'two containers with a common socket_dir share memory' "$(
		containers_end 0 0 "socket_dir=$dir/sockets"
		mentions "$dir/0.out" '2 ranks over shm'
		mentions "$dir/0.out" PASS
		ls "$dir/sockets")"
	tap_ok 'without one they cannot, and are told what to do' "$(
		containers_end 3 3 ''
		mentions "$dir/0.out" socket_dir
		mentions "$dir/1.out" socket_dir)"
else
	tap_skip 'two containers' 'no right to network namespaces (unshare --user --net), or no ip (Debian: iproute2)'
fi

tap_ok 'the YAML of docs/launchers.md is valid, and is what it says' "$(
	sed -n '/^```yaml/,/^```/p' docs/launchers.md | grep -v '^```' >"$dir/moe.yaml"
	python3 - "$dir/moe.yaml" 2>&1 <<-'PYTHON'
		import sys
		import yaml

		service, job = yaml.safe_load_all(open(sys.argv[1]))
		pod = job["spec"]["template"]["spec"]
		env = {e["name"]: e for e in pod["containers"][0]["env"]}
		assert service["kind"] == "Service" and service["spec"]["clusterIP"] == "None"
		assert job["kind"] == "StatefulSet" and job["spec"]["podManagementPolicy"] == "Parallel"
		assert job["spec"]["serviceName"] == service["metadata"]["name"]
		assert job["spec"]["replicas"] == int(env["WORLD_SIZE"]["value"])
		first = job["metadata"]["name"] + "-0." + service["metadata"]["name"]
		assert env["MASTER_ADDR"]["value"] == first
		assert "apps.kubernetes.io/pod-index" in env["RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
		mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
		assert {v["name"] for v in pod["volumes"]} == set(mounts)
		assert env["ACCEL_OPTS"]["value"] == "socket_dir=" + mounts["sockets"]
	PYTHON
)"
tap_done
