/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* A world of one with a small context and its tokens: what tests of single calls start from. */
#ifndef ACCEL_TESTS_EP_SOLO_H
#define ACCEL_TESTS_EP_SOLO_H

#include "tap.h"

#include <accel/accel_ep.h>
#include <string.h>

enum { HIDDEN = 64, TOPK = 2, EXPERTS = 4, TOKENS = 8 };

struct solo {
	struct accel_device *dev;
	struct accel_group *group;
	struct accel_ep *ep;
	struct accel_buffer *buf;
	uint16_t *x; /* [TOKENS,HIDDEN] bf16, in buf */
	int32_t ids[TOKENS * TOPK];
	float weights[TOKENS * TOPK];
	uint16_t out[TOKENS * HIDDEN] __attribute__((aligned(64)));
	struct accel_ep_input input;
};

static inline bool group_open(struct solo *s)
{
	memset(s, 0, sizeof(*s));
	return CHECK_EQ(accel_device_open("host", &s->dev), 0) &&
	       CHECK_EQ(accel_group_create(s->dev, 0, 1, NULL, &s->group), 0);
}

static inline bool solo_open(struct solo *s, const struct accel_ep_opts *opts)
{
	if (!group_open(s) ||
	    !CHECK_EQ(accel_ep_create(s->group, HIDDEN, TOPK, EXPERTS, TOKENS, opts, &s->ep), 0) ||
	    !CHECK_EQ(accel_buffer_create(s->dev, sizeof(s->out), NULL, &s->buf), 0))
		return false;
	s->x = accel_buffer_addr(s->buf);
	for (int i = 0; i < TOKENS * HIDDEN; i++)
		s->x[i] = (uint16_t)(0x3f80 + i % 64);
	for (int i = 0; i < TOKENS * TOPK; i++) {
		s->ids[i] = i % EXPERTS;
		s->weights[i] = 0.5f;
	}
	s->input = (struct accel_ep_input){.size = sizeof(s->input),
					   .tokens = TOKENS,
					   .x = s->x,
					   .topk_idx = s->ids,
					   .topk_weights = s->weights};
	return true;
}

static inline void solo_close(struct solo *s)
{
	accel_ep_destroy(s->ep);
	accel_buffer_destroy(s->buf);
	accel_group_destroy(s->group);
	accel_device_close(s->dev);
}

static inline bool error_says(const void *obj, int code, const char *word)
{
	struct accel_error error = {.size = sizeof(error)};

	if (!CHECK_EQ(accel_error_get(obj, &error), 0))
		return false;
	return CHECK_EQ(error.code, code) &&
	       tap_check(strstr(error.text, word) != NULL, __FILE__, __LINE__,
			 "the error does not name '%s': %s", word, error.text);
}

/* Received rows weighted and summed as RANK wants them would all be the row itself: 0.5 + 0.5. */
static inline bool round_trip(struct solo *s)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_output output = {.size = sizeof(output)};

	if (!CHECK_EQ(accel_ep_dispatch(s->ep, 0, &s->input, -1, &recv), 0) ||
	    !CHECK_EQ(recv.rows, s->input.tokens) ||
	    !CHECK_EQ(accel_ep_output_get(s->ep, 0, &output), 0))
		return false;
	for (uint32_t i = 0; i < recv.rows; i++)
		memcpy((uint8_t *)output.y + i * HIDDEN * 2, recv.row[i], HIDDEN * 2);
	memset(s->out, 0xff, sizeof(s->out));
	return CHECK_EQ(accel_ep_combine(s->ep, 0, NULL, -1, s->out, 0, NULL), 0) &&
	       CHECK(!memcmp(s->out, s->x, s->input.tokens * HIDDEN * 2));
}

#endif
