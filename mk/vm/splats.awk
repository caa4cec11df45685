# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Complaints of the kernel in a guest's console log, one a line: the test that was running (- for none), a tab, the
# complaint. guest.sh writes to the log which test begins. Reports of out-of-memory kills and of failures that fault
# injection forced are no complaints.

BEGIN { test = "-" }
{ sub(/\r$/, "") }
/vm: test / { test = $0; sub(/.*vm: test /, "", test); next }
/vm: done/ { test = "-"; next }
/WARNING: |BUG: |kernel BUG at|Oops|Kernel panic|KASAN|KCSAN|KFENCE|UBSAN|general protection fault|unable to handle/ ||
/possible (circular|recursive|irq|deadlock|unsafe|memory leak)|suspicious RCU|bad unlock balance|DEBUG_LOCKS_WARN/ ||
/inconsistent lock state|held lock freed|Invalid wait context|lock held when returning|still has locks held/ ||
/refcount_t: |unreferenced object|new suspected memory leaks|blocked for more than|detected (expedited )?stalls?/ ||
/self-detected stall|soft lockup|hard LOCKUP|sleeping function called|scheduling while atomic|DMA-API: .*: |ODEBUG/ ||
/list_(add|del) corruption|Bad page|bad page|double free|stack guard page|objects remaining|trying to register non-/ {
	sub(/^\[ *[0-9.]+\](\[ *[TC][0-9]+\])? */, "")
	print test "\t" $0
}
