/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Members of a group, how each pair of them exchanges rows, and how it gets its control socket.
 *
 * What a rank tells the others about itself is struct accel_member, carried by the rendezvous.
 * Every rank listens on an abstract SEQPACKET socket (shared by the containers of a pod, as their
 * network namespace is), with socket_dir on a socket file there, and on TCP if it may be reached
 * through an RDMA device; the higher rank of a pair connects to the lower. Both say HELLO with the
 * other's cookie, which only the rendezvous could have told them, and over Unix sockets both look at
 * the other's uid. Whether a pair can meet, where, and which transport it takes is decided from the
 * two members alone, so that both ranks come to the same answer, and those of a hopeless pair to the
 * same error.
 */
#ifndef ACCEL_PAIR_H
#define ACCEL_PAIR_H

#include "group_opts.h"

#define ACCEL_MEMBER_MAGIC "accelmb"
#define ACCEL_MEMBER_VERSION 3
#define ACCEL_COOKIE_BYTES 16
#define ACCEL_SOCKET_NAME_BYTES 40 /* "accel-" and 32 hex digits, NUL-padded */
#define ACCEL_CORES_MAX 1024
#define ACCEL_ADDRESSES_MAX 8 /* that a rank offers */
#define ACCEL_SCOPES_MAX 4
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
	/* Of IPv6, or ::ffff:a.b.c.d of IPv4; the first ones are tried first. */
	uint8_t address[ACCEL_ADDRESSES_MAX][16];
	uint8_t link
		[ACCEL_LINKS]; /* enum accel_link, its transports in order; the first links count */
	uint8_t links;
	uint8_t has_rdma; /* 1: an RDMA device, and so a TCP listener */
	uint16_t port;	  /* of that, at each of its addresses; 0: none */
	uint16_t addresses;
	/* Ranks that its group reaches through shared memory, for one that joins while they are absent. */
	uint64_t near[ACCEL_RANKS_MAX / 64];
};

_Static_assert(sizeof(struct accel_member) == 624, "as sent");

struct accel_listener {
	int fd;			/* abstract */
	int file_fd;		/* in socket_dir, or -1 */
	int tcp_fd;		/* or -1 */
	const char *socket_dir; /* or NULL */
	char path[ACCEL_SOCKET_DIR_BYTES +
		  ACCEL_SOCKET_NAME_BYTES]; /* unlinked by close; empty: none */
	/* Interfaces with a link-local IPv6 address, through which such an address is asked. */
	uint32_t scope[ACCEL_SCOPES_MAX];
	int scopes;
};

/*
 * Describe this rank in *member and listen as it says. Errors are decided with accel_fail(NULL,
 * ...): -EINVAL, -ENOMEM.
 */
int accel_pair_listen(struct accel_listener *listener, struct accel_member *member,
		      const struct accel_group_params *params);
void accel_pair_close(struct accel_listener *listener);

/*
 * Members as they came from the rendezvous, hostile: -EPROTO naming rank and field. absent: set of
 * ranks that are not looked at.
 */
int accel_pair_check(const struct accel_member *mine, const struct accel_member *members,
		     const uint64_t *absent);

/* Are the two of one kernel, as far as is known? */
bool accel_pair_is_one_kernel(const struct accel_member *a, const struct accel_member *b);
/* Have they a Unix socket in common, as far as is known? Then it is their control socket, else TCP. */
bool accel_pair_has_socket(const struct accel_member *a, const struct accel_member *b);
/*
 * How the two exchange rows: enum accel_link, the first of the lower rank's list that both list and
 * that reaches; -EHOSTUNREACH, decided: none, and why.
 */
int accel_pair_link(const struct accel_member *mine, const struct accel_member *theirs);

/*
 * fd[world]: one connected socket for each rank of the set with, else -1; all or none. Strangers at the listener
 * are ignored. -ETIMEDOUT naming the ranks that did not come; -ECONNRESET one that failed
 * meanwhile; -EHOSTUNREACH one that none of its addresses leads to; -ENOMEM.
 */
int accel_pair_connect(struct accel_listener *listener, const struct accel_member *members,
		       int rank, int world, const uint64_t *with, int64_t timeout_ns, int *fd);

#endif
