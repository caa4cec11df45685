// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Registrations. A NIC names memory by the address that it has in this process, however it was
 * registered: a dma-buf's iova is chosen so. The kernel asks that it lies within a page as the offset
 * does, which holds since dma-bufs are mapped in whole pages from an offset of whole pages.
 *
 * A dma-buf is asked for first: it pins nothing that RLIMIT_MEMLOCK counts, and is the only way to
 * memory that has no pages. The kernel does not ask whether its descriptor may be written through.
 * To pin a large tensor, and to let go of it, takes the kernel seconds, in which another lane must be able
 * to send: the lock is not held then. Who wants the same range meanwhile waits for it.
 */
#include "verbs_reg.h"

#include "dmabuf.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* What a rail said: errno, 0 where it was not asked. */
struct refusal {
	const struct accel_verbs_rail *rail;
	bool is_dmabuf;
	int dmabuf, mapping;
};

static int dmabuf_fd(const struct accel_region *region)
{
	if (region->nic_fd >= 0)
		return region->nic_fd;
	return region->fd >= 0 && accel_dmabuf_is(region->fd) ? region->fd : -1;
}

static struct ibv_mr *dmabuf_reg(struct accel_verbs *verbs, struct accel_verbs_rail *rail,
				 const struct accel_region *region, const struct accel_verbs_mr *mr,
				 int access, struct refusal *refusal)
{
	uint64_t offset = region->fd_offset + (uint64_t)(mr->addr - region->addr);
	/* accel.ko lets every device attach: it is this one that takes none, and will take none. */
	bool ours = region->nic_fd < 0;
	struct ibv_mr *new = NULL;
	int fd = dmabuf_fd(region);

	refusal->is_dmabuf = fd >= 0;
	if (fd < 0 || (ours && rail->no_dmabuf))
		return NULL;
	assert(!((offset ^ (uintptr_t)mr->addr) & (accel_page_bytes() - 1)));
	refusal->dmabuf = EOPNOTSUPP;
	if (verbs->api->reg_dmabuf_mr) {
		new = verbs->api->reg_dmabuf_mr(rail->pd, offset, mr->bytes, (uintptr_t)mr->addr,
						fd, access);
		refusal->dmabuf = new ? 0 : errno;
	}
	if (refusal->dmabuf == EOPNOTSUPP && ours)
		rail->no_dmabuf = true;
	return new;
}

static void mr_free(struct accel_verbs *verbs, struct accel_verbs_mr *mr)
{
	for (int i = 0; i < verbs->rail_count; i++) {
		int rc = mr->mr[i] ? verbs->api->dereg_mr(mr->mr[i]) : 0;

		if (rc)
			accel_log(ACCEL_LOG_WARN,
				  "verbs: %s does not let go of a registration of %" PRIu64
				  " bytes: %s",
				  verbs->rail[i].port.device, mr->bytes, strerror(rc));
	}
	free(mr);
}

/* With all rails, or with none: then what the one said that refused. */
static bool mr_reg(struct accel_verbs *verbs, const struct accel_region *region,
		   struct accel_verbs_mr *mr, struct refusal *refusal)
{
	int access = mr->remote_write ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : 0;

	for (int i = 0; i < verbs->rail_count; i++) {
		struct accel_verbs_rail *rail = &verbs->rail[i];

		*refusal = (struct refusal){.rail = rail};
		mr->mr[i] = dmabuf_reg(verbs, rail, region, mr, access, refusal);
		if (!mr->mr[i])
			mr->mr[i] = verbs->api->reg_mr(rail->pd, mr->addr, mr->bytes, access);
		if (!mr->mr[i]) {
			refusal->mapping = errno;
			return false;
		}
	}
	return true;
}

/* What the kernel counts against RLIMIT_MEMLOCK. */
static uint64_t pinned_bytes(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	uint64_t kib = 0;
	char line[128];

	if (!status)
		return 0;
	while (fgets(line, sizeof(line), status) && sscanf(line, "VmPin: %" SCNu64, &kib) != 1)
		;
	fclose(status);
	return kib << 10;
}

static int fail_room(struct accel_object *obj, const struct accel_verbs_port *port, uint64_t bytes)
{
	uint64_t pinned = pinned_bytes();
	struct rlimit limit;

	if (!getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur != RLIM_INFINITY &&
	    pinned + bytes > limit.rlim_cur)
		return accel_fail(
			obj, -ENOMEM, NULL,
			"%s cannot pin %" PRIu64 " bytes beside %" PRIu64
			" that are pinned: RLIMIT_MEMLOCK is %" PRIu64
			"; raise it (ulimit -l unlimited; LimitMEMLOCK=infinity in the systemd "
			"unit; memlock in /etc/security/limits.d; --ulimit memlock=-1 of a "
			"container)",
			port->device, bytes, pinned, (uint64_t)limit.rlim_cur);
	return accel_fail(obj, -ENOMEM, NULL,
			  "%s cannot register %" PRIu64 " bytes: the kernel or the device has no "
			  "room; register less, or see dmesg",
			  port->device, bytes);
}

static int fail_reg(struct accel_object *obj, const struct refusal *refusal, uint64_t bytes)
{
	const struct accel_verbs_port *port = &refusal->rail->port;
	const char *dmabuf = "it is none";
	bool is_way;

	if (refusal->mapping == ENOMEM)
		return fail_room(obj, port, bytes);
	/* What is wrong with the memory, or the way to it, not with the device. */
	is_way = refusal->mapping == EFAULT || refusal->mapping == EOPNOTSUPP ||
		 refusal->mapping == EINVAL || refusal->mapping == EPERM;
	if (refusal->is_dmabuf)
		dmabuf = strerror(refusal->dmabuf ? refusal->dmabuf : EOPNOTSUPP);
	return accel_fail(
		obj, is_way ? -EOPNOTSUPP : -EIO, NULL,
		"%s cannot register %" PRIu64 " bytes: as a dma-buf: %s; as they are mapped: %s%s",
		port->device, bytes, dmabuf, strerror(refusal->mapping),
		is_way ? "; is this memory still mapped? A device's takes a NIC that registers "
			 "dma-bufs, and import by one"
		       : "; see dmesg for what the device says");
}

static bool is_match(const struct accel_verbs_mr *mr, uint64_t id, const uint8_t *addr,
		     uint64_t bytes, bool remote_write)
{
	if (mr->gone || mr->id != id)
		return false;
	if (remote_write) /* peers are let in no further than was asked */
		return mr->remote_write && mr->addr == addr && mr->bytes == bytes;
	return addr >= mr->addr && (uint64_t)(addr - mr->addr) <= mr->bytes &&
	       bytes <= mr->bytes - (uint64_t)(addr - mr->addr);
}

/* Locked. What was used last is found first; it may not be made yet. */
static struct accel_verbs_mr *find(struct accel_verbs *verbs, uint64_t id, const uint8_t *addr,
				   uint64_t bytes, bool remote_write)
{
	for (struct accel_verbs_mr **at = &verbs->mrs; *at; at = &(*at)->next)
		if (is_match(*at, id, addr, bytes, remote_write)) {
			struct accel_verbs_mr *mr = *at;

			*at = mr->next;
			mr->next = verbs->mrs;
			verbs->mrs = mr;
			return mr;
		}
	return NULL;
}

/* Locked. One that a caller has a use of, not made yet. NULL: no memory. */
static struct accel_verbs_mr *add(struct accel_verbs *verbs, uint64_t id, uint8_t *addr,
				  uint64_t bytes, bool remote_write)
{
	struct accel_verbs_mr *mr = calloc(1, sizeof(*mr));

	if (!mr)
		return NULL;
	mr->id = id;
	mr->addr = addr;
	mr->bytes = bytes;
	mr->remote_write = remote_write;
	mr->users = 1;
	mr->next = verbs->mrs;
	verbs->mrs = mr;
	return mr;
}

/* Locked. */
static void unlist(struct accel_verbs *verbs, const struct accel_verbs_mr *mr)
{
	struct accel_verbs_mr **at = &verbs->mrs;

	while (*at != mr)
		at = &(*at)->next;
	*at = mr->next;
}

int accel_verbs_use(struct accel_verbs *verbs, struct accel_object *obj,
		    struct accel_region *region, uint64_t offset, uint64_t bytes, bool remote_write,
		    struct accel_verbs_mr **mr)
{
	uint8_t *addr = region->addr + offset;
	struct accel_verbs_mr *found;
	struct refusal refusal;
	bool made = true;

	assert(bytes);
	assert(offset <= region->bytes);
	assert(bytes <= region->bytes - offset);
	pthread_mutex_lock(&verbs->lock);
	while ((found = find(verbs, region->id, addr, bytes, remote_write)) && !found->made)
		pthread_cond_wait(&verbs->settled, &verbs->lock);
	if (found) {
		found->users++;
	} else {
		found = add(verbs, region->id, addr, bytes, remote_write);
		made = false;
	}
	pthread_mutex_unlock(&verbs->lock);
	if (!found)
		return accel_fail(obj, -ENOMEM, NULL, "no memory to keep a registration");
	if (!made) {
		made = mr_reg(verbs, region, found, &refusal);
		pthread_mutex_lock(&verbs->lock);
		found->made = made;
		verbs->registrations += made;
		if (!made)
			unlist(verbs, found);
		pthread_cond_broadcast(&verbs->settled);
		pthread_mutex_unlock(&verbs->lock);
	}
	if (!made) {
		mr_free(verbs, found);
		return fail_reg(obj, &refusal, bytes);
	}
	*mr = found;
	return 0;
}

/* Locked. Takes out those that are gone and that nobody uses: a list, for free_all(). */
static struct accel_verbs_mr *sweep(struct accel_verbs *verbs)
{
	struct accel_verbs_mr **at = &verbs->mrs, *mr, *swept = NULL;

	while ((mr = *at)) {
		if (!mr->gone || mr->users) {
			at = &mr->next;
			continue;
		}
		*at = mr->next;
		mr->next = swept;
		swept = mr;
	}
	return swept;
}

static void free_all(struct accel_verbs *verbs, struct accel_verbs_mr *swept)
{
	struct accel_verbs_mr *mr;

	while ((mr = swept)) {
		swept = mr->next;
		mr_free(verbs, mr);
	}
}

void accel_verbs_unuse(struct accel_verbs *verbs, struct accel_verbs_mr *mr)
{
	struct accel_verbs_mr *swept = NULL;

	if (!mr)
		return;
	pthread_mutex_lock(&verbs->lock);
	assert(mr->users);
	if (!--mr->users && mr->gone)
		swept = sweep(verbs);
	pthread_mutex_unlock(&verbs->lock);
	free_all(verbs, swept);
}

void accel_verbs_forget(struct accel_verbs *verbs, uint64_t region_id)
{
	struct accel_verbs_mr *swept;

	pthread_mutex_lock(&verbs->lock);
	for (struct accel_verbs_mr *mr = verbs->mrs; mr; mr = mr->next)
		mr->gone |= !region_id || mr->id == region_id;
	swept = sweep(verbs);
	pthread_mutex_unlock(&verbs->lock);
	free_all(verbs, swept);
}
