#include "cast.h"

#include <math.h>
#include <string.h>

#define SRC int8_t
#define FROM i8
#include "cast_int.inc.h"

#define SRC int16_t
#define FROM i16
#include "cast_int.inc.h"

#define SRC int32_t
#define FROM i32
#include "cast_int.inc.h"

#define SRC int64_t
#define FROM i64
#include "cast_int.inc.h"

#define SRC uint8_t
#define FROM u8
#include "cast_int.inc.h"

#define SRC uint16_t
#define FROM u16
#include "cast_int.inc.h"

#define SRC uint32_t
#define FROM u32
#include "cast_int.inc.h"

#define SRC uint64_t
#define FROM u64
#include "cast_int.inc.h"

static ptrdiff_t
cast_f32_f64(const void *from, ptrdiff_t n, void *out)
{
    const float *TB_RESTRICT src = (const float *)from;
    double *TB_RESTRICT dst = (double *)out;

    for (ptrdiff_t i = 0; i < n; i++) {
        dst[i] = (double)src[i];
    }
    return n;
}

static ptrdiff_t
cast_f64_f32(const void *from, ptrdiff_t n, void *out)
{
    const double *TB_RESTRICT src = (const double *)from;
    float *TB_RESTRICT dst = (float *)out;

    for (ptrdiff_t i = 0; i < n; i++) {
        dst[i] = (float)src[i];
        if (isinf(dst[i]) && !isinf(src[i])) {
            return i;
        }
    }
    return n;
}

typedef ptrdiff_t (*cast_function)(const void *from, ptrdiff_t n, void *out);

#define TO_ALL(from)                                                              \
    {cast_##from##_bool, cast_##from##_i8,  cast_##from##_i16, cast_##from##_i32, \
     cast_##from##_i64,  cast_##from##_u8,  cast_##from##_u16, cast_##from##_u32, \
     cast_##from##_u64,  cast_##from##_f32, cast_##from##_f64}

/* In the order of tb_type. A bool is read as the byte that it is. */
static const cast_function casts[TB_F64 + 1][TB_F64 + 1] = {
    TO_ALL(u8),
    TO_ALL(i8),
    TO_ALL(i16),
    TO_ALL(i32),
    TO_ALL(i64),
    TO_ALL(u8),
    TO_ALL(u16),
    TO_ALL(u32),
    TO_ALL(u64),
    {[TB_F64] = cast_f32_f64},
    {[TB_F32] = cast_f64_f32},
};

int
tb_type_size(tb_type type)
{
    static const unsigned char sizes[TB_OTHER] = {1, 1, 2, 4, 8, 1, 2,
                                                  4, 8, 4, 8, 2, 2};
    return sizes[type];
}

tb_status
tb_cast_elements(tb_type from, tb_type to, const void *src, ptrdiff_t n, void *dst,
                 ptrdiff_t *bad)
{
    if (n == 0) {
        return TB_OK;
    }
    if (from == to) {
        memcpy(dst, src, (size_t)n * (size_t)tb_type_size(to));
        return TB_OK;
    }
    ptrdiff_t done = casts[from][to](src, n, dst);
    if (done == n) {
        return TB_OK;
    }
    *bad = done;
    if (to < TB_F32) {
        return TB_ERR_RANGE;
    }
    return from < TB_F32 ? TB_ERR_INEXACT : TB_ERR_OVERFLOW;
}
