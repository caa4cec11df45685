// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accelctl top: what each device's memory is used by. Devices from sysfs; clients, which are open
 * files of a node, from /proc/PID/fdinfo, as the kernel's drm-usage-stats has it: of other users'
 * processes root alone sees them. A file that several processes share is shown once, at the lowest
 * PID.
 */
#define _GNU_SOURCE
#include "ctl.h"

#include <accel/accel.h>
#include <dirent.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLIENTS_MAX 1024
#define NODE_PREFIX "/dev/accel/"

struct client {
	char device[CTL_TEXT_BYTES], command[CTL_TEXT_BYTES];
	unsigned long pid, id;
	uint64_t total_bytes, shared_bytes, import_bytes;
};

struct snapshot {
	struct ctl_device device[CTL_DEVICES_MAX];
	struct client client[CLIENTS_MAX];
	unsigned devices, clients;
	bool cut; /* there are more clients */
};

/* "drm-total-memory:	4 KiB": if the line has this key, its value in bytes. */
static void value_take(const char *line, const char *key, uint64_t *bytes)
{
	size_t length = strlen(key);
	char *unit;

	if (strncmp(line, key, length) || line[length] != ':')
		return;
	*bytes = strtoull(line + length + 1, &unit, 10);
	if (!strncmp(unit, " KiB", 4))
		*bytes <<= 10;
	else if (!strncmp(unit, " MiB", 4))
		*bytes <<= 20;
}

static bool client_read(const char *pid, const char *fd, struct client *client)
{
	char path[64], line[256];
	bool is_ours = false;
	uint64_t id = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/%.10s/fdinfo/%.10s", pid, fd);
	info = fopen(path, "re");
	while (info && fgets(line, sizeof(line), info)) {
		is_ours |= !strcmp(line, "drm-driver:\taccel\n");
		value_take(line, "drm-client-id", &id);
		value_take(line, "drm-total-memory", &client->total_bytes);
		value_take(line, "drm-shared-memory", &client->shared_bytes);
		value_take(line, "drm-total-import", &client->import_bytes);
	}
	if (info)
		fclose(info);
	client->id = (unsigned long)id;
	return is_ours;
}

static bool is_known(const struct snapshot *s, const struct client *client)
{
	for (unsigned i = 0; i < s->clients; i++)
		if (s->client[i].id == client->id && !strcmp(s->client[i].device, client->device))
			return true;
	return false;
}

static void command_read(const char *pid, char command[CTL_TEXT_BYTES])
{
	char path[64];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%.10s/comm", pid);
	in = fopen(path, "re");
	if (!in || !fgets(command, CTL_TEXT_BYTES, in))
		snprintf(command, CTL_TEXT_BYTES, "?");
	if (in)
		fclose(in);
	command[strcspn(command, "\n")] = 0;
}

static void descriptor_take(struct snapshot *s, const char *pid, const char *fd)
{
	struct client client = {.pid = strtoul(pid, NULL, 10)};
	char path[64], target[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%.10s/fd/%.10s", pid, fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return;
	target[length] = 0;
	if (strncmp(target, NODE_PREFIX, strlen(NODE_PREFIX)))
		return;
	snprintf(client.device, sizeof(client.device), "%.*s", CTL_TEXT_BYTES - 1,
		 target + strlen(NODE_PREFIX));
	if (!client_read(pid, fd, &client) || is_known(s, &client))
		return;
	if (s->clients == CLIENTS_MAX) {
		s->cut = true;
		return;
	}
	command_read(pid, client.command);
	s->client[s->clients++] = client;
}

static void process_take(struct snapshot *s, const char *pid)
{
	struct dirent *entry;
	char path[64];
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%.10s/fd", pid);
	fds = opendir(path);
	while (fds && (entry = readdir(fds)))
		if (entry->d_name[0] != '.')
			descriptor_take(s, pid, entry->d_name);
	if (fds)
		closedir(fds);
}

static void snapshot_take(struct snapshot *s)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	s->clients = 0;
	s->cut = false;
	s->devices = ctl_devices_read(s->device);
	while (proc && (entry = readdir(proc)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			process_take(s, entry->d_name);
	if (proc)
		closedir(proc);
}

static json_t *snapshot_json(const struct snapshot *s)
{
	json_t *devices = json_array(), *clients = json_array();

	for (unsigned i = 0; i < s->devices; i++)
		json_array_append_new(devices, ctl_device_json(&s->device[i]));
	for (unsigned i = 0; i < s->clients; i++) {
		const struct client *c = &s->client[i];

		json_array_append_new(clients,
				      json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I}", "device",
						c->device, "pid", (json_int_t)c->pid, "command",
						c->command, "client_id", (json_int_t)c->id,
						"memory_bytes", (json_int_t)c->total_bytes,
						"shared_bytes", (json_int_t)c->shared_bytes,
						"import_bytes", (json_int_t)c->import_bytes));
	}
	return json_pack("{s:s, s:s, s:o, s:o}", "schema", "accelctl-top/1", "version",
			 accel_version(), "devices", devices, "clients", clients);
}

static void snapshot_print(const struct snapshot *s)
{
	char a[CTL_TEXT_BYTES], b[CTL_TEXT_BYTES], c[CTL_TEXT_BYTES];

	printf("%-9s %-10s %12s %12s %12s %8s %8s\n", "DEVICE", "STATE", "USED", "QUOTA",
	       "IMPORTED", "BUFFERS", "CLIENTS");
	for (unsigned i = 0; i < s->devices; i++) {
		const struct ctl_device *d = &s->device[i];

		printf("%-9s %-10s %12s %12s %12s %8" PRIu64 " %8" PRIu64 "\n", d->name, d->state,
		       ctl_bytes(a, d->mem_used_bytes), ctl_limit(b, d->mem_max_bytes),
		       ctl_bytes(c, d->import_bytes), d->bo_count, d->client_count);
	}
	printf("\n%-9s %10s %-16s %12s %12s %12s\n", "DEVICE", "PID", "COMMAND", "MEMORY", "SHARED",
	       "IMPORTED");
	for (unsigned i = 0; i < s->clients; i++) {
		const struct client *k = &s->client[i];

		printf("%-9s %10lu %-16s %12s %12s %12s\n", k->device, k->pid, k->command,
		       ctl_bytes(a, k->total_bytes), ctl_bytes(b, k->shared_bytes),
		       ctl_bytes(c, k->import_bytes));
	}
	if (s->cut)
		printf("and more: the first %d are shown\n", CLIENTS_MAX);
	fflush(stdout);
}

int ctl_top(const struct ctl_opts *opts)
{
	static struct snapshot s;

	do {
		snapshot_take(&s);
		if (!s.devices && opts->once && !opts->json) {
			struct accel_device *dev;

			return accel_device_open("accel", &dev) ? ctl_refused() : CTL_PASS;
		}
		if (opts->json) {
			ctl_json_print(snapshot_json(&s), !opts->once);
			fflush(stdout);
		} else {
			if (!opts->once && isatty(STDOUT_FILENO))
				printf("\033[H\033[2J");
			snapshot_print(&s);
		}
	} while (!opts->once && !ferror(stdout) && poll(NULL, 0, (int)opts->interval_ms) == 0);
	return CTL_PASS;
}
