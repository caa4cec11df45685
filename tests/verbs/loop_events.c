// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Completion queues, their channels, and events of devices. A channel's and a context's descriptor
 * is an eventfd that counts the events: readable as long as one waits, and a reader takes one.
 */
#include "loop_inside.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By bare system calls: a read of a descriptor is an ordering to ThreadSanitizer, which this is not. */
static void fd_add(int fd)
{
	const uint64_t one = 1;

	syscall(SYS_write, fd, &one, sizeof(one));
}

static bool fd_take(int fd)
{
	uint64_t one;

	return syscall(SYS_read, fd, &one, sizeof(one)) == sizeof(one);
}

/* An event that is known to be there, unless a reader has just taken it. */
static void fd_drop(int fd)
{
	struct pollfd there = {.fd = fd, .events = POLLIN};

	if (syscall(SYS_poll, &there, 1, 0) == 1)
		fd_take(fd);
}

/* The lock is held, and let go while it waits. Verbs wait for ever: here the test ends. */
static void await_acknowledged(const unsigned *reported, const uint32_t *done, const char *what)
{
	int64_t since_ns = 0;

	while (*reported != *(const volatile uint32_t *)done)
		if (!loop_await(&since_ns)) {
			fprintf(stderr,
				"loop: a %s is destroyed, %u of its events were not acknowledged\n",
				what, *reported - *done);
			abort();
		}
}

/* ---- Events of a device ---------------------------------------------------------------------- */

static bool is_of_qp(enum ibv_event_type type)
{
	return type == IBV_EVENT_QP_FATAL || type == IBV_EVENT_QP_REQ_ERR ||
	       type == IBV_EVENT_QP_ACCESS_ERR || type == IBV_EVENT_COMM_EST;
}

void loop_async(struct ibv_context *context, enum ibv_event_type type, void *object, int port)
{
	struct loop_context *c = loop_context(context);
	struct ibv_async_event *event;

	if (c->event_count == LOOP_ASYNC_MAX) {
		fprintf(stderr, "loop: %d events of %s were never read\n", LOOP_ASYNC_MAX,
			context->device->name);
		return;
	}
	event = &c->event[(c->event_first + c->event_count++) % LOOP_ASYNC_MAX];
	event->event_type = type;
	if (is_of_qp(type))
		event->element.qp = object;
	else if (type == IBV_EVENT_CQ_ERR)
		event->element.cq = object;
	else
		event->element.port_num = port;
	fd_add(context->async_fd);
}

void loop_async_forget(struct ibv_context *context, void *object, unsigned *reported,
		       uint32_t *done)
{
	struct loop_context *c = loop_context(context);
	unsigned kept = 0;

	for (unsigned i = 0; i < c->event_count; i++) {
		struct ibv_async_event e = c->event[(c->event_first + i) % LOOP_ASYNC_MAX];

		if ((is_of_qp(e.event_type) && e.element.qp == object) ||
		    (e.event_type == IBV_EVENT_CQ_ERR && e.element.cq == object))
			fd_drop(context->async_fd);
		else
			c->event[(c->event_first + kept++) % LOOP_ASYNC_MAX] = e;
	}
	c->event_count = kept;
	await_acknowledged(reported, done, "queue");
}

LOOP_EXPORT int ibv_get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
	struct loop_context *c = loop_context(context);
	int rc = -1;

	if (!fd_take(context->async_fd))
		return -1;
	loop_enter();
	if (c->event_count) {
		*event = c->event[c->event_first];
		c->event_first = (c->event_first + 1) % LOOP_ASYNC_MAX;
		c->event_count--;
		if (is_of_qp(event->event_type))
			((struct loop_qp *)event->element.qp)->async_reported++;
		else if (event->event_type == IBV_EVENT_CQ_ERR)
			((struct loop_cq *)event->element.cq)->async_reported++;
		rc = 0;
	}
	loop_leave();
	if (rc)
		errno = EAGAIN;
	return rc;
}

LOOP_EXPORT void ibv_ack_async_event(struct ibv_async_event *event)
{
	loop_enter();
	if (is_of_qp(event->event_type))
		event->element.qp->events_completed++;
	else if (event->event_type == IBV_EVENT_CQ_ERR)
		event->element.cq->async_events_completed++;
	loop_changed();
	loop_leave();
}

void loop_context_die(struct loop_context *c)
{
	if (atomic_exchange(&c->dead, true))
		return;
	loop_async(&c->ibv, IBV_EVENT_DEVICE_FATAL, NULL, 0);
	loop_changed();
}

/* ---- Channels -------------------------------------------------------------------------------- */

LOOP_EXPORT struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context)
{
	struct loop_channel *channel = NULL;
	int rc;

	loop_enter();
	rc = loop_check(context, "ibv_create_comp_channel");
	if (!rc && !(channel = calloc(1, sizeof(*channel))))
		rc = ENOMEM;
	if (!rc) {
		channel->ibv.context = context;
		channel->ibv.fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
		rc = channel->ibv.fd < 0 ? errno : 0;
	}
	if (rc) {
		free(channel);
		channel = NULL;
	}
	if (!rc) {
		channel->next = loop_context(context)->channels;
		loop_context(context)->channels = channel;
		loop.live.channels++;
	}
	loop_leave();
	errno = rc;
	return channel ? &channel->ibv : NULL;
}

static void channel_remove(struct loop_channel *channel)
{
	struct loop_channel **at = &loop_context(channel->ibv.context)->channels;

	while (*at != channel)
		at = &(*at)->next;
	*at = channel->next;
	close(channel->ibv.fd);
	loop.live.channels--;
	free(channel);
}

LOOP_EXPORT int ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	bool keep;
	int rc;

	loop_enter();
	rc = loop_check_last(channel->context, "ibv_destroy_comp_channel", &keep);
	if (!keep && channel->refcnt)
		rc = EBUSY;
	else if (!keep)
		channel_remove((void *)channel);
	loop_leave();
	return rc;
}

LOOP_EXPORT int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **found,
				 void **arg)
{
	struct loop_cq *cq;

	if (!fd_take(channel->fd))
		return -1;
	loop_enter();
	for (cq = loop.cqs; cq && (cq->ibv.channel != channel || !cq->events); cq = cq->next)
		;
	if (cq) {
		cq->events--;
		cq->reported++;
		*found = &cq->ibv;
		*arg = cq->ibv.cq_context;
	}
	loop_leave();
	if (!cq)
		errno = EAGAIN;
	return cq ? 0 : -1;
}

LOOP_EXPORT void ibv_ack_cq_events(struct ibv_cq *cq, unsigned count)
{
	loop_enter();
	cq->comp_events_completed += count;
	loop_changed();
	loop_leave();
}

/* ---- Completion queues ----------------------------------------------------------------------- */

LOOP_EXPORT struct ibv_cq *ibv_create_cq(struct ibv_context *context, int entries, void *arg,
					 struct ibv_comp_channel *channel, int vector)
{
	struct loop_cq *cq = NULL;
	int rc;

	loop_enter();
	rc = loop_check(context, "ibv_create_cq");
	if (!rc && (entries < 1 || (uint32_t)entries > loop.config.max_cqe || vector < 0 ||
		    vector >= context->num_comp_vectors))
		rc = EINVAL;
	if (!rc && (!(cq = calloc(1, sizeof(*cq))) ||
		    !(cq->ring = calloc((size_t)entries, sizeof(*cq->ring))))) {
		free(cq);
		cq = NULL;
		rc = ENOMEM;
	}
	if (!rc) {
		cq->ibv.context = context;
		cq->ibv.channel = channel;
		cq->ibv.cq_context = arg;
		cq->ibv.cqe = entries;
		if (channel)
			channel->refcnt++;
		cq->next = loop.cqs;
		loop.cqs = cq;
		loop.live.cqs++;
	}
	loop_leave();
	errno = rc;
	return cq ? &cq->ibv : NULL;
}

static void cq_remove(struct loop_cq *cq)
{
	struct loop_cq **at = &loop.cqs;

	while (*at != cq)
		at = &(*at)->next;
	*at = cq->next;
	if (cq->ibv.channel)
		cq->ibv.channel->refcnt--;
	loop.live.cqs--;
	free(cq->ring);
	free(cq);
}

LOOP_EXPORT int ibv_destroy_cq(struct ibv_cq *ibv)
{
	struct loop_cq *cq = (void *)ibv;
	bool keep;
	int rc;

	loop_enter();
	rc = loop_check_last(ibv->context, "ibv_destroy_cq", &keep);
	if (!keep && cq->users) {
		rc = EBUSY;
	} else if (!keep) {
		for (; cq->events; cq->events--)
			fd_drop(ibv->channel->fd);
		await_acknowledged(&cq->reported, &ibv->comp_events_completed, "completion queue");
		loop_async_forget(ibv->context, cq, &cq->async_reported,
				  &ibv->async_events_completed);
		cq_remove(cq);
	}
	loop_leave();
	return rc;
}

void loop_events_clear(struct loop_context *c)
{
	struct loop_cq *next;

	for (struct loop_cq *cq = loop.cqs; cq; cq = next) {
		next = cq->next;
		if (cq->ibv.context == &c->ibv)
			cq_remove(cq);
	}
	while (c->channels)
		channel_remove(c->channels);
}

void loop_complete(struct loop_qp *qp, bool send, uint64_t index, const struct ibv_wc *wc,
		   bool solicited, void *fiber)
{
	struct loop_cq *cq = (void *)(send ? qp->ibv.send_cq : qp->ibv.recv_cq);
	struct loop_cqe *cqe;

	if (cq->count == (unsigned)cq->ibv.cqe) {
		fprintf(stderr, "loop: a completion queue of %d entries overran\n", cq->ibv.cqe);
		loop.stats.overruns++;
		loop_async(cq->ibv.context, IBV_EVENT_CQ_ERR, cq, 0);
		loop_context_die(loop_context(cq->ibv.context));
		return;
	}
	cqe = &cq->ring[(cq->first + cq->count) % (unsigned)cq->ibv.cqe];
	*cqe = (struct loop_cqe){.wc = *wc, .qp = qp, .index = index, .send = send};
	cqe->wc.qp_num = qp->ibv.qp_num;
	loop_release(fiber, cqe);
	cq->count++;
	if (cq->armed == 1 || (cq->armed == 2 && (solicited || wc->status))) {
		cq->armed = 0;
		cq->events++;
		fd_add(cq->ibv.channel->fd);
	}
}

void loop_cq_forget(struct loop_cq *cq, struct loop_qp *qp)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < cq->count; i++) {
		const struct loop_cqe cqe = cq->ring[(cq->first + i) % (unsigned)cq->ibv.cqe];

		if (cqe.qp != qp)
			cq->ring[(cq->first + kept++) % (unsigned)cq->ibv.cqe] = cqe;
	}
	cq->count = kept;
}

int loop_poll_cq(struct ibv_cq *ibv, int entries, struct ibv_wc *wc)
{
	struct loop_cq *cq = (void *)ibv;
	int got = 0, error;

	/* So that who polls in a loop leaves the engine its lock. */
	if (!atomic_load_explicit(&cq->count, memory_order_relaxed) &&
	    !atomic_load_explicit(&loop_armed, memory_order_relaxed))
		return 0;
	loop_enter();
	if (loop_fails("ibv_poll_cq", &error))
		got = -1;
	while (got >= 0 && got < entries && cq->count && !loop_context(ibv->context)->dead) {
		struct loop_cqe *cqe = &cq->ring[cq->first];

		loop_acquire(NULL, cqe);
		wc[got++] = cqe->wc;
		if (cqe->send)
			cqe->qp->freed = cqe->index + 1;
		else
			cqe->qp->receives_freed = cqe->index + 1;
		cq->first = (cq->first + 1) % (unsigned)ibv->cqe;
		cq->count--;
	}
	loop_leave();
	return got;
}

int loop_req_notify_cq(struct ibv_cq *ibv, int solicited_only)
{
	struct loop_cq *cq = (void *)ibv;
	int rc;

	loop_enter();
	rc = loop_check(ibv->context, "ibv_req_notify_cq");
	if (!rc && !ibv->channel)
		rc = EINVAL;
	if (!rc && cq->armed != 1)
		cq->armed = solicited_only ? 2 : 1;
	loop_leave();
	return rc;
}
