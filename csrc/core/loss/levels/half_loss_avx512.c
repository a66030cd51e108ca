/* The loops of half_loss.c for AVX-512, with counts by masks and errors by hand. */
#include "core/base/macros.h"

#if TB_X86
#    include "core/loss/levels/half_loss_loops.h"

#    include <immintrin.h>

#    define TARGET TB_TARGET("avx512f,avx512bw,avx512vl,popcnt")
#    define TABLE tb_loss_loops_avx512
#    define COUNT_COMMON count_by_masks

TARGET static TB_ALWAYS_INLINE uint32_t
count_set(__mmask16 mask)
{
    return (uint32_t)_mm_popcnt_u32(mask);
}

/* What one step counts, and what tells whether counting like this will do. */
typedef struct {
    __m512i highest;
    __m512i lowest;
    unsigned doubtful;
    uint32_t small;
    uint32_t f16_exact;
    uint32_t bf16_exact;
} step_counts;

TARGET static TB_ALWAYS_INLINE void
count_step(const char *src, __mmask16 here, step_counts *c)
{
    __m512i bits = _mm512_maskz_loadu_epi32(here, (const void *)src);
    __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
    __m512i below = _mm512_sub_epi32(magnitude, _mm512_set1_epi32(1));
    __mmask16 small =
        _mm512_cmplt_epu32_mask(below, _mm512_set1_epi32(TB_F16_NORMAL_FROM - 1));
    __mmask16 short_f16 =
        _mm512_mask_testn_epi32_mask(here, bits, _mm512_set1_epi32(0x1fff));

    c->highest = _mm512_max_epu32(c->highest, magnitude);
    c->lowest = _mm512_min_epu32(c->lowest, below);
    c->small += count_set(small);
    if (short_f16 != 0) { /* always or hardly ever */
        __mmask16 short_bf16 =
            _mm512_mask_testn_epi32_mask(here, bits, _mm512_set1_epi32(0xffff));
        c->doubtful |= (unsigned)(small & short_f16);
        c->f16_exact += count_set(short_f16);
        c->bf16_exact += count_set(short_bf16);
    }
}

TARGET static uint32_t
count_flushed(const char *src, ptrdiff_t n)
{
    const __m512i limit = _mm512_set1_epi32(TB_F16_FLUSHED_UP_TO);
    uint32_t flushed = 0;

    for (ptrdiff_t i = 0; i < n; i += 16) {
        unsigned lanes = n - i < 16 ? (1u << (n - i)) - 1 : 0xffff;
        __m512i bits =
            _mm512_maskz_loadu_epi32((__mmask16)lanes, (const void *)(src + 4 * i));
        __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
        __m512i below = _mm512_sub_epi32(magnitude, _mm512_set1_epi32(1));
        flushed += count_set(_mm512_cmplt_epu32_mask(below, limit));
    }
    return flushed;
}

/* count_common of half_loss.inc.h. Compilers keep to half the width here, and do not
 * see that the bits of a mask can be counted, nor what need not be. */
TARGET static int
count_by_masks(const char *src, ptrdiff_t n, tb_common_counts *counts)
{
    step_counts c = {_mm512_setzero_si512(), _mm512_set1_epi32(-1), 0, 0, 0, 0};
    ptrdiff_t i = 0;

    for (; i + 16 <= n; i += 16) {
        count_step(src + 4 * i, 0xffff, &c);
    }
    if (i < n) {
        count_step(src + 4 * i, (__mmask16)((1u << (n - i)) - 1), &c);
    }
    counts->highest = _mm512_reduce_max_epu32(c.highest);
    counts->lowest = _mm512_reduce_min_epu32(c.lowest);
    counts->flushed = counts->lowest < TB_F16_FLUSHED_UP_TO ? count_flushed(src, n) : 0;
    counts->subnormal = c.small - counts->flushed;
    counts->f16_exact = c.f16_exact;
    counts->bf16_exact = c.bf16_exact;
    return counts->highest < TB_F16_OVERFLOW_FROM &&
           counts->lowest >= TB_BF16_NORMAL_FROM && !c.doubtful;
}

/* measure_errors of half_loss.inc.h, the same operations on the same lanes. */
TARGET static int
measure_by_eight(const double *values, const float *given, uint32_t lowest,
                 double known, tb_errors *found)
{
    const __m256i exponents = _mm256_set1_epi32(0x7f800000);
    const __m512d largest = _mm512_set1_pd(DBL_MAX), limit = _mm512_set1_pd(known);
    __m512d signal = _mm512_setzero_pd(), noise = signal, absolute = signal;
    __m512d steps = signal;
    unsigned larger = 0;

    for (int i = 0; i < TB_LOSS_BLOCK; i += TB_LANES) {
        __m512d value = _mm512_loadu_pd(values + i);
        __m256 converted = _mm256_loadu_ps(given + i);
        __m512d error = _mm512_abs_pd(_mm512_sub_pd(value, _mm512_cvtps_pd(converted)));
        __mmask8 is_finite = _mm512_cmp_pd_mask(error, largest, _CMP_LE_OQ);
        __m512d kept = _mm512_maskz_mov_pd(is_finite, error);
        __m512d whole = _mm512_maskz_mov_pd(is_finite, value);
        __m512d bound = _mm512_mul_pd(limit, _mm512_abs_pd(whole));
        __m256i bits = _mm256_and_si256(_mm256_castps_si256(converted), exponents);
        __m256i scale = _mm256_sub_epi32(
            exponents, _mm256_max_epu32(bits, _mm256_set1_epi32((int)lowest)));

        signal = _mm512_add_pd(signal, _mm512_mul_pd(whole, whole));
        noise = _mm512_add_pd(noise, _mm512_mul_pd(kept, kept));
        absolute = _mm512_max_pd(absolute, kept);
        larger |= _mm512_cmp_pd_mask(kept, bound, _CMP_GT_OQ);
        steps = _mm512_max_pd(
            steps, _mm512_mul_pd(kept, _mm512_cvtps_pd(_mm256_castsi256_ps(scale))));
    }
    _mm512_storeu_pd(found->signal, signal);
    _mm512_storeu_pd(found->noise, noise);
    _mm512_storeu_pd(found->absolute, absolute);
    _mm512_storeu_pd(found->steps, steps);
    return larger != 0;
}

#    define MEASURE_ERRORS measure_by_eight
#    include "core/loss/levels/half_loss.inc.h"
#endif
