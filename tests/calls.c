// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The library's calls of the C library; see calls.h. A block is remembered by its address, since
 * some that the library frees (getline's) it never asked for here.
 *
 * recvmsg fails with EMFILE as the kernel does it: the packet comes, its descriptors do not, and
 * MSG_CTRUNC says so.
 */
#define _GNU_SOURCE
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCKS_MAX = 1 << 16 };

const struct calls_fault calls_faults[] = {
	{"malloc", ENOMEM, CALLS_SHORTAGE},
	{"calloc", ENOMEM, CALLS_SHORTAGE},
	{"strdup", ENOMEM, CALLS_SHORTAGE},
	{"mmap", ENOMEM, CALLS_SHORTAGE},
	{"madvise", ENOMEM, CALLS_SHORTAGE},
	{"madvise", EINVAL, CALLS_PASSING}, /* before Linux 5.14 */
	{"memfd_create", EMFILE, CALLS_SHORTAGE},
	{"memfd_create", EINVAL, CALLS_PASSING}, /* before Linux 6.3 */
	{"ftruncate", ENOSPC, CALLS_SHORTAGE},
	{"fcntl", EPERM, CALLS_FATAL},
	{"fstat", EIO, CALLS_FATAL},
	{"open", EMFILE, CALLS_SHORTAGE},
	{"fopen", EMFILE, CALLS_SHORTAGE},
	{"read", EIO, CALLS_FATAL},
	{"getrandom", EINTR, CALLS_FATAL},
	{"getaddrinfo", EAI_MEMORY, CALLS_SHORTAGE},
	{"getaddrinfo", EAI_AGAIN, CALLS_PASSING},
	{"socket", EMFILE, CALLS_SHORTAGE},
	{"bind", EADDRINUSE, CALLS_FATAL},
	{"listen", EADDRINUSE, CALLS_FATAL},
	{"connect", ECONNREFUSED, CALLS_FATAL},
	{"connect", EAGAIN, CALLS_PASSING}, /* a full backlog */
	{"accept4", EMFILE, CALLS_SHORTAGE},
	{"accept4", ECONNABORTED, CALLS_PASSING},
	{"accept4", EINTR, CALLS_PASSING},
	{"getsockopt", EINVAL, CALLS_FATAL},
	{"setsockopt", EINVAL, CALLS_FATAL},
	{"send", EPIPE, CALLS_FATAL},
	{"send", ENOBUFS, CALLS_FATAL},
	{"sendmsg", EPIPE, CALLS_FATAL},
	{"sendmsg", ENOBUFS, CALLS_FATAL},
	{"sendmsg", EAGAIN, CALLS_PASSING},
	{"sendmsg", EINTR, CALLS_PASSING},
	{"sendmsg", ETOOMANYREFS, CALLS_PASSING}, /* descriptors on their way */
	{"recv", ECONNRESET, CALLS_FATAL},
	{"recv", EAGAIN, CALLS_PASSING},
	{"recv", EINTR, CALLS_PASSING},
	{"recvmsg", ENOMEM, CALLS_SHORTAGE},
	{"recvmsg", EMFILE, CALLS_SHORTAGE},
	{"recvmsg", ECONNRESET, CALLS_PASSING}, /* told once, before what can still be read */
	{"recvmsg", EINTR, CALLS_PASSING},
	{"poll", ENOMEM, CALLS_FATAL},
	{"poll", EINTR, CALLS_PASSING},
	{"futex", ETIMEDOUT, CALLS_PASSING}, /* at once */
	{"futex", EINTR, CALLS_PASSING},
	{"futex", 0, CALLS_PASSING},	 /* woken for nothing */
	{"numa", ENOSYS, CALLS_PASSING}, /* getcpu, mbind, get_mempolicy where calls are filtered */
};

const unsigned calls_fault_count = sizeof(calls_faults) / sizeof(*calls_faults);

static _Thread_local struct {
	const struct calls_fault *fault;
	unsigned left;
	bool failed;
} armed;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static void *blocks[BLOCKS_MAX];
static struct calls_held held;

void calls_fail(const struct calls_fault *fault, unsigned n)
{
	armed.fault = fault;
	armed.left = n;
	armed.failed = false;
}

bool calls_failed(void)
{
	return armed.failed;
}

struct calls_held calls_held(void)
{
	struct calls_held now;

	pthread_mutex_lock(&lock);
	now = held;
	pthread_mutex_unlock(&lock);
	return now;
}

/* Is this the call? Then errno is set. */
static bool fails(const char *name)
{
	if (!armed.fault || armed.failed || strcmp(armed.fault->name, name) || --armed.left)
		return false;
	armed.failed = true;
	errno = armed.fault->error;
	return true;
}

/* Where the block is, or a free place; blocks lie in runs, and a run ends at an empty place. */
static size_t place_of(const void *block)
{
	size_t at = ((uintptr_t)block >> 4) * 0x9e3779b1u % BLOCKS_MAX;

	while (blocks[at] && blocks[at] != block)
		at = (at + 1) % BLOCKS_MAX;
	return at;
}

static void *remember(void *block)
{
	if (!block)
		return NULL;
	pthread_mutex_lock(&lock);
	if (++held.blocks > BLOCKS_MAX / 2)
		abort();
	blocks[place_of(block)] = block;
	pthread_mutex_unlock(&lock);
	return block;
}

static void forget(const void *block)
{
	size_t at;

	pthread_mutex_lock(&lock);
	at = place_of(block);
	if (block && blocks[at]) {
		blocks[at] = NULL;
		held.blocks--;
		for (at = (at + 1) % BLOCKS_MAX; blocks[at]; at = (at + 1) % BLOCKS_MAX) {
			void *moved = blocks[at]; /* it may have stood here for the hole's sake */

			blocks[at] = NULL;
			blocks[place_of(moved)] = moved;
		}
	}
	pthread_mutex_unlock(&lock);
}

static void count_mapping(int by)
{
	pthread_mutex_lock(&lock);
	held.mappings += by;
	pthread_mutex_unlock(&lock);
}

#ifdef __SANITIZE_ADDRESS__
/*
 * What leaks is counted here; LeakSanitizer's look takes longer than a run, and hangs for ever if a
 * SIGCONT meets the stop by which it begins. The sanitizer's library must be able to find this.
 */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

/* ---- Heap ------------------------------------------------------------------------------------ */

void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
	return fails("malloc") ? NULL : remember(malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes)
{
	return fails("calloc") ? NULL : remember(calloc(count, bytes));
}

char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
	return fails("strdup") ? NULL : remember(strdup(text));
}

void __wrap_free(void *block);
void __wrap_free(void *block)
{
	forget(block);
	free(block);
}

/* ---- Mappings and files ---------------------------------------------------------------------- */

void *__wrap_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	void *map = fails("mmap") ? MAP_FAILED : mmap(addr, bytes, prot, flags, fd, offset);

	count_mapping(map != MAP_FAILED);
	return map;
}

int __wrap_munmap(void *addr, size_t bytes);
int __wrap_munmap(void *addr, size_t bytes)
{
	count_mapping(-1);
	return munmap(addr, bytes);
}

int __wrap_madvise(void *addr, size_t bytes, int advice);
int __wrap_madvise(void *addr, size_t bytes, int advice)
{
	return fails("madvise") ? -1 : madvise(addr, bytes, advice);
}

int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags)
{
	return fails("memfd_create") ? -1 : memfd_create(name, flags);
}

int __wrap_ftruncate(int fd, off_t bytes);
int __wrap_ftruncate(int fd, off_t bytes)
{
	return fails("ftruncate") ? -1 : ftruncate(fd, bytes);
}

/* The library's third argument, where there is one, is an int. */
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
	va_list args;
	int arg;

	va_start(args, command);
	arg = va_arg(args, int);
	va_end(args);
	return fails("fcntl") ? -1 : fcntl(fd, command, arg);
}

int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
	return fails("fstat") ? -1 : fstat(fd, st);
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	return fails("open") ? -1 : open(path, flags); /* it makes no files */
}

FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode)
{
	return fails("fopen") ? NULL : fopen(path, mode);
}

ssize_t __wrap_read(int fd, void *data, size_t bytes);
ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
	return fails("read") ? -1 : read(fd, data, bytes);
}

ssize_t __wrap_getrandom(void *data, size_t bytes, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t bytes, unsigned flags)
{
	return fails("getrandom") ? -1 : getrandom(data, bytes, flags);
}

/* ---- Sockets --------------------------------------------------------------------------------- */

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found)
{
	return fails("getaddrinfo") ? errno : getaddrinfo(node, service, hints, found);
}

int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
	return fails("socket") ? -1 : socket(domain, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t bytes);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
	return fails("bind") ? -1 : bind(fd, address, bytes);
}

int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog)
{
	return fails("listen") ? -1 : listen(fd, backlog);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t bytes);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
	return fails("connect") ? -1 : connect(fd, address, bytes);
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	return fails("accept4") ? -1 : accept4(fd, address, bytes, flags);
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
	return fails("getsockopt") ? -1 : getsockopt(fd, level, name, value, bytes);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
	return fails("setsockopt") ? -1 : setsockopt(fd, level, name, value, bytes);
}

ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags)
{
	return fails("send") ? -1 : send(fd, data, bytes, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	const bool can = msg->msg_controllen || !armed.fault || armed.fault->error != ETOOMANYREFS;

	return can && fails("sendmsg") ? -1 : sendmsg(fd, msg, flags);
}

ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags)
{
	return fails("recv") ? -1 : recv(fd, data, bytes, flags);
}

/* No descriptor was free for those that came along. */
static void lose_descriptors(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		int fd;

		memcpy(&fd, CMSG_DATA(c), sizeof(fd)); /* nobody sends more than one */
		close(fd);
		msg->msg_flags |= MSG_CTRUNC;
	}
	msg->msg_controllen = 0;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	const bool loses = armed.fault && armed.fault->error == EMFILE;
	ssize_t n;

	if (!loses)
		return fails("recvmsg") ? -1 : recvmsg(fd, msg, flags);
	n = recvmsg(fd, msg, flags);
	if (n > 0 && CMSG_FIRSTHDR(msg) && fails("recvmsg"))
		lose_descriptors(msg);
	return n;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	return fails("poll") ? -1 : poll(fds, count, timeout_ms);
}

/* ---- What the C library has no function for -------------------------------------------------- */

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	const bool futex = number == SYS_futex;
	long arg[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (futex ? arg[1] == FUTEX_WAIT && fails("futex") : fails("numa"))
		return errno ? -1 : 0;
	return syscall(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
