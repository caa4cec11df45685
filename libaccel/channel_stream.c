// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Messages on a TCP stream: head, then body, one after the other. One that has come in part, or could
 * be sent in part only, is kept here; each way there is room for one, the largest.
 *
 * A host that vanished says nothing. After IDLE_S of silence the kernel asks every INTERVAL_S, and what
 * stays unanswered for GONE_S ends the connection: a question, bytes sent, or a receive buffer that
 * stays full, so that a peer must drain what it is sent at least that often.
 */
#include "channel_wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define IDLE_S 4
#define INTERVAL_S 1
#define GONE_S 10
#define FRAME_BYTES_MAX (sizeof(struct accel_message_head) + ACCEL_MESSAGE_BYTES_MAX)

/* [from, to) of each buffer is in use. */
struct accel_stream {
	size_t in_from, in_to, out_from, out_to;
	uint8_t in[FRAME_BYTES_MAX], out[FRAME_BYTES_MAX];
};

static int stream_open(struct accel_wire *wire)
{
	static const struct {
		int level, name, value;
	} settings[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, IDLE_S},
		{IPPROTO_TCP, TCP_KEEPINTVL, INTERVAL_S},
		{IPPROTO_TCP, TCP_KEEPCNT, (GONE_S - IDLE_S) / INTERVAL_S},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, GONE_S * 1000},
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		if (setsockopt(wire->fd, settings[i].level, settings[i].name, &settings[i].value,
			       sizeof(settings[i].value)))
			return -errno;
	wire->stream = malloc(sizeof(*wire->stream));
	if (!wire->stream)
		return -ENOMEM;
	wire->stream->in_from = wire->stream->in_to = 0;
	wire->stream->out_from = wire->stream->out_to = 0;
	return 0;
}

/* Whatever else TCP can say, the peer is out of reach for good. */
static int code_of(int error)
{
	return error == EAGAIN			     ? -EAGAIN
	       : error == ENOMEM || error == ENOBUFS ? -ENOMEM
						     : -ECONNRESET;
}

/* 0 the first of what was read; -EAGAIN it is not whole; -EPROTO. */
static int frame_take(struct accel_stream *s, struct accel_packet *packet)
{
	const uint8_t *frame = s->in + s->in_from;
	size_t bytes = s->in_to - s->in_from;

	if (bytes < sizeof(packet->head))
		return -EAGAIN;
	memcpy(&packet->head, frame, sizeof(packet->head));
	if (packet->head.magic != ACCEL_MESSAGE_MAGIC || packet->head.reserved ||
	    packet->head.bytes > ACCEL_MESSAGE_BYTES_MAX)
		return -EPROTO;
	if (bytes < sizeof(packet->head) + packet->head.bytes)
		return -EAGAIN;
	memcpy(packet->body, frame + sizeof(packet->head), packet->head.bytes);
	s->in_from += sizeof(packet->head) + packet->head.bytes;
	return 0;
}

static int fill(struct accel_wire *wire)
{
	struct accel_stream *s = wire->stream;
	ssize_t n;

	memmove(s->in, s->in + s->in_from, s->in_to - s->in_from);
	s->in_to -= s->in_from;
	s->in_from = 0;
	do
		n = recv(wire->fd, s->in + s->in_to, sizeof(s->in) - s->in_to, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return code_of(errno);
	s->in_to += (size_t)n;
	return n ? 0 : -ECONNRESET; /* amid a message too: it died while it was sending */
}

static int stream_read(struct accel_wire *wire, struct accel_packet *packet)
{
	int rc;

	packet->fd = -1;
	packet->lost_fd = false;
	while ((rc = frame_take(wire->stream, packet)) == -EAGAIN) {
		rc = fill(wire);
		if (rc)
			return rc;
	}
	return rc;
}

static int stream_flush(struct accel_wire *wire)
{
	struct accel_stream *s = wire->stream;

	while (s->out_from < s->out_to) {
		ssize_t n = send(wire->fd, s->out + s->out_from, s->out_to - s->out_from,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			s->out_from += (size_t)n;
		else if (n < 0 && errno != EINTR)
			return code_of(errno);
	}
	return 0;
}

static int stream_send(struct accel_wire *wire, const struct accel_message_head *head,
		       const void *body, int fd)
{
	struct accel_stream *s = wire->stream;
	struct iovec iov[2] = {{(void *)head, sizeof(*head)}, {(void *)body, head->bytes}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	int rc = stream_flush(wire);
	ssize_t n;

	(void)fd;
	if (rc)
		return rc;
	do
		n = sendmsg(wire->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return code_of(errno);
	s->out_from = s->out_to = 0;
	for (int i = 0; i < 2; i++) {
		size_t out = (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

		if (out < iov[i].iov_len)
			memcpy(s->out + s->out_to, (const uint8_t *)iov[i].iov_base + out,
			       iov[i].iov_len - out);
		s->out_to += iov[i].iov_len - out;
		n -= (ssize_t)out;
	}
	return 0;
}

const struct accel_wire_ops accel_stream_wire = {
	.open = stream_open,
	.read = stream_read,
	.send = stream_send,
	.flush = stream_flush,
};
