# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# For tests of tools that a script sources: runs a command into $out/text and $out/error, $out being a folder of the
# test's, and looks at what it said. Each prints nothing when all is well, else what is not.

# $1 exit status that is due, rest the command.
runs() {
	want=$1
	shift
	"$@" >"$out/text" 2>"$out/error" </dev/null
	got=$?
	[ $got = "$want" ] || echo "$* exits with $got, not $want: $(tail -n 3 "$out/error" "$out/text")"
}

says() {
	grep -q -- "$1" "$out/text" "$out/error" || echo "does not say: $1"
}

# A value of the document in $2 ($out/text), by a Python expression on d.
json() {
	python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else sys.argv[2] + " is not so")' "${2:-$out/text}" "$1" 2>&1
}
