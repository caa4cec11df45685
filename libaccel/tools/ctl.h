/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * accelctl: what its subcommands share. One is a row of the table in ctl.c and a function
 * ctl_NAME(), which prints for people or as one JSON document and returns an exit status.
 */
#ifndef ACCEL_CTL_H
#define ACCEL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Exit statuses. */
enum {
	CTL_PASS = 0,
	CTL_FAIL = 1, /* a check failed */
	CTL_USAGE = 2,
	CTL_MISSING = 3, /* no such device, or it may not be opened */
};

struct ctl_opts {
	const char *device; /* NULL: the subcommand's default */
	bool json, once;
	unsigned interval_ms;
	uint64_t bytes;	  /* of the selftest's buffer */
	bool test;	  /* net: a link */
	int rank;	  /* of two; -1: the environment's */
	const char *peer; /* net: rank 0's address; NULL: the environment's */
	uint32_t port;	  /* net: rank 0's; 0: the environment's, or the library's */
};

int ctl_list(const struct ctl_opts *opts);
int ctl_info(const struct ctl_opts *opts);
int ctl_selftest(const struct ctl_opts *opts);
int ctl_top(const struct ctl_opts *opts);
int ctl_net(const struct ctl_opts *opts);

/* ---- ctl_net.c, ctl_net_test.c ---- */

struct accel_net_port;
json_t *ctl_port_json(const struct accel_net_port *port);
int ctl_net_test(const struct ctl_opts *opts);

/* ---- ctl_print.c ---- */

#define CTL_TEXT_BYTES 32

/* "64.0 MiB" */
const char *ctl_bytes(char text[CTL_TEXT_BYTES], uint64_t bytes);
/* "64.0 MiB", or "none" where 0 means that there is no limit */
const char *ctl_limit(char text[CTL_TEXT_BYTES], uint64_t bytes);
/* Takes the document over; on one line if compact. */
void ctl_json_print(json_t *document, bool compact);
/* What the library said when it refused, and the exit status that this makes. */
int ctl_refused(void);

/* ---- ctl_sysfs.c ---- */

#define CTL_DEVICES_MAX 256

/* A device of accel.ko, as sysfs shows it to everybody; needs no right to its node. */
struct ctl_device {
	char name[CTL_TEXT_BYTES]; /* accelN */
	char provider[CTL_TEXT_BYTES], state[CTL_TEXT_BYTES];
	int numa_node; /* -1: none */
	uint64_t mem_used_bytes, mem_max_bytes, user_max_bytes, import_bytes;
	uint64_t bo_count, client_count;
};

/* Those there are, by number; the count. */
unsigned ctl_devices_read(struct ctl_device devices[CTL_DEVICES_MAX]);
json_t *ctl_device_json(const struct ctl_device *device);

#endif
