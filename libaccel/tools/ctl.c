// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accelctl: which devices there are, what they are, whether they work, and who uses them. */
#include "ctl.h"

#include <accel/accel.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_DEFAULT (UINT64_C(64) << 20)

/* Which options a subcommand takes, besides --json and --help. */
enum { TAKES_DEVICE = 1, TAKES_BYTES = 2, TAKES_REFRESH = 4, TAKES_TEST = 8 };

static const struct command {
	const char *name, *arguments, *what;
	unsigned takes;
	int (*run)(const struct ctl_opts *opts);
} commands[] = {
	{"list", "", "the devices of this machine, and how to get one", 0, ctl_list},
	{"info", "[DEVICE]", "what a device is (the first accelN, else host)", TAKES_DEVICE,
	 ctl_info},
	{"selftest", "[DEVICE]", "make, share, compare and free a buffer (of the first accelN)",
	 TAKES_DEVICE | TAKES_BYTES, ctl_selftest},
	{"top", "", "memory by device and by process, again and again", TAKES_REFRESH, ctl_top},
	{"net", "[DEVICE]", "the RDMA ports; with --test, a link between two hosts",
	 TAKES_DEVICE | TAKES_TEST, ctl_net},
};

static void usage_print(FILE *to)
{
	fprintf(to, "usage: accelctl COMMAND [options] [DEVICE]\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(to, "  %-8s %-9s %s\n", commands[i].name, commands[i].arguments,
			commands[i].what);
	fprintf(to,
		"\n"
		"  --json           one JSON document\n"
		"  --bytes N        selftest: of the buffer (67108864)\n"
		"  --once           top: print once and end\n"
		"  --interval S     top: seconds between two looks (1)\n"
		"  --test           net: test the link to a second host, where the same runs\n"
		"  --rank N         net: 0 on the one, 1 on the other (RANK)\n"
		"  --peer ADDRESS   net: of the host with rank 0 (MASTER_ADDR)\n"
		"  --port N         net: where rank 0 listens (MASTER_PORT, 29400)\n"
		"  --help           this text\n"
		"  --version        which build this is\n"
		"\n"
		"DEVICE is host or accelN; of net --test, whose memory the rows are in (host). Exit: 0 pass, "
		"1 a\ncheck failed, 2 usage, 3 no such device, or no right to it.\n");
}

static int refuse(const char *what, const char *why)
{
	fprintf(stderr, "accelctl: %s: %s; see accelctl --help\n", what, why);
	return CTL_USAGE;
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

static bool number_parse(const char *text, double max, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return *text >= '0' && *text <= '9' && !*end && *value > 0 && *value <= max;
}

/* As option_apply(): those of net. */
static int test_option_apply(const struct command *command, int option, struct ctl_opts *opts)
{
	double value;

	if (!(command->takes & TAKES_TEST))
		return refuse("--test, --rank, --peer, --port", "this command has no such option");
	if (option == 't') {
		opts->test = true;
	} else if (option == 'p') {
		opts->peer = optarg;
	} else if (option == 'r') {
		if ((*optarg != '0' && *optarg != '1') || optarg[1])
			return refuse(optarg, "the rank is 0 or 1");
		opts->rank = *optarg - '0';
	} else {
		if (!number_parse(optarg, 65535, &value) || value < 1)
			return refuse(optarg, "not a port of 1 to 65535");
		opts->port = (uint32_t)value;
	}
	return -1;
}

/* -1: go on; else an exit status. */
static int option_apply(const struct command *command, int option, struct ctl_opts *opts)
{
	double value;

	switch (option) {
	case 'j':
		opts->json = true;
		return -1;
	case 'b':
		if (!(command->takes & TAKES_BYTES))
			return refuse("--bytes", "this command has no such option");
		if (!number_parse(optarg, 1ull << 50, &value))
			return refuse(optarg, "not a number of bytes");
		opts->bytes = (uint64_t)value;
		return -1;
	case 'o':
	case 'i':
		if (!(command->takes & TAKES_REFRESH))
			return refuse(option == 'o' ? "--once" : "--interval",
				      "this command has no such option");
		if (option == 'o') {
			opts->once = true;
			return -1;
		}
		if (!number_parse(optarg, 86400, &value) || value < 0.001)
			return refuse(optarg, "not a number of seconds from 0.001 to 86400");
		opts->interval_ms = (unsigned)(value * 1000);
		return -1;
	case 't':
	case 'r':
	case 'p':
	case 'P':
		return test_option_apply(command, option, opts);
	case 'h':
		usage_print(stdout);
		return CTL_PASS;
	}
	return refuse("option", "unknown, or without its value");
}

static int command_run(const struct command *command, int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", 0, NULL, 'j'},	    {"bytes", 1, NULL, 'b'}, {"once", 0, NULL, 'o'},
		{"interval", 1, NULL, 'i'}, {"test", 0, NULL, 't'},  {"rank", 1, NULL, 'r'},
		{"peer", 1, NULL, 'p'},	    {"port", 1, NULL, 'P'},  {"help", 0, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct ctl_opts opts = {.interval_ms = 1000, .bytes = BYTES_DEFAULT, .rank = -1};
	int option, rc = -1;

	opterr = 0;
	while (rc < 0 && (option = getopt_long(argc, argv, "h", longs, NULL)) >= 0)
		rc = option_apply(command, option, &opts);
	if (rc >= 0)
		return rc;
	if (optind < argc && command->takes & TAKES_DEVICE)
		opts.device = argv[optind++];
	if (optind < argc)
		return refuse(argv[optind], "one argument too many");
	if (!opts.test && command->takes & TAKES_TEST &&
	    (opts.device || opts.rank >= 0 || opts.peer || opts.port))
		return refuse(command->name, "this is for --test alone");
	return command->run(&opts);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	const struct command *command = command_find(name);

	if (command)
		return command_run(command, argc - 1, argv + 1);
	if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
		usage_print(stdout);
		return CTL_PASS;
	}
	if (!strcmp(name, "--version")) {
		printf("accelctl %s\n", accel_version());
		return CTL_PASS;
	}
	if (*name)
		fprintf(stderr, "accelctl: %s: no such command\n\n", name);
	usage_print(stderr);
	return CTL_USAGE;
}
