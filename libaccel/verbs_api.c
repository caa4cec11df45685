// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * libibverbs and its stand-ins, loaded by name. dlsym() without a version takes a symbol's default
 * one, that of the structs in <infiniband/verbs.h> since 2007. A library stays loaded: its providers
 * have threads and handlers of their own.
 */
#include "verbs_api.h"

#include "object.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct library {
	struct accel_verbs_api api;
	struct library *next;
	char name[];
};

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static struct library *libraries; /* complete ones, kept for the life of the process */

static const struct symbol {
	const char *name;
	size_t offset;
	bool may_lack;
} symbols[] = {
#define SYMBOL(call)                                                                               \
	{                                                                                          \
		"ibv_" #call, offsetof(struct accel_verbs_api, call), false                        \
	}
	SYMBOL(get_device_list),
	SYMBOL(free_device_list),
	SYMBOL(get_device_name),
	SYMBOL(open_device),
	SYMBOL(close_device),
	SYMBOL(query_device),
	SYMBOL(query_port),
	SYMBOL(query_gid),
	{"_ibv_query_gid_ex", offsetof(struct accel_verbs_api, query_gid_ex), true},
	SYMBOL(alloc_pd),
	SYMBOL(dealloc_pd),
	SYMBOL(reg_mr),
	{"ibv_reg_dmabuf_mr", offsetof(struct accel_verbs_api, reg_dmabuf_mr), true},
	SYMBOL(dereg_mr),
	SYMBOL(create_comp_channel),
	SYMBOL(destroy_comp_channel),
	SYMBOL(create_cq),
	SYMBOL(destroy_cq),
	SYMBOL(get_cq_event),
	SYMBOL(ack_cq_events),
	SYMBOL(create_qp),
	SYMBOL(modify_qp),
	SYMBOL(query_qp),
	SYMBOL(destroy_qp),
	SYMBOL(get_async_event),
	SYMBOL(ack_async_event),
	SYMBOL(wc_status_str),
	SYMBOL(event_type_str),
	SYMBOL(port_state_str),
#undef SYMBOL
};

static int symbols_get(void *handle, const char *name, struct accel_verbs_api *api)
{
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(handle, symbols[i].name);

		if (!symbol && !symbols[i].may_lack)
			return accel_fail(
				NULL, -ENOENT, ACCEL_AT_CREATE,
				"%s lacks %s: it is no libibverbs, or one that is too old", name,
				symbols[i].name);
		memcpy((char *)api + symbols[i].offset, &symbol, sizeof(symbol));
	}
	return 0;
}

static int load_locked(const char *name, const struct accel_verbs_api **api)
{
	size_t name_bytes = strlen(name) + 1;
	struct library *new;
	void *handle;
	int rc;

	for (struct library *at = libraries; at; at = at->next)
		if (!strcmp(at->name, name)) {
			*api = &at->api;
			return 0;
		}
	new = calloc(1, sizeof(*new) + name_bytes);
	if (!new)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to load %s", name);
	memcpy(new->name, name, name_bytes);
	handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!handle)
		rc = accel_fail(NULL, -ENOENT, ACCEL_AT_CREATE,
				"the library of RDMA devices cannot be loaded (%s): install it "
				"(Debian: libibverbs1 and ibverbs-providers), or name it by "
				"verbs.library",
				dlerror());
	else
		rc = symbols_get(handle, name, &new->api);
	if (rc) {
		free(new);
		return rc;
	}
	new->next = libraries;
	libraries = new;
	*api = &new->api;
	return 0;
}

int accel_verbs_api_get(const char *library, const struct accel_verbs_api **api)
{
	int rc;

	pthread_mutex_lock(&load_lock);
	rc = load_locked(library ? library : ACCEL_VERBS_LIBRARY, api);
	pthread_mutex_unlock(&load_lock);
	return rc;
}
