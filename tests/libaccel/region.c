// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Regions: what peers may map, private memory, references; and that a cgroup's limit refuses
 * instead of killing.
 */
#define _GNU_SOURCE
#include "region.h"
#include "libaccel/leaks.h"
#include "object.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const struct accel_region_opts defaults = {.numa_node = -1, .what = "test"};

static int memfd_of(uint64_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0 && !ftruncate(fd, (off_t)bytes) &&
	      (!seals || !fcntl(fd, F_ADD_SEALS, seals)));
	return fd;
}

TEST(region, page_round_up)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	CHECK_EQ(accel_page_round_up(0), 0);
	CHECK_EQ(accel_page_round_up(1), page);
	CHECK_EQ(accel_page_round_up(page), page);
	CHECK_EQ(accel_page_round_up(page + 1), 2 * page);
	CHECK_EQ(accel_page_round_up(UINT64_MAX), 0);
	CHECK_EQ(accel_page_round_up(UINT64_MAX - page + 1), UINT64_MAX - page + 1);
	CHECK_EQ(accel_page_round_up(UINT64_MAX - page + 2), 0);
}

TEST(region, create_rejects_bad_arguments_and_keeps_the_error_in_the_object)
{
	struct accel_region_opts opts = defaults;
	struct accel_error error = {.size = sizeof(error)};
	struct accel_region *region = NULL;
	struct accel_object obj;

	accel_object_init(&obj, ACCEL_OBJECT_EP);
	CHECK_EQ(accel_region_create(&obj, 1, 0, &opts, &region), -EINVAL);
	CHECK_EQ(accel_region_create(&obj, 1, UINT64_MAX, &opts, &region), -EOVERFLOW);
	CHECK_EQ(accel_region_create(&obj, 1, UINT64_C(1) << 40, &opts, &region), -ENOSPC);
	opts.numa_node = INT32_MAX;
	CHECK_EQ(accel_region_create(&obj, 1, 4096, &opts, &region), -EINVAL);
	CHECK_EQ(accel_error_get(&obj, &error), 0);
	CHECK_EQ(error.code, -EINVAL);
	CHECK(strstr(error.text, "NUMA node") && strstr(error.text, "test"));
	CHECK(!region);
	accel_object_fini(&obj);
}

TEST(region, private_memory_is_mapped_by_nobody_else)
{
	struct accel_region_opts opts = defaults;
	struct leaks before = leaks_count();
	struct accel_region *region = NULL;
	uint8_t *addr;

	opts.private_memory = true;
	for (opts.huge = ACCEL_HUGE_TRY; opts.huge <= ACCEL_HUGE_NEVER; opts.huge++) {
		REQUIRE_EQ(accel_region_create(NULL, 3, (5 << 20) + 1, &opts, &region), 0);
		CHECK_EQ(region->fd, -1);
		CHECK_EQ(region->id, 3);
		CHECK(region->bytes > 5 << 20 && region->bytes % region->page_bytes == 0);
		addr = region->addr;
		addr[0] = addr[region->bytes - 1] = 1;
		accel_region_put(region);
		CHECK(msync(addr, 4096, MS_ASYNC) == -1 &&
		      errno == ENOMEM); /* nothing is mapped there */
	}
	CHECK_NO_LEAKS(before);
}

TEST(region, private_memory_that_does_not_fit_is_refused)
{
	struct accel_region_opts opts = defaults;
	struct accel_region *region = NULL;

	opts.private_memory = true;
	CHECK_EQ(accel_region_create(NULL, 1, UINT64_C(1) << 40, &opts, &region), -ENOSPC);
	CHECK_EQ(accel_region_create(NULL, 1, UINT64_C(1) << 62, &opts, &region), -ENOSPC);
}

TEST(region, goes_with_its_last_reference)
{
	struct leaks before = leaks_count();
	struct accel_region *region = NULL;

	REQUIRE_EQ(accel_region_create(NULL, 1, 1, &defaults, &region), 0);
	CHECK(accel_region_get(region) == region);
	accel_region_put(region);
	region->addr[0] = 1;
	accel_region_put(region);
	accel_region_put(NULL);
	CHECK_NO_LEAKS(before);
}

TEST(region, map_peer_sees_the_owners_bytes_read_only)
{
	struct leaks before = leaks_count();
	struct accel_region *owned = NULL, *mapped = NULL;
	int fd;

	REQUIRE_EQ(accel_region_create(NULL, 1, 4 * 4096, &defaults, &owned), 0);
	owned->addr[2 * 4096 + 99] = 42;
	fd = dup(owned->fd);
	REQUIRE_EQ(accel_region_map_peer(77, fd, 2 * 4096, 100, &mapped), 0);
	CHECK_EQ(mapped->id, 77);
	CHECK_EQ(mapped->bytes, 100);
	CHECK_EQ(mapped->fd_offset, 2 * 4096);
	CHECK_EQ(mapped->addr[99], 42);
	CHECK_EQ(mprotect(mapped->addr, 4096, PROT_READ | PROT_WRITE), -1);
	owned->addr[2 * 4096 + 99] = 43;
	CHECK_EQ(((volatile uint8_t *)mapped->addr)[99], 43);
	accel_region_put(owned);
	CHECK_EQ(((volatile uint8_t *)mapped->addr)[99],
		 43);		  /* the owner's end is not the reader's */
	accel_region_put(mapped); /* closes fd */
	CHECK_NO_LEAKS(before);
}

TEST(region, map_peer_refuses_hostile_descriptors)
{
	struct leaks before = leaks_count();
	struct accel_region *region = (struct accel_region *)1;
	int sealed = memfd_of(8192, F_SEAL_SHRINK), bare = memfd_of(8192, 0),
	    grows = memfd_of(8192, F_SEAL_GROW);
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), ends[2];
	char path[64];
	int write_only;

	REQUIRE(!pipe(ends));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", sealed);
	write_only = open(path, O_WRONLY | O_CLOEXEC);
	CHECK_EQ(accel_region_map_peer(1, -1, 0, 4096, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, bare, 0, 4096, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, grows, 0, 4096, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, zero, 0, 4096, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, ends[0], 0, 4096, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, write_only, 0, 4096, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, sealed, 0, 0, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, sealed, 8, 4096, &region), -EINVAL);
	CHECK_EQ(accel_region_map_peer(1, sealed, 0, 8193, &region), -EOVERFLOW);
	CHECK_EQ(accel_region_map_peer(1, sealed, 4096, 4097, &region), -EOVERFLOW);
	CHECK_EQ(accel_region_map_peer(1, sealed, 4096, UINT64_MAX, &region), -EOVERFLOW);
	CHECK_EQ(accel_region_map_peer(1, sealed, UINT64_MAX - 4095, 8192, &region), -EOVERFLOW);
	CHECK(region == (struct accel_region *)1);
	CHECK(fcntl(sealed, F_GETFD) >= 0); /* a refused descriptor stays the caller's */
	REQUIRE_EQ(accel_region_map_peer(1, sealed, 4096, 4096, &region), 0);
	accel_region_put(region);
	close(write_only);
	close(bare);
	close(grows);
	close(zero);
	close(ends[0]);
	close(ends[1]);
	CHECK_NO_LEAKS(before);
}

static void *region_users(void *arg)
{
	for (int i = 0; i < 1000; i++)
		accel_region_put(accel_region_get(arg));
	accel_region_put(arg);
	return NULL;
}

TEST(region, references_are_counted_across_threads)
{
	struct leaks before = leaks_count();
	struct accel_region *region = NULL;
	pthread_t threads[4];

	REQUIRE_EQ(accel_region_create(NULL, 1, 1, &defaults, &region), 0);
	for (int i = 0; i < 4; i++)
		REQUIRE_EQ(
			pthread_create(&threads[i], NULL, region_users, accel_region_get(region)),
			0);
	accel_region_put(region);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_NO_LEAKS(before);
}

/*
 * Every system call of create and import fails in its turn, by a seccomp filter in a child of its
 * own: each ends in the right error, or in success where there is another way (older kernels,
 * filtered containers), and leaks nothing.
 */
struct fault {
	const char *what;
	uint32_t call, arg, value, error; /* the call with this value in its arg-th argument */
	int create, import;		  /* what the two then return */
};

static const struct fault faults[] = {
	{"none", SYS_memfd_create, 1, 0xffffffff, EIO, 0, 0},
	{"memfd_create", SYS_memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8, EPERM, -ENOSPC,
	 0},
	{"no MFD_NOEXEC_SEAL", SYS_memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8, EINVAL, 0,
	 0},
	{"ftruncate", SYS_ftruncate, 1, 3 * 4096, EIO, -ENOSPC, 0},
	{"mmap", SYS_mmap, 3, MAP_SHARED, ENOMEM, -ENOSPC, -ENOMEM},
	{"mbind", SYS_mbind, 5, 0, EPERM, 0, 0},
	{"get_mempolicy", SYS_get_mempolicy, 2, 0, EPERM, 0, 0},
	{"huge page advice", SYS_madvise, 2, MADV_HUGEPAGE, EINVAL, 0, 0},
	{"touching", SYS_madvise, 2, 23, EFAULT, -ENOSPC, -ENOSPC},
	{"no MADV_POPULATE_WRITE", SYS_madvise, 2, 23, EINVAL, 0, 0},
	{"seals", SYS_fcntl, 1, F_ADD_SEALS, EINVAL, -ENOSPC, -EOPNOTSUPP},
	{"duplicating", SYS_fcntl, 1, F_DUPFD_CLOEXEC, EMFILE, 0, -ENOMEM},
};

static bool fault_arm(const struct fault *fault)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, fault->call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, /* the low half, on a little-endian machine */
			 (uint32_t)offsetof(struct seccomp_data, args) + 8 * fault->arg),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, fault->value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | fault->error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int child_with_fault(const struct fault *fault, int fd)
{
	struct leaks before = leaks_count(), after;
	struct accel_region *region;
	int rc;

	if (!fault_arm(fault))
		return 77;
	rc = accel_region_create(NULL, 1, 3 * 4096, &defaults, &region);
	if (rc != fault->create)
		return 1;
	if (!rc) {
		region->addr[region->bytes - 1] = 1;
		accel_region_put(region);
	}
	rc = accel_region_import_fd(NULL, 1, fd, 4096, 4096, &region);
	if (rc != fault->import)
		return 2;
	if (!rc) {
		if (region->addr[0] != 'a') /* filling holes changes nothing */
			return 3;
		accel_region_put(region);
	}
	after = leaks_count();
	return after.fds == before.fds && after.maps == before.maps ? 0 : 4;
}

TEST(region, each_failing_call_is_an_error_and_leaks_nothing)
{
	int fd, status;
	pid_t pid;

	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		fd = memfd_of(8192, 0);
		REQUIRE(pwrite(fd, "a", 1, 4096) == 1);
		pid = fork();
		if (!pid)
			_exit(child_with_fault(&faults[i], fd));
		close(fd);
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		if (WEXITSTATUS(status) == 77)
			SKIP("seccomp filters are not allowed here");
		tap_check(WEXITSTATUS(status) == 0, __FILE__, __LINE__, "%s: child says %d",
			  faults[i].what, WEXITSTATUS(status));
	}
}

/* Below the limit of a cgroup made for it, in a child that is put there. */

static bool file_write(const char *dir, const char *name, const char *value)
{
	char path[PATH_MAX + 64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : write(fd, value, strlen(value));
	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(value);
}

/* This process's cgroup below a mount: the line of /proc/self/cgroup that holds the word. */
static void cgroup_path(const char *word, char *path, size_t room)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];

	path[0] = '\0';
	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (strstr(line, word))
			snprintf(path, room, "%s", strchr(strchr(line, ':') + 1, ':') + 1);
	}
	if (file)
		fclose(file);
	if (!strcmp(path, "/"))
		path[0] = '\0';
}

static bool cgroup_make(const char *mount, const char *word, const char *limit_file,
			const char *limit, char *dir, size_t room)
{
	char path[PATH_MAX / 2];

	cgroup_path(word, path, sizeof(path));
	snprintf(dir, room, "%s%s/accel-test-%d", mount, path, (int)getpid());
	if (mkdir(dir, 0755))
		return false;
	if (file_write(dir, limit_file, limit))
		return true;
	rmdir(dir);
	return false;
}

static int child_in_cgroup(const char *dir)
{
	struct accel_region_opts opts = defaults;
	struct accel_error error = {.size = sizeof(error)};
	struct accel_region *region;
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (!file_write(dir, "cgroup.procs", pid))
		return 1;
	opts.huge = ACCEL_HUGE_NEVER;
	for (int i = 0; i < 2; i++) {
		opts.private_memory = i;
		if (accel_region_create(NULL, 1, 128 << 20, &opts, &region) != -ENOSPC)
			return 2;
		if (accel_error_get(NULL, &error) || !strstr(error.text, dir))
			return 3;
		if (accel_region_create(NULL, 1, 16 << 20, &opts, &region))
			return 4;
		accel_region_put(region);
	}
	return 0;
}

TEST(region, cgroup_limit_refuses_and_does_not_kill)
{
	char dir[PATH_MAX];
	int status;
	pid_t pid;

	if (!cgroup_make("/sys/fs/cgroup/memory", ":memory:", "memory.limit_in_bytes", "67108864",
			 dir, sizeof(dir)) &&
	    !cgroup_make("/sys/fs/cgroup", "0::", "memory.max", "67108864", dir, sizeof(dir)))
		SKIP("a memory cgroup cannot be made here (needs root, and a delegated memory controller)");
	pid = fork();
	if (!pid)
		_exit(child_in_cgroup(dir));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status)); /* and not killed */
	CHECK_EQ(WEXITSTATUS(status), 0);
	for (int i = 0; rmdir(dir) && errno == EBUSY && i < 1000000; i++)
		;
}
