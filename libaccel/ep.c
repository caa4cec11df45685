// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Making, asking about and ending an EP context. Create is what each rank decides alone, then the
 * steps of ep_meet.c that all make together, with its memory taken in between.
 */
#include "ep.h"
#include "ep_meet.h"
#include "order.h"

#include <errno.h>
#include <kernels.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CACHE_KIB_DEFAULT 32768

#define FAIL(code, ...) accel_fail(NULL, code, ACCEL_AT_CREATE, __VA_ARGS__)

/*
 * Half of the last-level cache, since the rows' source takes as much as their copy. Not from
 * sysconf(), which in a virtual machine tells of all the host's.
 */
static uint64_t cached_bytes(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "re");
	unsigned long kib = CACHE_KIB_DEFAULT;

	if (file && fscanf(file, "%luK", &kib) != 1)
		kib = CACHE_KIB_DEFAULT;
	if (file)
		fclose(file);
	return (uint64_t)kib * 1024 / 2;
}

/* Signals and lists in the machine's own memory, rows in that of the group's device. */
static int take_regions(struct accel_ep *ep)
{
	struct accel_region_opts opts = {.huge = ep->local.huge, .numa_node = -1};
	const struct accel_ep_layout *l = &ep->layout;
	struct accel_device *dev = ep->group->dev;
	int rc;

	opts.what = "ep window";
	rc = accel_region_create(NULL, accel_device_region_id(dev), l->window_bytes, &opts,
				 &ep->window);
	opts.what = "ep payload";
	if (!rc)
		rc = accel_device_region_create(dev, l->payload_bytes, &opts, &ep->payload);
	/* What no NIC writes needs no descriptor, by which its pages could be registered. */
	opts.private_memory = !l->remotes;
	opts.what = "ep landed rows";
	if (!rc && l->landed_bytes)
		rc = accel_device_region_create(dev, l->landed_bytes, &opts, &ep->landed);
	opts.private_memory = true;
	opts.what = "ep lists";
	if (!rc)
		rc = accel_region_create(NULL, 0, l->private_bytes, &opts, &ep->private_memory);
	return rc;
}

static const struct accel_transport_ops *const links[ACCEL_LINKS] = {
	[ACCEL_LINK_SHM] = &accel_shm_ops,
	[ACCEL_LINK_VERBS] = &accel_verbs_ops,
};

static bool is_remote(const struct accel_group *group, int rank)
{
	return group->link[rank] != ACCEL_LINK_SELF && links[group->link[rank]]->lands;
}

static uint32_t count_remotes(const struct accel_group *group)
{
	uint32_t remotes = 0;

	for (int p = 0; p < group->world; p++)
		remotes += is_remote(group, p);
	return remotes;
}

static void number_remotes(struct accel_ep *ep)
{
	int32_t remotes = 0;

	for (int p = 0; p < ep->group->world; p++)
		ep->peers[p].remote = is_remote(ep->group, p) ? remotes++ : -1;
}

/* The transport, if a pair of this rank's uses it. */
static int open_link(struct accel_ep *ep, int link)
{
	struct accel_group *group = ep->group;
	int rc = 0;

	for (int p = 0; p < group->world && !rc; p++) {
		if (group->link[p] != link)
			continue;
		if (!ep->transport[link])
			rc = links[link]->open(ep, &ep->transport[link]);
		ep->peers[p].transport = ep->transport[link];
	}
	return rc;
}

static int take_memory(struct accel_ep *ep, const int32_t *tables)
{
	uint8_t *base;
	int rc = take_regions(ep);

	if (rc)
		return rc;
	base = ep->private_memory->addr;
	ep->expert_rank = (int32_t *)(base + ep->layout.tables_placement);
	ep->expert_slot = ep->expert_rank + ep->shape.experts;
	memcpy(ep->expert_rank, tables, 2 * ep->shape.experts * sizeof(*tables));
	ep->masked = (void *)(base + ep->layout.tables_masked);
	ep->joins = (void *)(base + ep->layout.tables_joins);
	memcpy(ep->joins, ep->group->joins, (size_t)ep->group->world * sizeof(*ep->joins));
	ep->peer_wait_ns = (void *)(base + ep->layout.tables_wait);
	ep->peer_window = (void *)(base + ep->layout.tables_window);
	ep->peers = (void *)(base + ep->layout.tables_peers);
	number_remotes(ep);
	ep->arrivals = (void *)(base + ep->layout.tables_arrival);
	for (uint32_t i = 0; i < ep->shape.lanes; i++)
		accel_ep_lane_init(ep, i);
	for (int link = 0; link < ACCEL_LINKS && !rc; link++)
		rc = open_link(ep, link);
	return rc;
}

/*
 * Into a context that goes on: at its rounds, of which this rank has none left to read, and without
 * the ranks that are absent.
 */
static void come_back(struct accel_ep *ep, const struct accel_ep_meeting *m)
{
	for (uint32_t l = 0; l < ep->shape.lanes; l++) {
		ep->lane[l].round = m->round[l];
		accel_ep_done(ep, l);
	}
	for (int p = 0; p < ep->group->world; p++)
		if (p != ep->group->rank && !accel_ranks_has(m->with, p))
			accel_ep_mask(ep, p);
}

/*
 * Everything that create took, in reverse; what was lent last, since until its goodbye is said a NIC may
 * read it.
 */
static void ep_free(struct accel_ep *ep)
{
	int world = ep->group->world;

	for (int link = 0; link < ACCEL_LINKS; link++)
		if (ep->transport[link])
			ep->transport[link]->ops->close(ep->transport[link], -1);
	for (uint32_t i = 0; i < ep->shape.lanes && ep->private_memory; i++) {
		if (!ep->lane[i].peer)
			continue;
		accel_ep_release(&ep->lane[i], world);
		for (int what = 0; what < ACCEL_LENT_COUNT; what++)
			accel_ep_lend(&ep->lane[i], what, NULL);
	}
	for (int p = 0; p < world && ep->peer_window; p++)
		accel_region_put(ep->peer_window[p]);
	accel_region_put(ep->private_memory);
	accel_region_put(ep->landed);
	accel_region_put(ep->payload);
	accel_region_put(ep->window);
	accel_object_fini(&ep->obj);
	free(ep);
}

/* What each rank decides alone, before it has told anybody anything. */
static int prepare(struct accel_ep *ep, uint32_t hidden, uint32_t topk, uint32_t experts,
		   uint32_t tokens_max, const struct accel_ep_opts *opts, int32_t *tables)
{
	int rc;

	if (experts > ACCEL_EXPERTS_MAX)
		return FAIL(-EINVAL, "experts is %u, not within 1..%u", experts, ACCEL_EXPERTS_MAX);
	rc = accel_ep_params(ep->group->world, hidden, topk, experts, tokens_max, opts, &ep->shape,
			     &ep->local, tables, tables + experts);
	if (rc)
		return rc;
	if (ep->local.timeout_ns <= 0)
		ep->local.timeout_ns = ep->group->timeout_ns;
	ep->local.remotes = count_remotes(ep->group);
	do
		if (getrandom(&ep->incarnation, sizeof(ep->incarnation), 0) !=
		    sizeof(ep->incarnation))
			return FAIL(-EIO, "no random number for the incarnation");
	while (ep->incarnation < ACCEL_INCARNATION_MIN);
	ep->incarnation &= ~(uint64_t)ACCEL_ADMITS_LEFT;
	return accel_ep_layout_init(&ep->layout, ep->group->rank, ep->group->world, &ep->shape,
				    &ep->local, tables);
}

int accel_ep_create(struct accel_group *group, uint32_t hidden, uint32_t topk, uint32_t experts,
		    uint32_t tokens_max, const struct accel_ep_opts *opts, struct accel_ep **out)
{
	int32_t tables[2 * ACCEL_EXPERTS_MAX];
	struct accel_ep_meeting m;
	struct accel_ep *ep;
	int rc, status;

	if (!group)
		return FAIL(-EINVAL, "accel_ep_create: group is NULL");
	accel_ep_meeting_init(&m, group);
	ep = calloc(1, sizeof(*ep));
	if (!out || !ep) {
		accel_ep_decline(&m);
		free(ep);
		return out ? FAIL(-ENOMEM, "no memory for a context")
			   : FAIL(-EINVAL, "accel_ep_create: ep is NULL");
	}
	accel_object_init(&ep->obj, ACCEL_OBJECT_EP);
	ep->group = group;
	ep->cached_bytes = cached_bytes();
	rc = prepare(ep, hidden, topk, experts, tokens_max, opts, tables);
	if (rc)
		accel_ep_decline(&m);
	else
		rc = accel_ep_agree(&m, ep, tables);
	if (!rc) {
		status = take_memory(ep, tables);
		if (!status && m.goes_on)
			come_back(ep, &m);
		rc = accel_ep_meet(&m, status);
	}
	accel_ep_meeting_fini(&m);
	if (rc) {
		ep_free(ep);
		return rc;
	}
	*out = ep;
	return 0;
}

void accel_ep_destroy(struct accel_ep *ep)
{
	if (ep)
		ep_free(ep);
}

static void sizes_from_layout(const struct accel_ep_layout *l, struct accel_ep_sizes *sizes)
{
	sizes->recv_bytes = l->recv_bytes;
	sizes->quantised_bytes = l->rows_bytes;
	sizes->output_bytes = l->output_bytes;
	sizes->returned_bytes = l->returned_bytes;
	sizes->total_bytes = accel_page_round_up(l->window_bytes) +
			     accel_page_round_up(l->payload_bytes) +
			     accel_page_round_up(l->landed_bytes) +
			     accel_page_round_up(l->private_bytes);
	sizes->meta_bytes = sizes->total_bytes - l->recv_bytes - l->rows_bytes - l->output_bytes -
			    l->returned_bytes;
}

int accel_ep_size_get(int rank, int world, uint32_t hidden, uint32_t topk, uint32_t experts,
		      uint32_t tokens_max, const struct accel_ep_opts *opts,
		      struct accel_ep_sizes *user)
{
	int32_t tables[2 * ACCEL_EXPERTS_MAX];
	struct accel_ep_layout layout;
	struct accel_ep_sizes sizes = {0};
	struct accel_ep_shape shape;
	struct accel_ep_local local;
	int rc;

	if (experts > ACCEL_EXPERTS_MAX)
		return FAIL(-EINVAL, "experts is %u, not within 1..%u", experts, ACCEL_EXPERTS_MAX);
	rc = accel_ep_params(world, hidden, topk, experts, tokens_max, opts, &shape, &local, tables,
			     tables + experts);
	if (rc)
		return rc;
	if (rank < 0 || rank >= world)
		return FAIL(-EINVAL, "rank is %d, not within 0..%d", rank, world - 1);
	rc = accel_ep_layout_init(&layout, rank, world, &shape, &local, tables);
	if (rc)
		return rc;
	sizes_from_layout(&layout, &sizes);
	return accel_struct_copy_out(NULL, "struct accel_ep_sizes", &sizes, sizeof(sizes), user);
}

int accel_ep_info_get(struct accel_ep *ep, struct accel_ep_info *user)
{
	struct accel_ep_sizes sizes;
	struct accel_ep_info info;

	if (!ep)
		return -EINVAL;
	sizes_from_layout(&ep->layout, &sizes);
	info = (struct accel_ep_info){
		.hidden = ep->shape.hidden,
		.topk = ep->shape.topk,
		.experts = ep->shape.experts,
		.tokens_max = ep->shape.tokens_max,
		.dtype = ep->shape.dtype,
		.receive = ep->shape.receive,
		.combine_input = ep->shape.combine_input,
		.lanes = ep->shape.lanes,
		.experts_local = ep->layout.experts_local,
		.row_bytes = ep->layout.row_bytes,
		.window_page_bytes = ep->payload->page_bytes,
		.window_numa_node = ep->payload->numa_node,
		.memory_bytes = sizes.total_bytes,
	};
	return accel_struct_copy_out(&ep->obj, "struct accel_ep_info", &info, sizeof(info), user);
}

int accel_ep_output_get(struct accel_ep *ep, uint32_t lane, struct accel_ep_output *user)
{
	struct accel_ep_output output;

	if (!ep)
		return -EINVAL;
	if (lane >= ep->shape.lanes)
		return accel_fail(&ep->obj, -EINVAL, NULL, "accel_ep_output_get: lane %u of %u",
				  lane, ep->shape.lanes);
	output = (struct accel_ep_output){.y = ep->lane[lane].output,
					  .rows_max = ep->layout.output_rows};
	return accel_struct_copy_out(&ep->obj, "struct accel_ep_output", &output, sizeof(output),
				     user);
}

int accel_ep_mask(struct accel_ep *ep, int rank)
{
	if (!ep)
		return -EINVAL;
	if (rank < 0 || rank >= ep->group->world)
		return accel_fail(&ep->obj, -ENOENT, NULL,
				  "accel_ep_mask: there is no rank %d in a world of %d", rank,
				  ep->group->world);
	if (rank == ep->group->rank)
		return accel_fail(&ep->obj, -EINVAL, NULL, "accel_ep_mask: rank %d is this one",
				  rank);
	/* Fenced before a lane sees that, since the lane may then reuse what the rank was reading. */
	atomic_fetch_or(&ep->masked[rank], ACCEL_MASK_BEGUN);
	accel_ep_close(ep, rank);
	atomic_fetch_or(&ep->masked[rank], ACCEL_MASK_FENCED);
	return 0;
}

int accel_ep_masks_get(struct accel_ep *ep, uint64_t *missing)
{
	int count = 0;

	if (!ep)
		return -EINVAL;
	if (!missing)
		return accel_fail(&ep->obj, -EINVAL, NULL, "accel_ep_masks_get: missing is NULL");
	memset(missing, 0, ACCEL_RANKS_MAX / 8);
	for (int p = 0; p < ep->group->world; p++) {
		if (!accel_ep_mask_begun(ep, p))
			continue;
		missing[p / 64] |= UINT64_C(1) << p % 64;
		count++;
	}
	return count;
}

int accel_ep_abort(struct accel_ep *ep)
{
	if (!ep)
		return -EINVAL;
	atomic_store_explicit(&ep->aborted, 1, memory_order_release);
	return 0;
}

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

int accel_ep_stats_get(struct accel_ep *ep, struct accel_ep_stats *user)
{
	struct accel_ep_stats stats = {0};

	if (!ep)
		return -EINVAL;
	stats.bytes_wire = load(&ep->counters.bytes_wire);
	stats.bytes_landed = load(&ep->counters.bytes_landed);
	stats.bytes_quantised = load(&ep->counters.bytes_quantised);
	stats.bytes_staged = load(&ep->counters.bytes_staged);
	stats.rounds = load(&ep->counters.rounds);
	stats.rows_sent = load(&ep->counters.rows_sent);
	stats.rows_received = load(&ep->counters.rows_received);
	stats.work_requests = load(&ep->counters.work_requests);
	stats.sleeps = load(&ep->counters.sleeps);
	stats.wait_ns = load(&ep->counters.wait_ns);
	stats.maps = ep->group->maps;
	for (int p = 0; p < ep->group->world; p++)
		if (ep->group->channel[p])
			stats.maps += accel_channel_maps(ep->group->channel[p]);
	return accel_struct_copy_out(&ep->obj, "struct accel_ep_stats", &stats, sizeof(stats),
				     user);
}

int accel_ep_waits_get(struct accel_ep *ep, uint64_t *wait_ns)
{
	if (!ep)
		return -EINVAL;
	if (!wait_ns)
		return accel_fail(&ep->obj, -EINVAL, NULL, "accel_ep_waits_get: wait_ns is NULL");
	for (int p = 0; p < ep->group->world; p++)
		wait_ns[p] = load(&ep->peer_wait_ns[p]);
	return 0;
}
