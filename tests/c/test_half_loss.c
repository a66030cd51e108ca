/* Counts and errors against a definition that looks at one number after the other. */
#include "check.h"
#include "half_expected.h"
#include "core/loss/half_loss.h"

#include <float.h>
#include <stdlib.h>

enum { MANY = 10007 };

static float floats[MANY];
static double doubles[MANY];
static uint16_t halves[MANY];
static uint64_t seed = 88172645463325252ull;

static uint64_t
next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* About 2**scale, but every `rare`th of any bits at all. */
static void
fill(int scale, int rare)
{
    for (int i = 0; i < MANY; i++) {
        double unit = ((double)(next_random() >> 11) - 0x1p52) * 0x1p-52;
        doubles[i] = ldexp(unit, scale);
        if (rare > 0 && i % rare == 0) {
            doubles[i] = double_of(next_random());
        }
        floats[i] = (float)doubles[i];
        if (rare > 0 && i % rare == 1) {
            floats[i] = float_of((uint32_t)next_random());
            doubles[i] = (double)floats[i];
        }
        if (rare > 0 && i % rare == 2) {
            floats[i] = 0;
            doubles[i] = -0.0;
        }
        halves[i] = (uint16_t)(next_random() >> 20);
    }
}

static double
value_at(tb_type type, int i)
{
    half_format format = type == TB_F16 ? f16_format : bf16_format;
    unsigned magnitude = halves[i] & 0x7fff;

    if (type == TB_F64) {
        return doubles[i];
    }
    if (type == TB_F32) {
        return (double)floats[i];
    }
    double value = magnitude > format.infinity    ? (double)NAN
                   : magnitude == format.infinity ? (double)INFINITY
                                                  : half_value(format, magnitude);
    return halves[i] >> 15 ? -value : value;
}

static const void *
memory_of(tb_type type)
{
    return type == TB_F64   ? (const void *)doubles
           : type == TB_F32 ? (const void *)floats
                            : (const void *)halves;
}

static void
note(tb_places *places, int64_t at)
{
    if (places->count < TB_LOSS_FIRST) {
        places->first[places->count] = at;
    }
    places->count++;
}

static void
define_half(half_format format, double value, int64_t at, tb_half_loss *loss)
{
    double magnitude = fabs(value);
    unsigned half = half_nearest(format, magnitude);
    double converted =
        half == format.infinity ? (double)INFINITY : half_value(format, half);

    loss->exact += converted == magnitude;
    if (isinf(magnitude)) {
        return;
    }
    if (half == format.infinity) {
        note(&loss->overflowed, at);
        return;
    }
    if (half == 0 && magnitude > 0) {
        note(&loss->flushed, at);
    }
    else if (half > 0 && half < 1u << format.fraction) {
        loss->subnormal++;
    }
    double error = fabs(magnitude - converted);
    double step = half_value(format, half + 1) - converted;
    loss->signal += magnitude * magnitude;
    loss->noise += error * error;
    loss->max_absolute = fmax(loss->max_absolute, error);
    loss->max_relative = fmax(loss->max_relative, error > 0 ? error / magnitude : 0);
    loss->max_ulp = fmax(loss->max_ulp, error / step);
}

static void
define_f32(double value, int64_t at, tb_half_loss *loss)
{
    float converted = fabsf((float)value);

    loss->exact += (double)converted == fabs(value);
    if (isinf(value)) {
        return;
    }
    if (isinf(converted)) {
        note(&loss->overflowed, at);
    }
    else if (converted == 0 && value != 0) {
        note(&loss->flushed, at);
    }
    else if (converted > 0 && converted < FLT_MIN) {
        loss->subnormal++;
    }
}

static tb_loss
define(tb_type type, int n)
{
    tb_loss loss;

    tb_start_loss(&loss);
    for (int i = 0; i < n; i++) {
        double value = value_at(type, i), magnitude = fabs(value);
        loss.count++;
        if (isnan(value)) {
            note(&loss.nan, i);
            continue;
        }
        define_half(f16_format, value, i, &loss.f16);
        define_half(bf16_format, value, i, &loss.bf16);
        define_f32(value, i, &loss.f32);
        if (isinf(value)) {
            note(&loss.infinite, i);
        }
        else if (value == 0) {
            loss.zero++;
        }
        else {
            int exponent = ilogb(magnitude);
            exponent = exponent < -126 ? -127 : exponent > 128 ? 128 : exponent;
            loss.exponents[exponent + 127]++;
            loss.largest = fmax(loss.largest, magnitude);
            loss.smallest = fmin(loss.smallest, magnitude);
        }
    }
    return loss;
}

static int
same_places(const tb_places *a, const tb_places *b)
{
    int kept = a->count < TB_LOSS_FIRST ? (int)a->count : TB_LOSS_FIRST;
    return a->count == b->count &&
           memcmp(a->first, b->first, (size_t)kept * sizeof *a->first) == 0;
}

static int
is_close(double a, double b)
{
    return a == b || fabs(a - b) <= 1e-12 * fabs(b);
}

static void
check_half(const tb_half_loss *found, const tb_half_loss *expected)
{
    CHECK(same_places(&found->overflowed, &expected->overflowed));
    CHECK(same_places(&found->flushed, &expected->flushed));
    CHECK(found->subnormal == expected->subnormal);
    CHECK(found->exact == expected->exact);
    CHECK(is_close(found->signal, expected->signal));
    CHECK(is_close(found->noise, expected->noise));
    CHECK(found->max_absolute == expected->max_absolute);
    CHECK(found->max_relative == expected->max_relative);
    CHECK(found->max_ulp == expected->max_ulp);
}

static void
check_loss(tb_type type, int n)
{
    enum { ALL = TB_LOSS_ERRORS | TB_LOSS_EXPONENT_COUNTS };
    tb_loss expected = define(type, n), first, counts;

    for (int level = 0; level < TB_LEVEL_COUNT; level++) {
        tb_loss found;
        if (!tb_level_available((tb_level)level)) {
            continue;
        }
        tb_use_level((tb_level)level);
        tb_start_loss(&found);
        tb_add_loss(type, memory_of(type), n, ALL, &found);
        CHECK(found.count == expected.count);
        CHECK(found.zero == expected.zero);
        CHECK(same_places(&found.nan, &expected.nan));
        CHECK(same_places(&found.infinite, &expected.infinite));
        CHECK(found.largest == expected.largest);
        CHECK(found.smallest == expected.smallest);
        CHECK(memcmp(found.exponents, expected.exponents, sizeof found.exponents) == 0);
        check_half(&found.f16, &expected.f16);
        check_half(&found.bf16, &expected.bf16);
        check_half(&found.f32, &expected.f32);
        if (level == TB_LEVEL_SCALAR) {
            first = found;
        }
        CHECK(memcmp(&found, &first, sizeof found) == 0); /* the same bits */

        /* Counts alone, and in pieces. */
        tb_start_loss(&counts);
        int size = tb_type_size(type), part = n / 3;
        tb_add_loss(type, memory_of(type), part, TB_LOSS_COUNTS, &counts);
        tb_add_loss(type, (const char *)memory_of(type) + part * size, n - part,
                    TB_LOSS_COUNTS, &counts);
        CHECK(same_places(&counts.f16.flushed, &expected.f16.flushed));
        CHECK(same_places(&counts.f16.overflowed, &expected.f16.overflowed));
        CHECK(counts.f16.exact == expected.f16.exact);
        CHECK(counts.bf16.exact == expected.bf16.exact);
        CHECK(counts.f16.subnormal == expected.f16.subnormal);
        CHECK(counts.bf16.subnormal == expected.bf16.subnormal);
        CHECK(counts.largest == expected.largest && counts.count == n);
        CHECK(counts.smallest == expected.smallest);
    }
}

int
main(void)
{
    static const tb_type types[] = {TB_F64, TB_F32, TB_F16, TB_BF16};
    static const int lengths[] = {0, 1, 15, 16, 17, 255, 256, 257, 2048, 2049, MANY};
    static const int rares[] = {0, 3, 1000};

    for (size_t r = 0; r < sizeof rares / sizeof *rares; r++) {
        for (int scale = -140; scale <= 126; scale += 19) {
            fill(scale, rares[r]);
            for (int t = 0; t < 4; t++) {
                for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
                    check_loss(types[t], lengths[k]);
                }
            }
        }
    }
    return check_report();
}
