// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* What a rank says about itself, where it listens, and whether what others say can be true. */
#define _GNU_SOURCE
#include "pair_net.h"
#include "ranks.h"
#include "verbs_device.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_PREFIX "accel-"
#define NAME_DIGITS 32
#define BACKLOG_SPARE 128 /* connections of strangers that wait beside those of all peers */

_Static_assert(ACCEL_SOCKET_DIR_BYTES + ACCEL_SOCKET_NAME_BYTES <=
		       sizeof(((struct sockaddr_un *)0)->sun_path),
	       "dir/name fits");

_Static_assert(CPU_SETSIZE <= ACCEL_CORES_MAX, "a bit for each core");

/* Without /proc these stay empty: "unknown", and whether a pair can meet shows when it tries. */
static void describe_place(struct accel_member *member)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0) {
		ssize_t n = read(fd, member->boot_id, sizeof(member->boot_id) - 1);

		member->boot_id[n > 0 ? n : 0] = 0;
		member->boot_id[strcspn(member->boot_id, "\n")] = 0;
		close(fd);
	}
	if (!stat("/proc/self/ns/net", &st)) {
		member->netns_dev = st.st_dev;
		member->netns_ino = st.st_ino;
	}
	if (gethostname(member->host, sizeof(member->host)))
		member->host[0] = 0;
	member->host[sizeof(member->host) - 1] = 0;
}

static void describe_cores(struct accel_member *member)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	for (int c = 0; c < CPU_SETSIZE; c++)
		if (CPU_ISSET(c, &set))
			member->cores[c / 64] |= UINT64_C(1) << c % 64;
}

static void describe_secrets(struct accel_member *member)
{
	uint8_t random[ACCEL_COOKIE_BYTES + NAME_DIGITS / 2];

	while (getrandom(random, sizeof(random), 0) != sizeof(random))
		continue;
	memcpy(member->cookie, random, ACCEL_COOKIE_BYTES);
	memcpy(member->name, NAME_PREFIX, sizeof(NAME_PREFIX));
	for (size_t i = 0; i < NAME_DIGITS / 2; i++)
		snprintf(member->name + strlen(NAME_PREFIX) + 2 * i, 3, "%02x",
			 random[ACCEL_COOKIE_BYTES + i]);
}

static int listen_at(const struct sockaddr_un *address, size_t len, uint32_t world)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -errno;
	if (!bind(fd, (const struct sockaddr *)address, (socklen_t)len) &&
	    !listen(fd, (int)world + BACKLOG_SPARE))
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static int listen_in_dir(struct accel_listener *listener, struct accel_member *member)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;

	if (strlen(listener->socket_dir) >= ACCEL_SOCKET_DIR_BYTES)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "socket_dir \"%.80s\" is longer than %d characters",
				  listener->socket_dir, ACCEL_SOCKET_DIR_BYTES - 1);
	snprintf(listener->path, sizeof(listener->path), "%s/%s", listener->socket_dir,
		 member->name);
	memcpy(address.sun_path, listener->path, sizeof(listener->path));
	listener->file_fd = listen_at(&address, sizeof(address), member->world);
	if (listener->file_fd < 0 || stat(listener->socket_dir, &st)) {
		int error = listener->file_fd < 0 ? -listener->file_fd : errno;

		if (listener->file_fd < 0)
			listener->path[0] = 0;
		return accel_fail(NULL, error == EMFILE || error == ENFILE ? -ENOMEM : -EINVAL,
				  ACCEL_AT_CREATE, "no socket can be made in socket_dir \"%s\": %s",
				  listener->socket_dir, strerror(error));
	}
	member->dir_dev = st.st_dev;
	member->dir_ino = st.st_ino;
	return 0;
}

static int listen_all(struct accel_listener *listener, struct accel_member *member,
		      const char *address)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int rc = 0;

	memcpy(name.sun_path + 1, member->name, strlen(member->name));
	listener->fd = listen_at(&name,
				 offsetof(struct sockaddr_un, sun_path) + 1 + strlen(member->name),
				 member->world);
	if (listener->fd < 0)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no Unix socket can be made: %s",
				  strerror(-listener->fd));
	if (listener->socket_dir)
		rc = listen_in_dir(listener, member);
	if (!rc && member->has_rdma)
		rc = accel_pair_net_listen(listener, member, address);
	return rc;
}

int accel_pair_listen(struct accel_listener *listener, struct accel_member *member,
		      const struct accel_group_params *params)
{
	int rc;

	*listener = (struct accel_listener){
		.fd = -1, .file_fd = -1, .tcp_fd = -1, .socket_dir = params->opts.socket_dir};
	*member = (struct accel_member){
		.magic = ACCEL_MEMBER_MAGIC,
		.version = ACCEL_MEMBER_VERSION,
		.rank = (uint32_t)params->rank,
		.world = (uint32_t)params->world,
		.pid = (uint32_t)getpid(),
		.uid = (uint32_t)getuid(),
		.links = (uint8_t)params->links,
	};
	memcpy(member->link, params->link, sizeof(member->link));
	member->has_rdma = memchr(member->link, ACCEL_LINK_VERBS, member->links) &&
			   accel_verbs_is_there(params->opts.verbs_library);
	describe_place(member);
	describe_cores(member);
	describe_secrets(member);
	rc = listen_all(listener, member, params->opts.address);
	if (rc)
		accel_pair_close(listener);
	return rc;
}

void accel_pair_close(struct accel_listener *listener)
{
	if (listener->path[0])
		unlink(listener->path);
	if (listener->tcp_fd >= 0)
		close(listener->tcp_fd);
	if (listener->file_fd >= 0)
		close(listener->file_fd);
	if (listener->fd >= 0)
		close(listener->fd);
	*listener = (struct accel_listener){.fd = -1, .file_fd = -1, .tcp_fd = -1};
}

/* All of it printable, with a NUL inside. */
static bool is_text(const char *text, size_t room)
{
	const char *end = memchr(text, 0, room);

	for (const char *c = text; end && c < end; c++)
		if (!isprint((unsigned char)*c))
			return false;
	return end;
}

static bool is_name(const struct accel_member *member)
{
	return is_text(member->name, sizeof(member->name)) &&
	       strlen(member->name) == strlen(NAME_PREFIX) + NAME_DIGITS &&
	       !strncmp(member->name, NAME_PREFIX, strlen(NAME_PREFIX)) &&
	       strspn(member->name + strlen(NAME_PREFIX), "0123456789abcdef") == NAME_DIGITS;
}

static bool has_sound_links(const struct accel_member *member)
{
	bool sound = member->links >= 1 && member->links <= ACCEL_LINKS &&
		     member->addresses <= ACCEL_ADDRESSES_MAX &&
		     (!member->addresses || member->port);

	for (int i = 0; sound && i < member->links; i++)
		sound = member->link[i] < ACCEL_LINKS;
	return sound;
}

static int check_one(const struct accel_member *mine, const struct accel_member *member, int rank)
{
	struct accel_failure where = {.rank = rank, .phase = ACCEL_PHASE_CREATE, .lane = -1};

	if (memcmp(member->magic, ACCEL_MEMBER_MAGIC, sizeof(member->magic)))
		return accel_fail(
			NULL, -EPROTO, &where,
			"what the allgather gave for rank %d is no member of an accel group", rank);
	if (member->version != ACCEL_MEMBER_VERSION)
		return accel_fail(
			NULL, -EPROTO, &where,
			"version of the group protocol is %u on rank %d and %u on rank %u: run the "
			"same library on all ranks",
			member->version, rank, ACCEL_MEMBER_VERSION, mine->rank);
	if (member->world != mine->world)
		return accel_fail(
			NULL, -EPROTO, &where,
			"world is %u on rank %d and %u on rank %u; it must be equal on all ranks",
			member->world, rank, mine->world, mine->rank);
	if (member->rank != (uint32_t)rank)
		return accel_fail(
			NULL, -EPROTO, &where,
			"rank is %u on the process that the allgather has as rank %d: two processes "
			"claim one rank, or it is out of order",
			member->rank, rank);
	if (!is_name(member) || !is_text(member->boot_id, sizeof(member->boot_id)) ||
	    !is_text(member->host, sizeof(member->host)) || !has_sound_links(member))
		return accel_fail(
			NULL, -EPROTO, &where,
			"the socket, boot id, host name, transports or addresses that rank "
			"%d gave are nonsense",
			rank);
	return 0;
}

int accel_pair_check(const struct accel_member *mine, const struct accel_member *members,
		     const uint64_t *absent)
{
	int world = (int)mine->world;

	for (int r = 0; r < world; r++) {
		int rc = accel_ranks_has(absent, r) ? 0 : check_one(mine, &members[r], r);

		if (rc)
			return rc;
	}
	if (memcmp(&members[mine->rank], mine, sizeof(*mine)))
		return accel_fail(
			NULL, -EPROTO,
			&(struct accel_failure){
				.rank = (int)mine->rank, .phase = ACCEL_PHASE_CREATE, .lane = -1},
			"the allgather gave rank %u something else than it had put in for "
			"itself: two processes claim this rank",
			mine->rank);
	return 0;
}
