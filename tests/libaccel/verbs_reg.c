// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Registrations of regions: by which way, how long they are kept, and what is said when none works.
 * The library underneath counts, and refuses what a test tells it to.
 */
#define _GNU_SOURCE
#include "verbs_reg.h"

#include "libaccel/error_is.h"
#include "libaccel/leaks.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#define PAGE UINT64_C(4096)
#define RAILS 2

/* What the library was told last, and holds. Its calls come from several threads at a time. */
static pthread_mutex_t nic_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	_Atomic int live, made;
	sem_t *entered,
		*leave; /* the next call says that it has come, and waits; NULL: none does */
	int dmabuf_error, mapping_error; /* answers; 0: registered */
	int fail_at;			 /* the n-th call alone fails, from 1; 0: each */
	int calls, dmabuf_calls;
	uint64_t offset, bytes, iova;
	void *addr;
	int fd, access;
} nic;

/* With nic_lock, which it gives back. */
static struct ibv_mr *mr_new(struct ibv_pd *pd, int error)
{
	sem_t *entered = nic.entered, *leave = nic.leave;
	bool fails = error && (!nic.fail_at || nic.calls + 1 == nic.fail_at);
	struct ibv_mr *mr;

	nic.calls++;
	nic.entered = nic.leave = NULL;
	pthread_mutex_unlock(&nic_lock);
	if (entered) {
		sem_post(entered);
		sem_wait(leave);
	}
	if (fails) {
		errno = error;
		return NULL;
	}
	mr = calloc(1, sizeof(*mr));
	if (mr)
		mr->pd = pd;
	nic.live++;
	nic.made++;
	return mr;
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t bytes, int access)
{
	pthread_mutex_lock(&nic_lock);
	nic.addr = addr;
	nic.bytes = bytes;
	nic.access = access;
	return mr_new(pd, nic.mapping_error);
}

static struct ibv_mr *reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t bytes, uint64_t iova,
				    int fd, int access)
{
	pthread_mutex_lock(&nic_lock);
	nic.dmabuf_calls++;
	nic.offset = offset;
	nic.bytes = bytes;
	nic.iova = iova;
	nic.fd = fd;
	nic.access = access;
	return mr_new(pd, nic.dmabuf_error);
}

static int dereg_mr(struct ibv_mr *mr)
{
	nic.live--;
	free(mr);
	return 0;
}

static const struct accel_verbs_api api = {
	.reg_mr = reg_mr, .reg_dmabuf_mr = reg_dmabuf_mr, .dereg_mr = dereg_mr};
static const struct accel_verbs_api old_api = {.reg_mr = reg_mr, .dereg_mr = dereg_mr};

/* Two rails of that library, and nothing registered. */
static struct accel_verbs verbs_of(const struct accel_verbs_api *of)
{
	static struct ibv_pd pds[RAILS];
	struct accel_verbs verbs = {.api = of,
				    .rail_count = RAILS,
				    .lock = PTHREAD_MUTEX_INITIALIZER,
				    .settled = PTHREAD_COND_INITIALIZER};

	memset(&nic, 0, sizeof(nic));
	for (int i = 0; i < RAILS; i++) {
		snprintf(verbs.rail[i].port.device, sizeof(verbs.rail[i].port.device), "mlx5_%d",
			 i);
		verbs.rail[i].port.port = 1;
		verbs.rail[i].pd = &pds[i];
	}
	return verbs;
}

/* A region of plain memory, as a bare pointer's. */
static struct accel_region *region_of(uint64_t id, void *addr, uint64_t bytes)
{
	struct accel_region *region = NULL;

	CHECK_EQ(accel_region_import_ptr(NULL, id, addr, bytes, &region), 0);
	return region;
}

static int use(struct accel_verbs *verbs, struct accel_region *region, uint64_t offset,
	       uint64_t bytes, bool remote_write, struct accel_verbs_mr **mr)
{
	*mr = NULL;
	return accel_verbs_use(verbs, NULL, region, offset, bytes, remote_write, mr);
}

static uint8_t memory[8 * PAGE] __attribute__((aligned(4096)));

TEST(verbs_reg, a_range_is_kept_and_found_again)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region = region_of(1, memory, sizeof(memory));
	struct accel_verbs_mr *all, *part, *again;

	REQUIRE_EQ(use(&verbs, region, 0, region->bytes, false, &all), 0);
	CHECK_EQ(nic.live, RAILS);
	CHECK_EQ(nic.access, 0);
	CHECK(nic.addr == memory && nic.bytes == sizeof(memory));
	CHECK(all->mr[0]->pd == verbs.rail[0].pd && all->mr[1]->pd == verbs.rail[1].pd);
	REQUIRE_EQ(use(&verbs, region, PAGE + 7, 100, false, &part), 0);
	CHECK(part == all);
	CHECK_EQ(all->users, 2);
	CHECK_EQ(verbs.registrations, 1);
	accel_verbs_unuse(&verbs, part);
	accel_verbs_unuse(&verbs, all);
	CHECK_EQ(nic.live, RAILS); /* kept without users */
	REQUIRE_EQ(use(&verbs, region, sizeof(memory) - 1, 1, false, &again), 0);
	CHECK(again == all);
	accel_verbs_unuse(&verbs, again);
	accel_verbs_unuse(&verbs, NULL);
	accel_verbs_forget(&verbs, 1);
	CHECK_EQ(nic.live, 0);
	CHECK(!verbs.mrs);
	accel_region_put(region);
}

TEST(verbs_reg, peers_write_exactly_what_was_opened_to_them)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region = region_of(1, memory, sizeof(memory));
	struct accel_verbs_mr *all, *inbox, *less, *again, *read;

	REQUIRE_EQ(use(&verbs, region, 0, region->bytes, false, &all), 0);
	REQUIRE_EQ(use(&verbs, region, PAGE, 2 * PAGE, true, &inbox), 0);
	CHECK(inbox != all && inbox->addr == memory + PAGE && inbox->bytes == 2 * PAGE);
	CHECK_EQ(nic.access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	REQUIRE_EQ(use(&verbs, region, PAGE, PAGE, true, &less), 0);
	CHECK(less != inbox);
	REQUIRE_EQ(use(&verbs, region, PAGE, 2 * PAGE, true, &again), 0);
	CHECK(again == inbox);
	REQUIRE_EQ(use(&verbs, region, 0, 2 * PAGE, false, &read), 0);
	CHECK(read == all);
	CHECK_EQ(verbs.registrations, 3);
	for (struct accel_verbs_mr *const *mr =
		     (struct accel_verbs_mr *const[]){all, inbox, less, again, read, NULL};
	     *mr; mr++)
		accel_verbs_unuse(&verbs, *mr);
	accel_verbs_forget(&verbs, 1);
	CHECK_EQ(nic.live, 0);
	accel_region_put(region);
}

/* A range that sticks out of what is known is another. */
TEST(verbs_reg, what_is_covered_in_part_is_registered_anew)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region = region_of(1, memory, sizeof(memory));
	static const struct {
		uint64_t offset, bytes;
		bool found;
	} cases[] = {
		{PAGE, PAGE, true},	    {PAGE, PAGE + 1, false}, {PAGE - 1, PAGE, false},
		{2 * PAGE - 1, 1, true},    {2 * PAGE, 1, false},    {PAGE - 1, 1, false},
		{0, sizeof(memory), false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct accel_verbs_mr *first, *second;

		REQUIRE_EQ(use(&verbs, region, PAGE, PAGE, false, &first), 0);
		REQUIRE_EQ(use(&verbs, region, cases[i].offset, cases[i].bytes, false, &second), 0);
		CHECK_EQ(first == second, cases[i].found);
		accel_verbs_unuse(&verbs, first);
		accel_verbs_unuse(&verbs, second);
		accel_verbs_forget(&verbs, 1);
		CHECK_EQ(nic.live, 0);
	}
	accel_region_put(region);
}

TEST(verbs_reg, memory_in_use_again_under_its_address_is_registered_anew)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_verbs_mr *old, *new;
	struct accel_region *region;
	void *addr = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(addr != MAP_FAILED);
	region = region_of(1, addr, PAGE);
	REQUIRE_EQ(use(&verbs, region, 0, PAGE, false, &old), 0);
	accel_verbs_unuse(&verbs, old);
	accel_verbs_forget(&verbs, region->id);
	accel_region_put(region);
	CHECK(!munmap(addr, PAGE));
	CHECK(mmap(addr, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == addr);
	region = region_of(2, addr, PAGE);
	REQUIRE_EQ(use(&verbs, region, 0, PAGE, false, &new), 0);
	CHECK_EQ(nic.made, 2 * RAILS);
	CHECK_EQ(nic.live, RAILS);
	accel_verbs_unuse(&verbs, new);
	accel_verbs_forget(&verbs, 2);
	accel_region_put(region);
	munmap(addr, PAGE);
	CHECK_EQ(nic.live, 0);
}

TEST(verbs_reg, one_that_goes_while_it_is_in_use_stays_until_it_is_not)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *old = region_of(1, memory, PAGE), *new = region_of(2, memory, PAGE);
	struct accel_verbs_mr *posted, *twice, *other;

	REQUIRE_EQ(use(&verbs, old, 0, PAGE, false, &posted), 0);
	REQUIRE_EQ(use(&verbs, old, 0, PAGE, false, &twice), 0);
	accel_verbs_forget(&verbs, 1);
	CHECK_EQ(nic.live, RAILS); /* the NIC may still read it */
	REQUIRE_EQ(use(&verbs, new, 0, PAGE, false, &other), 0);
	CHECK(other != posted);
	accel_verbs_unuse(&verbs, posted);
	CHECK_EQ(nic.live, 2 * RAILS);
	accel_verbs_unuse(&verbs, twice);
	CHECK_EQ(nic.live, RAILS);
	accel_verbs_unuse(&verbs, other);
	accel_verbs_forget(&verbs, 0); /* of every region */
	CHECK_EQ(nic.live, 0);
	accel_region_put(old);
	accel_region_put(new);
}

/* ---- By which way ---------------------------------------------------------------------------- */

/* Its descriptor stands for a dma-buf of another driver; the library below does not look. */
static struct accel_region *dmabuf_region(uint64_t id, uint64_t fd_offset)
{
	struct accel_region *region = region_of(id, memory, sizeof(memory));

	region->nic_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	region->fd_offset = fd_offset;
	CHECK(region->nic_fd >= 0);
	return region;
}

TEST(verbs_reg, a_dma_buf_is_named_by_its_offset_and_the_mapping_s_address)
{
	struct leaks before = leaks_count();
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region = dmabuf_region(1, 16 * PAGE);
	struct accel_verbs_mr *mr;

	REQUIRE_EQ(use(&verbs, region, PAGE + 5, 100, true, &mr), 0);
	CHECK_EQ(nic.dmabuf_calls, RAILS);
	CHECK_EQ(nic.calls, RAILS);
	CHECK_EQ(nic.offset, 17 * PAGE + 5);
	CHECK_EQ(nic.iova, (uintptr_t)memory + PAGE + 5);
	CHECK_EQ(nic.bytes, 100);
	CHECK_EQ(nic.fd, region->nic_fd);
	CHECK_EQ(nic.access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	accel_verbs_unuse(&verbs, mr);
	accel_verbs_forget(&verbs, 1);
	accel_region_put(region);
	CHECK_NO_LEAKS(before);
}

TEST(verbs_reg, a_dma_buf_that_is_refused_is_registered_as_it_is_mapped)
{
	static const int refusals[] = {EOPNOTSUPP, EINVAL, ENOMEM, EBADF};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		struct accel_verbs verbs = verbs_of(&api);
		struct accel_region *region = dmabuf_region(1, 0);
		struct accel_verbs_mr *mr;

		/* Every other call is a dma-buf's: rail 0, its mapping, rail 1, its mapping. */
		nic.dmabuf_error = refusals[i];
		REQUIRE_EQ(use(&verbs, region, 0, PAGE, false, &mr), 0);
		CHECK_EQ(nic.dmabuf_calls, RAILS);
		CHECK_EQ(nic.calls, 2 * RAILS);
		CHECK(nic.addr == memory);
		CHECK_EQ(nic.live, RAILS);
		/* Another driver may refuse what the next one does not: each is asked. */
		CHECK(!verbs.rail[0].no_dmabuf);
		accel_verbs_unuse(&verbs, mr);
		accel_verbs_forget(&verbs, 1);
		accel_region_put(region);
	}
}

TEST(verbs_reg, a_library_without_dma_bufs_gets_mappings)
{
	struct accel_verbs verbs = verbs_of(&old_api);
	struct accel_region *region = dmabuf_region(1, 0);
	struct accel_verbs_mr *mr;

	REQUIRE_EQ(use(&verbs, region, 0, PAGE, false, &mr), 0);
	CHECK_EQ(nic.calls, RAILS);
	accel_verbs_unuse(&verbs, mr);
	nic.mapping_error = EFAULT;
	CHECK_EQ(use(&verbs, region, 0, 2 * PAGE, false, &mr), -EOPNOTSUPP);
	CHECK_SAYS("as a dma-buf: Operation not supported");
	accel_verbs_forget(&verbs, 1);
	accel_region_put(region);
}

TEST(verbs_reg, a_memfd_is_no_dma_buf)
{
	static const struct accel_region_opts opts = {.numa_node = -1, .what = "test"};
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region;
	struct accel_verbs_mr *mr;

	REQUIRE_EQ(accel_region_create(NULL, 1, PAGE, &opts, &region), 0);
	REQUIRE_EQ(use(&verbs, region, 0, PAGE, false, &mr), 0);
	CHECK_EQ(nic.dmabuf_calls, 0);
	accel_verbs_unuse(&verbs, mr);
	accel_verbs_forget(&verbs, 1);
	accel_region_put(region);
}

/* ---- When none works ------------------------------------------------------------------------- */

TEST(verbs_reg, when_neither_way_works_both_answers_are_told)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region = dmabuf_region(1, 0), *plain = region_of(2, memory, PAGE);
	struct accel_verbs_mr *mr;

	nic.dmabuf_error = EINVAL;
	nic.mapping_error = EFAULT;
	CHECK_EQ(use(&verbs, region, 0, 2 * PAGE, false, &mr), -EOPNOTSUPP);
	CHECK(!mr);
	CHECK_SAYS("mlx5_0");
	CHECK_SAYS("8192 bytes");
	CHECK_SAYS("as a dma-buf: Invalid argument");
	CHECK_SAYS("as they are mapped: Bad address");
	CHECK_EQ(use(&verbs, plain, 0, PAGE, false, &mr), -EOPNOTSUPP);
	CHECK_SAYS("as a dma-buf: it is none");
	nic.mapping_error = EIO;
	CHECK_EQ(use(&verbs, plain, 0, PAGE, false, &mr), -EIO);
	CHECK(!verbs.mrs);
	CHECK_EQ(verbs.registrations, 0);
	accel_region_put(region);
	accel_region_put(plain);
}

TEST(verbs_reg, a_rail_that_refuses_leaves_nothing_with_the_others)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region = region_of(1, memory, PAGE);
	struct accel_verbs_mr *mr;

	nic.mapping_error = EIO;
	nic.fail_at = RAILS;
	CHECK_EQ(use(&verbs, region, 0, PAGE, false, &mr), -EIO);
	CHECK_SAYS("mlx5_1");
	CHECK_EQ(nic.made, RAILS - 1);
	CHECK_EQ(nic.live, 0);
	CHECK_EQ(use(&verbs, region, 0, PAGE, false, &mr), 0); /* and is asked again */
	accel_verbs_unuse(&verbs, mr);
	accel_verbs_forget(&verbs, 1);
	CHECK_EQ(nic.live, 0);
	accel_region_put(region);
}

TEST(verbs_reg, no_room_names_the_limit_and_how_to_raise_it)
{
	struct accel_verbs verbs = verbs_of(&api);
	struct accel_region *region = region_of(1, memory, sizeof(memory));
	struct rlimit before, tight;
	struct accel_verbs_mr *mr;

	REQUIRE(!getrlimit(RLIMIT_MEMLOCK, &before));
	tight = (struct rlimit){.rlim_cur = 4 * PAGE, .rlim_max = before.rlim_max};
	nic.mapping_error = ENOMEM;
	REQUIRE(!setrlimit(RLIMIT_MEMLOCK, &tight));
	CHECK_EQ(use(&verbs, region, 0, sizeof(memory), false, &mr), -ENOMEM);
	CHECK_SAYS("RLIMIT_MEMLOCK is 16384");
	CHECK_SAYS("LimitMEMLOCK=infinity");
	CHECK_SAYS("/etc/security/limits.d");
	/* What the limit has room for failed for another reason. */
	CHECK_EQ(use(&verbs, region, 0, PAGE, false, &mr), -ENOMEM);
	CHECK(!strstr(error_text(), "MEMLOCK"));
	CHECK(!setrlimit(RLIMIT_MEMLOCK, &before));
	accel_region_put(region);
}

/* ---- Threads --------------------------------------------------------------------------------- */

#define THREADS 4
#define ROUNDS 2000

static struct accel_verbs shared;
static struct accel_region *tensors[2 * THREADS];
static uint64_t seed;

/* Every thread uses all tensors, and makes one of its own go and come again under a new id. */
static void *churn(void *arg)
{
	uint64_t state = seed + (uintptr_t)arg;
	uint64_t id = 100 + (uintptr_t)arg * ROUNDS;
	struct accel_region *own = region_of(id, memory, sizeof(memory));
	struct accel_verbs_mr *held = NULL;

	for (int i = 0; i < ROUNDS; i++) {
		struct accel_region *tensor = tensors[tap_random_below(&state, 2 * THREADS)];
		uint64_t at = tap_random_below(&state, sizeof(memory));
		struct accel_verbs_mr *mr, *mine;

		CHECK_EQ(accel_verbs_use(&shared, NULL, tensor, 0, sizeof(memory), at & 1, &mr), 0);
		CHECK_EQ(mr->id, tensor->id);
		CHECK_EQ(accel_verbs_use(&shared, NULL, own, at, 1, false, &mine), 0);
		CHECK_EQ(mine->id, own->id);
		accel_verbs_unuse(&shared, held);
		held = mine;
		if (!(i % 8)) {
			accel_verbs_forget(&shared, own->id); /* while it is held */
			accel_region_put(own);
			own = region_of(++id, memory, sizeof(memory));
		}
		accel_verbs_unuse(&shared, mr);
	}
	accel_verbs_unuse(&shared, held);
	accel_verbs_forget(&shared, own->id);
	accel_region_put(own);
	return NULL;
}

TEST(verbs_reg, threads_share_registrations)
{
	pthread_t threads[THREADS];

	shared = verbs_of(&api);
	seed = tap_seed();
	for (uint64_t i = 0; i < 2 * THREADS; i++)
		tensors[i] = region_of(1 + i, memory, sizeof(memory));
	for (uintptr_t i = 0; i < THREADS; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, churn, (void *)i));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	/* None twice; to read, what is open to writers does. */
	for (struct accel_verbs_mr *mr = shared.mrs; mr; mr = mr->next)
		for (struct accel_verbs_mr *other = mr->next; other; other = other->next)
			CHECK(mr->id != other->id || mr->remote_write != other->remote_write);
	for (uint64_t i = 0; i < 2 * THREADS; i++) {
		accel_verbs_forget(&shared, tensors[i]->id);
		accel_region_put(tensors[i]);
	}
	CHECK_EQ(nic.live, 0);
	CHECK(!shared.mrs);
}

/* A thread that uses all of a tensor; its answer is rc. */
struct user {
	struct accel_region *region;
	struct accel_verbs_mr *mr;
	int rc;
	pthread_t thread;
};

static void *use_all(void *arg)
{
	struct user *user = arg;

	user->rc = use(&shared, user->region, 0, user->region->bytes, false, &user->mr);
	return NULL;
}

/* Has the thread ended, within a second? */
static bool has_ended(const struct user *user)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec++;
	return !pthread_timedjoin_np(user->thread, NULL, &end);
}

/* The first call of the library takes as long as the test says. */
static void slow_start(struct user *user, sem_t gate[2])
{
	shared = verbs_of(&api);
	sem_init(&gate[0], 0, 0);
	sem_init(&gate[1], 0, 0);
	nic.entered = &gate[0];
	nic.leave = &gate[1];
	user->region = region_of(1, memory, sizeof(memory));
	CHECK_EQ(pthread_create(&user->thread, NULL, use_all, user), 0);
	sem_wait(&gate[0]);
}

TEST(verbs_reg, one_that_takes_long_keeps_nobody_else_waiting)
{
	struct user slow = {0}, same = {0};
	struct accel_region *other = region_of(2, memory, PAGE);
	struct accel_verbs_mr *mr;
	sem_t gate[2];

	slow_start(&slow, gate);
	/* Were the lock held, this would hang, and the test's time limit end it. */
	CHECK_EQ(use(&shared, other, 0, PAGE, false, &mr), 0);
	accel_verbs_unuse(&shared, mr);
	accel_verbs_forget(&shared, 2);
	CHECK_EQ(nic.live, 0);
	/* The same range is not registered twice: who wants it waits. */
	same.region = slow.region;
	REQUIRE_EQ(pthread_create(&same.thread, NULL, use_all, &same), 0);
	CHECK(!has_ended(&same));
	sem_post(&gate[1]);
	CHECK(has_ended(&slow) && has_ended(&same));
	CHECK(slow.rc == 0 && same.rc == 0 && slow.mr == same.mr);
	CHECK_EQ(slow.mr->users, 2);
	CHECK_EQ(nic.live, RAILS);
	accel_verbs_unuse(&shared, slow.mr);
	accel_verbs_unuse(&shared, same.mr);
	accel_verbs_forget(&shared, 1);
	CHECK_EQ(nic.live, 0);
	accel_region_put(slow.region);
	accel_region_put(other);
}

TEST(verbs_reg, one_that_fails_is_tried_again_by_who_waited)
{
	struct user slow = {0}, same = {0};
	sem_t gate[2];

	slow_start(&slow, gate);
	nic.mapping_error = EIO;
	nic.fail_at = 2; /* its second rail */
	same.region = slow.region;
	REQUIRE_EQ(pthread_create(&same.thread, NULL, use_all, &same), 0);
	CHECK(!has_ended(&same));
	sem_post(&gate[1]);
	CHECK(has_ended(&slow) && has_ended(&same));
	CHECK_EQ(slow.rc, -EIO);
	CHECK_EQ(same.rc, 0);
	CHECK_EQ(nic.live, RAILS);
	accel_verbs_unuse(&shared, same.mr);
	accel_verbs_forget(&shared, 1);
	CHECK_EQ(nic.live, 0);
	CHECK(!shared.mrs);
	accel_region_put(slow.region);
}
