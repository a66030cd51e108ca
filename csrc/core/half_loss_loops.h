/* What half_loss.c has a version of for every level: private to it. */
#ifndef TB_HALF_LOSS_LOOPS_H
#define TB_HALF_LOSS_LOOPS_H

#include "half_loss.h"

#include <float.h>
#include <math.h>
#include <string.h>

TB_NO_CONTRACTION

/* Numbers that are looked at together, a power of two; and counted together. */
enum { TB_LOSS_BLOCK = 256, TB_LOSS_COUNTED = 2048 };

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

typedef struct {
    /* 0: there are numbers among them that it does not count right. */
    int (*count_common)(const char *src, ptrdiff_t n, tb_common_counts *counts);
    void (*measure_errors)(const double *values, const float *given, int digits,
                           int lowest, tb_half_loss *loss);
} tb_loss_loops;

extern const tb_loss_loops tb_loss_loops_scalar;
extern const tb_loss_loops tb_loss_loops_avx2;
extern const tb_loss_loops tb_loss_loops_avx512;

#endif
