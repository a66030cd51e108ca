/*
 * Conversion between float64, float32, float16 and bfloat16: the bits of float_bits.h,
 * as fast as memory allows. Each instruction set, or level, has kernels of its own.
 */
#ifndef TB_HALF_H
#define TB_HALF_H

#include "core/cast/cpu.h"
#include "core/cast/type.h"

#include <stddef.h>
#include <stdint.h>

/* Finite values that became infinite (or, saturated, the largest finite one). */
typedef struct {
    ptrdiff_t count;
    ptrdiff_t first; /* the place of the first of them; -1: none */
} tb_overflow;

typedef enum {
    TB_OVERFLOW_INFINITY,
    TB_OVERFLOW_SATURATE,
    TB_OVERFLOW_STOP, /* stops after the block that has the first one */
} tb_overflow_rule;

/* Converts n elements of one floating type to another; the same type is copied. Neither
 * `src` nor `dst` need be aligned; they do not overlap. */
void tb_convert_floats(tb_type from, tb_type to, const void *src, ptrdiff_t n,
                       void *dst, tb_overflow_rule rule, tb_overflow *overflow);

/* The same without converting: which would overflow. */
void tb_find_overflow(tb_type from, tb_type to, const void *src, ptrdiff_t n,
                      tb_overflow *overflow);

/* Whether the level's kernels are compiled, and this processor can run them. */
int tb_level_available(tb_level level);

/* Uses this level from now on. It must be available. */
void tb_use_level(tb_level level);

tb_level tb_level_used(void);

#endif
