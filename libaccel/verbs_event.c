// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What devices say of themselves, out of turn: asynchronous events. A device is open once for all
 * contexts of a group, so whoever reads an event notes it where the context that it is about looks:
 * at the queue pair, the completion queue or the port.
 *
 * A port that is down is no failure yet: queue pairs outlast a short while of that. It becomes one
 * after the time in which a queue pair that has something to send would have given up, since one that
 * only receives would never notice.
 */
#include "verbs.h"

#include "order.h"

#include <stdatomic.h>

#define EVENTS_MAX 256 /* read at a time */

static void note_port(struct accel_verbs_rail *rail, const struct ibv_async_event *event)
{
	bool down = event->event_type == IBV_EVENT_PORT_ERR;

	if (event->element.port_num == rail->port.port)
		atomic_store(&rail->down_ns, down ? accel_now_ns() : 0);
}

static void note(struct accel_verbs_rail *rail, const struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR: {
		struct accel_verbs_qp *qp = event->element.qp->qp_context;

		atomic_store(&qp->event, (uint32_t)event->event_type + 1);
		break;
	}
	case IBV_EVENT_CQ_ERR:
		atomic_store((_Atomic bool *)event->element.cq->cq_context, true);
		break;
	case IBV_EVENT_DEVICE_FATAL:
		atomic_store(&rail->fatal, true);
		break;
	case IBV_EVENT_PORT_ERR:
	case IBV_EVENT_PORT_ACTIVE:
		note_port(rail, event);
		break;
	default:
		break;
	}
}

void accel_verbs_events(struct accel_verbs *verbs)
{
	for (int r = 0; r < verbs->rail_count; r++) {
		struct accel_verbs_rail *rail = &verbs->rail[r];
		struct ibv_async_event event;

		for (int i = 0; i < EVENTS_MAX; i++) {
			if (verbs->api->get_async_event(rail->context, &event))
				break;
			note(rail, &event);
			verbs->api->ack_async_event(&event);
		}
	}
}

/* How long a queue pair goes on trying, InfiniBand architecture vol. 1, "Local Ack Timeout". */
static int64_t retries_ns(const struct accel_verbs_opts *opts)
{
	return (INT64_C(4096) << opts->ack_timeout) * (opts->retries + 1);
}

/* What is to be said of the queue pair, or NULL. */
static const char *verdict(const struct accel_verbs_transport *t, const struct accel_verbs_qp *qp)
{
	const struct accel_verbs_rail *rail = accel_verbs_rail(t, qp);
	int64_t down_ns = atomic_load(&rail->down_ns);
	uint32_t event = atomic_load(&qp->event);

	if (event)
		return t->verbs->api->event_type_str((enum ibv_event_type)(event - 1));
	if (atomic_load(&t->queue[qp->rail].overrun))
		return "its completion queue has failed";
	if (atomic_load(&rail->fatal))
		return "the device has failed or was removed";
	if (down_ns && accel_now_ns() - down_ns >= retries_ns(&t->verbs->opts))
		return "the port is down";
	return NULL;
}

void accel_verbs_events_judge(struct accel_verbs_transport *t)
{
	for (uint32_t i = 0; i < t->remotes; i++) {
		struct accel_verbs_peer *p = &t->peer[i];

		for (uint8_t k = 0; k < p->qp_count && !p->error; k++) {
			const char *what = p->qp[k].qp ? verdict(t, &p->qp[k]) : NULL;

			if (what)
				accel_verbs_qp_fail(t, &p->qp[k], "%s", what);
		}
	}
}
