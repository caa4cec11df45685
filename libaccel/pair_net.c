// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Addresses of a rank for peers of other hosts, and its TCP listener. Nobody can say from here which
 * of a host's addresses a peer reaches, so it is offered all, and tries them; those that lead
 * farthest come first.
 */
#define _GNU_SOURCE
#include "pair_net.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWN_MAX 256	  /* addresses of this host that are looked at */
#define BACKLOG_SPARE 128 /* connections of strangers that wait beside those of all peers */
#define DEFER_S 5	  /* a connection shows when its hello is there, or after this */

enum reach { ROUTABLE, LINK_LOCAL, LOOPBACK, REACHES };

struct own {
	uint8_t ip[16];
	uint32_t scope;
	enum reach reach;
	char interface[IF_NAMESIZE];
};

struct owns {
	int count;
	struct own own[OWN_MAX];
};

static enum reach reach_of(const uint8_t ip[16])
{
	if (accel_pair_net_is_v4(ip))
		return ip[12] == 127			? LOOPBACK
		       : ip[12] == 169 && ip[13] == 254 ? LINK_LOCAL
							: ROUTABLE;
	return IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)ip) ? LOOPBACK
	       : accel_pair_net_has_scope(ip)			 ? LINK_LOCAL
								 : ROUTABLE;
}

static bool ip_of(const struct sockaddr *address, uint8_t ip[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (address->sa_family == AF_INET) {
		memcpy(ip, mapped, sizeof(mapped));
		memcpy(ip + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
		return true;
	}
	if (address->sa_family == AF_INET6)
		memcpy(ip, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
	return address->sa_family == AF_INET6;
}

static bool has(const struct owns *owns, const uint8_t ip[16])
{
	for (int i = 0; i < owns->count; i++)
		if (!memcmp(owns->own[i].ip, ip, 16))
			return true;
	return false;
}

/* All of this host, each once, of interfaces that are up. */
static int look(struct owns *owns)
{
	struct ifaddrs *list;

	owns->count = 0;
	if (getifaddrs(&list))
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				  "the addresses of this host cannot be read: %s", strerror(errno));
	for (struct ifaddrs *i = list; i && owns->count < OWN_MAX; i = i->ifa_next) {
		struct own *own = &owns->own[owns->count];

		if (!(i->ifa_flags & IFF_UP) || !i->ifa_addr || !ip_of(i->ifa_addr, own->ip) ||
		    (has(owns, own->ip) && !accel_pair_net_has_scope(own->ip)))
			continue;
		own->reach = reach_of(own->ip);
		own->scope = i->ifa_addr->sa_family == AF_INET6
				     ? ((struct sockaddr_in6 *)i->ifa_addr)->sin6_scope_id
				     : 0;
		snprintf(own->interface, sizeof(own->interface), "%s", i->ifa_name);
		owns->count++;
	}
	freeifaddrs(list);
	return 0;
}

static int fail_address(const struct owns *owns, const char *address)
{
	char known[300] = "", text[INET6_ADDRSTRLEN];
	size_t len = 0;

	for (int i = 0; i < owns->count && len < sizeof(known); i++)
		len += (size_t)snprintf(known + len, sizeof(known) - len, " %s (%s)",
					accel_pair_net_text(owns->own[i].ip, text),
					owns->own[i].interface);
	return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
			  "address \"%.40s\" is neither an address of this host nor an interface "
			  "that has one; there are:%s",
			  address, known);
}

/* What of it is offered. wanted: an address, whose scope is kept in *scope; NULL: see interface. */
static void offer(const struct owns *owns, const uint8_t *wanted, const char *interface,
		  struct accel_listener *listener, struct accel_member *member, uint32_t *scope)
{
	for (int reach = 0; reach < REACHES; reach++) {
		for (int i = 0; i < owns->count; i++) {
			const struct own *own = &owns->own[i];

			if ((int)own->reach != reach || (wanted && memcmp(wanted, own->ip, 16)) ||
			    (interface && strcmp(interface, own->interface)))
				continue;
			/* Of itself it leads to no other host. */
			if (reach == LOOPBACK && !wanted && !interface && member->addresses)
				continue;
			if (own->scope && listener->scopes < ACCEL_SCOPES_MAX)
				listener->scope[listener->scopes++] = own->scope;
			if (member->addresses == ACCEL_ADDRESSES_MAX)
				continue;
			memcpy(member->address[member->addresses++], own->ip, 16);
			*scope = own->scope;
		}
	}
}

/* Where the kernel has no IPv6, or it is turned off, of IPv4 alone. wanted NULL: at any address. */
static int listen_at(const uint8_t *wanted, uint32_t scope, uint32_t world, uint16_t *port)
{
	struct sockaddr_storage address;
	const int off = 0, defer_s = DEFER_S;
	static const uint8_t any[2][16] = {{0}, {[10] = 0xff, [11] = 0xff}};
	int fd = -1, error = 0;

	for (int i = 0; i < (wanted ? 1 : 2); i++) {
		socklen_t len = accel_pair_net_sockaddr(wanted ? wanted : any[i], 0, scope,
							&address);

		fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			    IPPROTO_TCP);
		if (fd < 0) {
			error = errno;
			continue;
		}
		if (address.ss_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
		setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof(defer_s));
		if (!bind(fd, (struct sockaddr *)&address, len) &&
		    !listen(fd, (int)world + BACKLOG_SPARE) &&
		    !getsockname(fd, (struct sockaddr *)&address, &len)) {
			*port = ntohs(address.ss_family == AF_INET6
					      ? ((struct sockaddr_in6 *)&address)->sin6_port
					      : ((struct sockaddr_in *)&address)->sin_port);
			return fd;
		}
		error = errno;
		close(fd);
	}
	return -error;
}

int accel_pair_net_listen(struct accel_listener *listener, struct accel_member *member,
			  const char *address)
{
	struct owns *owns = malloc(sizeof(*owns));
	uint8_t wanted[16] = {[10] = 0xff, [11] = 0xff};
	bool is_ip = address && (inet_pton(AF_INET, address, wanted + 12) == 1 ||
				 inet_pton(AF_INET6, address, wanted) == 1);
	uint32_t scope = 0;
	int rc;

	if (!owns)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE,
				  "no memory to look at this host's addresses");
	rc = look(owns);
	if (!rc)
		offer(owns, is_ip ? wanted : NULL, is_ip ? NULL : address, listener, member,
		      &scope);
	if (!rc && address && !member->addresses)
		rc = fail_address(owns, address);
	free(owns);
	if (rc)
		return rc;
	listener->tcp_fd = listen_at(is_ip ? wanted : NULL, is_ip ? scope : 0, member->world,
				     &member->port);
	if (listener->tcp_fd >= 0)
		return 0;
	rc = -listener->tcp_fd;
	listener->tcp_fd = -1;
	return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no TCP socket can be made: %s",
			  strerror(rc));
}

socklen_t accel_pair_net_sockaddr(const uint8_t ip[16], uint16_t port, uint32_t scope,
				  struct sockaddr_storage *address)
{
	memset(address, 0, sizeof(*address));
	if (accel_pair_net_is_v4(ip)) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)address;

		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		memcpy(&v4->sin_addr, ip + 12, 4);
		return sizeof(*v4);
	}
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	v6->sin6_scope_id = scope;
	memcpy(&v6->sin6_addr, ip, 16);
	return sizeof(*v6);
}

const char *accel_pair_net_text(const uint8_t ip[16], char text[INET6_ADDRSTRLEN])
{
	bool is_v4 = accel_pair_net_is_v4(ip);

	return inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? ip + 12 : ip, text, INET6_ADDRSTRLEN);
}

const char *accel_pair_net_all(const struct accel_member *member, char *text, size_t room)
{
	char one[INET6_ADDRSTRLEN];
	size_t len = 0;

	if (!member->addresses)
		snprintf(text, room, "no address");
	for (int i = 0; i < member->addresses && len < room; i++)
		len += (size_t)snprintf(text + len, room - len, "%s%s", i ? ", " : "",
					accel_pair_net_text(member->address[i], one));
	if (len && len < room)
		snprintf(text + len, room - len, " port %u", member->port);
	return text;
}
