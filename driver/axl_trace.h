/* SPDX-License-Identifier: GPL-2.0-only */
/* Copyright (c) 2026 The accel authors */
/*
 * Tracepoints, in events/axl of tracefs. In all of them accel is the N of /dev/accel/accelN, and bo
 * names a buffer while it lives, as the file axl_buffers in debugfs does.
 */
/* clang-format off */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM axl

#if !defined(AXL_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define AXL_TRACE_H

#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <linux/device.h>
#include <linux/tracepoint.h>

#include "axl_device.h"
#include "axl_drm.h"

TRACE_DEFINE_ENUM(AXL_PLACEMENT_SYS);
TRACE_DEFINE_ENUM(AXL_PLACEMENT_IMPORT);

#define axl_trace_placement(placement)                                                             \
	__print_symbolic(placement,                                                                \
			 { AXL_PLACEMENT_SYS, "sys" },                                             \
			 { AXL_PLACEMENT_IMPORT, "import" })

DECLARE_EVENT_CLASS(axl_device,
	TP_PROTO(const struct axl_device *dev),
	TP_ARGS(dev),
	TP_STRUCT__entry(
		__field(int, accel)
		__field(int, numa_node)
		__string(parent, dev_name(dev->drm.dev))
		__string(provider, dev->ops->name)
	),
	TP_fast_assign(
		__entry->accel = dev->drm.accel->index;
		__entry->numa_node = dev->numa_node;
		__assign_str(parent);
		__assign_str(provider);
	),
	TP_printk("accel=%d parent=%s provider=%s numa_node=%d", __entry->accel,
		  __get_str(parent), __get_str(provider), __entry->numa_node)
);

DEFINE_EVENT(axl_device, axl_device_add,
	TP_PROTO(const struct axl_device *dev), TP_ARGS(dev));
DEFINE_EVENT(axl_device, axl_device_remove,
	TP_PROTO(const struct axl_device *dev), TP_ARGS(dev));

DECLARE_EVENT_CLASS(axl_bo,
	TP_PROTO(const struct drm_gem_object *bo, u32 placement),
	TP_ARGS(bo, placement),
	TP_STRUCT__entry(
		__field(int, accel)
		__field(u32, placement)
		__field(const void *, bo)
		__field(u64, size_bytes)
	),
	TP_fast_assign(
		__entry->accel = bo->dev->accel->index;
		__entry->placement = placement;
		__entry->bo = bo;
		__entry->size_bytes = bo->size;
	),
	TP_printk("accel=%d bo=%p placement=%s size_bytes=%llu", __entry->accel, __entry->bo,
		  axl_trace_placement(__entry->placement), __entry->size_bytes)
);

DEFINE_EVENT(axl_bo, axl_bo_create,
	TP_PROTO(const struct drm_gem_object *bo, u32 placement), TP_ARGS(bo, placement));
DEFINE_EVENT(axl_bo, axl_bo_free,
	TP_PROTO(const struct drm_gem_object *bo, u32 placement), TP_ARGS(bo, placement));

TRACE_EVENT(axl_bo_fault,
	TP_PROTO(const struct drm_gem_object *bo, u64 offset_bytes, u64 folio_bytes),
	TP_ARGS(bo, offset_bytes, folio_bytes),
	TP_STRUCT__entry(
		__field(int, accel)
		__field(const void *, bo)
		__field(u64, offset_bytes)
		__field(u64, folio_bytes)
	),
	TP_fast_assign(
		__entry->accel = bo->dev->accel->index;
		__entry->bo = bo;
		__entry->offset_bytes = offset_bytes;
		__entry->folio_bytes = folio_bytes;
	),
	TP_printk("accel=%d bo=%p offset_bytes=%llu folio_bytes=%llu", __entry->accel,
		  __entry->bo, __entry->offset_bytes, __entry->folio_bytes)
);

DECLARE_EVENT_CLASS(axl_dmabuf,
	TP_PROTO(const struct drm_gem_object *bo),
	TP_ARGS(bo),
	TP_STRUCT__entry(
		__field(int, accel)
		__field(const void *, bo)
		__field(u64, size_bytes)
	),
	TP_fast_assign(
		__entry->accel = bo->dev->accel->index;
		__entry->bo = bo;
		__entry->size_bytes = bo->size;
	),
	TP_printk("accel=%d bo=%p size_bytes=%llu", __entry->accel, __entry->bo,
		  __entry->size_bytes)
);

DEFINE_EVENT(axl_dmabuf, axl_dmabuf_export,
	TP_PROTO(const struct drm_gem_object *bo), TP_ARGS(bo));
DEFINE_EVENT(axl_dmabuf, axl_dmabuf_release,
	TP_PROTO(const struct drm_gem_object *bo), TP_ARGS(bo));

DECLARE_EVENT_CLASS(axl_dmabuf_importer,
	TP_PROTO(const struct drm_gem_object *bo, const struct device *importer),
	TP_ARGS(bo, importer),
	TP_STRUCT__entry(
		__field(int, accel)
		__field(const void *, bo)
		__string(importer, dev_name(importer))
	),
	TP_fast_assign(
		__entry->accel = bo->dev->accel->index;
		__entry->bo = bo;
		__assign_str(importer);
	),
	TP_printk("accel=%d bo=%p importer=%s", __entry->accel, __entry->bo, __get_str(importer))
);

DEFINE_EVENT(axl_dmabuf_importer, axl_dmabuf_attach,
	TP_PROTO(const struct drm_gem_object *bo, const struct device *importer),
	TP_ARGS(bo, importer));
DEFINE_EVENT(axl_dmabuf_importer, axl_dmabuf_detach,
	TP_PROTO(const struct drm_gem_object *bo, const struct device *importer),
	TP_ARGS(bo, importer));
DEFINE_EVENT(axl_dmabuf_importer, axl_dmabuf_map,
	TP_PROTO(const struct drm_gem_object *bo, const struct device *importer),
	TP_ARGS(bo, importer));
DEFINE_EVENT(axl_dmabuf_importer, axl_dmabuf_unmap,
	TP_PROTO(const struct drm_gem_object *bo, const struct device *importer),
	TP_ARGS(bo, importer));

#endif /* AXL_TRACE_H */

/* Outside the guard: define_trace.h reads this file again, by this path (-I of this folder). */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE axl_trace
#include <trace/define_trace.h>
