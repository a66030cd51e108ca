/* The loops of tokens.c for AVX2. */
#include "core/layout/levels/token_loops.h"

#if TB_X86
#    include <immintrin.h>

#    define TARGET TB_TARGET("avx2")

TARGET static inline __m256i
load(const void *tokens, int vector)
{
    return _mm256_loadu_si256((const __m256i *)tokens + vector);
}

TARGET static inline uint64_t
bits_of(__m256i bytes)
{
    return (uint32_t)_mm256_movemask_epi8(bytes);
}

TARGET static uint64_t
match_8(const void *tokens, uint64_t value)
{
    __m256i wanted = _mm256_set1_epi8((char)value);

    return bits_of(_mm256_cmpeq_epi8(load(tokens, 0), wanted)) |
           bits_of(_mm256_cmpeq_epi8(load(tokens, 1), wanted)) << 32;
}

/* A byte for each of 32 elements. packs works within halves of a register: the quarters
 * come out as 0 2 1 3. */
TARGET static inline __m256i
match_32_shorts(const void *tokens, int vector, __m256i wanted)
{
    __m256i a = _mm256_cmpeq_epi16(load(tokens, vector), wanted);
    __m256i b = _mm256_cmpeq_epi16(load(tokens, vector + 1), wanted);

    return _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
}

TARGET static uint64_t
match_16(const void *tokens, uint64_t value)
{
    __m256i wanted = _mm256_set1_epi16((short)value);

    return bits_of(match_32_shorts(tokens, 0, wanted)) |
           bits_of(match_32_shorts(tokens, 2, wanted)) << 32;
}

TARGET static uint64_t
match_32(const void *tokens, uint64_t value)
{
    __m256i wanted = _mm256_set1_epi32((int)value);
    uint64_t bits = 0;

    for (int i = 0; i < 8; i++) {
        __m256i equal = _mm256_cmpeq_epi32(load(tokens, i), wanted);
        bits |= (uint64_t)_mm256_movemask_ps(_mm256_castsi256_ps(equal)) << 8 * i;
    }
    return bits;
}

TARGET static uint64_t
match_64(const void *tokens, uint64_t value)
{
    __m256i wanted = _mm256_set1_epi64x((int64_t)value);
    uint64_t bits = 0;

    for (int i = 0; i < 16; i++) {
        __m256i equal = _mm256_cmpeq_epi64(load(tokens, i), wanted);
        bits |= (uint64_t)_mm256_movemask_pd(_mm256_castsi256_pd(equal)) << 4 * i;
    }
    return bits;
}

const tb_token_loops tb_token_loops_avx2 = {{match_8, match_16, match_32, match_64}};
#endif
