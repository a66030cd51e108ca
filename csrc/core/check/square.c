/* Masks of queries and keys: a token sees itself and its neighbour of the same segment,
 * and nothing of another segment. What is hidden from it stays hidden from later tokens:
 * that holds for causal masks and windows too, but not for a hole. */
#include "core/base/size.h"
#include "core/cast/cast.h"
#include "core/cast/float_bits.h"
#include "core/check/scan.h"
#include "core/check/story.h"

#include <string.h>

/* What is added to a score of a hidden key is at most this; ALiBi and other biases stay
 * above it. */
static const double HIDDEN = -1e4;

static int
shows(const tb_check_column *column, ptrdiff_t at)
{
    double value = 0;
    ptrdiff_t bad;

    if (!tb_type_is_float(column->type)) {
        return tb_read_element(column->data, column->type, at) != 0;
    }
    const char *data = (const char *)column->data;
    if (tb_cast_elements(column->type, TB_F64, data + at * tb_type_size(column->type),
                         1, &value, &bad) != TB_OK) {
        return 0;
    }
    return value > HIDDEN;
}

/* The element at which a row of keys begins. */
static ptrdiff_t
find_keys(const tb_check_column *column, ptrdiff_t row, ptrdiff_t head, ptrdiff_t query)
{
    int last = column->ndim - 1;
    ptrdiff_t keys = column->shape[last], queries = column->shape[last - 1];
    ptrdiff_t heads = column->ndim == 4 ? column->shape[1] : 1;

    row = column->shape[0] == 1 ? 0 : row;
    query = queries == 1 ? 0 : query;
    return ((row * heads + head) * queries + query) * keys;
}

int
tb_sees(const tb_check *check, const tb_check_column *column, ptrdiff_t row,
        ptrdiff_t query, ptrdiff_t key)
{
    (void)check;
    return shows(column, find_keys(column, row, 0, query) + key);
}

/* Which keys of [from, to) are shown first, or `to`. */
static ptrdiff_t
find_shown(const tb_check_column *column, ptrdiff_t keys, ptrdiff_t from, ptrdiff_t to)
{
    int size = column->type == TB_NUMPY_ONLY ? 0 : tb_type_size(column->type);
    const char *data = (const char *)column->data + (keys + from) * size;

    if (from >= to || shows(column, keys + from)) {
        return from < to ? from : to;
    }
    /* What is hidden is written by one value nearly always. */
    ptrdiff_t alike = tb_scan_constant(data, size, to - from);
    for (ptrdiff_t key = from + alike; key < to; key++) {
        if (shows(column, keys + key)) {
            return key;
        }
    }
    return to;
}

int
tb_shows_nothing(const tb_check_column *column, ptrdiff_t row)
{
    int last = column->ndim - 1;
    ptrdiff_t heads = column->ndim == 4 ? column->shape[1] : 1;
    ptrdiff_t count = heads * column->shape[last] * column->shape[last - 1];

    return find_shown(column, find_keys(column, row, 0, 0), 0, count) == count;
}

/* The first key of [from, to) that a query does not see, though the next one does; -1
 * where there is none. Of two causal queries both rows are alike up to the first one. */
static ptrdiff_t
find_reappearing(const tb_check_column *column, ptrdiff_t keys, ptrdiff_t next,
                 ptrdiff_t from, ptrdiff_t to)
{
    enum { TOGETHER = 64 };
    int size = tb_type_size(column->type);
    const char *data = (const char *)column->data;

    if (memcmp(data + (keys + from) * size, data + (next + from) * size,
               (size_t)((to - from) * size)) == 0) {
        return -1;
    }
    for (ptrdiff_t key = from; key < to; key += TOGETHER) {
        ptrdiff_t end = tb_min(key + TOGETHER, to);
        if (memcmp(data + (keys + key) * size, data + (next + key) * size,
                   (size_t)((end - key) * size)) == 0) {
            continue;
        }
        for (ptrdiff_t k = key; k < end; k++) {
            if (!shows(column, keys + k) && shows(column, next + k)) {
                return k;
            }
        }
    }
    return -1;
}

/* The key of its own past that a query of a segment misses; -1 where there is none. */
static ptrdiff_t
find_hole(const tb_check_column *column, ptrdiff_t keys, ptrdiff_t query,
          ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t width = column->shape[column->ndim - 1];

    if (query > begin && !shows(column, keys + query - 1)) {
        return query - 1;
    }
    if (query + 1 < end) {
        return find_reappearing(column, keys, keys + width, begin, query + 1);
    }
    /* The last one: what the query before sees. A window leaves no key before it. */
    for (ptrdiff_t key = begin + 1; key < query; key++) {
        if (!shows(column, keys + key) && shows(column, keys - width + key) &&
            shows(column, keys + key - 1)) {
            return key;
        }
    }
    return -1;
}

/* One query of one head; 1 where something was found. */
static int
compare_query(tb_check *check, int i, ptrdiff_t row, ptrdiff_t head, ptrdiff_t query,
              tb_stretch span)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t keys = find_keys(column, row, head, query);
    ptrdiff_t begin = span.begin - row * check->width;
    ptrdiff_t end = span.end - row * check->width;
    ptrdiff_t hidden = shows(column, keys + query) ? -1 : query;
    ptrdiff_t shown = begin;

    if (hidden < 0) {
        shown = find_shown(column, keys, 0, begin);
    }
    if (hidden < 0 && shown == begin) {
        shown = find_shown(column, keys, end, check->width);
        shown = shown == check->width ? -1 : shown;
    }
    if (hidden < 0 && shown >= 0) {
        tb_note(check, TB_FOUND_MASK_LEAK, i, check->starts_from, row, query, shown,
                begin);
        return 1;
    }
    hidden = hidden < 0 ? find_hole(column, keys, query, begin, end) : hidden;
    if (hidden >= 0) {
        tb_note(check, TB_FOUND_MASK_BLIND, i, check->starts_from, row, query, hidden,
                begin);
    }
    return hidden >= 0;
}

/* [rows, 1, 1, keys]: all tokens of a row see the same keys. */
static void
compare_one_query(tb_check *check, int i, ptrdiff_t row)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t keys = find_keys(column, row, 0, 0);
    tb_stretch extent = check->extents[row];
    int other = check->real_from == i ? -1 : check->real_from;

    for (ptrdiff_t key = 0; key < check->width; key++) {
        ptrdiff_t at = row * check->width + key;
        int is_real = at >= extent.begin && at < extent.end;
        if (shows(column, keys + key) != is_real) {
            tb_note(check, is_real ? TB_FOUND_MASK_BLIND : TB_FOUND_MASK_LEAK, i, other,
                    row, key, key, -1);
            return;
        }
    }
}

/* 1 where no token of a row sees any. */
static int
note_empty(tb_check *check, int i, ptrdiff_t row)
{
    if (!tb_shows_nothing(&check->columns[i], row)) {
        return 0;
    }
    tb_note(check, TB_FOUND_MASK_EMPTY, i, check->starts_from, row, -1, 0, -1);
    return 1;
}

void
tb_compare_square(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t heads = column->ndim == 4 ? column->shape[1] : 1;
    int has_queries = column->shape[column->ndim - 2] > 1 || check->width == 1;
    ptrdiff_t done = -1, looked_at = -1;

    for (ptrdiff_t r = 0; !has_queries && r < check->rows; r++) {
        if (!note_empty(check, i, r)) {
            compare_one_query(check, i, r);
        }
    }
    for (ptrdiff_t k = 0; has_queries && k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t row = span.begin / check->width;
        if (row != looked_at && note_empty(check, i, row)) {
            done = row;
        }
        looked_at = row;
        for (ptrdiff_t at = span.begin; at < span.end && done != row; at++) {
            for (ptrdiff_t head = 0; head < heads && done != row; head++) {
                if (compare_query(check, i, row, head, at % check->width, span)) {
                    done = row;
                }
            }
        }
    }
}
