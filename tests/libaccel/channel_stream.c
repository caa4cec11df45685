// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Channels over TCP: messages in pieces and in heaps, sockets that are full, ends, and an enemy's bytes. */
#define _GNU_SOURCE
#include "channel.h"

#include "meet.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define TYPE 100

/* Both ends of a connection over loopback. */
static void connect_ends(int fd[2])
{
	int listener = meet_listen(0);

	fd[0] = meet_connect(meet_port_of(listener));
	fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	for (int i = 0; i < 2; i++)
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
}

static void make_pair(struct accel_channel *ch[2])
{
	int fd[2];

	connect_ends(fd);
	for (int i = 0; i < 2; i++)
		if (!CHECK_EQ(accel_channel_create(fd[i], !i, &ch[i]), 0))
			exit(1);
}

/* A channel, and the naked other end of its connection. */
static struct accel_channel *make_half(int *far)
{
	struct accel_channel *ch;
	int fd[2], one = 1;

	connect_ends(fd);
	setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!CHECK_EQ(accel_channel_create(fd[1], 0, &ch), 0))
		exit(1);
	*far = fd[0];
	return ch;
}

/* Until a message of this type and tag is there, or the end. */
static ssize_t await(struct accel_channel *ch, uint64_t tag, void *body, size_t room)
{
	ssize_t n;

	while ((n = accel_channel_take(ch, TYPE, tag, body, room)) == -EAGAIN) {
		struct pollfd pfd = {.fd = accel_channel_fd(ch), .events = POLLIN};

		if (poll(&pfd, 1, 10000) <= 0)
			return -ETIMEDOUT;
	}
	return n;
}

/* The first that is not 0 (alive), or 0 after 10 s. */
static int await_end(struct accel_channel *ch)
{
	int rc;

	while (!(rc = accel_channel_drain(ch))) {
		struct pollfd pfd = {.fd = accel_channel_fd(ch), .events = POLLIN};

		if (poll(&pfd, 1, 10000) <= 0)
			return 0;
	}
	return rc;
}

static size_t frame(uint8_t *to, uint32_t type, uint64_t tag, const void *body, size_t bytes)
{
	struct accel_message_head head = {
		.magic = ACCEL_MESSAGE_MAGIC, .type = type, .tag = tag, .bytes = (uint32_t)bytes};

	memcpy(to, &head, sizeof(head));
	if (bytes)
		memcpy(to + sizeof(head), body, bytes);
	return sizeof(head) + bytes;
}

TEST(stream, takes_messages_by_type_and_tag)
{
	uint8_t *big = malloc(ACCEL_MESSAGE_BYTES_MAX), *got = malloc(ACCEL_MESSAGE_BYTES_MAX);
	struct accel_channel *ch[2];
	int fds = meet_open_fds();
	char body[16];

	make_pair(ch);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 1, body, sizeof(body)), -EAGAIN);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 1, "one", 4, LONG), 0);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 2, "two!", 5, 0), 0);
	CHECK_EQ(await(ch[1], 2, body, sizeof(body)), 5);
	CHECK(!strcmp(body, "two!"));
	CHECK_EQ(await(ch[1], 1, body, 3), -EMSGSIZE);
	CHECK_EQ(await(ch[1], 1, body, sizeof(body)), 4);
	for (size_t i = 0; i < ACCEL_MESSAGE_BYTES_MAX; i++)
		big[i] = (uint8_t)(i * 7);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 3, big, ACCEL_MESSAGE_BYTES_MAX + 1, LONG),
		 -EMSGSIZE);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 3, big, ACCEL_MESSAGE_BYTES_MAX, LONG), 0);
	CHECK_EQ(accel_channel_flush(ch[1]), 0);
	CHECK_EQ(await(ch[0], 3, got, ACCEL_MESSAGE_BYTES_MAX), ACCEL_MESSAGE_BYTES_MAX);
	CHECK(!memcmp(big, got, ACCEL_MESSAGE_BYTES_MAX));
	CHECK_EQ(accel_channel_send(ch[1], ACCEL_MESSAGE_VERBS, 4, big, 100, LONG), 0);
	CHECK_EQ(accel_channel_send(ch[1], ACCEL_MESSAGE_MASKED, 4, NULL, 0, 0), 0);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 4, NULL, 0, 0), 0);
	CHECK_EQ(await(ch[0], 4, NULL, 0), 0);
	CHECK_EQ(accel_channel_take(ch[0], ACCEL_MESSAGE_MASKED, 4, NULL, 0), 0);
	CHECK_EQ(accel_channel_take(ch[0], ACCEL_MESSAGE_VERBS, 4, got, 100), 100);
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
	CHECK_EQ(meet_open_fds(), fds);
	free(big);
	free(got);
}

TEST(stream, is_no_other_socket)
{
	struct accel_channel *ch;
	int fd[3] = {socket(AF_INET, SOCK_DGRAM, 0), socket(AF_UNIX, SOCK_STREAM, 0), dup(1)};

	for (int i = 0; i < 3; i++) {
		CHECK_EQ(accel_channel_create(fd[i], 0, &ch), -EINVAL);
		close(fd[i]);
	}
	CHECK_EQ(accel_channel_create(-1, 0, &ch), -EINVAL);
}

TEST(stream, has_no_regions)
{
	struct accel_region_opts opts = {.huge = ACCEL_HUGE_NEVER, .numa_node = -1, .what = "test"};
	struct accel_region *region, *seen;
	struct accel_channel *ch[2];

	make_pair(ch);
	REQUIRE_EQ(accel_region_create(NULL, 1, 4096, &opts, &region), 0);
	CHECK_EQ(accel_channel_share(ch[0], region, LONG), -EOPNOTSUPP);
	accel_channel_unshare(ch[0], 1);
	CHECK_EQ(region->refs, 1);
	CHECK_EQ(accel_channel_region(ch[1], 1, &seen), -ENOENT);
	CHECK_EQ(accel_channel_maps(ch[1]), 0);
	accel_region_put(region);
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
}

/* What a host that vanishes rests on. */
TEST(stream, asks_a_silent_host_and_gives_it_up_in_ten_seconds)
{
	static const struct {
		int level, name, value;
	} expected[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},	{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 4}, {IPPROTO_TCP, TCP_KEEPINTVL, 1},
		{IPPROTO_TCP, TCP_KEEPCNT, 6},	{IPPROTO_TCP, TCP_USER_TIMEOUT, 10000},
	};
	struct accel_channel *ch[2];

	make_pair(ch);
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		int value = -1;
		socklen_t len = sizeof(value);

		CHECK(!getsockopt(accel_channel_fd(ch[0]), expected[i].level, expected[i].name,
				  &value, &len));
		CHECK_EQ(value, expected[i].value);
	}
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
}

/* ---- Pieces and heaps ------------------------------------------------------------------------ */

static void send_all(int fd, const void *bytes, size_t count)
{
	REQUIRE_EQ(send(fd, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

TEST(stream, puts_bytes_together_one_by_one)
{
	uint8_t bytes[256];
	char body[32];
	size_t count = frame(bytes, TYPE, 1, "first", 6);
	struct accel_channel *ch;
	int far;

	count += frame(bytes + count, TYPE, 2, NULL, 0);
	count += frame(bytes + count, TYPE, 3, "third", 6);
	ch = make_half(&far);
	for (size_t i = 0; i < count; i++) {
		send_all(far, bytes + i, 1);
		CHECK_EQ(accel_channel_drain(ch), 0);
		if (i < sizeof(struct accel_message_head) + 5)
			CHECK_EQ(accel_channel_take(ch, TYPE, 1, body, sizeof(body)), -EAGAIN);
	}
	CHECK_EQ(await(ch, 3, body, sizeof(body)), 6);
	CHECK(!strcmp(body, "third"));
	CHECK_EQ(await(ch, 1, body, sizeof(body)), 6);
	CHECK(!strcmp(body, "first"));
	CHECK_EQ(await(ch, 2, body, sizeof(body)), 0);
	accel_channel_destroy(ch);
	close(far);
}

/* Random messages, cut at random: all of them come, whole and in order. */
TEST(stream, does_not_care_where_it_is_cut)
{
	enum { MESSAGES = 40 };
	size_t bytes[MESSAGES], count = 0, room = (size_t)MESSAGES * (ACCEL_MESSAGE_BYTES_MAX + 24);
	uint8_t *stream = malloc(room), *body = malloc(ACCEL_MESSAGE_BYTES_MAX),
		*got = malloc(ACCEL_MESSAGE_BYTES_MAX);
	uint64_t state = tap_seed();
	struct accel_channel *ch;
	uint64_t taken = 0;
	int far;

	for (uint64_t m = 0; m < MESSAGES; m++) {
		bytes[m] = tap_random_below(&state, 4)
				   ? tap_random_below(&state, 200)
				   : tap_random_below(&state, ACCEL_MESSAGE_BYTES_MAX + 1);
		memset(body, (int)m + 1, bytes[m]);
		count += frame(stream + count, TYPE, m, body, bytes[m]);
	}
	ch = make_half(&far);
	for (size_t at = 0; at < count;) {
		size_t left = count - at, cut = 1 + tap_random_below(&state, 30000);
		ssize_t n = send(far, stream + at, cut < left ? cut : left, MSG_NOSIGNAL);

		at += n > 0 ? (size_t)n : 0;
		REQUIRE_EQ(accel_channel_drain(ch), 0);
	}
	for (; taken < MESSAGES; taken++) {
		REQUIRE_EQ(await(ch, taken, got, ACCEL_MESSAGE_BYTES_MAX), (ssize_t)bytes[taken]);
		memset(body, (int)taken + 1, bytes[taken]);
		CHECK(!memcmp(body, got, bytes[taken]));
	}
	accel_channel_destroy(ch);
	close(far);
	free(stream);
	free(body);
	free(got);
}

/* Of a socket that is full all that was taken over comes, and nothing of what was refused. */
TEST(stream, keeps_the_rest_of_a_message_until_there_is_room)
{
	uint8_t *body = malloc(ACCEL_MESSAGE_BYTES_MAX), *got = malloc(ACCEL_MESSAGE_BYTES_MAX);
	struct accel_channel *ch[2];
	uint64_t sent = 0;
	int rc, small = 4096, room = 65536;

	make_pair(ch);
	setsockopt(accel_channel_fd(ch[0]), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(accel_channel_fd(ch[1]), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	/* The other end's kernel takes a while to make all its room known. */
	do {
		memset(body, (int)sent + 1, ACCEL_MESSAGE_BYTES_MAX);
		rc = accel_channel_send(ch[0], TYPE, sent, body, ACCEL_MESSAGE_BYTES_MAX, 50 * MS);
		sent += !rc;
	} while (!rc);
	CHECK_EQ(rc, -ETIMEDOUT);
	CHECK(sent > 1 && sent < ACCEL_CHANNEL_QUEUE_MAX);
	for (uint64_t m = 0; m < sent; m++) {
		/* Its own drain is what goes on sending. */
		while ((rc = (int)accel_channel_take(ch[1], TYPE, m, got,
						     ACCEL_MESSAGE_BYTES_MAX)) == -EAGAIN)
			CHECK_EQ(accel_channel_drain(ch[0]), 0);
		REQUIRE_EQ(rc, ACCEL_MESSAGE_BYTES_MAX);
		memset(body, (int)m + 1, ACCEL_MESSAGE_BYTES_MAX);
		CHECK(!memcmp(body, got, ACCEL_MESSAGE_BYTES_MAX));
	}
	CHECK_EQ(accel_channel_flush(ch[0]), 0);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, sent, NULL, 0), -EAGAIN);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, sent, NULL, 0, 0), 0);
	CHECK_EQ(await(ch[1], sent, NULL, 0), 0);
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
	free(body);
	free(got);
}

struct talkers {
	struct accel_channel *ch[2];
};

/* Two threads send each way, all into sockets that are often full; each takes what another sends it. */
static void chatter(int thread, void *arg)
{
	struct talkers *t = arg;
	struct accel_channel *ch = t->ch[thread & 1];
	uint8_t *body = malloc(20000), *got = malloc(20000);

	memset(body, thread, 20000);
	for (int i = 0; i < 200; i++) {
		uint32_t from = (uint32_t)(thread ^ 1);
		ssize_t n;

		CHECK_EQ(accel_channel_send(ch, TYPE + (uint32_t)thread, 0, body, 20000, LONG), 0);
		while ((n = accel_channel_take(ch, TYPE + from, 0, got, 20000)) == -EAGAIN)
			sched_yield();
		memset(body, (int)from, 20000);
		CHECK(n == 20000 && !memcmp(body, got, 20000));
		memset(body, thread, 20000);
	}
	free(body);
	free(got);
}

TEST(stream, is_safe_among_threads_and_never_mixes_messages)
{
	struct talkers t;
	int small = 4096;

	make_pair(t.ch);
	for (int i = 0; i < 2; i++)
		setsockopt(accel_channel_fd(t.ch[i]), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	meet_threads(4, chatter, &t);
	accel_channel_destroy(t.ch[0]);
	accel_channel_destroy(t.ch[1]);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

TEST(stream, gives_what_came_before_the_end)
{
	struct accel_channel *ch[2];
	char body[8];

	make_pair(ch);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 1, "bye", 4, LONG), 0);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 1, "unread", 7, LONG), 0);
	accel_channel_destroy(ch[0]);
	CHECK_EQ(await(ch[1], 1, body, sizeof(body)), 4);
	CHECK_EQ(await_end(ch[1]), -ECONNRESET);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 1, "late", 5, LONG), -ECONNRESET);
	CHECK_EQ(accel_channel_flush(ch[1]), -ECONNRESET);
	CHECK_EQ(accel_channel_fd(ch[1]), -1);
	accel_channel_destroy(ch[1]);
}

/* One that dies, by FIN and by RST, after a whole message and amid the next. */
TEST(stream, that_is_cut_in_the_middle_is_a_death)
{
	for (int reset = 0; reset < 2; reset++) {
		struct linger at_once = {.l_onoff = 1};
		uint8_t bytes[128];
		char body[8];
		size_t count = frame(bytes, TYPE, 1, "whole", 6);
		struct accel_channel *ch;
		int far;

		count += frame(bytes + count, TYPE, 2, "half", 5) - 2;
		ch = make_half(&far);
		send_all(far, bytes, count);
		CHECK_EQ(await(ch, 1, body, sizeof(body)), 6);
		if (reset)
			setsockopt(far, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(far);
		CHECK_EQ(await_end(ch), -ECONNRESET);
		CHECK_EQ(accel_channel_take(ch, TYPE, 2, body, sizeof(body)), -ECONNRESET);
		accel_channel_destroy(ch);
	}
}

/* ---- An enemy -------------------------------------------------------------------------------- */

static void expect_nonsense(struct accel_message_head head, size_t body_bytes)
{
	static uint8_t bytes[sizeof(head) + 64];
	struct accel_channel *ch;
	int far;

	memcpy(bytes, &head, sizeof(head));
	ch = make_half(&far);
	send_all(far, bytes, sizeof(head) + body_bytes);
	CHECK_EQ(await_end(ch), -EPROTO);
	CHECK_EQ(accel_channel_drain(ch), -EPROTO);
	CHECK_EQ(accel_channel_send(ch, TYPE, 0, NULL, 0, LONG), -EPROTO);
	accel_channel_destroy(ch);
	close(far);
}

TEST(stream, refuses_what_an_enemy_sends)
{
	const struct accel_message_head good = {.magic = ACCEL_MESSAGE_MAGIC, .type = TYPE};
	struct accel_message_head bad;
	int fds = meet_open_fds();

#define BAD(what, body_bytes)                                                                      \
	bad = good;                                                                                \
	bad.what;                                                                                  \
	expect_nonsense(bad, body_bytes)
	BAD(magic ^= 1, 0);
	BAD(reserved = 1, 0);
	BAD(bytes = ACCEL_MESSAGE_BYTES_MAX + 1, 0); /* said at once, before any of it has come */
	BAD(bytes = UINT32_MAX, 0);
	BAD(type = 0, 0);
	BAD(type = ACCEL_MESSAGE_HELLO, 0);
	BAD(type = ACCEL_MESSAGE_REGION, 0);
	bad = good;
	bad.type = ACCEL_MESSAGE_REGION;
	bad.bytes = sizeof(struct accel_message_region);
	expect_nonsense(bad, bad.bytes);
	bad.type = ACCEL_MESSAGE_UNREGION;
	bad.bytes = 8;
	expect_nonsense(bad, bad.bytes);
	CHECK_EQ(meet_open_fds(), fds);
}

TEST(stream, takes_no_more_than_it_has_room_for)
{
	uint8_t bytes[sizeof(struct accel_message_head)];
	struct accel_channel *ch;
	int far;

	frame(bytes, TYPE, 0, NULL, 0);
	ch = make_half(&far);
	for (int i = 0; i <= ACCEL_CHANNEL_QUEUE_MAX; i++)
		send_all(far, bytes, sizeof(bytes));
	CHECK_EQ(await_end(ch), -EPROTO);
	CHECK_EQ(accel_channel_take(ch, TYPE, 0, NULL, 0), 0);
	accel_channel_destroy(ch);
	close(far);
}
