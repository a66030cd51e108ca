/*
 * What each conversion between floating types gives, computed with integers, so that it
 * depends neither on the rounding mode, nor on flush-to-zero, nor on the processor:
 *
 *     to nearest, ties to even; rounded once
 *     from half a step above the largest finite value on: infinity
 *     subnormal numbers are kept
 *     NaN: its sign and the top of its payload, made quiet; never infinity
 *
 * The kernels of every level give these bits.
 *
 *          sign exponent fraction          bias
 *     f64    1     11       52    (64 bits) 1023
 *     f32    1      8       23    (32 bits)  127
 *     bf16   1      8        7    (16 bits)  127
 *     f16    1      5       10    (16 bits)   15
 */
#ifndef TB_FLOAT_BITS_H
#define TB_FLOAT_BITS_H

#include <stdint.h>

typedef struct {
    int bits;
    int fraction;
    int bias;
} tb_float_format;

#define TB_FORMAT_F64 ((tb_float_format){64, 52, 1023})
#define TB_FORMAT_F32 ((tb_float_format){32, 23, 127})
#define TB_FORMAT_BF16 ((tb_float_format){16, 7, 127})
#define TB_FORMAT_F16 ((tb_float_format){16, 10, 15})

static inline uint64_t
tb_magnitude_mask(tb_float_format format)
{
    return (((uint64_t)1 << (format.bits - 1)) - 1);
}

/* The magnitude that infinity has: exponent all ones, fraction zero. */
static inline uint64_t
tb_infinity(tb_float_format format)
{
    return tb_magnitude_mask(format) >> format.fraction << format.fraction;
}

static inline uint64_t
tb_quiet_nan(uint64_t payload, tb_float_format format)
{
    return tb_infinity(format) | payload | (uint64_t)1 << (format.fraction - 1);
}

/* value / 2**shift, to nearest, ties to even; shift from 1 to 63. */
static inline uint64_t
tb_round_shift(uint64_t value, int shift)
{
    uint64_t below_half = ((uint64_t)1 << (shift - 1)) - 1;
    return (value + below_half + (value >> shift & 1)) >> shift;
}

/* The smallest magnitude, above all finite ones of `to`, that rounds to infinity: the
 * largest finite one and half a step. */
static inline uint64_t
tb_overflow_from(tb_float_format from, tb_float_format to)
{
    int shift = from.fraction - to.fraction;
    uint64_t largest = (tb_infinity(to) - 1) << shift | (uint64_t)1 << (shift - 1);
    return largest + ((uint64_t)(from.bias - to.bias) << from.fraction);
}

/* x of the wider format `from` as bits of `to`. */
static inline uint64_t
tb_narrow_bits(uint64_t x, tb_float_format from, tb_float_format to)
{
    uint64_t magnitude = x & tb_magnitude_mask(from);
    uint64_t sign = x >> (from.bits - 1) << (to.bits - 1);
    uint64_t one = (uint64_t)1 << from.fraction;
    int shift = from.fraction - to.fraction, rebias = from.bias - to.bias;
    int exponent = (int)(magnitude >> from.fraction);
    uint64_t rounded;

    if (magnitude > tb_infinity(from)) {
        rounded = tb_quiet_nan((magnitude & (one - 1)) >> shift, to);
    }
    else if (exponent > rebias) {
        rounded =
            tb_round_shift(magnitude - ((uint64_t)rebias << from.fraction), shift);
        rounded = rounded > tb_infinity(to) ? tb_infinity(to) : rounded;
    }
    else {
        /* Below the smallest normal number of `to`. Past the last shift less than half
         * of its smallest number is left. */
        uint64_t significand = (magnitude & (one - 1)) | (exponent > 0 ? one : 0);
        int down = shift + rebias + 1 - (exponent > 0 ? exponent : 1);
        rounded = down > from.fraction + 1 ? 0 : tb_round_shift(significand, down);
    }
    return sign | rounded;
}

/* x of the narrower format `from` as bits of `to`: exact. */
static inline uint64_t
tb_widen_bits(uint64_t x, tb_float_format from, tb_float_format to)
{
    uint64_t magnitude = x & tb_magnitude_mask(from);
    uint64_t sign = x >> (from.bits - 1) << (to.bits - 1);
    uint64_t one = (uint64_t)1 << from.fraction;
    int shift = to.fraction - from.fraction, rebias = to.bias - from.bias;

    if (magnitude > tb_infinity(from)) {
        return sign | tb_quiet_nan((magnitude & (one - 1)) << shift, to);
    }
    if (magnitude == tb_infinity(from)) {
        return sign | tb_infinity(to);
    }
    if (rebias > 0 && magnitude < one) {
        /* A subnormal number, normal in `to`: its leading bit becomes the implicit one.
         */
        if (magnitude == 0) {
            return sign;
        }
        for (rebias++; magnitude < one; rebias--) {
            magnitude <<= 1;
        }
        magnitude -= one;
    }
    return sign | ((magnitude << shift) + ((uint64_t)rebias << to.fraction));
}

#endif
