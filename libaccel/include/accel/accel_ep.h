/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Groups and expert parallelism: dispatch sends each token's row to the ranks that own its experts,
 * combine brings the weighted results back. One wire copy per (token, destination rank), and over
 * shared memory none at all.
 *
 * Each pair of ranks takes its own way: shared memory, or RDMA. Over RDMA the NIC reads x, and y or what
 * combine makes of it, where they lie, and writes into the other rank's context, where rows are read and
 * results summed. One context may have peers of both kinds; the calls, the lists and the bits of the
 * results are the same.
 *
 * An EP context has 1..4 lanes. On one lane a rank's calls go round
 *     dispatch_begin, dispatch_end, [expand], combine_begin, combine_end
 * and anything else is -EBUSY before a side effect. All ranks make the same rounds on a lane, those
 * without tokens too: an idle rank's experts may be needed. Lanes are independent; two threads may
 * drive two lanes, one thread one lane at a time. No thread is started by the library. After fork()
 * the child may only call destroy.
 *
 * Whose memory it is, and when:
 *     ids, weights       copied by dispatch_begin
 *     x (and its scales) the library's from dispatch_begin until combine_end of that round has
 *                        returned >= 0: peers read it there, or this rank's NIC
 *     rows, ids, lists   (struct accel_ep_recv) from dispatch_end, readable until combine_begin of
 *                        that round
 *     y                  from accel_ep_output_get(), or in a buffer: writable between dispatch_end
 *                        and combine_begin, then the library's until the NEXT dispatch_end on that
 *                        lane, or destroy - not only until combine_end: peers, or this rank's NIC,
 *                        may still read it
 *     out                written by combine_end only; overlaps nothing above, and no memory of the
 *                        context, which peers may read and NICs write
 *
 * A wait takes timeout_ns: > 0 for the whole call, 0 try once (-EAGAIN), < 0 the context's default.
 * When it expires the call returns -ETIMEDOUT and the round stays open: call it again, mask the
 * rank that is missing, or abort.
 *
 * A rank that died, left or was masked comes back in a new process, never as it was. Between rounds
 * the others call accel_group_join(), while it makes its group with join set, and then, for each
 * context in turn, accel_ep_join(), while it calls accel_ep_create() with the arguments of the first
 * time. The next round is one with all of them. Its old process, should it wake up, gets -ESTALE.
 *
 * The sum that combine defines, on every transport, with one rounding at each "bf16":
 *     part[d] = bf16(sum over the token's entries at rank d, in order of k, of weight * y)
 *     out     = bf16(sum of part[d], d ascending)
 * in fp32, multiply then add. Same inputs, same bits.
 *
 * Ranks are started by torchrun, mpirun, srun, Kubernetes or anything else that tells a process its
 * rank: see accel_group_create(), and docs/launchers.md in the source.
 */
#ifndef ACCEL_EP_H
#define ACCEL_EP_H

#include <accel/accel.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct accel_group;
struct accel_ep;

/* The limits there are; beyond them -EINVAL with a sentence. */
#define ACCEL_TOPK_MAX 64
#define ACCEL_EXPERTS_MAX 4096
#define ACCEL_TOKENS_MAX (1u << 20) /* a rank and round */
#define ACCEL_HIDDEN_MAX (1u << 16)
#define ACCEL_LANES_MAX 4

/** struct accel_group_opts - how the ranks of a group meet; zero is default */
struct accel_group_opts {
	size_t size;
	const char *master_addr; /* of rank 0's store; NULL: MASTER_ADDR, else 127.0.0.1 */
	/* 0: MASTER_PORT, else 29400; the next three are tried when it is another's */
	uint32_t master_port;
	/* 1: this rank was in the group and comes back in a new process: see accel_group_join() */
	uint32_t join;
	const char *name; /* tells apart groups that meet at one address; NULL: "world" */
	/*
	 * The caller's own allgather instead of the store: all[r * bytes] = rank r's mine. Returns
	 * 0 or -errno.
	 */
	int (*allgather)(void *arg, const void *mine, void *all, size_t bytes);
	void *allgather_arg;
	/* a directory that all ranks of the host see; NULL: abstract sockets alone */
	const char *socket_dir;
	/*
	 * comma-separated; a pair of ranks takes the first that both list and that reaches; NULL:
	 * "shm,verbs"
	 */
	const char *transports;
	int64_t timeout_ns;   /* of every wait that names none; 0: 30 s */
	uint64_t reserved[8]; /* must be 0 */
	/*
	 * this rank's address for peers of other hosts, or the name of the interface that has it: their
	 * control connections; NULL: all addresses of this host are offered
	 */
	const char *address;
	/*
	 * Of the verbs transport; in ACCEL_OPTS "verbs.devices" and so on. docs/rdma.md says how each
	 * is chosen. Comma-separated "mlx5_0:1,mlx5_1:1", port 1 if none is named; NULL: found
	 */
	const char *verbs_devices;
	const char *verbs_gid;	      /* an index, or an address that the GID has; NULL: found */
	const char *verbs_library;    /* NULL: libibverbs.so.1 */
	uint32_t verbs_rails;	      /* ports used at a time when they are found, 1..4; 0: 1 */
	uint32_t verbs_qps;	      /* queue pairs a peer and rail, 1..8; 0: 1 */
	uint32_t verbs_traffic_class; /* of RoCE, 0..255 */
	uint32_t verbs_service_level; /* 0..15 */
	uint32_t verbs_mtu;	      /* bytes, 256, 512, 1024, 2048 or 4096; 0: the port's */
	/* sent within a work request, 1..1024; 0: what the device offers, up to 256 */
	uint32_t verbs_inline_bytes;
	uint32_t verbs_depth;	     /* work requests a queue pair holds, 16..32768; 0: 256 */
	uint32_t verbs_stripe_bytes; /* a message of this size uses all rails; 0: 256 KiB */
	uint32_t verbs_ack_timeout; /* 4.096 us x 2^n before a packet is sent again, 1..31; 0: 14 */
	uint32_t verbs_retries;	    /* before a queue pair fails, 1..7; 0: 7 */
};

/**
 * accel_group_create - meet the other ranks
 * @rank:  0..world-1; negative: RANK from the environment, else PMIx says
 * @world: 1..ACCEL_RANKS_MAX; negative: WORLD_SIZE from the environment, else PMIx says
 * Collective. Several groups, and several ranks of one group, may live in one process.
 *
 * PMIx is asked where RANK or WORLD_SIZE is needed and not set, and PMIX_RANK and PMIX_NAMESPACE
 * are: under mpirun of Open MPI, or srun --mpi=pmix. The ranks are then those of the job, and meet
 * through PMIx too, without an address, unless @opts or ACCEL_OPTS names master_addr, master_port
 * or an allgather. All ranks of the job must make the groups of one name equally often, and leave by
 * exit().
 *
 * Each pair of ranks takes the first transport in the lower rank's list that both list and that
 * reaches: shm where they share a kernel and a Unix socket (one network namespace, or a socket_dir);
 * verbs where both have an RDMA device. Pairs without a common Unix socket keep a TCP connection beside
 * it. A rank that has an RDMA device and lists verbs therefore listens at a port that the kernel
 * picks while ranks meet, and turns away whoever does not know what only the rendezvous tells.
 * Return: 0; -EINVAL; -E2BIG; -ENOMEM; -ETIMEDOUT some rank never came (the error names it);
 * -ECONNRESET a rank that came went away; -EPROTO ranks disagree about the world or two claim one
 * rank, or joins a group that is only being made; -EADDRINUSE no port of the four is free;
 * -EHOSTUNREACH a rank that no transport reaches, or none of whose addresses leads there (the error
 * says of each why, and what helps); -EOPNOTSUPP no transport of the list is in this version, or PMIx
 * is too old; -ENOENT no libpmix.so.2; -ENOTCONN no launcher answers PMIx; what @allgather returned.
 */
int accel_group_create(struct accel_device *dev, int rank, int world,
		       const struct accel_group_opts *opts, struct accel_group **group);

/**
 * accel_group_join - let ranks that were restarted come back into the group
 * @joining:    [ACCEL_RANKS_MAX / 64], bit r: rank r comes back
 * @absent:     the same of ranks that are gone and stay away; NULL: none
 * @timeout_ns: of the whole call; < 0: the group's; 0 is not allowed
 * Collective: made by every rank of the group that goes on, with the same sets, while each rank that
 * comes back makes accel_group_create() with join set to 1 and the arguments of the first time. All
 * meet as they did then, by the store, which the lowest rank that goes on hosts, or by the caller's
 * allgather, whose callback and argument must still be valid, and in which the part of an absent rank
 * is all zero. A rank that comes back learns there who is absent. Where ranks are on several hosts
 * master_addr must lead to that rank's, by a name that can be changed if need be.
 *
 * Whatever this process held of the old process of such a rank, its buffers included, is let go.
 * Contexts that exist know nothing of the new one until accel_ep_join(), and must not begin a round
 * before. After an error nothing has changed, and all ranks may call again; one that dies meanwhile is
 * named by the others' errors.
 * Context: no call on the group's contexts meanwhile.
 * Return: 0; -EINVAL no rank joins, a rank that does not exist, this one, or one in both sets;
 * -ETIMEDOUT a rank did not come (the error names it); -ECONNRESET one came and went away; -EPROTO
 * ranks disagree about who joins or is absent, or two claim one rank; -EADDRINUSE; -EHOSTUNREACH, also
 * when a rank comes back where another transport reaches it than before; -ENOMEM; what @allgather
 * returned.
 */
int accel_group_join(struct accel_group *group, const uint64_t *joining, const uint64_t *absent,
		     int64_t timeout_ns);

/** struct accel_group_info - who and how many */
struct accel_group_info {
	size_t size;
	int32_t rank;
	int32_t world;
	char transport
		[32]; /* to the other ranks: "shm", "verbs" or "shm,verbs"; "self" in a world of one */
	int32_t store_port;    /* where rank 0's store was met; 0: none was needed */
	uint32_t remote_ranks; /* those of them that a NIC reaches */
	char met[16];	       /* by "store", "allgather" or "pmix"; "self" in a world of one */
};

/**
 * accel_group_info_get - who and how many
 * Return: 0; -EINVAL NULL or size 0.
 */
int accel_group_info_get(struct accel_group *group, struct accel_group_info *info);

/** accel_group_destroy - leave the group; NULL is fine; its EP contexts must be gone
 */
void accel_group_destroy(struct accel_group *group);

enum accel_receive {
	ACCEL_RECEIVE_IN_PLACE = 1, /* a list of addresses of the senders' rows; nothing moves */
	ACCEL_RECEIVE_LANDED = 2,   /* rows contiguous per source in the receiver's window */
};

enum accel_combine_input {
	ACCEL_COMBINE_RANK =
		1, /* y: one row a received row, already weighted and summed by the caller */
	ACCEL_COMBINE_EXPERT =
		2, /* y: one row an entry of the expert lists, weighted by the library */
};

/* How rows become FP8 when x is bf16 and dtype is FP8; see uapi/accel_num.h. */
enum accel_quant {
	ACCEL_QUANT_DIV = 1,   /* x / (amax / 448): the model's own act_quant */
	ACCEL_QUANT_MUL = 2,   /* x * (448 / amax) */
	ACCEL_QUANT_UE8M0 = 3, /* power-of-two scales */
};

enum accel_on_timeout {
	ACCEL_ON_TIMEOUT_ERROR = 0, /* -ETIMEDOUT, the round stays open */
	ACCEL_ON_TIMEOUT_MASK = 1,  /* ranks not heard from are masked and the call completes */
};

/** struct accel_ep_opts - options of an EP context; zero is default
 * Those marked = must be equal on all ranks.
 */
struct accel_ep_opts {
	size_t size;
	uint32_t dtype;		/* =  enum accel_dtype of rows as they travel; 0: bf16 */
	uint32_t receive;	/* =  enum accel_receive; 0: in place */
	uint32_t combine_input; /* =  enum accel_combine_input; 0: rank */
	uint32_t quant;		/* =  enum accel_quant; 0: div */
	uint32_t lanes;		/* =  1..ACCEL_LANES_MAX; 0: 2 */
	uint32_t on_timeout;	/* enum accel_on_timeout */
	/* =  [E] owner of each expert; NULL: contiguous, the first E mod R ranks own one more */
	const int32_t *expert_rank;
	/* =  [E] its index at the owner, each 0..count-1 once; NULL: ascending id */
	const int32_t *expert_slot;
	int64_t timeout_ns; /* of waits that name none; <= 0: the group's */
	uint32_t spin_us;   /* a wait spins, or yields a shared core, before it sleeps; 0: 50 */
	uint32_t huge;	    /* enum accel_huge, for the context's own memory */
	/*
	 * rows of the lane's own y; 0: enough for any round without duplicate ids, which in an EXPERT
	 * context is most of the memory. A round with more results needs a buffer of the caller's.
	 */
	uint32_t output_rows;
	/* for accel_ep_size_get() alone: ranks that a NIC reaches; accel_ep_create() sees for itself */
	uint32_t remote_ranks;
	uint64_t reserved[7]; /* must be 0 */
};

/**
 * accel_ep_create - make an EP context and its windows
 * @hidden:     = elements of a row, up to ACCEL_HIDDEN_MAX; a row is a multiple of 16 bytes
 * @topk:       = 1..ACCEL_TOPK_MAX
 * @experts:    = 1..ACCEL_EXPERTS_MAX
 * @tokens_max: = most tokens of any rank in a round, 1..ACCEL_TOKENS_MAX
 * Collective; those marked = must be equal on all ranks. Memory grows with ranks x tokens_max x
 * row, never with experts; see accel_ep_size_get(). In a group that this rank has joined it is also the
 * way into a context that the others have, when they call accel_ep_join(): lanes then begin where the
 * others are, and ranks that are absent are masked.
 * Return: 0; -EINVAL a bad value, or ranks that disagree (the error names rank, field and both
 * values); -E2BIG; -EOVERFLOW; -ENOMEM; -ENOSPC no room for the windows; -ETIMEDOUT; -ECONNRESET a
 * rank has died, or was absent when this rank joined and the context is a new one; -EPROTO, also when
 * some make a new context and others let ranks join one, or two of those are at different rounds.
 */
int accel_ep_create(struct accel_group *group, uint32_t hidden, uint32_t topk, uint32_t experts,
		    uint32_t tokens_max, const struct accel_ep_opts *opts, struct accel_ep **ep);

/** accel_ep_destroy - say goodbye, then free the context; NULL is fine
 * Waits (at most 1 s) until peers have finished reading this rank's last results; one that is slower
 * gets -ESHUTDOWN instead of a torn sum. Peers that wait for this rank read "left at round n". Windows
 * and lists of the context are gone afterwards.
 */
void accel_ep_destroy(struct accel_ep *ep);

/** struct accel_ep_sizes - bytes that accel_ep_create() takes on one rank, all lanes together */
struct accel_ep_sizes {
	size_t size;
	uint64_t recv_bytes;	  /* landed rows, those that NICs bring included */
	uint64_t quantised_bytes; /* this rank's rows as FP8, and rows staged from bare pointers */
	uint64_t output_bytes;	  /* expert results, and what is made of them for NICs to send */
	uint64_t meta_bytes;	  /* ids, weights, lists, signals */
	uint64_t total_bytes;
	uint64_t returned_bytes; /* results that NICs bring, in total_bytes */
};

/**
 * accel_ep_size_get - what a context would take, before it is made
 * @world: ranks; the rest as in accel_ep_create()
 * @rank:  whose; the lists depend on how many experts a rank owns
 * Return: 0; -EINVAL; -E2BIG; -EOVERFLOW.
 */
int accel_ep_size_get(int rank, int world, uint32_t hidden, uint32_t topk, uint32_t experts,
		      uint32_t tokens_max, const struct accel_ep_opts *opts,
		      struct accel_ep_sizes *sizes);

/** struct accel_ep_info - the context as it was made */
struct accel_ep_info {
	size_t size;
	uint32_t hidden, topk, experts, tokens_max, dtype, receive, combine_input, lanes;
	uint32_t experts_local;	    /* this rank's */
	uint32_t row_bytes;	    /* of a row as it travels, scales included */
	uint32_t window_page_bytes; /* of the pages that hold the windows */
	int32_t window_numa_node;   /* -1: unknown */
	uint64_t memory_bytes; /* taken, equal to accel_ep_size_get(); 2 MiB pages round it up */
};

/**
 * accel_ep_info_get - the context as it was made
 * Return: 0; -EINVAL NULL or size 0.
 */
int accel_ep_info_get(struct accel_ep *ep, struct accel_ep_info *info);

/** struct accel_ep_input - one rank's tokens of a round; zero is default
 * Shapes: x [T,H] bf16 or E4M3, scales [T,B] f32, topk_idx [T,K] int32 (-1: none; may repeat),
 * topk_weights [T,K] f32
 */
struct accel_ep_input {
	size_t size;
	uint32_t tokens; /* T: 0..tokens_max */
	/* enum accel_dtype; 0: bf16. FP8 needs a context of dtype FP8 and scales */
	uint32_t x_dtype;
	/* in a buffer: read where it lies; else, and from some bare pointers, staged */
	const void *x;
	uint64_t x_stride_bytes; /* from row to row, a multiple of 16; 0: dense */
	const float *scales;
	uint64_t scales_stride_bytes; /* 0: dense */
	const int32_t *topk_idx;
	const float *topk_weights; /* NULL: all 1 */
	void *stream;		   /* reserved: must be NULL */
	uint64_t reserved[4];	   /* must be 0 */
};

/** struct accel_ep_recv - the rows that a rank received in a round; all pointers belong to the lane
 * N rows, ordered by source rank, then by the source's token; L local experts; M entries, one a
 * (row, k) with a local expert, in expert-major lists: by expert, then row, then k.
 * Shapes: row, scale, src_rank, src_token [N]; topk_idx, topk_weights [N,K]; rank_offset [R+1];
 * expert_offset [L+1]; expert_row, expert_k, expert_weight [M]
 */
struct accel_ep_recv {
	size_t size;
	uint32_t rows;
	uint32_t entries;
	uint32_t experts_local;
	uint32_t dtype; /* enum accel_dtype of the rows */
	/* the address of each row: the sender's memory, or this context's, where it has landed */
	const void *const *row;
	const float *const *scale; /* of each row's scales, FP8 only */
	const int32_t *src_rank;
	const int32_t *src_token;
	const int32_t *topk_idx;     /* local expert, -1: an expert elsewhere or none */
	const float *topk_weights;   /* 0 where topk_idx is -1 */
	const uint32_t *rank_offset; /* rows of source s: rank_offset[s]..rank_offset[s + 1]-1 */
	const uint32_t *expert_offset;
	const uint32_t *expert_row;
	const uint32_t *expert_k;
	const float *expert_weight;
	/*
	 * In a LANDED context, whichever way they came: row j of source s is at
	 * window + (s * tokens_max + j) * row_bytes. NULL in an IN_PLACE one, where only the rows of
	 * peers over RDMA have landed, and row says where.
	 */
	const void *window;
	uint64_t missing[ACCEL_RANKS_MAX /
			 64]; /* bit r: rank r is masked and its rows are not here */
};

/**
 * accel_ep_dispatch_begin - lay out this rank's tokens, quantise if asked, tell the peers
 * Context: does not wait for peers.
 * Return: 0; -EINVAL a bad value (ids and shapes are checked before anything is done); -EBUSY the
 * lane is in another phase; -E2BIG; -ECANCELED; -ETIMEDOUT a peer's control socket stayed full;
 * -ENOSPC more buffers than can be shown to a peer; -ENOMEM, -EOPNOTSUPP or -EIO a NIC could not be
 * given the buffer of x (the error says why).
 */
int accel_ep_dispatch_begin(struct accel_ep *ep, uint32_t lane, const struct accel_ep_input *input);

/**
 * accel_ep_dispatch_end - wait for every peer's rows
 * @recv: written on success; set size first
 * Return: 0; -EINVAL; -EBUSY; -EAGAIN; -ETIMEDOUT; -ECONNRESET a peer died (mask it and call
 * again); -EIO the RDMA path to one is broken (the error says how; the same); -ESHUTDOWN a peer left;
 * -ESTALE this rank was masked; -ECANCELED; -EPROTO; -ENOMEM.
 */
int accel_ep_dispatch_end(struct accel_ep *ep, uint32_t lane, int64_t timeout_ns,
			  struct accel_ep_recv *recv);

/**
 * accel_ep_dispatch - accel_ep_dispatch_begin() and accel_ep_dispatch_end()
 * After -ETIMEDOUT and the like the round is open: go on with accel_ep_dispatch_end().
 * Return: as those two.
 */
int accel_ep_dispatch(struct accel_ep *ep, uint32_t lane, const struct accel_ep_input *input,
		      int64_t timeout_ns, struct accel_ep_recv *recv);

/** struct accel_ep_expanded - where accel_ep_expand() puts dense expert-major rows */
struct accel_ep_expanded {
	size_t size;
	uint32_t alignment; /* each expert's first row is a multiple of it; 0: 1 */
	uint32_t rows_max;  /* room in x (and scales), in rows */
	void *x;	    /* [rows_max,H] of the context's dtype */
	float *scales;	    /* [rows_max,B], FP8 only */
	/* written by the call: */
	uint32_t rows; /* rows in all, padding included; with -ENOSPC the rows needed */
	uint32_t reserved;
	const uint32_t *expert_offset; /* [L+1] first row of each expert, padding included */
	const uint32_t *expert_count;  /* [L] rows of each expert without padding */
};

/**
 * accel_ep_expand - copy the received rows into dense expert-major form with zero padding For
 * callers whose GEMM wants it; the bytes are counted in bytes_staged. Between dispatch_end and
 * combine_begin. In an EXPERT context the y rows of this round are then ordered as the expanded
 * rows are.
 * Return: 0; -EINVAL; -EBUSY; -ENOSPC rows_max is too small (expand->rows says what is needed,
 * nothing was written).
 */
int accel_ep_expand(struct accel_ep *ep, uint32_t lane, struct accel_ep_expanded *expand);

/** struct accel_ep_output - the lane's own memory for expert results */
struct accel_ep_output {
	size_t size;
	void *y; /* [rows_max,H] bf16, dense, reached by peers without a copy */
	/*
	 * the option output_rows; else RANK: R x tokens_max; EXPERT: x min(K, local experts), so that a
	 * round with duplicate ids or padding may need a buffer of the caller's
	 */
	uint64_t rows_max;
};

/**
 * accel_ep_output_get - where to write expert results
 * Return: 0; -EINVAL.
 */
int accel_ep_output_get(struct accel_ep *ep, uint32_t lane, struct accel_ep_output *output);

/** struct accel_ep_result - the expert results handed to combine
 * Shapes: RANK: y [N,H] bf16; EXPERT: y [M,H] bf16 in the order of the expert lists, or of the
 * expanded rows
 */
struct accel_ep_result {
	size_t size;
	/*
	 * NULL: accel_ep_output_get()'s memory. In a buffer: read by peers where it lies; else staged
	 * there. Of these only a buffer holds more rows than accel_ep_output_get() says: -EINVAL.
	 */
	const void *y;
	uint64_t y_stride_bytes; /* from row to row, a multiple of 16; 0: dense */
	void *stream;		 /* reserved: must be NULL */
	uint64_t reserved[4];	 /* must be 0 */
};

/**
 * accel_ep_combine_begin - hand over this rank's expert results
 * @result: NULL: accel_ep_output_get()'s memory, dense
 * Context: does not wait for peers.
 * Return: 0; -EINVAL; -EBUSY; -E2BIG; -ESTALE a peer masked this rank while it worked on its rows;
 * -ESHUTDOWN one left meanwhile; -ECANCELED; -ETIMEDOUT a peer's control socket stayed full; -ENOSPC;
 * -ENOMEM; -EOPNOTSUPP; -EIO.
 */
int accel_ep_combine_begin(struct accel_ep *ep, uint32_t lane,
			   const struct accel_ep_result *result);

/** struct accel_ep_combined - which tokens lack a part because a rank is masked
 * The list belongs to the lane until its next dispatch_begin.
 */
struct accel_ep_combined {
	size_t size;
	uint32_t incomplete; /* tokens */
	uint32_t reserved;
	const uint32_t *incomplete_tokens;	/* [incomplete] ascending */
	uint64_t missing[ACCEL_RANKS_MAX / 64]; /* bit r: rank r is masked */
};

/**
 * accel_ep_combine_end - wait for every peer's results and sum
 * @out:       [T,H] bf16 of this rank's tokens, zeros for one without experts; NULL if T is 0
 * @out_stride_bytes: from row to row; 0: dense
 * @combined:  may be NULL
 * Weights are not renormalised when a part is missing.
 * Return: the number of tokens that lack a part, 0 when all is well; -EINVAL; -EBUSY; -EAGAIN;
 * -ETIMEDOUT; -ECONNRESET; -EIO; -ESHUTDOWN; -ESTALE; -ECANCELED; -EPROTO. With an error @out may be
 * partly written and the round stays open.
 */
int accel_ep_combine_end(struct accel_ep *ep, uint32_t lane, int64_t timeout_ns, void *out,
			 uint64_t out_stride_bytes, struct accel_ep_combined *combined);

/**
 * accel_ep_combine - accel_ep_combine_begin() and accel_ep_combine_end()
 * Return: as those two.
 */
int accel_ep_combine(struct accel_ep *ep, uint32_t lane, const struct accel_ep_result *result,
		     int64_t timeout_ns, void *out, uint64_t out_stride_bytes,
		     struct accel_ep_combined *combined);

/**
 * accel_ep_mask - go on without a rank
 * @rank: not this one
 * It is told, fenced off, and never touched again; rounds that wait for it complete, and combine says
 * which tokens lack a part. The masked rank, should it live, gets -ESTALE naming this rank, on the lanes
 * that wait for it: it should abort the context, so that its other lanes do not wait for a timeout.
 * Masking again is harmless.
 * Context: any thread, also while another waits in a lane of @ep.
 * Return: 0; -EINVAL; -ENOENT no such rank.
 */
int accel_ep_mask(struct accel_ep *ep, int rank);

/**
 * accel_ep_masks_get - which ranks this one has masked
 * @missing: [ACCEL_RANKS_MAX / 64], bit r: rank r is masked
 * Return: the number of masked ranks; -EINVAL.
 */
int accel_ep_masks_get(struct accel_ep *ep, uint64_t *missing);

/**
 * accel_ep_join - let ranks that came back into the group take part again
 * @joining:    [ACCEL_RANKS_MAX / 64], bit r: rank r, which accel_group_join() has let in
 * @timeout_ns: of the whole call; < 0: the context's; 0 is not allowed
 * Collective: made by every rank that has the context and goes on, between the same two rounds of each
 * lane, while the ranks that come back call accel_ep_create(). Where a group has several contexts, all
 * ranks go through them in the same order. A rank of @joining that is not masked here is masked first;
 * one that is masked and not in @joining stays so, and must have been absent in accel_group_join().
 * After success the ranks of @joining are masked nowhere, and the next round is one with them. After
 * an error other than -EINVAL for a bad set and -EBUSY they are masked here, and rounds without them go
 * on. All ranks may then call again, each as often as the others; or, and this is the way when a rank
 * died meanwhile, mask that and begin with accel_group_join().
 * Context: no other call on @ep meanwhile but accel_ep_abort().
 * Return: 0; -EINVAL a bad set or timeout, a rank that has not joined the group since it was last met
 * here, or one that came with other arguments (the error names the field and both values); -EBUSY a
 * lane is in the midst of a round, nothing was done; -ETIMEDOUT; -ECONNRESET; -EPROTO, also when ranks
 * disagree about who joins, or are at different rounds (the error names both); -ENOSPC or -ENOMEM
 * here or at another rank; -ECANCELED.
 */
int accel_ep_join(struct accel_ep *ep, const uint64_t *joining, int64_t timeout_ns);

/**
 * accel_ep_abort - make every wait of the context return -ECANCELED, now and from now on
 * Context: any thread or a signal handler. Within 10 ms.
 * Return: 0; -EINVAL.
 */
int accel_ep_abort(struct accel_ep *ep);

/** struct accel_ep_stats - what moved since the context was made */
struct accel_ep_stats {
	size_t size;
	uint64_t bytes_wire;	  /* rows and results that this rank's NICs sent */
	uint64_t bytes_landed;	  /* rows that this rank copied into its window */
	uint64_t bytes_quantised; /* rows written by the quantiser */
	/* any other payload byte that the CPU moved; 0 on the zero-copy paths */
	uint64_t bytes_staged;
	uint64_t rounds;    /* combines that ended */
	uint64_t rows_sent; /* (token, rank) pairs, own rank included */
	uint64_t rows_received;
	uint64_t maps;		/* peers' regions mapped */
	uint64_t work_requests; /* posted to a NIC */
	uint64_t sleeps;	/* waits that gave up spinning */
	uint64_t wait_ns;	/* spent waiting for peers */
};

/**
 * accel_ep_stats_get - what moved
 * @stats: written; set size first
 * Return: 0; -EINVAL.
 */
int accel_ep_stats_get(struct accel_ep *ep, struct accel_ep_stats *stats);

/**
 * accel_ep_waits_get - how long this rank waited for each peer, to find the slow one
 * @wait_ns: [world]; the time from the moment a wait began until that peer was heard from, summed
 * Return: 0; -EINVAL.
 */
int accel_ep_waits_get(struct accel_ep *ep, uint64_t *wait_ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
