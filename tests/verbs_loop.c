// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The stand-ins lie in tests/verbs of the build that the running program, tests/DIR/NAME.t, is of. */
#define _GNU_SOURCE
#include "verbs_loop.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char loop_path[PATH_MAX], record_path[PATH_MAX];
static const struct loop_control *control;

static void path_make(char *path, const char *name)
{
	char exe[PATH_MAX / 2];
	const ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[len > 0 ? len : 0] = '\0';
	for (int i = 0; i < 2 && strrchr(exe, '/'); i++)
		*strrchr(exe, '/') = '\0';
	snprintf(path, PATH_MAX, "%s/verbs/libaccel-verbs-%s.so", exe, name);
	if (access(path, R_OK)) {
		perror(path);
		exit(1);
	}
}

static void find(void)
{
	void *library;

	path_make(loop_path, "loop");
	path_make(record_path, "record");
	library = dlopen(loop_path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	control = library ? dlsym(library, "loop_control") : NULL;
	if (!control) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
}

const char *verbs_loop_path(void)
{
	pthread_once(&once, find);
	return loop_path;
}

const char *verbs_record_path(void)
{
	pthread_once(&once, find);
	return record_path;
}

const struct loop_control *verbs_loop(void)
{
	pthread_once(&once, find);
	return control;
}
