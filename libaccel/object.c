// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Objects and their last errors, and the copying of size-prefixed structs across the API. A failed
 * create has no object to keep its error in, so each thread has a slot for it.
 */
#include "object.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OBJECT_MAGIC                                                                               \
	UINT64_C(0x6f626a6c65636361) /* "accelobj" in memory of a little-endian machine */
#define STRUCT_BYTES_MAX                                                                           \
	4096 /* no option struct will ever be larger; bounds what a wrong size makes us read */

static _Thread_local struct accel_error thread_error = {
	.size = sizeof(struct accel_error), .rank = -1, .lane = -1};

void accel_object_init(struct accel_object *obj, enum accel_object_kind kind)
{
	*obj = (struct accel_object){.magic = OBJECT_MAGIC, .kind = kind, .pid = getpid()};
	obj->error = (struct accel_error){.size = sizeof(obj->error), .rank = -1, .lane = -1};
	pthread_mutex_init(&obj->lock, NULL);
}

void accel_object_fini(struct accel_object *obj)
{
	obj->magic = 0;
	if (!accel_object_is_inherited(
		    obj)) /* there it may be locked by a thread that does not exist */
		pthread_mutex_destroy(&obj->lock);
}

static void error_set(struct accel_object *obj, const struct accel_error *error)
{
	if (!obj) {
		thread_error = *error;
		return;
	}
	pthread_mutex_lock(&obj->lock);
	obj->error = *error;
	pthread_mutex_unlock(&obj->lock);
}

static struct accel_error error_of(struct accel_object *obj)
{
	struct accel_error error;

	if (!obj)
		return thread_error;
	pthread_mutex_lock(&obj->lock);
	error = obj->error;
	pthread_mutex_unlock(&obj->lock);
	return error;
}

int accel_fail(struct accel_object *obj, int code, const struct accel_failure *where,
	       const char *fmt, ...)
{
	struct accel_error error = {.size = sizeof(error), .code = code, .rank = -1, .lane = -1};
	va_list args;

	assert(code < 0);
	if (where) {
		error.rank = where->rank;
		error.phase = where->phase;
		error.lane = where->lane;
		error.round = where->round;
		if (where->missing)
			memcpy(error.missing, where->missing, sizeof(error.missing));
	}
	va_start(args, fmt);
	vsnprintf(error.text, sizeof(error.text), fmt, args);
	va_end(args);
	error_set(obj, &error);
	accel_log(ACCEL_LOG_ERROR, "%s", error.text);
	return code;
}

void accel_object_adopt_error(struct accel_object *obj)
{
	error_set(obj, &thread_error);
}

static bool is_zero(const uint8_t *bytes, size_t count)
{
	while (count)
		if (bytes[--count])
			return false;
	return true;
}

int accel_struct_copy_in(struct accel_object *obj, const char *what, const void *user, void *known,
			 size_t known_bytes)
{
	const struct accel_failure *where = obj ? NULL : ACCEL_AT_CREATE;
	size_t size = known_bytes;

	if (user)
		memcpy(&size, user, sizeof(size));
	if (size < sizeof(size))
		return accel_fail(obj, -EINVAL, where,
				  "%s: size is %zu; set it to sizeof the struct", what, size);
	if (size > known_bytes &&
	    (size > STRUCT_BYTES_MAX ||
	     !is_zero((const uint8_t *)user + known_bytes, size - known_bytes)))
		return accel_fail(
			obj, -E2BIG, where,
			"%s: its %zu bytes set a field that accel %s, which knows %zu bytes, does not have",
			what, size, accel_version(), known_bytes);
	memset(known, 0, known_bytes);
	if (user)
		memcpy(known, user, size < known_bytes ? size : known_bytes);
	memcpy(known, &known_bytes, sizeof(known_bytes));
	return 0;
}

/*
 * Bytes after the size field that were copied; 0: the caller's size is none. A tail that is newer
 * than us is left alone.
 */
static size_t copy_out(const void *known, size_t known_bytes, void *user)
{
	size_t size = 0;

	if (user)
		memcpy(&size, user, sizeof(size));
	if (size <= sizeof(size))
		return 0;
	if (size > known_bytes)
		size = known_bytes;
	size -= sizeof(size);
	memcpy((uint8_t *)user + sizeof(size), (const uint8_t *)known + sizeof(size), size);
	return size;
}

int accel_struct_copy_out(struct accel_object *obj, const char *what, const void *known,
			  size_t known_bytes, void *user)
{
	if (!copy_out(known, known_bytes, user))
		return accel_fail(obj, -EINVAL, NULL, "%s: %s", what,
				  user ? "set its size to sizeof the struct" : "it is NULL");
	return 0;
}

int accel_error_get(const void *obj, struct accel_error *error)
{
	struct accel_error known;
	uint64_t magic;
	size_t end;

	if (obj) {
		memcpy(&magic, obj, sizeof(magic));
		if (magic != OBJECT_MAGIC)
			return -EINVAL;
	}
	known = error_of((struct accel_object *)obj);
	end = copy_out(&known, sizeof(known), error);
	if (!end)
		return -EINVAL;
	end += sizeof(error->size);
	if (end > offsetof(struct accel_error,
			   text)) /* the text ends, also where the caller knows less of it */
		((char *)error)[end - 1] = '\0';
	return 0;
}
