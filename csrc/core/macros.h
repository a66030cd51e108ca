/* The one place for what differs between compilers. Everything else is plain C11. */
#ifndef TB_MACROS_H
#define TB_MACROS_H

#if defined(__GNUC__) || defined(__clang__)
#    define TB_LIKELY(x) __builtin_expect(!!(x), 1)
#    define TB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#    define TB_MUST_CHECK __attribute__((warn_unused_result))
#    define TB_PREFETCH(p) __builtin_prefetch(p)
#else
#    define TB_LIKELY(x) (x)
#    define TB_UNLIKELY(x) (x)
#    define TB_MUST_CHECK
#    define TB_PREFETCH(p) ((void)0)
#endif

#if defined(_MSC_VER)
#    include <intrin.h>
#    define TB_RESTRICT __restrict
#else
#    define TB_RESTRICT restrict
#endif

#include <stdint.h>

/* The place of the lowest bit that is set; word is not 0. */
static inline int
tb_find_lowest_bit(uint64_t word)
{
#if defined(_MSC_VER) && !defined(__clang__)
    unsigned long place = 0;
    (void)_BitScanForward64(&place, word);
    return (int)place;
#else
    return __builtin_ctzll(word);
#endif
}

#endif
