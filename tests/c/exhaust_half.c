/*
 * Every float32 there is, all 2**32, to float16 and to bfloat16 on every level that
 * this machine has, against half_expected.h: `make exhaust`, some minutes. With a
 * number N after its name the program looks at every Nth block alone, where a
 * processor is emulated; N is odd, for all bits to vary.
 *
 * Expectations are made in order of magnitude: which half owns a number changes only
 * where a midpoint, itself a float32, is passed.
 */
#include "core/cast/half.h"
#include "half_expected.h"

#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 1 << 16 };

static uint32_t patterns[BLOCK];
static uint16_t expected[BLOCK], found[BLOCK];

/* The half that owns a magnitude, given the one that owned the magnitude before. */
static uint16_t
next_owner(half_format format, uint16_t owner, uint32_t magnitude)
{
    if (magnitude > 0x7f800000) {
        return half_nan(format, magnitude, 32, 23);
    }
    while (owner < format.infinity) {
        double value = (double)float_of(magnitude), end = half_midpoint(format, owner);
        if (value < end || (value == end && owner % 2 == 0)) {
            break;
        }
        owner++;
    }
    return owner;
}

static int
compare_block(half_format format, tb_type to, tb_level level)
{
    tb_overflow overflow;

    tb_use_level(level);
    tb_convert_floats(TB_F32, to, patterns, BLOCK, found, TB_OVERFLOW_INFINITY,
                      &overflow);
    if (memcmp(found, expected, sizeof found) == 0) {
        return 0;
    }
    for (int i = 0; i < BLOCK; i++) {
        if (found[i] != expected[i]) {
            fprintf(stderr, "%s, level %s: %08x gave %04x, expected %04x\n",
                    format.name, tb_level_name(level), (unsigned)patterns[i], found[i],
                    expected[i]);
            break;
        }
    }
    return 1;
}

static int
exhaust(half_format format, tb_type to, uint32_t every)
{
    uint16_t owner = 0;
    int failed = 0;

    for (uint32_t high = 0; high < 0x8000; high += every) {
        for (uint32_t low = 0; low < BLOCK; low++) {
            patterns[low] = high << 16 | low;
            owner = next_owner(format, owner, patterns[low]);
            expected[low] = owner;
        }
        for (int sign = 0; sign < 2; sign++) {
            for (int i = 0; i < BLOCK; i++) {
                patterns[i] |= (uint32_t)sign << 31;
                expected[i] = (uint16_t)(expected[i] | sign << 15);
            }
            for (int level = 0; level < TB_LEVEL_COUNT; level++) {
                if (tb_level_available((tb_level)level)) {
                    failed += compare_block(format, to, (tb_level)level);
                }
            }
        }
        if (failed > 10) {
            break;
        }
    }
    return failed;
}

int
main(int count, char **arguments)
{
    long every = count > 1 ? strtol(arguments[1], NULL, 10) : 1;

    if (every < 1 || every > 0x8000) {
        fprintf(stderr, "usage: exhaust_half [every]\n");
        return 2;
    }
    int failed = exhaust(f16_format, TB_F16, (uint32_t)every) +
                 exhaust(bf16_format, TB_BF16, (uint32_t)every);
    for (int level = 0; level < TB_LEVEL_COUNT; level++) {
        if (tb_level_available((tb_level)level)) {
            printf("%s: ", tb_level_name((tb_level)level));
        }
    }
    printf("%s 2**32 float32 to float16 and bfloat16%s\n",
           every == 1 ? "all" : "some of", failed ? ", FAILED" : "");
    return failed != 0;
}
