// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The command line of accel-moe run: defaults, every option, and what is refused. */
#define _GNU_SOURCE 1
#include "runtime/run_opts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tap.h"

enum { WORDS_MAX = 32 };

static struct moe_error err;

/* Parses "run" and the words of a line. The options point into it. */
static int parse(struct moe_run_opts *opts, const char *line)
{
	static char copy[1024];
	static char *argv[WORDS_MAX + 1];
	char *save = NULL;
	int argc = 0;

	snprintf(copy, sizeof(copy), "run %s", line);
	for (char *word = strtok_r(copy, " ", &save); word && argc < WORDS_MAX;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	return moe_run_opts_parse(opts, argc, argv, &err);
}

static void no_launcher(void)
{
	unsetenv("RANK");
	unsetenv("WORLD_SIZE");
	unsetenv("PMIX_RANK");
	unsetenv("PMIX_NAMESPACE");
	unsetenv("PMI_RANK");
}

TEST(run_opts, defaults)
{
	struct moe_run_opts o;

	no_launcher();
	REQUIRE_EQ(parse(&o, ""), 0);
	CHECK_EQ(o.ranks, 4);
	CHECK_EQ(o.layer_count, 1);
	CHECK_EQ(o.layers[0], 3);
	CHECK_EQ(o.tokens_count, 1);
	CHECK_EQ(o.tokens[0], 8);
	CHECK_EQ(o.seed, 1);
	CHECK_EQ(o.warmup, 1);
	CHECK_EQ(o.timeout_ns, 30000000000);
	CHECK_EQ(o.residual, MOE_RESIDUAL_RMSNORM);
	CHECK_EQ(o.config.hidden, 7168);
	CHECK_EQ(o.config.experts, 256);
	CHECK(o.fp8 && !o.landed && !o.check && !o.scores);
	CHECK(!o.weights && !o.input && !o.output && !o.save_input && !o.json);
	CHECK(!o.trace && !o.record && !o.skewed && !o.eplb && !o.eplb_from);
	CHECK(!o.transports && !o.devices);
	CHECK_EQ(o.redundant, 0);
	CHECK_EQ(o.eplb_nodes, 1);
}

TEST(run_opts, every_option)
{
	struct moe_run_opts o;

	no_launcher();
	REQUIRE_EQ(parse(&o,
			 "--layers 3,5-6 --tokens 1,0 --ranks 2 --weights synthetic --seed 9 "
			 "--dtype bf16 --receive landed --residual none --save-input a --output b "
			 "--json c --threads 5 --check --scores"),
		   0);
	CHECK_EQ(o.layer_count, 3);
	CHECK_EQ(o.layers[2], 6);
	CHECK_EQ(o.tokens_count, 2);
	CHECK_EQ(o.tokens[1], 0);
	CHECK_EQ(o.seed, 9);
	CHECK_EQ(o.threads, 5);
	CHECK_EQ(o.residual, MOE_RESIDUAL_NONE);
	CHECK(!o.fp8 && o.landed && o.check && o.scores && !o.weights);
	CHECK(!strcmp(o.save_input, "a") && !strcmp(o.output, "b") && !strcmp(o.json, "c"));

	REQUIRE_EQ(parse(&o, "--hidden 320 --intermediate 64 --experts 12 --topk 2 --groups 3 "
			     "--topk-groups 2 --shared-experts 0 --scale 1.5 --warmup 0 "
			     "--timeout-ms 7 --input in"),
		   0);
	CHECK_EQ(o.config.hidden, 320);
	CHECK_EQ(o.config.groups_kept, 2);
	CHECK_EQ(o.config.shared_experts, 0);
	CHECK(o.config.scale == 1.5f);
	CHECK_EQ(o.warmup, 0);
	CHECK_EQ(o.timeout_ns, 7000000);
	CHECK(!strcmp(o.input, "in"));

	REQUIRE_EQ(parse(&o, "--trace t --trace-layers 0-4 --placement eplb --redundant 32 "
			     "--eplb-from f --eplb-nodes 4 --warmup 0"),
		   0);
	CHECK(!strcmp(o.trace, "t") && !strcmp(o.eplb_from, "f") && o.eplb);
	CHECK_EQ(o.trace_layer_count, 5);
	CHECK_EQ(o.redundant, 32);
	CHECK_EQ(o.eplb_nodes, 4);
	REQUIRE_EQ(parse(&o, "--skew 0 --placement contiguous"), 0);
	CHECK(o.skewed && o.skew == 0 && !o.eplb);
	REQUIRE_EQ(parse(&o, "--transport verbs,shm --devices rxe1,rxe2:2 --exchange accel,put"),
		   0);
	CHECK(!strcmp(o.transports, "verbs,shm") && !strcmp(o.devices, "rxe1,rxe2:2"));
}

TEST(run_opts, refuses_and_says_why)
{
	static const struct {
		const char *line, *words;
	} wrong[] = {
		{"--ranks 0", "--ranks"},
		{"--ranks 65", "64"},
		{"--ranks -1", "-1"},
		{"--ranks 2x", "2x"},
		{"--ranks", "--ranks"},
		{"--unknown", "--unknown"},
		{"word", "word"},
		{"--tokens ,", "--tokens"},
		{"--tokens 1,2,3", "3 numbers for 4 ranks"},
		{"--tokens 1048577", "1048577"},
		{"--layers 5,4", "5"},
		{"--layers x", "x"},
		{"--dtype fp4", "fp4"},
		{"--receive there", "there"},
		{"--residual some", "some"},
		{"--timeout-ms 0", "--timeout-ms"},
		{"--seed 18446744073709551616", "18446744073709551616"},
		{"--hidden 7", "hidden"},
		{"--topk 300", "topk"},
		{"--scale x", "x"},
		{"--input a --save-input b", "--save-input"},
		{"--transport verbs --exchange accel,alltoallv", "alltoallv goes through shared"},
		{"--trace a --skew 1", "choose"},
		{"--trace-layers 4,3", "--trace-layers"},
		{"--skew 10.5", "10.5"},
		{"--skew nan", "nan"},
		{"--placement some", "some"},
		{"--redundant 1", "--placement eplb"},
		{"--eplb-from a", "--placement eplb"},
		{"--placement eplb --warmup 0", "--eplb-from"},
		{"--placement eplb --redundant 3841", "4096 slots"},
		{"--placement eplb --eplb-nodes 0", "--eplb-nodes"},
	};
	struct moe_run_opts o;

	no_launcher();
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		memset(&err, 0, sizeof(err));
		if (!CHECK_EQ(parse(&o, wrong[i].line), -EINVAL) ||
		    !CHECK(strstr(err.text, wrong[i].words)))
			tap_diag("%s: %s", wrong[i].line, err.text);
	}
}

TEST(run_opts, a_launcher_decides_unless_ranks_are_given)
{
	struct moe_run_opts o;

	setenv("RANK", "1", 1);
	setenv("WORLD_SIZE", "2", 1);
	CHECK_EQ(parse(&o, "--tokens 1,2"), 0);
	CHECK_EQ(o.ranks, 0);
	CHECK_EQ(parse(&o, "--ranks 3"), 0);
	CHECK_EQ(o.ranks, 3);
	no_launcher();
	setenv("PMIX_RANK", "1", 1);
	CHECK_EQ(parse(&o, ""), 0);
	CHECK_EQ(o.ranks, 4);
	setenv("PMIX_NAMESPACE", "job", 1);
	CHECK_EQ(parse(&o, ""), 0);
	CHECK_EQ(o.ranks, 0);
	no_launcher();
	setenv("PMI_RANK", "1", 1);
	CHECK_EQ(parse(&o, ""), 0);
	CHECK_EQ(o.ranks, 0);
	no_launcher();
}

TEST(run_opts, a_checkpoint_brings_its_geometry)
{
	struct moe_run_opts o;

	no_launcher();
	CHECK_EQ(parse(&o, "--weights tests/golden/moe/tiny --layers 1"), 0);
	CHECK_EQ(o.config.hidden, 256);
	CHECK_EQ(parse(&o, "--weights tests/golden/moe/tiny --layers 0"), -EINVAL);
	CHECK(strstr(err.text, "layer 0"));
	CHECK_EQ(parse(&o, "--weights tests/golden/nowhere"), -ENOENT);
	CHECK(strstr(err.text, "nowhere"));
}
