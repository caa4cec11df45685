// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Buffers through the public calls: each success, each errno, and what another process can do with
 * an export.
 */
#define _GNU_SOURCE
#include "libaccel/leaks.h"
#include "tap.h"

#include <accel/accel.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIB (UINT64_C(1) << 40)

static struct accel_device *dev;

__attribute__((constructor)) static void dev_open(void)
{
	if (accel_device_open("host", &dev))
		abort();
}

static struct accel_buffer_info info_of(struct accel_buffer *buf)
{
	struct accel_buffer_info info = {.size = sizeof(info)};

	CHECK_EQ(accel_buffer_info_get(buf, &info), 0);
	return info;
}

static bool error_has(const void *obj, const char *part)
{
	struct accel_error error = {.size = sizeof(error)};

	return !accel_error_get(obj, &error) && strstr(error.text, part);
}

static bool is_zero(const uint8_t *bytes, uint64_t count)
{
	while (count)
		if (bytes[--count])
			return false;
	return true;
}

TEST(buffer, create_rounds_up_zeroes_and_frees)
{
	static const uint64_t sizes[] = {1, 4095, 4096, 4097, 1000003, 3 << 20};
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct leaks before = leaks_count();

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct accel_buffer *buf = NULL;
		struct accel_buffer_info info;

		REQUIRE_EQ(accel_buffer_create(dev, sizes[i], NULL, &buf), 0);
		info = info_of(buf);
		CHECK(info.addr && info.addr == accel_buffer_addr(buf));
		CHECK(info.size_bytes >= sizes[i] && info.size_bytes < sizes[i] + info.page_bytes);
		CHECK(info.size_bytes % info.page_bytes == 0 && (uintptr_t)info.addr % page == 0);
		CHECK(info.page_bytes == page || info.page_bytes == 2 << 20);
		CHECK(info.numa_node >= -1);
		CHECK_EQ(info.shareable, 1);
		CHECK(is_zero(info.addr, info.size_bytes));
		memset(info.addr, 0xa5, info.size_bytes);
		accel_buffer_destroy(buf);
	}
	CHECK_NO_LEAKS(before);
}

/* Not seen by ThreadSanitizer, whose own pages would be counted too. */
__attribute__((no_sanitize("thread"))) static long faults_of_writing(volatile uint8_t *addr,
								     int pages)
{
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	for (int i = 0; i < pages; i++)
		addr[i * 4096] = 1;
	getrusage(RUSAGE_SELF, &after);
	return after.ru_minflt - before.ru_minflt;
}

TEST(buffer, every_page_is_there_at_create)
{
	struct accel_buffer *buf = NULL;
	struct accel_buffer_info info;
	unsigned char in_core[256];

	REQUIRE_EQ(accel_buffer_create(dev, 256 * 4096, NULL, &buf), 0);
	info = info_of(buf);
	REQUIRE_EQ(mincore(info.addr, 256 * 4096, in_core), 0);
	for (int i = 0; i < 256; i++)
		if (!CHECK(in_core[i] & 1))
			break;
	CHECK(faults_of_writing(info.addr, 256) < 64); /* and mapped: no fault a page */
	accel_buffer_destroy(buf);
}

TEST(buffer, create_rejects_bad_arguments)
{
	struct accel_buffer *buf = (struct accel_buffer *)1;
	struct accel_buffer_opts opts = {.size = sizeof(opts)};
	struct {
		struct accel_buffer_opts opts;
		uint64_t newer;
	} newer = {.opts = {.size = sizeof(newer)}, .newer = 1};

	CHECK_EQ(accel_buffer_create(NULL, 1, NULL, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_create(dev, 1, NULL, NULL), -EINVAL);
	CHECK_EQ(accel_buffer_create(dev, 0, NULL, &buf), -EINVAL);
	CHECK(error_has(NULL, "size_bytes is 0"));
	opts.size = 0;
	CHECK_EQ(accel_buffer_create(dev, 1, &opts, &buf), -EINVAL);
	opts = (struct accel_buffer_opts){.size = sizeof(opts), .huge = 3};
	CHECK_EQ(accel_buffer_create(dev, 1, &opts, &buf), -EINVAL);
	CHECK(error_has(NULL, "huge is 3"));
	opts = (struct accel_buffer_opts){.size = sizeof(opts), .reserved[5] = 1};
	CHECK_EQ(accel_buffer_create(dev, 1, &opts, &buf), -EINVAL);
	CHECK(error_has(NULL, "reserved[5]"));
	opts = (struct accel_buffer_opts){.size = sizeof(opts), .numa_node_plus1 = 1000};
	CHECK_EQ(accel_buffer_create(dev, 1, &opts, &buf), -EINVAL);
	CHECK(error_has(NULL, "NUMA node 999"));
	opts.numa_node_plus1 = UINT32_MAX;
	CHECK_EQ(accel_buffer_create(dev, 1, &opts, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_create(dev, 1, &newer.opts, &buf), -E2BIG);
	CHECK(buf == (struct accel_buffer *)1);
	newer.newer = 0;
	CHECK_EQ(accel_buffer_create(dev, 1, &newer.opts, &buf), 0);
	accel_buffer_destroy(buf);
}

TEST(buffer, create_refuses_what_does_not_fit)
{
	static const uint64_t sizes[] = {TIB, UINT64_C(1) << 50, UINT64_C(1) << 62,
					 UINT64_C(1) << 63, UINT64_MAX - (4 << 20)};
	struct leaks before = leaks_count();
	struct accel_buffer *buf = NULL;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		CHECK_EQ(accel_buffer_create(dev, sizes[i], NULL, &buf), -ENOSPC);
	CHECK_EQ(accel_buffer_create(dev, TIB, NULL, &buf), -ENOSPC);
	CHECK(error_has(NULL, "1099511627776 bytes") && error_has(NULL, "are available"));
	CHECK_EQ(accel_buffer_create(dev, UINT64_MAX, NULL, &buf), -EOVERFLOW);
	CHECK_EQ(accel_buffer_create(dev, UINT64_MAX - 4094, NULL, &buf), -EOVERFLOW);
	CHECK_NO_LEAKS(before);
}

TEST(buffer, create_on_node_0_says_so)
{
	struct accel_buffer_opts opts = {.size = sizeof(opts), .numa_node_plus1 = 1};
	struct accel_buffer *buf = NULL;

	REQUIRE_EQ(accel_buffer_create(dev, 4096, &opts, &buf), 0);
	CHECK(info_of(buf).numa_node <= 0);
	accel_buffer_destroy(buf);
}

TEST(buffer, huge_pages_are_obtained_or_refused_as_asked)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_buffer_opts need = {.size = sizeof(need), .huge = ACCEL_HUGE_NEED};
	struct accel_buffer_opts never = {.size = sizeof(never), .huge = ACCEL_HUGE_NEVER};
	struct leaks before = leaks_count();
	struct accel_buffer *buf = NULL;

	CHECK_EQ(accel_buffer_create(dev, TIB, &need, &buf), -ENOSPC);
	CHECK(error_has(NULL, "huge pages"));
	REQUIRE_EQ(accel_buffer_create(dev, 4 << 20, &never, &buf), 0);
	CHECK_EQ(info_of(buf).page_bytes, sysconf(_SC_PAGESIZE));
	accel_buffer_destroy(buf);
	REQUIRE_EQ(accel_device_info_get(dev, &info), 0);
	if (info.huge_pages_free < 2) {
		if (!info.huge_page_bytes)
			CHECK_EQ(accel_buffer_create(dev, 1, &need, &buf), -ENOSPC);
		CHECK_NO_LEAKS(before);
		SKIP("%u huge pages are free (see /proc/sys/vm/nr_hugepages), 2 are needed",
		     info.huge_pages_free);
	}
	REQUIRE_EQ(accel_buffer_create(dev, (2 << 20) + 1, &need, &buf), 0);
	CHECK_EQ(info_of(buf).page_bytes, 2 << 20);
	CHECK_EQ(info_of(buf).size_bytes, 4 << 20);
	memset(accel_buffer_addr(buf), 1, 4 << 20);
	accel_buffer_destroy(buf);
	REQUIRE_EQ(accel_buffer_create(dev, 4 << 20, NULL, &buf), 0);
	CHECK_EQ(info_of(buf).page_bytes, 2 << 20);
	accel_buffer_destroy(buf);
	CHECK_NO_LEAKS(before);
}

/* Another process: 0 when it reads the value and can write by no means. */
static int child_probe(int fd, uint64_t offset, uint64_t bytes, uint8_t value)
{
	char path[64];
	uint8_t *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, (off_t)offset);

	if (map == MAP_FAILED || map[0] != value || map[bytes - 1] != value)
		return 1;
	if (mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset) != MAP_FAILED)
		return 2;
	if (!mprotect(map, bytes, PROT_READ | PROT_WRITE))
		return 3;
	if (pwrite(fd, "x", 1, (off_t)offset) == 1)
		return 4;
	if (!ftruncate(fd, 0) ||
	    !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes))
		return 5;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDWR | O_CLOEXEC); /* the kernel allows it, the seals do not help it */
	if (fd >= 0 &&
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset) != MAP_FAILED)
		return 6;
	if (fd >= 0 && (!ftruncate(fd, 0) || pwrite(fd, "x", 1, (off_t)offset) == 1 ||
			!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				   (off_t)bytes)))
		return 7;
	return map[0] == value ? 0 : 8;
}

static void check_child(int fd, uint64_t offset, uint64_t bytes, uint8_t value)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(child_probe(fd, offset, bytes, value));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

TEST(buffer, export_is_sealed_and_read_only_elsewhere)
{
	struct leaks before = leaks_count();
	struct accel_buffer *buf = NULL;
	uint64_t offset = 1, bytes;
	uint8_t *addr;
	int fd = -1, seals;

	REQUIRE_EQ(accel_buffer_create(dev, 3 * 4096, NULL, &buf), 0);
	addr = accel_buffer_addr(buf);
	bytes = info_of(buf).size_bytes;
	memset(addr, 0x5a, bytes);
	REQUIRE_EQ(accel_buffer_export_fd(buf, &fd, &offset), 0);
	CHECK_EQ(offset, 0);
	seals = fcntl(fd, F_GET_SEALS);
	CHECK((seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW) && (seals & F_SEAL_FUTURE_WRITE) &&
	      (seals & F_SEAL_SEAL));
	CHECK_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	check_child(fd, offset, bytes, 0x5a);
	memset(addr, 0xa5, bytes); /* the owner still writes, and others see it */
	check_child(fd, offset, bytes, 0xa5);
	close(fd);
	accel_buffer_destroy(buf);
	CHECK_NO_LEAKS(before);
}

TEST(buffer, export_rejects_null_bare_pointers_and_no_descriptors)
{
	struct accel_buffer *buf = NULL, *bare = NULL;
	struct rlimit limit, none;
	static char memory[16];
	uint64_t offset;
	int fd = -7;

	REQUIRE_EQ(accel_buffer_create(dev, 1, NULL, &buf), 0);
	REQUIRE_EQ(accel_buffer_import_ptr(dev, memory, sizeof(memory), &bare), 0);
	CHECK_EQ(accel_buffer_export_fd(NULL, &fd, &offset), -EINVAL);
	CHECK_EQ(accel_buffer_export_fd(buf, NULL, &offset), -EINVAL);
	CHECK_EQ(accel_buffer_export_fd(buf, &fd, NULL), -EINVAL);
	CHECK_EQ(accel_buffer_export_fd(bare, &fd, &offset), -EOPNOTSUPP);
	CHECK(error_has(bare, "bare pointer"));
	getrlimit(RLIMIT_NOFILE, &limit);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = limit.rlim_max};
	setrlimit(RLIMIT_NOFILE, &none);
	CHECK_EQ(accel_buffer_export_fd(buf, &fd, &offset), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &limit);
	CHECK_EQ(fd, -7);
	accel_buffer_destroy(bare);
	accel_buffer_destroy(buf);
}

static int memfd_of(uint64_t bytes, unsigned flags)
{
	int fd = memfd_create("test", MFD_CLOEXEC | flags);

	CHECK(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	return fd;
}

TEST(buffer, import_fd_shares_the_callers_pages)
{
	struct leaks before = leaks_count();
	struct accel_buffer *buf = NULL;
	uint64_t offset;
	uint8_t *addr, byte;
	int fd = memfd_of(4 * 4096, MFD_ALLOW_SEALING), out = -1;

	REQUIRE_EQ(accel_buffer_import_fd(dev, fd, 4096, 5000, &buf), 0);
	CHECK(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
	CHECK_EQ(ftruncate(fd, 0), -1);
	CHECK_EQ(info_of(buf).size_bytes, 5000);
	CHECK_EQ(info_of(buf).shareable, 1);
	addr = accel_buffer_addr(buf);
	addr[4999] = 42;
	CHECK(pread(fd, &byte, 1, 4096 + 4999) == 1 && byte == 42);
	REQUIRE_EQ(accel_buffer_export_fd(buf, &out, &offset), 0);
	CHECK_EQ(offset, 4096);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, out, 4096) == MAP_FAILED);
	CHECK(pread(out, &byte, 1, (off_t)offset + 4999) == 1 && byte == 42);
	close(out);
	close(fd); /* the buffer has its own */
	addr[0] = 1;
	accel_buffer_destroy(buf);
	CHECK_NO_LEAKS(before);
}

TEST(buffer, import_fd_takes_read_only_files)
{
	struct accel_buffer *buf = NULL;
	char path[64];
	int fd = memfd_of(8192, MFD_ALLOW_SEALING), read_only;

	CHECK_EQ(pwrite(fd, "abc", 3, 4096), 3);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	CHECK_EQ(accel_buffer_import_fd(dev, read_only, 0, 8192, &buf),
		 -EOPNOTSUPP); /* cannot be sealed through it */
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	REQUIRE_EQ(accel_buffer_import_fd(dev, read_only, 4096, 4096, &buf), 0);
	CHECK(!memcmp(accel_buffer_addr(buf), "abc", 3));
	CHECK_EQ(mprotect(accel_buffer_addr(buf), 4096, PROT_READ | PROT_WRITE), -1);
	accel_buffer_destroy(buf);
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0); /* nobody holds a writable mapping */
	REQUIRE_EQ(accel_buffer_import_fd(dev, fd, 0, 8192, &buf), 0);
	accel_buffer_destroy(buf);
	close(read_only);
	close(fd);
}

TEST(buffer, import_fd_rejects_bad_arguments)
{
	struct leaks before = leaks_count();
	struct accel_buffer *buf = (struct accel_buffer *)1;
	int fd = memfd_of(8192, MFD_ALLOW_SEALING);
	char path[64];
	int write_only;

	CHECK_EQ(accel_buffer_import_fd(NULL, fd, 0, 1, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 0, 1, NULL), -EINVAL);
	CHECK_EQ(accel_buffer_import_fd(dev, -1, 0, 1, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_import_fd(dev, 1000000, 0, 1, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 0, 0, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 1, 1, &buf), -EINVAL);
	CHECK(error_has(NULL, "page size"));
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 0, 8193, &buf), -EOVERFLOW);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 8192, 1, &buf), -EOVERFLOW);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, 4096, UINT64_MAX, &buf), -EOVERFLOW);
	CHECK_EQ(accel_buffer_import_fd(dev, fd, UINT64_MAX - 4095, 4096, &buf), -EOVERFLOW);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	write_only = open(path, O_WRONLY | O_CLOEXEC);
	CHECK_EQ(accel_buffer_import_fd(dev, write_only, 0, 4096, &buf), -EINVAL);
	CHECK_EQ(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK, 0); /* none of these had a side effect */
	CHECK(buf == (struct accel_buffer *)1);
	close(write_only);
	close(fd);
	CHECK_NO_LEAKS(before);
}

TEST(buffer, import_fd_refuses_what_can_shrink)
{
	struct leaks before = leaks_count();
	struct accel_buffer *buf = NULL;
	int fds[5], ends[2];
	FILE *file = tmpfile();

	REQUIRE(file && !ftruncate(fileno(file), 8192) && !pipe(ends));
	fds[0] = fileno(file);
	fds[1] = ends[0];
	fds[2] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fds[3] = memfd_of(8192, 0); /* without MFD_ALLOW_SEALING */
	fds[4] = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	CHECK(fds[4] < 0 || !ftruncate(fds[4], 8192));
	for (int i = 0; i < 5 && fds[i] >= 0; i++) {
		CHECK_EQ(accel_buffer_import_fd(dev, fds[i], 0, 4096, &buf), -EOPNOTSUPP);
		CHECK(error_has(NULL, "memfd_create()"));
	}
	close(fds[2]);
	close(fds[3]);
	if (fds[4] >= 0)
		close(fds[4]);
	close(ends[0]);
	close(ends[1]);
	fclose(file);
	CHECK_NO_LEAKS(before);
}

TEST(buffer, import_fd_fills_holes_or_says_there_is_no_room)
{
	struct leaks before = leaks_count();
	struct accel_buffer *buf = NULL;
	int fd = memfd_of(2 * TIB, MFD_ALLOW_SEALING);
	unsigned char in_core[4];

	CHECK_EQ(accel_buffer_import_fd(dev, fd, 0, TIB, &buf), -ENOSPC);
	CHECK_EQ(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK, 0);
	REQUIRE_EQ(accel_buffer_import_fd(dev, fd, TIB, 4 * 4096, &buf), 0);
	REQUIRE_EQ(mincore(accel_buffer_addr(buf), 4 * 4096, in_core), 0);
	CHECK((in_core[0] & in_core[1] & in_core[2] & in_core[3] & 1) == 1);
	accel_buffer_destroy(buf);
	close(fd);
	CHECK_NO_LEAKS(before);
}

TEST(buffer, import_ptr_names_memory_that_stays_the_callers)
{
	struct accel_buffer *buf = NULL;
	char memory[100] = "mine";
	struct accel_buffer_info info;

	REQUIRE_EQ(accel_buffer_import_ptr(dev, memory + 1, 99, &buf), 0);
	info = info_of(buf);
	CHECK(info.addr == memory + 1 && accel_buffer_addr(buf) == memory + 1);
	CHECK_EQ(info.size_bytes, 99);
	CHECK_EQ(info.shareable, 0);
	CHECK_EQ(info.numa_node, -1);
	accel_buffer_destroy(buf);
	CHECK(!strcmp(memory, "mine"));
}

TEST(buffer, import_ptr_rejects_bad_arguments)
{
	struct accel_buffer *buf = (struct accel_buffer *)1;
	char memory[16];

	CHECK_EQ(accel_buffer_import_ptr(NULL, memory, 1, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_import_ptr(dev, NULL, 1, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_import_ptr(dev, memory, 0, &buf), -EINVAL);
	CHECK_EQ(accel_buffer_import_ptr(dev, memory, 1, NULL), -EINVAL);
	CHECK_EQ(accel_buffer_import_ptr(dev, memory, UINT64_MAX, &buf), -EOVERFLOW);
	CHECK(buf == (struct accel_buffer *)1);
}

TEST(buffer, info_and_addr_reject_null_and_size_0)
{
	struct accel_buffer_info info = {.size = 0};
	struct accel_buffer *buf = NULL;

	REQUIRE_EQ(accel_buffer_create(dev, 1, NULL, &buf), 0);
	CHECK_EQ(accel_buffer_info_get(NULL, &info), -EINVAL);
	CHECK_EQ(accel_buffer_info_get(buf, NULL), -EINVAL);
	CHECK_EQ(accel_buffer_info_get(buf, &info), -EINVAL);
	CHECK(error_has(buf, "size"));
	CHECK(accel_buffer_addr(NULL) == NULL);
	accel_buffer_destroy(buf);
}

TEST(buffer, destroy_null_is_fine)
{
	accel_buffer_destroy(NULL);
}

/*
 * Every number of free descriptors from none up: an error that names the cause, or success; never a
 * leak.
 */
TEST(buffer, create_and_import_without_descriptors_leak_nothing)
{
	int fd = memfd_of(4096, MFD_ALLOW_SEALING), top = dup(0), rc[2] = {-1, -1};
	struct accel_buffer *buf;
	struct rlimit limit, few;
	struct leaks before;
	unsigned failures = 0;

	REQUIRE(top >= 0);
	close(top);
	before = leaks_count();
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int room = 0; room < 8; room++) {
		few = (struct rlimit){.rlim_cur = (rlim_t)(top + room), .rlim_max = limit.rlim_max};
		setrlimit(RLIMIT_NOFILE, &few);
		rc[0] = accel_buffer_create(dev, 4096, NULL, &buf);
		if (!rc[0])
			accel_buffer_destroy(buf);
		rc[1] = accel_buffer_import_fd(dev, fd, 0, 4096, &buf);
		if (!rc[1])
			accel_buffer_destroy(buf);
		setrlimit(RLIMIT_NOFILE, &limit);
		for (int i = 0; i < 2; i++)
			CHECK(rc[i] == 0 ||
			      (rc[i] == -ENOMEM && ++failures && error_has(NULL, "ulimit -n")));
	}
	CHECK(rc[0] == 0 && rc[1] == 0 && failures >= 2);
	CHECK_NO_LEAKS(before);
	close(fd);
}

/* No address space: -ENOSPC or -ENOMEM and no leak. In a child, whose limit ends with it. */
static int child_without_addresses(int fd)
{
	struct rlimit tight = {.rlim_max = RLIM_INFINITY};
	struct leaks before = leaks_count(), after;
	struct accel_buffer *buf;
	FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long long pages;

	if (!statm || fscanf(statm, "%llu", &pages) != 1)
		return 4;
	fclose(statm);
	tight.rlim_cur = pages * (unsigned)sysconf(_SC_PAGESIZE) + (6 << 20);
	setrlimit(RLIMIT_AS, &tight);
	if (accel_buffer_create(dev, 8 << 20, NULL, &buf) != -ENOSPC || !error_has(NULL, "mmap"))
		return 1;
	if (accel_buffer_import_fd(dev, fd, 0, 8 << 20, &buf) != -ENOMEM ||
	    !error_has(NULL, "mmap"))
		return 2;
	tight.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_AS, &tight);
	after = leaks_count();
	return after.fds == before.fds && after.maps == before.maps ? 0 : 3;
}

TEST(buffer, create_and_import_without_addresses_leak_nothing)
{
	int fd = memfd_of(8 << 20, MFD_ALLOW_SEALING), status;
	pid_t pid = fork();

	if (!pid)
		_exit(child_without_addresses(fd));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
	close(fd);
}

TEST(buffer, create_beyond_the_file_limit_is_refused_and_not_killed)
{
	struct accel_buffer *buf;
	struct rlimit small = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
	int status;
	pid_t pid = fork();

	if (!pid) {
		setrlimit(RLIMIT_FSIZE, &small);
		_exit(accel_buffer_create(dev, 2 << 20, NULL, &buf) != -ENOSPC ||
		      !error_has(NULL, "ulimit -f") ||
		      accel_buffer_create(dev, 1 << 20, NULL, &buf) != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
