# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# The last lines of make check: what failed, what was skipped and why, and the counts, out of the tests' TAP files.
# -v dir= is cut off their names, -v seconds= is how long it all took. A program that died counts as one failure more.

function short(file) { return substr(file, length(dir) + 1, length(file) - length(dir) - 4) }

FNR == 1 { files++ }
/^ok .*# *[Ss][Kk][Ii][Pp]/ || /^1\.\.0 *# *[Ss][Kk][Ii][Pp]/ {
	skipped++
	reason = $0
	sub(/.*# *[Ss][Kk][Ii][Pp][A-Z:]* */, "", reason)
	skip[reason] = skip[reason] (skip[reason] == "" ? "" : ", ") short(FILENAME)
	next
}
/^ok / { passed++ }
/^not ok / { failed++; bad[short(FILENAME)]; print "failed: " short(FILENAME) ": " $0 }
/^# exit [1-9]/ && !(short(FILENAME) in bad) { failed++; print "failed: " short(FILENAME) ": " substr($0, 3) }

END {
	for (reason in skip)
		print "skipped: " reason " (" skip[reason] ")"
	printf "%d test files, %d min %d s\n", files, seconds / 60, seconds % 60
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed > 0
}
