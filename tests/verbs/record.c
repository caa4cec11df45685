// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * libaccel-verbs-record.so: the symbols of libaccel/verbs_api.h, forwarded to the library that
 * RECORD_LIBRARY names (libibverbs.so.1), and what goes by them written to the file RECORD_FILE.PID
 * (accel-verbs-record.PID), a line each, numbers in hexadecimal but counts:
 *
 *     reg DEVICE LKEY RKEY ADDR BYTES ACCESS             ibv_reg_mr, ibv_reg_dmabuf_mr: ADDR is its iova
 *     dereg DEVICE LKEY
 *     modify QP 2 MTU DEST LID SL GLOBAL GID CLASS HOPS  ibv_modify_qp to RTR: MTU an enum ibv_mtu, GID the
 *                                                        index of its own; without GLOBAL the last three are 0
 *     modify QP 3 TIMEOUT RETRIES RNR_RETRIES            to RTS
 *     modify QP STATE                                    to any other state
 *     post QP COUNT                                      an ibv_post_send, of so many requests:
 *     wr QP OPCODE FLAGS IMM REMOTE RKEY BYTES ENTRIES ADDR:BYTES:LKEY ...
 *     wc QP STATUS OPCODE BYTES IMM                      a completion that was polled
 *
 * Requests and states are written before they are handed on: what is without effect is followed by
 * "refused ERRNO".
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#undef ibv_get_device_list
#undef ibv_query_port
#undef ibv_reg_mr

#define EXPORT __attribute__((visibility("default")))

enum { CONTEXTS_MAX = 64 };

/* The fast path of each open device, as its own library has it; context is written last. */
static struct {
	struct ibv_context *_Atomic context;
	struct ibv_context_ops ops;
} opened[CONTEXTS_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the file, and who is opened */
static void *library;
static FILE *file;

__attribute__((constructor)) static void begin(void)
{
	const char *name = getenv("RECORD_LIBRARY"), *base = getenv("RECORD_FILE");
	char path[4096];

	library = dlopen(name ? name : "libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		fprintf(stderr, "record: %s\n", dlerror());
		exit(1);
	}
	snprintf(path, sizeof(path), "%s.%d", base ? base : "accel-verbs-record", (int)getpid());
	file = fopen(path, "we");
	if (!file) {
		perror(path);
		exit(1);
	}
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(file, fmt, args);
	va_end(args);
}

static const struct ibv_context_ops *ops_of(const struct ibv_context *context)
{
	int i = 0;

	while (opened[i].context != context)
		i++;
	return &opened[i].ops;
}

static void wr_say(const struct ibv_qp *qp, const struct ibv_send_wr *wr)
{
	uint64_t bytes = 0;

	for (int i = 0; i < wr->num_sge; i++)
		bytes += wr->sg_list[i].length;
	say("wr %x %x %x %x %" PRIx64 " %x %" PRIx64 " %d", qp->qp_num, wr->opcode, wr->send_flags,
	    ntohl(wr->imm_data), wr->wr.rdma.remote_addr, wr->wr.rdma.rkey, bytes, wr->num_sge);
	for (int i = 0; i < wr->num_sge; i++)
		say(" %" PRIx64 ":%x:%x", wr->sg_list[i].addr, wr->sg_list[i].length,
		    wr->sg_list[i].lkey);
	say("\n");
}

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	int count = 0, rc;

	pthread_mutex_lock(&lock);
	for (const struct ibv_send_wr *w = wr; w; w = w->next)
		count++;
	say("post %x %d\n", qp->qp_num, count);
	for (const struct ibv_send_wr *w = wr; w; w = w->next)
		wr_say(qp, w);
	fflush(file); /* a process that is killed has told all that it posted */
	rc = ops_of(qp->context)->post_send(qp, wr, bad);
	if (rc)
		say("refused %d\n", rc);
	pthread_mutex_unlock(&lock);
	return rc;
}

static int poll_cq(struct ibv_cq *cq, int entries, struct ibv_wc *wc)
{
	const int got = ops_of(cq->context)->poll_cq(cq, entries, wc);

	if (got <= 0)
		return got;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < got; i++)
		say("wc %x %x %x %x %x\n", wc[i].qp_num, wc[i].status, wc[i].opcode, wc[i].byte_len,
		    wc[i].wc_flags & IBV_WC_WITH_IMM ? ntohl(wc[i].imm_data) : 0);
	pthread_mutex_unlock(&lock);
	return got;
}

/* ---- Forwarding ------------------------------------------------------------------------------ */

/* The library's own; an old one may lack it. */
#define REAL(call)                                                                                 \
	({                                                                                         \
		static void *_Atomic cached;                                                       \
		if (!cached)                                                                       \
			cached = dlsym(library, #call);                                            \
		(__typeof__(&(call)))(void *)cached;                                               \
	})

#define FORWARD(type, call, parameters, arguments)                                                 \
	EXPORT type call parameters                                                                \
	{                                                                                          \
		return REAL(call) arguments;                                                       \
	}

FORWARD(struct ibv_device **, ibv_get_device_list, (int *count), (count))
FORWARD(void, ibv_free_device_list, (struct ibv_device * *list), (list))
FORWARD(const char *, ibv_get_device_name, (struct ibv_device * device), (device))
FORWARD(int, ibv_query_device, (struct ibv_context * context, struct ibv_device_attr *attr),
	(context, attr))
FORWARD(int, ibv_query_port,
	(struct ibv_context * context, uint8_t port, struct _compat_ibv_port_attr *attr),
	(context, port, attr))
FORWARD(int, ibv_query_gid,
	(struct ibv_context * context, uint8_t port, int index, union ibv_gid *gid),
	(context, port, index, gid))
FORWARD(struct ibv_pd *, ibv_alloc_pd, (struct ibv_context * context), (context))
FORWARD(int, ibv_dealloc_pd, (struct ibv_pd * pd), (pd))
FORWARD(struct ibv_comp_channel *, ibv_create_comp_channel, (struct ibv_context * context),
	(context))
FORWARD(int, ibv_destroy_comp_channel, (struct ibv_comp_channel * channel), (channel))
FORWARD(struct ibv_cq *, ibv_create_cq,
	(struct ibv_context * context, int entries, void *arg, struct ibv_comp_channel *channel,
	 int vector),
	(context, entries, arg, channel, vector))
FORWARD(int, ibv_destroy_cq, (struct ibv_cq * cq), (cq))
FORWARD(int, ibv_get_cq_event, (struct ibv_comp_channel * channel, struct ibv_cq **cq, void **arg),
	(channel, cq, arg))
FORWARD(void, ibv_ack_cq_events, (struct ibv_cq * cq, unsigned count), (cq, count))
FORWARD(struct ibv_qp *, ibv_create_qp, (struct ibv_pd * pd, struct ibv_qp_init_attr *init),
	(pd, init))
FORWARD(int, ibv_query_qp,
	(struct ibv_qp * qp, struct ibv_qp_attr *attr, int mask, struct ibv_qp_init_attr *init),
	(qp, attr, mask, init))
FORWARD(int, ibv_destroy_qp, (struct ibv_qp * qp), (qp))
FORWARD(int, ibv_get_async_event, (struct ibv_context * context, struct ibv_async_event *event),
	(context, event))
FORWARD(void, ibv_ack_async_event, (struct ibv_async_event * event), (event))
FORWARD(const char *, ibv_wc_status_str, (enum ibv_wc_status status), (status))
FORWARD(const char *, ibv_event_type_str, (enum ibv_event_type event), (event))
FORWARD(const char *, ibv_port_state_str, (enum ibv_port_state state), (state))

EXPORT int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index,
			     struct ibv_gid_entry *entry, uint32_t flags, size_t entry_bytes)
{
	if (!REAL(_ibv_query_gid_ex))
		return EOPNOTSUPP;
	return REAL(_ibv_query_gid_ex)(context, port, index, entry, flags, entry_bytes);
}

/* ---- What is written ------------------------------------------------------------------------- */

EXPORT struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	struct ibv_context *context = REAL(ibv_open_device)(device);
	int i = 0;

	if (!context)
		return NULL;
	pthread_mutex_lock(&lock);
	while (i < CONTEXTS_MAX && opened[i].context)
		i++;
	if (i < CONTEXTS_MAX) {
		opened[i].ops = context->ops;
		opened[i].context = context;
		context->ops.post_send = post_send;
		context->ops.poll_cq = poll_cq;
	}
	pthread_mutex_unlock(&lock);
	if (i == CONTEXTS_MAX) {
		REAL(ibv_close_device)(context);
		errno = ENOMEM;
		return NULL;
	}
	return context;
}

EXPORT int ibv_close_device(struct ibv_context *context)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < CONTEXTS_MAX; i++)
		if (opened[i].context == context)
			opened[i].context = NULL;
	fflush(file);
	pthread_mutex_unlock(&lock);
	return REAL(ibv_close_device)(context);
}

static struct ibv_mr *mr_say(struct ibv_mr *mr, uint64_t addr, int access)
{
	if (!mr)
		return NULL;
	pthread_mutex_lock(&lock);
	say("reg %s %x %x %" PRIx64 " %zx %x\n", mr->context->device->name, mr->lkey, mr->rkey,
	    addr, mr->length, (unsigned)access);
	pthread_mutex_unlock(&lock);
	return mr;
}

EXPORT struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t bytes, int access)
{
	return mr_say(REAL(ibv_reg_mr)(pd, addr, bytes, access), (uintptr_t)addr, access);
}

EXPORT struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t bytes,
					uint64_t iova, int fd, int access)
{
	if (!REAL(ibv_reg_dmabuf_mr)) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	return mr_say(REAL(ibv_reg_dmabuf_mr)(pd, offset, bytes, iova, fd, access), iova, access);
}

EXPORT int ibv_dereg_mr(struct ibv_mr *mr)
{
	pthread_mutex_lock(&lock);
	say("dereg %s %x\n", mr->context->device->name, mr->lkey);
	pthread_mutex_unlock(&lock);
	return REAL(ibv_dereg_mr)(mr);
}

static void state_say(const struct ibv_qp *qp, const struct ibv_qp_attr *attr)
{
	const struct ibv_ah_attr *ah = &attr->ah_attr;
	const struct ibv_global_route none = {0}, *grh = ah->is_global ? &ah->grh : &none;

	say("modify %x %x", qp->qp_num, attr->qp_state);
	if (attr->qp_state == IBV_QPS_RTR)
		say(" %x %x %x %x %x %x %x %x", attr->path_mtu, attr->dest_qp_num, ah->dlid, ah->sl,
		    ah->is_global, grh->sgid_index, grh->traffic_class, grh->hop_limit);
	else if (attr->qp_state == IBV_QPS_RTS)
		say(" %x %x %x", attr->timeout, attr->retry_cnt, attr->rnr_retry);
	say("\n");
}

EXPORT int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	int rc;

	pthread_mutex_lock(&lock);
	if (mask & IBV_QP_STATE)
		state_say(qp, attr);
	rc = REAL(ibv_modify_qp)(qp, attr, mask);
	if (rc && mask & IBV_QP_STATE)
		say("refused %d\n", rc);
	pthread_mutex_unlock(&lock);
	return rc;
}
