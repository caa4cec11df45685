// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * debugfs/accel/DEVICE/...: what exists now, a line each under a line of headings, for people. The
 * layout is not kept: programs read sysfs, fdinfo and the ioctls.
 */
#include <drm/drm_debugfs.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#include "axl_bo.h"
#include "axl_device.h"
#include "axl_drm.h"

static struct drm_device *axl_debugfs_drm(struct seq_file *seq)
{
	struct drm_debugfs_entry *entry = seq->private;

	return entry->dev;
}

static int buffers_show(struct seq_file *seq, void *unused)
{
	static const char *const placements[] = {
		[AXL_PLACEMENT_SYS] = "sys",
		[AXL_PLACEMENT_IMPORT] = "import",
	};
	struct axl_device *dev = axl_device_of(axl_debugfs_drm(seq));
	struct axl_bo *bo;

	seq_printf(seq, "%-16s %-9s %14s %10s %14s %7s %5s %7s\n", "bo", "placement", "size_bytes",
		   "pages", "large_bytes", "handles", "refs", "exports");
	mutex_lock(&dev->bos_lock);
	list_for_each_entry(bo, &dev->bos, dev_link) {
		const struct drm_gem_object *obj = &bo->base;

		seq_printf(seq, "%p %-9s %14zu %10zu %14llu %7u %5u %7d\n", obj,
			   placements[bo->placement], obj->size, obj->size >> PAGE_SHIFT,
			   bo->large_page_bytes, READ_ONCE(obj->handle_count),
			   kref_read(&obj->refcount), atomic_read(&bo->exports));
	}
	mutex_unlock(&dev->bos_lock);
	return 0;
}

struct client_usage {
	u64 bytes;
	unsigned int buffers;
};

static int client_count_buffer(int handle, void *obj, void *data)
{
	struct client_usage *usage = data;

	if (!obj) /* a handle that is being made or closed */
		return 0;
	usage->bytes += ((struct drm_gem_object *)obj)->size;
	usage->buffers++;
	return 0;
}

static int clients_show(struct seq_file *seq, void *unused)
{
	struct drm_device *drm = axl_debugfs_drm(seq);
	struct user_namespace *user_ns = seq_user_ns(seq);
	struct drm_file *file;

	seq_printf(seq, "%7s %-15s %10s %7s %14s\n", "pid", "comm", "uid", "buffers", "size_bytes");
	mutex_lock(&drm->filelist_mutex);
	list_for_each_entry(file, &drm->filelist, lhead) {
		struct client_usage usage = {};
		struct task_struct *task;
		struct pid *pid;

		spin_lock(&file->table_lock);
		idr_for_each(&file->object_idr, client_count_buffer, &usage);
		spin_unlock(&file->table_lock);
		rcu_read_lock(); /* of the task, too, whose name is shown */
		pid = rcu_dereference(file->pid);
		task = pid_task(pid, PIDTYPE_TGID);
		seq_printf(seq, "%7d %-15s %10u %7u %14llu\n", pid_vnr(pid),
			   task ? task->comm : "(ended)",
			   from_kuid_munged(user_ns, file->filp->f_cred->euid), usage.buffers,
			   usage.bytes);
		rcu_read_unlock();
	}
	mutex_unlock(&drm->filelist_mutex);
	return 0;
}

/* The core has a file `clients` of its own in some kernels; the prefix keeps ours apart. */
static const struct drm_debugfs_info axl_debugfs_files[] = {
	{"axl_buffers", buffers_show},
	{"axl_clients", clients_show},
};

void axl_debugfs_init(struct axl_device *dev)
{
	drm_debugfs_add_files(&dev->drm, axl_debugfs_files, ARRAY_SIZE(axl_debugfs_files));
}
