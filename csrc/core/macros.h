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
#    define TB_RESTRICT __restrict
#else
#    define TB_RESTRICT restrict
#endif

#endif
