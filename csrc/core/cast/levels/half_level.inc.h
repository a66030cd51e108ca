/*
 * Template: makes the kernels of a level from its steps. A step converts STEP elements.
 * The file that includes this defines
 *
 *     TARGET   TB_TARGET(...), or nothing
 *     STEP     an enum, a multiple of 16
 *     TABLE    the name of the level's tb_float_kernels
 *     tops     a type in which a step gathers magnitudes as float32 bits, with
 *              no_tops() and highest_top(tops)
 *
 * and step_f32_f16(src, dst, stream, &tops) and so on, for all in the table below.
 * Neither src nor dst is aligned, but dst is where they stream.
 */
typedef void (*step_function)(const char *src, char *dst, int stream, tops *top);

/* Elements too few for a step are copied to a buffer and converted by one step
 * there. So all elements are converted in the same way, and nothing is read past n. */
TARGET static TB_ALWAYS_INLINE void
convert_rest(const char *src, ptrdiff_t bytes, char *dst, ptrdiff_t bytes_out,
             step_function step, tops *top)
{
    char rest[8 * STEP] = {0}, converted[8 * STEP];

    memcpy(rest, src, (size_t)bytes);
    step(rest, converted, 0, top);
    memcpy(dst, converted, (size_t)bytes_out);
}

enum { LINE = 64 };

/* Bytes to the next cache line, or to the next step if steps are shorter. */
static inline ptrdiff_t
bytes_to_boundary(const char *at, ptrdiff_t size)
{
    uintptr_t boundary = STEP * size < LINE ? (uintptr_t)(STEP * size) : LINE;
    return (ptrdiff_t)(-(uintptr_t)at % boundary);
}

/* Elements up to a boundary, less than a step; 0 if no element begins at one. */
static inline ptrdiff_t
count_head(const char *at, ptrdiff_t size)
{
    ptrdiff_t bytes = bytes_to_boundary(at, size);
    return bytes % size == 0 ? bytes / size : 0;
}

/* `step` and the sizes are constants after inlining. In long runs the wider side
 * begins at a boundary, because accesses across two lines cost twice; if the output is
 * streamed, the output does. */
TARGET static TB_ALWAYS_INLINE int
run_kernel(const void *from, ptrdiff_t n, void *out, int stream, ptrdiff_t size,
           ptrdiff_t size_out, step_function step, uint32_t limit)
{
    const char *src = (const char *)from;
    char *dst = (char *)out;
    tops top = no_tops();
    ptrdiff_t i = 0;

    if (n >= 16 * STEP) {
        i = stream || size_out > size ? count_head(dst, size_out)
                                      : count_head(src, size);
    }
    if (i > 0) {
        convert_rest(src, i * size, dst, i * size_out, step, &top);
    }
    if (stream && bytes_to_boundary(dst + i * size_out, size_out) == 0) {
        for (; i + STEP <= n; i += STEP) {
            step(src + i * size, dst + i * size_out, 1, &top);
        }
    }
    for (; i + STEP <= n; i += STEP) {
        step(src + i * size, dst + i * size_out, 0, &top);
    }
    if (i < n) {
        convert_rest(src + i * size, (n - i) * size, dst + i * size_out,
                     (n - i) * size_out, step, &top);
    }
    return highest_top(top) >= limit;
}

/* `limit`: the smallest float32 that overflows, or one that no number reaches. */
#define KERNEL(name, size, size_out, limit)                                         \
    TARGET static int name(const void *src, ptrdiff_t n, void *dst, int stream)     \
    {                                                                               \
        return run_kernel(src, n, dst, stream, size, size_out, step_##name, limit); \
    }

KERNEL(f64_f32, 8, 4, 0x7f800000)
KERNEL(f64_f16, 8, 2, 0x477ff000)
KERNEL(f64_bf16, 8, 2, 0x7f7f8000)
KERNEL(f32_f16, 4, 2, 0x477ff000)
KERNEL(f32_bf16, 4, 2, 0x7f7f8000)
KERNEL(f16_f32, 2, 4, UINT32_MAX)
KERNEL(bf16_f32, 2, 4, UINT32_MAX)

const tb_float_kernels TABLE = {
    [TB_FLOAT_PAIR(TB_F64, TB_F32)] = f64_f32,
    [TB_FLOAT_PAIR(TB_F64, TB_F16)] = f64_f16,
    [TB_FLOAT_PAIR(TB_F64, TB_BF16)] = f64_bf16,
    [TB_FLOAT_PAIR(TB_F32, TB_F16)] = f32_f16,
    [TB_FLOAT_PAIR(TB_F32, TB_BF16)] = f32_bf16,
    [TB_FLOAT_PAIR(TB_F16, TB_F32)] = f16_f32,
    [TB_FLOAT_PAIR(TB_BF16, TB_F32)] = bf16_f32,
};
