// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel-moe synth: the plan is a list of tensors cut into shards by bytes; each shard is generated as it is written, a
 * chunk at a time. The index and config.json come last, so that an interrupted run leaves no checkpoint.
 */
#define _GNU_SOURCE 1 /* asprintf */
#include "synth.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "synthetic.h"

#define SHARD_BYTES_DEFAULT UINT64_C(5000000000)
#define MARGIN_BYTES                                                                               \
	(UINT64_C(64) << 20) /* of disk, for headers, the index and whoever else writes */

enum { CHUNK_BYTES = 4 << 20, SHARDS_MAX = 99999 };

struct item {
	uint32_t layer, expert, shard;
	enum moe_tensor_id tensor;
};

struct synth {
	const char *dir;
	struct moe_config config;
	uint64_t seed, shard_bytes;
	uint32_t layers[MOE_LAYERS_MAX], layer_count;
	struct item *item;
	size_t count;
	uint32_t shards;
	uint64_t total_bytes, done_bytes;
	unsigned percent; /* last told */
	uint8_t *chunk;
};

static const char help[] =
	"usage: accel-moe synth DIR --layers LIST [options]\n"
	"\n"
	"Write seeded weights as a checkpoint: config.json, an index and safetensors shards. They are those that\n"
	"accel-moe run --weights synthetic computes from the same seed and geometry.\n"
	"\n"
	"  --layers LIST        layers to write, such as 3,4 or 3-10\n"
	"  --seed N             default 1\n"
	"  --experts N          routed experts, default 256\n"
	"  --hidden N           default 7168\n"
	"  --intermediate N     of one expert, default 2048\n"
	"  --topk N             experts of a token, default 8\n"
	"  --groups N           groups of experts, default 8\n"
	"  --topk-groups N      groups a token may choose from, default 4\n"
	"  --shared-experts N   default 1\n"
	"  --scale X            of the routed experts' weights, default 2.5\n"
	"  --shard-bytes N      start a new file above this size, default 5000000000\n"
	"\n"
	"Exits with 0; 2 the command line is wrong; 3 room on the disk or the directory is missing, or it is in use.\n";

static void plan_tensor(struct synth *s, uint32_t layer, uint32_t expert, enum moe_tensor_id tensor,
			uint64_t *shard_used)
{
	struct moe_tensor_spec spec;

	moe_tensor_spec(&s->config, layer, expert, tensor, &spec);
	if (!s->shards || (*shard_used && *shard_used + spec.size_bytes > s->shard_bytes)) {
		s->shards++;
		*shard_used = 0;
	}
	*shard_used += spec.size_bytes;
	s->total_bytes += spec.size_bytes;
	s->item[s->count++] = (struct item){layer, expert, s->shards, tensor};
}

static void plan_expert(struct synth *s, uint32_t layer, uint32_t expert, uint64_t *shard_used)
{
	for (enum moe_tensor_id t = MOE_TENSOR_GATE_PROJ; t <= MOE_TENSOR_DOWN_PROJ_SCALE; t++)
		plan_tensor(s, layer, expert, t, shard_used);
}

static int plan(struct synth *s, struct moe_error *err)
{
	size_t of_layer = 3 + 6 * ((size_t)s->config.experts + 1);
	uint64_t used = 0;

	s->item = calloc(s->layer_count * of_layer, sizeof(*s->item));
	s->chunk = malloc(CHUNK_BYTES);
	if (!s->item || !s->chunk)
		return moe_error_set(err, -ENOMEM, "no memory for the list of tensors");
	for (uint32_t l = 0; l < s->layer_count; l++) {
		for (enum moe_tensor_id t = MOE_TENSOR_GATE; t <= MOE_TENSOR_NORM; t++)
			plan_tensor(s, s->layers[l], MOE_EXPERT_NONE, t, &used);
		if (s->config.shared_experts)
			plan_expert(s, s->layers[l], MOE_EXPERT_SHARED, &used);
		for (uint32_t e = 0; e < s->config.experts; e++)
			plan_expert(s, s->layers[l], e, &used);
	}
	if (s->shards > SHARDS_MAX)
		return moe_error_set(err, -EINVAL,
				     "--shard-bytes %" PRIu64 " makes %" PRIu32 " files, above %d",
				     s->shard_bytes, s->shards, SHARDS_MAX);
	return 0;
}

static void tell(struct synth *s, uint64_t bytes)
{
	unsigned percent;

	s->done_bytes += bytes;
	percent = (unsigned)(100 * (double)s->done_bytes / (double)s->total_bytes);
	if (percent == s->percent)
		return;
	s->percent = percent;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\rsynth: %u %% of %.1f GB%s", percent,
			(double)s->total_bytes / 1e9, percent == 100 ? "\n" : "");
	else if (percent % 10 == 0)
		fprintf(stderr, "synth: %u %% of %.1f GB\n", percent, (double)s->total_bytes / 1e9);
}

static int write_tensor(struct synth *s, const struct item *item,
			struct moe_safetensors_writer *writer, size_t number, struct moe_error *err)
{
	struct moe_tensor_spec spec;
	uint64_t width, elements;

	moe_tensor_spec(&s->config, item->layer, item->expert, item->tensor, &spec);
	width = moe_dtype_bytes(spec.dtype);
	elements = spec.size_bytes / width;
	for (uint64_t first = 0, count; first < elements; first += count) {
		int rc;

		count = CHUNK_BYTES / width < elements - first ? CHUNK_BYTES / width
							       : elements - first;
		moe_synthetic_fill(&s->config, s->seed, item->layer, item->expert, item->tensor,
				   first, count, s->chunk);
		rc = moe_safetensors_write(writer, number, first * width, s->chunk, count * width,
					   err);
		if (rc)
			return rc;
		tell(s, count * width);
	}
	return 0;
}

static void shard_name(const struct synth *s, uint32_t shard, char name[64])
{
	snprintf(name, 64, "model-%05" PRIu32 "-of-%05" PRIu32 ".safetensors", shard, s->shards);
}

/* The items first..first+count-1 as one file. */
static int write_shard(struct synth *s, size_t first, size_t count, struct moe_error *err)
{
	const struct moe_metadata metadata = {"format", "pt"};
	struct moe_tensor *tensors = calloc(count, sizeof(*tensors));
	struct moe_tensor_spec *specs = calloc(count, sizeof(*specs));
	struct moe_safetensors_writer *writer;
	char name[64], *path = NULL;
	int rc = -ENOMEM;

	shard_name(s, s->item[first].shard, name);
	if (!tensors || !specs || asprintf(&path, "%s/%s", s->dir, name) < 0) {
		moe_error_set(err, rc, "no memory to write %s", name);
		path = NULL;
		goto out;
	}
	for (size_t i = 0; i < count; i++) {
		const struct item *item = &s->item[first + i];

		moe_tensor_spec(&s->config, item->layer, item->expert, item->tensor, &specs[i]);
		tensors[i] = (struct moe_tensor){
			.name = specs[i].name,
			.dtype = specs[i].dtype,
			.dims = specs[i].dims,
			.shape = {specs[i].shape[0], specs[i].shape[1]},
		};
	}
	rc = moe_safetensors_create(path, tensors, count, &metadata, 1, &writer, err);
	for (size_t i = 0; !rc && i < count; i++) {
		rc = write_tensor(s, &s->item[first + i], writer, i, err);
		if (rc)
			moe_safetensors_abandon(writer);
	}
	if (!rc)
		rc = moe_safetensors_finish(writer, err);
out:
	free(path);
	free(specs);
	free(tensors);
	return rc;
}

static int write_shards(struct synth *s, struct moe_error *err)
{
	for (size_t first = 0, count; first < s->count; first += count) {
		int rc;

		for (count = 1; first + count < s->count; count++)
			if (s->item[first + count].shard != s->item[first].shard)
				break;
		rc = write_shard(s, first, count, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* A text file that appears whole or not at all. */
static int write_text(const struct synth *s, const char *name, const char *text,
		      struct moe_error *err)
{
	char *path = NULL, *part = NULL;
	FILE *file = NULL;
	int rc = -ENOMEM;

	if (!text || asprintf(&path, "%s/%s", s->dir, name) < 0 ||
	    asprintf(&part, "%s.part", path) < 0)
		goto out;
	rc = -EIO;
	file = fopen(part, "we");
	if (file && fputs(text, file) >= 0 && !fflush(file) && !fsync(fileno(file)) &&
	    !rename(part, path))
		rc = 0;
	else if (errno)
		rc = -errno;
out:
	if (rc)
		moe_error_set(err, rc, "%s/%s: cannot be written: %s", s->dir, name, strerror(-rc));
	if (file)
		fclose(file);
	free(part);
	free(path);
	return rc;
}

static int write_index(const struct synth *s, struct moe_error *err)
{
	json_t *map = json_object(), *index;
	struct moe_tensor_spec spec;
	char name[64], *text = NULL;
	int failed = 0, rc;

	for (size_t i = 0; i < s->count; i++) {
		const struct item *item = &s->item[i];

		moe_tensor_spec(&s->config, item->layer, item->expert, item->tensor, &spec);
		shard_name(s, item->shard, name);
		failed |= json_object_set_new(map, spec.name, json_string(name));
	}
	index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)s->total_bytes,
			  "weight_map", map);
	if (!failed && index)
		text = json_dumps(index, JSON_INDENT(2));
	rc = write_text(s, "model.safetensors.index.json", text, err);
	free(text);
	json_decref(index);
	json_decref(map);
	return rc;
}

/* The directory, made if it is not there, must be empty of a checkpoint and have room. */
static int check_dir(const struct synth *s, struct moe_error *err)
{
	struct statvfs fs;
	uint64_t free_bytes;
	char *path;
	int rc, there;

	if (mkdir(s->dir, 0777) && errno != EEXIST) {
		rc = -errno;
		return moe_error_set(err, rc, "%s: cannot be created: %s", s->dir, strerror(-rc));
	}
	if (asprintf(&path, "%s/config.json", s->dir) < 0)
		return moe_error_set(err, -ENOMEM, "no memory");
	there = access(path, F_OK);
	free(path);
	if (!there)
		return moe_error_set(
			err, -EEXIST,
			"%s holds a checkpoint already: remove it, or name another directory",
			s->dir);
	if (statvfs(s->dir, &fs)) {
		rc = -errno;
		return moe_error_set(err, rc, "%s: %s", s->dir, strerror(-rc));
	}
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (free_bytes < s->total_bytes + MARGIN_BYTES)
		return moe_error_set(err, -ENOSPC,
				     "%s: the weights need %" PRIu64 " bytes, %" PRIu64
				     " are free: free some, or write fewer layers or experts",
				     s->dir, s->total_bytes + MARGIN_BYTES, free_bytes);
	return 0;
}

static int write_checkpoint(struct synth *s, struct moe_error *err)
{
	char *text;
	int rc;

	rc = check_dir(s, err);
	if (!rc)
		rc = write_shards(s, err);
	if (!rc)
		rc = write_index(s, err);
	if (rc)
		return rc;
	text = moe_config_text(&s->config);
	rc = write_text(s, "config.json", text, err);
	free(text);
	return rc;
}

static int parse_number(const char *name, const char *text, uint64_t *value, struct moe_error *err)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno || *end || *text < '0' || *text > '9')
		return moe_error_set(err, -EINVAL, "--%s: \"%s\" is not a whole number", name,
				     text);
	return 0;
}

static int parse_option(struct synth *s, const char *name, const char *value, struct moe_error *err)
{
	int count;

	if (!strcmp(name, "seed"))
		return parse_number(name, value, &s->seed, err);
	if (!strcmp(name, "shard-bytes"))
		return parse_number(name, value, &s->shard_bytes, err);
	if (strcmp(name, "layers"))
		return moe_config_set(&s->config, name, value, err);
	count = moe_layers_parse(value, s->layers, err);
	s->layer_count = count < 0 ? 0 : (uint32_t)count;
	return count < 0 ? count : 0;
}

/* 0, 1 after --help, or an error. */
static int parse_command(struct synth *s, int argc, char **argv, struct moe_error *err)
{
	static const char *const names[] = {
		"help",	 "layers", "seed",   "shard-bytes", "experts",	    "hidden",
		"scale", "topk",   "groups", "topk-groups", "intermediate", "shared-experts"};
	enum { NAMES = sizeof(names) / sizeof(names[0]) };
	struct option options[NAMES + 1] = {{0}};
	int index, found, rc;

	for (int i = 0; i < NAMES; i++)
		options[i] = (struct option){names[i], i ? required_argument : no_argument, NULL,
					     0};
	optind = 0; /* getopt may have run before, for the program's own options */
	opterr = 0;
	while ((found = getopt_long(argc, argv, "", options, &index)) != -1) {
		if (found)
			return moe_error_set(err, -EINVAL,
					     "%s: unknown option, or it needs a value",
					     argv[optind - 1]);
		if (!index) {
			fputs(help, stdout);
			return 1;
		}
		rc = parse_option(s, names[index], optarg, err);
		if (rc)
			return rc;
	}
	if (optind != argc - 1)
		return moe_error_set(err, -EINVAL, "one directory is needed, %d are given",
				     argc - optind);
	if (!s->layer_count)
		return moe_error_set(err, -EINVAL, "--layers is needed, such as --layers 3,4");
	s->dir = argv[optind];
	moe_config_cover(&s->config, s->layers, s->layer_count);
	return moe_config_check(&s->config, err);
}

int moe_synth_main(int argc, char **argv)
{
	struct synth *s = calloc(1, sizeof(*s));
	struct moe_error err = {0};
	int exit = MOE_EXIT_USAGE, rc;

	if (!s) {
		fputs("accel-moe synth: no memory\n", stderr);
		return MOE_EXIT_MISSING;
	}
	s->config = moe_config_r1;
	s->seed = 1;
	s->shard_bytes = SHARD_BYTES_DEFAULT;
	rc = parse_command(s, argc, argv, &err);
	if (!rc)
		rc = plan(s, &err);
	if (!rc) {
		exit = MOE_EXIT_MISSING;
		rc = write_checkpoint(s, &err);
	}
	if (!rc)
		fprintf(stderr, "synth: %zu tensors in %" PRIu32 " files under %s\n", s->count,
			s->shards, s->dir);
	if (rc < 0)
		fprintf(stderr, "accel-moe synth: %s\n", err.text);
	free(s->chunk);
	free(s->item);
	free(s);
	return rc < 0 ? exit : MOE_EXIT_PASS;
}
