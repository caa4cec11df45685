// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel-perf: how fast the exchange and the experts are on this machine. One subcommand a
 * measurement.
 */
#include "perf_diff.h"
#include "perf_ep.h"
#include "perf_ffn_command.h"
#include "perf_ranks.h"

#include <accel/accel.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *what;
	int (*main)(int argc, char **argv);
} commands[] = {
	{"ep", "dispatch, combine and echo between ranks of this host, beside their floors",
	 perf_ep_main},
	{"ffn", "one expert's FFN with FP8 weights, beside OpenBLAS and oneDNN", perf_ffn_command},
	{"diff", "two documents of these, result by result", perf_diff_main},
};

static void print_usage(FILE *to)
{
	fprintf(to, "usage: accel-perf COMMAND [options]\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(to, "  %-4s %s\n", commands[i].name, commands[i].what);
	fprintf(to, "\naccel-perf COMMAND --help lists its options; those that measure take\n"
		    "--json FILE besides.\n"
		    "accel-perf --version says which build this is.\n"
		    "Exit: 0 pass, 1 a bar was missed or a result is wrong, 2 usage,\n"
		    "3 something is missing.\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
		print_usage(stdout);
		return PERF_PASS;
	}
	if (!strcmp(name, "--version")) {
		printf("accel-perf %s\n", accel_version());
		return PERF_PASS;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(name, commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	if (*name)
		fprintf(stderr, "accel-perf: %s: no such command\n\n", name);
	print_usage(stderr);
	return PERF_USAGE;
}
