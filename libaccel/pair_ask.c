// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Asking a lower rank. Of its addresses some may lead nowhere, or to a machine that is another here
 * than there, so none is waited for alone: the next is begun STAGGER_NS later, or as soon as one has
 * failed, and the first that answers with the cookie is taken. When all have failed they are tried
 * again, since a full listener sheds connections and routes come and go; but not for long, since a rank
 * that has died does not come back.
 */
#define _GNU_SOURCE
#include "pair_ask.h"

#include "deadline.h"
#include "pair_net.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define STAGGER_NS (100 * ACCEL_NS_PER_MS)
#define CONNECT_NS (3000 * ACCEL_NS_PER_MS) /* for one address to take a connection */
#define PAUSE_NS (100 * ACCEL_NS_PER_MS)    /* before the second round; it doubles */
#define ROUNDS_MAX 5

/* ---- Hello ----------------------------------------------------------------------------------- */

bool accel_hello_send(const struct accel_pair_self *self, int fd, int peer)
{
	struct accel_hello hello = {
		.head = {.magic = ACCEL_MESSAGE_MAGIC,
			 .type = ACCEL_MESSAGE_HELLO,
			 .bytes = sizeof(hello) - sizeof(hello.head)},
		.version = ACCEL_MEMBER_VERSION,
		.from = (uint32_t)self->rank,
		.to = (uint32_t)peer,
	};

	memcpy(hello.cookie, self->members[peer].cookie, sizeof(hello.cookie));
	return send(fd, &hello, sizeof(hello), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(hello);
}

int accel_hello_recv(const struct accel_pair_self *self, struct accel_talk *talk)
{
	const struct accel_hello *hello = &talk->hello;
	ssize_t n = recv(talk->fd, (char *)&talk->hello + talk->got, sizeof(*hello) - talk->got,
			 MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n <= 0)
		return -1;
	talk->got += (uint32_t)n;
	if (talk->got < sizeof(*hello))
		return -EAGAIN;
	if (hello->head.magic != ACCEL_MESSAGE_MAGIC || hello->head.type != ACCEL_MESSAGE_HELLO ||
	    hello->head.bytes != sizeof(*hello) - sizeof(hello->head) ||
	    hello->version != ACCEL_MEMBER_VERSION || hello->to != (uint32_t)self->rank ||
	    hello->from >= (uint32_t)self->world ||
	    memcmp(hello->cookie, self->members[self->rank].cookie, sizeof(hello->cookie)))
		return -1;
	return (int)hello->from;
}

bool accel_pair_is_trusted(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) &&
	       (cred.uid == geteuid() || !cred.uid);
}

/* ---- What is decided ------------------------------------------------------------------------- */

#define ABOUT(peer)                                                                                \
	(&(struct accel_failure){.rank = (peer), .phase = ACCEL_PHASE_CREATE, .lane = -1})

int accel_pair_fail_errno(int error, int peer)
{
	return accel_fail(
		NULL, -ENOMEM, ABOUT(peer), "no socket to rank %d: %s%s", peer, strerror(error),
		error == EMFILE || error == ENFILE ? "; raise RLIMIT_NOFILE (ulimit -n)" : "");
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

static int fail_gone(int peer)
{
	return accel_fail(
		NULL, -ECONNRESET, ABOUT(peer),
		"rank %d closed its socket while the group was made: it failed, see what it says",
		peer);
}

static const char *path_text(const struct accel_path *path)
{
	return path->error == EPROTO ? "somebody else is there"
	       : path->error	     ? strerror(path->error)
				     : "no answer";
}

/* "10.0.0.1: Connection refused, fe80::1: no answer", the latter said once for all interfaces. */
static void say_paths(const struct accel_asking *asking, const struct accel_pair_self *self,
		      char *text, size_t room)
{
	const struct accel_member *member = &self->members[asking->peer];
	char address[INET6_ADDRSTRLEN];
	size_t len = 0;

	text[0] = 0;
	for (int i = 0; i < asking->paths && len < room; i++) {
		const struct accel_path *path = &asking->path[i];

		if (i && path->address == path[-1].address && path->error == path[-1].error)
			continue;
		len += (size_t)snprintf(
			text + len, room - len, "%s%s: %s", i ? ", " : "",
			accel_pair_net_text(member->address[path->address], address),
			path_text(path));
	}
}

static int fail_unreached(const struct accel_asking *asking, const struct accel_pair_self *self)
{
	const struct accel_member *member = &self->members[asking->peer];
	char paths[220];

	say_paths(asking, self, paths, sizeof(paths));
	if (asking->refused)
		return accel_fail(
			NULL, -ECONNRESET, ABOUT(asking->peer),
			"rank %d on \"%s\" no longer listens on TCP port %u (%s): it failed, see "
			"what it says, unless a firewall refuses connections",
			asking->peer, member->host, member->port, paths);
	return accel_fail(
		NULL, -EHOSTUNREACH, ABOUT(asking->peer),
		"no address of rank %d on \"%s\" leads there from rank %d, TCP port %u (%s): let TCP "
		"through between the hosts, or set address on rank %d to one that does, or to its "
		"interface",
		asking->peer, member->host, self->rank, member->port, paths, asking->peer);
}

/* ---- Unix sockets ---------------------------------------------------------------------------- */

static int connect_at(const struct sockaddr_un *address, size_t len)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -errno;
	if (!connect(fd, (const struct sockaddr *)address, (socklen_t)len))
		return fd;
	error = errno;
	close(fd);
	return -error;
}

/* Through the abstract namespace, or else through the directory. */
static int connect_to(const struct accel_pair_self *self, int peer)
{
	struct sockaddr_un abstract = {.sun_family = AF_UNIX}, file = {.sun_family = AF_UNIX};
	const struct accel_member *member = &self->members[peer];
	size_t len = strlen(member->name);
	int fd;

	memcpy(abstract.sun_path + 1, member->name, len);
	fd = connect_at(&abstract, offsetof(struct sockaddr_un, sun_path) + 1 + len);
	if (fd != -ECONNREFUSED || !self->listener->socket_dir)
		return fd;
	len = strlen(self->listener->socket_dir);
	memcpy(file.sun_path, self->listener->socket_dir, len);
	file.sun_path[len] = '/';
	memcpy(file.sun_path + len + 1, member->name, strlen(member->name));
	return connect_at(&file, sizeof(file));
}

/* A full backlog is tried again later. */
static int ask_unix(struct accel_asking *asking, const struct accel_pair_self *self)
{
	const struct accel_member *member = &self->members[asking->peer];
	int peer = asking->peer, fd;

	if (asking->path[0].talk.fd >= 0)
		return 0;
	fd = connect_to(self, peer);
	if (fd == -EAGAIN || fd == -EINTR)
		return 0;
	if (fd < 0 && is_shortage(-fd))
		return accel_pair_fail_errno(-fd, peer);
	if (fd < 0 && (!member->netns_ino || !self->members[self->rank].netns_ino))
		return accel_fail(NULL, -EHOSTUNREACH, ABOUT(peer),
				  "rank %d shares a kernel with rank %d but no socket (%s); "
				  "set socket_dir to a directory that both see",
				  peer, self->rank, strerror(-fd));
	if (fd < 0)
		return fail_gone(peer);
	if (!accel_pair_is_trusted(fd)) {
		close(fd);
		return accel_fail(
			NULL, -EHOSTUNREACH, ABOUT(peer),
			"rank %d runs as another user than rank %d (uid %u there); run both as one",
			peer, self->rank, member->uid);
	}
	if (!accel_hello_send(self, fd, peer)) {
		close(fd);
		return fail_gone(peer);
	}
	asking->path[0].talk.fd = fd;
	return 0;
}

/* ---- Addresses ------------------------------------------------------------------------------- */

static void path_fail(struct accel_asking *asking, struct accel_path *path, int error)
{
	if (path->talk.fd >= 0)
		close(path->talk.fd);
	path->talk.fd = -1;
	path->error = error;
	asking->next_ns = 0; /* the next one is due */
}

static int path_begin(struct accel_asking *asking, const struct accel_pair_self *self,
		      struct accel_path *path)
{
	const struct accel_member *member = &self->members[asking->peer];
	struct sockaddr_storage address;
	socklen_t len = accel_pair_net_sockaddr(member->address[path->address], member->port,
						path->scope, &address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);

	path->talk.got = 0;
	path->talk.fd = fd;
	path->connecting = true;
	path->since_ns = accel_now_ns();
	asking->next_ns = path->since_ns + STAGGER_NS;
	if (fd < 0 && is_shortage(errno))
		return accel_pair_fail_errno(errno, asking->peer);
	if (fd < 0 || (connect(fd, (struct sockaddr *)&address, len) && errno != EINPROGRESS))
		path_fail(asking, path, errno);
	return 0;
}

static bool is_round_over(struct accel_asking *asking)
{
	int64_t now_ns = accel_now_ns();
	bool over = asking->begun == asking->paths;

	for (int i = 0; i < asking->begun; i++) {
		struct accel_path *path = &asking->path[i];

		if (path->talk.fd >= 0 && path->connecting && now_ns - path->since_ns > CONNECT_NS)
			path_fail(asking, path, ETIMEDOUT);
		over = over && path->talk.fd < 0;
	}
	return over;
}

static int ask_tcp(struct accel_asking *asking, const struct accel_pair_self *self)
{
	int rc = 0;

	if (is_round_over(asking)) {
		bool refused = false;

		for (int i = 0; i < asking->paths; i++)
			refused = refused || asking->path[i].error == ECONNREFUSED ||
				  asking->path[i].error == ECONNRESET;
		asking->refused = refused && (asking->refused || !asking->rounds);
		if (++asking->rounds == ROUNDS_MAX)
			return fail_unreached(asking, self);
		asking->begun = 0;
		asking->next_ns = accel_now_ns() + (PAUSE_NS << (asking->rounds - 1));
	}
	while (!rc && asking->begun < asking->paths && accel_now_ns() >= asking->next_ns)
		rc = path_begin(asking, self, &asking->path[asking->begun++]);
	return rc;
}

static void path_add(struct accel_asking *asking, int address, uint32_t scope)
{
	if (asking->paths < ACCEL_PATHS_MAX)
		asking->path[asking->paths++] = (struct accel_path){
			.talk.fd = -1, .address = (uint8_t)address, .scope = scope};
}

/* It leads back here: that of a bridge, say, which has the same address on every host. */
static bool is_own(const struct accel_pair_self *self, const uint8_t ip[16])
{
	const struct accel_member *mine = &self->members[self->rank];

	for (int i = 0; i < mine->addresses; i++)
		if (!memcmp(mine->address[i], ip, 16))
			return true;
	return false;
}

void accel_ask_init(struct accel_asking *asking, const struct accel_pair_self *self, int peer)
{
	const struct accel_member *mine = &self->members[self->rank],
				  *theirs = &self->members[peer];

	memset(asking, 0, sizeof(*asking));
	asking->peer = peer;
	asking->tcp = !accel_pair_has_socket(mine, theirs);
	if (!asking->tcp) {
		path_add(asking, 0, 0);
		return;
	}
	for (int own = 0; own < 2 && !asking->paths; own++) {
		for (int i = 0; i < theirs->addresses; i++) {
			const uint8_t *ip = theirs->address[i];

			if (is_own(self, ip) != own)
				continue;
			for (int s = 0; accel_pair_net_has_scope(ip) && s < self->listener->scopes;
			     s++)
				path_add(asking, i, self->listener->scope[s]);
			if (!accel_pair_net_has_scope(ip))
				path_add(asking, i, 0);
		}
	}
}

/* ---- Either ---------------------------------------------------------------------------------- */

int accel_ask_step(struct accel_asking *asking, const struct accel_pair_self *self)
{
	return asking->tcp ? ask_tcp(asking, self) : ask_unix(asking, self);
}

static void path_connected(struct accel_asking *asking, const struct accel_pair_self *self,
			   struct accel_path *path)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(path->talk.fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (!error && !accel_hello_send(self, path->talk.fd, asking->peer))
		error = ECONNRESET;
	path->connecting = false;
	if (error)
		path_fail(asking, path, error);
}

int accel_ask_hear(struct accel_asking *asking, const struct accel_pair_self *self, int path,
		   int *fd)
{
	struct accel_path *p = &asking->path[path];
	int from;

	if (p->connecting) {
		path_connected(asking, self, p);
		return 0;
	}
	from = accel_hello_recv(self, &p->talk);
	if (from == -EAGAIN)
		return 0;
	if (from == asking->peer) {
		*fd = p->talk.fd;
		p->talk.fd = -1;
		accel_ask_close(asking);
		return 1;
	}
	if (!asking->tcp)
		return fail_gone(asking->peer);
	path_fail(asking, p, p->talk.got ? EPROTO : ECONNRESET);
	return 0;
}

int accel_ask_give_up(const struct accel_asking *asking, const struct accel_pair_self *self)
{
	bool connected = !asking->tcp;

	for (int i = 0; i < asking->paths; i++)
		connected = connected ||
			    (asking->path[i].talk.fd >= 0 && !asking->path[i].connecting);
	return connected ? 0 : fail_unreached(asking, self);
}

void accel_ask_close(struct accel_asking *asking)
{
	for (int i = 0; i < asking->paths; i++) {
		if (asking->path[i].talk.fd >= 0)
			close(asking->path[i].talk.fd);
		asking->path[i].talk.fd = -1;
	}
}
