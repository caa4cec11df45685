// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Every allocation and user copy of the kernel on the way of accel.ko's calls fails once: a sequence
 * of calls is run with /proc/thread-self/fail-nth at 1, 2, 3 ... until a run meets no failure. A
 * failed call must give an error of the contract, and what it began must be gone: buffers, bytes and
 * descriptors are as many as before. Splats and leaks are for the kernel's log and kmemleak to tell.
 * A device that comes is not swept: drm_dev_init() of 6.12 puts an error pointer when it finds no
 * memory for a node.
 *
 * check: debug-kernel (mk/debug-kernel.sh: it takes fault injection; elsewhere all is skipped)
 */
#define _GNU_SOURCE
#include "modules/axl_importer.h"
#include "node.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define FAULTS_MAX 20000u /* of one sequence */

/* What one run of a sequence holds, so that all of it is given back however far the run came. */
struct run {
	const char *step;
	int file[2];
	uint32_t handle[2]; /* of file[0] and of file[1] */
	int dmabuf;
	int foreign; /* a dma-buf of udmabuf, made before the run */
	int importer;
	void *map;
	size_t map_bytes;
};

#define STEP(run, call)                                                                            \
	do {                                                                                       \
		(run)->step = #call;                                                               \
		int step_error = (call);                                                           \
		if (step_error < 0)                                                                \
			return step_error;                                                         \
	} while (0)

static char node[2][64];  /* two devices of ours */
static int fail_nth = -1; /* /proc/thread-self/fail-nth */
static int watch = -1;	  /* a file of the first device, to ask what exists there */

/* ---- Faults ---- */

/* Allocations that may wait, and single pages, are spared unless one says otherwise. */
static int faults_set_up(void)
{
	static const char *const settings[][2] = {
		{"failslab/ignore-gfp-wait", "N"},
		{"failslab/verbose", "0"},
		{"fail_page_alloc/ignore-gfp-wait", "N"},
		{"fail_page_alloc/ignore-gfp-highmem", "N"},
		{"fail_page_alloc/min-order", "0"},
		{"fail_page_alloc/verbose", "0"},
		{"fail_usercopy/verbose", "0"},
	};
	char path[128];
	int rc = 0;

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]) && !rc; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", settings[i][0]);
		rc = file_write(path, settings[i][1]);
		if (rc)
			tap_diag("%s: %s", path, strerror(-rc));
	}
	return rc;
}

static void faults_arm(unsigned nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	CHECK(pwrite(fail_nth, text, (size_t)len, 0) == len);
}

/* Returns whether the fault has struck. Both calls copy, so either may be what it strikes. */
static bool faults_disarm(void)
{
	char text[16] = "";
	bool struck = pread(fail_nth, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;

	if (pwrite(fail_nth, "0", 1, 0) != 1)
		CHECK(pwrite(fail_nth, "0", 1, 0) == 1);
	return struck;
}

/* ---- Steps: -errno, or what is not negative ---- */

static int file_open(struct run *r, int i, int device)
{
	r->file[i] = open(node[device], O_RDWR | O_CLOEXEC);
	return r->file[i] < 0 ? -errno : 0;
}

static int file_close(struct run *r, int i)
{
	int fd = r->file[i];

	r->file[i] = -1;
	return close(fd) ? -errno : 0;
}

static int params_get(struct run *r)
{
	uint64_t value;

	for (uint32_t param = 0; param <= AXL_PARAM_USER_BYTES_MAX; param++) {
		int rc = node_param(r->file[0], param, &value);

		if (rc)
			return rc;
	}
	return 0;
}

static int info_get(struct run *r, int i)
{
	struct drm_axl_bo_info info;

	return bo_info(r->file[i], r->handle[i], &info);
}

static int map(struct run *r, int fd, uint64_t offset, size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	if (at == MAP_FAILED)
		return -errno;
	r->map = at;
	r->map_bytes = bytes;
	return 0;
}

static int map_bo(struct run *r, size_t bytes)
{
	uint64_t offset;
	int rc = bo_offset(r->file[0], r->handle[0], &offset);

	return rc ? rc : map(r, r->file[0], offset, bytes);
}

/* The kernel tries a fault again when memory for it failed, so that touching never fails. */
static int touch(struct run *r)
{
	for (size_t at = 0; at < r->map_bytes; at += PAGE)
		((volatile char *)r->map)[at] = 1;
	return 0;
}

static int unmap(struct run *r)
{
	if (munmap(r->map, r->map_bytes))
		return -errno;
	r->map = NULL;
	return 0;
}

static int export(struct run *r, uint32_t flags)
{
	r->dmabuf = bo_export(r->file[0], r->handle[0], flags | DRM_CLOEXEC);
	return r->dmabuf;
}

static int cpu_access(struct run *r, uint64_t when)
{
	struct dma_buf_sync sync = {.flags = when | DMA_BUF_SYNC_RW};

	return node_ioctl(r->dmabuf, DMA_BUF_IOCTL_SYNC, &sync);
}

static int attach(struct run *r, uint32_t kind)
{
	struct axl_importer_attach arg = {.fd = r->dmabuf, .kind = kind};

	r->importer = open("/dev/axl_importer", O_RDWR | O_CLOEXEC);
	return r->importer < 0 ? -errno : node_ioctl(r->importer, AXL_IMPORTER_ATTACH, &arg);
}

static int query(struct run *r, uint32_t what)
{
	struct drm_axl_memory memory[4];
	struct drm_axl_query arg = {.what = what,
				    .elem_bytes = sizeof(memory[0]),
				    .count = 4,
				    .ptr = (uintptr_t)memory};

	return node_ioctl(r->file[0], DRM_IOCTL_AXL_QUERY, &arg);
}

static int last_error(struct run *r)
{
	char text[256];
	struct drm_axl_last_error arg = {.text = (uintptr_t)text, .text_bytes = sizeof(text)};

	return node_ioctl(r->file[0], DRM_IOCTL_AXL_LAST_ERROR, &arg);
}

/* Fails, so that there is a last error to ask for. */
static int refused(struct run *r)
{
	int rc = bo_create(r->file[0], 0, 0, &r->handle[0]);

	return rc == -EINVAL ? 0 : rc;
}

/* Reads a file of the kernel's whole. */
static int read_all(const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	do
		got = read(fd, text, sizeof(text));
	while (got > 0);
	int rc = got < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int fdinfo(struct run *r)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", r->file[0]);
	return read_all(path);
}

/* ---- Sequences ---- */

static int seq_open(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, params_get(r));
	STEP(r, fdinfo(r));
	STEP(r, file_close(r, 0));
	return 0;
}

static int seq_small(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, bo_create(r->file[0], 16 * PAGE, AXL_BO_F_SMALL_PAGES, &r->handle[0]));
	STEP(r, info_get(r, 0));
	STEP(r, bo_close(r->file[0], r->handle[0]));
	return 0;
}

/* Where there is no large page the buffer is made of smaller ones, all of which fail in turn. */
static int seq_large(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, bo_create(r->file[0], 4 * MIB + PAGE, 0, &r->handle[0]));
	STEP(r, bo_create(r->file[0], PAGE, AXL_BO_F_NUMA, &r->handle[0]));
	STEP(r, fdinfo(r));
	return 0;
}

static int seq_map(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, bo_create(r->file[0], 2 * MIB + 8 * PAGE, 0, &r->handle[0]));
	STEP(r, map_bo(r, 2 * MIB + 8 * PAGE));
	STEP(r, touch(r));
	STEP(r, bo_close(r->file[0], r->handle[0]));
	STEP(r, file_close(r, 0));
	STEP(r, touch(r));
	STEP(r, unmap(r));
	return 0;
}

static int seq_export(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, bo_create(r->file[0], 8 * PAGE, 0, &r->handle[0]));
	STEP(r, export(r, DRM_RDWR));
	STEP(r, info_get(r, 0));
	STEP(r, map(r, r->dmabuf, 0, 8 * PAGE));
	STEP(r, touch(r));
	STEP(r, bo_close(r->file[0], r->handle[0]));
	STEP(r, unmap(r));
	return 0;
}

static int seq_export_read_only(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, bo_create(r->file[0], 8 * PAGE, 0, &r->handle[0]));
	STEP(r, export(r, 0));
	STEP(r, bo_close(r->file[0], r->handle[0]));
	return 0;
}

static int attached(struct run *r, uint32_t kind)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, bo_create(r->file[0], 8 * PAGE, AXL_BO_F_SMALL_PAGES, &r->handle[0]));
	STEP(r, export(r, DRM_RDWR));
	STEP(r, attach(r, kind));
	STEP(r, cpu_access(r, DMA_BUF_SYNC_START));
	STEP(r, cpu_access(r, DMA_BUF_SYNC_END));
	STEP(r, bo_close(r->file[0], r->handle[0]));
	return 0;
}

static int seq_attach_static(struct run *r)
{
	return attached(r, AXL_IMPORTER_STATIC);
}

static int seq_attach_dynamic(struct run *r)
{
	return attached(r, AXL_IMPORTER_DYNAMIC);
}

static int seq_attach_pinned(struct run *r)
{
	return attached(r, AXL_IMPORTER_PINNED);
}

/* Back through its dma-buf in the same file, and into a file of this or of another device. */
static int imported(struct run *r, int device)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, file_open(r, 1, device));
	STEP(r, bo_create(r->file[0], 4 * PAGE, 0, &r->handle[0]));
	STEP(r, export(r, DRM_RDWR));
	STEP(r, bo_import(r->file[0], r->dmabuf, &r->handle[0]));
	STEP(r, bo_import(r->file[1], r->dmabuf, &r->handle[1]));
	STEP(r, info_get(r, 1));
	STEP(r, bo_close(r->file[0], r->handle[0]));
	STEP(r, bo_close(r->file[1], r->handle[1]));
	return 0;
}

static int seq_import_same_device(struct run *r)
{
	return imported(r, 0);
}

static int seq_import_other_device(struct run *r)
{
	return imported(r, 1);
}

static int seq_import_foreign(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, bo_import(r->file[0], r->foreign, &r->handle[0]));
	STEP(r, info_get(r, 0));
	STEP(r, bo_close(r->file[0], r->handle[0]));
	return 0;
}

static int seq_query(struct run *r)
{
	STEP(r, file_open(r, 0, 0));
	STEP(r, query(r, AXL_QUERY_MEMORY));
	STEP(r, query(r, AXL_QUERY_USER));
	STEP(r, refused(r));
	STEP(r, last_error(r));
	return 0;
}

static int seq_telemetry(struct run *r)
{
	STEP(r, read_all("/sys/class/accel/accel0/mem_used_bytes"));
	STEP(r, read_all("/sys/class/accel/accel0/provider"));
	STEP(r, read_all("/sys/kernel/debug/accel/accel_soft.0/axl_buffers"));
	STEP(r, read_all("/sys/kernel/debug/accel/accel_soft.0/axl_clients"));
	return 0;
}

/* ---- The sweep ---- */

/* Ready for one run: nothing held, a foreign dma-buf at hand. */
static bool run_init(struct run *r)
{
	struct udmabuf_create create = {.flags = UDMABUF_FLAGS_CLOEXEC, .size = 4 * PAGE};
	int memfd = memfd_create("foreign", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);

	*r = (struct run){.file = {-1, -1}, .dmabuf = -1, .foreign = -1, .importer = -1};
	create.memfd = (uint32_t)memfd;
	if (memfd >= 0 && device >= 0 && !ftruncate(memfd, 4 * PAGE) &&
	    !fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		r->foreign = ioctl(device, UDMABUF_CREATE, &create);
	close(memfd);
	close(device);
	return CHECK(r->foreign >= 0);
}

/*
 * DRM's core makes the descriptor of an export before it copies the number of it to the caller: when
 * that copy fails, it is there, and the caller can only find it.
 */
static void dmabufs_close(void)
{
	char path[64], to[64];

	for (int fd = 3; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ssize_t len = readlink(path, to, sizeof(to) - 1);
		if (len > 0 && !strncmp(to, "/dmabuf:", 8))
			close(fd);
	}
}

static void run_fini(struct run *r)
{
	int fds[] = {r->importer, r->dmabuf, r->foreign, r->file[0], r->file[1]};

	if (r->map)
		munmap(r->map, r->map_bytes);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	dmabufs_close();
}

static bool contract_has(int error)
{
	return error == -ENOMEM || error == -EFAULT;
}

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* What a run may not change. */
struct state {
	uint64_t bos;
	uint64_t bytes;
	unsigned descriptors;
};

static struct state state_get(void)
{
	struct drm_axl_memory memory = {0};

	CHECK_EQ(node_memory(watch, AXL_QUERY_MEMORY, &memory), 0);
	return (struct state){node_bos(watch), memory.bytes_used, descriptors()};
}

/* One run with the nth fault. Returns whether the sweep goes on. */
static bool sweep_step(int (*sequence)(struct run *), unsigned nth)
{
	struct state before = state_get(), after;
	struct run r;

	if (!run_init(&r))
		return false;
	faults_arm(nth);
	int error = sequence(&r);
	bool struck = faults_disarm();
	run_fini(&r);
	after = state_get();

	CHECK(error >= 0 || (struck && contract_has(error)));
	CHECK_EQ(after.bos, before.bos);
	CHECK_EQ(after.bytes, before.bytes);
	CHECK_EQ(after.descriptors, before.descriptors);
	if (tap_failing())
		tap_diag("fault %u, which %s: %s returned %d (%s)", nth,
			 struck ? "struck" : "did not strike", r.step, error,
			 error < 0 ? strerror(-error) : "success");
	return struck && !tap_failing();
}

static void sweep(int (*sequence)(struct run *))
{
	unsigned nth = 1;

	if (watch < 0)
		SKIP("the kernel injects no faults");
	while (nth < FAULTS_MAX && sweep_step(sequence, nth))
		nth++;
	CHECK(nth < FAULTS_MAX);
	tap_diag("%u faults", nth - 1);
}

TEST(faults, are_injected_where_asked)
{
	int files[2];

	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fail_nth < 0)
		SKIP("the kernel injects no faults: make check-debug-kernel builds one that does");
	REQUIRE_EQ(module_load("soft=2"), 0);
	REQUIRE_EQ(run("modprobe axl_importer"), 0);
	REQUIRE_EQ(faults_set_up(), 0);
	for (unsigned i = 0; i < 2; i++) {
		files[i] = node_open(i);
		REQUIRE(files[i] >= 0);
		snprintf(node[i], sizeof(node[i]), "/dev/accel/accel%u", node_number(files[i]));
	}
	close(files[1]);
	/* One fault must be seen, or a sweep that meets none would be a pass. */
	faults_arm(1);
	int fd = open(node[0], O_RDWR | O_CLOEXEC);
	int error = errno;
	CHECK(faults_disarm());
	CHECK(fd < 0 && contract_has(-error));
	watch = files[0];
}

#define SWEEP(noun, behaviour, sequence)                                                           \
	TEST(noun, behaviour)                                                                      \
	{                                                                                          \
		sweep(sequence);                                                                   \
	}

SWEEP(open, survives_every_fault, seq_open)
SWEEP(create, of_small_pages_survives_every_fault, seq_small)
SWEEP(create, of_large_pages_survives_every_fault, seq_large)
SWEEP(map, survives_every_fault, seq_map)
SWEEP(export, survives_every_fault, seq_export)
SWEEP(export, for_reading_survives_every_fault, seq_export_read_only)
SWEEP(attach, of_a_static_importer_survives_every_fault, seq_attach_static)
SWEEP(attach, of_a_dynamic_importer_survives_every_fault, seq_attach_dynamic)
SWEEP(attach, of_a_pinning_importer_survives_every_fault, seq_attach_pinned)
SWEEP(import, into_the_same_device_survives_every_fault, seq_import_same_device)
SWEEP(import, into_another_device_survives_every_fault, seq_import_other_device)
SWEEP(import, of_a_foreign_buffer_survives_every_fault, seq_import_foreign)
SWEEP(query, survives_every_fault, seq_query)
SWEEP(telemetry, survives_every_fault, seq_telemetry)

TEST(faults, leave_a_module_that_unloads)
{
	if (watch < 0)
		SKIP("the kernel injects no faults");
	close(watch);
	CHECK_EQ(run("rmmod axl_importer && rmmod accel"), 0);
}
