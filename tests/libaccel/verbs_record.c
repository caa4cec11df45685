// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* What libaccel-verbs-record.so writes (tests/verbs/record.c), over the library without a NIC. */
#define _GNU_SOURCE
#include "verbs_pair.h"

#include <stdio.h>
#include <unistd.h>

TEST(record, writes_what_is_registered_and_posted)
{
	char path[64] = "/tmp/accel-record-XXXXXX", file[80], line[256], want[256];
	const struct accel_verbs_api *loop = NULL;
	unsigned regs = 0, requests = 0, posts = 0, completions = 0, states = 0, paths = 0;
	char path_want[80] = "", retries_want[80] = "";
	const int fd = mkstemp(path);
	struct ibv_wc wc;
	struct pair p;
	FILE *f;

	REQUIRE(fd >= 0);
	setenv("RECORD_LIBRARY", verbs_loop_path(), 1);
	setenv("RECORD_FILE", path, 1);
	snprintf(file, sizeof(file), "%s.%d", path, (int)getpid());
	REQUIRE_EQ(accel_verbs_api_get(verbs_record_path(), &loop), 0);
	p = (struct pair){.api = loop};
	verbs_loop()->configure(&p.opts.config);
	if (pair_end_open(&p, 0) && pair_end_open(&p, 1) && pair_connect(&p)) {
		CHECK_EQ(pair_receive(&p, 1, 0), 0);
		CHECK_EQ(pair_post(&p, 0, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_SEND_SIGNALED, 0x123,
				   0x45),
			 0);
		CHECK(pair_poll(&p, 1, &wc));
		CHECK_EQ(pair_status(&p, 0), IBV_WC_SUCCESS);
		snprintf(want, sizeof(want), "wr %x 1 2 123 %lx %x 45 1 %lx:45:%x\n",
			 p.end[0].qp->qp_num, (unsigned long)(uintptr_t)p.end[1].memory + 0x123,
			 p.end[1].mr->rkey, (unsigned long)(uintptr_t)p.end[0].memory + 0x123,
			 p.end[0].mr->lkey);
		snprintf(path_want, sizeof(path_want), "modify %x 2 3 %x %x 0 1 3 0 40\n",
			 p.end[0].qp->qp_num, p.end[1].qp->qp_num, LOOP_PORTS_MAX + 1);
		snprintf(retries_want, sizeof(retries_want), "modify %x 3 c 1 7\n",
			 p.end[0].qp->qp_num);
	}
	pair_close(&p);
	f = fopen(file, "re");
	while (CHECK(f) && fgets(line, sizeof(line), f)) {
		regs += !strncmp(line, "reg loop", 8);
		posts += !strncmp(line, "post ", 5);
		requests += !strcmp(line, want);
		completions += !strncmp(line, "wc ", 3);
		states += !strncmp(line, "modify ", 7);
		paths += !strcmp(line, path_want) || !strcmp(line, retries_want);
	}
	CHECK_EQ(regs, 2);
	CHECK_EQ(states, 2 * 3); /* of each end: INIT, RTR, RTS */
	CHECK_EQ(paths, 2);
	CHECK_EQ(posts, 1);
	CHECK_EQ(requests, 1);
	CHECK_EQ(completions, 2);
	fclose(f);
	close(fd);
	unlink(path);
	unlink(file);
}
