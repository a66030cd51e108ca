/* Where segments begin, by one column. */
#include "core/check/scan.h"
#include "core/check/story.h"

int
tb_knows_starts(const tb_check_column *column)
{
    if (column->form == TB_FORM_NONE || !column->is_sound) {
        return 0;
    }
    switch (column->role) {
        case TB_ROLE_BOUNDARIES:
            return !column->tells_next;
        case TB_ROLE_PADDED_BOUNDARIES:
        case TB_ROLE_SEQ_IDX:
        case TB_ROLE_SEGMENT_IDS:
        case TB_ROLE_SEQ_LENGTHS:
            return 1;
        case TB_ROLE_POSITIONS:
            return column->row_step != 0;
        case TB_ROLE_MASK:
            return column->is_numbered || column->form == TB_FORM_SQUARE;
        default:
            return 0;
    }
}

/* The flat place of the k-th real token; `row` and `before` say where the search goes
 * on, as k only rises. */
static ptrdiff_t
find_real(const tb_check *check, int64_t k, ptrdiff_t *row, int64_t *before)
{
    while (*row < check->rows) {
        const tb_stretch *extent = &check->extents[*row];
        if (k - *before < extent->end - extent->begin) {
            return extent->begin + (ptrdiff_t)(k - *before);
        }
        *before += extent->end - extent->begin;
        (*row)++;
    }
    return check->total;
}

static ptrdiff_t
list_boundaries(tb_check *check, const tb_check_column *column)
{
    ptrdiff_t count = 0, row = 0;
    int64_t before = 0;

    for (ptrdiff_t k = 0; k < column->size && count < check->total; k++) {
        int64_t at = column->wide[k];
        if (k > 0 && at == column->wide[k - 1]) {
            continue;
        }
        check->starts[count++] =
            column->is_compact ? find_real(check, at, &row, &before) : (ptrdiff_t)at;
    }
    return count;
}

static ptrdiff_t
list_runs(tb_check *check, const tb_check_column *column)
{
    const char *data = (const char *)column->data;
    int size = tb_type_size(column->type);
    ptrdiff_t count = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t at = check->extents[r].begin, end = check->extents[r].end;
        while (at < end) {
            check->starts[count++] = at;
            at += tb_scan_constant(data + at * size, size, end - at);
        }
    }
    return count;
}

static ptrdiff_t
list_seq_lengths(tb_check *check, const tb_check_column *column)
{
    ptrdiff_t count = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        int64_t at = check->extents[r].begin;
        const int64_t *lengths = column->wide + r * column->shape[1];
        for (ptrdiff_t k = 0; k < column->shape[1] && count < check->total; k++) {
            if (lengths[k] > 0) {
                check->starts[count++] = (ptrdiff_t)at;
                at += lengths[k];
            }
        }
    }
    return count;
}

/* A restart is a `start` that the next position goes on from. */
static int
is_restart(const int64_t *p, ptrdiff_t at, ptrdiff_t end, int64_t start)
{
    return p[at] == start &&
           (at + 1 == end || p[at + 1] == start + 1 || p[at + 1] == start);
}

static ptrdiff_t
list_restarts(tb_check *check, const tb_check_column *column)
{
    const int64_t *p = column->wide;
    ptrdiff_t count = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t at = check->extents[r].begin, end = check->extents[r].end;
        while (at < end) {
            check->starts[count++] = at;
            ptrdiff_t begin = at++;
            if (p[begin] == column->start) {
                at = begin + tb_scan_count_up(p + begin, end - begin, p[begin]);
            }
            while (at < end && !is_restart(p, at, end, column->start)) {
                at++;
            }
        }
    }
    return count;
}

/* Of several positions for a token: where all of them are the first position. */
static ptrdiff_t
list_axes_restarts(tb_check *check, const tb_check_column *column)
{
    ptrdiff_t count = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        for (ptrdiff_t at = check->extents[r].begin; at < check->extents[r].end; at++) {
            int all = 1;
            for (ptrdiff_t k = 0; k < column->axes; k++) {
                all &= column->wide[at * column->token_step + k * column->axis_step] ==
                       column->start;
            }
            if (all || at == check->extents[r].begin) {
                check->starts[count++] = at;
            }
        }
    }
    return count;
}

/* Whether a token sees none before it; mostly it sees the one before. */
static int
sees_none_before(const tb_check *check, const tb_check_column *column, ptrdiff_t row,
                 ptrdiff_t query, ptrdiff_t begin)
{
    for (ptrdiff_t key = query - 1; key >= begin; key--) {
        if (tb_sees(check, column, row, query, key)) {
            return 0;
        }
    }
    return 1;
}

static ptrdiff_t
list_square_starts(tb_check *check, const tb_check_column *column)
{
    ptrdiff_t count = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t begin = check->extents[r].begin;
        for (ptrdiff_t at = begin; at < check->extents[r].end; at++) {
            ptrdiff_t query = at - r * check->width;
            if (at == begin ||
                (column->shape[column->ndim - 2] > 1 &&
                 sees_none_before(check, column, r, query, begin - r * check->width))) {
                check->starts[count++] = at;
            }
        }
    }
    return count;
}

ptrdiff_t
tb_list_starts(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];

    switch (column->role) {
        case TB_ROLE_BOUNDARIES:
        case TB_ROLE_PADDED_BOUNDARIES:
            return list_boundaries(check, column);
        case TB_ROLE_SEQ_LENGTHS:
            return list_seq_lengths(check, column);
        case TB_ROLE_POSITIONS:
            return column->form == TB_FORM_AXES ? list_axes_restarts(check, column)
                                                : list_restarts(check, column);
        default:
            return column->form == TB_FORM_SQUARE ? list_square_starts(check, column)
                                                  : list_runs(check, column);
    }
}

void
tb_cut_spans(tb_check *check, ptrdiff_t count)
{
    ptrdiff_t k = 0, spans = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t begin = check->extents[r].begin, end = check->extents[r].end;
        while (k < count && check->starts[k] <= begin) {
            k++;
        }
        if (begin == end) {
            continue;
        }
        for (; k < count && check->starts[k] < end; k++) {
            check->spans[spans++] = (tb_stretch){begin, check->starts[k]};
            begin = check->starts[k];
        }
        check->spans[spans++] = (tb_stretch){begin, end};
    }
    check->span_count = spans;
}
