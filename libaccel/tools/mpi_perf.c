// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel-perf-openmpi and accel-perf-mpich: `accel-perf ep` with the ways of MPI measured in turn with
 * accel's, in the same ranks. Called by a user it starts mpirun, with the settings that were found
 * fastest between ranks of one host, on itself; there the first argument says so.
 */
#define _GNU_SOURCE
#include "mpi_exchange.h"
#include "perf_ep.h"
#include "perf_peers.h"

#include <errno.h>
#include <mpi.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef OPEN_MPI
#define MPI_NAME "openmpi"
#define MPI_PACKAGE "openmpi-bin"
/* Quiet: a missed bar is no accident to explain at length. */
static const char *const start[] = {"mpirun.openmpi",  "-q",	    "--allow-run-as-root",
				    "--oversubscribe", "--bind-to", "none"};
/* CMA is a little faster for the largest messages, and at times ten times slower for smaller ones. */
#define SETTINGS                                                                                   \
	"--mca pml ob1 --mca btl self,vader --mca osc sm --mca btl_vader_single_copy_mechanism none"
#else
#define MPI_NAME "mpich"
#define MPI_PACKAGE "mpich"
static const char *const start[] = {"mpiexec.mpich", "-bind-to", "none"};
/* CMA is faster for the largest messages alone. */
#define SETTINGS "-genv UCX_TLS posix,self,cma -genv UCX_RNDV_THRESH 4m"
#endif

#define AS_RANK "--as-rank" /* what mpirun is told to give to the ranks that it starts */

enum {
	WORDS_MAX = 128, /* of the command that starts the ranks */
};

static const char usage[] =
	"\n"
	"accel-perf-" MPI_NAME " [--mpirun 'WORDS'] [options of accel-perf ep]\n"
	"measures MPI_Alltoallv, MPI_Put and a shared window by hand in turn with accel. It starts\n"
	"itself by mpirun; WORDS, more options of mpirun's, are put in. Rows are never quantised.\n";

/* ---- the peers, as accel-perf calls them ---- */

static struct mpi_exchange_opts exchange_opts(const struct perf_case *c, unsigned peer)
{
	return (struct mpi_exchange_opts){
		.method = (enum mpi_exchange_method)peer,
		.tokens_max = c->tokens,
		.hidden = c->hidden,
		.topk = c->topk,
		.experts = c->experts,
		.row_bytes = perf_row_bytes(c),
		.scale_bytes = perf_scale_bytes(c),
	};
}

static uint64_t peer_bytes(const struct perf_case *c, unsigned peer)
{
	struct mpi_exchange_opts opts = exchange_opts(c, peer);

	return mpi_exchange_bytes(&opts, c->world);
}

static void *peer_create(const struct perf_case *c, unsigned peer, bool crowded)
{
	struct mpi_exchange_opts opts = exchange_opts(c, peer);
	struct mpi_exchange *exchange;

	opts.crowded = crowded;
	return mpi_exchange_create(&opts, &exchange) ? NULL : exchange;
}

static void peer_dispatch(void *context, const struct perf_sent *sent, struct perf_received *got)
{
	const struct mpi_exchange_input input = {sent->tokens, sent->x, sent->scales, sent->ids,
						 sent->weights};
	struct mpi_exchange_recv recv;

	if (mpi_exchange_dispatch(context, &input, &recv))
		MPI_Abort(MPI_COMM_WORLD, PERF_FAIL);
	*got = (struct perf_received){recv.rows,     recv.row,	     recv.scale,
				      recv.src_rank, recv.src_token, mpi_exchange_y(context)};
}

static void peer_combine(void *context, uint16_t *out)
{
	mpi_exchange_combine(context, out);
}

static void peer_destroy(void *context)
{
	mpi_exchange_destroy(context);
}

/* The library's own version, out of the sentence that it says about itself. */
static const char *library_version(void)
{
	static char text[MPI_MAX_LIBRARY_VERSION_STRING];
	size_t at;
	int bytes;

	MPI_Get_library_version(text, &bytes);
	at = strcspn(text, "0123456789");
	text[at + strspn(text + at, "0123456789.")] = '\0';
	return text + at;
}

static int run_as_rank(int argc, char **argv, const char *settings_text)
{
	const struct perf_peers peers = {
		.software = MPI_NAME,
		.version = library_version(),
		.settings = settings_text,
		.method = {MPI_NAME "-alltoallv", MPI_NAME "-put", "mpi3-window"},
		.bytes = peer_bytes,
		.create = peer_create,
		.dispatch = peer_dispatch,
		.combine = peer_combine,
		.destroy = peer_destroy,
	};

	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* pages of one size for every method */
	if (!perf_ranks_is_first() && !freopen("/dev/null", "w", stdout))
		return PERF_MISSING;
	return perf_ep_run(argc, argv, &peers);
}

/* ---- starting ---- */

struct command { /* of mpirun */
	char *words[WORDS_MAX + 1];
	int count;
	char settings[160]; /* those of the words that are about speed */
};

static int refuse(const char *what)
{
	fprintf(stderr, "accel-perf-" MPI_NAME ": %s; see --help\n", what);
	return PERF_USAGE;
}

static bool add_word(struct command *command, char *word)
{
	if (command->count == WORDS_MAX)
		return false;
	command->words[command->count++] = word;
	return true;
}

/* Words for mpirun out of one argument, which this takes apart. */
static bool add_settings(struct command *command, char *text)
{
	for (char *word, *rest = text; (word = strsep(&rest, " "));) {
		size_t at = strlen(command->settings);

		if (!*word)
			continue;
		snprintf(command->settings + at, sizeof(command->settings) - at, "%s%s",
			 at ? " " : "", word);
		if (!add_word(command, word))
			return false;
	}
	return true;
}

static uint32_t ranks_of(int argc, char **argv, int *rc)
{
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));
	struct perf_ep_opts opts = {0};

	*rc = copy ? -1 : PERF_MISSING;
	for (int i = 0; copy && i < argc; i++) /* the parser takes lists apart */
		if (!(copy[i] = strdup(argv[i])))
			*rc = PERF_MISSING;
	if (*rc < 0)
		*rc = perf_ep_opts_parse(argc, copy, &opts);
	if (*rc < 0 && opts.huge)
		*rc = refuse("--huge: MPI's windows have base pages");
	for (int i = 0; copy && i < argc; i++)
		free(copy[i]);
	free(copy);
	return opts.ranks;
}

static int run(struct command *command)
{
	int status, rc;
	pid_t pid;

	rc = posix_spawnp(&pid, command->words[0], NULL, NULL, command->words, environ);
	if (rc) {
		fprintf(stderr, "accel-perf-" MPI_NAME ": %s: %s (Debian: " MPI_PACKAGE ")\n",
			command->words[0], strerror(rc));
		return PERF_MISSING;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return PERF_MISSING;
	if (WIFEXITED(status) && WEXITSTATUS(status) <= PERF_MISSING)
		return WEXITSTATUS(status);
	fprintf(stderr, "accel-perf-" MPI_NAME ": %s failed; by hand it may say why:\n",
		command->words[0]);
	for (int i = 0; i < command->count; i++)
		fprintf(stderr, strchr(command->words[i], ' ') ? " '%s'" : " %s",
			command->words[i]);
	fputc('\n', stderr);
	return PERF_MISSING;
}

static int start_ranks(int argc, char **argv)
{
	char count[16], self[4096], own[] = SETTINGS;
	ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
	struct command command = {0};
	bool fits = true;
	int rc;

	for (unsigned i = 0; i < sizeof(start) / sizeof(*start); i++)
		fits = fits && add_word(&command, (char *)start[i]);
	fits = fits && add_settings(&command, own);
	if (argc > 1 && !strcmp(argv[1], "--mpirun")) {
		if (argc == 2)
			return refuse("--mpirun needs its words");
		fits = fits && add_settings(&command, argv[2]);
		argv += 2;
		argc -= 2;
	}
	snprintf(count, sizeof(count), "%u", ranks_of(argc, argv, &rc));
	if (!rc)
		fputs(usage, stdout);
	if (rc >= 0)
		return rc;
	self[bytes < 0 ? 0 : bytes] = '\0';
	fits = fits && add_word(&command, "-n") && add_word(&command, count) &&
	       add_word(&command, self) && add_word(&command, AS_RANK) &&
	       add_word(&command, command.settings);
	for (int i = 1; i < argc; i++)
		fits = fits && add_word(&command, argv[i]);
	if (!fits)
		return refuse("too many words");
	return run(&command);
}

int main(int argc, char **argv)
{
	int code;

	if (argc < 3 || strcmp(argv[1], AS_RANK))
		return start_ranks(argc, argv);
	MPI_Init(NULL, NULL);
	code = run_as_rank(argc - 2, argv + 2, argv[2]);
	MPI_Finalize();
	return code;
}
