#include "core/cast/cast.h"

#include "core/cast/half.h"

#include <string.h>

#define SRC int8_t
#define FROM i8
#include "core/cast/cast_int.inc.h"

#define SRC int16_t
#define FROM i16
#include "core/cast/cast_int.inc.h"

#define SRC int32_t
#define FROM i32
#include "core/cast/cast_int.inc.h"

#define SRC int64_t
#define FROM i64
#include "core/cast/cast_int.inc.h"

#define SRC uint8_t
#define FROM u8
#include "core/cast/cast_int.inc.h"

#define SRC uint16_t
#define FROM u16
#include "core/cast/cast_int.inc.h"

#define SRC uint32_t
#define FROM u32
#include "core/cast/cast_int.inc.h"

#define SRC uint64_t
#define FROM u64
#include "core/cast/cast_int.inc.h"

typedef ptrdiff_t (*cast_function)(const void *from, ptrdiff_t n, void *out);

#define TO_ALL(from)                                                              \
    {cast_##from##_bool, cast_##from##_i8,  cast_##from##_i16, cast_##from##_i32, \
     cast_##from##_i64,  cast_##from##_u8,  cast_##from##_u16, cast_##from##_u32, \
     cast_##from##_u64,  cast_##from##_f32, cast_##from##_f64}

/* In the order of tb_type. A bool is read as the byte that it is. Pairs of floats are
 * half.c's. */
static const cast_function casts[TB_U64 + 1][TB_F64 + 1] = {
    TO_ALL(u8), TO_ALL(i8),  TO_ALL(i16), TO_ALL(i32), TO_ALL(i64),
    TO_ALL(u8), TO_ALL(u16), TO_ALL(u32), TO_ALL(u64),
};

/* How many of the first values the half type `to` holds exactly: the bits that its
 * significand lacks are zero. Integers are never subnormal. */
static ptrdiff_t
count_exact(const float *values, ptrdiff_t n, tb_type to)
{
    const uint32_t beyond = to == TB_F16 ? 0x1fff : 0xffff;
    const uint32_t largest = to == TB_F16 ? 0x477fe000 : 0x7f7f0000;
    ptrdiff_t i = 0;

    for (; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if ((bits & beyond) != 0 || (bits & 0x7fffffff) > largest) {
            break;
        }
    }
    return i;
}

/* Through float32, which holds every integer that a half type holds. */
static tb_status
cast_integers_by_f32(tb_type from, tb_type to, const char *src, ptrdiff_t n, char *dst,
                     ptrdiff_t *bad)
{
    enum { CHUNK = 1024 };
    float wide[CHUNK];
    tb_overflow overflow;

    for (ptrdiff_t i = 0; i < n; i += CHUNK) {
        ptrdiff_t count = n - i < CHUNK ? n - i : CHUNK;
        ptrdiff_t held = casts[from][TB_F32](src + i * tb_type_size(from), count, wide);
        ptrdiff_t fits = count_exact(wide, held, to);
        tb_convert_floats(TB_F32, to, wide, fits, dst + i * tb_type_size(to),
                          TB_OVERFLOW_INFINITY, &overflow);
        if (fits < count) {
            *bad = i + fits;
            return TB_ERR_INEXACT;
        }
    }
    return TB_OK;
}

static tb_status
cast_floats(tb_type from, tb_type to, const void *src, ptrdiff_t n, void *dst,
            ptrdiff_t *bad)
{
    tb_overflow overflow;

    tb_convert_floats(from, to, src, n, dst, TB_OVERFLOW_STOP, &overflow);
    if (overflow.count == 0) {
        return TB_OK;
    }
    *bad = overflow.first;
    return TB_ERR_OVERFLOW;
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
    if (tb_type_is_float(from)) {
        return cast_floats(from, to, src, n, dst, bad);
    }
    if (tb_type_is_half(to)) {
        return cast_integers_by_f32(from, to, (const char *)src, n, (char *)dst, bad);
    }
    ptrdiff_t done = casts[from][to](src, n, dst);
    if (done == n) {
        return TB_OK;
    }
    *bad = done;
    return to < TB_F32 ? TB_ERR_RANGE : TB_ERR_INEXACT;
}
