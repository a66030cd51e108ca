/*
 * What numbers would lose in float16 and bfloat16, counted and measured in one pass for
 * both types. Sums and maxima are taken in a fixed order (float64, pairwise in blocks),
 * so that every level gives the same bits.
 */
#ifndef TB_HALF_LOSS_H
#define TB_HALF_LOSS_H

#include "core/cast/half.h"

enum {
    TB_LOSS_FIRST = 5, /* places that are kept of each kind */
    /* By binary exponent, -127 (all below 2**-126) to 128 (2**128 and above). */
    TB_LOSS_EXPONENTS = 256,
};

typedef struct {
    int64_t count;
    int64_t first[TB_LOSS_FIRST];
} tb_places;

/* Of one half type. Errors are of the numbers that stay finite. */
typedef struct {
    tb_places overflowed; /* finite numbers that would be infinite */
    tb_places flushed;    /* numbers that would be zero */
    int64_t subnormal;    /* that would have fewer digits than the type's others */
    int64_t exact;
    double signal; /* sum of x**2 */
    double noise;  /* sum of (x - converted)**2 */
    double max_absolute;
    double max_relative; /* |x - converted| / |x| */
    double max_ulp;      /* in steps of the type, where the converted number lies */
} tb_half_loss;

typedef struct {
    int64_t count;
    int64_t zero; /* with TB_LOSS_EXPONENT_COUNTS */
    tb_places nan;
    tb_places infinite;
    double largest;  /* finite magnitude; 0: none */
    double smallest; /* magnitude above zero; infinity: none */
    tb_half_loss f16;
    tb_half_loss bf16;
    tb_half_loss f32;                     /* of float64 alone, and counts alone */
    int64_t exponents[TB_LOSS_EXPONENTS]; /* of finite numbers but zero */
} tb_loss;

enum { TB_LOSS_COUNTS = 0, TB_LOSS_ERRORS = 1, TB_LOSS_EXPONENT_COUNTS = 2 };

void tb_start_loss(tb_loss *loss);

/* Adds n more numbers of a floating type, which need not be aligned. `what` is a sum of
 * the above. */
void tb_add_loss(tb_type type, const void *src, ptrdiff_t n, int what, tb_loss *loss);

#endif
