// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/*
 * Quotas of memory. A buffer is charged to the user who created it until it is freed, whoever else
 * holds it by then. Pages that a NIC still pins after that are charged to nobody here: they count
 * against RLIMIT_MEMLOCK of who registered them, and in the memory cgroup.
 */
#include <drm/drm_managed.h>
#include <linux/cred.h>
#include <linux/slab.h>

#include "axl_quota.h"

static void quota_fini(struct drm_device *drm, void *data)
{
	struct axl_quota *quota = data;

	WARN_ON(!xa_empty(&quota->users) || quota->sys.bos || quota->import.bos);
	xa_destroy(&quota->users);
	mutex_destroy(&quota->lock);
}

int axl_quota_init(struct axl_quota *quota, struct drm_device *drm, u64 bytes_max,
		   u64 user_bytes_max)
{
	*quota = (struct axl_quota){.bytes_max = bytes_max, .user_bytes_max = user_bytes_max};
	mutex_init(&quota->lock);
	xa_init(&quota->users);
	return drmm_add_action_or_reset(drm, quota_fini, quota);
}

static struct axl_quota_user *user_find_or_create(struct axl_quota *quota, kuid_t uid)
{
	struct axl_quota_user *user = xa_load(&quota->users, __kuid_val(uid));
	int ret;

	if (user)
		return user;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (!user)
		return ERR_PTR(-ENOMEM);
	user->uid = uid;
	ret = xa_err(xa_store(&quota->users, __kuid_val(uid), user, GFP_KERNEL_ACCOUNT));
	if (ret) {
		kfree(user);
		return ERR_PTR(ret);
	}
	return user;
}

static void user_drop_unused(struct axl_quota *quota, struct axl_quota_user *user)
{
	if (user->used.bos)
		return;
	xa_erase(&quota->users, __kuid_val(user->uid));
	kfree(user);
}

static bool has_room(const struct axl_usage *used, u64 bytes_max, u64 bytes)
{
	return used->bytes <= bytes_max && bytes <= bytes_max - used->bytes;
}

int axl_quota_charge(struct axl_quota *quota, u64 bytes, struct axl_quota_user **user,
		     struct axl_quota_refusal *why)
{
	struct axl_quota_user *payer;
	int ret = -ENOSPC;

	mutex_lock(&quota->lock);
	payer = user_find_or_create(quota, current_uid());
	if (IS_ERR(payer)) {
		ret = PTR_ERR(payer);
	} else if (!has_room(&payer->used, quota->user_bytes_max, bytes)) {
		*why = (struct axl_quota_refusal){"user", "user_bytes_max", quota->user_bytes_max,
						  payer->used.bytes};
		user_drop_unused(quota, payer);
	} else if (!has_room(&quota->sys, quota->bytes_max, bytes)) {
		*why = (struct axl_quota_refusal){"device", "mem_bytes_max", quota->bytes_max,
						  quota->sys.bytes};
		user_drop_unused(quota, payer);
	} else {
		payer->used.bytes += bytes;
		payer->used.bos++;
		quota->sys.bytes += bytes;
		quota->sys.bos++;
		*user = payer;
		ret = 0;
	}
	mutex_unlock(&quota->lock);
	return ret;
}

void axl_quota_uncharge(struct axl_quota *quota, u64 bytes, struct axl_quota_user *user)
{
	mutex_lock(&quota->lock);
	user->used.bytes -= bytes;
	user->used.bos--;
	quota->sys.bytes -= bytes;
	quota->sys.bos--;
	user_drop_unused(quota, user);
	mutex_unlock(&quota->lock);
}

void axl_quota_import_add(struct axl_quota *quota, u64 bytes)
{
	mutex_lock(&quota->lock);
	quota->import.bytes += bytes;
	quota->import.bos++;
	mutex_unlock(&quota->lock);
}

void axl_quota_import_remove(struct axl_quota *quota, u64 bytes)
{
	mutex_lock(&quota->lock);
	quota->import.bytes -= bytes;
	quota->import.bos--;
	mutex_unlock(&quota->lock);
}

void axl_quota_get(struct axl_quota *quota, struct axl_usage *sys, struct axl_usage *import,
		   struct axl_usage *user)
{
	struct axl_quota_user *caller;

	mutex_lock(&quota->lock);
	*sys = quota->sys;
	*import = quota->import;
	caller = xa_load(&quota->users, __kuid_val(current_uid()));
	*user = caller ? caller->used : (struct axl_usage){0};
	mutex_unlock(&quota->lock);
}
