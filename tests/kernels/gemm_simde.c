// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The tests of gemm.c with the files for AVX-512 running on SIMDe, whatever the CPU has.
 *
 * check: plain (on SIMDe it takes long enough)
 */
#ifdef HAS_SIMDE
#include "gemm.c"
#else
#include "tests/tap.h"

TEST(gemm, for_avx512_on_simde)
{
	SKIP("no <simde/x86/avx512.h> (Debian: libsimde-dev), or no x86-64 compiler");
}
#endif
