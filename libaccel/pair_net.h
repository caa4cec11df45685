/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Addresses of a rank for peers of other hosts, and its TCP listener. */
#ifndef ACCEL_PAIR_NET_H
#define ACCEL_PAIR_NET_H

#include "pair.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/*
 * Listen on TCP, at the addresses that address names (of this host: one, or an interface; NULL: all),
 * and put these into the member. Decided: -EINVAL this host has no such address; -ENOMEM.
 */
int accel_pair_net_listen(struct accel_listener *listener, struct accel_member *member,
			  const char *address);

static inline bool accel_pair_net_is_v4(const uint8_t ip[16])
{
	return IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)ip);
}

/* Of IPv6, valid on one link alone: whoever connects must say through which interface. */
static inline bool accel_pair_net_has_scope(const uint8_t ip[16])
{
	return IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)ip);
}

/* For connect(), and its length. */
socklen_t accel_pair_net_sockaddr(const uint8_t ip[16], uint16_t port, uint32_t scope,
				  struct sockaddr_storage *address);
const char *accel_pair_net_text(const uint8_t ip[16], char text[INET6_ADDRSTRLEN]);
/* All of a member's, as "10.0.0.1, fe80::1 port 4000", or "no address". Returns text. */
const char *accel_pair_net_all(const struct accel_member *member, char *text, size_t room);

#endif
