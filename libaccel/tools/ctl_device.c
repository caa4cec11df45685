// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accelctl list and info: which devices there are, and what one of them is. */
#include "ctl.h"

#include <accel/accel.h>
#include <inttypes.h>
#include <stdio.h>

/* Why a device cannot be used by this user, or "" when it can. */
static const char *refusal(const char *name)
{
	static struct accel_error error;
	struct accel_device *dev;

	if (!accel_device_open(name, &dev)) {
		accel_device_close(dev);
		return "";
	}
	error.size = sizeof(error);
	return accel_error_get(NULL, &error) ? "?" : error.text;
}

static void list_json(const struct ctl_device *devices, unsigned count)
{
	json_t *list = json_array();

	json_array_append_new(list, json_pack("{s:s, s:b}", "name", "host", "usable", 1));
	for (unsigned i = 0; i < count; i++) {
		json_t *device = ctl_device_json(&devices[i]);
		const char *why = refusal(devices[i].name);

		json_object_set_new(device, "usable", json_boolean(!*why));
		if (*why)
			json_object_set_new(device, "refusal", json_string(why));
		json_array_append_new(list, device);
	}
	ctl_json_print(json_pack("{s:s, s:s, s:o}", "schema", "accelctl-list/1", "version",
				 accel_version(), "devices", list),
		       false);
}

int ctl_list(const struct ctl_opts *opts)
{
	static struct ctl_device devices[CTL_DEVICES_MAX];
	unsigned count = ctl_devices_read(devices);
	char used[CTL_TEXT_BYTES], max[CTL_TEXT_BYTES];

	if (opts->json) {
		list_json(devices, count);
		return CTL_PASS;
	}
	printf("%-9s %-9s %-10s %12s %12s %8s %8s\n", "DEVICE", "PROVIDER", "STATE", "USED",
	       "QUOTA", "BUFFERS", "CLIENTS");
	printf("%-9s %-9s %-10s %12s %12s %8s %8s\n", "host", "-", "running", "-", "-", "-", "-");
	for (unsigned i = 0; i < count; i++) {
		const struct ctl_device *d = &devices[i];
		const char *why = refusal(d->name);

		printf("%-9s %-9s %-10s %12s %12s %8" PRIu64 " %8" PRIu64 "\n", d->name,
		       d->provider, d->state, ctl_bytes(used, d->mem_used_bytes),
		       ctl_limit(max, d->mem_max_bytes), d->bo_count, d->client_count);
		if (*why)
			printf("          not usable: %s\n", why);
	}
	if (!count)
		printf("\n%s\n", refusal("accel"));
	return CTL_PASS;
}

static json_t *info_json(const struct accel_device_info *info)
{
	json_t *document = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s}", "schema",
				     "accelctl-info/1", "version", accel_version(), "name",
				     info->name, "page_bytes", (int)info->page_bytes,
				     "huge_page_bytes", (int)info->huge_page_bytes, "numa_nodes",
				     (int)info->numa_nodes, "kernels", info->kernels);
	json_t *accel;

	if (!*info->provider)
		return document;
	accel = json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "provider", info->provider,
			  "numa_node", (int)info->numa_node_plus1 - 1, "buffer_bytes_max",
			  (json_int_t)info->buffer_bytes_max, "memory_bytes_max",
			  (json_int_t)info->memory_bytes_max, "memory_bytes_used",
			  (json_int_t)info->memory_bytes_used, "user_bytes_max",
			  (json_int_t)info->user_bytes_max, "user_bytes_used",
			  (json_int_t)info->user_bytes_used);
	json_object_update(document, accel);
	json_decref(accel);
	return document;
}

static void info_print(const struct accel_device_info *info)
{
	char used[CTL_TEXT_BYTES], max[CTL_TEXT_BYTES];

	printf("device            %s\n", info->name);
	printf("library           %s\n", accel_version());
	printf("kernels           %s\n", info->kernels);
	printf("pages             %s", ctl_bytes(used, info->page_bytes));
	if (info->huge_page_bytes)
		printf(", large ones %s", ctl_bytes(used, info->huge_page_bytes));
	printf("\nNUMA nodes        %u\n", info->numa_nodes);
	if (!*info->provider) {
		printf("reserved pages    %u free\n", info->huge_pages_free);
		return;
	}
	printf("provider          %s\n", info->provider);
	if (info->numa_node_plus1)
		printf("NUMA node         %u\n", info->numa_node_plus1 - 1);
	printf("largest buffer    %s\n", ctl_bytes(used, info->buffer_bytes_max));
	printf("memory            %s of %s used\n", ctl_bytes(used, info->memory_bytes_used),
	       ctl_limit(max, info->memory_bytes_max));
	printf("of this user      %s of %s used\n", ctl_bytes(used, info->user_bytes_used),
	       ctl_limit(max, info->user_bytes_max));
}

int ctl_info(const struct ctl_opts *opts)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_device *dev = NULL;
	int rc;

	if (!opts->device && *refusal("accel"))
		rc = accel_device_open("host", &dev);
	else
		rc = accel_device_open(opts->device ? opts->device : "accel", &dev);
	if (rc)
		return ctl_refused();
	rc = accel_device_info_get(dev, &info);
	if (rc) {
		struct accel_error error = {.size = sizeof(error)};

		accel_error_get(dev, &error);
		fprintf(stderr, "accelctl: %s\n", error.text);
	} else if (opts->json) {
		ctl_json_print(info_json(&info), false);
	} else {
		info_print(&info);
	}
	accel_device_close(dev);
	return rc ? CTL_MISSING : CTL_PASS;
}
