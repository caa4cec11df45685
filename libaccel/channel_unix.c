// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Messages as packets of a Unix SEQPACKET socket, each with at most one descriptor. */
#define _GNU_SOURCE
#include "channel_wire.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static int unix_open(struct accel_wire *wire)
{
	(void)wire;
	return 0;
}

/* Keeps the first descriptor; nobody sends more on purpose. */
static void take_fds(struct accel_packet *packet, struct msghdr *msg)
{
	packet->fd = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = c->cmsg_len > CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
							 : 0;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (packet->fd < 0)
				packet->fd = fd;
			else
				close(fd);
		}
	}
}

static int unix_read(struct accel_wire *wire, struct accel_packet *packet)
{
	struct iovec iov = {packet, offsetof(struct accel_packet, body) + sizeof(packet->body)};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = CMSG_LEN(sizeof(int))};
	int resets = 0;
	ssize_t n;

	packet->fd = -1;
	/* A peer that closed with packets unread resets the socket: told once, before what it had sent can be read. */
	do
		n = recvmsg(wire->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !resets++)));
	if (n < 0)
		return errno == EAGAIN			     ? -EAGAIN
		       : errno == ENOMEM || errno == ENOBUFS ? -ENOMEM
							     : -ECONNRESET;
	take_fds(packet, &msg);
	/* Cut short after the first descriptor there were too many; before it none was free here. */
	packet->lost_fd = packet->fd < 0 && msg.msg_flags & MSG_CTRUNC;
	if (packet->lost_fd)
		msg.msg_flags &= ~MSG_CTRUNC;
	if (!n && packet->fd < 0)
		return -ECONNRESET;
	if ((size_t)n >= sizeof(packet->head) && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
	    packet->head.magic == ACCEL_MESSAGE_MAGIC && !packet->head.reserved &&
	    packet->head.bytes == (size_t)n - sizeof(packet->head))
		return 0;
	if (packet->fd >= 0)
		close(packet->fd);
	packet->fd = -1;
	return -EPROTO;
}

static int unix_send(struct accel_wire *wire, const struct accel_message_head *head,
		     const void *body, int fd)
{
	struct iovec iov[2] = {{(void *)head, sizeof(*head)}, {(void *)body, head->bytes}};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS,
			      .cmsg_len = CMSG_LEN(sizeof(int))}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.room);
	}
	for (;;) {
		if (sendmsg(wire->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
			return -ECONNRESET;
		if (errno != EINTR)
			return errno == ENOBUFS ? -ENOMEM : -errno;
	}
}

/* A packet goes whole or not at all. */
static int unix_flush(struct accel_wire *wire)
{
	(void)wire;
	return 0;
}

const struct accel_wire_ops accel_unix_wire = {
	.passes_fds = true,
	.open = unix_open,
	.read = unix_read,
	.send = unix_send,
	.flush = unix_flush,
};
