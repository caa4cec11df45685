// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Looking up an address in /proc/self/maps. */
#include "mapping.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/sysmacros.h>

bool mapping_of(const void *addr, struct mapping *m)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned major_number, minor_number;
	char line[512];
	bool found = false;

	while (maps && !found && fgets(line, sizeof(line), maps)) {
		m->path[0] = '\0';
		if (sscanf(line,
			   "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64 " %127[^\n]",
			   &m->begin, &m->end, m->rights, &m->offset, &major_number, &minor_number,
			   &m->inode, m->path) < 7)
			continue;
		m->device = makedev(major_number, minor_number);
		found = (uintptr_t)addr >= m->begin && (uintptr_t)addr < m->end;
	}
	if (maps)
		fclose(maps);
	return found;
}
