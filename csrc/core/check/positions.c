/* Positions: each segment counts up from the same start, and no position is one that
 * the model does not have. */
#include "core/base/size.h"
#include "core/check/scan.h"
#include "core/check/story.h"

/* The first place of a segment where positions do not count up from the start. */
static void
compare_segment(tb_check *check, int i, int other, tb_stretch span)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t from = column->row_step == 0 ? span.begin % check->width : span.begin;
    ptrdiff_t length = span.end - span.begin;
    ptrdiff_t at = tb_scan_count_up(column->wide + from, length, column->start);

    if (at < length) {
        tb_note_at(check, at == 0 ? TB_FOUND_RESTART : TB_FOUND_STEP, i, other,
                   span.begin + at, column->wide[from + at],
                   tb_add_any(column->start, at));
    }
}

static int
is_axes_start(const tb_check_column *column, ptrdiff_t at)
{
    for (ptrdiff_t k = 0; k < column->axes; k++) {
        if (column->wide[at * column->token_step + k * column->axis_step] !=
            column->start) {
            return 0;
        }
    }
    return 1;
}

/* All of several positions are the start at the first token of a segment alone. */
static void
compare_axes(tb_check *check, int i, int other, tb_stretch span)
{
    const tb_check_column *column = &check->columns[i];
    int64_t first = column->wide[span.begin * column->token_step];

    if (!is_axes_start(column, span.begin)) {
        tb_note_at(check, TB_FOUND_RESTART, i, other, span.begin, first, column->start);
        return;
    }
    for (ptrdiff_t at = span.begin + 1; at < span.end; at++) {
        if (is_axes_start(column, at)) {
            tb_note_at(check, TB_FOUND_STEP, i, other, at, column->start, -1);
            return;
        }
    }
}

void
tb_compare_positions(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int other = check->starts_from == i ? check->real_from : check->starts_from;
    ptrdiff_t row = -1;

    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        ptrdiff_t before = check->found;
        if (check->spans[k].begin / check->width == row) {
            continue; /* one finding in a row is enough */
        }
        if (column->form == TB_FORM_AXES) {
            compare_axes(check, i, other, check->spans[k]);
        }
        else {
            compare_segment(check, i, other, check->spans[k]);
        }
        if (check->found > before) {
            row = check->spans[k].begin / check->width;
        }
    }
}

static void
note_range(tb_check *check, int i, ptrdiff_t at)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t token = at;

    if (column->form == TB_FORM_AXES) {
        token =
            column->token_step == 1 ? at % column->axis_step : at / column->token_step;
    }
    tb_note_at(check, TB_FOUND_POSITION_RANGE, i, -1, token, column->wide[at],
               check->settings.max_position);
}

/* The first position of [from, to) that is out of range, or `to`. */
static ptrdiff_t
find_outside(const tb_check_column *column, ptrdiff_t from, ptrdiff_t to, int64_t limit)
{
    return from < to ? from + tb_scan_range(column->wide + from, to - from, limit) : to;
}

/* Positions that count up in each segment: only their last, and those of padding. */
static ptrdiff_t
find_outside_counted(const tb_check *check, const tb_check_column *column,
                     int64_t limit)
{
    ptrdiff_t before = 0;

    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t at = find_outside(column, before, span.begin, limit);
        if (at < span.begin) {
            return at;
        }
        if (column->start > limit - (span.end - span.begin)) {
            return span.begin + (ptrdiff_t)tb_max(0, limit - column->start);
        }
        before = span.end;
    }
    return find_outside(column, before, column->size, limit);
}

/* Positions of padding are looked up in a table too. */
void
tb_check_position_range(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int64_t most = check->settings.max_position;
    int64_t limit = most < 0 ? INT64_MAX : most;
    int is_counted = column->form == TB_FORM_GRID && column->row_step != 0;

    for (ptrdiff_t k = 0; k < tb_min(check->found, TB_MOST_FINDINGS); k++) {
        is_counted &= check->findings[k].column != i;
    }
    ptrdiff_t at = is_counted ? find_outside_counted(check, column, limit)
                              : find_outside(column, 0, column->size, limit);
    if (at < column->size) {
        note_range(check, i, at);
    }
}
