// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See launch_mpi.h. */
#define _GNU_SOURCE /* strsep */
#include "launch_mpi.h"

#include "libaccel/tools/mpi_settings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PATH_BYTES = 4096,
	SETTINGS_BYTES = 160,
	START_MAX = 8,				    /* words before the settings */
	WORDS_MAX = START_MAX + SETTINGS_BYTES / 2, /* of mpirun's own */
};

static const struct mpi {
	const char *name, *packages;
	const char *start[START_MAX]; /* the first is the program, found by PATH */
	const char *settings;
} mpis[] = {
	{"openmpi",
	 "openmpi-bin and libopenmpi-dev",
	 {MPI_SETTINGS_OPENMPI_START},
	 MPI_SETTINGS_OPENMPI_SHM},
	{"mpich", "mpich and libmpich-dev", {MPI_SETTINGS_MPICH_START}, MPI_SETTINGS_MPICH_SHM},
};

enum { MPIS = sizeof(mpis) / sizeof(*mpis) };

/* The program beside this one that is built with the MPI. */
static bool find_program(const struct mpi *mpi, char path[PATH_BYTES])
{
	char self[PATH_BYTES - 64], *slash;
	ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (bytes < 0)
		return false;
	self[bytes] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	snprintf(path, PATH_BYTES, "%s/accel-moe-%s", self, mpi->name);
	return !access(path, X_OK);
}

int moe_launch_mpi(const char *name, uint32_t ranks, int argc, char **argv, struct moe_error *err)
{
	char path[PATH_BYTES], settings[SETTINGS_BYTES], count[16];
	const char **words = calloc((size_t)argc + WORDS_MAX + 4, sizeof(*words));

	if (!words)
		return moe_error_set(err, -ENOMEM, "no memory for a command");
	if (!ranks) {
		free(words);
		return moe_error_set(
			err, -EINVAL,
			"--exchange: this is a rank that a launcher started, and no MPI's; "
			"give --ranks, or run accel-moe-openmpi under its mpirun");
	}
	snprintf(count, sizeof(count), "%u", ranks);
	for (unsigned i = 0; i < MPIS; i++) {
		unsigned n = 0;

		if ((name && strcmp(name, mpis[i].name)) || !find_program(&mpis[i], path))
			continue;
		for (unsigned w = 0; w < START_MAX && mpis[i].start[w]; w++)
			words[n++] = mpis[i].start[w];
		fprintf(stderr, "accel-moe run: starting ranks by %s %s\n", words[0],
			mpis[i].settings);
		snprintf(settings, sizeof(settings), "%s", mpis[i].settings);
		for (char *word, *rest = settings; (word = strsep(&rest, " "));)
			words[n++] = word;
		words[n++] = "-n";
		words[n++] = count;
		words[n++] = path;
		for (int a = 0; a < argc; a++)
			words[n++] = argv[a];
		words[n] = NULL;
		execvp(words[0], (char *const *)words);
	}
	free(words);
	for (unsigned i = 0; i < MPIS; i++)
		if (name && !strcmp(name, mpis[i].name))
			return moe_error_set(
				err, -ENOENT,
				"--exchange by %s needs %s, and accel-moe-%s beside this program, "
				"which make builds where they are (Debian: %s)",
				name, mpis[i].start[0], name, mpis[i].packages);
	return moe_error_set(
		err, -ENOENT,
		"--exchange needs an MPI, and accel-moe-openmpi or accel-moe-mpich beside this "
		"program, which make builds where it is (Debian: %s, or %s)",
		mpis[0].packages, mpis[1].packages);
}
