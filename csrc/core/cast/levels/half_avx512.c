/* AVX-512 F, BW and VL: as half_avx2.c, with two registers a step. */
#include "core/base/macros.h"

#if TB_X86

#    include "core/cast/levels/half_kernels.h"

#    include <immintrin.h>
#    include <string.h>

#    define TARGET TB_TARGET("avx512f,avx512bw,avx512vl,avx2,f16c")
#    define INLINE TARGET static TB_ALWAYS_INLINE

enum { STEP = 32 };

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
store(char *dst, __m512i value, int stream)
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

INLINE __m512i
to_f16(__m512 low, __m512 high)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(low, NEAREST)),
                              _mm512_cvtps_ph(high, NEAREST), 1);
}

/* Each word's upper half, and one more where the lower half is above the middle, or in
 * it and the upper one is odd. VCVTNEPS2BF16 would flush subnormal numbers. */
INLINE __m512i
to_bf16(__m512 low, __m512 high)
{
    const __m512i even =
        _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32,
                         30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i one = _mm512_set1_epi16(1);
    __m512i a = _mm512_castps_si512(low), b = _mm512_castps_si512(high);
    __m512i lower = _mm512_permutex2var_epi16(a, even, b);
    __m512i upper = _mm512_permutex2var_epi16(a, _mm512_or_si512(even, one), b);
    __m512i rest = _mm512_adds_epu16(lower, _mm512_and_si512(upper, one));
    __mmask32 up = _mm512_cmpgt_epu16_mask(rest, _mm512_set1_epi16(INT16_MIN));
    __mmask32 nan = _mm512_kunpackw(_mm512_cmp_ps_mask(high, high, _CMP_UNORD_Q),
                                    _mm512_cmp_ps_mask(low, low, _CMP_UNORD_Q));
    __m512i rounded = _mm512_mask_add_epi16(upper, up, upper, one);
    return _mm512_mask_mov_epi16(rounded, nan,
                                 _mm512_or_si512(upper, _mm512_set1_epi16(0x40)));
}

#    define NARROWING_STEP(name, size, load, convert)                       \
        INLINE void name(const char *src, char *dst, int stream, tops *top) \
        {                                                                   \
            __m512 low = load(src), high = load(src + 16 * (size));         \
            gather_top(low, top);                                           \
            gather_top(high, top);                                          \
            store(dst, convert(low, high), stream);                         \
        }

NARROWING_STEP(step_f64_f16, 8, load_f64, to_f16)
NARROWING_STEP(step_f64_bf16, 8, load_f64, to_bf16)
NARROWING_STEP(step_f32_f16, 4, load_f32, to_f16)
NARROWING_STEP(step_f32_bf16, 4, load_f32, to_bf16)

INLINE void
step_f64_f32(const char *src, char *dst, int stream, tops *top)
{
    for (int i = 0; i < STEP; i += 16) {
        const char *at = src + 8 * i;
        __m512 narrow = join(_mm512_cvtpd_ps(_mm512_loadu_pd((const void *)at)),
                             _mm512_cvtpd_ps(_mm512_loadu_pd((const void *)(at + 64))));
        gather_top(narrow, top);
        store(dst + 4 * i, _mm512_castps_si512(narrow), stream);
    }
}

INLINE void
step_f16_f32(const char *src, char *dst, int stream, tops *top)
{
    (void)top;
    for (int i = 0; i < STEP; i += 16) {
        __m512 wide = _mm512_cvtph_ps(load_halves(src + 2 * i));
        store(dst + 4 * i, _mm512_castps_si512(wide), stream);
    }
}

INLINE void
step_bf16_f32(const char *src, char *dst, int stream, tops *top)
{
    (void)top;
    for (int i = 0; i < STEP; i += 16) {
        __m512i words = _mm512_cvtepu16_epi32(load_halves(src + 2 * i));
        __m512i bits = _mm512_slli_epi32(words, 16);
        __m512 value = _mm512_castsi512_ps(bits);
        __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
        bits = _mm512_mask_or_epi32(bits, nan, bits, _mm512_set1_epi32(0x400000));
        store(dst + 4 * i, bits, stream);
    }
}

#    define TABLE tb_float_kernels_avx512
#    include "core/cast/levels/half_level.inc.h"

#endif
