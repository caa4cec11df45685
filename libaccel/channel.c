// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The control socket of a pair of ranks; how it is connected is pair.c's, how messages get through
 * it channel_wire.h's. See channel.h for the messages.
 *
 * References between ranks of one process: the sender takes one per REGION; it belongs to the
 * packet while that is in the socket, then to the receiver's table, until UNREGION or the end. An
 * end that is destroyed first shuts the socket down, so that no packet can follow, and then reads
 * what is left and drops its references: none is lost, none outlives its region. After fork() the
 * packets are the parent's: the child closes its copy of the socket and reads nothing.
 */
#define _GNU_SOURCE
#include "channel.h"

#include "channel_wire.h"
#include "deadline.h"
#include "id_table.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_NS_DEFAULT (30000 * ACCEL_NS_PER_MS)
/* What is waited for may show in no descriptor: another thread's share, limits of the kernel. */
#define WAIT_POLL_MS 5
#define DRAIN_PACKETS_MAX (2 * ACCEL_CHANNEL_REGIONS_MAX + ACCEL_CHANNEL_QUEUE_MAX)

enum share_state {
	SHARE_SENDING = 1, /* by a thread that waits for room */
	SHARE_SENT,
	SHARE_GONE, /* sent, and the peer is not yet told that it is no more */
	SHARE_SENDING_GONE,
};

struct message {
	struct message *next;
	struct accel_message_head head;
	uint8_t body[];
};

struct accel_channel {
	pthread_mutex_t lock; /* guards what follows */
	struct accel_wire wire;
	int peer;
	int error; /* sticky */
	pid_t pid; /* whose the ends of this channel's packets are */
	bool same_process;
	struct message *first, **last;
	uint32_t queued;
	struct accel_id_table shared;  /* own regions that the peer has: share_state */
	uint32_t gone;		       /* of those, SHARE_GONE */
	struct accel_id_table regions; /* the peer's; state: 0, or why it is not mapped */
	struct accel_region *hit;      /* of the last lookup: ids come in runs */
	uint64_t maps;
};

static const struct accel_wire_ops *wire_of(int fd)
{
	int domain, type;
	socklen_t len = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return NULL;
	if (domain == AF_UNIX && type == SOCK_SEQPACKET)
		return &accel_unix_wire;
	return (domain == AF_INET || domain == AF_INET6) && type == SOCK_STREAM ? &accel_stream_wire
										: NULL;
}

int accel_channel_create(int fd, int peer, struct accel_channel **ch)
{
	struct accel_wire wire = {.ops = wire_of(fd), .fd = fd};
	struct accel_channel *made;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int rc;

	if (!wire.ops)
		return -EINVAL;
	/* Of TCP, whose other end may be anywhere, it names no process. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	rc = wire.ops->open(&wire);
	if (rc)
		return rc;
	made = calloc(1, sizeof(*made));
	if (!made) {
		free(wire.stream);
		return -ENOMEM;
	}
	pthread_mutex_init(&made->lock, NULL);
	made->wire = wire;
	made->peer = peer;
	made->pid = getpid();
	made->same_process = cred.pid == made->pid;
	made->last = &made->first;
	*ch = made;
	return 0;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void packet_close(struct accel_packet *packet)
{
	if (packet->fd >= 0)
		close(packet->fd);
	packet->fd = -1;
}

/* The owner's struct that a packet within this process carries, with its reference, or NULL. */
static struct accel_region *packet_own_region(const struct accel_channel *ch,
					      const struct accel_packet *packet)
{
	struct accel_message_region body;

	if (!ch->same_process || packet->head.type != ACCEL_MESSAGE_REGION ||
	    packet->head.bytes != sizeof(body))
		return NULL;
	memcpy(&body, packet->body, sizeof(body));
	return (struct accel_region *)(uintptr_t)body.address;
}

/* Takes the packet's descriptor or reference in any case. */
static int take_region(struct accel_channel *ch, struct accel_packet *packet)
{
	struct accel_region *region = packet_own_region(ch, packet);
	struct accel_message_region body;
	struct accel_id_slot *slot;
	int rc = -EPROTO;

	if (packet->head.bytes != sizeof(body))
		goto err_put;
	memcpy(&body, packet->body, sizeof(body));
	if (!body.id || accel_id_table_find(&ch->regions, body.id) ||
	    ch->regions.count == ACCEL_CHANNEL_REGIONS_MAX)
		goto err_put;
	if (!region && (body.address || (packet->fd < 0 && !packet->lost_fd)))
		goto err_put;
	rc = packet->lost_fd ? -EMFILE : 0;
	if (!region && !rc) {
		rc = accel_region_map_peer(body.id, packet->fd, body.offset, body.bytes, &region);
		packet->fd = rc ? packet->fd : -1;
	}
	/* A shortage here is not the peer's fault: whoever asks for the region is told. */
	if (rc && rc != -ENOMEM && rc != -EMFILE && rc != -ENFILE) {
		rc = -EPROTO;
		goto err_put;
	}
	if (accel_id_table_add(&ch->regions, body.id, &slot)) {
		rc = -ENOMEM;
		goto err_put;
	}
	slot->region = rc ? NULL : region;
	slot->state = rc ? -ENOMEM : 0;
	ch->maps += !rc;
	packet_close(packet);
	return 0;
err_put:
	accel_region_put(region);
	packet_close(packet);
	return rc;
}

static int take_unregion(struct accel_channel *ch, const struct accel_packet *packet)
{
	struct accel_id_slot *slot;
	struct accel_region *region;
	uint64_t id;

	if (packet->head.bytes != sizeof(id))
		return -EPROTO;
	memcpy(&id, packet->body, sizeof(id));
	slot = accel_id_table_find(&ch->regions, id);
	if (!slot)
		return -EPROTO;
	region = slot->region;
	if (region == ch->hit)
		ch->hit = NULL;
	accel_id_table_remove(&ch->regions, slot);
	accel_region_put(region);
	return 0;
}

static int take_message(struct accel_channel *ch, const struct accel_packet *packet)
{
	struct message *message;

	if (packet->head.type == 0 || packet->head.type == ACCEL_MESSAGE_HELLO ||
	    ch->queued == ACCEL_CHANNEL_QUEUE_MAX)
		return -EPROTO;
	message = malloc(sizeof(*message) + packet->head.bytes);
	if (!message)
		return -ENOMEM;
	message->next = NULL;
	message->head = packet->head;
	memcpy(message->body, packet->body, packet->head.bytes);
	*ch->last = message;
	ch->last = &message->next;
	ch->queued++;
	return 0;
}

/*
 * Bounded, since a peer that never stops must not hold the caller. What is half sent goes on too; if
 * it cannot, that shows in what is read.
 */
static int drain(struct accel_channel *ch)
{
	struct accel_packet packet;

	if (!ch->error)
		ch->wire.ops->flush(&ch->wire);
	for (int i = 0; i < DRAIN_PACKETS_MAX && !ch->error; i++) {
		int rc = ch->wire.ops->read(&ch->wire, &packet);

		if (rc == -EAGAIN)
			break;
		if (!rc && packet.head.type == ACCEL_MESSAGE_REGION) {
			rc = take_region(ch, &packet);
		} else if (!rc) {
			packet_close(&packet); /* uncalled for */
			rc = packet.head.type == ACCEL_MESSAGE_UNREGION ? take_unregion(ch, &packet)
									: take_message(ch, &packet);
		}
		ch->error = rc;
	}
	return ch->error;
}

int accel_channel_drain(struct accel_channel *ch)
{
	int rc;

	pthread_mutex_lock(&ch->lock);
	rc = drain(ch);
	pthread_mutex_unlock(&ch->lock);
	return rc;
}

static void drop_message(struct accel_channel *ch, struct message **at)
{
	struct message *message = *at;

	*at = message->next;
	if (ch->last == &message->next)
		ch->last = at;
	free(message);
	ch->queued--;
}

static ssize_t take_queued(struct accel_channel *ch, uint32_t type, uint64_t tag, void *body,
			   size_t room)
{
	for (struct message **at = &ch->first; *at; at = &(*at)->next) {
		struct message *message = *at;
		ssize_t bytes = message->head.bytes;

		if (message->head.type != type || message->head.tag != tag)
			continue;
		if ((size_t)bytes > room)
			return -EMSGSIZE;
		if (bytes)
			memcpy(body, message->body, (size_t)bytes);
		drop_message(ch, at);
		return bytes;
	}
	return -EAGAIN;
}

ssize_t accel_channel_take(struct accel_channel *ch, uint32_t type, uint64_t tag, void *body,
			   size_t room)
{
	ssize_t rc;

	pthread_mutex_lock(&ch->lock);
	rc = take_queued(ch, type, tag, body, room);
	if (rc == -EAGAIN) {
		int error = drain(ch);

		rc = take_queued(ch, type, tag, body, room);
		if (rc == -EAGAIN && error)
			rc = error;
	}
	pthread_mutex_unlock(&ch->lock);
	return rc;
}

void accel_channel_drop(struct accel_channel *ch, uint32_t type, uint64_t tag)
{
	pthread_mutex_lock(&ch->lock);
	drain(ch);
	for (struct message **at = &ch->first; *at;) {
		if ((*at)->head.type == type && (*at)->head.tag < tag)
			drop_message(ch, at);
		else
			at = &(*at)->next;
	}
	pthread_mutex_unlock(&ch->lock);
}

int accel_channel_region(struct accel_channel *ch, uint64_t region_id, struct accel_region **region)
{
	struct accel_id_slot *slot;
	int rc = 0;

	pthread_mutex_lock(&ch->lock);
	if (!ch->hit || ch->hit->id != region_id) {
		slot = accel_id_table_find(&ch->regions, region_id);
		if (!slot) {
			rc = drain(ch);
			slot = accel_id_table_find(&ch->regions, region_id);
		}
		if (slot)
			rc = slot->state;
		else if (!rc)
			rc = -ENOENT;
		ch->hit = slot && !rc ? slot->region : NULL;
	}
	if (!rc)
		*region = accel_region_get(ch->hit);
	pthread_mutex_unlock(&ch->lock);
	return rc;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/*
 * Other threads go on meanwhile: the lock is dropped; and so does the peer: what it sends is taken
 * in.
 */
static int wait_event(struct accel_channel *ch, short events, int64_t deadline_ns)
{
	struct pollfd pfd = {.fd = ch->wire.fd, .events = events};
	int rc;

	pthread_mutex_unlock(&ch->lock);
	poll(&pfd, 1, accel_deadline_poll_ms(deadline_ns, WAIT_POLL_MS));
	pthread_mutex_lock(&ch->lock);
	rc = drain(ch);
	return rc ? rc : accel_deadline_passed(deadline_ns) ? -ETIMEDOUT : 0;
}

static int64_t deadline_of(int64_t timeout_ns)
{
	return accel_deadline_after(timeout_ns < 0 ? TIMEOUT_NS_DEFAULT : timeout_ns);
}

/* Tell the peer of regions that went while there was no room. */
static void tell_gone(struct accel_channel *ch)
{
	struct accel_message_head head = {.magic = ACCEL_MESSAGE_MAGIC,
					  .type = ACCEL_MESSAGE_UNREGION,
					  .bytes = sizeof(uint64_t)};

	for (uint32_t i = 0; ch->gone && i < ch->shared.room;) {
		struct accel_id_slot *slot = &ch->shared.slots[i];

		if (!slot->id || slot->state != SHARE_GONE) {
			i++;
			continue;
		}
		if (ch->wire.ops->send(&ch->wire, &head, &slot->id, -1))
			return;
		accel_id_table_remove(&ch->shared,
				      slot); /* another may have moved here: look again */
		ch->gone--;
	}
}

/* The message was taken over: that it is not out yet at the deadline is no error. */
static int flush_until(struct accel_channel *ch, int64_t deadline_ns)
{
	while (ch->wire.ops->flush(&ch->wire) == -EAGAIN) {
		int rc = wait_event(ch, POLLIN | POLLOUT, deadline_ns);

		if (rc)
			return rc == -ETIMEDOUT ? 0 : rc;
	}
	return 0;
}

static int send_until(struct accel_channel *ch, const struct accel_message_head *head,
		      const void *body, int fd, int64_t timeout_ns)
{
	int64_t deadline_ns = deadline_of(timeout_ns);

	for (;;) {
		int rc = ch->error ? ch->error : ch->wire.ops->send(&ch->wire, head, body, fd);

		if (!rc)
			return timeout_ns ? flush_until(ch, deadline_ns) : 0;
		if (rc == -ECONNRESET)
			return drain(ch) ? ch->error
					 : rc; /* what came before its end can still be taken */
		if (rc != -EAGAIN && rc != -ETOOMANYREFS)
			return rc;
		if (!timeout_ns)
			return -EAGAIN;
		rc = wait_event(ch, rc == -EAGAIN ? POLLIN | POLLOUT : POLLIN, deadline_ns);
		if (rc)
			return rc;
	}
}

int accel_channel_send(struct accel_channel *ch, uint32_t type, uint64_t tag, const void *body,
		       size_t bytes, int64_t timeout_ns)
{
	struct accel_message_head head = {
		.magic = ACCEL_MESSAGE_MAGIC, .type = type, .tag = tag, .bytes = (uint32_t)bytes};
	int rc;

	if (bytes > ACCEL_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	pthread_mutex_lock(&ch->lock);
	tell_gone(ch);
	rc = send_until(ch, &head, body, -1, timeout_ns);
	pthread_mutex_unlock(&ch->lock);
	return rc;
}

int accel_channel_flush(struct accel_channel *ch)
{
	int rc;

	pthread_mutex_lock(&ch->lock);
	rc = ch->error ? ch->error : ch->wire.ops->flush(&ch->wire);
	pthread_mutex_unlock(&ch->lock);
	return rc;
}

static int share_new(struct accel_channel *ch, struct accel_region *region, int64_t timeout_ns)
{
	struct accel_message_region body = {
		.id = region->id, .offset = region->fd_offset, .bytes = region->bytes};
	struct accel_message_head head = {
		.magic = ACCEL_MESSAGE_MAGIC, .type = ACCEL_MESSAGE_REGION, .bytes = sizeof(body)};
	struct accel_id_slot *slot;
	int rc;

	if (region->fd < 0 || !ch->wire.ops->passes_fds)
		return -EOPNOTSUPP;
	tell_gone(ch);
	if (ch->shared.count == ACCEL_CHANNEL_REGIONS_MAX)
		return -ENOSPC;
	if (accel_id_table_add(&ch->shared, region->id, &slot))
		return -ENOMEM;
	slot->state = SHARE_SENDING;
	if (ch->same_process)
		body.address = (uintptr_t)accel_region_get(region);
	rc = send_until(ch, &head, &body, ch->same_process ? -1 : region->fd, timeout_ns);
	slot = accel_id_table_find(&ch->shared, region->id);
	if (rc) {
		accel_id_table_remove(&ch->shared, slot);
		if (ch->same_process)
			accel_region_put(region);
	} else if (slot->state == SHARE_SENDING_GONE) {
		slot->state = SHARE_GONE;
		ch->gone++;
		tell_gone(ch);
	} else {
		slot->state = SHARE_SENT;
	}
	return rc;
}

int accel_channel_share(struct accel_channel *ch, struct accel_region *region, int64_t timeout_ns)
{
	struct accel_id_slot *slot;
	int64_t deadline_ns = 0;
	int rc = 0;

	pthread_mutex_lock(&ch->lock);
	while ((slot = accel_id_table_find(&ch->shared, region->id)) &&
	       slot->state == SHARE_SENDING && !rc) {
		deadline_ns = deadline_ns ? deadline_ns : deadline_of(timeout_ns);
		rc = timeout_ns ? wait_event(ch, POLLIN, deadline_ns) : -EAGAIN;
	}
	if (!slot)
		rc = rc ? rc : share_new(ch, region, timeout_ns);
	else if (slot->state == SHARE_GONE || slot->state == SHARE_SENDING_GONE)
		rc = -EINVAL;
	pthread_mutex_unlock(&ch->lock);
	return rc;
}

void accel_channel_unshare(struct accel_channel *ch, uint64_t region_id)
{
	struct accel_id_slot *slot;

	pthread_mutex_lock(&ch->lock);
	slot = accel_id_table_find(&ch->shared, region_id);
	if (slot && slot->state == SHARE_SENDING)
		slot->state = SHARE_SENDING_GONE;
	if (slot && slot->state == SHARE_SENT) {
		slot->state = SHARE_GONE;
		ch->gone++;
	}
	tell_gone(ch);
	pthread_mutex_unlock(&ch->lock);
}

/* ---- The rest -------------------------------------------------------------------------------- */

uint64_t accel_channel_maps(struct accel_channel *ch)
{
	uint64_t maps;

	pthread_mutex_lock(&ch->lock);
	maps = ch->maps;
	pthread_mutex_unlock(&ch->lock);
	return maps;
}

int accel_channel_fd(struct accel_channel *ch)
{
	int fd;

	pthread_mutex_lock(&ch->lock);
	fd = ch->error ? -1 : ch->wire.fd;
	pthread_mutex_unlock(&ch->lock);
	return fd;
}

int accel_channel_peer(const struct accel_channel *ch)
{
	return ch->peer;
}

/*
 * Drop the references that are still on their way here. Bytes of TCP that nobody reads would turn into a
 * reset, which may overtake the last words of this end.
 */
static void read_rest(struct accel_channel *ch)
{
	struct accel_packet packet;

	ch->wire.ops->flush(&ch->wire);
	shutdown(ch->wire.fd, SHUT_RDWR);
	for (int i = 0; i < DRAIN_PACKETS_MAX; i++) {
		int rc = ch->wire.ops->read(&ch->wire, &packet);

		if (rc == -EAGAIN || rc == -ECONNRESET)
			return;
		if (rc)
			continue;
		accel_region_put(packet_own_region(ch, &packet));
		packet_close(&packet);
	}
}

void accel_channel_destroy(struct accel_channel *ch)
{
	if (!ch)
		return;
	if (getpid() == ch->pid)
		read_rest(ch);
	for (uint32_t i = 0; i < ch->regions.room; i++)
		accel_region_put(ch->regions.slots[i].region);
	accel_id_table_fini(&ch->regions);
	accel_id_table_fini(&ch->shared);
	while (ch->first) {
		struct message *message = ch->first;

		ch->first = message->next;
		free(message);
	}
	close(ch->wire.fd);
	free(ch->wire.stream);
	pthread_mutex_destroy(&ch->lock);
	free(ch);
}
