/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What the tests of store, channel and group share: free ports, foreign listeners, ranks as threads
 * or processes, open descriptors.
 */
#ifndef ACCEL_TESTS_MEET_H
#define ACCEL_TESTS_MEET_H

#include "tap.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define LONG (60 * SECOND) /* never to be waited out */

/* Listening at 127.0.0.1, or -1. port 0: any. */
static inline int meet_listen(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, 256))
		return fd;
	close(fd);
	return -1;
}

static inline int meet_port_of(int fd)
{
	struct sockaddr_in address;
	socklen_t len = sizeof(address);

	getsockname(fd, (struct sockaddr *)&address, &len);
	return ntohs(address.sin_port);
}

/* The first of four ports in a row, free when last looked at. */
static inline int meet_free_ports(void)
{
	for (;;) {
		int fd[4] = {meet_listen(0), -1, -1, -1}, port = meet_port_of(fd[0]), got = 1;

		while (got < 4 && port + got < 65536 && (fd[got] = meet_listen(port + got)) >= 0)
			got++;
		for (int i = 0; i < got; i++)
			close(fd[i]);
		if (got == 4)
			return port;
	}
}

/* Connected to 127.0.0.1, once somebody listens there. */
static inline int meet_connect(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	for (;;) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return fd;
		close(fd);
		sched_yield();
	}
}

static inline int meet_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

struct meet_rank {
	int rank;
	void (*run)(int rank, void *arg);
	void *arg;
	pthread_t thread;
};

static inline void *meet_thread(void *arg)
{
	struct meet_rank *rank = arg;

	rank->run(rank->rank, rank->arg);
	return NULL;
}

/* run(r, arg) for r in 0..count-1, each in a thread. */
static inline void meet_threads(int count, void (*run)(int rank, void *arg), void *arg)
{
	struct meet_rank ranks[64];

	for (int r = 0; r < count; r++) {
		ranks[r] = (struct meet_rank){.rank = r, .run = run, .arg = arg};
		pthread_create(&ranks[r].thread, NULL, meet_thread, &ranks[r]);
	}
	for (int r = 0; r < count; r++)
		pthread_join(ranks[r].thread, NULL);
}

/* run(r, arg) is true for r in 0..count-1, each in a process of its own. */
static inline void meet_processes(int count, bool (*run)(int rank, void *arg), void *arg)
{
	pid_t pid[64];

	for (int r = 0; r < count; r++) {
		pid[r] = fork();
		if (!pid[r])
			exit(run(r, arg) ? 0 : 1);
	}
	for (int r = 0; r < count; r++) {
		int status = -1;

		CHECK_EQ(waitpid(pid[r], &status, 0), pid[r]);
		tap_check(!status, __FILE__, __LINE__,
			  "the process of rank %d ended with status %#x", r, (unsigned)status);
	}
}

#endif
