// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Reading the options of accel-moe run. The geometry comes from the checkpoint's config.json, else
 * from R1's with overrides.
 */
#define _GNU_SOURCE 1 /* asprintf */
#include "run_opts.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: accel-moe run [options]\n"
	"\n"
	"Run MoE layers of a DeepSeek-R1-class model across ranks: gate, dispatch, experts, combine.\n"
	"Without a launcher it spawns --ranks processes here; under one (RANK and WORLD_SIZE, or PMIx;\n"
	"no --ranks) it is that rank.\n"
	"\n"
	"  --layers LIST          as the checkpoint numbers them: 3,4 or 3-10 (default 3)\n"
	"  --tokens N[,N...]      of every rank, or of each rank in turn; 0 is a rank without tokens (default 8)\n"
	"  --ranks N              processes to spawn (default 4)\n"
	"  --weights DIR          a checkpoint with config.json and safetensors, or \"synthetic\" (default)\n"
	"  --seed N               of synthetic weights and tokens (default 1)\n"
	"  --dtype fp8|bf16       how rows travel and are used (default fp8)\n"
	"  --device NAME          whose memory has rows, results and windows: host, accelN (default host)\n"
	"  --receive in_place|landed   read rows where they lie, or copy each once (default in_place)\n"
	"  --residual rmsnorm|none     h' = h + MoE(RMSNorm(h)), or h' = MoE(h) (default rmsnorm)\n"
	"  --input FILE           safetensors with hidden_states [N,H], maybe topk_ids and topk_weights\n"
	"  --save-input FILE      write the tokens that were made up, for others to check\n"
	"  --output FILE          safetensors with hidden_states, moe_out, topk_ids, topk_weights and more\n"
	"  --trace FILE           routing from a trace instead of the gate: JSON lines, or SGLang's dump\n"
	"  --trace-layers LIST    the layers that a dump holds (default: by its size)\n"
	"  --skew X               draw the routing: 0 even, 1 as uneven as R1's layers, to 10\n"
	"  --placement contiguous|eplb   experts in order, or balanced over ranks (default contiguous)\n"
	"  --redundant N          with eplb: slots for replicas of the most loaded experts (default 0)\n"
	"  --eplb-from FILE       with eplb: balance by the counts of a trace (default: of the warm-up)\n"
	"  --eplb-nodes N         with eplb: keep groups of experts within N nodes (default 1)\n"
	"  --scores               put the gate's scores into the output too\n"
	"  --check                compare with one process, bit for bit, and a few tokens with the plain kernels\n"
	"  --json FILE            the report as JSON (- is standard output)\n"
	"  --threads N            of each rank (default: cores / ranks, at least 1)\n"
	"  --warmup N             runs of each layer before those that are timed (default 1)\n"
	"  --exchange LIST        who carries the rows: accel, alltoallv, put, window, none (default accel);\n"
	"                         of several, in turn, the layer's time with each is printed\n"
	"  --samples N            timed runs of each layer (default 1, with several exchanges 11)\n"
	"  --mpi openmpi|mpich    whose alltoallv, put and window (default: the first that is there)\n"
	"  --transport LIST       how ranks may reach each other, tried in order (default shm,verbs)\n"
	"  --devices LIST         RDMA devices that the ranks of a host have in turn (default: found)\n"
	"  --timeout-ms N         of every wait for a peer (default 30000)\n"
	"  --experts N --hidden N --intermediate N --topk N --groups N --topk-groups N --shared-experts N --scale X\n"
	"                         another geometry than R1's, for synthetic weights\n"
	"\n"
	"Exits with 0 pass, 1 a check failed, 2 the command line is wrong, 3 something is missing, 4 a peer failed.\n";

enum { SAMPLES_COMPARED = 11 }; /* of each exchange, where there are several */

/* Options that take one of a few words. */
struct words {
	const char *option, *first, *second;
};

static int parse_word(const struct words *words, const char *value, bool *is_second,
		      struct moe_error *err)
{
	if (strcmp(value, words->first) && strcmp(value, words->second))
		return moe_error_set(err, -EINVAL, "--%s is %s or %s, not \"%s\"", words->option,
				     words->first, words->second, value);
	*is_second = !strcmp(value, words->second);
	return 0;
}

static int parse_number(const char *option, const char *value, uint64_t max, uint64_t *number,
			struct moe_error *err)
{
	char *end;

	errno = 0;
	*number = strtoull(value, &end, 0);
	if (errno || *end || *value < '0' || *value > '9' || *number > max)
		return moe_error_set(err, -EINVAL, "--%s: \"%s\" is no whole number from 0 to %llu",
				     option, value, (unsigned long long)max);
	return 0;
}

static int parse_u32(const char *option, const char *value, uint32_t max, uint32_t *number,
		     struct moe_error *err)
{
	uint64_t wide;
	int rc = parse_number(option, value, max, &wide, err);

	if (!rc)
		*number = (uint32_t)wide;
	return rc;
}

static int parse_tokens(struct moe_run_opts *opts, const char *value, struct moe_error *err)
{
	char copy[1024], *save = NULL;

	if (strlen(value) >= sizeof(copy))
		return moe_error_set(err, -EINVAL, "--tokens: too long");
	memcpy(copy, value, strlen(value) + 1);
	opts->tokens_count = 0;
	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		int rc;

		if (opts->tokens_count == MOE_RANKS_MAX)
			return moe_error_set(err, -EINVAL, "--tokens: more than %d numbers",
					     MOE_RANKS_MAX);
		rc = parse_u32("tokens", word, 1u << 20, &opts->tokens[opts->tokens_count++], err);
		if (rc)
			return rc;
	}
	return opts->tokens_count ? 0 : moe_error_set(err, -EINVAL, "--tokens: no number");
}

static int parse_layers(struct moe_run_opts *opts, const char *value, struct moe_error *err)
{
	int count = moe_layers_parse(value, opts->layers, err);

	if (count < 0)
		return count;
	opts->layer_count = (uint32_t)count;
	return 0;
}

static int parse_exchange(struct moe_run_opts *opts, const char *word, struct moe_error *err)
{
	for (int kind = 0; kind < MOE_EXCHANGES; kind++) {
		if (strcmp(word, moe_exchange_name((enum moe_exchange_kind)kind)))
			continue;
		for (uint32_t i = 0; i < opts->exchange_count; i++)
			if ((int)opts->exchanges[i] == kind)
				return moe_error_set(err, -EINVAL, "--exchange: %s twice", word);
		opts->exchanges[opts->exchange_count++] = (enum moe_exchange_kind)kind;
		return 0;
	}
	return moe_error_set(err, -EINVAL,
			     "--exchange: \"%s\" is none of accel, alltoallv, put, window, none",
			     word);
}

static int parse_exchanges(struct moe_run_opts *opts, const char *value, struct moe_error *err)
{
	char copy[128], *save = NULL;
	int rc = 0;

	snprintf(copy, sizeof(copy), "%s", value);
	opts->exchange_count = 0;
	for (char *word = strtok_r(copy, ",", &save); word && !rc;
	     word = strtok_r(NULL, ",", &save))
		rc = parse_exchange(opts, word, err);
	if (!rc && !opts->exchange_count)
		rc = moe_error_set(err, -EINVAL, "--exchange: no name");
	return rc;
}

static int parse_mpi(struct moe_run_opts *opts, const char *value, struct moe_error *err)
{
	bool second;

	opts->mpi_name = value;
	return parse_word(&(struct words){"mpi", "openmpi", "mpich"}, value, &second, err);
}

static int parse_trace_layers(struct moe_run_opts *opts, const char *value, struct moe_error *err)
{
	int count = moe_layers_parse(value, opts->trace_layers, NULL);

	if (count < 0)
		return moe_error_set(err, -EINVAL,
				     "--trace-layers: \"%s\" is not an ascending list such as 3-60",
				     value);
	opts->trace_layer_count = (uint32_t)count;
	return 0;
}

static int parse_skew(struct moe_run_opts *opts, const char *value, struct moe_error *err)
{
	char *end;

	opts->skewed = true;
	opts->skew = strtod(value, &end);
	if (*value < '0' || *value > '9' || *end || !(opts->skew <= K_SKEW_MAX))
		return moe_error_set(err, -EINVAL, "--skew: \"%s\" is no number from 0 to %d",
				     value, K_SKEW_MAX);
	return 0;
}

static int parse_flags(struct moe_run_opts *opts, const char *name, const char *value,
		       struct moe_error *err)
{
	bool second = false;
	int rc;

	if (!strcmp(name, "dtype")) {
		rc = parse_word(&(struct words){name, "fp8", "bf16"}, value, &second, err);
		opts->fp8 = !second;
	} else if (!strcmp(name, "placement")) {
		rc = parse_word(&(struct words){name, "contiguous", "eplb"}, value, &second, err);
		opts->eplb = second;
	} else if (!strcmp(name, "receive")) {
		rc = parse_word(&(struct words){name, "in_place", "landed"}, value, &second, err);
		opts->landed = second;
	} else {
		rc = parse_word(&(struct words){name, "rmsnorm", "none"}, value, &second, err);
		opts->residual = second ? MOE_RESIDUAL_NONE : MOE_RESIDUAL_RMSNORM;
	}
	return rc;
}

static int parse_timeout(struct moe_run_opts *opts, const char *value, struct moe_error *err)
{
	uint64_t ms;
	int rc = parse_number("timeout-ms", value, 86400000, &ms, err);

	if (!rc && !ms)
		rc = moe_error_set(err, -EINVAL, "--timeout-ms is 0");
	if (!rc)
		opts->timeout_ns = (int64_t)ms * 1000000;
	return rc;
}

/* What is set by name: strings, then numbers, then the geometry. */
static int parse_option(struct moe_run_opts *opts, const char *name, const char *value,
			struct moe_error *err)
{
	const struct {
		const char *name, **string;
	} strings[] = {{"weights", &opts->weights}, {"input", &opts->input},
		       {"output", &opts->output},   {"save-input", &opts->save_input},
		       {"trace", &opts->trace},	    {"eplb-from", &opts->eplb_from},
		       {"json", &opts->json},	    {"device", &opts->device},
		       {"devices", &opts->devices}, {"transport", &opts->transports}};
	const struct {
		const char *name;
		uint32_t max, *number;
	} numbers[] = {{"ranks", MOE_RANKS_MAX, &opts->ranks},
		       {"threads", 1024, &opts->threads},
		       {"warmup", 1000, &opts->warmup},
		       {"samples", 10000, &opts->samples},
		       {"redundant", K_EXPERTS_MAX, &opts->redundant},
		       {"eplb-nodes", MOE_RANKS_MAX, &opts->eplb_nodes}};

	for (unsigned i = 0; i < sizeof(strings) / sizeof(*strings); i++)
		if (!strcmp(name, strings[i].name)) {
			*strings[i].string = value;
			return 0;
		}
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (!strcmp(name, numbers[i].name))
			return parse_u32(name, value, numbers[i].max, numbers[i].number, err);
	if (!strcmp(name, "layers"))
		return parse_layers(opts, value, err);
	if (!strcmp(name, "tokens"))
		return parse_tokens(opts, value, err);
	if (!strcmp(name, "exchange"))
		return parse_exchanges(opts, value, err);
	if (!strcmp(name, "mpi"))
		return parse_mpi(opts, value, err);
	if (!strcmp(name, "seed"))
		return parse_number(name, value, UINT64_MAX, &opts->seed, err);
	if (!strcmp(name, "timeout-ms"))
		return parse_timeout(opts, value, err);
	if (!strcmp(name, "trace-layers"))
		return parse_trace_layers(opts, value, err);
	if (!strcmp(name, "skew"))
		return parse_skew(opts, value, err);
	if (!strcmp(name, "dtype") || !strcmp(name, "receive") || !strcmp(name, "residual") ||
	    !strcmp(name, "placement"))
		return parse_flags(opts, name, value, err);
	return moe_config_set(&opts->config, name, value, err);
}

static int read_config(struct moe_run_opts *opts, struct moe_error *err)
{
	char *path;
	int rc;

	if (!opts->weights || !strcmp(opts->weights, "synthetic")) {
		opts->weights = NULL;
		moe_config_cover(&opts->config, opts->layers, opts->layer_count);
		return moe_config_check(&opts->config, err);
	}
	if (asprintf(&path, "%s/config.json", opts->weights) < 0)
		return moe_error_set(err, -ENOMEM, "no memory");
	rc = moe_config_read(path, &opts->config, err);
	free(path);
	return rc;
}

/*
 * A rank of torchrun or a pod; of a launcher that speaks PMIx; or of one that speaks only PMI 1 or
 * 2, of which accel_group_create() says what to do.
 */
static bool is_launched(void)
{
	return (getenv("RANK") && getenv("WORLD_SIZE")) ||
	       (getenv("PMIX_RANK") && getenv("PMIX_NAMESPACE")) || getenv("PMI_RANK");
}

/* What belongs together, and what does not. */
static int check_routing(const struct moe_run_opts *o, struct moe_error *err)
{
	if (o->trace && o->skewed)
		return moe_error_set(err, -EINVAL,
				     "--trace brings a routing, --skew draws one: choose");
	if (!o->eplb && (o->redundant || o->eplb_from || o->eplb_nodes > 1))
		return moe_error_set(
			err, -EINVAL,
			"--redundant, --eplb-from and --eplb-nodes need --placement eplb");
	if (o->eplb && !o->eplb_from && !o->warmup)
		return moe_error_set(
			err, -EINVAL,
			"--placement eplb needs counts: --warmup of at least 1, or --eplb-from");
	if (!o->eplb_nodes)
		return moe_error_set(err, -EINVAL, "--eplb-nodes is 0");
	if (o->redundant > K_EXPERTS_MAX - o->config.experts)
		return moe_error_set(err, -EINVAL,
				     "--redundant: %u with %u experts is more than %d slots",
				     o->redundant, o->config.experts, K_EXPERTS_MAX);
	return 0;
}

static int check(struct moe_run_opts *opts, bool ranks_given, struct moe_error *err)
{
	bool launched = !ranks_given && is_launched();
	int rc;

	if (launched)
		opts->ranks = 0;
	else if (!opts->ranks)
		return moe_error_set(err, -EINVAL, "--ranks is 0");
	if (opts->tokens_count > 1 && !launched && opts->tokens_count != opts->ranks)
		return moe_error_set(err, -EINVAL, "--tokens has %u numbers for %u ranks",
				     opts->tokens_count, opts->ranks);
	if (opts->input && opts->save_input)
		return moe_error_set(
			err, -EINVAL,
			"--save-input writes tokens that were made up, --input brings them");
	for (uint32_t x = 0; x < opts->exchange_count; x++)
		if (moe_exchange_is_mpi(opts->exchanges[x]) && opts->transports &&
		    !strstr(opts->transports, "shm"))
			return moe_error_set(
				err, -EINVAL,
				"--exchange %s goes through shared memory, accel by --transport %s: "
				"accel-perf-openmpi compares them over a NIC",
				moe_exchange_name(opts->exchanges[x]), opts->transports);
	if (!opts->samples)
		opts->samples = opts->exchange_count > 1 ? SAMPLES_COMPARED : 1;
	rc = read_config(opts, err);
	if (!rc)
		rc = check_routing(opts, err);
	for (uint32_t i = 0; i < opts->layer_count && !rc; i++)
		if (!moe_config_is_moe(&opts->config, opts->layers[i]))
			rc = moe_error_set(err, -EINVAL,
					   "--layers: layer %u of this model has no routed experts",
					   opts->layers[i]);
	return rc;
}

int moe_run_opts_parse(struct moe_run_opts *opts, int argc, char **argv, struct moe_error *err)
{
	static const char *const names[] = {
		"layers",    "tokens",	     "ranks",	    "weights",	      "seed",
		"dtype",     "receive",	     "residual",    "input",	      "save-input",
		"output",    "json",	     "threads",	    "warmup",	      "timeout-ms",
		"trace",     "trace-layers", "skew",	    "placement",      "redundant",
		"eplb-from", "eplb-nodes",   "experts",	    "hidden",	      "intermediate",
		"topk",	     "groups",	     "topk-groups", "shared-experts", "scale",
		"exchange",  "samples",	     "mpi",	    "device",	      "devices",
		"transport"};
	enum { NAMES = sizeof(names) / sizeof(*names) };
	struct option long_options[NAMES + 4] = {{0}};
	int found, index = 0, rc = 0, scores = 0, checked = 0;
	bool ranks_given = false;

	*opts = (struct moe_run_opts){.config = moe_config_r1,
				      .layers = {3},
				      .layer_count = 1,
				      .tokens = {8},
				      .tokens_count = 1,
				      .ranks = 4,
				      .device = "host",
				      .exchanges = {MOE_EXCHANGE_ACCEL},
				      .exchange_count = 1,
				      .seed = 1,
				      .fp8 = true,
				      .warmup = 1,
				      .eplb_nodes = 1,
				      .timeout_ns = INT64_C(30000000000),
				      .argc = argc,
				      .argv = argv};
	for (unsigned i = 0; i < NAMES; i++)
		long_options[i] = (struct option){names[i], required_argument, NULL, 1};
	long_options[NAMES] = (struct option){"check", no_argument, &checked, 1};
	long_options[NAMES + 1] = (struct option){"scores", no_argument, &scores, 1};
	long_options[NAMES + 2] = (struct option){"help", no_argument, NULL, 'h'};
	optind = 0;
	opterr = 0;
	while (!rc && (found = getopt_long(argc, argv, "h", long_options, &index)) != -1) {
		if (found == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (found == '?')
			return moe_error_set(
				err, -EINVAL,
				"%s: unknown, or its value is missing; see accel-moe run --help",
				argv[optind - 1]);
		if (!found)
			continue;
		ranks_given |= !strcmp(names[index], "ranks");
		rc = parse_option(opts, names[index], optarg, err);
	}
	if (!rc && optind < argc)
		rc = moe_error_set(err, -EINVAL, "\"%s\": not an option; see accel-moe run --help",
				   argv[optind]);
	opts->check = checked;
	opts->scores = scores;
	return rc ? rc : check(opts, ranks_given, err);
}
