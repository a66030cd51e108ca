/* Every pair of types, around every power of two: does the value survive, and is it
 * told when it does not? Expectations come from sign and magnitude alone. */
#include "core/cast/cast.h"
#include "check.h"
#include "core/cast/half.h"
#include "half_expected.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if TB_X86
#    include <immintrin.h>
#endif

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
    static const int significands[] = {24, 53, 11, 8};
    if (tb_type_is_float(type)) {
        uint64_t odd = value.magnitude;
        while (odd != 0 && odd % 2 == 0) {
            odd /= 2;
        }
        return odd < (uint64_t)1 << significands[type - TB_F32] &&
               (type != TB_F16 || value.magnitude <= 65504);
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

/* What an element of a floating type stands for; halves by ldexp. */
static double
meaning(element found, tb_type type)
{
    half_format format = type == TB_F16 ? f16_format : bf16_format;
    unsigned magnitude = found.u16 & 0x7fff;

    if (type == TB_F64 || type == TB_F32) {
        return type == TB_F64 ? found.f64 : (double)found.f32;
    }
    double value = magnitude < format.infinity    ? half_value(format, magnitude)
                   : magnitude == format.infinity ? INFINITY
                                                  : NAN;
    return found.u16 >> 15 ? -value : value;
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
        CHECK(status == (tb_type_is_float(to) ? TB_ERR_INEXACT : TB_ERR_RANGE));
        CHECK(bad == 2);
        return;
    }
    CHECK(status == TB_OK);
    if (tb_type_is_float(to)) {
        CHECK(meaning(dst[2], to) == as_float(value));
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
        for (int to = TB_BOOL; to <= TB_BF16; to++) {
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

/* --- floats among themselves ------------------------------------------------------ */

static const tb_type floats[] = {TB_F64, TB_F32, TB_F16, TB_BF16};

/* More than is converted in one go. */
enum { MANY = 2500 };

static element given[MANY];
static unsigned char packed[8 * MANY], converted[8 * MANY];

/* The bits that value, one of `from`, has as `to`. */
static element
expect(element value, tb_type from, tb_type to)
{
    element out;

    memset(&out, 0, sizeof out);
    double number = meaning(value, from);
    if (to == TB_F64) {
        out.f64 = number;
    }
    else if (to == TB_F32) {
        out.f32 = (float)number;
    }
    else {
        half_format format = to == TB_F16 ? f16_format : bf16_format;
        out.u16 = half_of_double(format, bits_of_double(number));
    }
    return out;
}

/* Numbers of every size, ties and subnormal ones among them, that do not overflow. */
static element
make_float(tb_type type, uint64_t seed)
{
    uint64_t mixed = (seed + 1) * 0x9e3779b97f4a7c15ull;
    double value = ldexp((double)(mixed >> (seed % 3 == 0 ? 11 : 52)),
                         (int)(mixed % 160) - 150 - (seed % 3 == 0 ? 53 : 12));
    element wide;

    memset(&wide, 0, sizeof wide);
    wide.f64 = mixed >> 40 & 1 ? -value : value;
    return expect(wide, TB_F64, type);
}

static tb_status
cast_given(tb_type from, tb_type to, ptrdiff_t n, ptrdiff_t *bad)
{
    int size = tb_type_size(from);

    for (ptrdiff_t i = 0; i < n; i++) {
        memcpy(packed + i * size, &given[i], (size_t)size);
    }
    memset(converted, 0xaa, sizeof converted);
    return tb_cast_elements(from, to, packed, n, converted, bad);
}

static int
converted_as_expected(tb_type from, tb_type to, ptrdiff_t n)
{
    int size = tb_type_size(to), same = 1;

    for (ptrdiff_t i = 0; i < n; i++) {
        element wanted = expect(given[i], from, to);
        same &= memcmp(converted + i * size, &wanted, (size_t)size) == 0;
    }
    return same;
}

/* A value of `from` that is finite and becomes infinite, or 0 where none does. */
static int
make_overflow(tb_type from, tb_type to, element *out)
{
    static const double limits[] = {0x1.ffffffp127, 0, 65520, 0x1.ffp127};
    element wide;

    memset(&wide, 0, sizeof wide);
    wide.f64 = -limits[to - TB_F32];
    *out = expect(wide, TB_F64, from);
    return wide.f64 != 0 && isfinite(meaning(*out, from)) &&
           -meaning(*out, from) >= limits[to - TB_F32];
}

static void
check_pair(tb_type from, tb_type to)
{
    const ptrdiff_t places[] = {0, 1, 15, 16, 1023, 1024, 2047, MANY - 1};
    ptrdiff_t bad = -1;
    element too_large;

    for (ptrdiff_t i = 0; i < MANY; i++) {
        given[i] = make_float(from, (uint64_t)i);
    }
    given[7].f64 = 0.0;
    given[8] = expect((element){.f64 = INFINITY}, TB_F64, from);
    given[9] = expect((element){.f64 = -0.0}, TB_F64, from);
    CHECK(cast_given(from, to, MANY, &bad) == TB_OK);
    CHECK(converted_as_expected(from, to, MANY));
    if (!make_overflow(from, to, &too_large)) {
        CHECK(tb_type_size(from) <= tb_type_size(to));
        return;
    }
    for (int p = 0; p < 8; p++) {
        element kept = given[places[p]];
        given[places[p]] = too_large;
        CHECK(cast_given(from, to, MANY, &bad) == TB_ERR_OVERFLOW);
        CHECK(bad == places[p]);
        CHECK(converted_as_expected(from, to, bad));
        given[places[p]] = kept;
    }
}

/* NaN stays NaN, with its sign and the top of its payload, and becomes quiet. */
static void
check_nan(tb_type from, tb_type to)
{
    static const uint64_t nans[] = {0xfff4000000000000, 0xffa00000, 0xfd00, 0xffa0};
    static const uint64_t quiet[] = {0xfffc000000000000, 0xffe00000, 0xff00, 0xffe0};
    ptrdiff_t bad = -1;

    for (int i = 0; i < 4; i++) {
        if (floats[i] != from) {
            continue;
        }
        element nan;
        nan.u64 = nans[i];
        given[0] = given[1] = nan;
        CHECK(cast_given(from, to, 2, &bad) == TB_OK);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(floats[i] != to || memcmp(converted + tb_type_size(to), &quiet[i],
                                        (size_t)tb_type_size(to)) == 0);
    }
}

/* An integer that does not fit into a half type: where it stands, and that those before
 * it have been written. */
static void
check_integers_into_halves(void)
{
    static int64_t values[MANY];
    static uint16_t halves[MANY];

    for (int t = 2; t < 4; t++) {
        half_format format = t == 2 ? f16_format : bf16_format;
        for (ptrdiff_t at = 0; at < MANY; at += 311) {
            const int64_t refused[] = {65505, 2049, 257, INT64_MAX, -(1 << 24) - 1};
            for (ptrdiff_t i = 0; i < MANY; i++) {
                values[i] = i % 257 - 128;
            }
            values[at] = refused[at % 5] + (t == 2 && at % 5 == 2 ? 70000 : 0);
            ptrdiff_t bad = -1, right = 0;
            CHECK(tb_cast_elements(TB_I64, floats[t], values, MANY, halves, &bad) ==
                  TB_ERR_INEXACT);
            CHECK(bad == at);
            for (ptrdiff_t i = 0; i < at; i++) {
                right += halves[i] ==
                         half_of_double(format, bits_of_double((double)values[i]));
            }
            CHECK(right == at);
        }
    }
}

static void
check_all_floats(void)
{
    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            if (from != to) {
                check_pair(floats[from], floats[to]);
                check_nan(floats[from], floats[to]);
            }
        }
    }
}

/* Neither flush-to-zero nor the rounding mode has a say. */
static void
check_fp_state(void)
{
#if TB_X86
    unsigned saved = _mm_getcsr();
    element tiny = {.f32 = 1e-40f};
    double wide = 0;
    uint16_t half = 0;
    ptrdiff_t bad;

    _mm_setcsr(saved | 0xe040); /* up; subnormal numbers read and written as zero */
    tb_status one = tb_cast_elements(TB_F32, TB_F64, &tiny, 1, &wide, &bad);
    tb_status two = tb_cast_elements(TB_F32, TB_BF16, &tiny, 1, &half, &bad);
    unsigned after = _mm_getcsr();
    _mm_setcsr(saved);
    CHECK(one == TB_OK && wide == 9.99994610111476e-41);
    CHECK(two == TB_OK && half == 1);
    CHECK(after == (saved | 0xe040));
#endif
}

int
main(void)
{
    for (int level = 0; level < TB_LEVEL_COUNT; level++) {
        if (tb_level_available((tb_level)level)) {
            int failed = checks_failed;
            tb_use_level((tb_level)level);
            check_integers();
            check_floats();
            check_all_floats();
            check_integers_into_halves();
            check_fp_state();
            if (checks_failed > failed) {
                fprintf(stderr, "  on level %s\n", tb_level_name((tb_level)level));
            }
        }
    }
    return check_report();
}
