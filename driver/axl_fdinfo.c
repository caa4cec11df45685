// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * The keys of /proc/PID/fdinfo/FD that are ours, in the form of the kernel's
 * Documentation/gpu/drm-usage-stats.rst: drm-{total,shared,resident}-REGION, where the region
 * `memory` is buffers of this device in memory of the machine, and `import` is dma-bufs of others.
 */
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_print.h>
#include <linux/idr.h>

#include "axl_bo.h"
#include "axl_device.h"

void axl_fdinfo_show(struct drm_printer *printer, struct drm_file *file)
{
	struct drm_memory_stats memory = {}, import = {};
	struct drm_gem_object *obj;
	int handle;

	spin_lock(&file->table_lock);
	idr_for_each_entry(&file->object_idr, obj, handle) {
		struct axl_bo *bo = axl_bo_of(obj);
		struct drm_memory_stats *stats = axl_bo_is_import(bo) ? &import : &memory;

		if (drm_gem_object_is_shared_for_memory_stats(obj) || atomic_read(&bo->exports))
			stats->shared += obj->size;
		else
			stats->private += obj->size;
		if (!axl_bo_is_import(bo)) /* all of it is there from its making to its end */
			stats->resident += obj->size;
	}
	spin_unlock(&file->table_lock);
	drm_print_memory_stats(printer, &memory, DRM_GEM_OBJECT_RESIDENT, "memory");
	drm_print_memory_stats(printer, &import, 0, "import");
}
