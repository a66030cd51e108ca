#include "core/layout/tokens.h"

#include "core/base/size.h"
#include "core/cast/half.h"
#include "core/layout/levels/token_loops.h"

static tb_match_tokens
find_match(int item_size)
{
    const tb_token_loops *loops = &tb_token_loops_scalar;
    int kind = item_size == 1 ? 0 : item_size == 2 ? 1 : item_size == 4 ? 2 : 3;

#if TB_X86
    if (tb_level_used() == TB_LEVEL_AVX2) {
        loops = &tb_token_loops_avx2;
    }
    if (tb_level_used() == TB_LEVEL_AVX512) {
        loops = &tb_token_loops_avx512;
    }
#endif
    return loops->match[kind];
}

static uint64_t
read_token(const tb_token_search *search, ptrdiff_t i)
{
    switch (search->item_size) {
        case 1:
            return ((const uint8_t *)search->tokens)[i];
        case 2:
            return ((const uint16_t *)search->tokens)[i];
        case 4:
            return ((const uint32_t *)search->tokens)[i];
        default:
            return ((const uint64_t *)search->tokens)[i];
    }
}

/* Whether the pattern is at `place`, of which only the first token was compared. */
static int
is_whole(const tb_token_search *search, ptrdiff_t place)
{
    if (search->pattern_size > search->count - place) {
        return 0;
    }
    for (ptrdiff_t k = 1; k < search->pattern_size; k++) {
        if (read_token(search, place + k) != search->pattern[k]) {
            return 0;
        }
    }
    return 1;
}

/* The bits of the `size` elements, less than 64, from `from` on. */
static uint64_t
match_rest(const tb_token_search *search, ptrdiff_t from, ptrdiff_t size)
{
    uint64_t bits = 0;

    for (ptrdiff_t i = 0; i < size; i++) {
        bits |= (uint64_t)(read_token(search, from + i) == search->pattern[0]) << i;
    }
    return bits;
}

ptrdiff_t
tb_find_tokens(const tb_token_search *search, ptrdiff_t *at, ptrdiff_t stop,
               int64_t *places, ptrdiff_t room)
{
    const char *tokens = (const char *)search->tokens;
    tb_match_tokens match = find_match(search->item_size);
    uint64_t first = search->pattern[0];
    ptrdiff_t found = 0, from = *at, next = *at; /* none is found before `next` */

    while (from < stop && room - found >= TB_TOKEN_BLOCK) {
        ptrdiff_t size = tb_min(stop - from, TB_TOKEN_BLOCK);
        uint64_t bits = size < TB_TOKEN_BLOCK
                            ? match_rest(search, from, size)
                            : match(tokens + from * search->item_size, first);
        for (; bits != 0; bits &= bits - 1) {
            ptrdiff_t place = from + tb_find_lowest_bit(bits);
            if (place >= next && is_whole(search, place)) {
                places[found++] = place;
                next = place + search->pattern_size;
            }
        }
        from += size;
    }
    *at = tb_max(from, next);
    return found;
}

/* Some row, and how many before it are not empty. */
typedef struct {
    ptrdiff_t row;
    int64_t before;
} row_mark;

tb_status
tb_count_window_segments(const tb_window_rows *rows, int64_t *offsets)
{
    row_mark first = {0, 0}; /* that ends behind the window's start */
    row_mark next = {0, 0};  /* that starts at its end or behind */

    offsets[0] = 0;
    for (ptrdiff_t w = 0; w < rows->windows; w++) {
        int64_t begin = rows->window_starts[w], end = begin + rows->window_lengths[w];
        while (first.row < rows->rows &&
               rows->starts[first.row] + rows->lengths[first.row] <= begin) {
            first.before += rows->lengths[first.row++] > 0;
        }
        while (next.row < rows->rows && rows->starts[next.row] < end) {
            next.before += rows->lengths[next.row++] > 0;
        }
        while (next.row > 0 && rows->starts[next.row - 1] >= end) {
            next.before -= rows->lengths[--next.row] > 0;
        }
        int64_t count = begin < end ? tb_max(next.before - first.before, 0) : 0;
        if (count > INT64_MAX - offsets[w]) {
            return TB_ERR_SIZE;
        }
        offsets[w + 1] = offsets[w] + count;
    }
    return TB_OK;
}

/* The lengths of the segments of a window, and how many. Rows before `row` end at or
 * before the window's start, since windows ascend. */
static int64_t
fill_window(const tb_window_rows *rows, ptrdiff_t window, ptrdiff_t *row,
            int64_t *lengths)
{
    int64_t begin = rows->window_starts[window], count = 0;
    int64_t end = begin + rows->window_lengths[window];

    while (*row < rows->rows && rows->starts[*row] + rows->lengths[*row] <= begin) {
        ++*row;
    }
    for (ptrdiff_t i = *row; begin < end && i < rows->rows; i++) {
        int64_t stop = tb_min(end, rows->starts[i] + rows->lengths[i]);
        if (stop > begin) {
            lengths[count++] = stop - begin;
            begin = stop;
        }
    }
    return count;
}

int64_t
tb_fill_window_segments(const tb_window_rows *rows, ptrdiff_t *window, ptrdiff_t *row,
                        int64_t enough, int64_t *lengths)
{
    int64_t count = 0;

    for (; *window < rows->windows && count < enough; ++*window) {
        count += fill_window(rows, *window, row, lengths + count);
    }
    return count;
}
