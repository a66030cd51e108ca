/*
 * AVX2 and F16C. VCVTPS2PH takes its rounding from the instruction, ignores
 * flush-to-zero and denormals-are-zero, quiets NaN and keeps the top of its payload.
 */
#include "core/base/macros.h"

#if TB_X86

#    include "core/cast/levels/half_kernels.h"

#    include <immintrin.h>
#    include <string.h>

#    define TARGET TB_TARGET("avx2,f16c")
#    define INLINE TARGET static TB_ALWAYS_INLINE

enum { STEP = 16 };

typedef __m256i tops;

INLINE tops
no_tops(void)
{
    return _mm256_setzero_si256();
}

/* Magnitudes are compared as integers, which orders them, NaN on top. */
INLINE void
gather_top(__m256 value, tops *top)
{
    __m256i magnitude =
        _mm256_and_si256(_mm256_castps_si256(value), _mm256_set1_epi32(0x7fffffff));
    *top = _mm256_max_epu32(*top, magnitude);
}

INLINE uint32_t
highest_top(tops top)
{
    uint32_t lanes[8], highest = 0;

    _mm256_storeu_si256((__m256i *)(void *)lanes, top);
    for (int i = 0; i < 8; i++) {
        highest = lanes[i] > highest ? lanes[i] : highest;
    }
    return highest;
}

INLINE void
store(char *dst, __m256i value, int stream)
{
    if (stream) {
        _mm256_stream_si256((__m256i *)(void *)dst, value);
    }
    else {
        _mm256_storeu_si256((__m256i *)(void *)dst, value);
    }
}

INLINE __m256
load_f32(const char *src)
{
    return _mm256_loadu_ps((const float *)(const void *)src);
}

INLINE __m256i
load_halves(const char *src)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)src);
}

/*
 * Four float64 to float32, rounded to odd: cut off, and the last bit set where that
 * lost something. Rounded once more, to two bits fewer or less, it is as if it had been
 * rounded once (S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded
 * sums: proved algorithms using rounding to odd", 2008). The mode is toward zero here.
 */
INLINE __m128
round_to_odd(const char *src)
{
    __m256d value = _mm256_loadu_pd((const double *)(const void *)src);
    __m128 cut = _mm256_cvtpd_ps(value);
    __m256 lost =
        _mm256_castpd_ps(_mm256_cmp_pd(_mm256_cvtps_pd(cut), value, _CMP_NEQ_OQ));
    __m128 lost_words = _mm_shuffle_ps(_mm256_castps256_ps128(lost),
                                       _mm256_extractf128_ps(lost, 1), 0x88);
    __m128i last = _mm_and_si128(_mm_castps_si128(lost_words), _mm_set1_epi32(1));
    return _mm_castsi128_ps(_mm_or_si128(_mm_castps_si128(cut), last));
}

INLINE __m256
load_f64(const char *src)
{
    return _mm256_set_m128(round_to_odd(src + 32), round_to_odd(src));
}

INLINE __m256i
to_f16(__m256 low, __m256 high)
{
    return _mm256_set_m128i(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
}

/* Each word's upper half, rounded; VCVTNEPS2BF16 would flush subnormal numbers. */
INLINE __m256i
round_bf16(__m256 value)
{
    __m256i bits = _mm256_castps_si256(value);
    __m256i upper = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(rounded, quiet, nan);
}

INLINE __m256i
to_bf16(__m256 low, __m256 high)
{
    __m256i packed = _mm256_packus_epi32(round_bf16(low), round_bf16(high));
    return _mm256_permute4x64_epi64(packed, 0xd8); /* packing goes by 128 bits */
}

#    define NARROWING_STEP(name, size, load, convert)                       \
        INLINE void name(const char *src, char *dst, int stream, tops *top) \
        {                                                                   \
            __m256 low = load(src), high = load(src + 8 * (size));          \
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
    for (int i = 0; i < 16; i += 8) {
        const double *values = (const double *)(const void *)(src + 8 * i);
        __m256 narrow = _mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd(values + 4)),
                                        _mm256_cvtpd_ps(_mm256_loadu_pd(values)));
        gather_top(narrow, top);
        store(dst + 4 * i, _mm256_castps_si256(narrow), stream);
    }
}

INLINE void
step_f16_f32(const char *src, char *dst, int stream, tops *top)
{
    __m256i halves = load_halves(src);

    (void)top;
    store(dst, _mm256_castps_si256(_mm256_cvtph_ps(_mm256_castsi256_si128(halves))),
          stream);
    store(dst + 32,
          _mm256_castps_si256(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))),
          stream);
}

INLINE __m256i
widen_bf16(__m128i halves)
{
    __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
    __m256 value = _mm256_castsi256_ps(bits);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    return _mm256_or_si256(bits, _mm256_and_si256(nan, _mm256_set1_epi32(0x400000)));
}

INLINE void
step_bf16_f32(const char *src, char *dst, int stream, tops *top)
{
    __m256i halves = load_halves(src);

    (void)top;
    store(dst, widen_bf16(_mm256_castsi256_si128(halves)), stream);
    store(dst + 32, widen_bf16(_mm256_extracti128_si256(halves, 1)), stream);
}

#    define TABLE tb_float_kernels_avx2
#    include "core/cast/levels/half_level.inc.h"

#endif
