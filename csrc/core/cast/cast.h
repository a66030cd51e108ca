/* Checked conversion between element types: a value is either held by the output type
 * or it is an error. Only narrowing a float rounds. */
#ifndef TB_CAST_H
#define TB_CAST_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/cast/type.h"

/* 1 where |value| has a significand of at most `bits` bits (1 to 63), so that a float
 * with that many bits holds it exactly if the exponent fits: |value| without its
 * trailing zeros is below 2**bits. */
static inline int
tb_fits_significand(uint64_t magnitude, int bits)
{
    uint64_t lowest_bit = magnitude & (~magnitude + 1);
    return magnitude == 0 || (magnitude >> bits) < lowest_bit;
}

/* Converts n elements of any type but TB_NUMPY_ONLY. Bools and integers are converted
 * to every type, floats to floats, with the bits of float_bits.h. Callers refuse floats
 * for integers. `src` and `dst` are aligned and do not overlap. On an error *bad is the
 * first element refused: those before it have been written, those after it may or may
 * not have been. */
TB_MUST_CHECK tb_status tb_cast_elements(tb_type from, tb_type to, const void *src,
                                         ptrdiff_t n, void *dst, ptrdiff_t *bad);

#endif
