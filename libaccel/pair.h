/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Members of a group, and how each pair of them gets its control socket.
 *
 * What a rank tells the others about itself is struct accel_member, carried by the rendezvous.
 * Every rank listens on an abstract SEQPACKET socket (shared by the containers of a pod, as their
 * network namespace is), and with socket_dir on a socket file there; the higher rank of a pair
 * connects to the lower. Both say HELLO with the other's cookie, which only the rendezvous could
 * have told them, and both look at the other's uid. Whether a pair can meet, and where, is decided
 * from the two members alone, so that both ranks of a hopeless pair come to the same error.
 */
#ifndef ACCEL_PAIR_H
#define ACCEL_PAIR_H

#include "object.h"

#define ACCEL_MEMBER_MAGIC "accelmb"
#define ACCEL_MEMBER_VERSION 2
#define ACCEL_COOKIE_BYTES 16
#define ACCEL_SOCKET_NAME_BYTES 40 /* "accel-" and 32 hex digits, NUL-padded */
#define ACCEL_CORES_MAX 1024
#define ACCEL_SOCKET_DIR_BYTES 64 /* NUL included: with the name it must fit into a sockaddr_un */

struct accel_member {
	char magic[8];
	uint32_t version;
	uint32_t rank, world;
	uint32_t pid, uid;	       /* as seen there; for messages */
	uint32_t joins;		       /* 1: a new process of a rank that was there before */
	uint64_t contexts;	       /* EP contexts that its group has made or let join */
	char boot_id[40];	       /* of its kernel; empty: unknown */
	uint64_t netns_dev, netns_ino; /* of its network namespace; 0: unknown */
	uint64_t dir_dev, dir_ino;     /* of its socket_dir; 0: none */
	uint8_t cookie[ACCEL_COOKIE_BYTES];
	char name[ACCEL_SOCKET_NAME_BYTES];   /* of its abstract socket, and file in socket_dir */
	char host[64];			      /* for messages */
	uint64_t cores[ACCEL_CORES_MAX / 64]; /* it may run on; bit c: core c */
};

_Static_assert(sizeof(struct accel_member) == 360, "as sent");

struct accel_listener {
	int fd;			/* abstract */
	int file_fd;		/* in socket_dir, or -1 */
	const char *socket_dir; /* or NULL */
	char path[ACCEL_SOCKET_DIR_BYTES +
		  ACCEL_SOCKET_NAME_BYTES]; /* unlinked by close; empty: none */
};

/*
 * Describe this rank in *member and listen as it says. Errors are decided with accel_fail(NULL,
 * ...): -EINVAL, -ENOMEM.
 */
int accel_pair_listen(struct accel_listener *listener, struct accel_member *member, int rank,
		      int world, const char *socket_dir);
void accel_pair_close(struct accel_listener *listener);

/*
 * Members as they came from the rendezvous, hostile: -EPROTO naming rank and field; -EHOSTUNREACH a
 * pair that cannot meet. absent: set of ranks that are not looked at.
 */
int accel_pair_check(const struct accel_member *mine, const struct accel_member *members,
		     const uint64_t *absent);

/*
 * fd[world]: one connected socket for each rank of the set with, else -1; all or none. Strangers at the listener
 * are ignored. -ETIMEDOUT naming the ranks that did not come; -ECONNRESET one that failed
 * meanwhile; -EHOSTUNREACH; -ENOMEM.
 */
int accel_pair_connect(struct accel_listener *listener, const struct accel_member *members,
		       int rank, int world, const uint64_t *with, int64_t timeout_ns, int *fd);

#endif
