/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * For tests in guests whose ranks have RDMA devices: on a wire within one guest (tests/vm/wire.sh),
 * or on the link between guests (tests/vm/link.sh).
 */
#ifndef ACCEL_TESTS_FABRIC_H
#define ACCEL_TESTS_FABRIC_H

#include <stdbool.h>

/* An emulated CPU is slow to acknowledge, and what is sent again too early only adds to its load. */
#define FABRIC_PATIENT "verbs.ack_timeout=18"
/* Where packets are lost on purpose: Soft-RoCE waits so long for the second that a message loses. */
#define FABRIC_LOSSY "verbs.ack_timeout=16"
/* Where a path breaks on purpose: it is given up in two seconds. At 7, Soft-RoCE repeats without end. */
#define FABRIC_PROMPT "verbs.ack_timeout=16,verbs.retries=6"

/* One of the functions of those scripts, with its arguments: "wire_mtu 1500". */
bool fabric_wire(const char *command);
bool fabric_link(const char *command);

/*
 * What the groups that this process makes from now on use: rxe of that number, a list of transports,
 * and further options as ACCEL_OPTS has them ("" for none).
 */
void fabric_opts(int device, const char *transports, const char *more);

/* How many registrations of memory a device has, as the kernel counts them, or -errno. */
int fabric_registrations(int device);

#endif
