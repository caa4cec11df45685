/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * accel.ko as the tests of tests/vm use it: device nodes, buffers, dma-bufs and what is around
 * them, by bare system calls and without libaccel. Calls return 0 or a value, or -errno.
 */
#ifndef ACCEL_TESTS_NODE_H
#define ACCEL_TESTS_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "axl_drm.h"

#define MIB (1ull << 20)

/* Loads accel.ko, which must not be in use, anew with these parameters; 0 if it is then there. */
int module_load(const char *parameters);

/*
 * A file of the device of this rank among those of our driver that exist, from 0; -ENODEV if there is none.
 * The module is loaded with one device if it is not there.
 */
int node_open(unsigned rank);
unsigned node_number(int fd); /* N of /dev/accel/accelN */

int device_add(unsigned id); /* one more software device; it is there when this returns */
int device_del(unsigned id);

int node_ioctl(int fd, unsigned long request, void *arg);
int node_param(int fd, uint32_t param, uint64_t *value);
int node_memory(int fd, uint32_t what, struct drm_axl_memory *memory); /* SYS's element */
uint64_t node_bos(int fd); /* buffers of all placements on this device; ~0 if it cannot tell */
const char *node_last_error(int fd); /* valid until the next call */

int bo_create(int fd, uint64_t bytes, uint32_t flags, uint32_t *handle);
int bo_close(int fd, uint32_t handle);
int bo_info(int fd, uint32_t handle, struct drm_axl_bo_info *info);
int bo_offset(int fd, uint32_t handle, uint64_t *offset);
void *bo_map(int fd, uint32_t handle, size_t bytes);	/* shared, to read and write; or NULL */
int bo_export(int fd, uint32_t handle, uint32_t flags); /* a dma-buf's descriptor */
int bo_import(int fd, int dmabuf, uint32_t *handle);
void *fd_map(int fd, size_t bytes, int prot); /* shared, from offset 0; or NULL */

/* Words that depend on seed and place: a page that went elsewhere is seen. */
void pattern_write(void *at, size_t bytes, uint64_t seed);
bool pattern_holds(const void *at, size_t bytes, uint64_t seed); /* says where it does not */
bool is_zero(const void *at, size_t bytes);

/* Room for bytes that end where the page after them cannot be touched; page_end_free() takes it. */
void *page_end(size_t bytes);
void page_end_free(void *room, size_t bytes);

int fd_send(int socket, int fd);
int fd_receive(int socket);

/* Runs call in a process of its own that then exits with what it returned; its pid. */
pid_t child_start(int (*call)(void *), void *arg);
int child_wait(pid_t pid); /* its exit status; 128 + n when signal n ended it */

/* Yields until done() says so, or for seconds at most: whether it did. */
bool wait_until(bool (*done)(void *), void *arg, unsigned seconds);

int file_write(const char *path, const char *text);
int64_t file_number(const char *path); /* the decimal number in it, or -errno */
int run(const char *command);	       /* by the shell; its exit status, what it says as comments */

#endif
