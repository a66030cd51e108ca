#include "core/cast/half.h"

#include "core/cast/fp_state.h"
#include "core/cast/levels/half_kernels.h"
#include "core/base/stream.h"

#include <string.h>

/* Elements converted at a time. Where one of them overflows, all are looked at again,
 * one by one, while they are in the cache. */
enum { BLOCK = 1 << 16, FEW = 1 << 9 };

/* --- the scalar level: float_bits.h, element by element --------------------------- */

#define SCALAR_KERNEL(name, SRC, DST, EXPRESSION, OVERFLOW_FROM)                 \
    static int name(const void *from, ptrdiff_t n, void *out, int stream)        \
    {                                                                            \
        const char *src = (const char *)from;                                    \
        char *dst = (char *)out;                                                 \
        uint64_t reaches = 0;                                                    \
        (void)stream;                                                            \
        for (ptrdiff_t i = 0; i < n; i++) {                                      \
            SRC x;                                                               \
            memcpy(&x, src + i * (ptrdiff_t)sizeof x, sizeof x);                 \
            DST y = (DST)(EXPRESSION);                                           \
            memcpy(dst + i * (ptrdiff_t)sizeof y, &y, sizeof y);                 \
            reaches |= (uint64_t)(x & (SRC)((SRC) - 1 >> 1)) >= (OVERFLOW_FROM); \
        }                                                                        \
        return reaches != 0;                                                     \
    }

#define NARROW(name, SRC, DST, from, to)                       \
    SCALAR_KERNEL(name, SRC, DST, tb_narrow_bits(x, from, to), \
                  tb_overflow_from(from, to))
#define WIDEN(name, SRC, DST, from, to) \
    SCALAR_KERNEL(name, SRC, DST, tb_widen_bits(x, from, to), UINT64_MAX)

/* Between the two half types through float32, which holds both. */
#define BY_F32(from, to) \
    tb_narrow_bits(tb_widen_bits(x, from, TB_FORMAT_F32), TB_FORMAT_F32, to)

/* A float32 that overflows, as the next bfloat16 that is not below it. */
#define OVERFLOW_BF16_F16 \
    ((tb_overflow_from(TB_FORMAT_F32, TB_FORMAT_F16) + 0xffff) >> 16)

NARROW(f64_f32, uint64_t, uint32_t, TB_FORMAT_F64, TB_FORMAT_F32)
NARROW(f64_f16, uint64_t, uint16_t, TB_FORMAT_F64, TB_FORMAT_F16)
NARROW(f64_bf16, uint64_t, uint16_t, TB_FORMAT_F64, TB_FORMAT_BF16)
NARROW(f32_f16, uint32_t, uint16_t, TB_FORMAT_F32, TB_FORMAT_F16)
NARROW(f32_bf16, uint32_t, uint16_t, TB_FORMAT_F32, TB_FORMAT_BF16)
WIDEN(f32_f64, uint32_t, uint64_t, TB_FORMAT_F32, TB_FORMAT_F64)
WIDEN(f16_f64, uint16_t, uint64_t, TB_FORMAT_F16, TB_FORMAT_F64)
WIDEN(bf16_f64, uint16_t, uint64_t, TB_FORMAT_BF16, TB_FORMAT_F64)
WIDEN(f16_f32, uint16_t, uint32_t, TB_FORMAT_F16, TB_FORMAT_F32)
WIDEN(bf16_f32, uint16_t, uint32_t, TB_FORMAT_BF16, TB_FORMAT_F32)
SCALAR_KERNEL(f16_bf16, uint16_t, uint16_t, BY_F32(TB_FORMAT_F16, TB_FORMAT_BF16),
              UINT64_MAX)
SCALAR_KERNEL(bf16_f16, uint16_t, uint16_t, BY_F32(TB_FORMAT_BF16, TB_FORMAT_F16),
              OVERFLOW_BF16_F16)

static const tb_float_kernels scalar_kernels = {
    [TB_FLOAT_PAIR(TB_F64, TB_F32)] = f64_f32,
    [TB_FLOAT_PAIR(TB_F64, TB_F16)] = f64_f16,
    [TB_FLOAT_PAIR(TB_F64, TB_BF16)] = f64_bf16,
    [TB_FLOAT_PAIR(TB_F32, TB_F64)] = f32_f64,
    [TB_FLOAT_PAIR(TB_F32, TB_F16)] = f32_f16,
    [TB_FLOAT_PAIR(TB_F32, TB_BF16)] = f32_bf16,
    [TB_FLOAT_PAIR(TB_F16, TB_F64)] = f16_f64,
    [TB_FLOAT_PAIR(TB_F16, TB_F32)] = f16_f32,
    [TB_FLOAT_PAIR(TB_F16, TB_BF16)] = f16_bf16,
    [TB_FLOAT_PAIR(TB_BF16, TB_F64)] = bf16_f64,
    [TB_FLOAT_PAIR(TB_BF16, TB_F32)] = bf16_f32,
    [TB_FLOAT_PAIR(TB_BF16, TB_F16)] = bf16_f16,
};

/* --- levels ----------------------------------------------------------------------- */

/* The only variable of the core that is not constant. */
static TB_ATOMIC int used = TB_LEVEL_SCALAR;

static const tb_float_kernels *const levels[TB_LEVEL_COUNT] = {
    [TB_LEVEL_SCALAR] = &scalar_kernels,
#if TB_X86
    [TB_LEVEL_AVX2] = &tb_float_kernels_avx2,
    [TB_LEVEL_AVX512] = &tb_float_kernels_avx512,
#endif
#if TB_ARM64
    [TB_LEVEL_NEON] = &tb_float_kernels_neon,
#endif
};

int
tb_level_available(tb_level level)
{
    return levels[level] != NULL && tb_cpu_has(level);
}

void
tb_use_level(tb_level level)
{
    used = (int)level;
}

tb_level
tb_level_used(void)
{
    return (tb_level)used;
}

/* Pairs without kernels of their own go through float32, which holds every number of
 * a half type. */
enum { PART = 1 << 10 };

static int
convert_by_f32(tb_type from, tb_type to, const char *src, ptrdiff_t n, char *dst)
{
    tb_float_kernel widen = (*levels[used])[TB_FLOAT_PAIR(from, TB_F32)];
    tb_float_kernel narrow = (*levels[used])[TB_FLOAT_PAIR(TB_F32, to)];
    float wide[PART];
    int reaches = 0;

    for (ptrdiff_t i = 0; i < n; i += PART) {
        ptrdiff_t count = n - i < PART ? n - i : PART;
        (void)widen(src + 2 * i, count, wide, 0);
        reaches |= narrow(wide, count, dst + 2 * i, 0);
    }
    return reaches;
}

static int
f16_bf16_by_f32(const void *src, ptrdiff_t n, void *dst, int stream)
{
    (void)stream;
    return convert_by_f32(TB_F16, TB_BF16, (const char *)src, n, (char *)dst);
}

static int
bf16_f16_by_f32(const void *src, ptrdiff_t n, void *dst, int stream)
{
    (void)stream;
    return convert_by_f32(TB_BF16, TB_F16, (const char *)src, n, (char *)dst);
}

/* The processor's own conversion is exact, because subnormal numbers are kept here.
 */
static int
f32_f64_native(const void *from, ptrdiff_t n, void *out, int stream)
{
    const char *src = (const char *)from;
    char *dst = (char *)out;

    (void)stream;
    for (ptrdiff_t i = 0; i < n; i++) {
        float narrow;
        memcpy(&narrow, src + i * (ptrdiff_t)sizeof narrow, sizeof narrow);
        double wide = (double)narrow;
        memcpy(dst + i * (ptrdiff_t)sizeof wide, &wide, sizeof wide);
    }
    return 0;
}

static int
widen_by_f32(tb_type from, const char *src, ptrdiff_t n, char *dst)
{
    tb_float_kernel widen = (*levels[used])[TB_FLOAT_PAIR(from, TB_F32)];
    float wide[PART];

    for (ptrdiff_t i = 0; i < n; i += PART) {
        ptrdiff_t count = n - i < PART ? n - i : PART;
        (void)widen(src + 2 * i, count, wide, 0);
        (void)f32_f64_native(wide, count, dst + 8 * i, 0);
    }
    return 0;
}

static int
f16_f64_by_f32(const void *src, ptrdiff_t n, void *dst, int stream)
{
    (void)stream;
    return widen_by_f32(TB_F16, (const char *)src, n, (char *)dst);
}

static int
bf16_f64_by_f32(const void *src, ptrdiff_t n, void *dst, int stream)
{
    (void)stream;
    return widen_by_f32(TB_BF16, (const char *)src, n, (char *)dst);
}

static const tb_float_kernels composed_kernels = {
    [TB_FLOAT_PAIR(TB_F32, TB_F64)] = f32_f64_native,
    [TB_FLOAT_PAIR(TB_F16, TB_F64)] = f16_f64_by_f32,
    [TB_FLOAT_PAIR(TB_BF16, TB_F64)] = bf16_f64_by_f32,
    [TB_FLOAT_PAIR(TB_F16, TB_BF16)] = f16_bf16_by_f32,
    [TB_FLOAT_PAIR(TB_BF16, TB_F16)] = bf16_f16_by_f32,
};

static tb_float_kernel
find_kernel(tb_type from, tb_type to)
{
    tb_float_kernel kernel = (*levels[used])[TB_FLOAT_PAIR(from, to)];
    return kernel != NULL ? kernel : composed_kernels[TB_FLOAT_PAIR(from, to)];
}

/* --- overflow --------------------------------------------------------------------- */

static tb_float_format
format_of(tb_type type)
{
    return type == TB_F64   ? TB_FORMAT_F64
           : type == TB_F32 ? TB_FORMAT_F32
           : type == TB_F16 ? TB_FORMAT_F16
                            : TB_FORMAT_BF16;
}

/* Whether finite numbers of `from` may become infinite in `to`: those with a magnitude
 * from `first` up to, but not including, `end`. */
static int
overflow_range(tb_type from, tb_type to, uint64_t *first, uint64_t *end)
{
    tb_float_format wide = format_of(from), narrow = format_of(to);

    *end = tb_infinity(wide);
    if (from == TB_BF16 && to == TB_F16) {
        *first = OVERFLOW_BF16_F16;
        return 1;
    }
    if (narrow.bits >= wide.bits) {
        return 0;
    }
    *first = tb_overflow_from(wide, narrow);
    return 1;
}

static uint64_t
load_bits(const char *src, ptrdiff_t i, int size)
{
    uint64_t wide = 0;
    uint32_t word;
    uint16_t half;

    if (size == 8) {
        memcpy(&wide, src + 8 * i, sizeof wide);
    }
    else if (size == 4) {
        memcpy(&word, src + 4 * i, sizeof word);
        wide = word;
    }
    else {
        memcpy(&half, src + 2 * i, sizeof half);
        wide = half;
    }
    return wide;
}

static void
store_bits(char *dst, ptrdiff_t i, int size, uint64_t bits)
{
    uint32_t word = (uint32_t)bits;
    uint16_t half = (uint16_t)bits;

    if (size == 4) {
        memcpy(dst + 4 * i, &word, sizeof word);
    }
    else {
        memcpy(dst + 2 * i, &half, sizeof half);
    }
}

/* How many of n elements, at most FEW, have a magnitude in [first, end). */
#define COUNT_BETWEEN(name, WORD, LARGEST)                                    \
    static ptrdiff_t name(const char *src, ptrdiff_t n, WORD first, WORD end) \
    {                                                                         \
        WORD count = 0;                                                       \
        for (ptrdiff_t i = 0; i < n; i++) {                                   \
            WORD x;                                                           \
            memcpy(&x, src + i * (ptrdiff_t)sizeof x, sizeof x);              \
            x = (WORD)(x & LARGEST);                                          \
            count = (WORD)(count + ((x >= first) & (x < end)));               \
        }                                                                     \
        return (ptrdiff_t)count;                                              \
    }

COUNT_BETWEEN(count_f64_between, int64_t, INT64_MAX)
COUNT_BETWEEN(count_f32_between, int32_t, INT32_MAX)
COUNT_BETWEEN(count_f16_between, int16_t, INT16_MAX)

static ptrdiff_t
count_between(const char *src, ptrdiff_t n, int size, uint64_t first, uint64_t end)
{
    return size == 8   ? count_f64_between(src, n, (int64_t)first, (int64_t)end)
           : size == 4 ? count_f32_between(src, n, (int32_t)first, (int32_t)end)
                       : count_f16_between(src, n, (int16_t)first, (int16_t)end);
}

/* Counts the elements that overflow, among n; the first of the n has the index `at`.
 * Where `dst` is not NULL, they become the largest finite values of their sign there.
 */
static void
count_overflow(tb_type from, tb_type to, const char *src, ptrdiff_t n, ptrdiff_t at,
               char *dst, tb_overflow *overflow)
{
    tb_float_format format = format_of(from), narrow = format_of(to);
    int size = format.bits / 8;
    uint64_t first, end;

    if (!overflow_range(from, to, &first, &end)) {
        return;
    }
    for (ptrdiff_t i = 0; i < n; i += FEW) {
        /* Most blocks that come here hold infinities or NaN and no overflow. */
        ptrdiff_t few = n - i < FEW ? n - i : FEW;
        ptrdiff_t found = count_between(src + i * size, few, size, first, end);
        for (ptrdiff_t k = i; found > 0 && k < i + few; k++) {
            uint64_t bits = load_bits(src, k, size);
            uint64_t magnitude = bits & tb_magnitude_mask(format);
            if (magnitude < first || magnitude >= end) {
                continue;
            }
            overflow->first = overflow->first < 0 ? at + k : overflow->first;
            if (dst == NULL) {
                break;
            }
            uint64_t sign = bits >> (format.bits - 1) << (narrow.bits - 1);
            store_bits(dst, k, narrow.bits / 8, sign | (tb_infinity(narrow) - 1));
        }
        overflow->count += found;
    }
}

void
tb_find_overflow(tb_type from, tb_type to, const void *src, ptrdiff_t n,
                 tb_overflow *overflow)
{
    *overflow = (tb_overflow){0, -1};
    count_overflow(from, to, (const char *)src, n, 0, NULL, overflow);
}

/* --- conversion ------------------------------------------------------------------- */

static void
convert_blocks(tb_float_kernel kernel, tb_type from, tb_type to, const char *src,
               ptrdiff_t n, char *dst, tb_overflow_rule rule, tb_overflow *overflow)
{
    ptrdiff_t size = tb_type_size(from), narrow = tb_type_size(to);
    int stream = n >= TB_STREAM_FROM / narrow;

    for (ptrdiff_t i = 0; i < n; i += BLOCK) {
        ptrdiff_t count = n - i < BLOCK ? n - i : BLOCK;
        const char *block = src + i * size;
        char *out = dst + i * narrow;
        if (kernel(block, count, out, stream)) {
            count_overflow(from, to, block, count, i,
                           rule == TB_OVERFLOW_SATURATE ? out : NULL, overflow);
            if (rule == TB_OVERFLOW_STOP && overflow->count > 0) {
                break;
            }
        }
    }
    if (stream) {
        tb_stream_fence();
    }
}

void
tb_convert_floats(tb_type from, tb_type to, const void *src, ptrdiff_t n, void *dst,
                  tb_overflow_rule rule, tb_overflow *overflow)
{
    *overflow = (tb_overflow){0, -1};
    if (n == 0) {
        return;
    }
    if (from == to) {
        memcpy(dst, src, (size_t)n * (size_t)tb_type_size(to));
        return;
    }
    /* Rounded to odd on the way to float32, and from there to nearest: see half_avx2.c.
     */
    tb_fp_state saved = tb_enter_fp(from == TB_F64 && to != TB_F32);
    convert_blocks(find_kernel(from, to), from, to, (const char *)src, n, (char *)dst,
                   rule, overflow);
    tb_leave_fp(saved);
}
