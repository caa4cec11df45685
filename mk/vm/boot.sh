# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# How a guest starts, for mk/vm.sh, which sources this: the folder with its initrd and modules, whether KVM is of use,
# and QEMU itself. Takes tree, build, run, release, vmlinuz, modules, memory, cpus, nodes, guests, limit and append;
# sets boot and accelerator.

# The modules that were built here for this kernel.
built_modules() {
	find "$build/driver" "$build/tests/vm" -name '*.ko' 2>/dev/null | sort | while read -r module; do
		case $(modinfo -F vermagic "$module") in
		"$release "*) echo "$module" ;;
		esac
	done
}

# What a guest can have a use for: no driver of hardware, whose indexing takes longer than booting.
useful='arch block crypto fs kernel lib mm net security virt drivers/accel drivers/block drivers/char drivers/dma-buf
drivers/gpu/drm/*.ko* drivers/gpu/drm/scheduler drivers/gpu/drm/vgem drivers/infiniband/core drivers/infiniband/sw
drivers/net/*.ko* drivers/pci drivers/vfio drivers/vhost drivers/virtio'

# $1 folder: makes its lib/modules/$release of the kernel's modules, which stay where they are, and ours.
index_modules() {
	from=$modules/lib/modules/$release
	to=$1/lib/modules/$release
	mkdir -p "$to/updates"
	# shellcheck disable=SC2086 # patterns
	(cd "$from/kernel" && for path in $useful; do
		[ -e "$path" ] || continue
		mkdir -p "$to/kernel/$(dirname "$path")"
		ln -s "$from/kernel/$path" "$to/kernel/$path"
	done)
	cp "$from"/modules.order "$from"/modules.builtin* "$to/"
	# shellcheck disable=SC2086 # a list
	[ -z "$ours" ] || cp $ours "$to/updates/"
	depmod -b "$1" "$release"
}

# $1 folder with those modules: makes its initrd of busybox, init.sh and what mounting the root takes.
make_initrd() {
	ird=$1/initramfs
	mkdir -p "$ird/bin" "$ird/modules" "$ird/dev" "$ird/proc" "$ird/sys"
	busybox=$(command -v busybox)
	cp "$busybox" "$ird/bin/busybox"
	for library in $(ldd "$busybox" 2>/dev/null | grep -o '/[^ ]*'); do
		install -D "$library" "$ird$library"
	done
	install -m 755 "$tree/mk/vm/init.sh" "$ird/init"
	for module in virtio_pci virtio_net 9pnet_virtio 9p overlay; do
		modprobe -d "$1" -S "$release" --show-depends $module
	done 2>/dev/null | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		name=${file##*/}
		case $name in
		*.xz) busybox unxz -c "$file" >"$ird/modules/${name%.xz}" ;;
		*) cp "$file" "$ird/modules/" ;;
		esac
		echo "${name%.xz}"
	done >"$ird/modules/order"
	(cd "$ird" && find . | busybox cpio -o -H newc) >"$1/initrd" 2>/dev/null
	rm -rf "$ird"
}

# Sets boot, a folder with an initrd and indexed modules. It is made again, under another name, when anything that it is
# made of has changed: a guest that runs keeps its own.
prepare_boot() {
	ours=$(built_modules)
	# shellcheck disable=SC2086 # a list
	boot=$build/vm/$(ls -lL --time-style=full-iso "$vmlinuz" "$modules/lib/modules/$release/modules.order" \
		"$tree/mk/vm/init.sh" "$tree/mk/vm/boot.sh" $ours | cksum | cut -d ' ' -f 1)
	[ ! -d "$boot" ] || return 0
	mkdir -p "$build/vm"
	find "$build/vm" -mindepth 1 -maxdepth 1 -mmin +600 -exec rm -rf {} +
	new=$(mktemp -d "$build/vm/.new.XXXXXX") || exit 3
	index_modules "$new" 2>"$new/log" || die "cannot index the modules of $release: $(tail -n 3 "$new/log")"
	make_initrd "$new" || die "cannot make an initramfs in $new"
	# Where another run was first, its folder is the same.
	mv -T "$new" "$boot" 2>/dev/null || rm -rf "$new"
}

# Options for NUMA nodes. Each CPU is a socket then: Linux complains of one that is in two nodes.
numa() {
	[ "$nodes" -gt 1 ] || return 0
	echo "-smp sockets=$cpus"
	for n in $(seq 0 $((nodes - 1))); do
		mib=$(((n + 1) * memory / nodes - n * memory / nodes))
		echo "-object memory-backend-ram,id=node$n,size=${mib}M"
		echo "-numa node,memdev=node$n,cpus=$((n * cpus / nodes))-$(((n + 1) * cpus / nodes - 1))"
	done
}

# $1 accelerator, $2 seconds at most, $3 file for the console, $4 words for the kernel, rest: options of QEMU.
run_qemu() {
	cpu=max how=tcg,thread=multi
	[ "$1" = tcg ] || cpu=host how=$1
	seconds=$2 console=$3 words=$4
	shift 4
	words="console=ttyS0 ignore_loglevel panic=-1 oops=panic net.ifnames=0 mitigations=off $words"
	# shellcheck disable=SC2046 # words
	exec timeout -k 5 "$seconds" qemu-system-x86_64 -M q35 -accel $how -cpu $cpu -m "$memory" -smp "$cpus" \
		$(numa) -nodefaults -no-reboot -display none -serial "file:$console" -kernel "$vmlinuz" \
		-initrd "$boot/initrd" -append "$words" "$@" </dev/null
}

# Sets accelerator. KVM is of use only if it boots this kernel, which is asked once per boot of the host.
choose_accelerator() {
	accelerator=${VM_ACCEL:-}
	[ -z "$accelerator" ] || return 0
	accelerator=tcg
	[ -r /dev/kvm ] && [ -w /dev/kvm ] || return 0
	answer=$build/vm/accelerator-$(cat /proc/sys/kernel/random/boot_id)-$release
	if [ ! -e "$answer" ]; then
		{ (run_qemu kvm 10 "$run/kvm" vm_tag=vm:boots) & wait $!; } >/dev/null 2>&1
		if grep -q '^vm:boots' "$run/kvm" 2>/dev/null; then
			accelerator=kvm
		else
			say "KVM does not boot $release here: emulating the CPU (TCG)"
		fi
		echo "$accelerator" >"$answer.$$"
		mv "$answer.$$" "$answer"
	fi
	accelerator=$(cat "$answer")
}

# Options for the network cards of guest $1: guest 1 has one for every other guest, which all lead to it.
cards() {
	[ "$guests" -gt 1 ] || { echo -net none; return; }
	for peer in $(seq 2 "$guests"); do
		case $1 in
		1) near=$run/$peer.a far=$run/$peer.b mac=52:54:00:00:01:0$peer ;;
		"$peer") near=$run/$peer.b far=$run/$peer.a mac=52:54:00:00:00:0$peer ;;
		*) continue ;;
		esac
		echo "-netdev dgram,id=n$peer,local.type=unix,local.path=$near,remote.type=unix,remote.path=$far"
		echo "-device virtio-net-pci,netdev=n$peer,mac=$mac,host_mtu=9000"
	done
}

# $1 guest, $2 words for its kernel: runs it to its end, of which $run/$1.status tells.
run_guest() {
	# shellcheck disable=SC2046 # words
	(run_qemu "$accelerator" "$limit" "$run/$1.console" "$2" $(cards "$1") \
		-fsdev local,id=r,path=/,security_model=none,readonly=on,multidevs=remap \
		-device virtio-9p-pci,fsdev=r,mount_tag=root \
		-fsdev "local,id=s,path=$run/share,security_model=none" \
		-device virtio-9p-pci,fsdev=s,mount_tag=share) >"$run/$1.qemu" 2>&1 &
	echo $! >"$run/$1.pid"
	wait $!
	echo $? >"$run/$1.status"
}

# Guest $1 ended by itself with nothing run in it yet.
died_in_boot() {
	[ ! -e "$run/stop" ] && [ "$(cat "$run/$1.status")" -lt 124 ] &&
		! grep -q 'Run /init as init process' "$run/$1.console"
}

# Starts guest $1 in the background, $first if it is that; its exit status will be in $run/$1.exit. An emulated kernel
# dies now and then while it patches its own text, which the other CPU is running. No program and no module of ours has
# run by then, so it is given one more try.
start() {
	# What the load of the host can cause is no fault of the guest's kernel: it is given minutes.
	words="printk.devkmsg=on log_buf_len=4M rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60 $append"
	words="$words vm_guest=$1 vm_guests=$guests vm_tree=$tree vm_modules=$boot/lib/modules/$release"
	mkdir "$run/share/$1"
	{
		run_guest "$1" "$words"
		if [ "$accelerator" = tcg ] && died_in_boot "$1"; then
			say "the kernel of guest $1 died before its first process: booting it once more"
			mv "$run/$1.console" "$run/$1.first.console"
			run_guest "$1" "$words"
		fi
		mv "$run/$1.status" "$run/$1.exit"
	} &
	[ "$1" != 1 ] || first=$!
	until [ -e "$run/$1.pid" ]; do sleep 0.01; done
}
