/* AVX-512 F, BW and VL: as half_avx2.c, with a step in one register. */
#include "macros.h"

#if TB_X86

#    include "half_kernels.h"

#    include <immintrin.h>
#    include <string.h>

#    define TARGET TB_TARGET("avx512f,avx512bw,avx512vl,avx2,f16c")
#    define INLINE TARGET static TB_ALWAYS_INLINE

typedef __m512i tops;

INLINE tops
no_tops(void)
{
    return _mm512_setzero_si512();
}

INLINE void
gather_top(__m512 value, tops *top)
{
    __m512i magnitude =
        _mm512_and_si512(_mm512_castps_si512(value), _mm512_set1_epi32(0x7fffffff));
    *top = _mm512_max_epu32(*top, magnitude);
}

INLINE uint32_t
highest_top(tops top)
{
    return _mm512_reduce_max_epu32(top);
}

INLINE void
store_halves(char *dst, __m256i value, int stream)
{
    if (stream) {
        _mm256_stream_si256((__m256i *)(void *)dst, value);
    }
    else {
        _mm256_storeu_si256((__m256i *)(void *)dst, value);
    }
}

INLINE void
store_words(char *dst, __m512i value, int stream)
{
    if (stream) {
        _mm512_stream_si512((__m512i *)(void *)dst, value);
    }
    else {
        _mm512_storeu_si512((void *)dst, value);
    }
}

INLINE __m512
join(__m256 low, __m256 high)
{
    __m512d wide = _mm512_castpd256_pd512(_mm256_castps_pd(low));
    return _mm512_castpd_ps(_mm512_insertf64x4(wide, _mm256_castps_pd(high), 1));
}

INLINE __m512
load_f32(const char *src)
{
    return _mm512_loadu_ps((const void *)src);
}

INLINE __m256i
load_halves(const char *src)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)src);
}

INLINE __m256
round_to_odd(const char *src)
{
    __m512d value = _mm512_loadu_pd((const void *)src);
    __m256 cut = _mm512_cvtpd_ps(value);
    __mmask8 lost = _mm512_cmp_pd_mask(_mm512_cvtps_pd(cut), value, _CMP_NEQ_OQ);
    __m256i bits = _mm256_castps_si256(cut);
    return _mm256_castsi256_ps(
        _mm256_mask_or_epi32(bits, lost, bits, _mm256_set1_epi32(1)));
}

INLINE __m512
load_f64(const char *src)
{
    return join(round_to_odd(src), round_to_odd(src + 64));
}

INLINE __m256i
to_f16(__m512 value)
{
    return _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE __m256i
to_bf16(__m512 value)
{
    __m512i bits = _mm512_castps_si512(value);
    __m512i upper = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(
        _mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40)));
}

#    define NARROWING_STEP(name, load, convert)                             \
        INLINE void name(const char *src, char *dst, int stream, tops *top) \
        {                                                                   \
            __m512 value = load(src);                                       \
            gather_top(value, top);                                         \
            store_halves(dst, convert(value), stream);                      \
        }

NARROWING_STEP(step_f64_f16, load_f64, to_f16)
NARROWING_STEP(step_f64_bf16, load_f64, to_bf16)
NARROWING_STEP(step_f32_f16, load_f32, to_f16)
NARROWING_STEP(step_f32_bf16, load_f32, to_bf16)

INLINE void
step_f64_f32(const char *src, char *dst, int stream, tops *top)
{
    __m512 narrow = join(_mm512_cvtpd_ps(_mm512_loadu_pd((const void *)src)),
                         _mm512_cvtpd_ps(_mm512_loadu_pd((const void *)(src + 64))));

    gather_top(narrow, top);
    store_words(dst, _mm512_castps_si512(narrow), stream);
}

INLINE void
step_f16_f32(const char *src, char *dst, int stream, tops *top)
{
    (void)top;
    store_words(dst, _mm512_castps_si512(_mm512_cvtph_ps(load_halves(src))), stream);
}

INLINE void
step_bf16_f32(const char *src, char *dst, int stream, tops *top)
{
    __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(load_halves(src)), 16);
    __m512 value = _mm512_castsi512_ps(bits);
    __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);

    (void)top;
    store_words(dst, _mm512_mask_or_epi32(bits, nan, bits, _mm512_set1_epi32(0x400000)),
                stream);
}

#    define TABLE tb_float_kernels_avx512
#    include "half_level.inc.h"

#endif
