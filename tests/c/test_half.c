/* Conversion between floating types, on every level that this machine has. The numbers
 * that are not sampled here but all tried are in exhaust_half.c. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "half_expected.h"
#include "half_samples.h"

#include <stdlib.h>

#ifndef _WIN32
#    include <sys/mman.h>
#    include <unistd.h>
#endif

/* --- values ----------------------------------------------------------------------- */

/* float64: every midpoint between halves, and what lies next to it on both sides. */
static void
test_midpoints_of_float64(void)
{
    const half_format formats[] = {f16_format, bf16_format};
    uint16_t *halves = expected.u16;

    for (int f = 0; f < 2; f++) {
        half_format format = formats[f];
        for (unsigned sign = 0; sign < 2; sign++) {
            for (unsigned h = 0; h < format.infinity; h++) {
                uint64_t middle = bits_of_double(half_midpoint(format, h));
                unsigned even = h % 2 == 0 ? h : h + 1;
                unsigned at = h % 1024 * 4;
                uint64_t negative = (uint64_t)sign << 63;
                given.u64[at] = (middle - 1) | negative;
                given.u64[at + 1] = middle | negative;
                given.u64[at + 2] = (middle + 1) | negative;
                given.u64[at + 3] = bits_of_double(half_value(format, h)) | negative;
                halves[at] = (uint16_t)(h | sign << 15);
                halves[at + 1] = (uint16_t)(even | sign << 15);
                halves[at + 2] = (uint16_t)((h + 1) | sign << 15);
                halves[at + 3] = (uint16_t)(h | sign << 15);
                if (h % 1024 == 1023 || h + 1 == format.infinity) {
                    convert(TB_F64, f == 0 ? TB_F16 : TB_BF16, at + 4);
                    CHECK(same_bytes(TB_F16, at + 4));
                }
            }
        }
    }
}

/* float64 of every exponent, as the processor rounds them. */
static void
test_float64_to_float32(void)
{
    uint32_t *words = expected.u32;

    for (int i = 0; i < MANY; i++) {
        uint64_t fraction = next_random() >> 12;
        if (i % 3 == 0) { /* halfway between two float32 */
            fraction = (fraction & ~(((uint64_t)1 << 29) - 1)) | 1 << 28;
        }
        else if (i % 3 == 1) {
            fraction = fraction >> 20 << 20;
        }
        given.u64[i] =
            (uint64_t)(i % 2048) << 52 | fraction | next_random() >> 63 << 63;
        words[i] = bits_of_float((float)double_of(given.u64[i]));
    }
    convert(TB_F64, TB_F32, MANY);
    CHECK(same_bytes(TB_F32, MANY));
}

/* All halves, there and back again; NaN comes back quiet. */
static void
test_all_halves(void)
{
    const half_format formats[] = {f16_format, bf16_format};
    uint16_t *halves = given.u16;
    uint32_t *words = expected.u32;

    for (int f = 0; f < 2; f++) {
        half_format format = formats[f];
        tb_type type = f == 0 ? TB_F16 : TB_BF16;
        tb_type other = f == 0 ? TB_BF16 : TB_F16;
        for (unsigned h = 0; h < 1 << 16; h++) {
            unsigned magnitude = h & 0x7fff, sign = h >> 15;
            unsigned payload = magnitude - format.infinity;
            halves[h] = (uint16_t)h;
            words[h] = magnitude > format.infinity
                           ? 0x7fc00000 | payload << (23 - format.fraction)
                       : magnitude == format.infinity
                           ? 0x7f800000
                           : bits_of_float((float)half_value(format, magnitude));
            words[h] |= sign << 31;
        }
        convert(type, TB_F32, 1 << 16);
        CHECK(same_bytes(TB_F32, 1 << 16));
        memcpy(given.bytes, words, (size_t)4 << 16);
        for (unsigned h = 0; h < 1 << 16; h++) {
            unsigned quiet =
                (h & 0x7fff) > format.infinity ? 1u << (format.fraction - 1) : 0;
            expected.u16[h] = (uint16_t)(h | quiet);
        }
        convert(TB_F32, type, 1 << 16);
        CHECK(same_bytes(type, 1 << 16));
        for (unsigned h = 0; h < 1 << 16; h++) {
            halves[h] = (uint16_t)h;
        }
        convert(type, TB_F64, 1 << 16);
        int equal = 1;
        for (unsigned h = 0; h < 1 << 16; h++) {
            unsigned magnitude = h & 0x7fff;
            uint64_t wide =
                magnitude > format.infinity
                    ? 0x7ff8000000000000 | (uint64_t)(magnitude - format.infinity)
                                               << (52 - format.fraction)
                : magnitude == format.infinity
                    ? 0x7ff0000000000000
                    : bits_of_double(half_value(format, magnitude));
            equal &= found.u64[h] == (wide | (uint64_t)(h >> 15) << 63);
        }
        CHECK(equal);
        convert(type, other, 1 << 16);
        half_format to = f == 0 ? bf16_format : f16_format;
        for (unsigned h = 0; h < 1 << 16; h++) {
            uint64_t wide;
            tb_overflow overflow;
            tb_convert_floats(type, TB_F64, &halves[h], 1, &wide, TB_OVERFLOW_INFINITY,
                              &overflow);
            equal &= found.u16[h] == half_of_double(to, wide);
        }
        CHECK(equal);
    }
}

/* The cases of a table that every library gets wrong somewhere. */
static void
test_edges(void)
{
    static const struct {
        uint32_t bits;
        uint16_t f16;
        uint16_t bf16;
    } cases[] = {
        {0x00000000, 0x0000, 0x0000}, {0x80000000, 0x8000, 0x8000},
        {0x33000000, 0x0000, 0x3300}, /* 2**-25: half the smallest, to even */
        {0x33000001, 0x0001, 0x3300}, {0x33800000, 0x0001, 0x3380},
        {0x477fe000, 0x7bff, 0x4780}, /* 65504 */
        {0x477fefff, 0x7bff, 0x4780}, /* 65519.996 */
        {0x477ff000, 0x7c00, 0x4780}, /* 65520 */
        {0x7f7f7fff, 0x7c00, 0x7f7f}, {0x7f7f8000, 0x7c00, 0x7f80},
        {0x7f800000, 0x7c00, 0x7f80}, {0xff800000, 0xfc00, 0xff80},
        {0x7f800001, 0x7e00, 0x7fc0}, /* a payload that is cut off: still NaN */
        {0x7f812345, 0x7e09, 0x7fc1}, {0xffffffff, 0xffff, 0xffff},
        {0x00400000, 0x0000, 0x0040}, /* 2**-127, subnormal in bfloat16 too */
        {0x00008000, 0x0000, 0x0000}, {0x00008001, 0x0000, 0x0001},
        {0x00018000, 0x0000, 0x0002},
    };
    enum { COUNT = sizeof cases / sizeof *cases };

    for (int i = 0; i < COUNT; i++) {
        given.u32[i] = cases[i].bits;
    }
    convert(TB_F32, TB_F16, COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK(found.u16[i] == cases[i].f16);
        CHECK(cases[i].f16 == half_of_float(f16_format, cases[i].bits));
    }
    convert(TB_F32, TB_BF16, COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK(found.u16[i] == cases[i].bf16);
        CHECK(cases[i].bf16 == half_of_float(bf16_format, cases[i].bits));
    }
    given.u64[0] = 0x3ff0020000001000; /* 1 + 2**-11 + 2**-40: twice rounded it is 1 */
    convert(TB_F64, TB_F16, 1);
    CHECK(found.u16[0] == 0x3c01);
    given.u64[0] = 0x3ff0100000001000; /* 1 + 2**-8 + 2**-40 */
    convert(TB_F64, TB_BF16, 1);
    CHECK(found.u16[0] == 0x3f81);
}

/* --- every length, at every misalignment, between guard pages --------------------- */

#ifndef _WIN32
typedef struct {
    char *begin; /* of the page between two that cannot be touched */
    char *end;
} guarded;

static guarded
allocate_guarded(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *memory = (char *)mmap(NULL, (size_t)(6 * page), PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == (char *)MAP_FAILED ||
        mprotect(memory, (size_t)page, PROT_NONE) != 0 ||
        mprotect(memory + 5 * page, (size_t)page, PROT_NONE) != 0) {
        abort();
    }
    return (guarded){memory + page, memory + 5 * page};
}

/* What may lie beside an output on the page: a line or two of it are looked at. */
enum { BESIDE = 128 };

static ptrdiff_t
at_most_beside(ptrdiff_t bytes)
{
    return bytes < BESIDE ? bytes : BESIDE;
}

/* n elements so that they begin, or end, `slack` bytes from a guard page. */
static void
convert_beside_guard(guarded in, guarded out, tb_type from, tb_type to, ptrdiff_t n,
                     ptrdiff_t slack, int at_end)
{
    static unsigned char untouched[BESIDE];
    ptrdiff_t bytes = n * tb_type_size(from), bytes_out = n * tb_type_size(to);
    char *src = at_end ? in.end - slack - bytes : in.begin + slack;
    char *dst = at_end ? out.end - slack - bytes_out : out.begin + slack;
    size_t before = (size_t)at_most_beside(dst - out.begin);
    size_t after = (size_t)at_most_beside(out.end - dst - bytes_out);
    tb_overflow overflow;

    memcpy(src, given.bytes, (size_t)bytes);
    memset(untouched, 0x55, sizeof untouched);
    memset(dst - before, 0x55, before + (size_t)bytes_out + after);
    tb_convert_floats(from, to, src, n, dst, TB_OVERFLOW_INFINITY, &overflow);
    CHECK(memcmp(dst - before, untouched, before) == 0);
    CHECK(memcmp(dst + bytes_out, untouched, after) == 0);
    CHECK(memcmp(dst, expected.bytes, (size_t)bytes_out) == 0);
}

static void
test_lengths_and_misalignments(void)
{
    enum { LONGEST = 700 };
    static guarded in, out;
    tb_level level = tb_level_used();

    if (in.begin == NULL) {
        in = allocate_guarded();
        out = allocate_guarded();
    }
    for (int a = 0; a < TYPES; a++) {
        for (int b = 0; b < TYPES; b++) {
            fill_samples(types[a], LONGEST);
            tb_use_level(TB_LEVEL_SCALAR);
            convert(types[a], types[b], LONGEST);
            tb_use_level(level);
            memcpy(expected.bytes, found.bytes,
                   (size_t)(LONGEST * tb_type_size(types[b])));
            /* And some that are long enough to begin at a boundary. */
            for (ptrdiff_t n = 0; n <= LONGEST; n += n <= 257 ? 1 : 47) {
                for (ptrdiff_t slack = 0; slack < 64; slack++) {
                    convert_beside_guard(in, out, types[a], types[b], n, slack, 0);
                    convert_beside_guard(in, out, types[a], types[b], n, slack, 1);
                }
            }
        }
    }
}
#endif

/* --- overflow --------------------------------------------------------------------- */

static void
test_overflow(void)
{
    enum { N = 40000 };
    float *values = given.f32;
    uint16_t *halves = found.u16;
    tb_overflow overflow;

    for (int i = 0; i < N; i++) {
        values[i] = (float)(i % 1000);
    }
    values[7] = INFINITY;
    values[8] = NAN;
    values[20000] = -70000.0f;
    values[30000] = 65520.0f;
    values[N - 1] = 1e30f;
    tb_convert_floats(TB_F32, TB_F16, values, N, halves, TB_OVERFLOW_INFINITY,
                      &overflow);
    CHECK(overflow.count == 3 && overflow.first == 20000);
    CHECK(halves[20000] == 0xfc00 && halves[30000] == 0x7c00 && halves[7] == 0x7c00);
    tb_convert_floats(TB_F32, TB_F16, values, N, halves, TB_OVERFLOW_SATURATE,
                      &overflow);
    CHECK(overflow.count == 3 && overflow.first == 20000);
    CHECK(halves[20000] == 0xfbff && halves[30000] == 0x7bff &&
          halves[N - 1] == 0x7bff);
    CHECK(halves[7] == 0x7c00 && halves[8] == 0x7e00);
    tb_convert_floats(TB_F32, TB_F16, values, N, halves, TB_OVERFLOW_STOP, &overflow);
    CHECK(overflow.count > 0 && overflow.first == 20000);
    tb_find_overflow(TB_F32, TB_F16, values, N, &overflow);
    CHECK(overflow.count == 3 && overflow.first == 20000);
    tb_find_overflow(TB_F32, TB_BF16, values, N, &overflow);
    CHECK(overflow.count == 0 && overflow.first == -1);
    tb_find_overflow(TB_F32, TB_F64, values, N, &overflow);
    CHECK(overflow.count == 0 && overflow.first == -1);

    double *doubles = given.f64;
    float *floats = found.f32;
    doubles[0] = -1e300;
    doubles[1] = (double)INFINITY;
    doubles[2] = 1e-300;
    tb_convert_floats(TB_F64, TB_F32, doubles, 3, floats, TB_OVERFLOW_SATURATE,
                      &overflow);
    CHECK(overflow.count == 1 && overflow.first == 0);
    CHECK(bits_of_float(floats[0]) == 0xff7fffff && isinf(floats[1]) && floats[2] == 0);

    uint16_t large[] = {0x4780, 0x477f, 0xff80,
                        0xc780}; /* 65536, 65280, -inf, -65536 */
    tb_convert_floats(TB_BF16, TB_F16, large, 4, halves, TB_OVERFLOW_SATURATE,
                      &overflow);
    CHECK(overflow.count == 2 && overflow.first == 0);
    CHECK(halves[0] == 0x7bff && halves[1] == 0x7bf8 && halves[2] == 0xfc00 &&
          halves[3] == 0xfbff);
}

/* More than the caches hold is streamed, and the rest of a line is not. */
static void
test_streaming(void)
{
    ptrdiff_t n = (20 << 20) + 37;
    float *values = (float *)malloc((size_t)n * 4 + 64);
    uint16_t *halves = (uint16_t *)malloc((size_t)n * 2 + 64);
    float *back = (float *)malloc((size_t)n * 4 + 64);
    tb_overflow overflow;

    if (values == NULL || halves == NULL || back == NULL) {
        abort();
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        values[i] = (float)(i % 2048) - 1024.0f; /* exact in float16 */
    }
    for (ptrdiff_t shift = 0; shift < 4; shift++) {
        char *dst = (char *)halves + shift, *wide = (char *)back + shift;
        int equal = 1;
        tb_convert_floats(TB_F32, TB_F16, values, n, dst, TB_OVERFLOW_INFINITY,
                          &overflow);
        tb_convert_floats(TB_F16, TB_F32, dst, n, wide, TB_OVERFLOW_INFINITY,
                          &overflow);
        equal = memcmp(wide, values, (size_t)n * 4) == 0;
        CHECK(equal);
    }
    free(values);
    free(halves);
    free(back);
}

int
main(void)
{
    on_each_level(test_midpoints_of_float64);
    on_each_level(test_float64_to_float32);
    on_each_level(test_all_halves);
    on_each_level(test_edges);
    on_each_level(test_overflow);
    on_each_level(test_streaming);
#ifndef _WIN32
    on_each_level(test_lengths_and_misalignments);
#endif
    CHECK(tb_level_available(tb_cpu_best()));
    CHECK(tb_level_available(TB_LEVEL_SCALAR));
    return check_report();
}
