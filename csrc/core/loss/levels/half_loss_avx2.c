/* The loops of half_loss.c for AVX2, with the errors measured by hand. */
#include "core/base/macros.h"

#if TB_X86
#    include "core/loss/levels/half_loss_loops.h"

#    include <immintrin.h>

#    define TARGET TB_TARGET("avx2,f16c")
#    define TABLE tb_loss_loops_avx2
/* Lanes four to seven, or none to three, of what measure_by_four gathers. */
typedef struct {
    __m256d signal;
    __m256d noise;
    __m256d absolute;
    __m256d larger;
    __m256d steps;
} sums;

TARGET static TB_ALWAYS_INLINE void
measure_four(const double *values, const float *given, __m128i lowest, __m256d limit,
             sums *s)
{
    const __m256d sign = _mm256_set1_pd(-0.0);
    const __m128i exponents = _mm_set1_epi32(0x7f800000);
    __m256d value = _mm256_loadu_pd(values);
    __m128 converted = _mm_loadu_ps(given);
    __m256d error =
        _mm256_andnot_pd(sign, _mm256_sub_pd(value, _mm256_cvtps_pd(converted)));
    __m256d is_finite = _mm256_cmp_pd(error, _mm256_set1_pd(DBL_MAX), _CMP_LE_OQ);
    __m256d kept = _mm256_and_pd(is_finite, error);
    __m256d whole = _mm256_and_pd(is_finite, value);
    __m256d bound = _mm256_mul_pd(limit, _mm256_andnot_pd(sign, whole));
    __m128i bits = _mm_and_si128(_mm_castps_si128(converted), exponents);
    __m128i scale = _mm_sub_epi32(exponents, _mm_max_epu32(bits, lowest));

    s->signal = _mm256_add_pd(s->signal, _mm256_mul_pd(whole, whole));
    s->noise = _mm256_add_pd(s->noise, _mm256_mul_pd(kept, kept));
    s->absolute = _mm256_max_pd(s->absolute, kept);
    s->larger = _mm256_or_pd(s->larger, _mm256_cmp_pd(kept, bound, _CMP_GT_OQ));
    s->steps = _mm256_max_pd(
        s->steps, _mm256_mul_pd(kept, _mm256_cvtps_pd(_mm_castsi128_ps(scale))));
}

/* measure_errors of half_loss.inc.h, the same operations on the same lanes. */
TARGET static int
measure_by_four(const double *values, const float *given, uint32_t lowest, double known,
                tb_errors *found)
{
    const __m256d zero = _mm256_setzero_pd(), limit = _mm256_set1_pd(known);
    const __m128i least = _mm_set1_epi32((int)lowest);
    sums low = {zero, zero, zero, zero, zero}, high = low;

    for (int i = 0; i < TB_LOSS_BLOCK; i += TB_LANES) {
        measure_four(values + i, given + i, least, limit, &low);
        measure_four(values + i + 4, given + i + 4, least, limit, &high);
    }
    _mm256_storeu_pd(found->signal, low.signal);
    _mm256_storeu_pd(found->signal + 4, high.signal);
    _mm256_storeu_pd(found->noise, low.noise);
    _mm256_storeu_pd(found->noise + 4, high.noise);
    _mm256_storeu_pd(found->absolute, low.absolute);
    _mm256_storeu_pd(found->absolute + 4, high.absolute);
    _mm256_storeu_pd(found->steps, low.steps);
    _mm256_storeu_pd(found->steps + 4, high.steps);
    return _mm256_movemask_pd(_mm256_or_pd(low.larger, high.larger)) != 0;
}

#    define MEASURE_ERRORS measure_by_four
#    include "core/loss/levels/half_loss.inc.h"
#endif
