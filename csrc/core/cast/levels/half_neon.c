/*
 * NEON, which every AArch64 processor has. FCVTN and FCVTL round as FPCR says and are
 * run under the one of fp_state.h: to nearest, subnormal numbers kept, the payloads of
 * NaN too, halves as in IEEE 754. FCVTXN rounds to odd whatever FPCR says. Nothing is
 * streamed: what passes the caches by here (STNP) is a hint alone.
 */
#include "core/base/macros.h"

#if TB_ARM64

#    include "core/cast/levels/half_kernels.h"

#    include <arm_neon.h>
#    include <string.h>

#    define TARGET
#    define INLINE TARGET static TB_ALWAYS_INLINE

enum { STEP = 16 };

typedef uint32x4_t tops;

/* What a narrowing step reads. */
typedef struct {
    float32x4_t quarters[4];
} floats;

INLINE tops
no_tops(void)
{
    return vdupq_n_u32(0);
}

INLINE uint32x4_t
magnitude_of(float32x4_t value)
{
    return vandq_u32(vreinterpretq_u32_f32(value), vdupq_n_u32(0x7fffffff));
}

/* Magnitudes are compared as integers, which orders them, NaN on top. In a tree: from
 * one step to the next `top` waits for one instruction. */
INLINE void
gather_top(floats value, tops *top)
{
    uint32x4_t low =
        vmaxq_u32(magnitude_of(value.quarters[0]), magnitude_of(value.quarters[1]));
    uint32x4_t high =
        vmaxq_u32(magnitude_of(value.quarters[2]), magnitude_of(value.quarters[3]));
    *top = vmaxq_u32(*top, vmaxq_u32(low, high));
}

INLINE uint32_t
highest_top(tops top)
{
    return vmaxvq_u32(top);
}

/* As bytes, which need no alignment. */
INLINE uint8x16_t
load(const char *src)
{
    return vld1q_u8((const uint8_t *)src);
}

INLINE void
store(char *dst, uint8x16_t value)
{
    vst1q_u8((uint8_t *)dst, value);
}

INLINE float32x4_t
load_quarter(const char *src)
{
    return vreinterpretq_f32_u8(load(src));
}

INLINE floats
load_f32(const char *src)
{
    return (floats){{load_quarter(src), load_quarter(src + 16), load_quarter(src + 32),
                     load_quarter(src + 48)}};
}

INLINE float32x4_t
round_to_odd(const char *src)
{
    float64x2_t low = vreinterpretq_f64_u8(load(src));
    float64x2_t high = vreinterpretq_f64_u8(load(src + 16));
    return vcvtx_high_f32_f64(vcvtx_f32_f64(low), high);
}

/* Rounded to odd, and then to two bits fewer or less, a number is as if it had been
 * rounded once: see half_avx2.c. */
INLINE floats
load_f64(const char *src)
{
    return (floats){{round_to_odd(src), round_to_odd(src + 32), round_to_odd(src + 64),
                     round_to_odd(src + 96)}};
}

INLINE uint16x8_t
to_f16(float32x4_t low, float32x4_t high)
{
    return vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(low), high));
}

INLINE uint32x4_t
is_nan(float32x4_t value)
{
    return vcgtq_u32(magnitude_of(value), vdupq_n_u32(0x7f800000));
}

/* The upper halves of the words, and one more where the lower half is above the middle,
 * or in it and the upper one is odd. */
INLINE uint16x8_t
to_bf16(float32x4_t low, float32x4_t high)
{
    uint16x8_t low_halves = vreinterpretq_u16_f32(low);
    uint16x8_t high_halves = vreinterpretq_u16_f32(high);
    uint16x8_t upper = vuzp2q_u16(low_halves, high_halves);
    uint16x8_t lower = vuzp1q_u16(low_halves, high_halves);
    uint16x8_t odd = vandq_u16(upper, vdupq_n_u16(1));
    uint16x8_t up = vcgtq_u16(vqaddq_u16(lower, odd), vdupq_n_u16(0x8000));
    uint16x8_t rounded = vsubq_u16(upper, up); /* where true, all ones: -1 */
    uint16x8_t nan = vuzp1q_u16(vreinterpretq_u16_u32(is_nan(low)),
                                vreinterpretq_u16_u32(is_nan(high)));
    uint16x8_t quiet = vorrq_u16(upper, vdupq_n_u16(0x40));
    return vbslq_u16(nan, quiet, rounded);
}

#    define NARROWING_STEP(name, load_16, convert)                           \
        INLINE void name(const char *src, char *dst, int stream, tops *top)  \
        {                                                                    \
            floats value = load_16(src);                                     \
            uint16x8_t low = convert(value.quarters[0], value.quarters[1]);  \
            uint16x8_t high = convert(value.quarters[2], value.quarters[3]); \
            (void)stream;                                                    \
            gather_top(value, top);                                          \
            store(dst, vreinterpretq_u8_u16(low));                           \
            store(dst + 16, vreinterpretq_u8_u16(high));                     \
        }

NARROWING_STEP(step_f64_f16, load_f64, to_f16)
NARROWING_STEP(step_f64_bf16, load_f64, to_bf16)
NARROWING_STEP(step_f32_f16, load_f32, to_f16)
NARROWING_STEP(step_f32_bf16, load_f32, to_bf16)

INLINE float32x4_t
round_to_nearest(const char *src)
{
    float64x2_t low = vreinterpretq_f64_u8(load(src));
    float64x2_t high = vreinterpretq_f64_u8(load(src + 16));
    return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
}

INLINE void
step_f64_f32(const char *src, char *dst, int stream, tops *top)
{
    floats value = {{round_to_nearest(src), round_to_nearest(src + 32),
                     round_to_nearest(src + 64), round_to_nearest(src + 96)}};

    (void)stream;
    gather_top(value, top);
    store(dst, vreinterpretq_u8_f32(value.quarters[0]));
    store(dst + 16, vreinterpretq_u8_f32(value.quarters[1]));
    store(dst + 32, vreinterpretq_u8_f32(value.quarters[2]));
    store(dst + 48, vreinterpretq_u8_f32(value.quarters[3]));
}

INLINE void
widen_f16(const char *src, char *dst)
{
    uint8x16_t halves = load(src);
    float32x4_t low = vcvt_f32_f16(vreinterpret_f16_u8(vget_low_u8(halves)));
    float32x4_t high = vcvt_high_f32_f16(vreinterpretq_f16_u8(halves));

    store(dst, vreinterpretq_u8_f32(low));
    store(dst + 16, vreinterpretq_u8_f32(high));
}

INLINE void
widen_bf16(const char *src, char *dst)
{
    uint16x8_t halves = vreinterpretq_u16_u8(load(src));
    uint16x8_t magnitude = vandq_u16(halves, vdupq_n_u16(0x7fff));
    uint16x8_t nan = vcgtq_u16(magnitude, vdupq_n_u16(0x7f80));
    uint16x8_t quiet = vorrq_u16(halves, vandq_u16(nan, vdupq_n_u16(0x40)));

    store(dst, vreinterpretq_u8_u16(vzip1q_u16(vdupq_n_u16(0), quiet)));
    store(dst + 16, vreinterpretq_u8_u16(vzip2q_u16(vdupq_n_u16(0), quiet)));
}

#    define WIDENING_STEP(name, widen)                                      \
        INLINE void name(const char *src, char *dst, int stream, tops *top) \
        {                                                                   \
            (void)stream;                                                   \
            (void)top;                                                      \
            widen(src, dst);                                                \
            widen(src + 16, dst + 32);                                      \
        }

WIDENING_STEP(step_f16_f32, widen_f16)
WIDENING_STEP(step_bf16_f32, widen_bf16)

#    define TABLE tb_float_kernels_neon
#    include "core/cast/levels/half_level.inc.h"

#endif
