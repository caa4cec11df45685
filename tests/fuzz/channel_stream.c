// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A channel over TCP fed with an enemy's bytes, cut as the input says: for each piece one byte of its
 * length and one of what is before it, a sound head of some type and length or nothing.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	socklen_t bytes = sizeof(address);

	(void)argc;
	(void)argv;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 16) || getsockname(listener, (struct sockaddr *)&address, &bytes))
		abort();
	return 0;
}

static void check(int rc)
{
	if (rc != 0 && rc != -EPROTO && rc != -ECONNRESET)
		abort();
}

static void feed(int fd, struct accel_channel *ch, const uint8_t *data, size_t size)
{
	while (size >= 2) {
		size_t bytes = data[0];
		uint8_t shape = data[1];
		struct accel_message_head head = {.magic = ACCEL_MESSAGE_MAGIC,
						  .type = shape & 15,
						  .bytes = bytes + (shape & 16 ? 300 : 0)};

		data += 2;
		size -= 2;
		bytes = bytes < size ? bytes : size;
		if (!(shape & 128))
			send(fd, &head, sizeof(head), MSG_DONTWAIT | MSG_NOSIGNAL);
		send(fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (shape & 64)
			check(accel_channel_drain(ch));
		data += bytes;
		size -= bytes;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), far;
	const struct linger at_once = {.l_onoff = 1}; /* or ports would run out */
	struct accel_region *region;
	struct accel_channel *ch;
	uint8_t body[64];

	if (near < 0 || connect(near, (struct sockaddr *)&address, sizeof(address)))
		abort();
	far = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (far < 0 || accel_channel_create(near, 0, &ch))
		abort();
	feed(far, ch, data, size);
	check(accel_channel_drain(ch));
	for (uint64_t id = 0; id < 4; id++)
		if (!accel_channel_region(ch, id, &region))
			abort();
	for (uint64_t tag = 0; tag < 2; tag++)
		if (accel_channel_take(ch, ACCEL_MESSAGE_VERBS, tag, body, sizeof(body)) >
		    (ssize_t)sizeof(body))
			abort();
	setsockopt(far, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(far);
	accel_channel_destroy(ch);
	return 0;
}
