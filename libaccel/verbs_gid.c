// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
#include "verbs_gid.h"

#include "verbs_device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool accel_verbs_sysfs(const struct ibv_device *device, char *line, size_t line_bytes,
		       const char *fmt, ...)
{
	char name[128], path[PATH_MAX];
	va_list args;
	FILE *file;
	bool ok;

	va_start(args, fmt);
	vsnprintf(name, sizeof(name), fmt, args);
	va_end(args);
	snprintf(path, sizeof(path), "%s/%s", device->ibdev_path, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	ok = fgets(line, (int)line_bytes, file);
	fclose(file);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok && *line;
}

/* ---- What there is --------------------------------------------------------------------------- */

bool accel_verbs_gid_is_ipv4(const union ibv_gid *gid)
{
	return IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)gid->raw);
}

static bool is_link_local(const union ibv_gid *gid)
{
	return IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)gid->raw);
}

const char *accel_verbs_gid_text(const union ibv_gid *gid, char text[ACCEL_GID_TEXT_BYTES])
{
	if (accel_verbs_gid_is_ipv4(gid))
		inet_ntop(AF_INET, gid->raw + 12, text, ACCEL_GID_TEXT_BYTES);
	else
		inet_ntop(AF_INET6, gid->raw, text, ACCEL_GID_TEXT_BYTES);
	return text;
}

const char *accel_verbs_gid_type_text(uint32_t type)
{
	switch (type) {
	case IBV_GID_TYPE_IB:
		return "InfiniBand";
	case IBV_GID_TYPE_ROCE_V1:
		return "RoCE v1";
	case IBV_GID_TYPE_ROCE_V2:
		return "RoCE v2";
	}
	return "unknown";
}

static bool is_here(const struct ifaddrs *addresses, const union ibv_gid *gid)
{
	for (const struct ifaddrs *at = addresses; at; at = at->ifa_next) {
		const struct sockaddr_in6 *v6 = (const void *)at->ifa_addr;
		const struct sockaddr_in *v4 = (const void *)at->ifa_addr;

		if (!at->ifa_addr)
			continue;
		if (at->ifa_addr->sa_family == AF_INET6 && !memcmp(&v6->sin6_addr, gid->raw, 16))
			return true;
		if (at->ifa_addr->sa_family == AF_INET && accel_verbs_gid_is_ipv4(gid) &&
		    !memcmp(&v4->sin_addr, gid->raw + 12, 4))
			return true;
	}
	return false;
}

static uint32_t type_from_sysfs(const struct ibv_device *device, uint8_t port, int index,
				bool is_ethernet)
{
	char line[32];

	if (!is_ethernet)
		return IBV_GID_TYPE_IB;
	/* "IB/RoCE v1" or "RoCE v2" */
	if (accel_verbs_sysfs(device, line, sizeof(line), "ports/%u/gid_attrs/types/%d", port,
			      index) &&
	    strstr(line, "v2"))
		return IBV_GID_TYPE_ROCE_V2;
	return IBV_GID_TYPE_ROCE_V1;
}

/* One entry of the table; false: it is empty. */
static bool gid_get(const struct accel_verbs_api *api, const struct ibv_device *device,
		    struct ibv_context *context, uint8_t port, bool is_ethernet,
		    struct accel_verbs_gid *gid)
{
	static const union ibv_gid none;
	struct ibv_gid_entry entry = {0};
	char name[IF_NAMESIZE];

	if (api->query_gid_ex) {
		if (api->query_gid_ex(context, port, (uint32_t)gid->index, &entry, 0,
				      sizeof(entry)))
			return false;
		gid->gid = entry.gid;
		gid->type = entry.gid_type;
	} else {
		if (api->query_gid(context, port, gid->index, &gid->gid))
			return false;
		gid->type = type_from_sysfs(device, port, gid->index, is_ethernet);
	}
	if (!memcmp(&gid->gid, &none, sizeof(none)))
		return false;
	gid->netdev[0] = 0;
	if (is_ethernet &&
	    !accel_verbs_sysfs(device, gid->netdev, sizeof(gid->netdev),
			       "ports/%u/gid_attrs/ndevs/%d", port, gid->index) &&
	    entry.ndev_ifindex && if_indextoname(entry.ndev_ifindex, name))
		snprintf(gid->netdev, sizeof(gid->netdev), "%s", name);
	return true;
}

int accel_verbs_gids(const struct accel_verbs_api *api, const struct ibv_device *device,
		     struct ibv_context *context, uint8_t port, const struct ibv_port_attr *attr,
		     struct accel_verbs_gid *gids)
{
	bool is_ethernet = attr->link_layer == IBV_LINK_LAYER_ETHERNET;
	struct ifaddrs *addresses = NULL;
	int count = 0;

	if (getifaddrs(&addresses))
		addresses = NULL; /* then none is known to be here, and none to be elsewhere */
	for (int i = 0; i < attr->gid_tbl_len && count < ACCEL_VERBS_GIDS_MAX; i++) {
		struct accel_verbs_gid *gid = &gids[count];

		gid->index = i;
		if (!gid_get(api, device, context, port, is_ethernet, gid))
			continue;
		gid->here = is_here(addresses, &gid->gid);
		count++;
	}
	freeifaddrs(addresses);
	return count;
}

/* ---- Which of them --------------------------------------------------------------------------- */

/* Lower is better. */
static int preference(const struct accel_verbs_gid *gid, bool some_are_here)
{
	int kind = 1;

	if (accel_verbs_gid_is_ipv4(&gid->gid))
		kind = 0;
	else if (is_link_local(&gid->gid))
		kind = 2;
	if (gid->type != IBV_GID_TYPE_ROCE_V2)
		kind += 3;
	/* A port has its link-local GID even where its interface has no such address. */
	if (some_are_here && !gid->here && !is_link_local(&gid->gid))
		kind += 6;
	return kind;
}

const struct accel_verbs_gid *accel_verbs_gid_best(const struct accel_verbs_gid *gids, int count,
						   bool is_ethernet)
{
	const struct accel_verbs_gid *best = NULL;
	bool some_are_here = false;

	if (!is_ethernet)
		return count && gids[0].index == 0 ? gids : NULL;
	for (int i = 0; i < count; i++)
		some_are_here |= gids[i].here;
	for (int i = 0; i < count; i++)
		if (!best || preference(&gids[i], some_are_here) < preference(best, some_are_here))
			best = &gids[i];
	return best;
}

bool accel_verbs_gid_parse(const char *text, struct accel_verbs_gid_name *name)
{
	size_t digits = strspn(text, "0123456789");

	*name = (struct accel_verbs_gid_name){0};
	if (digits && !text[digits] && digits < 6) {
		name->is_index = true;
		name->index = atoi(text);
		return true;
	}
	if (inet_pton(AF_INET, text, name->gid.raw + 12) == 1) {
		name->gid.raw[10] = name->gid.raw[11] = 0xff;
		return true;
	}
	return inet_pton(AF_INET6, text, name->gid.raw) == 1;
}

const struct accel_verbs_gid *accel_verbs_gid_find(const struct accel_verbs_gid *gids, int count,
						   const struct accel_verbs_gid_name *name)
{
	const struct accel_verbs_gid *found = NULL;

	for (int i = 0; i < count; i++) {
		bool is_match = name->is_index ? gids[i].index == name->index
					       : !memcmp(&gids[i].gid, &name->gid, 16);

		if (is_match && (!found || gids[i].type > found->type))
			found = &gids[i];
	}
	return found;
}
