#include "core/check/scan.h"

#include "core/base/size.h"
#include "core/cast/half.h"
#include "core/check/levels/scan_loops.h"

#include <string.h>

/* Elements that are looked at together; where one is wrong, they are read again. */
enum { BLOCK = 2048, FIRST = 64, FEW = 4 };

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

/* How many elements to look at together from `at` on: few at first, since most runs are
 * shorter than a block. */
static ptrdiff_t
next_block(ptrdiff_t at, ptrdiff_t n)
{
    return tb_min(n - at, tb_min(BLOCK, at < FIRST ? FIRST : at));
}

ptrdiff_t
tb_scan_constant(const void *data, int item_size, ptrdiff_t n)
{
    const char *p = (const char *)data;
    size_t size = (size_t)item_size;
    ptrdiff_t at = 1, count = 0;

    for (; at < n; at += count) {
        count = next_block(at, n);
        /* All are alike if each is like the one before it. */
        const char *here = p + at * item_size;
        if (memcmp(here, here - size, (size_t)count * size) != 0) {
            break;
        }
    }
    while (at < n && count > 1) { /* the first other one is in [at, at + count) */
        ptrdiff_t half = count / 2;
        const char *here = p + at * item_size;
        if (memcmp(here, here - size, (size_t)half * size) == 0) {
            at += half;
            count -= half;
        }
        else {
            count = half;
        }
    }
    return tb_min(at, n > 0 ? n : 0);
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

    ptrdiff_t count = 0;

    for (ptrdiff_t at = 0; at < tb_min(n, FEW); at++) {
        if (p[at] != value) {
            return at;
        }
    }
    for (ptrdiff_t at = 0; at < n; at += count) {
        count = next_block(at, n);
        if (!loops->constant(p + at, count, value)) {
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
