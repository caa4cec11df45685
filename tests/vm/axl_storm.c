// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Clients of accel.ko that die, and a module and devices that come and go: clients are killed in the
 * middle of whatever they do, the module is loaded and unloaded, a device is taken away with
 * everything on it in use. Afterwards nothing is left, and what was mapped held to the end.
 */
#define _GNU_SOURCE
#include "node.h"
#include "ranks.h"
#include "rxe.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define CLIENTS 8u
#define KILLS 150u
#define KILLS_MIN 30u
#define STORM_NS_MAX UINT64_C(60000000000) /* a kernel that watches itself is slow */
#define KILLS_REGISTERED 40u		   /* each opens the RDMA device, which takes long */
#define RELOADS 50u
#define RELOADS_MIN 10u
/* On the debug kernel, where DEBUG_KOBJECT_RELEASE makes one take 10 s. */
#define RELOADS_NS_MAX UINT64_C(120000000000)
#define REMOVALS 8u
#define REMOVAL_S_MAX 20
#define HELD 6u /* buffers that a client holds at a time */

/* ---- A client that never rests --------------------------------------------------------------- */

struct held {
	uint32_t handle;
	int dmabuf;
	size_t bytes;
	void *at;
	uint64_t seed; /* of what is written there */
	struct ibv_mr *mr;
};

struct client {
	unsigned rank;	/* of the device */
	int progress;	/* a byte is written here after every step */
	int pair[2];	/* sockets on which descriptors travel between the clients */
	bool registers; /* with Soft-RoCE */
	uint64_t random;
};

static void held_drop(int file, struct held *held)
{
	if (held->mr)
		ibv_dereg_mr(held->mr);
	if (held->at)
		munmap(held->at, held->bytes);
	if (held->dmabuf > 0)
		close(held->dmabuf);
	if (held->handle)
		bo_close(file, held->handle);
	memset(held, 0, sizeof(*held));
}

/* Makes, maps and writes one; false when the device refuses. */
static bool held_make(int file, struct client *client, struct held *held)
{
	uint32_t flags = tap_random(&client->random) & 1 ? AXL_BO_F_SMALL_PAGES : 0;

	size_t pages_max = tap_random(&client->random) % 8 ? 40 : 700;

	held->bytes = (1 + tap_random_below(&client->random, pages_max)) * PAGE;
	if (bo_create(file, held->bytes, flags, &held->handle))
		return false;
	held->at = bo_map(file, held->handle, held->bytes);
	if (!held->at)
		return false;
	held->seed = tap_random(&client->random);
	pattern_write(held->at, held->bytes, held->seed);
	return true;
}

/* Hands a dma-buf to whoever takes it, and takes what others have handed over. */
static void pass_on(int file, struct client *client, struct held *held)
{
	struct pollfd waiting = {.fd = client->pair[1], .events = POLLIN};
	uint32_t handle;
	int fd;

	if (held->dmabuf <= 0)
		held->dmabuf = bo_export(file, held->handle, DRM_RDWR | DRM_CLOEXEC);
	fcntl(client->pair[0], F_SETFL, O_NONBLOCK);
	fcntl(client->pair[1], F_SETFL, O_NONBLOCK);
	if (held->dmabuf > 0)
		fd_send(client->pair[0], held->dmabuf);
	if (poll(&waiting, 1, 0) != 1)
		return;
	fd = fd_receive(client->pair[1]);
	if (fd < 0)
		return;
	bo_import(file, fd, &handle);
	close(fd);
}

static int client_run(void *arg)
{
	struct client *client = arg;
	struct held held[HELD] = {0};
	struct rxe rxe = {0};
	int file = node_open(client->rank);
	char byte = 0;

	if (file < 0)
		pause(); /* the device was gone before we came */
	if (client->registers && rxe_open(&rxe))
		return 1;
	for (;;) {
		struct held *one = &held[tap_random_below(&client->random, HELD)];

		if (!one->handle) {
			if (!held_make(file, client, one))
				held_drop(file, one);
		} else if (!pattern_holds(one->at, one->bytes, one->seed)) {
			return 2;
		} else if (rxe.pd && !one->mr && tap_random_below(&client->random, 3) == 0) {
			one->mr = ibv_reg_mr(rxe.pd, one->at, one->bytes,
					     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
		} else if (tap_random_below(&client->random, 3) == 0) {
			pass_on(file, client, one);
		} else {
			held_drop(file, one);
		}
		if (write(client->progress, &byte, 1) != 1)
			return 3;
	}
}

/* ---- Killed ---------------------------------------------------------------------------------- */

static bool is_empty(void *file)
{
	return node_bos(*(int *)file) == 0;
}

static void check_empty(int file)
{
	struct drm_axl_memory memory;
	char path[96];

	/* Descriptors under way between dead processes are collected by and by. */
	CHECK(wait_until(is_empty, &file, 20));
	CHECK(!node_memory(file, AXL_QUERY_MEMORY, &memory) && memory.bytes_used == 0);
	CHECK(!node_memory(file, AXL_QUERY_USER, &memory) && memory.bytes_used == 0);
	snprintf(path, sizeof(path), "/sys/class/accel/accel%u/mem_used_bytes", node_number(file));
	CHECK_EQ(file_number(path), 0);
	snprintf(path, sizeof(path), "/sys/class/accel/accel%u/bo_count", node_number(file));
	CHECK_EQ(file_number(path), 0);
}

/* Lets all clients together make so many steps. */
static bool steps(int progress, unsigned count)
{
	struct pollfd waiting = {.fd = progress, .events = POLLIN};
	char bytes[64];

	while (count) {
		ssize_t got;

		if (poll(&waiting, 1, 60000) != 1)
			return CHECK(!"a step in a minute");
		got = read(progress, bytes, count < sizeof(bytes) ? count : sizeof(bytes));
		if (got <= 0)
			return CHECK(!"a client is left");
		count -= (unsigned)got;
	}
	return true;
}

struct storm {
	struct client client;
	pid_t pids[CLIENTS];
	int progress[2];
};

static bool storm_start(struct storm *storm, unsigned rank, bool registers)
{
	memset(storm, 0, sizeof(*storm));
	storm->client.rank = rank;
	storm->client.registers = registers;
	storm->client.random = tap_seed();
	if (!CHECK(!pipe2(storm->progress, O_CLOEXEC)) ||
	    !CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, storm->client.pair)))
		return false;
	storm->client.progress = storm->progress[1];
	for (unsigned i = 0; i < CLIENTS; i++) {
		tap_random(&storm->client.random);
		storm->pids[i] = child_start(client_run, &storm->client);
	}
	return true;
}

static void storm_kill(struct storm *storm, unsigned i)
{
	kill(storm->pids[i], SIGKILL);
	CHECK_EQ(child_wait(storm->pids[i]), 128 + SIGKILL);
}

static void storm_end(struct storm *storm)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		storm_kill(storm, i);
	for (unsigned i = 0; i < 2; i++) {
		close(storm->progress[i]);
		close(storm->client.pair[i]);
	}
}

static void kill_storm(bool registers, unsigned kills)
{
	int file = node_open(0);
	struct storm storm;
	uint64_t random;
	uint64_t ends_ns;

	REQUIRE(file >= 0);
	check_empty(file);
	REQUIRE(storm_start(&storm, 0, registers));
	random = storm.client.random;
	ends_ns = ranks_now_ns() + STORM_NS_MAX;
	for (unsigned n = 0; n < kills && !tap_failing(); n++) {
		if (n >= KILLS_MIN && ranks_now_ns() > ends_ns) {
			tap_diag("%u of %u kills in the time there is", n, kills);
			break;
		}
		unsigned i = (unsigned)tap_random_below(&random, CLIENTS);

		if (!steps(storm.progress[0], 1 + (unsigned)tap_random_below(&random, 12)))
			break;
		storm_kill(&storm, i);
		storm.client.random = tap_random(&random);
		storm.pids[i] = child_start(client_run, &storm.client);
	}
	storm_end(&storm);
	check_empty(file);
	close(file);
}

TEST(client, killed_at_any_time_leaves_nothing)
{
	kill_storm(false, KILLS);
	CHECK_EQ(module_load("soft=1"), 0);
}

TEST(client, killed_with_registered_memory_leaves_nothing)
{
	if (!rxe_up())
		SKIP("no rxe device");
	kill_storm(true, KILLS_REGISTERED);
	CHECK_EQ(module_load("soft=1"), 0);
}

/* ---- The module ------------------------------------------------------------------------------ */

static int module_remove(void)
{
	return syscall(SYS_delete_module, "accel", O_NONBLOCK) ? -errno : 0;
}

/* The file of the module, opened. */
static int module_open(void)
{
	char path[512] = "";
	FILE *pipe = popen("modinfo -n accel", "re");

	if (pipe && fgets(path, sizeof(path), pipe))
		path[strcspn(path, "\n")] = '\0';
	if (pipe)
		pclose(pipe);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool is_debug_kernel(void)
{
	struct utsname name;

	return !uname(&name) && strstr(name.release, "axl-debug");
}

TEST(module, loads_and_unloads_many_times)
{
	const uint64_t begin_ns = ranks_now_ns();
	int module, file;
	uint32_t handle;

	file = node_open(0); /* so that what the module needs is loaded */
	close(file);
	module = module_open();
	REQUIRE(module >= 0);
	for (unsigned i = 0; i < RELOADS; i++) {
		char parameters[16];
		void *at;

		if (is_debug_kernel() && i >= RELOADS_MIN &&
		    ranks_now_ns() - begin_ns > RELOADS_NS_MAX) {
			tap_diag("%u of %u reloads in the time there is", i, RELOADS);
			break;
		}
		if (!CHECK_EQ(module_remove(), 0))
			break;
		snprintf(parameters, sizeof(parameters), "soft=%u", i % 5);
		CHECK_EQ(syscall(SYS_finit_module, module, parameters, 0), 0);
		if (i % 5 == 0) {
			CHECK_EQ(node_open(0), -ENODEV);
			continue;
		}
		file = node_open(i % 5 - 1);
		if (!CHECK(file >= 0) || !CHECK_EQ(bo_create(file, 3 * MIB, 0, &handle), 0))
			break;
		at = bo_map(file, handle, 3 * MIB);
		CHECK(at && is_zero(at, 3 * MIB));
		memset(at, 1, 3 * MIB);
		munmap(at, 3 * MIB);
		CHECK_EQ(node_open(i % 5), -ENODEV);
		close(file);
	}
	close(module);
	CHECK_EQ(module_load("soft=1"), 0);
}

TEST(module, stays_while_anything_of_it_is_held)
{
	int file = node_open(0), dmabuf;
	uint32_t handle;
	void *at;

	REQUIRE(file >= 0);
	CHECK_EQ(module_remove(), -EAGAIN);
	CHECK_EQ(bo_create(file, PAGE, 0, &handle), 0);
	at = bo_map(file, handle, PAGE);
	dmabuf = bo_export(file, handle, DRM_RDWR | DRM_CLOEXEC);
	close(file);
	CHECK_EQ(module_remove(), -EAGAIN);
	munmap(at, PAGE);
	CHECK_EQ(module_remove(), -EAGAIN);
	at = fd_map(dmabuf, PAGE, PROT_READ);
	close(dmabuf);
	CHECK_EQ(module_remove(), -EAGAIN);
	munmap(at, PAGE);
	CHECK_EQ(module_remove(), 0);
	CHECK_EQ(module_load("soft=1"), 0);
}

/* ---- Hot removal ----------------------------------------------------------------------------- */

TEST(device, adds_and_removes_by_number)
{
	CHECK_EQ(device_add(31), 0);
	CHECK_EQ(device_add(31), -EEXIST);
	CHECK_EQ(device_del(31), 0);
	CHECK_EQ(device_del(31), -ENOENT);
	CHECK_EQ(device_add(100000), -EINVAL);
	CHECK_EQ(file_write("/sys/bus/axl_soft/new_device", "x"), -EINVAL);
	CHECK_EQ(file_write("/sys/bus/axl_soft/new_device", "31 1000"), -ENOENT);
	CHECK_EQ(file_write("/sys/bus/axl_soft/new_device", "31 0"), 0);
	CHECK_EQ(device_del(31), 0);
}

TEST(device, removed_fails_every_call_and_keeps_its_memory)
{
	struct drm_axl_bo_info info;
	struct drm_axl_memory memory;
	uint64_t offset, value;
	uint32_t handle, other;
	char path[64];
	int file, dmabuf;
	void *at, *late;

	REQUIRE_EQ(device_add(32), 0);
	file = node_open(1);
	REQUIRE(file >= 0);
	snprintf(path, sizeof(path), "/dev/accel/accel%u", node_number(file));
	REQUIRE_EQ(bo_create(file, 5 * MIB, 0, &handle), 0);
	CHECK_EQ(bo_offset(file, handle, &offset), 0);
	at = bo_map(file, handle, 5 * MIB);
	dmabuf = bo_export(file, handle, DRM_RDWR | DRM_CLOEXEC);
	REQUIRE(at && dmabuf >= 0);
	pattern_write(at, 2 * MIB, 1);
	CHECK_EQ(device_del(32), 0);

	CHECK_EQ(node_param(file, AXL_PARAM_API_MAJOR, &value), -ENODEV);
	CHECK_EQ(bo_create(file, PAGE, 0, &other), -ENODEV);
	CHECK_EQ(bo_info(file, handle, &info), -ENODEV);
	CHECK_EQ(bo_offset(file, handle, &offset), -ENODEV);
	CHECK_EQ(node_memory(file, AXL_QUERY_MEMORY, &memory), -ENODEV);
	CHECK_EQ(bo_export(file, handle, DRM_RDWR), -ENODEV);
	CHECK_EQ(bo_import(file, dmabuf, &other), -ENODEV);
	CHECK_EQ(bo_close(file, handle), -ENODEV);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, (off_t)offset) == MAP_FAILED);
	CHECK(open(path, O_RDWR | O_CLOEXEC) < 0);

	CHECK(pattern_holds(at, 2 * MIB, 1));
	pattern_write(at, 5 * MIB, 2); /* and where nobody had been yet */
	CHECK(pattern_holds(at, 5 * MIB, 2));
	late = fd_map(dmabuf, 5 * MIB, PROT_READ | PROT_WRITE);
	CHECK(late && pattern_holds(late, 5 * MIB, 2));
	close(file);
	munmap(at, 5 * MIB);
	CHECK(pattern_holds(late, 5 * MIB, 2));
	munmap(late, 5 * MIB);
	close(dmabuf);
}

/* A page that comes when this process says so, as that of a file of FUSE comes when its server does. */
struct late_page {
	int uffd, file, rc; /* rc: of the ioctl whose argument lies in it */
	void *at;
};

static bool late_page_open(struct late_page *late)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	late->at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range = (struct uffdio_range){.start = (uintptr_t)late->at, .len = PAGE};
	return CHECK(late->uffd >= 0) && CHECK(late->at != MAP_FAILED) &&
	       CHECK_EQ(ioctl(late->uffd, UFFDIO_API, &api), 0) &&
	       CHECK_EQ(ioctl(late->uffd, UFFDIO_REGISTER, &range), 0);
}

static void *ask_with_late_page(void *arg)
{
	struct late_page *late = arg;

	late->rc = ioctl(late->file, DRM_IOCTL_AXL_GET_PARAM, late->at) ? -errno : 0;
	return NULL;
}

static void *del_device(void *arg)
{
	*(int *)arg = device_del(34);
	return NULL;
}

TEST(device, removed_waits_for_no_caller)
{
	struct late_page late = {.rc = 1};
	struct uffdio_zeropage page = {0};
	struct uffd_msg fault;
	struct timespec end;
	pthread_t asker, remover;
	int rc = 1;

	late.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (late.uffd < 0 && errno == ENOSYS)
		SKIP("this kernel has no userfaultfd");
	REQUIRE_EQ(device_add(34), 0);
	late.file = node_open(1);
	REQUIRE(late.file >= 0 && late_page_open(&late));
	REQUIRE_EQ(pthread_create(&asker, NULL, ask_with_late_page, &late), 0);
	REQUIRE_EQ(read(late.uffd, &fault, sizeof(fault)), sizeof(fault));
	REQUIRE_EQ(pthread_create(&remover, NULL, del_device, &rc), 0);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += REMOVAL_S_MAX;
	CHECK_EQ(pthread_timedjoin_np(remover, NULL, &end), 0);
	CHECK_EQ(rc, 0);
	page.range = (struct uffdio_range){.start = (uintptr_t)late.at, .len = PAGE};
	CHECK_EQ(ioctl(late.uffd, UFFDIO_ZEROPAGE, &page), 0);
	CHECK_EQ(pthread_join(asker, NULL), 0);
	CHECK_EQ(late.rc, -ENODEV);
	close(late.uffd);
	close(late.file);
	munmap(late.at, PAGE);
}

TEST(device, removed_under_load_again_and_again)
{
	for (unsigned round = 0; round < REMOVALS && !tap_failing(); round++) {
		struct storm storm;

		REQUIRE_EQ(device_add(33), 0);
		REQUIRE(storm_start(&storm, 1, false));
		steps(storm.progress[0], 100 + 10 * round);
		CHECK_EQ(device_del(33), 0);
		/* They go on with what they have mapped until they are ended. */
		steps(storm.progress[0], 400);
		storm_end(&storm);
	}
	CHECK_EQ(module_load("soft=1"), 0);
}
