/* SPDX-License-Identifier: GPL-2.0-only */
/* Copyright (c) 2026 The accel authors */
/*
 * What buffers take, a device: how much memory of the machine, of it how much by each user, and
 * how much of others' memory was imported. The first two have limits; opening more files gains a
 * user nothing. Memory cgroups account the same pages on their own.
 */
#ifndef AXL_QUOTA_H
#define AXL_QUOTA_H

#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/xarray.h>

struct drm_device;

struct axl_usage {
	u64 bytes;
	u64 bos;
};

struct axl_quota {
	struct mutex lock; /* of all below */
	u64 bytes_max;
	u64 user_bytes_max;
	struct axl_usage sys;
	struct axl_usage import;
	struct xarray users; /* of axl_quota_user by uid; those that have a buffer */
};

struct axl_quota_user {
	kuid_t uid;
	struct axl_usage used;
};

/* Which limit said no, for the sentence. */
struct axl_quota_refusal {
	const char *whose; /* "device" or "user" */
	const char *param; /* the module parameter that sets it */
	u64 bytes_max;
	u64 bytes_used;
};

/* Until the last reference of drm is put; by then no buffer is left. */
int axl_quota_init(struct axl_quota *quota, struct drm_device *drm, u64 bytes_max,
		   u64 user_bytes_max);

/* Charges *user until axl_quota_uncharge(); or -ENOSPC, which fills why, or -ENOMEM. */
int axl_quota_charge(struct axl_quota *quota, u64 bytes, struct axl_quota_user **user,
		     struct axl_quota_refusal *why);
void axl_quota_uncharge(struct axl_quota *quota, u64 bytes, struct axl_quota_user *user);

void axl_quota_import_add(struct axl_quota *quota, u64 bytes);
void axl_quota_import_remove(struct axl_quota *quota, u64 bytes);

/* What is used now; user is of the caller's uid. */
void axl_quota_get(struct axl_quota *quota, struct axl_usage *sys, struct axl_usage *import,
		   struct axl_usage *user);

#endif
