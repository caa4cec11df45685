// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A channel fed with packets of an enemy in another process: for each, one byte of what comes
 * along, one of its length, one of how much of a sound head it has, then its bytes. What comes
 * along: nothing, a sealed memfd, one that is not, a plain file, two.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sockaddr_un address;
static socklen_t address_bytes;
static int listener, kinds[3];

static void send_packet(int fd, const void *packet, size_t bytes, const int *fds, size_t count)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = {.head = {.cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS,
			      .cmsg_len = CMSG_LEN(count * sizeof(int))}};
	struct iovec iov = {(void *)packet, bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (count) {
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int memfd(bool sealed)
{
	int fd = memfd_create("fuzz", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 16384) ||
	    (sealed && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)))
		abort();
	return fd;
}

/*
 * The kernel names the process that called listen(): one that is not this, or the channel would
 * take pointers.
 */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	address.sun_family = AF_UNIX;
	address_bytes = sizeof(address);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)))
		abort();
	getsockname(listener, (struct sockaddr *)&address, &address_bytes);
	pid_t pid = fork();
	if (!pid)
		_exit(listen(listener, 16) ? 1 : 0);
	waitpid(pid, NULL, 0);
	kinds[0] = memfd(true);
	kinds[1] = memfd(false);
	kinds[2] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	return 0;
}

static void send_all(int fd, const uint8_t *data, size_t size)
{
	for (int count = 0; count < 100 && size >= 3; count++) {
		struct accel_message_head head = {.magic = ACCEL_MESSAGE_MAGIC};
		uint8_t what = data[0], shape = data[2], packet[sizeof(head) + 256];
		size_t bytes = data[1];

		data += 3;
		size -= 3;
		bytes = bytes < size ? bytes : size;
		head.type = shape & 7;
		head.bytes = (uint32_t)bytes;
		memcpy(packet, &head, sizeof(head));
		memcpy(packet + sizeof(head), data, bytes);
		if (shape & 128)
			send_packet(fd, data, bytes, kinds, what & 3 ? 1 : 0);
		else
			send_packet(fd, packet, sizeof(head) + bytes, &kinds[what % 3],
				    what & 8			? 0
				    : what & 16 && what % 3 < 2 ? 2
								: 1);
		data += bytes;
		size -= bytes;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int near = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), far;
	struct accel_region *region;
	struct accel_channel *ch;
	uint8_t body[64];
	int rc;

	if (near < 0 || connect(near, (struct sockaddr *)&address, address_bytes))
		abort();
	far = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (far < 0 || accel_channel_create(near, 0, &ch))
		abort();
	send_all(far, data, size);
	rc = accel_channel_drain(ch);
	if (rc != 0 && rc != -EPROTO && rc != -ECONNRESET)
		abort();
	for (uint64_t id = 0; id < 4; id++) {
		if (accel_channel_region(ch, id, &region))
			continue;
		if (region->id != id || region->bytes > 16384 || !region->bytes)
			abort();
		(void)*(volatile uint8_t *)(region->addr + region->bytes - 1);
		accel_region_put(region);
	}
	for (uint64_t tag = 0; tag < 2; tag++)
		if (accel_channel_take(ch, ACCEL_MESSAGE_EP_OPTS, tag, body, sizeof(body)) >
		    (ssize_t)sizeof(body))
			abort();
	accel_channel_destroy(ch);
	close(far);
	return 0;
}
