// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * oneDNN 2 as a peer (perf_peer.h), f32 and bf16: for each number of rows its primitives say in which
 * layout they want the weights, which are packed so beforehand; the fastest way to call it is taken.
 * Types come from its header, so without that header at build time there is no such peer.
 */
#include "perf_peer.h"

#include <errno.h>
#include <stdio.h>

#if __has_include(<oneapi/dnnl/dnnl.h>)
#include <oneapi/dnnl/dnnl.h>
#endif

#if defined(DNNL_VERSION_MAJOR) && DNNL_VERSION_MAJOR == 2

#define ACCEL_NUM_FLOAT
#include "perf_machine.h"
#include "uapi/accel_num.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define SYMBOLS(X)                                                                                 \
	X(dnnl_version)                                                                            \
	X(dnnl_engine_create)                                                                      \
	X(dnnl_engine_destroy)                                                                     \
	X(dnnl_stream_create)                                                                      \
	X(dnnl_stream_wait)                                                                        \
	X(dnnl_stream_destroy)                                                                     \
	X(dnnl_memory_desc_init_by_tag)                                                            \
	X(dnnl_memory_desc_equal)                                                                  \
	X(dnnl_memory_desc_get_size)                                                               \
	X(dnnl_memory_create)                                                                      \
	X(dnnl_memory_destroy)                                                                     \
	X(dnnl_inner_product_forward_desc_init)                                                    \
	X(dnnl_matmul_desc_init)                                                                   \
	X(dnnl_primitive_desc_create)                                                              \
	X(dnnl_primitive_desc_query)                                                               \
	X(dnnl_primitive_desc_query_md)                                                            \
	X(dnnl_primitive_desc_destroy)                                                             \
	X(dnnl_reorder_primitive_desc_create)                                                      \
	X(dnnl_primitive_create)                                                                   \
	X(dnnl_primitive_execute)                                                                  \
	X(dnnl_primitive_destroy)

struct symbols {
#define X(name) __typeof__(name) *name;
	SYMBOLS(X)
#undef X
};

/* How it may be called; weights in the layout it asks for, or as the checkpoint has them. */
static const struct way {
	const char *name;
	bool matmul, packed;
} ways[] = {
	{"inner product, packed", false, true},
	{"matmul, packed", true, true},
	{"inner product [out,in]", false, false},
	{"matmul [out,in]", true, false},
};

enum { PRODUCTS = 2 }; /* gate and up together, down */

struct product {
	dnnl_primitive_t primitive;
	dnnl_memory_t src, dst, weights[PERF_PEER_EXPERTS_MAX];
};

struct onednn {
	struct perf_peer peer;
	void *library;
	struct symbols dnnl;
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	dnnl_data_type_t type; /* of weights and rows */
	uint16_t *x_bf16;
	void *middle; /* [m,I] of type */
	float *gate_up;
	struct product product[PRODUCTS];
	void *packed[PRODUCTS][PERF_PEER_EXPERTS_MAX]; /* [packed_bytes], used again for each way */
	size_t packed_bytes;
	const char *implementation; /* of the first product, in the library's words */
};

static size_t element_bytes(const struct onednn *o)
{
	return o->type == dnnl_f32 ? sizeof(float) : sizeof(uint16_t);
}

/* ---- one matrix ---------------------------------------------------------------------------------------------- */

static void product_destroy(struct onednn *o, struct product *p)
{
	for (unsigned e = 0; e < o->peer.shape->experts; e++)
		if (p->weights[e])
			o->dnnl.dnnl_memory_destroy(p->weights[e]);
	if (p->src)
		o->dnnl.dnnl_memory_destroy(p->src);
	if (p->dst)
		o->dnnl.dnnl_memory_destroy(p->dst);
	if (p->primitive)
		o->dnnl.dnnl_primitive_destroy(p->primitive);
	memset(p, 0, sizeof(*p));
}

static bool reorder(struct onednn *o, const dnnl_memory_desc_t *from_md, const void *from,
		    const dnnl_memory_desc_t *to_md, dnnl_memory_t to)
{
	const struct symbols *d = &o->dnnl;
	dnnl_primitive_desc_t desc = NULL;
	dnnl_primitive_t primitive = NULL;
	dnnl_memory_t source = NULL;
	bool done = !d->dnnl_memory_create(&source, from_md, o->engine, (void *)(uintptr_t)from) &&
		    !d->dnnl_reorder_primitive_desc_create(&desc, from_md, o->engine, to_md,
							   o->engine, NULL) &&
		    !d->dnnl_primitive_create(&primitive, desc);
	dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, to}};

	done = done && !d->dnnl_primitive_execute(primitive, o->stream, 2, args) &&
	       !d->dnnl_stream_wait(o->stream);
	if (primitive)
		d->dnnl_primitive_destroy(primitive);
	if (desc)
		d->dnnl_primitive_desc_destroy(desc);
	if (source)
		d->dnnl_memory_destroy(source);
	return done;
}

/* Every expert's matrix, plain + offset floats, in the primitive's layout; as it lies if that is the plain one. */
static bool pack(struct onednn *o, unsigned index, const dnnl_memory_desc_t *plain_md,
		 const dnnl_memory_desc_t *packed_md, size_t offset)
{
	bool as_it_lies = o->dnnl.dnnl_memory_desc_equal(plain_md, packed_md);
	dnnl_memory_t *weights = o->product[index].weights;

	if (o->dnnl.dnnl_memory_desc_get_size(packed_md) > o->packed_bytes)
		return false;
	for (unsigned e = 0; e < o->peer.shape->experts; e++) {
		const float *plain = o->peer.shape->plain[e] + offset;

		if (o->dnnl.dnnl_memory_create(&weights[e], packed_md, o->engine,
					       as_it_lies ? (void *)(uintptr_t)plain
							  : o->packed[index][e]))
			return false;
		if (!as_it_lies && !reorder(o, plain_md, plain, packed_md, weights[e]))
			return false;
	}
	return true;
}

/* A primitive for y [m,out] f32 = x [m,in] . w [out,in], which a matmul calls [in,out] transposed. */
static dnnl_primitive_desc_t describe(struct onednn *o, const struct way *way,
				      const dnnl_memory_desc_t *x, const dnnl_memory_desc_t *w,
				      const dnnl_memory_desc_t *y)
{
	dnnl_primitive_desc_t desc = NULL;
	dnnl_inner_product_desc_t inner_product;
	dnnl_matmul_desc_t matmul;

	if (way->matmul ? o->dnnl.dnnl_matmul_desc_init(&matmul, x, w, NULL, y)
			: o->dnnl.dnnl_inner_product_forward_desc_init(
				  &inner_product, dnnl_forward_inference, x, w, NULL, y))
		return NULL;
	if (o->dnnl.dnnl_primitive_desc_create(&desc,
					       way->matmul ? (const void *)&matmul : &inner_product,
					       NULL, o->engine, NULL))
		return NULL;
	return desc;
}

static bool product_create(struct onednn *o, unsigned index, const struct way *way, int64_t in,
			   int64_t out, size_t offset, const void *x, void *y)
{
	const struct symbols *d = &o->dnnl;
	struct product *p = &o->product[index];
	const dnnl_dims_t x_dims = {o->peer.m, in}, y_dims = {o->peer.m, out},
			  w_dims = {way->matmul ? in : out, way->matmul ? out : in};
	const dnnl_format_tag_t tag = way->matmul ? dnnl_ba : dnnl_ab;
	dnnl_memory_desc_t x_md, y_md, w_md, plain_md;
	dnnl_primitive_desc_t desc;
	bool done;

	if (d->dnnl_memory_desc_init_by_tag(&x_md, 2, x_dims, o->type, dnnl_ab) ||
	    d->dnnl_memory_desc_init_by_tag(&y_md, 2, y_dims, dnnl_f32, dnnl_ab) ||
	    d->dnnl_memory_desc_init_by_tag(&w_md, 2, w_dims, o->type,
					    way->packed ? dnnl_format_tag_any : tag) ||
	    d->dnnl_memory_desc_init_by_tag(&plain_md, 2, w_dims, dnnl_f32, tag))
		return false;
	desc = describe(o, way, &x_md, &w_md, &y_md);
	if (!desc)
		return false;
	d->dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &o->implementation);
	done = !d->dnnl_primitive_create(&p->primitive, desc) &&
	       !d->dnnl_memory_create(&p->src, &x_md, o->engine, (void *)(uintptr_t)x) &&
	       !d->dnnl_memory_create(&p->dst, &y_md, o->engine, y) &&
	       pack(o, index, &plain_md,
		    d->dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0), offset);
	d->dnnl_primitive_desc_destroy(desc);
	return done;
}

/* ---- the FFN ------------------------------------------------------------------------------------------------- */

static void products_destroy(struct onednn *o)
{
	for (unsigned i = 0; i < PRODUCTS; i++)
		product_destroy(o, &o->product[i]);
}

static bool products_create(struct onednn *o, const struct way *way)
{
	const struct perf_peer_shape *s = o->peer.shape;
	const void *x = o->type == dnnl_f32 ? (const void *)s->x : o->x_bf16;
	size_t h = s->hidden, i = s->intermediate;

	products_destroy(o);
	return product_create(o, 1, way, (int64_t)i, (int64_t)h, 2 * i * h, o->middle, o->peer.y) &&
	       product_create(o, 0, way, (int64_t)h, 2 * (int64_t)i, 0, x, o->gate_up);
}

static void multiply(struct onednn *o, const struct product *p, unsigned expert)
{
	const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->src},
					{DNNL_ARG_WEIGHTS, p->weights[expert]},
					{DNNL_ARG_DST, p->dst}};

	o->dnnl.dnnl_primitive_execute(p->primitive, o->stream, 3, args);
	o->dnnl.dnnl_stream_wait(o->stream);
}

static int64_t run(struct perf_peer *peer, unsigned expert)
{
	struct onednn *o = (struct onednn *)peer;
	int64_t start = perf_now_ns();

	multiply(o, &o->product[0], expert);
	perf_peer_swiglu(peer->shape, peer->m, o->gate_up,
			 o->type == dnnl_f32 ? K_DTYPE_F32 : K_DTYPE_BF16, o->middle);
	multiply(o, &o->product[1], expert);
	return perf_now_ns() - start;
}

static bool prepare(struct perf_peer *peer, uint32_t m)
{
	struct onednn *o = (struct onednn *)peer;
	const struct way *fastest = NULL;
	int64_t best = INT64_MAX;

	peer->m = m;
	for (unsigned i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		bool can = products_create(o, &ways[i]);

		for (unsigned t = 0; can && t < PERF_PEER_TRIES; t++) {
			int64_t ns = run(peer, t % peer->shape->experts);

			if (ns < best) {
				best = ns;
				fastest = &ways[i];
			}
		}
	}
	if (!fastest || !products_create(o, fastest))
		return false;
	snprintf(peer->settings, sizeof(peer->settings), "oneDNN %s, %s, %s", peer->software,
		 o->implementation, fastest->name);
	return true;
}

/* ---- set-up -------------------------------------------------------------------------------------------------- */

static size_t expert_bytes_f32(const struct perf_peer_shape *shape)
{
	return PRODUCTS * 2 * (size_t)shape->hidden * shape->intermediate * sizeof(float) / 8 * 9;
}

static size_t expert_bytes_bf16(const struct perf_peer_shape *shape)
{
	return expert_bytes_f32(shape) / 2;
}

static void close_onednn(struct perf_peer *peer)
{
	struct onednn *o = (struct onednn *)peer;
	const struct perf_peer_shape *s = peer->shape;
	size_t m = s->rows_max;

	if (o->engine)
		products_destroy(o);
	if (o->stream)
		o->dnnl.dnnl_stream_destroy(o->stream);
	if (o->engine)
		o->dnnl.dnnl_engine_destroy(o->engine);
	for (unsigned e = 0; e < s->experts; e++)
		for (unsigned i = 0; i < PRODUCTS; i++)
			perf_unmap(o->packed[i][e], o->packed_bytes);
	perf_unmap(o->x_bf16, m * s->hidden * sizeof(uint16_t));
	perf_unmap(o->middle, m * s->intermediate * element_bytes(o));
	perf_unmap(o->gate_up, 2 * m * s->intermediate * sizeof(float));
	perf_unmap(o->peer.y, m * s->hidden * sizeof(float));
	/* The library stays loaded: its threads, which are OpenMP's, do not end. */
	free(o);
}

static int load(struct onednn *o, char *why, unsigned why_bytes)
{
	static const char *const names[] = {
#define X(name) #name,
		SYMBOLS(X)
#undef X
	};
	void *symbol[sizeof(names) / sizeof(*names)];
	void (*set_num_threads)(int);
	const dnnl_version_t *version;

	_Static_assert(sizeof(symbol) == sizeof(o->dnnl), "one pointer a symbol");
	o->library = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!o->library) {
		snprintf(why, why_bytes, "%s (Debian: libdnnl2)", dlerror());
		return -ENOENT;
	}
	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!(symbol[i] = dlsym(o->library, names[i]))) {
			snprintf(why, why_bytes, "libdnnl.so.2 has no %s", names[i]);
			return -ENOENT;
		}
	memcpy(&o->dnnl, symbol, sizeof(symbol));
	symbol[0] = dlsym(o->library, "omp_set_num_threads");
	if (!symbol[0]) {
		snprintf(why, why_bytes,
			 "its threads are not OpenMP's, so their number is not ours to set");
		return -ENOTSUP;
	}
	memcpy(&set_num_threads, &symbol[0], sizeof(symbol[0]));
	set_num_threads((int)perf_team_threads(o->peer.shape->team));
	version = o->dnnl.dnnl_version();
	snprintf(o->peer.software, sizeof(o->peer.software), "%d.%d.%d", version->major,
		 version->minor, version->patch);
	return 0;
}

static int make_room(struct onednn *o)
{
	const struct perf_peer_shape *s = o->peer.shape;
	size_t m = s->rows_max, h = s->hidden, i = s->intermediate;

	o->middle = perf_map(m * i * element_bytes(o));
	o->gate_up = perf_map(2 * m * i * sizeof(float));
	o->peer.y = perf_map(m * h * sizeof(float));
	o->x_bf16 = perf_map(m * h * sizeof(*o->x_bf16));
	if (!o->middle || !o->gate_up || !o->peer.y || !o->x_bf16)
		return -ENOMEM;
	/* That of gate and up, the larger; the library may round sizes up to its blocks. */
	o->packed_bytes = o->peer.ops->expert_bytes(s) / PRODUCTS;
	for (unsigned e = 0; e < s->experts; e++)
		for (unsigned p = 0; p < PRODUCTS; p++)
			if (!(o->packed[p][e] = perf_map(o->packed_bytes)))
				return -ENOMEM;
	for (size_t n = 0; n < m * h; n++)
		o->x_bf16[n] = accel_num_f32_to_bf16(accel_num_bits(s->x[n]));
	return 0;
}

static int open_onednn(const struct perf_peer_shape *shape, const struct perf_peer_ops *ops,
		       dnnl_data_type_t type, struct perf_peer **peer, char *why,
		       unsigned why_bytes)
{
	struct onednn *o = calloc(1, sizeof(*o));
	struct perf_threads before;
	int rc;

	if (!o)
		return -ENOMEM;
	o->peer = (struct perf_peer){.ops = ops, .shape = shape, .m = 1};
	o->type = type;
	o->peer.payload_bytes = 3 * (size_t)shape->hidden * shape->intermediate * element_bytes(o);
	perf_threads_take(&before);
	rc = load(o, why, why_bytes);
	if (!rc && (rc = make_room(o)))
		snprintf(why, why_bytes, "no memory for its rows");
	if (!rc && (o->dnnl.dnnl_engine_create(&o->engine, dnnl_cpu, 0) ||
		    o->dnnl.dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags) ||
		    !products_create(o, &ways[0]))) {
		snprintf(why, why_bytes, "oneDNN %s cannot do this on this CPU, or lacks memory",
			 o->peer.software);
		rc = -ENOTSUP;
	}
	if (!rc)
		run(&o->peer, 0); /* starts its threads */
	perf_threads_pin_new(&before);
	if (rc) {
		close_onednn(&o->peer);
		return rc;
	}
	*peer = &o->peer;
	return 0;
}

static int open_f32(const struct perf_peer_shape *shape, struct perf_peer **peer, char *why,
		    unsigned why_bytes)
{
	return open_onednn(shape, &perf_peer_onednn_f32, dnnl_f32, peer, why, why_bytes);
}

static int open_bf16(const struct perf_peer_shape *shape, struct perf_peer **peer, char *why,
		     unsigned why_bytes)
{
	bool has = false;

#ifdef __x86_64__
	has = __builtin_cpu_supports("avx512bf16"); /* so has every CPU with AMX */
#endif
	if (!has) {
		snprintf(why, why_bytes,
			 "this CPU has neither AVX-512 BF16 nor AMX: bf16 would be emulated");
		return -ENOTSUP;
	}
	return open_onednn(shape, &perf_peer_onednn_bf16, dnnl_bf16, peer, why, why_bytes);
}

#define CALLS .prepare = prepare, .run = run, .close = close_onednn

#else

static size_t expert_bytes_f32(const struct perf_peer_shape *shape)
{
	(void)shape;
	return 0;
}

static int open_f32(const struct perf_peer_shape *shape, struct perf_peer **peer, char *why,
		    unsigned why_bytes)
{
	(void)shape, (void)peer;
	snprintf(
		why, why_bytes,
		"built without the header of oneDNN 2: install it (Debian: libdnnl-dev) and build again");
	return -ENOTSUP;
}

#define expert_bytes_bf16 expert_bytes_f32
#define open_bf16 open_f32
#define CALLS .prepare = NULL /* open fails */

#endif

const struct perf_peer_ops perf_peer_onednn_f32 = {
	.method = "onednn-f32",
	.library = "onednn",
	.dtype = "f32",
	.error_max = 5e-3, /* our row between SwiGLU and down is rounded to bf16, this one is not */
	.expert_bytes = expert_bytes_f32,
	.open = open_f32,
	CALLS,
};

const struct perf_peer_ops perf_peer_onednn_bf16 = {
	.method = "onednn-bf16",
	.library = "onednn",
	.dtype = "bf16",
	.error_max = 5e-3,
	.expert_bytes = expert_bytes_bf16,
	.open = open_bf16,
	CALLS,
};
