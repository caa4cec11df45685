// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* What fabric.h says. */
#include "fabric.h"

#include "node.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool shell(const char *functions, const char *command)
{
	char line[256];

	snprintf(line, sizeof(line), ". tests/vm/%s.sh; %s", functions, command);
	return CHECK_EQ(run(line), 0);
}

bool fabric_wire(const char *command)
{
	return shell("wire", command);
}

bool fabric_link(const char *command)
{
	return shell("link", command);
}

void fabric_opts(int device, const char *transports, const char *more)
{
	char opts[768];

	snprintf(opts, sizeof(opts), "transports=%s,verbs.devices=rxe%d%s%s", transports, device,
		 *more ? "," : "", more);
	setenv("ACCEL_OPTS", opts, true);
}

int fabric_registrations(int device)
{
	char command[64];
	int count = 0;
	FILE *pipe;

	snprintf(command, sizeof(command), "rdma resource show mr dev rxe%d", device);
	pipe = popen(command, "re");
	if (!pipe)
		return -errno;
	for (int c; (c = fgetc(pipe)) != EOF;)
		count += c == '\n';
	return pclose(pipe) ? -EIO : count;
}
