/*
 * Kernels that use the processor's own conversions run with the floating-point settings
 * of a new process: to nearest, subnormal numbers kept, no traps. Afterwards the
 * settings and the exception flags are put back as they were.
 */
#ifndef TB_FP_STATE_H
#define TB_FP_STATE_H

#include "core/base/macros.h"

#if TB_X86

/* SSE and AVX follow MXCSR alone. <fenv.h> would also save the x87, which takes 20
 * times as long. */
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

#elif TB_ARM64

/* <fenv.h> is not enough: glibc's fesetenv(FE_DFL_ENV) leaves alone what makes every
 * NaN the default one (DN), halves without infinities (AHP) and half-precision
 * subnormal numbers zero (FZ16). Reading a register is cheap. Writing one waits for
 * unfinished instructions, so a register is written only to change it. */
typedef struct {
    uint64_t control;
    uint64_t status;
} tb_fp_state;

/* `toward_zero` is ignored: elsewhere it helps to round to odd, which FCVTXN does by
 * itself. */
static inline tb_fp_state
tb_enter_fp(int toward_zero)
{
    tb_fp_state saved = {tb_get_fpcr(), tb_get_fpsr()};

    (void)toward_zero;
    if (saved.control != 0) {
        tb_set_fpcr(0);
    }
    return saved;
}

static inline void
tb_leave_fp(tb_fp_state saved)
{
    if (tb_get_fpsr() != saved.status) {
        tb_set_fpsr(saved.status);
    }
    if (saved.control != 0) {
        tb_set_fpcr(saved.control);
    }
}

#else

/* Only the scalar level exists, which calculates with integers. */
typedef int tb_fp_state;

static inline tb_fp_state
tb_enter_fp(int toward_zero)
{
    return toward_zero;
}

static inline void
tb_leave_fp(tb_fp_state saved)
{
    (void)saved;
}

#endif

#endif
