/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * libibverbs, loaded when it is first needed. Only what is no inline function of <infiniband/verbs.h>
 * is in the table: ibv_post_send(), ibv_post_recv(), ibv_poll_cq() and ibv_req_notify_cq() go through
 * the context that the library has made. An option names another library with these symbols: one that
 * records what is posted, or one without a NIC behind it.
 */
#ifndef ACCEL_VERBS_API_H
#define ACCEL_VERBS_API_H

#include <infiniband/verbs.h>

#define ACCEL_VERBS_LIBRARY "libibverbs.so.1"

struct accel_verbs_api {
	struct ibv_device **(*get_device_list)(int *count);
	void (*free_device_list)(struct ibv_device **list);
	const char *(*get_device_name)(struct ibv_device *device);
	struct ibv_context *(*open_device)(struct ibv_device *device);
	int (*close_device)(struct ibv_context *context);
	int (*query_device)(struct ibv_context *context, struct ibv_device_attr *attr);
	/* port_attr is cleared first: an older library writes less of it. */
	int (*query_port)(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr);
	int (*query_gid)(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid);
	/* _ibv_query_gid_ex; NULL in a library that is too old: then sysfs tells a GID's type */
	int (*query_gid_ex)(struct ibv_context *context, uint32_t port, uint32_t index,
			    struct ibv_gid_entry *entry, uint32_t flags, size_t entry_bytes);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *context);
	int (*dealloc_pd)(struct ibv_pd *pd);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *addr, size_t bytes, int access);
	/* NULL in a library that is too old */
	struct ibv_mr *(*reg_dmabuf_mr)(struct ibv_pd *pd, uint64_t offset, size_t bytes,
					uint64_t iova, int fd, int access);
	int (*dereg_mr)(struct ibv_mr *mr);
	struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *context);
	int (*destroy_comp_channel)(struct ibv_comp_channel *channel);
	struct ibv_cq *(*create_cq)(struct ibv_context *context, int entries, void *arg,
				    struct ibv_comp_channel *channel, int vector);
	int (*destroy_cq)(struct ibv_cq *cq);
	int (*get_cq_event)(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **arg);
	void (*ack_cq_events)(struct ibv_cq *cq, unsigned count);
	struct ibv_qp *(*create_qp)(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
	int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
	int (*query_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
			struct ibv_qp_init_attr *init);
	int (*destroy_qp)(struct ibv_qp *qp);
	int (*get_async_event)(struct ibv_context *context, struct ibv_async_event *event);
	void (*ack_async_event)(struct ibv_async_event *event);
	const char *(*wc_status_str)(enum ibv_wc_status status);
	const char *(*event_type_str)(enum ibv_event_type event);
	const char *(*port_state_str)(enum ibv_port_state state);
};

/*
 * The library of that name or path (NULL: ACCEL_VERBS_LIBRARY), loaded once and never unloaded.
 * 0; decided with accel_fail(NULL, ...): -ENOENT it is not installed, or a symbol is missing (the
 * sentence names the package, or the symbol); -ENOMEM.
 */
int accel_verbs_api_get(const char *library, const struct accel_verbs_api **api);

#endif
