// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * ACCEL_OPTS="name=value,name=value": one table of names for both option structs. A value that is a
 * list has '+' where the struct has ',' (transports=verbs+shm). The whole string is checked
 * whichever struct it is read for.
 */
#include "object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum owner { GROUP, EP };
enum form { TEXT, LIST, NUMBER, MILLISECONDS, CHOICE };

struct option {
	const char *name;
	enum owner owner;
	enum form form;
	size_t offset; /* of the field: const char *, uint32_t, or int64_t for milliseconds */
	uint64_t max;  /* of a number, from 1; how many choices */
	const char *const *choices; /* index: the value */
};

static const char *const dtypes[] = {[ACCEL_DTYPE_BF16] = "bf16", [ACCEL_DTYPE_FP8_E4M3] = "fp8"};
static const char *const receives[] = {
	[ACCEL_RECEIVE_IN_PLACE] = "in_place", [ACCEL_RECEIVE_LANDED] = "landed"};
static const char *const combine_inputs[] = {
	[ACCEL_COMBINE_RANK] = "rank", [ACCEL_COMBINE_EXPERT] = "expert"};
static const char *const quants[] = {
	[ACCEL_QUANT_DIV] = "div", [ACCEL_QUANT_MUL] = "mul", [ACCEL_QUANT_UE8M0] = "ue8m0"};
static const char *const on_timeouts[] = {
	[ACCEL_ON_TIMEOUT_ERROR] = "error", [ACCEL_ON_TIMEOUT_MASK] = "mask"};
static const char *const huges[] = {
	[ACCEL_HUGE_TRY] = "try", [ACCEL_HUGE_NEVER] = "never", [ACCEL_HUGE_NEED] = "need"};

#define IN_GROUP(field) GROUP, .offset = offsetof(struct accel_group_opts, field)
#define IN_EP(field) EP, .offset = offsetof(struct accel_ep_opts, field)
#define CHOICES(names) .form = CHOICE, .max = sizeof(names) / sizeof(*(names)), .choices = (names)

static const struct option options[] = {
	{"master_addr", IN_GROUP(master_addr), .form = TEXT},
	{"master_port", IN_GROUP(master_port), .form = NUMBER, .max = 65535},
	{"name", IN_GROUP(name), .form = TEXT},
	{"socket_dir", IN_GROUP(socket_dir), .form = TEXT},
	{"transports", IN_GROUP(transports), .form = LIST},
	{"timeout_ms", IN_GROUP(timeout_ns), .form = MILLISECONDS, .max = INT64_MAX / 1000000},
	{"address", IN_GROUP(address), .form = TEXT},
	{"verbs.devices", IN_GROUP(verbs_devices), .form = LIST},
	{"verbs.gid", IN_GROUP(verbs_gid), .form = TEXT},
	{"verbs.library", IN_GROUP(verbs_library), .form = TEXT},
	{"verbs.rails", IN_GROUP(verbs_rails), .form = NUMBER, .max = 4},
	{"verbs.qps", IN_GROUP(verbs_qps), .form = NUMBER, .max = 8},
	{"verbs.traffic_class", IN_GROUP(verbs_traffic_class), .form = NUMBER, .max = 255},
	{"verbs.service_level", IN_GROUP(verbs_service_level), .form = NUMBER, .max = 15},
	{"verbs.mtu", IN_GROUP(verbs_mtu), .form = NUMBER, .max = 4096},
	{"verbs.inline_bytes", IN_GROUP(verbs_inline_bytes), .form = NUMBER, .max = 1024},
	{"verbs.depth", IN_GROUP(verbs_depth), .form = NUMBER, .max = 32768},
	{"verbs.stripe_bytes", IN_GROUP(verbs_stripe_bytes), .form = NUMBER, .max = UINT32_MAX},
	{"verbs.ack_timeout", IN_GROUP(verbs_ack_timeout), .form = NUMBER, .max = 31},
	{"verbs.retries", IN_GROUP(verbs_retries), .form = NUMBER, .max = 7},
	{"dtype", IN_EP(dtype), CHOICES(dtypes)},
	{"receive", IN_EP(receive), CHOICES(receives)},
	{"combine_input", IN_EP(combine_input), CHOICES(combine_inputs)},
	{"quant", IN_EP(quant), CHOICES(quants)},
	{"lanes", IN_EP(lanes), .form = NUMBER, .max = ACCEL_LANES_MAX},
	{"on_timeout", IN_EP(on_timeout), CHOICES(on_timeouts)},
	{"spin_us", IN_EP(spin_us), .form = NUMBER, .max = UINT32_MAX},
	{"huge", IN_EP(huge), CHOICES(huges)},
	{"output_rows", IN_EP(output_rows), .form = NUMBER, .max = UINT32_MAX},
};

#define OPTIONS (sizeof(options) / sizeof(*options))

static int fail_name(const char *name)
{
	char known[400] = "";
	size_t len = 0;

	for (size_t i = 0; i < OPTIONS; i++)
		len += (size_t)snprintf(known + len, sizeof(known) - len, " %s", options[i].name);
	return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
			  "ACCEL_OPTS: unknown name '%.64s'; known:%s", name, known);
}

static int fail_value(const struct option *option, const char *value)
{
	char wanted[128] = "something after the '='";
	size_t len;

	if (option->form == NUMBER || option->form == MILLISECONDS)
		snprintf(wanted, sizeof(wanted), "a number from 1 to %llu",
			 (unsigned long long)option->max);
	if (option->form == CHOICE) {
		len = (size_t)snprintf(wanted, sizeof(wanted), "one of");
		for (uint64_t i = 0; i < option->max; i++)
			if (option->choices[i])
				len += (size_t)snprintf(wanted + len, sizeof(wanted) - len, " %s",
							option->choices[i]);
	}
	return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "ACCEL_OPTS: %s='%.64s': it takes %s",
			  option->name, value, wanted);
}

static bool number_parse(const char *value, uint64_t max, uint64_t *number)
{
	char *end;

	if (*value < '0' || *value > '9') /* strtoull would take a sign and spaces */
		return false;
	errno = 0;
	*number = strtoull(value, &end, 10);
	return !errno && !*end && *number >= 1 && *number <= max;
}

static bool choice_parse(const struct option *option, const char *value, uint64_t *number)
{
	for (*number = 0; *number < option->max; ++*number)
		if (option->choices[*number] && !strcmp(value, option->choices[*number]))
			return true;
	return false;
}

/*
 * Put a value that stays in memory into its field, unless the program has set that. field NULL:
 * only check it.
 */
static int value_apply(const struct option *option, char *value, void *field)
{
	uint64_t number = 0;
	bool ok = *value;

	if (option->form == NUMBER || option->form == MILLISECONDS)
		ok = number_parse(value, option->max, &number);
	else if (option->form == CHOICE)
		ok = choice_parse(option, value, &number);
	if (!ok)
		return fail_value(option, value);
	if (!field)
		return 0;
	if (option->form == LIST)
		for (char *plus = value; (plus = strchr(plus, '+'));)
			*plus = ',';
	if (option->form == TEXT || option->form == LIST) {
		if (!*(const char **)field)
			*(const char **)field = value;
	} else if (option->form == MILLISECONDS) {
		if (!*(int64_t *)field)
			*(int64_t *)field = (int64_t)number * 1000000;
	} else if (!*(uint32_t *)field) {
		*(uint32_t *)field = (uint32_t)number;
	}
	return 0;
}

/* text is cut into its names and values, which the fields then point to. */
static int opts_parse(char *text, enum owner owner, void *opts)
{
	char *entry, *value, *rest = text;
	uint64_t seen = 0;
	size_t i;
	int rc;

	while ((entry = strsep(&rest, ","))) {
		if (!*entry)
			continue;
		value = strchr(entry, '=');
		if (!value)
			return accel_fail(
				NULL, -EINVAL, ACCEL_AT_CREATE,
				"ACCEL_OPTS: '%.64s' is not name=value; items of one value are joined by '+'",
				entry);
		*value++ = '\0';
		for (i = 0; i < OPTIONS && strcmp(entry, options[i].name); i++)
			;
		if (i == OPTIONS)
			return fail_name(entry);
		if (seen & (UINT64_C(1) << i))
			return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
					  "ACCEL_OPTS: '%s' is given twice", entry);
		seen |= UINT64_C(1) << i;
		rc = value_apply(&options[i], value,
				 options[i].owner == owner ? (uint8_t *)opts + options[i].offset
							   : NULL);
		if (rc)
			return rc;
	}
	return 0;
}

/*
 * The same for both structs: into a copy, so that a bad string changes nothing. *text: what the
 * copy's strings are in.
 */
static int opts_from_env(enum owner owner, void *opts, char **text)
{
	const char *env = getenv("ACCEL_OPTS");
	int rc;

	*text = NULL;
	if (!env || !*env)
		return 0;
	*text = strdup(env);
	if (!*text)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to read ACCEL_OPTS");
	rc = opts_parse(*text, owner, opts);
	if (rc)
		free(*text);
	return rc;
}

int accel_opts_from_env_group(struct accel_group_opts *opts, char **strings)
{
	struct accel_group_opts merged = *opts;
	char *text;
	int rc = opts_from_env(GROUP, &merged, &text);

	if (rc)
		return rc;
	*opts = merged;
	*strings = text;
	return 0;
}

int accel_opts_from_env_ep(struct accel_ep_opts *opts)
{
	struct accel_ep_opts merged = *opts;
	char *text;
	int rc = opts_from_env(EP, &merged, &text);

	if (rc)
		return rc;
	*opts = merged;
	free(text);
	return 0;
}
