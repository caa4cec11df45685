/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* A directory of a test program's own, made on first use and removed with all it holds at exit. Needs _GNU_SOURCE. */
#ifndef ACCEL_TESTS_SCRATCH_H
#define ACCEL_TESTS_SCRATCH_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_dir[PATH_MAX / 2];
static pid_t scratch_owner; /* a child that exits must not remove it */

struct scratch_path {
	struct scratch_path *next;
	char text[PATH_MAX];
};

static struct scratch_path *scratch_paths;

static int scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void scratch_remove(void)
{
	if (getpid() == scratch_owner)
		nftw(scratch_dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	while (scratch_paths) {
		struct scratch_path *next = scratch_paths->next;

		free(scratch_paths);
		scratch_paths = next;
	}
}

/* The path of a name in it, valid until exit. */
static inline const char *scratch(const char *name)
{
	struct scratch_path *path = malloc(sizeof(*path));
	const char *tmp = getenv("TMPDIR");

	if (!path)
		abort();
	if (!scratch_dir[0]) {
		snprintf(scratch_dir, sizeof(scratch_dir), "%s/accel-test-XXXXXX",
			 tmp ? tmp : "/tmp");
		if (!mkdtemp(scratch_dir)) {
			perror(scratch_dir);
			exit(1);
		}
		scratch_owner = getpid();
		atexit(scratch_remove);
	}
	path->next = scratch_paths;
	scratch_paths = path;
	snprintf(path->text, sizeof(path->text), "%s/%s", scratch_dir, name);
	return path->text;
}

static inline const char *scratch_write(const char *name, const void *data, size_t size)
{
	const char *path = scratch(name);
	FILE *file = fopen(path, "we");

	if (!file || fwrite(data, 1, size, file) != size || fclose(file)) {
		perror(path);
		exit(1);
	}
	return path;
}

static inline const char *scratch_mkdir(const char *name)
{
	const char *path = scratch(name);

	if (mkdir(path, 0700)) {
		perror(path);
		exit(1);
	}
	return path;
}

static inline char *scratch_read(const char *path, size_t *size)
{
	FILE *file = fopen(path, "re");
	struct stat st;
	char *text;

	if (!file || fstat(fileno(file), &st)) {
		perror(path);
		exit(1);
	}
	text = calloc(1, (size_t)st.st_size + 1);
	*size = text ? fread(text, 1, (size_t)st.st_size, file) : 0;
	fclose(file);
	return text;
}

#endif
