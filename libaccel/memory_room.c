// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The room check. A process's cgroup is a line "id:controllers:path" of /proc/self/cgroup
 * ("0::path" for v2), its directory path less the mount's root (field 4 of mountinfo) below the
 * mount point (field 5); each directory up to the mount point may hold a limit.
 * Source: man 5 proc; kernel Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
 */
#include "memory_room.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The same four things in the words of either version; all of them count the directories below too.
 */
struct vocabulary {
	const char *limit[2], *usage;
	const char *reclaimable[2]; /* of memory.stat */
	const char *busy[2];	    /* of those, not reclaimable before they are written out */
};

static const struct vocabulary v1 = {
	.limit = {"memory.limit_in_bytes"},
	.usage = "memory.usage_in_bytes",
	.reclaimable = {"total_inactive_file", "total_active_file"},
	.busy = {"total_dirty", "total_writeback"},
};

static const struct vocabulary v2 = {
	.limit = {"memory.max", "memory.high"},
	.usage = "memory.current",
	.reclaimable = {"inactive_file", "active_file"},
	.busy = {"file_dirty", "file_writeback"},
};

static FILE *open_under(const char *root, const char *dir, const char *name)
{
	char path[2 * PATH_MAX];

	if (snprintf(path, sizeof(path), "%s%s/%s", root, dir, name) >= (int)sizeof(path))
		return NULL;
	return fopen(path, "re");
}

/* A file that holds one number. "max" is not one: no limit. */
static bool number_read(const char *root, const char *dir, const char *name, uint64_t *value)
{
	FILE *file = open_under(root, dir, name);
	bool ok;

	if (!file)
		return false;
	ok = fscanf(file, "%" SCNu64, value) == 1;
	fclose(file);
	return ok;
}

static uint64_t reclaimable_read(const char *root, const char *dir, const struct vocabulary *words)
{
	FILE *file = open_under(root, dir, "memory.stat");
	uint64_t value, reclaimable = 0, busy = 0;
	char key[64];

	if (!file)
		return 0;
	while (fscanf(file, "%63s %" SCNu64, key, &value) == 2) {
		for (int i = 0; i < 2; i++) {
			reclaimable += strcmp(key, words->reclaimable[i]) ? 0 : value;
			busy += strcmp(key, words->busy[i]) ? 0 : value;
		}
	}
	fclose(file);
	return reclaimable > busy ? reclaimable - busy : 0;
}

static void room_narrow(struct accel_memory_room *room, uint64_t bytes, const char *dir,
			const char *name)
{
	if (bytes >= room->bytes)
		return;
	room->bytes = bytes;
	snprintf(room->limit, sizeof(room->limit), "%s%s%s", dir, *dir ? "/" : "", name);
}

static void room_of_cgroup(const char *root, const char *dir, const struct vocabulary *words,
			   struct accel_memory_room *room)
{
	uint64_t limit, usage, reclaimable;

	if (!number_read(root, dir, words->usage, &usage))
		return;
	reclaimable = reclaimable_read(root, dir, words);
	usage -= reclaimable < usage ? reclaimable : usage;
	for (int i = 0; i < 2 && words->limit[i]; i++)
		if (number_read(root, dir, words->limit[i], &limit))
			room_narrow(room, limit > usage ? limit - usage : 0, dir, words->limit[i]);
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += len)
		if ((at == list || at[-1] == ',') &&
		    (at[len] == ',' || at[len] == '\0' || at[len] == '\n'))
			return true;
	return false;
}

/* Where the hierarchy is mounted, and which of its directories the mount shows. */
static bool mount_find(const char *root, const struct vocabulary *words, char *mount,
		       char *mount_root)
{
	FILE *file = open_under(root, "/proc/self", "mountinfo");
	char *line = NULL, *tail, type[32], options[1024];
	size_t room = 0;
	bool found = false;

	while (file && !found && getline(&line, &room, file) > 0) {
		tail = strstr(line, " - ");
		if (!tail || sscanf(tail, " - %31s %*s %1023s", type, options) != 2)
			continue;
		if (words == &v2 ? strcmp(type, "cgroup2")
				 : strcmp(type, "cgroup") || !has_word(options, "memory"))
			continue;
		found = sscanf(line, "%*s %*s %*s %4095s %4095s", mount_root, mount) == 2;
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static void room_of_hierarchy(const char *root, const char *path, const struct vocabulary *words,
			      struct accel_memory_room *room)
{
	char mount[PATH_MAX], mount_root[PATH_MAX], dir[2 * PATH_MAX];
	size_t mount_len, root_len;

	if (!mount_find(root, words, mount, mount_root))
		return;
	root_len = strcmp(mount_root, "/") ? strlen(mount_root) : 0;
	if (strncmp(path, mount_root, root_len) || (path[root_len] && path[root_len] != '/') ||
	    strstr(path, "/.."))
		path = ""; /* outside what is mounted here: its top is the nearest that can be seen */
	else
		path += root_len;
	mount_len = strlen(mount);
	snprintf(dir, sizeof(dir), "%s%s", mount, path);
	for (size_t len = strlen(dir); len >= mount_len; len--) {
		if (dir[len] != '/' && dir[len] != '\0')
			continue;
		dir[len] = '\0';
		if (len == mount_len || dir[len - 1] != '/')
			room_of_cgroup(root, dir, words, room);
	}
}

static void room_of_cgroups(const char *root, struct accel_memory_room *room)
{
	FILE *file = open_under(root, "/proc/self", "cgroup");
	char *line = NULL, *controllers, *path;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		controllers = strchr(line, ':');
		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = '\0';
		controllers++;
		if (has_word(controllers, "memory"))
			room_of_hierarchy(root, path, &v1, room);
		else if (!*controllers)
			room_of_hierarchy(root, path, &v2, room);
	}
	free(line);
	if (file)
		fclose(file);
}

void accel_memory_room_get(const char *root, struct accel_memory_room *room)
{
	FILE *file = open_under(root, "/proc", "meminfo");
	char line[128];
	uint64_t kib;

	*room = (struct accel_memory_room){.bytes = UINT64_MAX, .limit = "none"};
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
			room_narrow(room, kib * 1024, "", "MemAvailable");
	if (file)
		fclose(file);
	room_of_cgroups(root, room);
}

uint64_t accel_memory_room_need(uint64_t bytes)
{
	/*
	 * 8 bytes of page table and 9 of the file's index for each 4096, and the counters' batches
	 */
	uint64_t overhead = bytes / 128 + (1u << 20);

	return bytes > UINT64_MAX - overhead ? UINT64_MAX : bytes + overhead;
}

void accel_huge_room_get(const char *root, struct accel_huge_room *room)
{
	static const char dir[] = "/sys/kernel/mm/hugepages/hugepages-2048kB";
	uint64_t total = 0, on_demand = 0, free_pages = 0, reserved = 0;

	number_read(root, dir, "nr_hugepages", &total);
	number_read(root, dir, "nr_overcommit_hugepages", &on_demand);
	number_read(root, dir, "free_hugepages", &free_pages);
	number_read(root, dir, "resv_hugepages", &reserved);
	room->total = total + on_demand;
	room->free = free_pages > reserved ? free_pages - reserved : 0;
}
