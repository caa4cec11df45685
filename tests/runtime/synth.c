// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* accel-moe synth: what it writes is what the seed gives, and what it refuses it refuses before it writes. */
#define _GNU_SOURCE 1
#include "runtime/synth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "tests/runtime/scratch.h"
#include "tests/tap.h"
#include "runtime/weights.h"

/* Run the command with these arguments up to NULL; what it says to stdout and stderr goes to `said`. */
static int synth(char *said, size_t size, ...)
{
	char *argv[32] = {"synth"};
	int argc = 1, rc, fd, saved_out, saved_err;
	const char *log = scratch("said");
	va_list args;

	va_start(args, size);
	while ((argv[argc] = va_arg(args, char *)))
		argc++;
	va_end(args);
	fflush(stdout);
	fd = open(log, O_RDWR | O_CREAT | O_TRUNC, 0600);
	saved_out = dup(STDOUT_FILENO);
	saved_err = dup(STDERR_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	rc = moe_synth_main(argc, argv);
	fflush(stdout);
	dup2(saved_out, STDOUT_FILENO);
	dup2(saved_err, STDERR_FILENO);
	close(saved_out);
	close(saved_err);
	lseek(fd, 0, SEEK_SET);
	ssize_t n = read(fd, said, size - 1);
	said[n > 0 ? n : 0] = 0;
	close(fd);
	return rc;
}

static bool same_matrix(const struct moe_matrix *a, const struct moe_matrix *b)
{
	size_t blocks = (size_t)((a->in + 127) / 128) * ((a->out + 127) / 128);

	return a->in == b->in && a->out == b->out &&
	       !memcmp(a->codes, b->codes, (size_t)a->in * a->out) &&
	       !memcmp(a->scales, b->scales, 4 * blocks);
}

static void compare(const char *dir, uint64_t seed, const uint32_t *layers, uint32_t count)
{
	struct moe_weights_opts opts = {
		.dir = dir, .layers = layers, .layer_count = count, .expert_count = 6};
	struct moe_weights *file, *made;
	struct moe_error err = {0};
	struct moe_expert a, b;

	if (!CHECK_EQ(moe_weights_open(&opts, &file, &err), 0)) {
		tap_diag("%s", err.text);
		return;
	}
	opts.dir = NULL;
	opts.config = moe_weights_config(file);
	opts.seed = seed;
	REQUIRE_EQ(moe_weights_open(&opts, &made, &err), 0);
	for (uint32_t l = 0; l < count; l++) {
		const struct moe_layer *x = moe_weights_layer(file, l),
				       *y = moe_weights_layer(made, l);

		CHECK(!memcmp(x->gate, y->gate, 2 * 6 * opts.config->hidden));
		CHECK(!memcmp(x->bias, y->bias, 4 * 6));
		CHECK(!memcmp(x->norm, y->norm, 2 * opts.config->hidden));
		if (opts.config->shared_experts)
			CHECK(same_matrix(&x->shared.down, &y->shared.down));
		for (uint32_t e = 0; e < 6; e++) {
			REQUIRE_EQ(moe_weights_get(file, l, e, &a, &err), 0);
			REQUIRE_EQ(moe_weights_get(made, l, e, &b, &err), 0);
			CHECK(same_matrix(&a.gate, &b.gate) && same_matrix(&a.up, &b.up) &&
			      same_matrix(&a.down, &b.down));
			moe_weights_put(file, l, e);
			moe_weights_put(made, l, e);
		}
	}
	moe_weights_close(made);
	moe_weights_close(file);
}

#define GEOMETRY                                                                                   \
	"--experts", "6", "--hidden", "264", "--intermediate", "136", "--topk", "2", "--groups",   \
		"2", "--topk-groups", "2"

TEST(synth, writes_what_the_seed_gives)
{
	const char *dir = scratch("model"), *other = scratch("bare");
	char said[8192];

	REQUIRE_EQ(synth(said, sizeof(said), dir, "--seed", "77", "--layers", "3-5", GEOMETRY,
			 "--shared-experts", "2", "--shard-bytes", "300000", NULL),
		   0);
	CHECK(strstr(said, "100 %"));
	CHECK(strstr(said, "135 tensors in "));
	CHECK(!access(scratch("model/model-00001-of-00009.safetensors"), F_OK));
	compare(dir, 77, (const uint32_t[]){3, 4, 5}, 3);
	REQUIRE_EQ(synth(said, sizeof(said), "--layers", "0,70", other, GEOMETRY,
			 "--shared-experts", "0", NULL),
		   0);
	compare(other, 1, (const uint32_t[]){0, 70}, 2);
}

TEST(synth, writes_chunks_of_large_tensors)
{
	const char *dir = scratch("large");
	char said[8192];

	REQUIRE_EQ(synth(said, sizeof(said), dir, "--seed", "0x10", "--layers", "3", "--experts",
			 "6", "--hidden", "4104", "--intermediate", "1032", "--topk", "2",
			 "--groups", "1", "--topk-groups", "1", NULL),
		   0);
	compare(dir, 16, (const uint32_t[]){3}, 1);
}

TEST(synth, keeps_what_is_there)
{
	const char *dir = scratch_mkdir("kept");
	char said[8192], *text;
	size_t size;

	scratch_write("kept/config.json", "mine", 4);
	CHECK_EQ(synth(said, sizeof(said), dir, "--layers", "3", GEOMETRY, NULL), 3);
	CHECK(strstr(said, "holds a checkpoint already"));
	text = scratch_read(scratch("kept/config.json"), &size);
	CHECK(!strcmp(text, "mine"));
	free(text);
}

TEST(synth, refuses_when_the_disk_is_too_small)
{
	const char *dir = scratch("full");
	char said[8192];

	/* 500 TB */
	CHECK_EQ(synth(said, sizeof(said), dir, "--layers", "3-12", "--experts", "4096", "--hidden",
		       "65536", "--intermediate", "65536", "--shared-experts", "0", "--shard-bytes",
		       "1000000000000", NULL),
		 3);
	CHECK(strstr(said, "bytes, ") && strstr(said, "are free"));
	CHECK(access(scratch("full/config.json"), F_OK));
}

TEST(synth, names_a_directory_that_cannot_be)
{
	char said[8192];

	CHECK_EQ(synth(said, sizeof(said), scratch("no/such"), "--layers", "3", GEOMETRY, NULL), 3);
	CHECK(strstr(said, "no/such: cannot be created: No such file"));
	scratch_write("file", "x", 1);
	CHECK_EQ(synth(said, sizeof(said), scratch("file"), "--layers", "3", GEOMETRY, NULL), 3);
}

TEST(synth, a_wrong_command_line_exits_with_2)
{
	static const char *const wrong[][5] = {
		{"d", "--seed", "x", NULL, "--seed: \"x\""},
		{"d", "--layers", "4,3", NULL, "not in ascending order"},
		{"d", "--layers", NULL, NULL, "--layers: unknown option, or it needs a value"},
		{"d", "--nonsense", NULL, NULL, "--nonsense: unknown option"},
		{"d", NULL, NULL, NULL, "--layers is needed"},
		{"--layers", "3", NULL, NULL, "one directory is needed, 0 are given"},
		{"d", "e", "--layers=3", NULL, "one directory is needed, 2 are given"},
		{"d", "--layers=3", "--topk=0", NULL, "--topk is 0, not in 1..64"},
		{"d", "--layers=3", "--groups=7", NULL,
		 "n_routed_experts 256 is not a multiple of n_group 7"},
		{"d", "--layers=3", "--shard-bytes=1k", NULL, "--shard-bytes: \"1k\""},
	};
	char said[8192];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int rc = synth(said, sizeof(said), wrong[i][0], wrong[i][1], wrong[i][2], NULL);

		tap_check(rc == 2 && strstr(said, wrong[i][4]), __FILE__, __LINE__,
			  "%s: exit %d, %s", wrong[i][4], rc, said);
	}
	CHECK_EQ(synth(said, sizeof(said), "--help", NULL), 0);
	CHECK(strstr(said, "usage: accel-moe synth DIR"));
}
