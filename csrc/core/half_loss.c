#include "half_loss.h"

#include "fp_state.h"
#include "half_loss_loops.h"

#define TARGET
#define TABLE tb_loss_loops_scalar
#include "half_loss.inc.h"

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

/* A block as float32 or float64, and as numbers. */
typedef struct {
    tb_type type; /* TB_F32 or TB_F64; halves have been widened */
    ptrdiff_t n;
    union {
        uint32_t f32[TB_LOSS_BLOCK];
        uint64_t f64[TB_LOSS_BLOCK];
    } bits; /* zero behind n */
    double values[TB_LOSS_BLOCK];
    float f32[TB_LOSS_BLOCK]; /* the same, or what they are rounded to */
} block;

typedef struct {
    int64_t counts[4][TB_LOSS_EXPONENTS]; /* side by side: neighbours are often alike */
    int64_t zeros;
    int64_t behind;  /* of them, behind the numbers of a block */
    int64_t special; /* NaN and infinities */
} histogram;

void
tb_start_loss(tb_loss *loss)
{
    memset(loss, 0, sizeof *loss);
    loss->smallest = (double)INFINITY;
}

static void
load_block(tb_type type, const char *src, ptrdiff_t n, block *b)
{
    tb_overflow overflow;

    memset(&b->bits, 0, sizeof b->bits);
    b->n = n;
    b->type = type == TB_F64 ? TB_F64 : TB_F32;
    tb_convert_floats(type, b->type, src, n, &b->bits, TB_OVERFLOW_INFINITY, &overflow);
    tb_convert_floats(b->type, TB_F32, &b->bits, TB_LOSS_BLOCK, b->f32,
                      TB_OVERFLOW_INFINITY, &overflow);
    if (type == TB_F64) {
        memcpy(b->values, b->bits.f64, sizeof b->values);
        return;
    }
    for (ptrdiff_t i = 0; i < TB_LOSS_BLOCK; i++) {
        b->values[i] = (double)b->f32[i];
    }
}

static void
convert_there_and_back(const block *b, tb_type to, float *back)
{
    uint16_t halves[TB_LOSS_BLOCK];
    tb_overflow overflow;

    tb_convert_floats(b->type, to, &b->bits, TB_LOSS_BLOCK, halves,
                      TB_OVERFLOW_INFINITY, &overflow);
    tb_convert_floats(to, TB_F32, halves, TB_LOSS_BLOCK, back, TB_OVERFLOW_INFINITY,
                      &overflow);
}

/* --- counts ----------------------------------------------------------------------- */

static void
note_place(tb_places *places, int64_t at)
{
    if (places->count < TB_LOSS_FIRST) {
        places->first[places->count] = at;
    }
    places->count++;
}

/* One by one, whatever they are; `given` is what the half type makes of them. */
static void
count_half(const block *b, const float *given, double smallest_normal, int64_t at,
           tb_half_loss *loss)
{
    for (ptrdiff_t i = 0; i < b->n; i++) {
        double value = fabs(b->values[i]), converted = fabs((double)given[i]);
        loss->exact += converted == value;
        if (!(value <= DBL_MAX)) {
            continue;
        }
        if (isinf(converted)) {
            note_place(&loss->overflowed, at + i);
        }
        else if (converted == 0 && value > 0) {
            note_place(&loss->flushed, at + i);
        }
        else if (converted > 0 && converted < smallest_normal) {
            loss->subnormal++;
        }
    }
}

static void
note_magnitude(double magnitude, tb_loss *loss)
{
    loss->largest = magnitude > loss->largest ? magnitude : loss->largest;
    loss->smallest = magnitude < loss->smallest ? magnitude : loss->smallest;
}

static void
count_values(const block *b, int64_t at, tb_loss *loss)
{
    for (ptrdiff_t i = 0; i < b->n; i++) {
        double magnitude = fabs(b->values[i]);
        if (isnan(magnitude)) {
            note_place(&loss->nan, at + i);
        }
        else if (isinf(magnitude)) {
            note_place(&loss->infinite, at + i);
        }
        else if (magnitude > 0) {
            note_magnitude(magnitude, loss);
        }
    }
}

static double
from_f32_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* Most blocks have no infinity, no NaN, and nothing that bfloat16 could not hold but
 * for its digits: they are counted by comparing bits, without converting anything. 0
 * where that does not do, or where places are still to be noted. */
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

/* float64 has more exponents than are told apart. */
static int
clamp_exponent(uint64_t bits)
{
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023 + 127;
    return exponent < 0 ? 0 : exponent > 255 ? 255 : exponent;
}

/* The whole block: behind its numbers there are zeros. */
static void
add_exponents(const block *b, histogram *h)
{
    uint32_t zeros = 0;

    for (int i = 0; b->type == TB_F32 && i < TB_LOSS_BLOCK; i += 4) {
        const uint32_t *bits = b->bits.f32 + i;
        h->counts[0][bits[0] >> 23 & 0xff]++;
        h->counts[1][bits[1] >> 23 & 0xff]++;
        h->counts[2][bits[2] >> 23 & 0xff]++;
        h->counts[3][bits[3] >> 23 & 0xff]++;
    }
    for (int i = 0; b->type == TB_F64 && i < TB_LOSS_BLOCK; i++) {
        h->counts[i % 4][clamp_exponent(b->bits.f64[i])]++;
    }
    for (int i = 0; i < TB_LOSS_BLOCK; i++) {
        zeros += b->values[i] == 0;
    }
    h->zeros += zeros;
    h->behind += TB_LOSS_BLOCK - b->n;
}

/* Zeros lie at the lower end, NaN and infinities at the upper. */
static void
take_histogram(const histogram *h, tb_loss *loss)
{
    for (int e = 0; e < TB_LOSS_EXPONENTS; e++) {
        for (int side = 0; side < 4; side++) {
            loss->exponents[e] += h->counts[side][e];
        }
    }
    loss->exponents[0] -= h->zeros;
    loss->exponents[TB_LOSS_EXPONENTS - 1] -= h->special;
    loss->zero += h->zeros - h->behind;
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
        count_values(b, at, loss);
        count_half(b, f16, 0x1p-14, at, &loss->f16);
        count_half(b, bf16, 0x1p-126, at, &loss->bf16);
        if (b->type == TB_F64) {
            count_half(b, b->f32, 0x1p-126, at, &loss->f32);
        }
    }
    if (what & TB_LOSS_ERRORS) {
        loops->measure_errors(b->values, f16, 10, -14, &loss->f16);
        loops->measure_errors(b->values, bf16, 7, -126, &loss->bf16);
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
            load_block(type, from + j * size,
                       end - j < TB_LOSS_BLOCK ? end - j : TB_LOSS_BLOCK, &b);
            add_block(loops, &b, is_counted, what, loss->count + j, loss);
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
