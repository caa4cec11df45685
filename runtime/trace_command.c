// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accel-moe trace: which of its two commands, and recording. */
#include "trace_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "run_state.h"
#include "trace_stat.h"

static const char help[] =
	"usage: accel-moe trace record OUT [options of accel-moe run]\n"
	"       accel-moe trace stat FILE [options]\n"
	"\n"
	"record  Run the layers and write the routing to OUT, as JSON lines that --trace reads. With --skew\n"
	"        the routing does not depend on tokens or weights: it is only drawn.\n"
	"stat    Say of each layer of a trace how many tokens it has, how hot the hottest expert is, how\n"
	"        even the ranks are, and how many experts have how much load.\n"
	"\n"
	"Of the options of run, stat takes\n"
	"  --ranks N --placement contiguous|eplb --redundant N --eplb-nodes N   whose balance is told\n"
	"  --trace-layers LIST --experts N --topk N --groups N --weights DIR    what a dump does not say\n"
	"  --json FILE            the same as JSON (- is standard output, instead of the table)\n"
	"\n"
	"Exits with 0 done, 1 a check failed, 2 the command line or the file is wrong, 3 something is missing,\n"
	"4 a peer failed.\n";

/* The routing alone, by one process for all ranks. */
static int draw(const struct moe_run_opts *opts, struct moe_error *err)
{
	struct moe_run run = {.opts = opts, .world = (int)opts->ranks};
	int rc;

	if (!opts->ranks)
		return moe_error_set(err, -EINVAL,
				     "drawing takes one process, not a launcher's: give --ranks");
	rc = moe_run_take_input(&run, err);
	if (!rc)
		rc = moe_run_record(&run, opts->record, err);
	if (!rc)
		fprintf(stderr, "%s: %u tokens of %u layers, drawn\n", opts->record, run.tokens_all,
			opts->layer_count);
	moe_input_fini(&run.input);
	free(run.hidden);
	return rc;
}

static int fail(const char *command, const struct moe_error *err)
{
	fprintf(stderr, "accel-moe trace %s: %s\n", command, err->text);
	return err->code == -EINVAL ? MOE_EXIT_USAGE : MOE_EXIT_MISSING;
}

/* The options after the file, which stands where the parser has the command's name. */
static int parse(struct moe_run_opts *opts, int argc, char **argv, struct moe_error *err)
{
	int rc = moe_run_opts_parse(opts, argc - 2, argv + 2, err);

	opts->argc = argc;
	opts->argv = argv;
	return rc;
}

static int record(int argc, char **argv)
{
	struct moe_run_opts opts;
	struct moe_error err = {0};
	int rc = parse(&opts, argc, argv, &err);

	opts.record = argv[2];
	if (rc > 0)
		return MOE_EXIT_PASS;
	if (!rc && !opts.skewed)
		return moe_run(&opts);
	if (!rc)
		rc = draw(&opts, &err);
	return rc ? fail("record", &err) : MOE_EXIT_PASS;
}

static int stat(int argc, char **argv)
{
	struct moe_run_opts opts;
	struct moe_error err = {0};
	int rc = parse(&opts, argc, argv, &err);

	if (rc > 0)
		return MOE_EXIT_PASS;
	if (!rc)
		rc = moe_trace_stat(&opts, argv[2], &err);
	return rc ? fail("stat", &err) : MOE_EXIT_PASS;
}

int moe_trace_main(int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return MOE_EXIT_PASS;
	}
	if (argc > 2 && *argv[2] != '-' && !strcmp(argv[1], "record"))
		return record(argc, argv);
	if (argc > 2 && *argv[2] != '-' && !strcmp(argv[1], "stat"))
		return stat(argc, argv);
	if (argc > 2 && !strcmp(argv[2], "--help")) {
		fputs(help, stdout);
		return MOE_EXIT_PASS;
	}
	fputs(help, stderr);
	return MOE_EXIT_USAGE;
}
