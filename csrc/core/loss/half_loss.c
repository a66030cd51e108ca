#include "core/loss/half_loss.h"

#include "core/cast/fp_state.h"
#include "core/loss/levels/half_loss_loops.h"

static const tb_loss_loops *
find_loops(void)
{
#if TB_X86
    if (tb_level_used() == TB_LEVEL_AVX2) {
        return &tb_loss_loops_avx2;
    }
    if (tb_level_used() == TB_LEVEL_AVX512) {
        return &tb_loss_loops_avx512;
    }
#endif
    return &tb_loss_loops_scalar;
}

/* A block as numbers and as float32. Half types are exact as float32; float64 is
 * rounded. After the first n there are zeros. */
typedef struct {
    int is_float64;
    ptrdiff_t n;
    uint32_t zeros;
    double values[TB_LOSS_BLOCK];
    float f32[TB_LOSS_BLOCK];
} block;

/* Several tables, because neighbours often have the same exponent, and a count in one
 * table would wait for the count before it. */
enum { TABLES = 8 };

typedef struct {
    int64_t counts[TABLES][TB_LOSS_EXPONENTS];
    int64_t zeros;
    int64_t filled;  /* of them, those that fill up a block */
    int64_t special; /* NaN and infinities */
} histogram;

void
tb_start_loss(tb_loss *loss)
{
    memset(loss, 0, sizeof *loss);
    loss->smallest = (double)INFINITY;
}

static void
load_block(const tb_loss_loops *loops, tb_type type, const char *src, ptrdiff_t n,
           block *b)
{
    tb_overflow overflow;

    b->is_float64 = type == TB_F64;
    b->n = n;
    if (n < TB_LOSS_BLOCK) {
        memset(b->values, 0, sizeof b->values);
        memset(b->f32, 0, sizeof b->f32);
    }
    tb_convert_floats(type, TB_F32, src, n, b->f32, TB_OVERFLOW_INFINITY, &overflow);
    if (type == TB_F64) {
        memcpy(b->values, src, (size_t)n * sizeof *b->values);
        uint32_t zeros = 0;
        for (int i = 0; i < TB_LOSS_BLOCK; i++) {
            zeros += b->values[i] == 0;
        }
        b->zeros = zeros;
    }
    else {
        b->zeros = loops->widen_block(b->f32, b->values);
    }
}

static void
convert_there_and_back(const block *b, tb_type to, float *back)
{
    uint16_t halves[TB_LOSS_BLOCK];
    tb_overflow overflow;

    tb_convert_floats(b->is_float64 ? TB_F64 : TB_F32, to,
                      b->is_float64 ? (const void *)b->values : b->f32, TB_LOSS_BLOCK,
                      halves, TB_OVERFLOW_INFINITY, &overflow);
    tb_convert_floats(to, TB_F32, halves, TB_LOSS_BLOCK, back, TB_OVERFLOW_INFINITY,
                      &overflow);
}

/* --- counts ----------------------------------------------------------------------- */

/* The kinds of numbers whose places are noted. */
typedef enum { IS_NAN, IS_INFINITE, IS_OVERFLOWED, IS_FLUSHED } kind;

static int
is_of_kind(kind which, double value, double converted)
{
    switch (which) {
        case IS_NAN:
            return isnan(value);
        case IS_INFINITE:
            return isinf(value);
        case IS_OVERFLOWED:
            return isfinite(value) && isinf(converted);
        default:
            return value != 0 && converted == 0;
    }
}

/* Notes `count` more of a kind; their places are searched until enough are known. */
static void
add_places(tb_places *places, int64_t count, kind which, const block *b,
           const float *given, int64_t at)
{
    for (ptrdiff_t i = 0, known = (ptrdiff_t)places->count;
         count > 0 && known < TB_LOSS_FIRST && i < b->n; i++) {
        if (is_of_kind(which, b->values[i], (double)given[i])) {
            places->first[known++] = at + i;
        }
    }
    places->count += count;
}

static void
add_half_counts(const tb_loss_loops *loops, const block *b, const float *given,
                double normal, int64_t at, tb_half_loss *loss)
{
    tb_half_counts counts;

    loops->count_half(b->values, given, normal, &counts);
    loss->exact += counts.exact - (TB_LOSS_BLOCK - b->n);
    loss->subnormal += counts.subnormal;
    add_places(&loss->overflowed, counts.overflowed, IS_OVERFLOWED, b, given, at);
    add_places(&loss->flushed, counts.flushed, IS_FLUSHED, b, given, at);
}

static void
note_magnitude(double magnitude, tb_loss *loss)
{
    loss->largest = magnitude > loss->largest ? magnitude : loss->largest;
    loss->smallest = magnitude < loss->smallest ? magnitude : loss->smallest;
}

static void
add_value_counts(const tb_loss_loops *loops, const block *b, int64_t at, tb_loss *loss)
{
    tb_value_counts counts;

    loops->count_values(b->values, &counts);
    add_places(&loss->nan, counts.nan, IS_NAN, b, b->f32, at);
    add_places(&loss->infinite, counts.infinite, IS_INFINITE, b, b->f32, at);
    if (counts.largest > 0) {
        note_magnitude(counts.largest, loss);
        note_magnitude(counts.smallest, loss);
    }
}

static double
from_f32_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* Most blocks have no infinity, no NaN, and only numbers within bfloat16's range:
 * they are counted by comparing bits, without a conversion. 0 if a block is not like
 * that, or if places are still to be noted. */
static int
add_common(const tb_loss_loops *loops, const char *src, ptrdiff_t n, tb_loss *loss)
{
    tb_common_counts counts;

    if (!loops->count_common(src, n, &counts) ||
        (counts.flushed > 0 && loss->f16.flushed.count < TB_LOSS_FIRST)) {
        return 0;
    }
    loss->f16.flushed.count += counts.flushed;
    loss->f16.subnormal += counts.subnormal;
    loss->f16.exact += counts.f16_exact;
    loss->bf16.exact += counts.bf16_exact;
    if (counts.highest > 0) {
        note_magnitude(from_f32_bits(counts.highest), loss);
        note_magnitude(from_f32_bits(counts.lowest + 1), loss);
    }
    return 1;
}

/* --- exponents -------------------------------------------------------------------- */

static uint32_t
f32_exponent(const float *value)
{
    uint32_t bits;
    memcpy(&bits, value, sizeof bits);
    return bits >> 23 & 0xff;
}

/* The number of exponents that float32 has; float64 has more. */
static int
f64_exponent(const double *value)
{
    uint64_t bits;
    memcpy(&bits, value, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023 + 127;
    return exponent < 0 ? 0 : exponent > 255 ? 255 : exponent;
}

/* Counts the whole block, which is filled up with zeros. */
static void
add_exponents(const block *b, histogram *h)
{
    for (int i = 0; !b->is_float64 && i < TB_LOSS_BLOCK; i += TABLES) {
        for (int k = 0; k < TABLES; k++) {
            h->counts[k][f32_exponent(&b->f32[i + k])]++;
        }
    }
    for (int i = 0; b->is_float64 && i < TB_LOSS_BLOCK; i++) {
        h->counts[i % TABLES][f64_exponent(&b->values[i])]++;
    }
    h->zeros += b->zeros;
    h->filled += TB_LOSS_BLOCK - b->n;
}

/* Zeros lie at the lower end, NaN and infinities at the upper. */
static void
take_histogram(const histogram *h, tb_loss *loss)
{
    for (int e = 0; e < TB_LOSS_EXPONENTS; e++) {
        for (int side = 0; side < TABLES; side++) {
            loss->exponents[e] += h->counts[side][e];
        }
    }
    loss->exponents[0] -= h->zeros;
    loss->exponents[TB_LOSS_EXPONENTS - 1] -= h->special;
    loss->zero += h->zeros - h->filled;
}

/* --- errors ----------------------------------------------------------------------- */

static double
sum_lanes(const double *v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

static double
max_lanes(const double *values, double highest)
{
    for (int i = 0; i < TB_LANES; i++) {
        highest = values[i] > highest ? values[i] : highest;
    }
    return highest;
}

static double
find_max_relative(const block *b, const float *given, double highest)
{
    for (int i = 0; i < TB_LOSS_BLOCK; i++) {
        double error = fabs(b->values[i] - (double)given[i]);
        if (error > 0 && error <= DBL_MAX) {
            double relative = error / fabs(b->values[i]);
            highest = relative > highest ? relative : highest;
        }
    }
    return highest;
}

/* `digits` of fraction; `lowest` are the float32 bits of the smallest normal number. */
static void
add_errors(const tb_loss_loops *loops, const block *b, const float *given, int digits,
           uint32_t lowest, tb_half_loss *loss)
{
    tb_errors errors;
    /* A division is made only where it may give more than the largest quotient so far.
     * A product decides that. It is rounded too, so the bound is a little lower. */
    double known = loss->max_relative * (1 - 0x1p-40);

    if (loops->measure_errors(b->values, given, lowest, known, &errors)) {
        loss->max_relative = find_max_relative(b, given, loss->max_relative);
    }
    loss->signal += sum_lanes(errors.signal);
    loss->noise += sum_lanes(errors.noise);
    loss->max_absolute = max_lanes(errors.absolute, loss->max_absolute);
    loss->max_ulp =
        ldexp(max_lanes(errors.steps, ldexp(loss->max_ulp, 1 - digits)), digits - 1);
}

/* --- all of it -------------------------------------------------------------------- */

static void
add_block(const tb_loss_loops *loops, const block *b, int is_counted, int what,
          int64_t at, tb_loss *loss)
{
    float f16[TB_LOSS_BLOCK], bf16[TB_LOSS_BLOCK];

    if (is_counted && !(what & TB_LOSS_ERRORS)) {
        return;
    }
    convert_there_and_back(b, TB_F16, f16);
    convert_there_and_back(b, TB_BF16, bf16);
    if (!is_counted) {
        add_value_counts(loops, b, at, loss);
        add_half_counts(loops, b, f16, 0x1p-14, at, &loss->f16);
        add_half_counts(loops, b, bf16, 0x1p-126, at, &loss->bf16);
        if (b->is_float64) {
            add_half_counts(loops, b, b->f32, 0x1p-126, at, &loss->f32);
        }
    }
    if (what & TB_LOSS_ERRORS) {
        add_errors(loops, b, f16, 10, 0x38800000, &loss->f16);
        add_errors(loops, b, bf16, 7, 0x00800000, &loss->bf16);
    }
}

void
tb_add_loss(tb_type type, const void *src, ptrdiff_t n, int what, tb_loss *loss)
{
    const tb_loss_loops *loops = find_loops();
    const char *from = (const char *)src;
    ptrdiff_t size = tb_type_size(type);
    tb_fp_state saved = tb_enter_fp(0);
    int64_t nan = loss->nan.count, infinite = loss->infinite.count;
    histogram exponents;
    block b;

    memset(&exponents, 0, sizeof exponents);
    for (ptrdiff_t i = 0; i < n; i += TB_LOSS_COUNTED) {
        ptrdiff_t end = n - i < TB_LOSS_COUNTED ? n : i + TB_LOSS_COUNTED;
        int is_counted =
            type == TB_F32 && add_common(loops, from + i * size, end - i, loss);
        if (is_counted && what == TB_LOSS_COUNTS) {
            continue;
        }
        for (ptrdiff_t j = i; j < end; j += TB_LOSS_BLOCK) {
            const char *numbers = from + j * size;
            ptrdiff_t count = end - j < TB_LOSS_BLOCK ? end - j : TB_LOSS_BLOCK;
            /* The rare numbers of a chunk are mostly in one of its blocks. */
            int is_common = is_counted ||
                            (type == TB_F32 && add_common(loops, numbers, count, loss));
            if (is_common && what == TB_LOSS_COUNTS) {
                continue;
            }
            load_block(loops, type, numbers, count, &b);
            add_block(loops, &b, is_common, what, loss->count + j, loss);
            if (what & TB_LOSS_EXPONENT_COUNTS) {
                add_exponents(&b, &exponents);
            }
        }
    }
    exponents.special = loss->infinite.count - infinite + loss->nan.count - nan;
    if (what & TB_LOSS_EXPONENT_COUNTS) {
        take_histogram(&exponents, loss);
    }
    if (type != TB_F64) {
        loss->f32.exact += n - (loss->nan.count - nan);
        loss->f32.subnormal = loss->exponents[0];
    }
    loss->count += n;
    tb_leave_fp(saved);
}
