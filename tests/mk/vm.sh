#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# mk/vm.sh tells a program that passed from one that failed, hung, crashed the kernel or made it complain, and says
# which it was. It boots one guest for a row of tests, one that hangs, one without a root, and two that talk to each
# other.
set -u
. tests/tap.sh

folder=$(mktemp -d "${BUILD:-build}/vm-test.XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
place=$(cd "$folder" && pwd)

# has FILE PATTERN: nothing if a line of it matches, else what it says.
has() {
	grep -qE -- "$2" "$1" || { echo "no line matches '$2' in:" && tail -n 60 "$1"; }
}

equal() {
	[ "$1" = "$2" ] || echo "$1, not $2"
}

mk/vm.sh --no-such-option >"$folder/out" 2>&1
tap_ok 'an unknown option is wrong usage' "$(equal $? 2; has "$folder/out" '^usage: ')"
mk/vm.sh --memory 1G true >"$folder/out" 2>&1
tap_ok 'a size that is no number is wrong usage' "$(equal $? 2)"
mk/vm.sh --cpus 2 --nodes 3 true >"$folder/out" 2>&1
tap_ok 'more NUMA nodes than CPUs are wrong usage' "$(equal $? 2; has "$folder/out" '^vm: each NUMA node')"
VM_KERNEL=$folder/none VM_MODULES=$folder mk/vm.sh true >"$folder/out" 2>&1
tap_ok 'a kernel that is not there is named' "$(equal $? 3; has "$folder/out" 'vm: .*lib/modules')"

mk/vm.sh --append 'rdinit=/none root=/none' true >"$folder/out" 2>&1
tap_ok 'a kernel that dies before its first process is booted once more, and then named' "$(equal $? 125
	equal "$(grep -c 'booting it once more' "$folder/out")" 1
	has "$folder/out" 'vm: the kernel of the guest crashed')"

# A module whose loading is a complaint of the kernel.
cat >"$folder/splat.c" <<'CODE'
#include <linux/module.h>
static int __init splat_init(void)
{
	WARN(1, "on purpose\n");
	return 0;
}
module_init(splat_init);
MODULE_LICENSE("Dual MIT/GPL");
CODE
echo 'obj-m := splat.o' >"$folder/Kbuild"
make -s -C "$(mk/kernel.sh KDIR)" M="$place" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$folder/out" 2>&1
tap_ok 'a module builds with the cached kernel' "$([ -e "$folder/splat.ko" ] || cat "$folder/out")"

# $1 name, stdin: what the test does.
guest_test() {
	{ echo '#!/bin/sh' && cat; } >"$folder/$1.sh"
	chmod +x "$folder/$1.sh"
	echo "$folder/$1.sh"
}
good=$(guest_test good <<'CODE'
echo 1..1
echo "ok 1 - under $(uname -r)"
CODE
)
bad=$(guest_test bad <<'CODE'
echo 1..1
echo "ok 1 - so far"
echo why it failed >&2
exit 3
CODE
)
splat=$(guest_test splat <<CODE
insmod "$place/splat.ko"
echo 1..1
echo ok 1 - it loaded
CODE
)
crash=$(guest_test crash <<'CODE'
echo ok 1 - before
echo c >/proc/sysrq-trigger
CODE
)
late=$(guest_test late <<'CODE'
echo 1..1
echo ok 1
CODE
)

kept=$folder/kept
CHECK_DIR=$kept mk/vm.sh --logs "$folder/logs" --tests "$good" "$bad" "$splat" "$crash" "$late" \
	>"$folder/out" 2>"$folder/err"
status=$?
tap_ok 'a test that passes has passed' "$(has "$kept/$good.tap" '^ok 1 - under 6\.[0-9]'
	has "$kept/$good.tap" '^# exit 0$'; has "$folder/out" "^# passed $good")"
tap_ok 'a test that exits with 3 has failed, and its standard error is kept' "$(has "$kept/$bad.tap" '^# exit 3$'
	has "$kept/$bad.log" '^why it failed$'; has "$folder/out" "^# FAILED $bad")"
tap_ok 'a test that passes and makes the kernel complain has failed' "$(has "$kept/$splat.tap" '^ok 1 - it loaded$'
	has "$kept/$splat.tap" '^not ok .*kernel log: WARNING: .*splat'; has "$kept/$splat.tap" '^# exit 1$'
	has "$kept/$splat.log" 'on purpose')"
tap_ok 'a test that crashes the kernel has failed, and is named' "$(equal $status 125
	has "$kept/$crash.tap" '^ok 1 - before$'; has "$kept/$crash.tap" '^not ok .*the guest ended during this test'
	has "$folder/err" "the kernel of the guest crashed in $crash: Kernel panic.*sysrq")"
tap_ok 'a test after the crash has failed, since it did not run' "$(has "$kept/$late.tap" '^not ok .*not run')"
tap_ok 'the log of the kernel is kept where asked' "$(has "$folder/logs/1.console" 'Linux version')"

mk/vm.sh --timeout 20 sh -c 'echo begun; echo w >/proc/sysrq-trigger; sleep 1000' >"$folder/out" 2>"$folder/err"
tap_ok 'a program that hangs is ended with the end of the console' "$(equal $? 124; has "$folder/err" '20 s were up'
	has "$folder/err" '^\[ *[0-9]+\.[0-9]+\]')"

mk/vm.sh --guests 2 --memory 512 --env "WORD=it's here" sh -c '
	for guest in guest1 guest2; do
		busybox ping -c 1 -W 30 $guest || exit 1
	done
	echo "$WORD"
	echo "to err" >&2
	echo "$VM_GUEST of $VM_GUESTS" >/run/vm/said$VM_GUEST
	[ $VM_GUEST = 1 ] || exit 7
	until [ -e /run/vm/said2 ]; do sleep 0.1; done
	cat /run/vm/said2' >"$folder/out" 2>"$folder/err"
status=$?
tap_ok 'two guests reach each other' "$(has "$folder/out" '1 packets received.*'; has "$folder/out" '^2 of 2$')"
tap_ok 'the exit status is that of the guest that failed' "$(equal $status 7; has "$folder/err" 'guest 2: .* 7$')"
tap_ok 'standard output and error stay apart' "$(has "$folder/err" '^to err$'; grep 'to err' "$folder/out")"
tap_ok 'variables arrive as they are' "$(has "$folder/out" "^it's here\$")"

# $1 what guest 2 does
leaver() {
	mk/vm.sh --guests 2 --leaves 2 --memory 512 sh -c "
		[ \$VM_GUEST = 1 ] || { $1; exit; }
		until [ -e /run/vm/2/left ] || [ -e /run/vm/2/status ]; do sleep 0.1; done
		echo alone" >"$folder/out" 2>"$folder/err"
}
leaver ': >/run/vm/2/leaves; echo b >/proc/sysrq-trigger; sleep 1000'
tap_ok 'a guest that was to leave may' "$(equal $? 0; has "$folder/out" '^alone$')"
leaver true
tap_ok 'a guest that was to leave and stays is a failure' "$(equal $? 1
	has "$folder/err" 'guest 2 did not leave')"
mk/vm.sh --guests 2 --leaves 1 true >"$folder/out" 2>&1
tap_ok 'guest 1 cannot leave' "$(equal $? 2)"
tap_done
