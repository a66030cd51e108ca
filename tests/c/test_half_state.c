/* Conversion under whatever the process has set up: the same bits, and what was set
 * stays so. */
#include "half_samples.h"
#include "core/base/macros.h"

#include <fenv.h>

#if TB_X86
#    include <immintrin.h>
#endif

/* All pairs of types under a set-up of the floating-point unit: the bits of the scalar
 * level, which calculates in integers. */
static void
compare_in_this_state(void (*set)(void))
{
    enum { N = 1000 };
    tb_level level = tb_level_used();
    fenv_t saved;

    for (int a = 0; a < TYPES; a++) {
        for (int b = 0; b < TYPES; b++) {
            fill_samples(types[a], N);
            tb_use_level(TB_LEVEL_SCALAR);
            convert(types[a], types[b], N);
            tb_use_level(level);
            memcpy(expected.bytes, found.bytes, (size_t)(N * tb_type_size(types[b])));
            fegetenv(&saved);
            set();
            convert(types[a], types[b], N);
            fesetenv(&saved);
            CHECK(same_bytes(types[b], N));
        }
    }
}

static void
round_up(void)
{
    fesetround(FE_UPWARD);
}

static void
round_down(void)
{
    fesetround(FE_DOWNWARD);
}

static void
round_to_zero(void)
{
    fesetround(FE_TOWARDZERO);
}

#if TB_X86
/* Subnormal results and operands are zero. */
static void
flush_to_zero(void)
{
    _mm_setcsr(_mm_getcsr() | 0x8040);
}

/* Any exception ends the process. */
static void
trap_all(void)
{
    _mm_setcsr(_mm_getcsr() & ~0x1fbfu);
}
#endif

#if TB_ARM64
/* What FPCR can change about a conversion; bits that a processor lacks stay zero. */
enum {
    FPCR_ALTERNATE = 0x7, /* FIZ, AH, NEP */
    FPCR_TRAPS = 0x9f00,  /* any exception ends the process */
    FPCR_FZ16 = 1 << 19,
    FPCR_UPWARD = 1 << 22,
    FPCR_FZ = 1 << 24,
    FPCR_DN = 1 << 25,
    FPCR_AHP = 1 << 26,
    FPCR_ALL = FPCR_ALTERNATE | FPCR_TRAPS | FPCR_FZ16 | FPCR_UPWARD | FPCR_FZ |
               FPCR_DN | FPCR_AHP,
};

static const uint64_t controls[] = {FPCR_ALTERNATE, FPCR_TRAPS, FPCR_FZ16, FPCR_FZ,
                                    FPCR_DN,        FPCR_AHP,   FPCR_ALL};
static uint64_t control;

static void
set_control(void)
{
    tb_set_fpcr(control);
}

static void
test_controls(void)
{
    enum { DIVISION_RAISED = 2 }; /* DZC: no conversion raises it */

    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        control = controls[i];
        compare_in_this_state(set_control);
    }
    fill_samples(TB_F32, 100);
    tb_set_fpcr(FPCR_ALL);
    tb_set_fpsr(DIVISION_RAISED);
    uint64_t before = tb_get_fpcr();
    convert(TB_F32, TB_F16, 100);
    uint64_t after = tb_get_fpcr(), raised = tb_get_fpsr();
    tb_set_fpcr(0);
    tb_set_fpsr(0);
    CHECK((before & FPCR_FZ) != 0 && (before & FPCR_DN) != 0 &&
          (before & FPCR_AHP) != 0);
    CHECK(after == before);
    CHECK(raised == DIVISION_RAISED);
    convert(TB_F32, TB_F16, 100);
    CHECK(tb_get_fpcr() == 0 && tb_get_fpsr() == 0);
}
#endif

static void
test_states(void)
{
    compare_in_this_state(round_up);
    compare_in_this_state(round_down);
    compare_in_this_state(round_to_zero);
#if TB_X86
    compare_in_this_state(flush_to_zero);
    compare_in_this_state(trap_all);

    fill_samples(TB_F32, 100);
    _mm_setcsr(0x9fc0);
    convert(TB_F32, TB_F16, 100);
    CHECK(_mm_getcsr() == 0x9fc0); /* no flag raised, nothing changed */
    _mm_setcsr(0x1f80);
#endif
#if TB_ARM64
    test_controls();
#endif
}

int
main(void)
{
    on_each_level(test_states);
    return check_report();
}
