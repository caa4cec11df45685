# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Completion of accelctl's command line in bash; installed as bash-completion's file of that name.
_accelctl() {
	local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words=
	if [ "$COMP_CWORD" = 1 ]; then
		words='list info selftest top net --help --version'
	else
		case $command:$word in
		selftest:-*) words='--json --bytes --help' ;;
		top:-*) words='--json --once --interval --help' ;;
		net:-*) words='--json --test --rank --peer --port --help' ;;
		list:-* | info:-*) words='--json --help' ;;
		info:* | selftest:* | net:*) words="host $(cd /dev/accel 2>/dev/null && echo accel*[0-9])" ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _accelctl accelctl
