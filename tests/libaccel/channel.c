// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Channels: both ends in this process, ends in two processes, and raw packets of an enemy. */
#define _GNU_SOURCE
#include "channel.h"

#include "id_table.h"
#include "meet.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/un.h>

#define TYPE 100
#define PAGE 4096

/* Both ends of a connection, as connect() and accept() give them. */
static void connect_ends(int fd[2])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(address);
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	fd[0] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (!CHECK(!bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) &&
		   !listen(listener, 1)))
		exit(1);
	getsockname(listener, (struct sockaddr *)&address, &len);
	if (!CHECK(!connect(fd[0], (struct sockaddr *)&address, len)))
		exit(1);
	fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	close(listener);
}

static void make_pair(struct accel_channel *ch[2])
{
	int fd[2];

	connect_ends(fd);
	for (int i = 0; i < 2; i++)
		if (!CHECK_EQ(accel_channel_create(fd[i], !i, &ch[i]), 0))
			exit(1);
}

static struct accel_region *region_new(uint64_t id)
{
	struct accel_region_opts opts = {.huge = ACCEL_HUGE_NEVER, .numa_node = -1, .what = "test"};
	struct accel_region *region;

	if (!CHECK_EQ(accel_region_create(NULL, id, PAGE, &opts, &region), 0))
		exit(1);
	memset(region->addr, (int)id, PAGE);
	return region;
}

/* ---- Ids ------------------------------------------------------------------------------------- */

TEST(id_table, agrees_with_a_plain_array)
{
	struct accel_id_table table = {0};
	uint64_t state = tap_seed(), ids[300];
	bool in[300] = {0};
	int count = 0;

	for (int i = 0; i < 300; i++)
		ids[i] = i % 2 ? (uint64_t)i : tap_random(&state) | 1u << 20;
	for (int step = 0; step < 20000; step++) {
		int i = (int)tap_random_below(&state, step < 10000 ? 300 : 40);
		struct accel_id_slot *slot = accel_id_table_find(&table, ids[i]);

		REQUIRE_EQ(!!slot, in[i]);
		if (slot) {
			REQUIRE_EQ(slot->state, i);
			accel_id_table_remove(&table, slot);
			count--;
		} else {
			REQUIRE_EQ(accel_id_table_add(&table, ids[i], &slot), 0);
			slot->state = i;
			count++;
		}
		in[i] = !in[i];
		REQUIRE_EQ(table.count, count);
	}
	CHECK(!accel_id_table_find(&table, 0));
	accel_id_table_fini(&table);
	CHECK(!accel_id_table_find(&table, 1));
}

/* ---- Messages -------------------------------------------------------------------------------- */

TEST(channel, takes_messages_by_type_and_tag)
{
	struct accel_channel *ch[2];
	uint8_t body[16], *big = calloc(1, ACCEL_MESSAGE_BYTES_MAX + 1),
			  *got = malloc(ACCEL_MESSAGE_BYTES_MAX);

	make_pair(ch);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 1, body, sizeof(body)), -EAGAIN);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 1, "one", 4, LONG), 0);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 2, "two!", 5, LONG), 0);
	CHECK_EQ(accel_channel_send(ch[0], TYPE + 1, 1, NULL, 0, 0), 0);
	CHECK_EQ(accel_channel_take(ch[1], TYPE + 1, 1, NULL, 0), 0);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 2, body, 4), -EMSGSIZE);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 2, body, sizeof(body)), 5);
	CHECK(!strcmp((char *)body, "two!"));
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 1, body, sizeof(body)), 4);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 1, body, sizeof(body)), -EAGAIN);
	big[ACCEL_MESSAGE_BYTES_MAX - 1] = 9;
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 3, big, ACCEL_MESSAGE_BYTES_MAX + 1, LONG),
		 -EMSGSIZE);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 3, big, ACCEL_MESSAGE_BYTES_MAX, LONG), 0);
	CHECK_EQ(accel_channel_take(ch[0], TYPE, 3, got, ACCEL_MESSAGE_BYTES_MAX),
		 ACCEL_MESSAGE_BYTES_MAX);
	CHECK(!memcmp(big, got, ACCEL_MESSAGE_BYTES_MAX));
	CHECK_EQ(accel_channel_peer(ch[0]), 1);
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
	accel_channel_destroy(NULL);
	free(big);
	free(got);
}

TEST(channel, gives_what_came_before_the_end)
{
	struct accel_channel *ch[2];
	char body[4];

	make_pair(ch);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 1, "bye", 4, LONG), 0);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 1, "unread", 7, LONG), 0);
	accel_channel_destroy(ch[0]);
	CHECK(accel_channel_fd(ch[1]) >= 0);
	CHECK_EQ(accel_channel_send(ch[1], TYPE, 1, "late", 5, LONG), -ECONNRESET);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 1, body, sizeof(body)), 4);
	CHECK_EQ(accel_channel_take(ch[1], TYPE, 1, body, sizeof(body)), -ECONNRESET);
	CHECK_EQ(accel_channel_drain(ch[1]), -ECONNRESET);
	CHECK_EQ(accel_channel_fd(ch[1]), -1);
	accel_channel_destroy(ch[1]);
}

TEST(channel, send_is_bounded_when_the_socket_is_full)
{
	static const uint8_t big[ACCEL_MESSAGE_BYTES_MAX];
	struct accel_channel *ch[2];
	struct accel_region *region = region_new(1), *seen;
	int sent = 0;

	make_pair(ch);
	while (!accel_channel_send(ch[0], TYPE, 0, big, sizeof(big), 0))
		sent++;
	CHECK(sent > 0 && sent < ACCEL_CHANNEL_QUEUE_MAX);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 0, big, sizeof(big), 0), -EAGAIN);
	CHECK_EQ(accel_channel_send(ch[0], TYPE, 0, big, sizeof(big), 20 * MS), -ETIMEDOUT);
	CHECK_EQ(accel_channel_share(ch[0], region, 0), -EAGAIN);
	CHECK_EQ(accel_channel_share(ch[0], region, 20 * MS), -ETIMEDOUT);
	CHECK_EQ(region->refs, 1);
	CHECK_EQ(accel_channel_drain(ch[1]), 0);
	CHECK_EQ(accel_channel_share(ch[0], region, 0), 0);
	/* Gone while there is no room: told later. */
	while (!accel_channel_send(ch[0], TYPE, 0, big, sizeof(big), 0))
		sent++;
	accel_channel_unshare(ch[0], 1);
	CHECK_EQ(accel_channel_share(ch[0], region, 0), -EINVAL);
	CHECK_EQ(accel_channel_region(ch[1], 1, &seen), 0);
	accel_region_put(seen);
	CHECK_EQ(accel_channel_drain(ch[1]), 0);
	CHECK_EQ(accel_channel_send(ch[0], TYPE + 1, 0, NULL, 0, 0), 0);
	CHECK_EQ(accel_channel_take(ch[1], TYPE + 1, 0, NULL, 0), 0);
	CHECK_EQ(accel_channel_region(ch[1], 1, &seen), -ENOENT);
	CHECK_EQ(region->refs, 1);
	accel_channel_destroy(ch[1]);
	accel_channel_destroy(ch[0]);
	accel_region_put(region);
}

/* ---- Regions --------------------------------------------------------------------------------- */

TEST(channel_region, is_the_owners_own_within_a_process)
{
	struct accel_channel *ch[2];
	struct accel_region *region = region_new(5), *other = region_new(6), *seen;

	make_pair(ch);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(accel_channel_share(ch[0], region, LONG), 0);
	CHECK_EQ(region->refs, 2);
	CHECK_EQ(accel_channel_region(ch[1], 6, &seen), -ENOENT);
	CHECK_EQ(accel_channel_region(ch[1], 5, &seen), 0);
	CHECK(seen == region);
	CHECK_EQ(accel_channel_maps(ch[1]), 1);
	CHECK_EQ(accel_channel_share(ch[0], other, LONG), 0);
	accel_channel_unshare(ch[0], 5);
	accel_channel_unshare(ch[0], 5);
	accel_channel_unshare(ch[0], 77);
	CHECK_EQ(accel_channel_drain(ch[1]), 0);
	CHECK_EQ(region->refs, 2); /* seen */
	accel_region_put(seen);
	CHECK_EQ(accel_channel_region(ch[1], 5, &seen), -ENOENT);
	accel_channel_destroy(ch[1]);
	CHECK_EQ(other->refs, 1);
	CHECK_EQ(accel_channel_drain(ch[0]), -ECONNRESET);
	accel_channel_destroy(ch[0]);
	accel_region_put(region);
	accel_region_put(other);
}

TEST(channel_region, on_its_way_is_released_by_either_end)
{
	for (int first = 0; first < 2; first++) {
		struct accel_region *region[2] = {region_new(1), region_new(2)};
		struct accel_channel *ch[2];

		make_pair(ch);
		for (int i = 0; i < 2; i++)
			CHECK_EQ(accel_channel_share(ch[i], region[i], LONG), 0);
		accel_channel_destroy(ch[first]);
		CHECK_EQ(region[!first]->refs, 1);
		CHECK_EQ(region[first]->refs, 2); /* the other can still take it in */
		accel_channel_destroy(ch[!first]);
		CHECK_EQ(region[first]->refs, 1);
		for (int i = 0; i < 2; i++)
			accel_region_put(region[i]);
	}
}

TEST(channel_region, of_a_bare_pointer_is_refused)
{
	struct accel_channel *ch[2];
	struct accel_region *region;
	int local;

	make_pair(ch);
	REQUIRE_EQ(accel_region_import_ptr(NULL, 1, &local, sizeof(local), &region), 0);
	CHECK_EQ(accel_channel_share(ch[0], region, LONG), -EOPNOTSUPP);
	accel_region_put(region);
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
}

TEST(channel_region, count_is_bounded)
{
	static struct accel_region many[ACCEL_CHANNEL_REGIONS_MAX + 1];
	struct accel_channel *ch[2];

	make_pair(ch);
	for (int i = 0; i <= ACCEL_CHANNEL_REGIONS_MAX; i++)
		many[i] = (struct accel_region){.refs = 1, .id = (uint64_t)i + 1, .fd = 0};
	for (int i = 0; i < ACCEL_CHANNEL_REGIONS_MAX; i++) {
		REQUIRE_EQ(accel_channel_share(ch[0], &many[i], LONG), 0);
		REQUIRE_EQ(accel_channel_drain(ch[1]), 0);
	}
	CHECK_EQ(accel_channel_share(ch[0], &many[ACCEL_CHANNEL_REGIONS_MAX], LONG), -ENOSPC);
	accel_channel_unshare(ch[0], 77);
	CHECK_EQ(accel_channel_drain(ch[1]), 0);
	CHECK_EQ(many[76].refs, 1);
	CHECK_EQ(accel_channel_share(ch[0], &many[ACCEL_CHANNEL_REGIONS_MAX], LONG), 0);
	CHECK_EQ(accel_channel_drain(ch[1]), 0);
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
	for (int i = 0; i <= ACCEL_CHANNEL_REGIONS_MAX; i++)
		CHECK_EQ(many[i].refs, 1);
}

/*
 * A child that is another process to the kernel, at the other end of a channel. True: it says all
 * is well.
 */
static void with_child(bool (*child)(struct accel_channel *ch),
		       void (*parent)(struct accel_channel *ch))
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), status = -1;
	socklen_t len = sizeof(address);
	struct accel_channel *ch = NULL;
	pid_t pid;

	bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t));
	listen(listener, 1);
	getsockname(listener, (struct sockaddr *)&address, &len);
	pid = fork();
	if (!pid) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		bool ok = CHECK(!connect(fd, (struct sockaddr *)&address, len)) &&
			  CHECK_EQ(accel_channel_create(fd, 0, &ch), 0);

		close(listener);
		ok = ok && child(ch);
		accel_channel_destroy(ch);
		exit(!ok);
	}
	if (CHECK_EQ(accel_channel_create(accept4(listener, NULL, NULL, SOCK_CLOEXEC), 1, &ch), 0))
		parent(ch);
	accel_channel_destroy(ch);
	close(listener);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/* Wait for a message without a body. */
static bool await(struct accel_channel *ch, uint64_t tag)
{
	ssize_t rc;

	while ((rc = accel_channel_take(ch, TYPE, tag, NULL, 0)) == -EAGAIN)
		sched_yield();
	return CHECK_EQ(rc, 0);
}

static bool child_reads(struct accel_channel *ch)
{
	struct accel_region *region = NULL, *gone;
	bool ok = await(ch, 1) && CHECK_EQ(accel_channel_region(ch, 3, &region), 0) &&
		  CHECK_EQ(region->bytes, PAGE) && CHECK_EQ(region->addr[0], 3) &&
		  CHECK_EQ(region->addr[PAGE - 1], 3) &&
		  CHECK(mprotect(region->map_addr, PAGE, PROT_READ | PROT_WRITE)); /* sealed */

	ok = ok && CHECK_EQ(accel_channel_send(ch, TYPE, 2, NULL, 0, LONG), 0) && await(ch, 3);
	ok = ok && CHECK_EQ(accel_channel_region(ch, 3, &gone), -ENOENT) &&
	     CHECK_EQ(region->addr[0], 77);
	accel_region_put(region);
	return ok && CHECK_EQ(accel_channel_maps(ch), 1) &&
	       CHECK_EQ(accel_channel_send(ch, TYPE, 4, NULL, 0, LONG), 0);
}

static void parent_shares(struct accel_channel *ch)
{
	struct accel_region *region = region_new(3);

	CHECK_EQ(accel_channel_share(ch, region, LONG), 0);
	CHECK_EQ(accel_channel_share(ch, region, LONG), 0);
	CHECK_EQ(region->refs, 1);
	CHECK_EQ(accel_channel_send(ch, TYPE, 1, NULL, 0, LONG), 0);
	await(ch, 2);
	region->addr[0] = 77;
	accel_channel_unshare(ch, 3);
	CHECK_EQ(accel_channel_send(ch, TYPE, 3, NULL, 0, LONG), 0);
	await(ch, 4);
	accel_region_put(region);
}

TEST(channel_region, is_mapped_read_only_in_another_process)
{
	int fds = meet_open_fds();

	with_child(child_reads, parent_shares);
	CHECK_EQ(meet_open_fds(), fds);
}

/* No descriptor is free here when one comes: that is no nonsense of the peer's. */
static bool child_lacks_descriptors(struct accel_channel *ch)
{
	struct rlimit limit, none;
	struct accel_region *region;
	bool ok;

	getrlimit(RLIMIT_NOFILE, &limit);
	none = (struct rlimit){0, limit.rlim_max};
	setrlimit(RLIMIT_NOFILE, &none);
	ok = await(ch, 1);
	setrlimit(RLIMIT_NOFILE, &limit);
	return ok && CHECK_EQ(accel_channel_region(ch, 3, &region), -ENOMEM) &&
	       CHECK_EQ(accel_channel_send(ch, TYPE, 2, NULL, 0, LONG), 0) && await(ch, 3) &&
	       CHECK_EQ(accel_channel_region(ch, 3, &region), -ENOENT) &&
	       CHECK_EQ(accel_channel_send(ch, TYPE, 4, NULL, 0, LONG), 0);
}

TEST(channel_region, without_a_free_descriptor_is_a_shortage)
{
	with_child(child_lacks_descriptors, parent_shares);
}

static bool child_shares_much(struct accel_channel *ch)
{
	for (uint64_t id = 1; id <= 500; id++) {
		struct accel_region *region = region_new(id);

		if (!CHECK_EQ(accel_channel_share(ch, region, LONG), 0))
			return false;
		if (id % 3)
			accel_channel_unshare(ch, id);
		accel_region_put(region);
	}
	return CHECK_EQ(accel_channel_send(ch, TYPE, 1, NULL, 0, LONG), 0) && await(ch, 2);
}

static void parent_maps_much(struct accel_channel *ch)
{
	struct accel_region *region;

	await(ch, 1);
	for (uint64_t id = 1; id <= 500; id++) {
		int rc = accel_channel_region(ch, id, &region);

		REQUIRE_EQ(rc, id % 3 ? -ENOENT : 0);
		if (rc)
			continue;
		CHECK_EQ(region->addr[1], id & 0xff);
		accel_region_put(region);
	}
	CHECK_EQ(accel_channel_maps(ch), 500);
	CHECK_EQ(accel_channel_send(ch, TYPE, 2, NULL, 0, LONG), 0);
}

TEST(channel_region, many_from_another_process)
{
	int fds = meet_open_fds();

	with_child(child_shares_much, parent_maps_much);
	CHECK_EQ(meet_open_fds(), fds);
}

/* ---- Threads --------------------------------------------------------------------------------- */

struct hammer {
	struct accel_channel *ch[2];
	struct accel_region *region[8];
};

/*
 * Threads 0 and 1 share the same regions, as two lanes do; thread 2 looks them up; thread 3 sends
 * the other way.
 */
static void hammer(int thread, void *arg)
{
	struct hammer *h = arg;
	struct accel_region *region;
	uint64_t state = (uint64_t)thread;

	for (int i = 0; i < 2000; i++) {
		int id = (int)tap_random_below(&state, 8);

		if (thread < 2) {
			CHECK_EQ(accel_channel_share(h->ch[0], h->region[id], LONG), 0);
		} else if (thread == 2) {
			int rc = accel_channel_region(h->ch[1], (uint64_t)id + 1, &region);

			CHECK(!rc || rc == -ENOENT);
			if (!rc)
				accel_region_put(region);
		} else {
			CHECK_EQ(accel_channel_send(h->ch[1], TYPE, 0, "x", 1, LONG), 0);
			CHECK_EQ(accel_channel_take(h->ch[0], TYPE, 0, &(char){0}, 1), 1);
		}
	}
}

TEST(channel, is_safe_among_threads)
{
	struct hammer h;

	make_pair(h.ch);
	for (int i = 0; i < 8; i++)
		h.region[i] = region_new((uint64_t)i + 1);
	meet_threads(4, hammer, &h);
	accel_channel_destroy(h.ch[0]);
	accel_channel_destroy(h.ch[1]);
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(h.region[i]->refs, 1);
		accel_region_put(h.region[i]);
	}
}

static void share_then_destroy(int end, void *arg)
{
	struct hammer *h = arg;

	accel_channel_share(h->ch[end], h->region[end], LONG);
	accel_channel_destroy(h->ch[end]);
}

TEST(channel, ends_may_be_destroyed_at_once)
{
	for (int i = 0; i < 200; i++) {
		struct hammer h = {.region = {region_new(1), region_new(2)}};

		make_pair(h.ch);
		meet_threads(2, share_then_destroy, &h);
		for (int end = 0; end < 2; end++) {
			REQUIRE_EQ(h.region[end]->refs, 1);
			accel_region_put(h.region[end]);
		}
	}
}

TEST(channel, of_the_parent_survives_destroy_in_a_child)
{
	struct accel_region *region = region_new(1), *seen = NULL;
	struct accel_channel *ch[2];
	int status = -1;
	pid_t pid;

	make_pair(ch);
	CHECK_EQ(accel_channel_share(ch[0], region, LONG), 0);
	pid = fork();
	if (!pid) {
		accel_channel_destroy(ch[0]);
		accel_channel_destroy(ch[1]);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(accel_channel_region(ch[1], 1, &seen), 0);
	accel_region_put(seen);
	accel_channel_destroy(ch[0]);
	accel_channel_destroy(ch[1]);
	CHECK_EQ(region->refs, 1);
	accel_region_put(region);
}

/* ---- Enemies --------------------------------------------------------------------------------- */

static void send_raw(int fd, const void *packet, size_t bytes, const int *fds, int count)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control = {.head = {.cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS,
			      .cmsg_len = CMSG_LEN((size_t)count * sizeof(int))}};
	struct iovec iov = {(void *)packet, bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (count) {
		memcpy(CMSG_DATA(&control.head), fds, (size_t)count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
	}
	CHECK_EQ(sendmsg(fd, &msg, MSG_NOSIGNAL), bytes);
}

struct region_packet {
	struct accel_message_head head;
	struct accel_message_region body;
};

static struct region_packet region_packet(void)
{
	return (struct region_packet){
		.head = {.magic = ACCEL_MESSAGE_MAGIC,
			 .type = ACCEL_MESSAGE_REGION,
			 .bytes = sizeof(struct accel_message_region)},
		.body = {.id = 1, .bytes = PAGE},
	};
}

static int fd_of_kind(int kind)
{
	int fd = kind == 2 ? dup(1) : memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (kind == 2)
		return fd;
	CHECK(!ftruncate(fd, PAGE));
	if (kind == 0)
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	return fd;
}

/* An enemy's packet, and what becomes of the channel. Nothing may be left open. */
static void expect(int code, const void *packet, size_t bytes, int fd_kind, int fd_count)
{
	int fds = meet_open_fds(), fd[2], kind[2] = {-1, -1};
	struct accel_channel *ch;

	connect_ends(fd);
	REQUIRE_EQ(accel_channel_create(fd[1], 0, &ch), 0);
	for (int i = 0; i < fd_count; i++)
		kind[i] = fd_of_kind(fd_kind);
	send_raw(fd[0], packet, bytes, kind, fd_count);
	for (int i = 0; i < fd_count; i++)
		close(kind[i]);
	CHECK_EQ(accel_channel_drain(ch), code);
	CHECK_EQ(accel_channel_drain(ch), code);
	accel_channel_destroy(ch);
	close(fd[0]);
	CHECK_EQ(meet_open_fds(), fds);
}

TEST(channel, refuses_what_an_enemy_sends)
{
	struct region_packet good = region_packet(), bad;
	struct {
		struct accel_message_head head;
		uint8_t body[ACCEL_MESSAGE_BYTES_MAX + 1];
	} *big = calloc(1, sizeof(*big));

	expect(0, &good, sizeof(good), 0, 1);
	expect(-EPROTO, &good, sizeof(good), 0, 0);	/* no descriptor */
	expect(-EPROTO, &good, sizeof(good), 0, 2);	/* two */
	expect(-EPROTO, &good, sizeof(good), 1, 1);	/* not sealed */
	expect(-EPROTO, &good, sizeof(good), 2, 1);	/* no memfd */
	expect(-EPROTO, &good, sizeof(good) - 1, 0, 1); /* shorter than it says */
	expect(-EPROTO, &good, sizeof(good.head) - 1, 0, 1);
	expect(-EPROTO, &good, 1, 0, 0);
#define BAD(what)                                                                                  \
	bad = good;                                                                                \
	bad.what;                                                                                  \
	expect(-EPROTO, &bad, sizeof(bad), 0, 1)
	BAD(head.magic ^= 1);
	BAD(head.reserved = 1);
	BAD(head.bytes++);
	BAD(head.bytes = UINT32_MAX);
	BAD(head.type = 0);
	BAD(head.type = ACCEL_MESSAGE_HELLO);
	BAD(head.type = ACCEL_MESSAGE_UNREGION);
	BAD(body.id = 0);
	BAD(body.bytes = 0);
	BAD(body.bytes = PAGE + 1);
	BAD(body.offset = PAGE);
	BAD(body.offset = UINT64_MAX);
	BAD(body.bytes = UINT64_MAX);
	bad = good;
	bad.head.type = TYPE; /* a descriptor that is uncalled for is closed */
	expect(0, &bad, sizeof(bad), 0, 1);
	big->head = (struct accel_message_head){
		.magic = ACCEL_MESSAGE_MAGIC, .type = TYPE, .bytes = ACCEL_MESSAGE_BYTES_MAX + 1};
	expect(-EPROTO, big, sizeof(big->head) + big->head.bytes, 0, 0);
	bad = good;
	bad.head.type = ACCEL_MESSAGE_UNREGION;
	bad.head.bytes = 8;
	expect(-EPROTO, &bad, sizeof(bad.head) + 8, 0, 0); /* never sent */
	free(big);
}

TEST(channel, refuses_too_much)
{
	struct region_packet packet = region_packet();
	struct accel_channel *ch;
	int fd[2], sealed = fd_of_kind(0), fds = meet_open_fds();

	connect_ends(fd);
	REQUIRE_EQ(accel_channel_create(fd[1], 0, &ch), 0);
	for (int i = 0; i < 2; i++)
		send_raw(fd[0], &packet, sizeof(packet), &sealed, 1);
	CHECK_EQ(accel_channel_drain(ch), -EPROTO); /* twice the same id */
	accel_channel_destroy(ch);
	close(fd[0]);

	connect_ends(fd);
	REQUIRE_EQ(accel_channel_create(fd[1], 0, &ch), 0);
	packet.head = (struct accel_message_head){.magic = ACCEL_MESSAGE_MAGIC, .type = TYPE};
	for (int i = 0; i < ACCEL_CHANNEL_QUEUE_MAX; i++)
		send_raw(fd[0], &packet, sizeof(packet.head), NULL, 0);
	CHECK_EQ(accel_channel_drain(ch), 0);
	send_raw(fd[0], &packet, sizeof(packet.head), NULL, 0);
	CHECK_EQ(accel_channel_drain(ch), -EPROTO);
	CHECK_EQ(accel_channel_take(ch, TYPE, 0, NULL, 0), 0);
	accel_channel_destroy(ch);
	close(fd[0]);
	close(sealed);
	CHECK_EQ(meet_open_fds(), fds - 1);
}
