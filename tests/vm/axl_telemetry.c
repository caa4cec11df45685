// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What accel.ko shows of itself to monitoring and to people: the values in sysfs, the lists in
 * debugfs, the keys of fdinfo and the tracepoints, each compared with what this process did.
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define SMALL_BYTES (3 * PAGE)
#define LARGE_BYTES (4 * MIB + PAGE)
#define MEM_MAX_BYTES (48 * MIB)
#define USER_MAX_BYTES (32 * MIB)
#define NOBODY 65534u

/* The parents of the two devices: the module's own first, and one that is added with a node. */
#define OWNER "accel_soft.0"
#define IMPORTER "accel_soft.31"
#define IMPORTER_ID 31
#define IMPORTER_NEW "31 0"

/* Two buffers of the owner, and on the importer the dma-buf of the large one. */
struct scene {
	int owner, importer; /* files */
	uint32_t small, large, imported;
	int dmabuf;
};

static bool devices_open(struct scene *scene)
{
	scene->owner = node_open(0);
	if (!CHECK(scene->owner >= 0) ||
	    !CHECK_EQ(file_write("/sys/bus/axl_soft/new_device", IMPORTER_NEW), 0))
		return false;
	scene->importer = node_open(1);
	return CHECK(scene->importer >= 0);
}

static void devices_close(struct scene *scene)
{
	close(scene->importer);
	close(scene->owner);
	CHECK_EQ(device_del(IMPORTER_ID), 0);
}

static bool buffers_make(struct scene *scene)
{
	if (!CHECK_EQ(bo_create(scene->owner, SMALL_BYTES, AXL_BO_F_SMALL_PAGES, &scene->small),
		      0) ||
	    !CHECK_EQ(bo_create(scene->owner, LARGE_BYTES, 0, &scene->large), 0))
		return false;
	scene->dmabuf = bo_export(scene->owner, scene->large, DRM_RDWR | DRM_CLOEXEC);
	return CHECK(scene->dmabuf >= 0) &&
	       CHECK_EQ(bo_import(scene->importer, scene->dmabuf, &scene->imported), 0);
}

static void buffers_end(struct scene *scene)
{
	CHECK_EQ(bo_close(scene->importer, scene->imported), 0);
	close(scene->dmabuf);
	CHECK_EQ(bo_close(scene->owner, scene->large), 0);
	CHECK_EQ(bo_close(scene->owner, scene->small), 0);
}

/* All of a file, as far as there is room; "" if it cannot be read. */
static void file_text(const char *path, char *text, size_t room)
{
	FILE *file = fopen(path, "re");

	text[0] = '\0';
	if (!file)
		return;
	text[fread(text, 1, room - 1, file)] = '\0';
	fclose(file);
}

/* ---- sysfs ----------------------------------------------------------------------------------- */

/* One value and a newline. */
static void sysfs_is(const char *when, int file, const char *name, const char *want)
{
	char path[96], got[64];
	size_t bytes;

	snprintf(path, sizeof(path), "/sys/class/accel/accel%u/%s", node_number(file), name);
	file_text(path, got, sizeof(got));
	bytes = strcspn(got, "\n");
	tap_check(!strcmp(got + bytes, "\n") && !strncmp(got, want, bytes) && !want[bytes],
		  __FILE__, __LINE__, "%s: %s is '%.*s', not '%s'", when, path, (int)bytes, got,
		  want);
}

static void sysfs_number_is(const char *when, int file, const char *name, uint64_t want)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)want);
	sysfs_is(when, file, name, text);
}

/* What changes, of one device. */
struct counts {
	uint64_t mem_used_bytes, bos, import_bytes, imports, clients, exports;
};

static void counts_are(const char *when, int file, const struct counts *want)
{
	sysfs_number_is(when, file, "mem_used_bytes", want->mem_used_bytes);
	sysfs_number_is(when, file, "bo_count", want->bos);
	sysfs_number_is(when, file, "import_bytes", want->import_bytes);
	sysfs_number_is(when, file, "import_count", want->imports);
	sysfs_number_is(when, file, "client_count", want->clients);
	sysfs_number_is(when, file, "dmabuf_exports_count", want->exports);
}

static void constants_are(const char *when, int file, const char *numa_node)
{
	char version[32];

	snprintf(version, sizeof(version), "%d.%d", AXL_API_MAJOR, AXL_API_MINOR);
	sysfs_is(when, file, "provider", "soft");
	sysfs_is(when, file, "api_version", version);
	sysfs_is(when, file, "state", "running");
	sysfs_is(when, file, "numa_node", numa_node);
	sysfs_number_is(when, file, "mem_max_bytes", MEM_MAX_BYTES);
	sysfs_number_is(when, file, "user_max_bytes", USER_MAX_BYTES);
}

TEST(sysfs, values_follow_what_exists)
{
	const struct counts idle = {.clients = 1};
	const struct counts owner = {
		.mem_used_bytes = SMALL_BYTES + LARGE_BYTES, .bos = 2, .clients = 2, .exports = 1};
	const struct counts importer = {.import_bytes = LARGE_BYTES, .imports = 1, .clients = 1};
	const struct counts held = {
		.mem_used_bytes = LARGE_BYTES, .bos = 1, .clients = 1, .exports = 1};
	struct scene scene;
	char text[96];
	int other, copy;

	snprintf(text, sizeof(text), "soft=1 mem_bytes_max=%llu user_bytes_max=%llu", MEM_MAX_BYTES,
		 USER_MAX_BYTES);
	REQUIRE_EQ(module_load(text), 0);
	REQUIRE(devices_open(&scene));
	constants_are("before", scene.owner, "-1");
	constants_are("before", scene.importer, "0");
	counts_are("before", scene.owner, &idle);
	counts_are("before", scene.importer, &idle);

	REQUIRE(buffers_make(&scene));
	other = node_open(0);
	copy = dup(scene.owner); /* the same open file: no client more */
	counts_are("during", scene.owner, &owner);
	counts_are("during", scene.importer, &importer);
	constants_are("during", scene.owner, "-1");
	close(copy);
	close(other);

	CHECK_EQ(bo_close(scene.owner, scene.small), 0);
	CHECK_EQ(bo_close(scene.owner, scene.large), 0);
	counts_are("with the dma-buf alone", scene.owner, &held);
	CHECK_EQ(bo_close(scene.importer, scene.imported), 0);
	close(scene.dmabuf);
	counts_are("after", scene.owner, &idle);
	counts_are("after", scene.importer, &idle);
	snprintf(text, sizeof(text), "/sys/class/accel/accel%u/state", node_number(scene.importer));
	devices_close(&scene);
	CHECK(access(text, F_OK) != 0);
	CHECK_EQ(module_load("soft=1"), 0);
}

/* ---- debugfs --------------------------------------------------------------------------------- */

#define DEBUGFS "/sys/kernel/debug/accel/"

/* A line of axl_buffers, in its order. */
struct buffer_line {
	char bo[24], placement[16];
	unsigned long long bytes, pages, large_bytes;
	unsigned handles, refs;
	int exports;
};

/* The line of the one buffer of that size on the device of that name. */
static bool buffer_line(const char *device, uint64_t bytes, struct buffer_line *line)
{
	char path[96], text[160];
	unsigned lines = 0;
	FILE *file;

	snprintf(path, sizeof(path), DEBUGFS "%s/axl_buffers", device);
	file = fopen(path, "re");
	while (file && fgets(text, sizeof(text), file)) {
		struct buffer_line read;

		if (sscanf(text, "%23s %15s %llu %llu %llu %u %u %d", read.bo, read.placement,
			   &read.bytes, &read.pages, &read.large_bytes, &read.handles, &read.refs,
			   &read.exports) != 8 ||
		    read.bytes != bytes)
			continue;
		*line = read;
		lines++;
	}
	if (file)
		fclose(file);
	return tap_check(lines == 1, __FILE__, __LINE__, "%s has %u buffers of %llu bytes", path,
			 lines, (unsigned long long)bytes);
}

static void buffer_is(const char *device, const struct buffer_line *want)
{
	struct buffer_line got;

	if (!buffer_line(device, want->bytes, &got))
		return;
	CHECK(strlen(got.bo) == 16 && strspn(got.bo, "0123456789abcdef") == 16);
	CHECK(!strcmp(got.placement, want->placement));
	CHECK_EQ(got.pages, want->bytes / PAGE);
	CHECK_EQ(got.large_bytes, want->large_bytes);
	CHECK_EQ(got.handles, want->handles);
	CHECK_EQ(got.refs, want->refs);
	CHECK_EQ(got.exports, want->exports);
}

TEST(debugfs, buffers_are_listed_with_their_numbers)
{
	struct buffer_line small = {
		.placement = "sys", .bytes = SMALL_BYTES, .handles = 1, .refs = 1};
	struct buffer_line large = {
		.placement = "sys", .bytes = LARGE_BYTES, .handles = 1, .refs = 2, .exports = 1};
	struct buffer_line imported = {
		.placement = "import", .bytes = LARGE_BYTES, .handles = 1, .refs = 1};
	struct drm_axl_bo_info info;
	struct scene scene;
	uint32_t handle;
	int other;
	void *at;

	REQUIRE(devices_open(&scene) && buffers_make(&scene));
	CHECK_EQ(bo_info(scene.owner, scene.large, &info), 0);
	large.large_bytes = info.large_page_bytes;
	buffer_is(OWNER, &small);
	buffer_is(OWNER, &large);
	buffer_is(IMPORTER, &imported);

	/* A mapping and a dma-buf are a reference each; all handles together are one. */
	at = bo_map(scene.owner, scene.large, LARGE_BYTES);
	other = node_open(0);
	CHECK_EQ(bo_import(other, scene.dmabuf, &handle), 0);
	large.refs = 3;
	large.handles = 2;
	buffer_is(OWNER, &large);
	munmap(at, LARGE_BYTES);
	close(other);
	large.refs = 2;
	large.handles = 1;
	buffer_is(OWNER, &large);
	buffers_end(&scene);
	devices_close(&scene);
}

/* How many lines of axl_clients have this process and these numbers. */
static unsigned client_lines(const char *device, unsigned uid, unsigned buffers, uint64_t bytes)
{
	char path[96], text[160], name[32], comm[32];
	unsigned lines = 0, got_uid, got_buffers;
	unsigned long long got_bytes;
	FILE *file;
	int pid;

	file_text("/proc/self/comm", name, sizeof(name));
	name[strcspn(name, "\n")] = '\0';
	snprintf(path, sizeof(path), DEBUGFS "%s/axl_clients", device);
	file = fopen(path, "re");
	while (file && fgets(text, sizeof(text), file))
		lines += sscanf(text, "%d %31s %u %u %llu", &pid, comm, &got_uid, &got_buffers,
				&got_bytes) == 5 &&
			 pid == getpid() && !strcmp(comm, name) && got_uid == uid &&
			 got_buffers == buffers && got_bytes == bytes;
	if (file)
		fclose(file);
	return lines;
}

TEST(debugfs, clients_are_listed_with_their_numbers)
{
	struct scene scene;
	char path[64];
	int nobodys;

	REQUIRE(devices_open(&scene));
	CHECK_EQ(client_lines(OWNER, 0, 0, 0), 1);
	CHECK_EQ(client_lines(IMPORTER, 0, 0, 0), 1);
	REQUIRE(buffers_make(&scene));
	CHECK_EQ(client_lines(OWNER, 0, 2, SMALL_BYTES + LARGE_BYTES), 1);
	CHECK_EQ(client_lines(IMPORTER, 0, 1, LARGE_BYTES), 1);

	snprintf(path, sizeof(path), "/dev/accel/accel%u", node_number(scene.importer));
	CHECK_EQ(chmod(path, 0666), 0);
	CHECK_EQ(seteuid(NOBODY), 0);
	nobodys = open(path, O_RDWR | O_CLOEXEC);
	CHECK_EQ(seteuid(0), 0);
	CHECK(nobodys >= 0);
	CHECK_EQ(client_lines(IMPORTER, NOBODY, 0, 0), 1);
	close(nobodys);
	CHECK_EQ(client_lines(IMPORTER, NOBODY, 0, 0), 0);

	buffers_end(&scene);
	CHECK_EQ(client_lines(OWNER, 0, 0, 0), 1);
	devices_close(&scene);
}

TEST(debugfs, files_are_for_root_alone)
{
	static const char *const paths[] = {DEBUGFS OWNER "/axl_buffers",
					    DEBUGFS OWNER "/axl_clients"};
	int file = node_open(0);

	REQUIRE(file >= 0);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(access(paths[i], R_OK), 0);
		CHECK_EQ(seteuid(NOBODY), 0);
		CHECK(open(paths[i], O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
		CHECK_EQ(seteuid(0), 0);
	}
	close(file);
}

/* ---- fdinfo ---------------------------------------------------------------------------------- */

/* The bytes of a key of an open file, or -ENOENT. */
static int64_t fdinfo_bytes(int fd, const char *key)
{
	char path[64], text[4096], unit[8] = "";
	unsigned long long value;
	const char *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file_text(path, text, sizeof(text));
	at = strstr(text, key);
	if (!at || sscanf(at + strlen(key), ": %llu%*[ ]%7[^\n]", &value, unit) < 1)
		return -ENOENT;
	return (int64_t)(value << (!strcmp(unit, "MiB") ? 20 : !strcmp(unit, "KiB") ? 10 : 0));
}

static void fdinfo_memory_is(int fd, int64_t total, int64_t shared)
{
	CHECK_EQ(fdinfo_bytes(fd, "drm-total-memory"), total);
	CHECK_EQ(fdinfo_bytes(fd, "drm-shared-memory"), shared);
	CHECK_EQ(fdinfo_bytes(fd, "drm-resident-memory"), total);
}

static void fdinfo_import_is(int fd, int64_t total, int64_t shared)
{
	CHECK_EQ(fdinfo_bytes(fd, "drm-total-import"), total);
	CHECK_EQ(fdinfo_bytes(fd, "drm-shared-import"), shared);
}

TEST(fdinfo, keys_add_up_what_a_file_has_handles_of)
{
	struct scene scene;
	uint32_t handle;
	int other;

	REQUIRE(devices_open(&scene));
	fdinfo_memory_is(scene.owner, 0, 0);
	fdinfo_import_is(scene.owner, 0, 0);
	REQUIRE(buffers_make(&scene));
	fdinfo_memory_is(scene.owner, SMALL_BYTES + LARGE_BYTES, LARGE_BYTES);
	fdinfo_import_is(scene.owner, 0, 0);
	fdinfo_memory_is(scene.importer, 0, 0);
	fdinfo_import_is(scene.importer, LARGE_BYTES, LARGE_BYTES);

	/* Each file has its own sums. */
	other = node_open(0);
	fdinfo_memory_is(other, 0, 0);
	CHECK_EQ(bo_import(other, scene.dmabuf, &handle), 0);
	fdinfo_memory_is(other, LARGE_BYTES, LARGE_BYTES);
	fdinfo_memory_is(scene.owner, SMALL_BYTES + LARGE_BYTES, LARGE_BYTES);
	close(other);

	buffers_end(&scene);
	fdinfo_memory_is(scene.owner, 0, 0);
	fdinfo_import_is(scene.importer, 0, 0);
	devices_close(&scene);
}

/* ---- Tracepoints ----------------------------------------------------------------------------- */

/* An instance of tracefs is ours alone: who else traces is left in peace, and it all goes at once. */
#define TRACE "/sys/kernel/tracing/instances/axl_telemetry"

static const char *const events[] = {
	"axl_device_add",    "axl_device_remove", "axl_bo_create",	"axl_bo_free",
	"axl_bo_fault",	     "axl_dmabuf_export", "axl_dmabuf_release", "axl_dmabuf_attach",
	"axl_dmabuf_detach", "axl_dmabuf_map",	  "axl_dmabuf_unmap",
};

#define EVENTS (sizeof(events) / sizeof(events[0]))

static bool trace_begin(void)
{
	DIR *folder;
	unsigned count = 0;
	char path[128];

	if (!CHECK_EQ(mkdir(TRACE, 0700), 0))
		return false;
	for (unsigned i = 0; i < EVENTS; i++) {
		snprintf(path, sizeof(path), TRACE "/events/axl/%s/enable", events[i]);
		tap_check(!file_write(path, "1"), __FILE__, __LINE__, "%s cannot be traced",
			  events[i]);
	}
	/* One that is new has a line here, too. */
	folder = opendir(TRACE "/events/axl");
	for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder))
		count += !strncmp(entry->d_name, "axl_", 4);
	if (folder)
		closedir(folder);
	return CHECK_EQ(count, EVENTS);
}

/* Whether a line of the trace ends so: the name of an event, a colon and all that it carries. */
static void __attribute__((format(printf, 2, 3)))
trace_has(const char *trace, const char *format, ...)
{
	char line[256];
	va_list args;
	int bytes;

	va_start(args, format);
	bytes = vsnprintf(line + 1, sizeof(line) - 2, format, args);
	va_end(args);
	line[0] = ' ';
	snprintf(line + 1 + bytes, 2, "\n");
	tap_check(strstr(trace, line) != NULL, __FILE__, __LINE__, "the trace has no%.*s",
		  bytes + 1, line);
}

/* Each is found under the names that axl_buffers gave to the buffers while they lived. */
static void trace_is_right(const char *trace, int owner, int importer, const char *small,
			   const char *large, const char *imported)
{
	static const char *const of_importer[] = {"attach", "map", "unmap", "detach"};
	const unsigned long long large_bytes = LARGE_BYTES;

	for (unsigned i = 0; i < 2; i++)
		trace_has(trace, "axl_device_%s: accel=%d parent=%s provider=soft numa_node=0",
			  i ? "remove" : "add", importer, IMPORTER);
	for (unsigned i = 0; i < 2; i++) {
		const char *event = i ? "free" : "create";

		trace_has(trace, "axl_bo_%s: accel=%d bo=%s placement=sys size_bytes=%u", event,
			  owner, small, SMALL_BYTES);
		trace_has(trace, "axl_bo_%s: accel=%d bo=%s placement=sys size_bytes=%llu", event,
			  owner, large, large_bytes);
		trace_has(trace, "axl_bo_%s: accel=%d bo=%s placement=import size_bytes=%llu",
			  event, importer, imported, large_bytes);
		trace_has(trace, "axl_dmabuf_%s: accel=%d bo=%s size_bytes=%llu",
			  i ? "release" : "export", owner, large, large_bytes);
	}
	trace_has(trace, "axl_bo_fault: accel=%d bo=%s offset_bytes=%u folio_bytes=%u", owner,
		  small, PAGE, PAGE);
	for (unsigned i = 0; i < 4; i++)
		trace_has(trace, "axl_dmabuf_%s: accel=%d bo=%s importer=%s", of_importer[i], owner,
			  large, IMPORTER);
}

TEST(trace, has_each_event_with_its_device_buffer_and_size)
{
	static char trace[64 * 1024];
	struct buffer_line small, large, imported;
	struct scene scene;
	int owner, importer;
	volatile char *at;

	close(node_open(0)); /* the events come with the module */
	REQUIRE(trace_begin());
	REQUIRE(devices_open(&scene));
	owner = (int)node_number(scene.owner);
	importer = (int)node_number(scene.importer);
	REQUIRE(buffers_make(&scene));
	REQUIRE(buffer_line(OWNER, SMALL_BYTES, &small) &&
		buffer_line(OWNER, LARGE_BYTES, &large) &&
		buffer_line(IMPORTER, LARGE_BYTES, &imported));
	at = bo_map(scene.owner, scene.small, SMALL_BYTES);
	REQUIRE(at != NULL);
	at[PAGE] = 1;
	munmap((void *)at, SMALL_BYTES);
	buffers_end(&scene);
	devices_close(&scene);
	file_text(TRACE "/trace", trace, sizeof(trace));
	trace_is_right(trace, owner, importer, small.bo, large.bo, imported.bo);
	CHECK_EQ(rmdir(TRACE), 0);
}
