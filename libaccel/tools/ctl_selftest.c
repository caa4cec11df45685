// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accelctl selftest: one buffer's life, each step checked and timed: made, zero, written, exported,
 * imported and compared by a second process, which cannot write it, and one that is beyond the quota
 * refused.
 */
#define _GNU_SOURCE
#include "ctl.h"

#include <accel/accel.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX 16

struct step {
	const char *name;
	int64_t ns;	 /* -1: not timed */
	uint64_t bytes;	 /* moved in that time; 0: none */
	const char *why; /* NULL: passed */
	bool skipped;
};

struct selftest {
	const char *device;
	uint64_t bytes;
	struct accel_device *dev;
	struct accel_buffer *buf;
	struct accel_buffer_info info;
	int fd;
	uint64_t offset;
	struct step step[STEPS_MAX];
	unsigned steps;
	char why[512];
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Depends on the place, so that a page that lies elsewhere is seen. */
static uint64_t word_of(uint64_t index)
{
	return (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static bool done(struct selftest *t, const char *name, int64_t begun_ns, uint64_t bytes,
		 const char *why)
{
	t->step[t->steps++] = (struct step){.name = name,
					    .ns = begun_ns ? now_ns() - begun_ns : -1,
					    .bytes = bytes,
					    .why = why};
	return !why;
}

static const char *library_says(struct selftest *t, const void *obj)
{
	struct accel_error error = {.size = sizeof(error)};

	accel_error_get(obj, &error);
	snprintf(t->why, sizeof(t->why), "%s", error.text);
	return t->why;
}

static bool create(struct selftest *t)
{
	int64_t begun_ns = now_ns();
	int rc = accel_buffer_create(t->dev, t->bytes, NULL, &t->buf);

	t->info.size = sizeof(t->info);
	if (!rc)
		rc = accel_buffer_info_get(t->buf, &t->info);
	return done(t, "create", begun_ns, t->bytes, rc ? library_says(t, NULL) : NULL);
}

static bool is_zero(struct selftest *t)
{
	const uint64_t *words = t->info.addr;
	int64_t begun_ns = now_ns();
	uint64_t any = 0;

	for (uint64_t i = 0; i < t->info.size_bytes / sizeof(*words); i++)
		any |= words[i];
	return done(t, "zeroed", begun_ns, t->bytes, any ? "memory of somebody's is in it" : NULL);
}

static bool write_all(struct selftest *t)
{
	uint64_t *words = t->info.addr;
	int64_t begun_ns = now_ns();

	for (uint64_t i = 0; i < t->info.size_bytes / sizeof(*words); i++)
		words[i] = word_of(i);
	return done(t, "write", begun_ns, t->bytes, NULL);
}

static bool export(struct selftest *t)
{
	int64_t begun_ns = now_ns();
	int rc = accel_buffer_export_fd(t->buf, &t->fd, &t->offset);

	return done(t, "export", begun_ns, 0, rc ? library_says(t, t->buf) : NULL);
}

/* What the second process found: its exit status. */
enum found { FOUND_ALL, FOUND_NO_DEVICE, FOUND_NO_IMPORT, FOUND_OTHER_BYTES, FOUND_WRITABLE };

static const char *const found_texts[] = {
	[FOUND_NO_DEVICE] = "a second process could not open the device",
	[FOUND_NO_IMPORT] = "a second process could not import the buffer",
	[FOUND_OTHER_BYTES] = "a second process read other bytes than were written",
	[FOUND_WRITABLE] = "a second process could make its mapping writable",
};

static enum found read_elsewhere(const struct selftest *t)
{
	uint64_t bytes = t->info.size_bytes;
	struct accel_device *dev;
	struct accel_buffer *buf;
	const uint64_t *words;

	if (accel_device_open(t->device, &dev))
		return FOUND_NO_DEVICE;
	if (accel_buffer_import_fd(dev, t->fd, t->offset, bytes, &buf))
		return FOUND_NO_IMPORT;
	words = accel_buffer_addr(buf);
	for (uint64_t i = 0; i < bytes / sizeof(*words); i++)
		if (words[i] != word_of(i))
			return FOUND_OTHER_BYTES;
	if (!mprotect(accel_buffer_addr(buf), bytes, PROT_READ | PROT_WRITE))
		return FOUND_WRITABLE;
	return FOUND_ALL;
}

static bool compare(struct selftest *t)
{
	int64_t begun_ns = now_ns();
	const char *why = NULL;
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(read_elsewhere(t));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		why = strerror(errno);
	else if (!WIFEXITED(status))
		why = "the second process died";
	else if (WEXITSTATUS(status))
		why = found_texts[WEXITSTATUS(status)];
	return done(t, "import and compare in a second process", begun_ns, t->bytes, why);
}

static bool quota(struct selftest *t)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_buffer *buf;
	int rc = accel_device_info_get(t->dev, &info);

	if (rc)
		return done(t, "quota", 0, 0, library_says(t, t->dev));
	if (!info.buffer_bytes_max) {
		done(t, "quota", 0, 0, NULL);
		t->step[t->steps - 1].skipped = true;
		return true;
	}
	rc = accel_buffer_create(t->dev, info.buffer_bytes_max + info.page_bytes, NULL, &buf);
	if (!rc)
		accel_buffer_destroy(buf);
	return done(t, "quota", 0, 0,
		    !rc		    ? "a buffer beyond it was made"
		    : rc != -ENOSPC ? library_says(t, NULL)
				    : NULL);
}

static json_t *step_json(const struct step *step)
{
	json_t *json = json_pack("{s:s, s:s}", "name", step->name, "result",
				 step->why	 ? "failed"
				 : step->skipped ? "skipped"
						 : "passed");

	if (step->why)
		json_object_set_new(json, "why", json_string(step->why));
	if (step->ns >= 0)
		json_object_set_new(json, "time_ns", json_integer(step->ns));
	if (step->bytes && step->ns > 0)
		json_object_set_new(json, "bytes_per_s",
				    json_real((double)step->bytes * 1e9 / (double)step->ns));
	return json;
}

static void step_print(const struct step *step)
{
	printf("%-7s %-40s", step->why ? "FAILED" : step->skipped ? "skipped" : "ok", step->name);
	if (step->why)
		printf(" %s", step->why);
	else if (step->skipped)
		printf(" this device has none");
	else if (step->ns >= 0)
		printf(" %10.3f ms", (double)step->ns / 1e6);
	if (!step->why && step->bytes && step->ns > 0)
		printf(" %8.2f GiB/s", (double)step->bytes / (double)step->ns * 1e9 / (1u << 30));
	printf("\n");
}

static void report(const struct selftest *t, bool json, bool passed)
{
	json_t *steps = json_array();
	char size[CTL_TEXT_BYTES], page[CTL_TEXT_BYTES];

	if (!json) {
		printf("%s, a buffer of %s in pages of %s\n", t->device, ctl_bytes(size, t->bytes),
		       ctl_bytes(page, t->info.page_bytes));
		for (unsigned i = 0; i < t->steps; i++)
			step_print(&t->step[i]);
		printf("%s\n", passed ? "PASS" : "FAIL");
	}
	for (unsigned i = 0; i < t->steps; i++)
		json_array_append_new(steps, step_json(&t->step[i]));
	if (json)
		ctl_json_print(json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:o}", "schema",
					 "accelctl-selftest/1", "version", accel_version(),
					 "device", t->device, "buffer_bytes", (json_int_t)t->bytes,
					 "page_bytes", (json_int_t)t->info.page_bytes, "passed",
					 passed, "steps", steps),
			       false);
	else
		json_decref(steps);
}

int ctl_selftest(const struct ctl_opts *opts)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct selftest t = {.bytes = opts->bytes, .fd = -1};
	int64_t begun_ns;
	bool passed;

	if (accel_device_open(opts->device ? opts->device : "accel", &t.dev))
		return ctl_refused();
	accel_device_info_get(t.dev, &info);
	t.device = *info.name ? info.name : opts->device;
	passed = create(&t) && is_zero(&t) && write_all(&t) && export(&t) && compare(&t) &&
		 quota(&t);
	if (t.fd >= 0)
		close(t.fd);
	begun_ns = now_ns();
	accel_buffer_destroy(t.buf);
	if (t.buf)
		done(&t, "destroy", begun_ns, 0, NULL);
	accel_device_close(t.dev);
	report(&t, opts->json, passed);
	return passed ? CTL_PASS : CTL_FAIL;
}
