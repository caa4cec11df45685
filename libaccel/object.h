/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What every public object begins with: its kind and its last error. Also the log, and the checks
 * of option structs.
 */
#ifndef ACCEL_OBJECT_H
#define ACCEL_OBJECT_H

#include <accel/accel_ep.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

enum accel_object_kind {
	ACCEL_OBJECT_DEVICE = 1,
	ACCEL_OBJECT_BUFFER,
	ACCEL_OBJECT_GROUP,
	ACCEL_OBJECT_EP,
};

/*
 * The first member of every public object. The magic tells a live object from a stray pointer in
 * accel_error_get().
 */
struct accel_object {
	uint64_t magic;
	enum accel_object_kind kind;
	pid_t pid;	      /* of its maker */
	pthread_mutex_t lock; /* guards error: lanes of one context may fail at once */
	struct accel_error error;
};

void accel_object_init(struct accel_object *obj, enum accel_object_kind kind);
void accel_object_fini(struct accel_object *obj);

/*
 * True in a forked child: it may only destroy, which then frees this process's memory and mappings,
 * takes no lock (its holder may not exist here), and tells peers nothing.
 */
static inline bool accel_object_is_inherited(const struct accel_object *obj)
{
	return obj->pid != getpid();
}

/* Where a failure happened; zero-filled fields but rank and lane mean "none". */
struct accel_failure {
	int rank; /* -1: no peer */
	enum accel_phase phase;
	int lane; /* -1 */
	uint64_t round;
	const uint64_t *missing; /* [ACCEL_RANKS_MAX / 64] or NULL */
};

#define ACCEL_AT_CREATE                                                                            \
	(&(const struct accel_failure){.rank = -1, .phase = ACCEL_PHASE_CREATE, .lane = -1})

/*
 * Decide an error: keep it in obj (NULL: the thread's slot for failed creates), log it once at
 * level error, return code. where may be NULL: {-1, NONE, -1}. A *_create that fails calls it with
 * NULL, since its object will not exist.
 */
int accel_fail(struct accel_object *obj, int code, const struct accel_failure *where,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The thread's last failure is the object's too: it was decided where the object was not known. */
void accel_object_adopt_error(struct accel_object *obj);

void accel_log(enum accel_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Copy a caller's size-prefixed struct into *known (known_bytes, zero-filled first): user NULL is
 * all defaults.
 * -EINVAL size is 0 or smaller than size_t; -E2BIG the caller's is larger and its tail is not zero.
 * The error text names what.
 */
int accel_struct_copy_in(struct accel_object *obj, const char *what, const void *user, void *known,
			 size_t known_bytes);
/*
 * Copy *known to the caller's struct, as much as its size says; keeps the caller's size field.
 * -EINVAL NULL or size 0.
 */
int accel_struct_copy_out(struct accel_object *obj, const char *what, const void *known,
			  size_t known_bytes, void *user);

/*
 * ACCEL_OPTS: "name=value,..." Fields of a table that are still zero take the value; a name in no
 * table is -EINVAL with text. Both tables (group's, ep's) are known to the parser, so that one
 * string may hold both kinds. Unit suffix in the operator's names: timeout_ms (to ns); enums by
 * name: receive=landed, dtype=fp8, on_timeout=mask, huge=never.
 * Names: master_addr master_port name socket_dir transports timeout_ms address, and those of verbs_*
 * as verbs.* (group); dtype receive combine_input quant lanes on_timeout spin_us huge output_rows
 * (ep). A list inside a value is joined by '+': transports=verbs+shm. String values are copied into
 * *strings, freed by the caller (NULL: there are none). With an error nothing is changed.
 */
int accel_opts_from_env_group(struct accel_group_opts *opts, char **strings);
int accel_opts_from_env_ep(struct accel_ep_opts *opts);

#endif
