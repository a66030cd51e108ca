/* The loops of tokens.c for AVX-512. */
#include "core/layout/levels/token_loops.h"

#if TB_X86
#    include <immintrin.h>

#    define TARGET TB_TARGET("avx512f,avx512bw,avx512vl")

TARGET static inline __m512i
load(const void *tokens, int vector)
{
    return _mm512_loadu_si512((const __m512i *)tokens + vector);
}

TARGET static uint64_t
match_8(const void *tokens, uint64_t value)
{
    return _mm512_cmpeq_epi8_mask(load(tokens, 0), _mm512_set1_epi8((char)value));
}

TARGET static uint64_t
match_16(const void *tokens, uint64_t value)
{
    __m512i wanted = _mm512_set1_epi16((short)value);

    return (uint64_t)_mm512_cmpeq_epi16_mask(load(tokens, 0), wanted) |
           (uint64_t)_mm512_cmpeq_epi16_mask(load(tokens, 1), wanted) << 32;
}

TARGET static uint64_t
match_32(const void *tokens, uint64_t value)
{
    __m512i wanted = _mm512_set1_epi32((int)value);
    uint64_t bits = 0;

    for (int i = 0; i < 4; i++) {
        bits |= (uint64_t)_mm512_cmpeq_epi32_mask(load(tokens, i), wanted) << 16 * i;
    }
    return bits;
}

TARGET static uint64_t
match_64(const void *tokens, uint64_t value)
{
    __m512i wanted = _mm512_set1_epi64((int64_t)value);
    uint64_t bits = 0;

    for (int i = 0; i < 8; i++) {
        bits |= (uint64_t)_mm512_cmpeq_epi64_mask(load(tokens, i), wanted) << 8 * i;
    }
    return bits;
}

const tb_token_loops tb_token_loops_avx512 = {{match_8, match_16, match_32, match_64}};
#endif
