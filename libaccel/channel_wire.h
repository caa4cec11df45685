/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * How the messages of a channel get through its socket: as packets of a Unix socket
 * (channel_unix.c), or as frames on a TCP stream (channel_stream.c). What they mean is channel.c's.
 */
#ifndef ACCEL_CHANNEL_WIRE_H
#define ACCEL_CHANNEL_WIRE_H

#include "channel.h"

struct accel_stream; /* what is half read, and half written */
struct accel_wire_ops;

struct accel_wire {
	const struct accel_wire_ops *ops;
	int fd;
	struct accel_stream *stream; /* of TCP, else NULL */
};

/* One message as read. */
struct accel_packet {
	struct accel_message_head head;
	uint8_t body[ACCEL_MESSAGE_BYTES_MAX];
	int fd;	      /* that came along, or -1 */
	bool lost_fd; /* one came along, and this process had no room for it */
};

/* None of these waits. They are called with the channel's lock. */
struct accel_wire_ops {
	bool passes_fds;
	int (*open)(struct accel_wire *wire); /* 0; -ENOMEM; -errno */
	/*
	 * 0 a message whose head and length are sound; -EAGAIN; -ECONNRESET the end, which comes after
	 * all that was sent before it; -EPROTO; -ENOMEM.
	 */
	int (*read)(struct accel_wire *wire, struct accel_packet *packet);
	/*
	 * 0 the message is taken over whole, and flush() knows whether it is out; else nothing of it is:
	 * -EAGAIN no room; -ETOOMANYREFS too many descriptors on their way; -ECONNRESET; -ENOMEM.
	 * fd: to go along, or -1.
	 */
	int (*send)(struct accel_wire *wire, const struct accel_message_head *head,
		    const void *body, int fd);
	/* 0 all that was sent is out; -EAGAIN; -ECONNRESET; -ENOMEM. */
	int (*flush)(struct accel_wire *wire);
};

extern const struct accel_wire_ops accel_unix_wire, accel_stream_wire;

#endif
