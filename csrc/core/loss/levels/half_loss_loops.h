/* The loops that have a version for each level, for half_loss.c alone. */
#ifndef TB_HALF_LOSS_LOOPS_H
#define TB_HALF_LOSS_LOOPS_H

#include "core/base/macros.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

TB_NO_CONTRACTION

/* Numbers that are looked at together, a power of two; and counted together. */
enum { TB_LOSS_BLOCK = 512, TB_LOSS_COUNTED = 4096 };

/* Magnitudes as float32 bits: what is halfway to the smallest normal number is already
 * rounded to it, what is halfway to the smallest number is flushed. */
enum {
    TB_F16_FLUSHED_UP_TO = 0x33000000,
    TB_F16_NORMAL_FROM = 0x387ff000,
    TB_F16_OVERFLOW_FROM = 0x477ff000,
    TB_BF16_NORMAL_FROM = 0x007f8000,
};

typedef struct {
    uint32_t highest; /* magnitude */
    uint32_t lowest;  /* the least magnitude above zero, less 1 */
    uint32_t flushed;
    uint32_t subnormal;
    uint32_t f16_exact;
    uint32_t bf16_exact;
} tb_common_counts;

/* A block's errors, in lanes that are still to be brought together. */
enum { TB_LANES = 8 };

typedef struct {
    double signal[TB_LANES];   /* sums of squares */
    double noise[TB_LANES];    /* sums of squares */
    double absolute[TB_LANES]; /* maxima */
    double steps[TB_LANES];    /* maxima, times 2**(1 - exponent) of the result */
} tb_errors;

typedef struct {
    int64_t exact;
    int64_t overflowed;
    int64_t flushed;
    int64_t subnormal;
} tb_half_counts;

typedef struct {
    int64_t nan;
    int64_t infinite;
    double largest;  /* finite; 0: none */
    double smallest; /* above zero; infinity: none */
} tb_value_counts;

typedef struct {
    /* 0: there are numbers among them that it does not count right. */
    int (*count_common)(const char *src, ptrdiff_t n, tb_common_counts *counts);
    uint32_t (*widen_block)(const float *narrow, double *values);
    /* Of whole blocks; NaN is neither exact nor anything else. */
    void (*count_half)(const double *values, const float *given, double normal,
                       tb_half_counts *counts);
    void (*count_values)(const double *values, tb_value_counts *counts);
    /* Of a block that became `given`, a half type as float32; `lowest` are the bits of
     * its smallest normal number. 1: some relative error may be above `known`. */
    int (*measure_errors)(const double *values, const float *given, uint32_t lowest,
                          double known, tb_errors *errors);
} tb_loss_loops;

extern const tb_loss_loops tb_loss_loops_scalar;
extern const tb_loss_loops tb_loss_loops_avx2;
extern const tb_loss_loops tb_loss_loops_avx512;

#endif
