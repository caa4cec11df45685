// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Options of a group: the caller's, then ACCEL_OPTS, then the launcher's environment, then
 * defaults. Rank and world: the caller's, then RANK and WORLD_SIZE, then PMIx.
 */
#include "group_opts.h"

#include "pmix.h"
#include "store.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PORT_DEFAULT 29400
#define TIMEOUT_NS_DEFAULT INT64_C(30000000000)

const char *const accel_link_names[ACCEL_LINKS] = {
	[ACCEL_LINK_SHM] = "shm",
	[ACCEL_LINK_VERBS] = "verbs",
};

/* Numbers of the options, 0 is always allowed. */
static const struct range {
	const char *name;
	size_t offset;
	uint32_t min, max;
} ranges[] = {
#define RANGE(field, min, max)                                                                     \
	{                                                                                          \
#field, offsetof(struct accel_group_opts, field), min, max                         \
	}
	RANGE(master_port, 1, UINT16_MAX),  RANGE(join, 1, 1),
	RANGE(verbs_rails, 1, 4),	    RANGE(verbs_qps, 1, 8),
	RANGE(verbs_traffic_class, 1, 255), RANGE(verbs_service_level, 1, 15),
	RANGE(verbs_mtu, 256, 4096),	    RANGE(verbs_inline_bytes, 1, 1024),
	RANGE(verbs_depth, 16, 32768),	    RANGE(verbs_stripe_bytes, 1, UINT32_MAX),
	RANGE(verbs_ack_timeout, 1, 31),    RANGE(verbs_retries, 1, 7),
};

/* Texts of the options. */
static const struct text {
	const char *name;
	size_t offset;
} texts[] = {
#define TEXT(field)                                                                                \
	{                                                                                          \
#field, offsetof(struct accel_group_opts, field)                                   \
	}
	TEXT(master_addr), TEXT(name),		TEXT(socket_dir), TEXT(transports),
	TEXT(address),	   TEXT(verbs_devices), TEXT(verbs_gid),  TEXT(verbs_library),
};

#define COUNT(table) (sizeof(table) / sizeof(*(table)))

static const char **text_of(struct accel_group_opts *opts, const struct text *text)
{
	return (const char **)((char *)opts + text->offset);
}

/* The launcher's variable, 0..max. 1: it is not set. */
static int env_number(const char *name, const char *text, long max, long *value)
{
	char *end;
	long number;

	if (!text || !*text)
		return 1;
	errno = 0;
	number = strtol(text, &end, 10);
	if (errno || *end || number < 0 || number > max)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "%s=\"%.40s\" in the environment is not a number of 0..%ld", name,
				  text, max);
	*value = number;
	return 0;
}

/* A rank or world that was not passed; still negative where the environment has none. */
static int from_env(const char *name, const char *text, long max, int *value)
{
	long number;
	int rc;

	if (*value >= 0)
		return 0;
	rc = env_number(name, text, max, &number);
	if (!rc)
		*value = (int)number;
	return rc < 0 ? rc : 0;
}

static int fail_unknown(const char *name)
{
	if (getenv("PMI_RANK"))
		return accel_fail(
			NULL, -EINVAL, ACCEL_AT_CREATE,
			"%s is to come from the environment, and is not set. There is PMI_RANK, of "
			"PMI 1 or 2, which accel does not speak: start the ranks by sh -c "
			"'RANK=$PMI_RANK WORLD_SIZE=$PMI_SIZE exec PROGRAM', or with mpirun of Open "
			"MPI or srun --mpi=pmix",
			name);
	return accel_fail(
		NULL, -EINVAL, ACCEL_AT_CREATE,
		"%s is to come from the environment, and is not set: start the ranks with a "
		"launcher that sets it or speaks PMIx, or pass rank and world",
		name);
}

/* What is still unknown. What is known must be what PMIx says, or the ranks would not match. */
static int from_pmix(struct accel_group_params *params)
{
	int rank, world, rc = accel_pmix_job(params->opts.timeout_ns, &rank, &world);

	if (rc)
		return rc;
	if ((params->rank >= 0 && params->rank != rank) ||
	    (params->world >= 0 && params->world != world))
		return accel_fail(
			NULL, -EINVAL, ACCEL_AT_CREATE,
			"%s %d was passed or is in the environment, and PMIx says rank %d "
			"of %d: give both rank and world, or neither",
			params->rank >= 0 ? "rank" : "world",
			params->rank >= 0 ? params->rank : params->world, rank, world);
	params->rank = rank;
	params->world = world;
	return 0;
}

static int find_rank(struct accel_group_params *params, bool has_address)
{
	bool is_from_env = params->rank < 0 || params->world < 0;
	int rc = from_env("RANK", getenv("RANK"), ACCEL_RANKS_MAX - 1, &params->rank);

	if (!rc)
		rc = from_env("WORLD_SIZE", getenv("WORLD_SIZE"), ACCEL_RANKS_MAX, &params->world);
	if (rc)
		return rc;
	params->meeting = params->opts.allgather ? ACCEL_MEETING_ALLGATHER : ACCEL_MEETING_STORE;
	if (params->rank >= 0 && params->world >= 0) {
		if (is_from_env)
			accel_log(ACCEL_LOG_INFO, "rank %d of %d by RANK and WORLD_SIZE",
				  params->rank, params->world);
		return 0;
	}
	if (!accel_pmix_is_there())
		return fail_unknown(params->rank < 0 ? "RANK" : "WORLD_SIZE");
	if (!params->opts.allgather && !has_address)
		params->meeting = ACCEL_MEETING_PMIX;
	return from_pmix(params);
}

static int check_rank(const struct accel_group_params *params)
{
	if (params->world < 1 || params->world > ACCEL_RANKS_MAX)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "world %d is outside 1..%d",
				  params->world, ACCEL_RANKS_MAX);
	if (params->rank >= params->world)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "rank %d is outside 0..%d, as world is %d", params->rank,
				  params->world - 1, params->world);
	return 0;
}

/* Those of the list that this version has, each once. */
static int read_transports(struct accel_group_params *params)
{
	const char *list = params->opts.transports;
	uint32_t seen = 0;

	for (const char *at = list;; at++) {
		size_t len = strcspn(at, ",");
		uint32_t link = 0;

		while (link < ACCEL_LINKS && (strlen(accel_link_names[link]) != len ||
					      strncmp(at, accel_link_names[link], len)))
			link++;
		if (link == ACCEL_LINKS && (len != 4 || strncmp(at, "dpdk", len)))
			return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
					  "transports=\"%.60s\" has an unknown name at \"%.20s\"; "
					  "there are shm and verbs",
					  list, at);
		if (link < ACCEL_LINKS && !(seen & 1u << link))
			params->link[params->links++] = (uint8_t)link;
		seen |= 1u << link;
		at += len;
		if (!*at)
			break;
	}
	if (params->links)
		return 0;
	return accel_fail(NULL, -EOPNOTSUPP, ACCEL_AT_CREATE,
			  "transport dpdk is not built in this version; there are shm and verbs");
}

static int check_ranges(const struct accel_group_opts *opts)
{
	for (size_t i = 0; i < COUNT(ranges); i++) {
		uint32_t value;

		memcpy(&value, (const char *)opts + ranges[i].offset, sizeof(value));
		if (value && (value < ranges[i].min || value > ranges[i].max))
			return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "%s %u is outside %u..%u",
					  ranges[i].name, value, ranges[i].min, ranges[i].max);
	}
	if (opts->verbs_mtu & (opts->verbs_mtu - 1))
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "verbs_mtu %u is none of 256, 512, 1024, 2048 and 4096",
				  opts->verbs_mtu);
	return 0;
}

static int check_values(struct accel_group_opts *opts)
{
	for (size_t i = 0; i < COUNT(texts); i++) {
		const char *text = *text_of(opts, &texts[i]);

		if (text && !*text)
			return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
					  "%s is empty; NULL is the default", texts[i].name);
	}
	if (strlen(opts->name) >= ACCEL_STORE_NAME_BYTES)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "name \"%.80s\" is longer than %d characters", opts->name,
				  ACCEL_STORE_NAME_BYTES - 1);
	if (opts->timeout_ns < 0)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "timeout_ns %lld is negative; 0 is 30 s",
				  (long long)opts->timeout_ns);
	for (size_t i = 0; i < COUNT(opts->reserved); i++)
		if (opts->reserved[i])
			return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "reserved[%zu] must be 0",
					  i);
	return check_ranges(opts);
}

static int set_defaults(struct accel_group_opts *opts)
{
	const char *addr = getenv("MASTER_ADDR");
	long port = PORT_DEFAULT;
	int rc = 0;

	if (!opts->master_addr)
		opts->master_addr = addr && *addr ? addr : "127.0.0.1";
	if (!opts->master_port) {
		rc = env_number("MASTER_PORT", getenv("MASTER_PORT"), UINT16_MAX, &port);
		opts->master_port = port ? (uint32_t)port : PORT_DEFAULT;
	}
	if (!opts->name)
		opts->name = "world";
	if (!opts->transports)
		opts->transports = "shm,verbs";
	if (!opts->timeout_ns)
		opts->timeout_ns = TIMEOUT_NS_DEFAULT;
	return rc < 0 ? rc : 0;
}

/* The group keeps its options, to meet in the same way when ranks join. */
static int own_strings(struct accel_group_params *params)
{
	size_t bytes = 0;
	char *own, *at;

	for (size_t i = 0; i < COUNT(texts); i++) {
		const char *text = *text_of(&params->opts, &texts[i]);

		bytes += text ? strlen(text) + 1 : 0;
	}
	own = at = malloc(bytes);
	if (!own)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				  "no memory for a group's options");
	for (size_t i = 0; i < COUNT(texts); i++) {
		const char **text = text_of(&params->opts, &texts[i]);

		if (!*text)
			continue;
		bytes = strlen(*text) + 1;
		*text = memcpy(at, *text, bytes);
		at += bytes;
	}
	free(params->strings);
	params->strings = own;
	return 0;
}

int accel_group_params_init(struct accel_group_params *params, int rank, int world,
			    const struct accel_group_opts *opts)
{
	bool has_address;
	int rc;

	*params = (struct accel_group_params){.rank = rank, .world = world};
	rc = accel_struct_copy_in(NULL, "struct accel_group_opts", opts, &params->opts,
				  sizeof(params->opts));
	if (!rc)
		rc = accel_opts_from_env_group(&params->opts, &params->strings);
	has_address = params->opts.master_addr || params->opts.master_port;
	if (!rc)
		rc = set_defaults(&params->opts);
	if (!rc)
		rc = check_values(&params->opts);
	if (!rc)
		rc = read_transports(params);
	if (!rc)
		rc = find_rank(params, has_address);
	if (!rc)
		rc = check_rank(params);
	if (!rc && params->opts.join && params->world == 1)
		rc = accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				"join is set in a world of one: there is nobody to join");
	if (!rc)
		rc = own_strings(params);
	if (rc)
		accel_group_params_fini(params);
	return rc;
}

void accel_group_params_fini(struct accel_group_params *params)
{
	free(params->strings);
	params->strings = NULL;
}
