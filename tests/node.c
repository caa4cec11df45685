// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What node.h says. Nothing here checks; the tests do.
 */
#define _GNU_SOURCE
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NODES_MAX 64

int node_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

int module_load(const char *parameters)
{
	char command[128];

	snprintf(command, sizeof(command), "modprobe -r accel; modprobe accel %s", parameters);
	return run(command);
}

static bool is_ours(int fd)
{
	char name[16] = "";
	struct drm_version version = {.name = name, .name_len = sizeof(name) - 1};

	return !node_ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, AXL_DRIVER_NAME);
}

int node_open(unsigned rank)
{
	if (access("/sys/module/accel", F_OK))
		module_load("soft=1");
	for (unsigned n = 0; n < NODES_MAX; n++) {
		char path[64];
		int fd;

		snprintf(path, sizeof(path), "/dev/accel/accel%u", n);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (is_ours(fd) && !rank--)
			return fd;
		close(fd);
	}
	return -ENODEV;
}

unsigned node_number(int fd)
{
	struct stat node;

	return fstat(fd, &node) ? 0 : minor(node.st_rdev);
}

static int device_change(const char *attribute, unsigned id)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/sys/bus/axl_soft/%s", attribute);
	snprintf(text, sizeof(text), "%u", id);
	return file_write(path, text);
}

int device_add(unsigned id)
{
	return device_change("new_device", id);
}

int device_del(unsigned id)
{
	return device_change("del_device", id);
}

int node_param(int fd, uint32_t param, uint64_t *value)
{
	struct drm_axl_get_param arg = {.param = param};
	int rc = node_ioctl(fd, DRM_IOCTL_AXL_GET_PARAM, &arg);

	if (!rc)
		*value = arg.value;
	return rc;
}

int node_memory(int fd, uint32_t what, struct drm_axl_memory *memory)
{
	struct drm_axl_query arg = {
		.what = what, .elem_bytes = sizeof(*memory), .count = 1, .ptr = (uintptr_t)memory};

	return node_ioctl(fd, DRM_IOCTL_AXL_QUERY, &arg);
}

uint64_t node_bos(int fd)
{
	struct drm_axl_memory memory[8] = {0};
	struct drm_axl_query arg = {.what = AXL_QUERY_MEMORY,
				    .elem_bytes = sizeof(memory[0]),
				    .count = 8,
				    .ptr = (uintptr_t)memory};
	uint64_t bos = 0;

	if (node_ioctl(fd, DRM_IOCTL_AXL_QUERY, &arg))
		return ~0ull;
	for (unsigned i = 0; i < 8; i++)
		bos += memory[i].bos;
	return bos;
}

const char *node_last_error(int fd)
{
	static char text[512];
	struct drm_axl_last_error arg = {.text = (uintptr_t)text, .text_bytes = sizeof(text)};

	text[0] = '\0';
	return node_ioctl(fd, DRM_IOCTL_AXL_LAST_ERROR, &arg) ? "(LAST_ERROR fails)" : text;
}

int bo_create(int fd, uint64_t bytes, uint32_t flags, uint32_t *handle)
{
	struct drm_axl_bo_create arg = {.size_bytes = bytes, .flags = flags};
	int rc = node_ioctl(fd, DRM_IOCTL_AXL_BO_CREATE, &arg);

	if (!rc)
		*handle = arg.handle;
	return rc;
}

int bo_close(int fd, uint32_t handle)
{
	struct drm_gem_close arg = {.handle = handle};

	return node_ioctl(fd, DRM_IOCTL_GEM_CLOSE, &arg);
}

int bo_info(int fd, uint32_t handle, struct drm_axl_bo_info *info)
{
	memset(info, 0, sizeof(*info));
	info->handle = handle;
	return node_ioctl(fd, DRM_IOCTL_AXL_BO_INFO, info);
}

int bo_offset(int fd, uint32_t handle, uint64_t *offset)
{
	struct drm_axl_bo_mmap_offset arg = {.handle = handle};
	int rc = node_ioctl(fd, DRM_IOCTL_AXL_BO_MMAP_OFFSET, &arg);

	if (!rc)
		*offset = arg.offset;
	return rc;
}

void *bo_map(int fd, uint32_t handle, size_t bytes)
{
	uint64_t offset;
	void *at;

	if (bo_offset(fd, handle, &offset))
		return NULL;
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	return at == MAP_FAILED ? NULL : at;
}

int bo_export(int fd, uint32_t handle, uint32_t flags)
{
	struct drm_prime_handle arg = {.handle = handle, .flags = flags};
	int rc = node_ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &arg);

	return rc ? rc : arg.fd;
}

int bo_import(int fd, int dmabuf, uint32_t *handle)
{
	struct drm_prime_handle arg = {.fd = dmabuf};
	int rc = node_ioctl(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &arg);

	if (!rc)
		*handle = arg.handle;
	return rc;
}

void *fd_map(int fd, size_t bytes, int prot)
{
	void *at = mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

static uint64_t pattern_word(uint64_t seed, size_t i)
{
	return (seed + i) * 0x9e3779b97f4a7c15u | 1;
}

void pattern_write(void *at, size_t bytes, uint64_t seed)
{
	volatile uint64_t *word = at;

	for (size_t i = 0; i < bytes / sizeof(*word); i++)
		word[i] = pattern_word(seed, i);
}

bool pattern_holds(const void *at, size_t bytes, uint64_t seed)
{
	const volatile uint64_t *word = at;

	for (size_t i = 0; i < bytes / sizeof(*word); i++) {
		uint64_t got = word[i];

		if (got == pattern_word(seed, i))
			continue;
		tap_diag("at byte %zu of %zu: %#llx, not %#llx", i * sizeof(*word), bytes,
			 (unsigned long long)got, (unsigned long long)pattern_word(seed, i));
		return false;
	}
	return true;
}

bool is_zero(const void *at, size_t bytes)
{
	const volatile uint64_t *word = at;

	for (size_t i = 0; i < bytes / sizeof(*word); i++)
		if (word[i]) {
			tap_diag("byte %zu of %zu is not 0", i * sizeof(*word), bytes);
			return false;
		}
	return true;
}

/* Whole pages before the barrier for so many bytes. */
static size_t page_end_span(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

void *page_end(size_t bytes)
{
	size_t span = page_end_span(bytes), page = (size_t)sysconf(_SC_PAGESIZE);
	char *at = mmap(NULL, span + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);

	if (at == MAP_FAILED || mprotect(at + span, page, PROT_NONE))
		abort();
	return at + span - bytes;
}

void page_end_free(void *room, size_t bytes)
{
	size_t span = page_end_span(bytes);

	munmap((char *)room + bytes - span, span + (size_t)sysconf(_SC_PAGESIZE));
}

int fd_send(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

int fd_receive(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg;
	ssize_t got = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	int fd;

	if (got != 1)
		return got < 0 ? -errno : -EPIPE;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -EBADMSG;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

pid_t child_start(int (*call)(void *), void *arg)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(call(arg));
	return pid;
}

int child_wait(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool wait_until(bool (*done)(void *), void *arg, unsigned seconds)
{
	struct timespec now;
	time_t end;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + seconds + 1;
	while (!done(arg)) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= end)
			return false;
		sched_yield();
	}
	return true;
}

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int64_t file_number(const char *path)
{
	FILE *file = fopen(path, "re");
	long long number = 0;
	int got;

	if (!file)
		return -errno;
	got = fscanf(file, "%lld", &number);
	fclose(file);
	return got == 1 ? number : -EINVAL;
}

int run(const char *command)
{
	char line[512];
	FILE *pipe;
	int status;

	snprintf(line, sizeof(line), "{ %s\n} 2>&1", command);
	fflush(stdout);
	pipe = popen(line, "re");
	if (!pipe)
		return -errno;
	while (fgets(line, sizeof(line), pipe)) {
		line[strcspn(line, "\n")] = '\0';
		tap_diag("%.20s: %s", command, line);
	}
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
