/* What the tests of conversion share: numbers in, what must come out, and every level
 * that this machine has. */
#ifndef TB_HALF_SAMPLES_H
#define TB_HALF_SAMPLES_H

#include "check.h"
#include "core/cast/half.h"

#include <string.h>

static const tb_type types[] = {TB_F64, TB_F32, TB_F16, TB_BF16};
enum { TYPES = 4, MANY = 1 << 17 };

typedef union {
    unsigned char bytes[8 * MANY];
    uint16_t u16[4 * MANY];
    uint32_t u32[2 * MANY];
    uint64_t u64[MANY];
    float f32[2 * MANY];
    double f64[MANY];
} samples;

static samples given, expected, found;

static inline uint64_t
next_random(void)
{
    static uint64_t seed = 88172645463325252ull;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* n of any bits; every other one, of float32 and float64, where the narrower types are
 * subnormal, round and overflow. */
static inline void
fill_samples(tb_type from, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n * tb_type_size(from); i++) {
        given.bytes[i] = (unsigned char)(next_random() >> 32);
    }
    for (ptrdiff_t i = 1; from == TB_F32 && i < n; i += 2) {
        uint32_t top = 0x32 + (uint32_t)(next_random() % 24); /* of the exponent */
        given.u32[i] = (given.u32[i] & 0x80ffffff) | top << 24;
    }
    for (ptrdiff_t i = 1; from == TB_F64 && i < n; i += 2) {
        /* In turns for float16, and for float32 and bfloat16. */
        uint64_t exponent = i % 4 == 1 ? 1023 - 26 + next_random() % 44
                                       : 1023 - 151 + next_random() % 281;
        given.u64[i] = (given.u64[i] & 0x800fffffffffffff) | exponent << 52;
    }
}

static inline void
convert(tb_type from, tb_type to, ptrdiff_t n)
{
    tb_overflow overflow;
    memset(found.bytes, 0xaa, (size_t)(n * tb_type_size(to)));
    tb_convert_floats(from, to, given.bytes, n, found.bytes, TB_OVERFLOW_INFINITY,
                      &overflow);
}

static inline int
same_bytes(tb_type to, ptrdiff_t n)
{
    return memcmp(found.bytes, expected.bytes, (size_t)(n * tb_type_size(to))) == 0;
}

/* Calls `test` on each level. */
static inline void
on_each_level(void (*test)(void))
{
    for (int level = 0; level < TB_LEVEL_COUNT; level++) {
        if (tb_level_available((tb_level)level)) {
            int failed = checks_failed;
            tb_use_level((tb_level)level);
            test();
            if (checks_failed > failed) {
                fprintf(stderr, "  on level %s\n", tb_level_name((tb_level)level));
            }
        }
    }
}

#endif
