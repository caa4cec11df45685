// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accel-moe: the table of its commands. */
#include <accel/accel.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "run.h"
#include "synth.h"
#include "trace_command.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{"run", moe_run_main, "run MoE layers across ranks, checked"},
	{"trace", moe_trace_main, "record the routing of a run, or say how even one is"},
	{"synth", moe_synth_main, "write seeded weights as a checkpoint"},
};

enum { COMMANDS = sizeof(commands) / sizeof(*commands) };

static int usage(FILE *to, int status)
{
	fputs("usage: accel-moe COMMAND [options]\n\n", to);
	for (unsigned i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].help);
	fputs("\naccel-moe COMMAND --help tells more; accel-moe --version the version.\n", to);
	return status;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage(stderr, MOE_EXIT_USAGE);
	for (unsigned i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return usage(stdout, MOE_EXIT_PASS);
	if (!strcmp(argv[1], "--version")) {
		printf("accel-moe %s\n", accel_version());
		return MOE_EXIT_PASS;
	}
	fprintf(stderr, "accel-moe: no command \"%s\"\n", argv[1]);
	return usage(stderr, MOE_EXIT_USAGE);
}
