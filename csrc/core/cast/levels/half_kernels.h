/* The kernels of each level, for half.c alone. */
#ifndef TB_HALF_KERNELS_H
#define TB_HALF_KERNELS_H

#include "core/cast/float_bits.h"
#include "core/cast/type.h"

#include <stddef.h>

/* Converts n elements; with `stream`, past the caches as far as lines allow. Answers
 * whether a magnitude reaches what overflows in the narrower type: finite, infinite or
 * NaN. */
typedef int (*tb_float_kernel)(const void *src, ptrdiff_t n, void *dst, int stream);

/* By pair of types, from TB_F32 up. NULL: half.c combines two other kernels. */
enum { TB_FLOAT_TYPES = TB_BF16 - TB_F32 + 1 };
typedef tb_float_kernel tb_float_kernels[TB_FLOAT_TYPES * TB_FLOAT_TYPES];

#define TB_FLOAT_PAIR(from, to) (((from) - TB_F32) * TB_FLOAT_TYPES + (to) - TB_F32)

extern const tb_float_kernels tb_float_kernels_avx2;
extern const tb_float_kernels tb_float_kernels_avx512;
extern const tb_float_kernels tb_float_kernels_neon;

#endif
