/*
 * Kernels that use the processor's own conversions run with floating point as it is at
 * the start of a process: to nearest, subnormal numbers kept, no traps. What the
 * process had set, and its exception flags, come back afterwards.
 */
#ifndef TB_FP_STATE_H
#define TB_FP_STATE_H

#include "macros.h"

#if TB_X86

/* SSE and AVX obey MXCSR alone; <fenv.h> would see to the x87 too, in 20 times the
 * time. */
#    include <immintrin.h>

enum { TB_MXCSR_DEFAULT = 0x1f80, TB_MXCSR_TOWARD_ZERO = 0x7f80 };

typedef unsigned tb_fp_state;

static inline tb_fp_state
tb_enter_fp(int toward_zero)
{
    tb_fp_state saved = _mm_getcsr();
    _mm_setcsr(toward_zero ? TB_MXCSR_TOWARD_ZERO : TB_MXCSR_DEFAULT);
    return saved;
}

static inline void
tb_leave_fp(tb_fp_state saved)
{
    _mm_setcsr(saved);
}

#else

#    include <fenv.h>

typedef fenv_t tb_fp_state;

static inline tb_fp_state
tb_enter_fp(int toward_zero)
{
    tb_fp_state saved;
    (void)fegetenv(&saved);
    (void)fesetenv(FE_DFL_ENV);
    if (toward_zero) {
        (void)fesetround(FE_TOWARDZERO);
    }
    return saved;
}

static inline void
tb_leave_fp(tb_fp_state saved)
{
    (void)fesetenv(&saved);
}

#endif

#endif
