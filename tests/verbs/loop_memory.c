// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Protection domains and registrations. A NIC pins pages: what it reads and writes stays the memory
 * that was registered, whatever is mapped at the address later. Shared mappings (memfds, devices')
 * are mapped a second time for that; private memory cannot be, and is used where it is, so that
 * to unmap it before its deregistration is a fault.
 *
 * A key is 1 + the place in the table, and how often that was used; a remote key has its top bit set.
 */
#define _GNU_SOURCE
#include "loop_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	REMOTE_KEY = 1 << 30,
	MRS_MAX = 1 << 16,
	KEY_STRIDE = MRS_MAX * 2, /* of the uses of a place */
	USES = REMOTE_KEY / KEY_STRIDE,
};

static struct loop_mr *mrs[MRS_MAX];
static uint16_t uses[MRS_MAX];

LOOP_EXPORT struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct loop_pd *pd = NULL;
	int rc;

	loop_enter();
	rc = loop_check(context, "ibv_alloc_pd");
	if (!rc && !(pd = calloc(1, sizeof(*pd))))
		rc = ENOMEM;
	if (!rc) {
		pd->ibv.context = context;
		pd->next = loop_context(context)->pds;
		loop_context(context)->pds = pd;
		loop.live.pds++;
	}
	loop_leave();
	errno = rc;
	return pd ? &pd->ibv : NULL;
}

static void pd_remove(struct loop_pd *pd)
{
	struct loop_pd **at = &loop_context(pd->ibv.context)->pds;

	while (*at != pd)
		at = &(*at)->next;
	*at = pd->next;
	loop.live.pds--;
	free(pd);
}

LOOP_EXPORT int ibv_dealloc_pd(struct ibv_pd *ibv)
{
	struct loop_pd *pd = (void *)ibv;
	bool keep;
	int rc;

	loop_enter();
	rc = loop_check_last(ibv->context, "ibv_dealloc_pd", &keep);
	if (!keep && pd->users)
		rc = EBUSY;
	else if (!keep)
		pd_remove(pd);
	loop_leave();
	return rc;
}

/* The lock is held: what ibv_reg_mr and ibv_reg_dmabuf_mr have in common. */
static int mr_add(struct ibv_pd *pd, uint64_t iova, size_t bytes, int access, struct loop_mr **made)
{
	const int known = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			  IBV_ACCESS_REMOTE_READ | (int)IBV_ACCESS_OPTIONAL_RANGE;
	struct loop_mr *mr;
	unsigned slot = 0;

	if (!bytes || iova + bytes < iova || (access & ~known) ||
	    ((access & IBV_ACCESS_REMOTE_WRITE) && !(access & IBV_ACCESS_LOCAL_WRITE)))
		return EINVAL;
	while (slot < MRS_MAX && mrs[slot])
		slot++;
	if (slot == MRS_MAX || !(mr = calloc(1, sizeof(*mr))))
		return ENOMEM;
	uses[slot] = (uses[slot] + 1) % USES;
	mr->ibv.context = pd->context;
	mr->ibv.pd = pd;
	mr->ibv.lkey = slot + 1 + (uint32_t)uses[slot] * KEY_STRIDE;
	mr->ibv.rkey = mr->ibv.lkey | REMOTE_KEY;
	mr->iova = iova;
	mr->ibv.length = bytes;
	mr->access = access;
	mr->slot = slot;
	mrs[slot] = mr;
	((struct loop_pd *)pd)->users++;
	loop.live.mrs++;
	*made = mr;
	return 0;
}

static void mr_remove(struct loop_mr *mr)
{
	if (mr->alias)
		munmap(mr->alias, mr->alias_bytes);
	mrs[mr->slot] = NULL;
	((struct loop_pd *)mr->ibv.pd)->users--;
	loop.live.mrs--;
	free(mr);
}

/* Every page is mapped: a NIC's driver would say so now, not later. */
static bool is_mapped(uintptr_t begin, size_t bytes)
{
	return !msync((void *)begin, bytes, MS_ASYNC);
}

/* The pages under the range by another address, if the mapping is shared. */
static void pin(struct loop_mr *mr, uintptr_t addr)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = addr & ~(page - 1);
	const size_t bytes = addr + mr->ibv.length - begin;
	void *alias = mremap((void *)begin, 0, bytes, MREMAP_MAYMOVE);

	mr->pages = (void *)addr;
	if (alias == MAP_FAILED)
		return;
	mr->alias = alias;
	mr->alias_bytes = bytes;
	mr->pages = (uint8_t *)alias + (addr - begin);
}

LOOP_EXPORT struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t bytes, int access)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE),
			begin = (uintptr_t)addr & ~(page - 1);
	struct loop_mr *mr = NULL;
	int rc;

	loop_enter();
	rc = loop_check(pd->context, "ibv_reg_mr");
	if (!rc && !is_mapped(begin, (uintptr_t)addr + bytes - begin))
		rc = EFAULT;
	if (!rc)
		rc = mr_add(pd, (uintptr_t)addr, bytes, access, &mr);
	if (!rc) {
		mr->ibv.addr = addr;
		pin(mr, (uintptr_t)addr);
	}
	loop_leave();
	errno = rc;
	return rc ? NULL : &mr->ibv;
}

LOOP_EXPORT struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t bytes,
					     uint64_t iova, int fd, int access)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), in_page = offset & (page - 1);
	struct loop_mr *mr = NULL;
	void *map = MAP_FAILED;
	int rc;

	loop_enter();
	rc = loop_check(pd->context, "ibv_reg_dmabuf_mr");
	if (!rc && !loop.config.dmabuf)
		rc = EOPNOTSUPP;
	if (!rc && in_page != (iova & (page - 1)))
		rc = EINVAL;
	if (!rc) {
		map = mmap(NULL, bytes + in_page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   (off_t)(offset - in_page));
		rc = map == MAP_FAILED ? errno : mr_add(pd, iova, bytes, access, &mr);
	}
	if (!rc) {
		mr->alias = map;
		mr->alias_bytes = bytes + in_page;
		mr->pages = (uint8_t *)map + in_page;
	} else if (map != MAP_FAILED) {
		munmap(map, bytes + in_page);
	}
	loop_leave();
	errno = rc;
	return rc ? NULL : &mr->ibv;
}

/* What queue pairs did through it is ordered before what the caller does next. */
static void mr_fence(struct loop_mr *mr)
{
	const struct ibv_pd *pd = mr->ibv.pd;

	for (struct loop_qp *qp = loop.qps; qp; qp = qp->next) {
		const struct loop_qp *peer = loop_qp_of(qp->attr.dest_qp_num);

		if (qp->ibv.pd == pd || (peer && peer->ibv.pd == pd))
			loop_release(qp->fiber, &mr->fence);
	}
	loop_acquire(NULL, &mr->fence);
}

LOOP_EXPORT int ibv_dereg_mr(struct ibv_mr *ibv)
{
	struct loop_mr *mr = (void *)ibv;
	bool keep;
	int rc;

	loop_enter();
	rc = loop_check_last(ibv->context, "ibv_dereg_mr", &keep);
	mr_fence(mr);
	if (!keep)
		mr_remove(mr);
	loop_leave();
	return rc;
}

void loop_memory_clear(struct loop_context *c)
{
	for (unsigned slot = 0; slot < MRS_MAX; slot++)
		if (mrs[slot] && mrs[slot]->ibv.context == &c->ibv)
			mr_remove(mrs[slot]);
	while (c->pds)
		pd_remove(c->pds);
}

static struct loop_mr *mr_of(const struct ibv_pd *pd, uint32_t key, uint64_t addr, uint64_t bytes)
{
	const uint32_t slot = (key & ~(uint32_t)REMOTE_KEY) % KEY_STRIDE - 1;
	struct loop_mr *mr = slot < MRS_MAX ? mrs[slot] : NULL;

	if (!mr || mr->ibv.pd != pd || addr < mr->iova || bytes > mr->ibv.length ||
	    addr - mr->iova > mr->ibv.length - bytes)
		return NULL;
	return mr;
}

struct loop_mr *loop_mr_local(const struct ibv_pd *pd, const struct ibv_sge *entry, int access)
{
	struct loop_mr *mr = mr_of(pd, entry->lkey, entry->addr, entry->length);

	return mr && mr->ibv.lkey == entry->lkey && (mr->access & access) == access ? mr : NULL;
}

struct loop_mr *loop_mr_remote(const struct ibv_pd *pd, uint64_t addr, uint64_t bytes,
			       uint32_t rkey)
{
	struct loop_mr *mr = mr_of(pd, rkey, addr, bytes);

	return mr && mr->ibv.rkey == rkey && (mr->access & IBV_ACCESS_REMOTE_WRITE) ? mr : NULL;
}
