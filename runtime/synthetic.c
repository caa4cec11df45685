// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Seeded weights as synthetic.h specifies them, and the bounded cache of experts made from them. */
#define _GNU_SOURCE 1 /* MADV_HUGEPAGE */
#include "synthetic.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/kernels.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)
#define MULTIPLIER UINT64_C(0xd6e8feb86659fd93)
#define CODE_MASK UINT64_C(0xbfbfbfbfbfbfbfbf)
#define CODE_FIRST UINT64_C(0x3f3f3f3f3f3f3f3f)
#define CODE_MEAN_SQUARE 19866.363525390625

enum { SLOT_ALIGN_BYTES = 64 }; /* of each tensor within a slot */

static uint64_t splitmix(uint64_t z)
{
	z += GOLDEN;
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 32)) * MULTIPLIER;
	return z ^ (z >> 32);
}

/* Eight codes a word, stored lowest byte first whatever the machine's byte order. */
static void fill_codes(uint64_t z, uint8_t *dst, uint64_t count)
{
	uint64_t i, w;

	for (i = 0; i + 8 <= count; i += 8, z += GOLDEN) {
		w = htole64((mix(z) & CODE_MASK) + CODE_FIRST);
		memcpy(dst + i, &w, 8);
	}
	w = htole64((mix(z) & CODE_MASK) + CODE_FIRST);
	memcpy(dst + i, &w, count - i);
}

/* 0 <= u < 1 in steps of 2^-23, exact. */
static float unit(uint64_t z)
{
	return (float)(mix(z) >> 41) * 0x1p-23f;
}

static void fill_scales(uint64_t z, uint32_t in, uint8_t *dst, uint64_t count)
{
	const float base = (float)(1.0 / sqrt(CODE_MEAN_SQUARE * in));

	for (uint64_t i = 0; i < count; i++, z += GOLDEN) {
		float scale = base * (unit(z) + 0.5f);

		memcpy(dst + 4 * i, &scale, 4);
	}
}

static void fill_bias(uint64_t z, uint8_t *dst, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++, z += GOLDEN) {
		float bias = (unit(z) - 0.5f) * 0.125f;

		memcpy(dst + 4 * i, &bias, 4);
	}
}

static void fill_bf16(uint64_t z, uint16_t mask, uint16_t first, uint8_t *dst, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint16_t bits = (uint16_t)(((mix(z + i / 4 * GOLDEN) >> 16 * (i % 4)) & mask) +
					   first);

		memcpy(dst + 2 * i, &bits, 2);
	}
}

/* The exponent field below which the four exponents of a gate weight begin. */
static uint16_t gate_first(uint32_t hidden)
{
	unsigned n = 0;

	while (UINT64_C(1) << 2 * n < UINT64_C(49) * hidden)
		n++;
	return (uint16_t)((127 - n) << 7);
}

void moe_synthetic_fill(const struct moe_config *config, uint64_t seed, uint32_t layer,
			uint32_t expert, enum moe_tensor_id tensor, uint64_t first, uint64_t count,
			void *dst)
{
	uint32_t width = expert == MOE_EXPERT_SHARED ? moe_config_shared_width(config)
						     : config->intermediate;
	uint64_t key = splitmix(splitmix(splitmix(splitmix(seed) ^ layer) ^ expert) ^ tensor);

	switch (tensor) {
	case MOE_TENSOR_GATE_PROJ:
	case MOE_TENSOR_UP_PROJ:
	case MOE_TENSOR_DOWN_PROJ:
		fill_codes(key + first / 8 * GOLDEN, dst, count);
		break;
	case MOE_TENSOR_GATE_PROJ_SCALE:
	case MOE_TENSOR_UP_PROJ_SCALE:
		fill_scales(key + first * GOLDEN, config->hidden, dst, count);
		break;
	case MOE_TENSOR_DOWN_PROJ_SCALE:
		fill_scales(key + first * GOLDEN, width, dst, count);
		break;
	case MOE_TENSOR_GATE:
		fill_bf16(key + first / 4 * GOLDEN, 0x81ff, gate_first(config->hidden), dst, count);
		break;
	case MOE_TENSOR_BIAS:
		fill_bias(key + first * GOLDEN, dst, count);
		break;
	case MOE_TENSOR_NORM:
		fill_bf16(key + first / 4 * GOLDEN, 0x7f, 0x3f40, dst, count);
		break;
	}
}

/* ---- what memory there is ---- */

static uint64_t mem_available_bytes(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t kib, bytes = UINT64_MAX;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
			bytes = kib << 10;
	if (file)
		fclose(file);
	if (bytes == UINT64_MAX)
		bytes = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	return bytes;
}

static bool read_number(const char *path, uint64_t *value)
{
	FILE *file = fopen(path, "re");
	bool ok;

	if (!file)
		return false;
	ok = fscanf(file, "%" SCNu64, value) == 1; /* "max" is no number: no limit */
	fclose(file);
	return ok;
}

uint64_t moe_synthetic_cache_bytes(unsigned sharers)
{
	uint64_t bytes = mem_available_bytes(), limit, used;

	if (read_number("/sys/fs/cgroup/memory.max", &limit) &&
	    read_number("/sys/fs/cgroup/memory.current", &used)) {
		uint64_t left = limit > used ? limit - used : 0;

		if (left < bytes)
			bytes = left;
	}
	return bytes / 2 / (sharers ? sharers : 1);
}

/* ---- the cache ---- */

struct slot {
	uint8_t *map;
	uint32_t layer, expert;
	uint32_t holders;
	uint64_t used; /* clock of the last get */
};

struct moe_synthetic {
	struct moe_config config;
	uint64_t seed, clock;
	struct moe_team *team;
	size_t tensor_offset[6], tensor_bytes[6], slot_bytes; /* by moe_tensor_id */
	struct moe_synthetic_stats stats;
	struct slot *slot; /* [stats.slots_max], stats.slots of them mapped */
	uint32_t *where;   /* [MOE_LAYERS_MAX, experts] number of the slot + 1, or 0 */
};

struct make {
	const struct moe_synthetic *cache;
	const struct slot *slot;
};

/* One part of an expert: its share of each weight's words, and whole scale tensors in turn. */
static void make_part(void *arg, unsigned part, unsigned parts)
{
	const struct make *make = arg;
	const struct moe_synthetic *c = make->cache;
	const struct slot *slot = make->slot;

	for (enum moe_tensor_id t = MOE_TENSOR_GATE_PROJ; t <= MOE_TENSOR_DOWN_PROJ_SCALE; t++) {
		uint8_t *dst = slot->map + c->tensor_offset[t];

		if (t <= MOE_TENSOR_DOWN_PROJ) {
			uint64_t bytes = c->tensor_bytes[t], words = (bytes + 7) / 8;
			uint64_t first = words * part / parts * 8,
				 end = words * (part + 1) / parts * 8;

			end = end < bytes ? end : bytes;
			if (first < end)
				moe_synthetic_fill(&c->config, c->seed, slot->layer, slot->expert,
						   t, first, end - first, dst + first);
		} else if (t % parts == part) {
			moe_synthetic_fill(&c->config, c->seed, slot->layer, slot->expert, t, 0,
					   c->tensor_bytes[t] / 4, dst);
		}
	}
}

int moe_synthetic_create(const struct moe_config *config, uint64_t seed, uint64_t bytes,
			 struct moe_team *team, struct moe_synthetic **cache, struct moe_error *err)
{
	struct moe_synthetic *c;
	uint64_t slots;
	int rc;

	rc = moe_config_check(config, err);
	if (rc)
		return rc;
	c = calloc(1, sizeof(*c));
	if (!c)
		return moe_error_set(err, -ENOMEM, "no memory for a cache of experts");
	c->config = *config;
	c->seed = seed;
	c->team = team;
	for (unsigned t = 0; t < 6; t++) {
		struct moe_tensor_spec spec;

		moe_tensor_spec(config, 0, 0, (enum moe_tensor_id)t, &spec);
		c->tensor_offset[t] = c->slot_bytes;
		c->tensor_bytes[t] = spec.size_bytes;
		c->slot_bytes += (spec.size_bytes + SLOT_ALIGN_BYTES - 1) / SLOT_ALIGN_BYTES *
				 SLOT_ALIGN_BYTES;
	}
	bytes = bytes ? bytes : moe_synthetic_cache_bytes(1);
	slots = bytes / c->slot_bytes;
	if (slots > (uint64_t)config->experts * MOE_LAYERS_MAX)
		slots = (uint64_t)config->experts * MOE_LAYERS_MAX;
	if (!slots) {
		rc = moe_error_set(err, -ENOMEM,
				   "an expert takes %zu bytes, but only %" PRIu64
				   " are allowed for synthetic "
				   "weights: free memory or take smaller experts",
				   c->slot_bytes, bytes);
		goto err_free;
	}
	c->stats.slots_max = (uint32_t)slots;
	c->slot = calloc(slots, sizeof(*c->slot));
	c->where = calloc((size_t)config->experts * MOE_LAYERS_MAX, sizeof(*c->where));
	if (!c->slot || !c->where) {
		rc = moe_error_set(err, -ENOMEM, "no memory for a cache of %" PRIu64 " experts",
				   slots);
		goto err_free;
	}
	*cache = c;
	return 0;

err_free:
	free(c->where);
	free(c->slot);
	free(c);
	return rc;
}

void moe_synthetic_destroy(struct moe_synthetic *cache)
{
	if (!cache)
		return;
	for (uint32_t i = 0; i < cache->stats.slots; i++)
		munmap(cache->slot[i].map, cache->slot_bytes);
	free(cache->where);
	free(cache->slot);
	free(cache);
}

static uint32_t *where(struct moe_synthetic *c, uint32_t layer, uint32_t expert)
{
	return &c->where[(size_t)layer * c->config.experts + expert];
}

/* A slot nobody holds: a new one while there may be more, else the least recently used. */
static int take_slot(struct moe_synthetic *c, struct slot **slot, struct moe_error *err)
{
	struct slot *oldest = NULL;
	void *map;

	if (c->stats.slots < c->stats.slots_max) {
		map = mmap(NULL, c->slot_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
		if (map == MAP_FAILED)
			return moe_error_set(err, -ENOMEM,
					     "no memory for a synthetic expert of %zu bytes: %s",
					     c->slot_bytes, strerror(errno));
		madvise(map, c->slot_bytes, MADV_HUGEPAGE);
		c->stats.resident_bytes += c->slot_bytes;
		*slot = &c->slot[c->stats.slots++];
		**slot = (struct slot){.map = map};
		return 0;
	}
	for (uint32_t i = 0; i < c->stats.slots; i++) {
		struct slot *s = &c->slot[i];

		if (!s->holders && (!oldest || s->used < oldest->used))
			oldest = s;
	}
	if (!oldest)
		return moe_error_set(err, -EAGAIN,
				     "all %" PRIu32 " slots for synthetic experts are held",
				     c->stats.slots);
	*where(c, oldest->layer, oldest->expert) = 0;
	c->stats.evicted++;
	*slot = oldest;
	return 0;
}

static struct moe_matrix matrix(const struct moe_synthetic *c, const struct slot *s,
				enum moe_tensor_id codes, uint32_t in, uint32_t out)
{
	return (struct moe_matrix){
		.in = in,
		.out = out,
		.codes = s->map + c->tensor_offset[codes],
		.scales = (const float *)(s->map +
					  c->tensor_offset[codes + MOE_TENSOR_GATE_PROJ_SCALE]),
	};
}

int moe_synthetic_get(struct moe_synthetic *cache, uint32_t layer, uint32_t expert,
		      struct moe_expert *out, struct moe_error *err)
{
	const uint32_t hidden = cache->config.hidden, width = cache->config.intermediate;
	struct slot *s = NULL;
	uint32_t *at;
	int rc;

	if (layer >= MOE_LAYERS_MAX || expert >= cache->config.experts)
		return moe_error_set(err, -EINVAL, "no expert %" PRIu32 " of layer %" PRIu32,
				     expert, layer);
	at = where(cache, layer, expert);
	if (!*at) {
		rc = take_slot(cache, &s, err);
		if (rc)
			return rc;
		s->layer = layer;
		s->expert = expert;
		moe_team_run(cache->team, make_part, &(struct make){cache, s});
		cache->stats.made++;
		*at = (uint32_t)(s - cache->slot) + 1;
	}
	s = &cache->slot[*at - 1];
	s->used = ++cache->clock;
	s->holders++;
	out->gate = matrix(cache, s, MOE_TENSOR_GATE_PROJ, hidden, width);
	out->up = matrix(cache, s, MOE_TENSOR_UP_PROJ, hidden, width);
	out->down = matrix(cache, s, MOE_TENSOR_DOWN_PROJ, width, hidden);
	return 0;
}

void moe_synthetic_put(struct moe_synthetic *cache, uint32_t layer, uint32_t expert)
{
	struct slot *s = &cache->slot[*where(cache, layer, expert) - 1];

	assert(s->holders);
	s->holders--;
}

void moe_synthetic_stats(const struct moe_synthetic *cache, struct moe_synthetic_stats *stats)
{
	*stats = cache->stats;
}
