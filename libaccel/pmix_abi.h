/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The part of the PMIx client interface that pmix.c calls, as libpmix.so.2 of versions 3 to 5 has
 * it, so that no PMIx header is needed to build. tests/libaccel/pmix_abi.sh compares every size,
 * offset, number and call with the real header.
 */
#ifndef ACCEL_PMIX_ABI_H
#define ACCEL_PMIX_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PMIX_ABI_LIBRARY "libpmix.so.2"
#define PMIX_ABI_MAJOR_MIN 3 /* struct pmix_abi_value was smaller before */

#define PMIX_ABI_SUCCESS 0
#define PMIX_ABI_RANK_WILDCARD (UINT32_MAX - 1)
#define PMIX_ABI_SCOPE_GLOBAL 3
#define PMIX_ABI_KEY_JOB_SIZE "pmix.job.size"
#define PMIX_ABI_KEY_COLLECT_DATA "pmix.collect"
#define PMIX_ABI_KEY_TIMEOUT "pmix.timeout"

enum pmix_abi_type {
	PMIX_ABI_BOOL = 1,
	PMIX_ABI_INT = 6,
	PMIX_ABI_UINT32 = 14,
	PMIX_ABI_BYTE_OBJECT = 27,
};

struct pmix_abi_proc {
	char nspace[256];
	uint32_t rank;
};

struct pmix_abi_value {
	uint16_t type; /* enum pmix_abi_type */
	union {
		bool flag;
		int integer;
		uint32_t uint32;
		struct {
			char *bytes;
			size_t size;
		} object;
		char widest[24]; /* of the members that are not used here */
		void *aligned;
	} data;
};

struct pmix_abi_info {
	char key[512];
	uint32_t flags;
	struct pmix_abi_value value;
};

/* status: PMIX_ABI_SUCCESS or negative. The value is the library's, for as long as the call. */
typedef void pmix_abi_got_fn(int status, struct pmix_abi_value *value, void *arg);

/* The calls, by their names without PMIx_. */
struct pmix_abi {
	const char *(*Get_version)(void);
	const char *(*Error_string)(int status);
	int (*Init)(struct pmix_abi_proc *proc, struct pmix_abi_info *info, size_t count);
	int (*Finalize)(const struct pmix_abi_info *info, size_t count);
	int (*Put)(uint8_t scope, const char *key, struct pmix_abi_value *value);
	int (*Commit)(void);
	int (*Fence)(const struct pmix_abi_proc *procs, size_t procs_count,
		     const struct pmix_abi_info *info, size_t count);
	int (*Get)(const struct pmix_abi_proc *proc, const char *key,
		   const struct pmix_abi_info *info, size_t count,
		   struct pmix_abi_value **value); /* to be freed, and what it points to */
	int (*Get_nb)(const struct pmix_abi_proc *proc, const char *key,
		      const struct pmix_abi_info *info, size_t count, pmix_abi_got_fn *got,
		      void *arg);
};

#endif
