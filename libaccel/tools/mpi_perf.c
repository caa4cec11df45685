// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * accel-perf-openmpi and accel-perf-mpich: `accel-perf ep` with the ways of MPI measured in turn with
 * accel's, in the same ranks. Called by a user it starts mpirun, with the settings that were found
 * fastest between ranks of one host, on itself; there the first argument says so. Where accel is held
 * to a NIC so is Open MPI, by UCX on the same devices; --tcp shows what it does without RDMA.
 */
#define _GNU_SOURCE
#include "mpi_exchange.h"
#include "mpi_settings.h"
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
static const char *const start[] = {MPI_SETTINGS_OPENMPI_START, "-q"};
#define SHM_SETTINGS MPI_SETTINGS_OPENMPI_SHM
/*
 * rc_v is rc_verbs with ud_verbs to connect by, whose check of addresses drops all that comes by rxe.
 * The window that ranks of one host measure in is osc sm's.
 */
#define VERBS_SETTINGS                                                                             \
	"--mca pml ucx --mca osc sm -x UCX_TLS=rc_v,self -x UCX_UD_VERBS_ETH_DGID_CHECK=n"
#define TCP_SETTINGS "--mca pml ob1 --mca btl self,tcp --mca osc sm"
#else
#define MPI_NAME "mpich"
#define MPI_PACKAGE "mpich"
static const char *const start[] = {MPI_SETTINGS_MPICH_START};
#define SHM_SETTINGS MPI_SETTINGS_MPICH_SHM
#endif

#define AS_RANK "--as-rank" /* what mpirun is told to give to the ranks that it starts */

/* How MPI's ranks reach each other, and what is measured over that. */
static const struct path {
	const char *name, *settings;
	const char *method[PERF_PEERS];
} paths[] = {
	{"shm", SHM_SETTINGS, {MPI_NAME "-alltoallv", MPI_NAME "-put", "mpi3-window"}},
#ifdef OPEN_MPI
	{"verbs", VERBS_SETTINGS, {MPI_NAME "-alltoallv"}},
	{"tcp", TCP_SETTINGS, {MPI_NAME "-alltoallv"}},
#endif
};

enum {
	WORDS_MAX = 128, /* of the command that starts the ranks */
};

static const char usage[] =
	"\n"
	"accel-perf-" MPI_NAME " [--mpirun 'WORDS'] [--tcp] [options of accel-perf ep]\n"
	"measures MPI_Alltoallv, MPI_Put and a shared window by hand in turn with accel. It starts\n"
	"itself by mpirun; WORDS, more options of mpirun's, are put in. Rows are never quantised.\n"
#ifdef OPEN_MPI
	"With --transport verbs MPI_Alltoallv alone is measured, by UCX held to rc_verbs on the same\n"
	"devices; with --tcp by TCP, on the interfaces of the --devices if they are given.\n"
	"--mpirun '--host A,B' puts the ranks on several hosts that have this program at the same path.\n"
#endif
	;

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

static const struct path *path_find(const char *name)
{
	for (unsigned i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		if (!strcmp(name, paths[i].name))
			return &paths[i];
	return NULL;
}

static int run_as_rank(int argc, char **argv, const struct path *path, const char *settings_text)
{
	const struct perf_peers peers = {
		.software = MPI_NAME,
		.version = library_version(),
		.settings = settings_text,
		.method = {path->method[0], path->method[1], path->method[2]},
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

/* -1, or an exit code. What opts points to is gone afterwards: its numbers and devices are not. */
static int read_opts(int argc, char **argv, struct perf_ep_opts *opts)
{
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));
	int rc = copy ? -1 : PERF_MISSING;

	for (int i = 0; copy && i < argc; i++) /* the parser takes lists apart */
		if (!(copy[i] = strdup(argv[i])))
			rc = PERF_MISSING;
	if (rc < 0)
		rc = perf_ep_opts_parse(argc, copy, opts);
	for (int i = 0; copy && i < argc; i++)
		free(copy[i]);
	free(copy);
	return rc;
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

struct request { /* of a user */
	struct perf_ep_opts opts;
	char *mpirun; /* its words, or NULL */
	bool tcp;
	int argc; /* of accel-perf ep */
	char **argv;
};

/* -1, or an exit code. */
static int read_request(int argc, char **argv, struct request *request)
{
	int rc;

	for (; argc > 1; argc--, argv++) {
		if (!strcmp(argv[1], "--tcp")) {
			request->tcp = true;
		} else if (!strcmp(argv[1], "--mpirun")) {
			if (argc == 2)
				return refuse("--mpirun needs its words");
			request->mpirun = argv[2];
			argc--;
			argv++;
		} else {
			break;
		}
	}
	request->argc = argc;
	request->argv = argv;
	rc = read_opts(argc, argv, &request->opts);
	if (!rc)
		fputs(usage, stdout);
	if (rc < 0 && request->opts.huge)
		return refuse("--huge: MPI's windows have base pages");
	return rc;
}

static int start_ranks(int argc, char **argv)
{
	char count[16], self[4096], own[160];
	ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
	struct command command = {0};
	struct request request = {0};
	const struct path *path;
	bool fits = true;
	int rc = read_request(argc, argv, &request);

	if (rc >= 0)
		return rc;
	path = path_find(request.tcp			       ? "tcp"
			 : perf_ep_opts_is_wire(&request.opts) ? "verbs"
							       : "shm");
	if (!path)
		return refuse("verbs and TCP are measured with Open MPI: accel-perf-openmpi");
	if (path == paths && request.mpirun && strstr(request.mpirun, "-host"))
		return refuse("ranks on several hosts have no shared memory: --transport verbs");
	for (unsigned i = 0; i < sizeof(start) / sizeof(*start); i++)
		fits = fits && add_word(&command, (char *)start[i]);
#ifdef OPEN_MPI
	if (getenv("ACCEL_OPTS")) /* mpirun takes it to no other host unasked */
		fits = fits && add_word(&command, "-x") && add_word(&command, "ACCEL_OPTS");
#endif
	snprintf(own, sizeof(own), "%s", path->settings);
	fits = fits && add_settings(&command, own) &&
	       (!request.mpirun || add_settings(&command, request.mpirun));
	snprintf(count, sizeof(count), "%u", request.opts.ranks);
	self[bytes < 0 ? 0 : bytes] = '\0';
	fits = fits && add_word(&command, "-n") && add_word(&command, count) &&
	       add_word(&command, self) && add_word(&command, AS_RANK) &&
	       add_word(&command, (char *)path->name) && add_word(&command, command.settings);
	for (int i = 1; i < request.argc; i++)
		fits = fits && add_word(&command, request.argv[i]);
	if (!fits)
		return refuse("too many words");
	return run(&command);
}

/* ---- a rank ---- */

#ifdef OPEN_MPI
/* The network interface that a device's port 1, or the port it names, is of. */
static bool read_netdev(const char *device, char *netdev, size_t netdev_bytes)
{
	int name = (int)strcspn(device, ":");
	char path[256];
	bool ok = false;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%.*s/ports/%s/gid_attrs/ndevs/0", name,
		 device, device[name] ? device + name + 1 : "1");
	file = fopen(path, "re");
	if (file && fgets(netdev, (int)netdev_bytes, file)) {
		netdev[strcspn(netdev, "\n")] = '\0';
		ok = true;
	}
	if (file)
		fclose(file);
	return ok;
}

/* MPI, too, has a device of its own in each rank; it reads the environment when it starts. */
static void take_device(const struct path *path, const struct perf_devices *devices)
{
	const char *rank = getenv("PMIX_RANK"), *device;
	char text[PERF_DEVICE_BYTES + 2];

	if (!rank || !devices->count)
		return;
	device = devices->name[strtoul(rank, NULL, 10) % devices->count];
	if (!strcmp(path->name, "verbs")) {
		snprintf(text, sizeof(text), "%s%s", device, strchr(device, ':') ? "" : ":1");
		setenv("UCX_NET_DEVICES", text, 1);
	} else if (!strcmp(path->name, "tcp") && read_netdev(device, text, sizeof(text))) {
		setenv("OMPI_MCA_btl_tcp_if_include", text, 1);
	}
}
#else
static void take_device(const struct path *path, const struct perf_devices *devices)
{
	(void)path;
	(void)devices;
}
#endif

int main(int argc, char **argv)
{
	struct perf_ep_opts opts = {0};
	const struct path *path;
	int code;

	if (argc < 4 || strcmp(argv[1], AS_RANK))
		return start_ranks(argc, argv);
	path = path_find(argv[2]);
	if (!path || read_opts(argc - 3, argv + 3, &opts) >= 0)
		return PERF_USAGE;
	take_device(path, &opts.devices);
	MPI_Init(NULL, NULL);
	code = run_as_rank(argc - 3, argv + 3, path, argv[3]);
	MPI_Finalize();
	return code;
}
