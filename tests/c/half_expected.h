/*
 * What conversion to a half type must give, from the meaning of the bits alone: each
 * half value, decoded with ldexp, owns the numbers up to the midpoints between it and
 * its neighbours, and a midpoint belongs to the even one of the two.
 */
#ifndef TB_HALF_EXPECTED_H
#define TB_HALF_EXPECTED_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const char *name;
    int fraction;
    int bias;
    uint16_t infinity;
} half_format;

static const half_format f16_format = {"float16", 10, 15, 0x7c00};
static const half_format bf16_format = {"bfloat16", 7, 127, 0x7f80};

/* The value of a magnitude below infinity's; infinity's is what would come next. */
static inline double
half_value(half_format format, unsigned magnitude)
{
    int exponent = (int)(magnitude >> format.fraction);
    int one = 1 << format.fraction;
    int digits = (int)magnitude & (one - 1);

    return exponent == 0
               ? ldexp(digits, 1 - format.bias - format.fraction)
               : ldexp(one + digits, exponent - format.bias - format.fraction);
}

/* Halfway from a magnitude to the next; exact. */
static inline double
half_midpoint(half_format format, unsigned magnitude)
{
    return (half_value(format, magnitude) + half_value(format, magnitude + 1)) / 2;
}

/* The magnitude to which a number that is not negative nor NaN is rounded. */
static inline uint16_t
half_nearest(half_format format, double value)
{
    unsigned low = 0, high = format.infinity;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        double end = half_midpoint(format, middle);
        if (value < end || (value == end && middle % 2 == 0)) {
            high = middle;
        }
        else {
            low = middle + 1;
        }
    }
    return (uint16_t)low;
}

static inline double
double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float
float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t
bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline uint32_t
bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Of NaN: the sign, the top of the payload, and the quiet bit. */
static inline uint16_t
half_nan(half_format format, uint64_t bits, int width, int fraction)
{
    uint64_t payload = bits & (((uint64_t)1 << fraction) - 1);
    return (uint16_t)(bits >> (width - 1) << 15 | format.infinity |
                      payload >> (fraction - format.fraction) |
                      1u << (format.fraction - 1));
}

static inline uint16_t
half_of_float(half_format format, uint32_t bits)
{
    float value = float_of(bits & 0x7fffffff);
    return isnan(value)
               ? half_nan(format, bits, 32, 23)
               : (uint16_t)(bits >> 16 & 0x8000) | half_nearest(format, (double)value);
}

static inline uint16_t
half_of_double(half_format format, uint64_t bits)
{
    double value = double_of(bits & INT64_MAX);
    return isnan(value) ? half_nan(format, bits, 64, 52)
                        : (uint16_t)(bits >> 48 & 0x8000) | half_nearest(format, value);
}

#endif
