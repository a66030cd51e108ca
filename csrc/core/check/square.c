/* Masks of queries and keys: a token sees itself and its neighbour of the same segment,
 * and nothing of another segment. That holds for causal masks and windows too. */
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

/* One query of one head; 1 where something was found. */
static int
compare_query(tb_check *check, int i, ptrdiff_t row, ptrdiff_t head, ptrdiff_t query,
              tb_stretch span)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t keys = find_keys(column, row, head, query);
    ptrdiff_t begin = span.begin - row * check->width;
    ptrdiff_t end = span.end - row * check->width;
    ptrdiff_t shown = find_shown(column, keys, 0, begin);

    if (shown == begin) {
        shown = find_shown(column, keys, end, check->width);
        shown = shown == check->width ? -1 : shown;
    }
    if (shown >= 0) {
        tb_note(check, TB_FOUND_MASK_LEAK, i, check->starts_from, row, query, shown,
                begin);
        return 1;
    }
    for (ptrdiff_t key = query; key >= begin && key >= query - 1; key--) {
        if (!shows(column, keys + key)) {
            tb_note(check, TB_FOUND_MASK_BLIND, i, check->starts_from, row, query, key,
                    begin);
            return 1;
        }
    }
    return 0;
}

/* [rows, 1, 1, keys]: all tokens of a row see the same keys. */
static void
compare_one_query(tb_check *check, int i, ptrdiff_t row)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t keys = find_keys(column, row, 0, 0);
    tb_stretch extent = check->extents[row];

    for (ptrdiff_t key = 0; key < check->width; key++) {
        ptrdiff_t at = row * check->width + key;
        int is_real = at >= extent.begin && at < extent.end;
        if (shows(column, keys + key) != is_real) {
            tb_note(check, is_real ? TB_FOUND_MASK_BLIND : TB_FOUND_MASK_LEAK, i,
                    check->real_from, row, key, key, -1);
            return;
        }
    }
}

void
tb_compare_square(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t heads = column->ndim == 4 ? column->shape[1] : 1;
    int has_queries = column->shape[column->ndim - 2] > 1 || check->width == 1;
    ptrdiff_t done = -1;

    for (ptrdiff_t r = 0; !has_queries && r < check->rows; r++) {
        compare_one_query(check, i, r);
    }
    for (ptrdiff_t k = 0; has_queries && k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t row = span.begin / check->width;
        for (ptrdiff_t at = span.begin; at < span.end && done != row; at++) {
            for (ptrdiff_t head = 0; head < heads && done != row; head++) {
                if (compare_query(check, i, row, head, at % check->width, span)) {
                    done = row;
                }
            }
        }
    }
}
