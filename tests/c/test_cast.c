/* Every pair of types, around every power of two: does the value survive, and is it
 * told when it does not? Expectations come from sign and magnitude alone. */
#include "cast.h"
#include "check.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef union {
    unsigned char bytes[8];
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    float f32;
    double f64;
} element;

/* A value as sign and magnitude, which hold every integer type. */
typedef struct {
    int negative;
    uint64_t magnitude;
} integer;

static integer
limit_low(tb_type type)
{
    int bits = 8 * tb_type_size(type) - 1;
    integer none = {0, 0}, lowest = {1, (uint64_t)1 << bits};
    return type >= TB_I8 && type <= TB_I64 ? lowest : none;
}

static uint64_t
limit_high(tb_type type)
{
    int bits = 8 * tb_type_size(type);
    if (type == TB_BOOL) {
        return 1;
    }
    return type <= TB_I64 ? ((uint64_t)1 << (bits - 1)) - 1 : UINT64_MAX >> (64 - bits);
}

static int
fits(integer value, tb_type type)
{
    if (type == TB_F32 || type == TB_F64) {
        uint64_t odd = value.magnitude;
        while (odd != 0 && odd % 2 == 0) {
            odd /= 2;
        }
        return odd < (uint64_t)1 << (type == TB_F32 ? 24 : 53);
    }
    return value.negative ? value.magnitude <= limit_low(type).magnitude
                          : value.magnitude <= limit_high(type);
}

static element
make(integer value, tb_type type)
{
    element out;
    uint64_t two = value.negative ? ~value.magnitude + 1 : value.magnitude;

    memset(&out, 0, sizeof out);
    switch (tb_type_size(type)) {
        case 1:
            out.u8 = (uint8_t)two;
            break;
        case 2:
            out.u16 = (uint16_t)two;
            break;
        case 4:
            out.u32 = (uint32_t)two;
            break;
        default:
            out.u64 = two;
            break;
    }
    return out;
}

static double
as_float(integer value)
{
    return value.negative ? -(double)value.magnitude : (double)value.magnitude;
}

static void
check_one(integer value, tb_type from, tb_type to)
{
    element src[3], dst[3];
    ptrdiff_t bad = -1;
    integer zero = {0, 0};

    src[0] = src[1] = src[2] = make(zero, from);
    /* Three elements side by side, the value in the last: `bad` must say so. */
    unsigned char packed[24], out[24];
    int size = tb_type_size(from), out_size = tb_type_size(to);
    src[2] = make(value, from);
    for (int i = 0; i < 3; i++) {
        memcpy(packed + i * size, &src[i], (size_t)size);
    }
    memset(dst, 0, sizeof dst);
    tb_status status = tb_cast_elements(from, to, packed, 3, out, &bad);
    memcpy(&dst[2], out + 2 * out_size, (size_t)out_size);
    if (!fits(value, to)) {
        CHECK(status == (to >= TB_F32 ? TB_ERR_INEXACT : TB_ERR_RANGE));
        CHECK(bad == 2);
        return;
    }
    CHECK(status == TB_OK);
    if (to == TB_F32) {
        CHECK((double)dst[2].f32 == as_float(value));
    }
    else if (to == TB_F64) {
        CHECK(dst[2].f64 == as_float(value));
    }
    else {
        element expected = make(value, to);
        CHECK(memcmp(&dst[2], &expected, (size_t)out_size) == 0);
    }
}

static void
check_integers(void)
{
    for (int from = TB_BOOL; from <= TB_U64; from++) {
        for (int to = TB_BOOL; to <= TB_F64; to++) {
            for (int bit = 0; bit < 64; bit++) {
                for (int delta = -1; delta <= 1; delta++) {
                    integer value = {0,
                                     ((uint64_t)1 << bit) + (uint64_t)(int64_t)delta};
                    integer minus = {1, value.magnitude};
                    if (fits(value, (tb_type)from)) {
                        check_one(value, (tb_type)from, (tb_type)to);
                    }
                    if (value.magnitude != 0 && fits(minus, (tb_type)from)) {
                        check_one(minus, (tb_type)from, (tb_type)to);
                    }
                }
            }
        }
    }
}

static void
check_floats(void)
{
    double wide[] = {0.1, -INFINITY, (double)FLT_MAX, 1e300};
    float narrow[4];
    float nan32 = NAN;
    double nan64 = 0.0;
    ptrdiff_t bad = -1;

    CHECK(tb_cast_elements(TB_F64, TB_F32, wide, 3, narrow, &bad) == TB_OK);
    CHECK(narrow[0] == (float)0.1 && isinf(narrow[1]) && narrow[2] == FLT_MAX);
    CHECK(tb_cast_elements(TB_F64, TB_F32, wide, 4, narrow, &bad) == TB_ERR_OVERFLOW);
    CHECK(bad == 3);
    CHECK(tb_cast_elements(TB_F32, TB_F64, &nan32, 1, &nan64, &bad) == TB_OK);
    CHECK(isnan(nan64));
    CHECK(tb_cast_elements(TB_F32, TB_F64, NULL, 0, NULL, &bad) == TB_OK);
}

int
main(void)
{
    check_integers();
    check_floats();
    return check_report();
}
