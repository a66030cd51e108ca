#include "core/base/sort.h"
#include "core/base/macros.h"

#include <string.h>

enum {
    MAX_DIGIT_BITS = 11
}; /* 2048 counters: half of a 32 KiB level-1 cache at most */

int
tb_count_bits(uint64_t value)
{
    int bits = 0;

    for (; value != 0; value >>= 1) {
        bits++;
    }
    return bits;
}

/* There are no more counters than items: to clear and add them up would take longer
 * than the sort. Nor are there more than fit into the cache. All passes have digits of
 * one width. */
tb_sort_layout
tb_lay_out_sort(uint64_t key_range, int64_t n, int key_shift)
{
    tb_sort_layout layout = {key_shift, 0, 0};
    int key_bits = tb_count_bits(key_range);
    int limit = tb_count_bits((uint64_t)n);

    limit = limit < 4 ? 4 : limit > MAX_DIGIT_BITS ? MAX_DIGIT_BITS : limit;
    layout.passes = (key_bits + limit - 1) / limit;
    if (layout.passes > 0) {
        layout.digit_bits = (key_bits + layout.passes - 1) / layout.passes;
    }
    return layout;
}

/* A stable counting sort of the items by one digit of the key, from `from` to `to`. */
static void
sort_by_digit(const uint64_t *TB_RESTRICT from, ptrdiff_t n, int shift, int bits,
              uint64_t *TB_RESTRICT to)
{
    ptrdiff_t places[1 << MAX_DIGIT_BITS];
    uint64_t mask = ((uint64_t)1 << bits) - 1;
    ptrdiff_t place = 0;

    memset(places, 0, sizeof places[0] << bits);
    for (ptrdiff_t i = 0; i < n; i++) {
        places[from[i] >> shift & mask]++;
    }
    for (uint64_t digit = 0; digit <= mask; digit++) {
        ptrdiff_t count = places[digit];
        places[digit] = place;
        place += count;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        to[places[from[i] >> shift & mask]++] = from[i];
    }
}

/* Sorts bare keys of one digit: equal ones are alike, so that counting them is enough.
 */
static void
sort_by_counting(uint64_t *items, ptrdiff_t n, int bits)
{
    ptrdiff_t counts[1 << MAX_DIGIT_BITS];
    uint64_t mask = ((uint64_t)1 << bits) - 1;

    memset(counts, 0, sizeof counts[0] << bits);
    for (ptrdiff_t i = 0; i < n; i++) {
        counts[items[i] & mask]++;
    }
    for (uint64_t digit = 0; digit <= mask; digit++) {
        for (ptrdiff_t left = counts[digit]; left > 0; left--) {
            *items++ = digit;
        }
    }
}

void
tb_sort_items(uint64_t *items, ptrdiff_t n, tb_sort_layout layout, uint64_t *scratch)
{
    uint64_t *from = items, *to = scratch;

    if (layout.key_shift == 0 && layout.passes == 1) {
        sort_by_counting(items, n, layout.digit_bits);
        return;
    }
    for (int pass = 0; pass < layout.passes; pass++) {
        uint64_t *held = from;
        sort_by_digit(from, n, layout.key_shift + pass * layout.digit_bits,
                      layout.digit_bits, to);
        from = to;
        to = held;
    }
    if (from != items) {
        memcpy(items, from, (size_t)n * sizeof *items);
    }
}
