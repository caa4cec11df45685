// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * PMIx. Whatever may block in libpmix runs in a helper thread (init, put, fence) or ends in a
 * callback (get), and shares with the caller only memory that the last of them frees: so a caller
 * can leave on time, and a call that comes back later harms nobody.
 *
 * What decides is whether each rank's blob can be got. The fence only spreads the blobs of all
 * nodes at once, and is not waited for when ranks are late: fences have no names, so that those of
 * groups that some rank gave up, or made in another order, are taken for each other's; and between
 * nodes Open MPI's launcher knows no timeout. Helpers take turns, as two fences of one process
 * count as two ranks'.
 */
#include "pmix.h"

#include "deadline.h"
#include "pmix_abi.h"
#include "ranks.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES 128
#define FENCE_NS (INT64_C(2000000000)) /* then each late rank is asked for its blob */
#define ASK_AGAIN_MS 10		       /* the first time, then twice as long */
#define ASK_AGAIN_MS_MAX 640
#define NAMING_NS (INT64_C(1000000000)) /* after the timeout: who is missing? */

/* ---- The library ----------------------------------------------------------------------------- */

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pmix_abi pmix; /* complete once loaded is true */
static bool loaded;

static const struct {
	const char *name;
	size_t offset;
} symbols[] = {
#define SYMBOL(call)                                                                               \
	{                                                                                          \
		"PMIx_" #call, offsetof(struct pmix_abi, call)                                     \
	}
	SYMBOL(Get_version), SYMBOL(Error_string), SYMBOL(Init), SYMBOL(Finalize), SYMBOL(Put),
	SYMBOL(Commit),	     SYMBOL(Fence),	   SYMBOL(Get),	 SYMBOL(Get_nb),
#undef SYMBOL
};

/* "OpenPMIx 4.2.2, repo ...", "PMIx 3.2.3rc1, ..." */
static bool is_recent(const char *version)
{
	return strtol(version + strcspn(version, "0123456789"), NULL, 10) >= PMIX_ABI_MAJOR_MIN;
}

static int load_locked(void)
{
	/*
	 * Its plugins look for its symbols in the global scope. It has a thread and cannot be
	 * unloaded.
	 */
	void *library = dlopen(PMIX_ABI_LIBRARY, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);

	if (!library)
		return accel_fail(
			NULL, -ENOENT, ACCEL_AT_CREATE,
			"PMIX_RANK is set, but the library of PMIx cannot be loaded (%s): install "
			"it (Debian: libpmix2), or set RANK, WORLD_SIZE and MASTER_ADDR",
			dlerror());
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(library, symbols[i].name);

		if (!symbol)
			return accel_fail(NULL, -EOPNOTSUPP, ACCEL_AT_CREATE,
					  "%s lacks %s: accel needs PMIx %d or newer",
					  PMIX_ABI_LIBRARY, symbols[i].name, PMIX_ABI_MAJOR_MIN);
		memcpy((char *)&pmix + symbols[i].offset, &symbol, sizeof(symbol));
	}
	if (!is_recent(pmix.Get_version()))
		return accel_fail(NULL, -EOPNOTSUPP, ACCEL_AT_CREATE,
				  "%s is \"%.80s\": accel needs PMIx %d or newer", PMIX_ABI_LIBRARY,
				  pmix.Get_version(), PMIX_ABI_MAJOR_MIN);
	loaded = true;
	return 0;
}

static int load(void)
{
	int rc = 0;

	pthread_mutex_lock(&load_lock);
	if (!loaded)
		rc = load_locked();
	pthread_mutex_unlock(&load_lock);
	return rc;
}

static void info_flag(struct pmix_abi_info *info, const char *key)
{
	*info = (struct pmix_abi_info){.value = {.type = PMIX_ABI_BOOL, .data.flag = true}};
	memcpy(info->key, key, strlen(key));
}

/* Whole seconds, and 0 would be for ever. */
static void info_timeout(struct pmix_abi_info *info, int64_t deadline_ns)
{
	int seconds = accel_deadline_poll_ms(deadline_ns, INT32_MAX - 1000) / 1000 + 1;

	*info = (struct pmix_abi_info){.value = {.type = PMIX_ABI_INT, .data.integer = seconds}};
	memcpy(info->key, PMIX_ABI_KEY_TIMEOUT, strlen(PMIX_ABI_KEY_TIMEOUT));
}

/* ---- What a caller shares with calls that may outlast it ------------------------------------- */

struct shared {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int refs;    /* the caller's and one a pending call */
	int pending; /* calls that have not come back */
};

static void shared_init(struct shared *shared)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&shared->lock, NULL);
	pthread_cond_init(&shared->changed, &attr);
	pthread_condattr_destroy(&attr);
	shared->refs = 1;
	shared->pending = 0;
}

/* Unlocks; the last one frees what begins with it. came_back: it was a pending call. */
static void shared_put(struct shared *shared, bool came_back)
{
	bool last = !--shared->refs;

	shared->pending -= came_back;
	pthread_cond_broadcast(&shared->changed);
	pthread_mutex_unlock(&shared->lock);
	if (!last)
		return;
	pthread_cond_destroy(&shared->changed);
	pthread_mutex_destroy(&shared->lock);
	free(shared);
}

/* Locked. False: calls are still pending at the deadline. */
static bool shared_wait(struct shared *shared, int64_t deadline_ns)
{
	struct timespec until = {.tv_sec = deadline_ns / 1000000000,
				 .tv_nsec = deadline_ns % 1000000000};

	while (shared->pending)
		if (pthread_cond_timedwait(&shared->changed, &shared->lock, &until) == ETIMEDOUT)
			return !shared->pending;
	return true;
}

/* ---- The helper: init, put, fence ------------------------------------------------------------ */

struct helper {
	struct shared shared;
	_Atomic(const char *) step; /* that it is in, or failed in */
	int status;		    /* of that step */
	int64_t deadline_ns;
	struct pmix_abi_proc self;
	uint32_t world;
	char key[KEY_BYTES]; /* empty: init alone */
	size_t bytes;
	char blob[];
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* guards these three, and the order */
static bool initialised;
static struct pmix_abi_proc self;
static uint32_t job_size;
static atomic_int maker; /* the pid of the process that called PMIx_Init; 0: none */

static void finalize(void)
{
	if (atomic_load(&maker) == getpid()) /* a forked child has its parent's connection */
		pmix.Finalize(NULL, 0);
}

static int init(struct helper *helper)
{
	struct pmix_abi_proc job = {.rank = PMIX_ABI_RANK_WILDCARD};
	struct pmix_abi_value *value = NULL;
	struct pmix_abi_info timeout;
	int status;

	if (!initialised) {
		atomic_store(&helper->step, "PMIx_Init");
		atomic_store(&maker, getpid());
		status = pmix.Init(&self, NULL, 0);
		if (status) {
			atomic_store(&maker, 0);
			return status;
		}
		atexit(finalize);
		initialised = true;
	}
	if (!job_size) {
		atomic_store(&helper->step, "PMIx_Get of the job's size");
		memcpy(job.nspace, self.nspace, sizeof(job.nspace));
		info_timeout(&timeout, helper->deadline_ns);
		status = pmix.Get(&job, PMIX_ABI_KEY_JOB_SIZE, &timeout, 1, &value);
		if (status)
			return status;
		job_size = value->type == PMIX_ABI_UINT32 ? value->data.uint32 : 0;
		free(value);
	}
	helper->self = self;
	helper->world = job_size;
	return 0;
}

static int give(struct helper *helper)
{
	struct pmix_abi_value value = {
		.type = PMIX_ABI_BYTE_OBJECT,
		.data.object = {.bytes = helper->blob, .size = helper->bytes}};
	struct pmix_abi_proc job = {.rank = PMIX_ABI_RANK_WILDCARD};
	struct pmix_abi_info infos[2];
	int status;

	atomic_store(&helper->step, "PMIx_Put");
	status = pmix.Put(PMIX_ABI_SCOPE_GLOBAL, helper->key, &value);
	if (!status)
		status = pmix.Commit();
	if (status)
		return status;
	/* The rest is a help, no condition: see the file's head. */
	atomic_store(&helper->step, NULL);
	memcpy(job.nspace, self.nspace, sizeof(job.nspace));
	info_flag(&infos[0], PMIX_ABI_KEY_COLLECT_DATA);
	info_timeout(&infos[1], helper->deadline_ns);
	status = pmix.Fence(&job, 1, infos, 2);
	if (status)
		accel_log(ACCEL_LOG_DEBUG, "PMIx_Fence for %s: %s", helper->key,
			  pmix.Error_string(status));
	return 0;
}

static void *helper_run(void *arg)
{
	struct helper *helper = arg;
	int status;

	pthread_mutex_lock(&turn);
	status = init(helper);
	if (!status && helper->key[0])
		status = give(helper);
	pthread_mutex_unlock(&turn);
	pthread_mutex_lock(&helper->shared.lock);
	helper->status = status;
	shared_put(&helper->shared, true);
	return NULL;
}

/* Signals are for the threads of the application. */
static int start(struct helper *helper)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int rc;

	helper->shared.refs++;
	helper->shared.pending++;
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, &attr, helper_run, helper);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc) {
		helper->shared.refs--;
		helper->shared.pending--;
	}
	return -rc;
}

static int fail_silent(const char *what, int64_t timeout_ns)
{
	return accel_fail(NULL, -ETIMEDOUT, ACCEL_AT_CREATE,
			  "%s did not return within %lld ms: the launcher does not answer", what,
			  (long long)(timeout_ns / ACCEL_NS_PER_MS));
}

/*
 * Run a helper to its end, or to the deadline, or for a while in the fence. Errors are decided
 * here.
 */
static int help(struct helper *helper, int64_t timeout_ns)
{
	int64_t fence_end_ns = accel_deadline_after(FENCE_NS);
	const char *step;
	bool ended;
	int rc = start(helper);

	if (rc)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				  "no thread could be started to call PMIx: %s", strerror(-rc));
	pthread_mutex_lock(&helper->shared.lock);
	ended = shared_wait(&helper->shared, fence_end_ns < helper->deadline_ns
						     ? fence_end_ns
						     : helper->deadline_ns);
	if (!ended && atomic_load(&helper->step))
		ended = shared_wait(&helper->shared, helper->deadline_ns);
	rc = helper->status;
	pthread_mutex_unlock(&helper->shared.lock);
	step = atomic_load(&helper->step);
	if (!ended && step)
		return fail_silent(step, timeout_ns);
	if (ended && rc)
		return accel_fail(
			NULL, -ENOTCONN, ACCEL_AT_CREATE,
			"PMIX_RANK is set, but %s says %s: start the ranks with mpirun of Open MPI "
			"or srun --mpi=pmix, or unset PMIX_RANK and set RANK and WORLD_SIZE",
			step, pmix.Error_string(rc));
	return 0;
}

static struct helper *helper_create(size_t bytes, int64_t deadline_ns)
{
	struct helper *helper = calloc(1, sizeof(*helper) + bytes);

	if (!helper)
		return NULL;
	shared_init(&helper->shared);
	atomic_store(&helper->step, "the PMIx_Fence of another group"); /* its turn comes first */
	helper->bytes = bytes;
	helper->deadline_ns = deadline_ns;
	return helper;
}

static void helper_put(struct helper *helper)
{
	if (!helper)
		return;
	pthread_mutex_lock(&helper->shared.lock);
	shared_put(&helper->shared, false);
}

static int prepare(void)
{
	pid_t pid = atomic_load(&maker);

	if (pid && pid != getpid())
		return accel_fail(NULL, -ENOTCONN, ACCEL_AT_CREATE,
				  "process %d called PMIx_Init before it forked this one, which "
				  "PMIx cannot serve: create groups in the parent, or set RANK "
				  "and WORLD_SIZE",
				  (int)pid);
	return load();
}

bool accel_pmix_is_there(void)
{
	const char *rank = getenv("PMIX_RANK"), *job = getenv("PMIX_NAMESPACE");

	return rank && *rank && job && *job;
}

int accel_pmix_job(int64_t timeout_ns, int *rank, int *world)
{
	struct helper *helper;
	int rc = prepare();

	if (rc)
		return rc;
	helper = helper_create(0, accel_deadline_after(timeout_ns));
	if (!helper)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to call PMIx");
	rc = help(helper, timeout_ns);
	if (!rc && (!helper->world || helper->world > ACCEL_RANKS_MAX ||
		    helper->self.rank >= helper->world))
		rc = accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				"PMIx says rank %u of %u; there may be 1..%d ranks",
				helper->self.rank, helper->world, ACCEL_RANKS_MAX);
	if (!rc) {
		*rank = (int)helper->self.rank;
		*world = (int)helper->world;
		accel_log(ACCEL_LOG_INFO, "rank %d of %d of job %s by PMIx (%s)", *rank, *world,
			  helper->self.nspace, pmix.Get_version());
	}
	helper_put(helper);
	return rc;
}

/* ---- The others' blobs ----------------------------------------------------------------------- */

/* PMIx reads these until it has answered. */
struct ask {
	struct gather *gather;
	int rank;
	struct pmix_abi_proc proc;
	struct pmix_abi_info timeout;
};

struct gather {
	struct shared shared;
	int answers;  /* of any kind */
	int odd_rank; /* whose blob has another size; -1: nobody's */
	size_t odd_bytes;
	uint64_t missing[ACCEL_RANKS_WORDS];
	char key[KEY_BYTES];
	size_t bytes; /* of each */
	char *all;    /* [world, bytes], behind asks */
	struct ask asks[];
};

static void got(int status, struct pmix_abi_value *value, void *arg)
{
	struct ask *ask = arg;
	struct gather *gather = ask->gather;

	pthread_mutex_lock(&gather->shared.lock);
	gather->answers++;
	if (!status && value->type == PMIX_ABI_BYTE_OBJECT &&
	    value->data.object.size == gather->bytes) {
		memcpy(gather->all + (size_t)ask->rank * gather->bytes, value->data.object.bytes,
		       gather->bytes);
		accel_ranks_remove(gather->missing, ask->rank);
	} else if (!status) {
		gather->odd_rank = ask->rank;
		gather->odd_bytes = value->type == PMIX_ABI_BYTE_OBJECT ? value->data.object.size
									: 0;
	}
	shared_put(&gather->shared, true);
}

static struct gather *gather_create(const struct helper *helper, int rank, int world)
{
	size_t bytes = helper->bytes;
	size_t asks_bytes = (size_t)world * sizeof(struct ask);
	struct gather *gather = calloc(1, sizeof(*gather) + asks_bytes + (size_t)world * bytes);

	if (!gather)
		return NULL;
	shared_init(&gather->shared);
	gather->odd_rank = -1;
	memcpy(gather->key, helper->key, sizeof(gather->key));
	gather->bytes = bytes;
	gather->all = (char *)gather->asks + asks_bytes;
	for (int r = 0; r < world; r++) {
		gather->asks[r] = (struct ask){.gather = gather, .rank = r, .proc = helper->self};
		gather->asks[r].proc.rank = (uint32_t)r;
		if (r != rank)
			accel_ranks_add(gather->missing, r);
	}
	return gather;
}

/* Locked on entry and return. Ask for every blob that is missing. */
static void gather_ask(struct gather *gather, int world, int64_t deadline_ns)
{
	for (int r = 0; r < world; r++) {
		struct ask *ask = &gather->asks[r];

		if (!accel_ranks_has(gather->missing, r))
			continue;
		gather->shared.refs++;
		gather->shared.pending++;
		pthread_mutex_unlock(&gather->shared.lock);
		info_timeout(&ask->timeout, deadline_ns);
		/* A refusal is an answer, without a callback. */
		if (pmix.Get_nb(&ask->proc, gather->key, &ask->timeout, 1, got, ask))
			got(-1, NULL, ask);
		pthread_mutex_lock(&gather->shared.lock);
	}
}

/* Locked on entry and return. Until all are there, one is odd, or the deadline. */
static void gather_run(struct gather *gather, int world, int64_t deadline_ns)
{
	for (int again_ms = ASK_AGAIN_MS;; again_ms *= 2) {
		gather_ask(gather, world, deadline_ns);
		if (!shared_wait(&gather->shared, deadline_ns) || gather->odd_rank >= 0 ||
		    accel_ranks_first(gather->missing) < 0)
			return;
		if (again_ms > ASK_AGAIN_MS_MAX)
			again_ms = ASK_AGAIN_MS_MAX;
		pthread_mutex_unlock(&gather->shared.lock);
		poll(NULL, 0, accel_deadline_poll_ms(deadline_ns, again_ms));
		pthread_mutex_lock(&gather->shared.lock);
		if (accel_deadline_passed(deadline_ns))
			return;
	}
}

/* Locked. */
static int verdict(const struct gather *gather, const char *name, int world, int64_t timeout_ns)
{
	struct accel_failure where = {.rank = gather->odd_rank,
				      .phase = ACCEL_PHASE_CREATE,
				      .lane = -1,
				      .missing = gather->missing};
	char ranks[160];

	if (gather->odd_rank >= 0)
		return accel_fail(NULL, -EPROTO, &where,
				  "rank %d gave %zu bytes to PMIx where %zu were due: run the same "
				  "library on all ranks",
				  gather->odd_rank, gather->odd_bytes, gather->bytes);
	where.rank = accel_ranks_first(gather->missing);
	if (where.rank < 0)
		return 0;
	if (!gather->answers)
		return fail_silent("PMIx_Get", timeout_ns);
	return accel_fail(
		NULL, -ETIMEDOUT, &where,
		"%s of group \"%s\" (%d ranks) did not come to PMIx within %lld ms: every "
		"rank of the job must create the group, as often as the others do",
		accel_ranks_text(gather->missing, ranks, sizeof(ranks)), name, world,
		(long long)(timeout_ns / ACCEL_NS_PER_MS));
}

static int take(const struct helper *helper, const char *name, int rank, int world,
		int64_t timeout_ns, char *all)
{
	struct gather *gather = gather_create(helper, rank, world);
	int64_t deadline_ns = helper->deadline_ns;
	int rc;

	if (!gather)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for %d ranks", world);
	memcpy(gather->all + (size_t)rank * helper->bytes, helper->blob, helper->bytes);
	/* The fence took all the time. Who is there can be got at once. */
	if (accel_deadline_passed(deadline_ns))
		deadline_ns = accel_deadline_after(NAMING_NS);
	pthread_mutex_lock(&gather->shared.lock);
	gather_run(gather, world, deadline_ns);
	rc = verdict(gather, name, world, timeout_ns);
	if (!rc)
		memcpy(all, gather->all, (size_t)world * helper->bytes);
	shared_put(&gather->shared, false);
	return rc;
}

/* ---- Names ----------------------------------------------------------------------------------- */

/* A key can be put once: a name's groups are counted, and all ranks must come to the same count. */
struct name {
	struct name *next;
	unsigned count;
	char text[];
};

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static struct name *names;

/* The count of this group of that name, from 1; 0: no memory. */
static unsigned name_count(const char *text)
{
	struct name *name;
	unsigned count = 0;

	pthread_mutex_lock(&names_lock);
	for (name = names; name && strcmp(name->text, text); name = name->next)
		continue;
	if (!name) {
		name = calloc(1, sizeof(*name) + strlen(text) + 1);
		if (name) {
			memcpy(name->text, text, strlen(text));
			name->next = names;
			names = name;
		}
	}
	if (name)
		count = ++name->count;
	pthread_mutex_unlock(&names_lock);
	return count;
}

int accel_pmix_allgather(const char *name, int rank, int world, int64_t timeout_ns,
			 const void *mine, size_t bytes, void *all)
{
	struct helper *helper;
	unsigned count;
	int rc = prepare();

	if (rc)
		return rc;
	helper = helper_create(bytes, accel_deadline_after(timeout_ns));
	count = helper ? name_count(name) : 0;
	if (!count) {
		rc = accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to call PMIx");
		goto out;
	}
	snprintf(helper->key, sizeof(helper->key), "accel.%u.%s", count, name);
	memcpy(helper->blob, mine, bytes);
	rc = help(helper, timeout_ns);
	if (!rc)
		rc = take(helper, name, rank, world, timeout_ns, all);
out:
	helper_put(helper);
	return rc;
}
