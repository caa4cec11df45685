#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The rules of form that a machine can check: licences, sizes, layout and words that do not belong in this tree.
set -u
. tests/tap.sh

folders=$(ls -d uapi kernels libaccel runtime driver fw tests mk 2>/dev/null)
files() { # shellcheck disable=SC2086 # a list of folders
	find $folders -type f -name "$1" | sort
}
code=$(files '*.[ch]')
scripts=$(files '*.sh'; files '*.py'; files '*.awk')

# Longer than the law allows; this list may only shrink.
long_files=''
long_functions=''

# $1 licence, rest files: those that do not name it in line 1 (2 after #!) with one copyright line below.
unlicensed() {
	licence=$1
	shift
	[ $# = 0 ] || awk -v licence="SPDX-License-Identifier: $licence" '
		FNR == 1 { first = /^#!/ ? 2 : 1 }
		FNR == first && !index($0, licence) { print FILENAME ": line " FNR " must name " licence }
		FNR == first + 1 && !/Copyright \(c\) [0-9]+ The accel authors/ { print FILENAME ": no copyright line" }
	' "$@"
}

# Functions as the style has them: from a brace at the left margin to the next one.
functions_over() {
	awk -v max="$1" -v known="$long_functions" '
		/^\{$/ { start = FNR }
		/^\}$/ && start {
			lines = FNR - start - 1
			if (lines > max && !index(known, FILENAME ":" start))
				print FILENAME ":" start ": " lines " lines"
			start = 0
		}
	' $code
}

files_over() {
	for file in $code $scripts; do
		lines=$(wc -l <"$file")
		case " $long_files " in *" $file "*) continue ;; esac
		[ "$lines" -le "$1" ] || echo "$file: $lines lines"
	done
}

# clang-format holds code to 100 columns; this holds what it leaves alone.
lines_over() {
	for file in $code $scripts Makefile; do
		expand "$file" | awk -v file="$file" -v max="$1" '
			length($0) > max { print file ":" FNR ": " length($0) " columns" }'
	done
}

# $1 pattern, rest: files or folders.
found() {
	pattern=$1
	shift
	grep -rnE --include='*.[ch]' -- "$pattern" "$@" 2>/dev/null
}

# shellcheck disable=SC2086 # lists of files
{
	uapi=$(echo "$code" | grep '^uapi/')
	driver=$(echo "$code" | grep '^driver/')
	rest=$(echo "$code" | grep -vE '^(uapi|driver)/')
	tap_ok 'licence: uapi' "$(unlicensed '(GPL-2.0-only WITH Linux-syscall-note) OR MIT' $uapi)"
	tap_ok 'licence: driver' "$(unlicensed GPL-2.0-only $driver)"
	tap_ok 'licence: all else' "$(unlicensed MIT $rest $scripts Makefile)"
	tap_ok 'files of 800 lines at most' "$(files_over 800)"
	tap_ok 'functions of 70 lines at most' "$(functions_over 70)"
	tap_ok 'lines of 120 columns at most' "$(lines_over 120)"
	tap_ok 'no space at the end of a line' "$(grep -nE '[[:space:]]+$' $code $scripts Makefile README.md)"
	if command -v clang-format-14 >/dev/null; then
		tap_ok 'clang-format' "$(for f in $code; do
			clang-format-14 "$f" | cmp -s - "$f" || echo "$f: clang-format-14 -i $f"; done)"
	else
		tap_skip 'clang-format' 'no clang-format-14, whose layout is the law'
	fi
	tap_ok 'nothing left to do' "$(grep -nwE 'TO''DO|FIX''ME|XX''X|HA''CK' $code $scripts README.md Makefile)"
	tap_ok 'no typedef of a struct' "$(found '^[[:space:]]*typedef[[:space:]]+(struct|union|enum)\b' $folders)"
	tap_ok 'no unbounded string functions' "$(found '\b(strcpy|strcat|sprintf|vsprintf|gets|alloca)\(' $folders)"
}
says='printf|puts|putchar|perror|fprintf|exit|_exit|abort'
tap_ok 'the library and the kernels never print, exit or abort' "$(
	found "\b($says)\(" libaccel/*.c kernels | grep -v '^libaccel/log\.c:')"
variables='ACCEL_LOG|ACCEL_OPTS|RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT'
variables="$variables|PMI_RANK|PMIX_[A-Z]+"
tap_ok 'no environment variables but those of the contract' "$(
	found '\bgetenv\(' libaccel runtime kernels | grep -vE "getenv\(\"($variables)\"\)")"
tap_ok 'tests wait for events and do not sleep' "$(found '\b(sleep|usleep|nanosleep|clock_nanosleep)\(' tests)"
tap_done
