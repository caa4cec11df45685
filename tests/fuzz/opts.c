// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * ACCEL_OPTS as a hostile string: what is refused changes nothing and says why; what is accepted is
 * within limits and the same for both kinds of option.
 */
#include "object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void is_told(int rc)
{
	struct accel_error error = {.size = sizeof(error)};

	accel_error_get(NULL, &error);
	if (rc != -EINVAL || error.code != rc || strlen(error.text) < 10)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct accel_group_opts group = {.size = sizeof(group)}, no_group = group;
	struct accel_ep_opts ep = {.size = sizeof(ep)}, no_ep = ep;
	char *text = strndup((const char *)data, size), *strings = NULL;
	int rc_group, rc_ep;

	if (!text || setenv("ACCEL_OPTS", text, 1))
		abort();
	rc_group = accel_opts_from_env_group(&group, &strings);
	if (rc_group)
		is_told(rc_group);
	rc_ep = accel_opts_from_env_ep(&ep);
	if (rc_ep)
		is_told(rc_ep);
	if (rc_group != rc_ep || (rc_ep && (memcmp(&group, &no_group, sizeof(group)) || strings ||
					    memcmp(&ep, &no_ep, sizeof(ep)))))
		abort();
	if (ep.dtype > ACCEL_DTYPE_FP8_E4M3 || ep.receive > ACCEL_RECEIVE_LANDED ||
	    ep.combine_input > ACCEL_COMBINE_EXPERT || ep.quant > ACCEL_QUANT_UE8M0 ||
	    ep.on_timeout > ACCEL_ON_TIMEOUT_MASK || group.timeout_ns < 0 ||
	    group.master_port > UINT16_MAX)
		abort();
	/* Its strings lie in what the caller frees. */
	if ((group.name && strlen(group.name) > size) ||
	    (group.transports && strlen(group.transports) > size))
		abort();
	free(strings);
	free(text);
	return 0;
}
