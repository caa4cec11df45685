#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# libaccel/pmix_abi.h says of PMIx's interface what the real header says: sizes, offsets, numbers, keys and calls.
set -u
. tests/tap.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

if ! flags=$(pkg-config --cflags pmix 2>/dev/null); then
	tap_skip 'pmix_abi.h agrees with pmix.h' 'no pmix.h (Debian: libpmix-dev)'
	tap_done
fi

cat >"$dir/head.c" <<'CODE'
#include "libaccel/pmix_abi.h"

#include <pmix.h>

#define SAME(ours, theirs) _Static_assert((ours) == (theirs), #theirs)
#define SAME_TYPE(ours, theirs)                                                                     \
	SAME(sizeof(struct ours), sizeof(theirs));                                                   \
	SAME(_Alignof(struct ours), _Alignof(theirs))
#define SAME_FIELD(ours, our_field, theirs, their_field)                                             \
	SAME(offsetof(struct ours, our_field), offsetof(theirs, their_field));                       \
	SAME(sizeof(((struct ours *)0)->our_field), sizeof(((theirs *)0)->their_field))
#define SAME_TEXT(ours, theirs) _Static_assert(!__builtin_strcmp(ours, theirs), #theirs)

SAME_TYPE(pmix_abi_proc, pmix_proc_t);
SAME_FIELD(pmix_abi_proc, nspace, pmix_proc_t, nspace);
SAME_FIELD(pmix_abi_proc, rank, pmix_proc_t, rank);
SAME_TYPE(pmix_abi_value, pmix_value_t);
SAME_FIELD(pmix_abi_value, type, pmix_value_t, type);
SAME_FIELD(pmix_abi_value, data, pmix_value_t, data);
SAME_FIELD(pmix_abi_value, data.flag, pmix_value_t, data.flag);
SAME_FIELD(pmix_abi_value, data.integer, pmix_value_t, data.integer);
SAME_FIELD(pmix_abi_value, data.uint32, pmix_value_t, data.uint32);
SAME_FIELD(pmix_abi_value, data.object, pmix_value_t, data.bo);
SAME_FIELD(pmix_abi_value, data.object.bytes, pmix_value_t, data.bo.bytes);
SAME_FIELD(pmix_abi_value, data.object.size, pmix_value_t, data.bo.size);
SAME_TYPE(pmix_abi_info, pmix_info_t);
SAME_FIELD(pmix_abi_info, key, pmix_info_t, key);
SAME_FIELD(pmix_abi_info, flags, pmix_info_t, flags);
SAME_FIELD(pmix_abi_info, value, pmix_info_t, value);
SAME(PMIX_ABI_SUCCESS, PMIX_SUCCESS);
SAME(PMIX_ABI_RANK_WILDCARD, (PMIX_RANK_WILDCARD));
SAME(PMIX_ABI_SCOPE_GLOBAL, PMIX_GLOBAL);
SAME(PMIX_ABI_BOOL, PMIX_BOOL);
SAME(PMIX_ABI_INT, PMIX_INT);
SAME(PMIX_ABI_UINT32, PMIX_UINT32);
SAME(PMIX_ABI_BYTE_OBJECT, PMIX_BYTE_OBJECT);
SAME_TEXT(PMIX_ABI_KEY_JOB_SIZE, PMIX_JOB_SIZE);
SAME_TEXT(PMIX_ABI_KEY_COLLECT_DATA, PMIX_COLLECT_DATA);
SAME_TEXT(PMIX_ABI_KEY_TIMEOUT, PMIX_TIMEOUT);

#define SAME_CALL(call)                                                                              \
	_Static_assert(__builtin_types_compatible_p(__typeof__(((struct theirs *)0)->call),          \
						    __typeof__(&PMIx_##call)),                       \
		       "PMIx_" #call)
CODE

# The table of calls again, with the header's types in place of ours: it must be made of the header's functions.
table() {
	sed -n '/^struct pmix_abi {/,/^};/p' "$1" | sed 's/struct pmix_abi {/struct theirs {/
		s/struct pmix_abi_\([a-z]*\)/pmix_\1_t/g; s/pmix_abi_got_fn \*/pmix_value_cbfunc_t /'
	sed -n 's/.*(\*\([A-Z][A-Za-z_]*\))(.*/SAME_CALL(\1);/p' "$1"
}
# What the compiler says of pmix_abi.h in $1/libaccel.
compare() {
	{ cat "$dir/head.c"; table "$1/libaccel/pmix_abi.h"; } >"$dir/abi.c"
	# shellcheck disable=SC2086 # flags
	cc -std=gnu11 -fsyntax-only -I"$1" $flags "$dir/abi.c" 2>&1
}

tap_ok 'pmix_abi.h agrees with pmix.h' "$(compare .)"
mkdir "$dir/libaccel"
for change in 's/char key.512./char key[256]/' 's/PMIX_ABI_INT = 6/PMIX_ABI_INT = 7/' \
	's/size_t procs_count/int procs_count/'; do
	sed "$change" libaccel/pmix_abi.h >"$dir/libaccel/pmix_abi.h"
	tap_ok "a difference is found: $change" "$(
		compare "$dir" | grep -q 'static assertion failed' || echo 'it was not')"
done
tap_done
