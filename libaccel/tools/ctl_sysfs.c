// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The devices of accel.ko in /sys/class/accel; driver/ABI.txt says what the files there hold. */
#include "ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first line of a device's file without its end; false: there is none. */
static bool text_read(const char *device, const char *file, char text[CTL_TEXT_BYTES])
{
	char path[128];
	FILE *in;
	bool ok;

	snprintf(path, sizeof(path), "/sys/class/accel/%s/%s", device, file);
	in = fopen(path, "re");
	if (!in)
		return false;
	ok = fgets(text, CTL_TEXT_BYTES, in);
	fclose(in);
	if (ok)
		text[strcspn(text, "\n")] = 0;
	return ok;
}

static uint64_t number_read(const char *device, const char *file)
{
	char text[CTL_TEXT_BYTES];

	return text_read(device, file, text) ? strtoull(text, NULL, 10) : 0;
}

unsigned ctl_devices_read(struct ctl_device devices[CTL_DEVICES_MAX])
{
	char node[CTL_TEXT_BYTES];
	unsigned count = 0;

	for (unsigned n = 0; n < CTL_DEVICES_MAX; n++) {
		struct ctl_device *d = &devices[count];

		memset(d, 0, sizeof(*d));
		snprintf(d->name, sizeof(d->name), "accel%u", n);
		if (!text_read(d->name, "provider", d->provider) ||
		    !text_read(d->name, "state", d->state))
			continue; /* no device, or another driver's */
		d->numa_node = text_read(d->name, "numa_node", node) ? atoi(node) : -1;
		d->mem_used_bytes = number_read(d->name, "mem_used_bytes");
		d->mem_max_bytes = number_read(d->name, "mem_max_bytes");
		d->user_max_bytes = number_read(d->name, "user_max_bytes");
		d->import_bytes = number_read(d->name, "import_bytes");
		d->bo_count = number_read(d->name, "bo_count");
		d->client_count = number_read(d->name, "client_count");
		count++;
	}
	return count;
}

json_t *ctl_device_json(const struct ctl_device *d)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "name", d->name,
			 "provider", d->provider, "state", d->state, "numa_node", d->numa_node,
			 "memory_bytes_used", (json_int_t)d->mem_used_bytes, "memory_bytes_max",
			 (json_int_t)d->mem_max_bytes, "user_bytes_max",
			 (json_int_t)d->user_max_bytes, "import_bytes", (json_int_t)d->import_bytes,
			 "buffers", (json_int_t)d->bo_count, "clients",
			 (json_int_t)d->client_count);
}
