#include "core/cast/cpu.h"

#include "core/base/macros.h"

#if TB_X86 && defined(_MSC_VER) && !defined(__clang__)

/* Bits of CPUID leaf 1 ECX and leaf 7 EBX, and of XCR0: the registers that the system
 * keeps (XMM 1, YMM 2, masks and ZMM 5..7). */
static int
has_bits(int found, unsigned wanted)
{
    return ((unsigned)found & wanted) == wanted;
}

static int
keeps_registers(unsigned wanted)
{
    int leaf[4];
    __cpuid(leaf, 1);
    return has_bits(leaf[2], 1u << 27) && ((unsigned)_xgetbv(0) & wanted) == wanted;
}

static int
has_avx2(void)
{
    int one[4], seven[4];
    __cpuid(one, 0);
    if (one[0] < 7) {
        return 0;
    }
    __cpuid(one, 1);
    __cpuidex(seven, 7, 0);
    return has_bits(one[2], 1u << 28 | 1u << 29) && has_bits(seven[1], 1u << 5) &&
           keeps_registers(0x6);
}

static int
has_avx512(void)
{
    int seven[4];
    if (!has_avx2()) {
        return 0;
    }
    __cpuidex(seven, 7, 0);
    return has_bits(seven[1], 1u << 16 | 1u << 30 | 1u << 31) && keeps_registers(0xe6);
}

#elif TB_X86

#    include <cpuid.h>

/* The builtins also ask the operating system which registers it saves. Those of older
 * compilers do not know F16C, which needs the same registers as AVX2. */
static int
has_avx2(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & 1u << 29) != 0;
}

static int
has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

#endif

int
tb_cpu_has(tb_level level)
{
    switch (level) {
        case TB_LEVEL_SCALAR:
            return 1;
#if TB_X86
        case TB_LEVEL_AVX2:
            return has_avx2();
        case TB_LEVEL_AVX512:
            return has_avx512();
#endif
#if TB_ARM64
        case TB_LEVEL_NEON:
            return 1;
#endif
        default:
            return 0;
    }
}

tb_level
tb_cpu_best(void)
{
    int level = TB_LEVEL_COUNT - 1;

    while (!tb_cpu_has((tb_level)level)) {
        level--;
    }
    return (tb_level)level;
}

const char *
tb_level_name(tb_level level)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon"};
    return names[level];
}
