// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* OpenBLAS as a peer; see perf_blas.h. */
#include "perf_blas.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int perf_blas_open(struct perf_blas *blas, unsigned threads, char *why, unsigned why_bytes)
{
	static const char *const symbols[] = {"cblas_sgemm", "cblas_sgemv", "openblas_get_corename",
					      "openblas_get_config", "openblas_set_num_threads"};
	void *found[5];
	void (*set_num_threads)(int);

	blas->library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	if (!blas->library) {
		snprintf(why, why_bytes, "%s (Debian: libopenblas0-pthread)", dlerror());
		return -ENOENT;
	}
	for (unsigned i = 0; i < 5; i++) {
		found[i] = dlsym(blas->library, symbols[i]);
		if (!found[i]) {
			snprintf(why, why_bytes, "libopenblas.so.0 has no %s", symbols[i]);
			perf_blas_close(blas);
			return -ENOENT;
		}
	}
	memcpy(&blas->sgemm, &found[0], sizeof(found[0]));
	memcpy(&blas->sgemv, &found[1], sizeof(found[0]));
	memcpy(&blas->corename, &found[2], sizeof(found[0]));
	memcpy(&blas->config, &found[3], sizeof(found[0]));
	memcpy(&set_num_threads, &found[4], sizeof(found[0]));
	set_num_threads((int)threads);
	return 0;
}

void perf_blas_close(struct perf_blas *blas)
{
	if (blas->library)
		dlclose(blas->library);
	blas->library = NULL;
}
