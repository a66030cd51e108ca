/* The one place for what differs between compilers. Everything else is plain C11. */
#ifndef TB_MACROS_H
#define TB_MACROS_H

/* TB_TARGET("avx2,f16c"): code for processors that have these, in a file that is
 * compiled for all; MSVC compiles every intrinsic everywhere. */
#if defined(__GNUC__) || defined(__clang__)
#    define TB_TARGET(features) __attribute__((target(features)))
#    define TB_ALWAYS_INLINE __attribute__((always_inline)) inline
#    define TB_LIKELY(x) __builtin_expect(!!(x), 1)
#    define TB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#    define TB_MUST_CHECK __attribute__((warn_unused_result))
#    define TB_PREFETCH(p) __builtin_prefetch(p)
#else
#    define TB_TARGET(features)
#    define TB_ALWAYS_INLINE __forceinline
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

#if defined(__x86_64__) || defined(_M_X64)
#    define TB_X86 1
#else
#    define TB_X86 0
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#    define TB_ARM64 1
#else
#    define TB_ARM64 0
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
