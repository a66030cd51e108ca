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

/* TB_ATOMIC int x: one thread may write it while others read it. MSVC has C11's atomics
 * only under a switch; there an aligned int is read and written whole. */
#if defined(__STDC_NO_ATOMICS__)
#    define TB_ATOMIC volatile
#else
#    define TB_ATOMIC _Atomic
#endif

#if defined(_MSC_VER)
#    include <intrin.h>
#    define TB_RESTRICT __restrict
#else
#    define TB_RESTRICT restrict
#endif

/* At file scope: a * b + c is rounded twice, on every processor. GCC does so in ISO C.
 */
#if defined(__clang__)
#    define TB_NO_CONTRACTION _Pragma("STDC FP_CONTRACT OFF")
#elif defined(_MSC_VER)
#    define TB_NO_CONTRACTION __pragma(fp_contract(off))
#else
#    define TB_NO_CONTRACTION
#endif

#if defined(__x86_64__) || defined(_M_X64)
#    define TB_X86 1
#else
#    define TB_X86 0
#endif
#if (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(_M_ARM64)
#    define TB_ARM64 1 /* little-endian */
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

#if TB_ARM64

/* The floating-point control and status registers. No access to memory is moved across
 * these, and so no conversion from memory to memory. */
#    if defined(_MSC_VER) && !defined(__clang__)

/* op0 = 3, op1 = 3, CRn = 4, CRm = 4, op2 = 0 and 1; op0 without its upper bit. */
enum { TB_SYSTEM_FPCR = 0x5a20, TB_SYSTEM_FPSR = 0x5a21 };

#        define TB_READ_SYSTEM(name, value) \
            (_ReadWriteBarrier(), *(value) = (uint64_t)_ReadStatusReg(TB_SYSTEM_##name))
#        define TB_WRITE_SYSTEM(name, value)                                           \
            (_ReadWriteBarrier(), _WriteStatusReg(TB_SYSTEM_##name, (__int64)(value)), \
             _ReadWriteBarrier())
#    else
#        define TB_READ_SYSTEM(name, value) \
            __asm__ volatile("mrs %0, " #name : "=r"(*(value)) : : "memory")
#        define TB_WRITE_SYSTEM(name, value) \
            __asm__ volatile("msr " #name ", %0" : : "r"(value) : "memory")
#    endif

static inline uint64_t
tb_get_fpcr(void)
{
    uint64_t value;
    TB_READ_SYSTEM(FPCR, &value);
    return value;
}

static inline void
tb_set_fpcr(uint64_t value)
{
    TB_WRITE_SYSTEM(FPCR, value);
}

static inline uint64_t
tb_get_fpsr(void)
{
    uint64_t value;
    TB_READ_SYSTEM(FPSR, &value);
    return value;
}

static inline void
tb_set_fpsr(uint64_t value)
{
    TB_WRITE_SYSTEM(FPSR, value);
}

#endif

#endif
