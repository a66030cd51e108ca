#include "core/check/scan.h"

#include "core/base/size.h"
#include "core/cast/half.h"
#include "core/check/levels/scan_loops.h"

#include <string.h>

/* Elements that are looked at together; where one is wrong, they are read again. */
enum { BLOCK = 2048 };

static const tb_scan_loops *
find_loops(void)
{
#if TB_X86
    if (tb_level_used() == TB_LEVEL_AVX2) {
        return &tb_scan_loops_avx2;
    }
    if (tb_level_used() == TB_LEVEL_AVX512) {
        return &tb_scan_loops_avx512;
    }
#endif
    return &tb_scan_loops_scalar;
}

ptrdiff_t
tb_scan_constant(const void *data, int item_size, ptrdiff_t n)
{
    const char *p = (const char *)data;
    size_t size = (size_t)item_size;

    for (ptrdiff_t at = 1; at < n; at += BLOCK) {
        ptrdiff_t end = tb_min(n, at + BLOCK);
        const char *here = p + at * item_size;
        /* All are alike if each is like the one before it. */
        if (memcmp(here, here - size, (size_t)(end - at) * size) != 0) {
            for (; memcmp(p, p + at * item_size, size) == 0; at++) {
            }
            return at;
        }
    }
    return n;
}

ptrdiff_t
tb_scan_count_up(const int64_t *p, ptrdiff_t n, int64_t start)
{
    const tb_scan_loops *loops = find_loops();

    for (ptrdiff_t at = 0; at < n; at += BLOCK) {
        ptrdiff_t count = tb_min(BLOCK, n - at);
        int64_t first = (int64_t)((uint64_t)start + (uint64_t)at);
        if (!loops->count_up(p + at, count, first)) {
            for (ptrdiff_t i = at; i < n; i++) {
                if ((uint64_t)p[i] != (uint64_t)start + (uint64_t)i) {
                    return i;
                }
            }
        }
    }
    return n;
}

ptrdiff_t
tb_scan_equal(const int64_t *a, const int64_t *b, ptrdiff_t n)
{
    const tb_scan_loops *loops = find_loops();

    for (ptrdiff_t at = 0; at < n; at += BLOCK) {
        if (!loops->equal(a + at, b + at, tb_min(BLOCK, n - at))) {
            for (; a[at] == b[at]; at++) {
            }
            return at;
        }
    }
    return n;
}

ptrdiff_t
tb_scan_range(const int64_t *p, ptrdiff_t n, int64_t limit)
{
    const tb_scan_loops *loops = find_loops();

    for (ptrdiff_t at = 0; at < n; at += BLOCK) {
        if (!loops->in_range(p + at, tb_min(BLOCK, n - at), limit)) {
            for (; p[at] >= 0 && p[at] < limit; at++) {
            }
            return at;
        }
    }
    return n;
}

ptrdiff_t
tb_scan_other(const int64_t *p, ptrdiff_t n, int64_t value)
{
    const tb_scan_loops *loops = find_loops();

    if (n == 0 || p[0] != value) {
        return 0;
    }
    for (ptrdiff_t at = 0; at < n; at += BLOCK) {
        if (!loops->constant(p + at, tb_min(BLOCK, n - at), value)) {
            for (; p[at] == value; at++) {
            }
            return at;
        }
    }
    return n;
}

ptrdiff_t
tb_scan_value(const int64_t *p, ptrdiff_t n, int64_t value)
{
    const tb_scan_loops *loops = find_loops();

    for (ptrdiff_t at = 0; at < n; at += BLOCK) {
        if (!loops->without(p + at, tb_min(BLOCK, n - at), value)) {
            for (; p[at] != value; at++) {
            }
            return at;
        }
    }
    return n;
}
