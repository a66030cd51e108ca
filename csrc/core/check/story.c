/* Where segments begin: by one column, or by what most of them say. */
#include "core/check/story.h"

#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/check/scan.h"

#include <string.h>

void
tb_note(tb_check *check, tb_found kind, int column, int other, ptrdiff_t row,
        ptrdiff_t place, int64_t found, int64_t expected)
{
    if (check->found < TB_MOST_FINDINGS) {
        check->findings[check->found] =
            (tb_finding){kind, column, other, row, place, found, expected};
    }
    check->found++;
}

void
tb_note_at(tb_check *check, tb_found kind, int column, int other, ptrdiff_t at,
           int64_t found, int64_t expected)
{
    tb_note(check, kind, column, other, at / check->width, at % check->width, found,
            expected);
}

/* --- starts by one column --------------------------------------------------------- */

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

static ptrdiff_t
list_square_starts(tb_check *check, const tb_check_column *column)
{
    ptrdiff_t count = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t begin = check->extents[r].begin;
        for (ptrdiff_t at = begin; at < check->extents[r].end; at++) {
            ptrdiff_t query = at - r * check->width;
            if (at == begin || (column->shape[column->ndim - 2] > 1 &&
                                !tb_sees(check, column, r, query, query - 1))) {
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

/* --- the story -------------------------------------------------------------------- */

/* Of the columns that know starts, the most explicit first. */
static const tb_role order[] = {TB_ROLE_PADDED_BOUNDARIES, TB_ROLE_BOUNDARIES,
                                TB_ROLE_SEQ_IDX, TB_ROLE_SEGMENT_IDS, TB_ROLE_MASK,
                                TB_ROLE_SEQ_LENGTHS, TB_ROLE_POSITIONS};

static int
find_first(const tb_check *check)
{
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        for (int i = 0; i < check->count; i++) {
            if (check->columns[i].role == order[k] &&
                tb_knows_starts(&check->columns[i])) {
                return i;
            }
        }
    }
    return -1;
}

/* How much a column's word counts: for a start that it has, against one that it has
 * not. */
typedef struct {
    int64_t yes;
    int64_t no;
} tb_weight;

/* Positions are right by chance nowhere: where each segment counts up from the same
 * start, a restart says more than one list of boundaries, of which one may be wrong. That
 * they go on says less, as that is what positions do that nobody has cared for. */
static tb_weight
weigh(tb_check *check, int i, ptrdiff_t starts)
{
    const tb_check_column *column = &check->columns[i];
    const int64_t *p = column->wide;

    if (column->role != TB_ROLE_POSITIONS || column->form != TB_FORM_GRID) {
        return (tb_weight){2, 2};
    }
    tb_cut_spans(check, starts);
    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t length = span.end - span.begin;
        if (tb_scan_count_up(p + span.begin, length, column->start) != length) {
            return (tb_weight){0, 0};
        }
    }
    return (tb_weight){4, 1};
}

/* Lists the starts that most columns have, into check->starts; their number. Where as
 * many are for a start as against it, `first` decides. */
static ptrdiff_t
list_by_majority(tb_check *check, int first)
{
    ptrdiff_t count = 0;
    int64_t against = 0;

    memset(check->votes, 0, (size_t)check->total * sizeof *check->votes);
    for (int i = 0; i < check->count; i++) {
        const tb_check_column *column = &check->columns[i];
        if (!tb_knows_starts(column) || column->same_as >= 0) {
            continue;
        }
        ptrdiff_t starts = tb_list_starts(check, i);
        tb_weight weight = weigh(check, i, starts);
        weight.yes += i == first;
        weight.no += i == first;
        against += weight.no;
        for (ptrdiff_t k = 0; k < starts; k++) {
            if (check->starts[k] < check->total) {
                check->votes[check->starts[k]] += weight.yes + weight.no;
            }
        }
    }
    for (ptrdiff_t at = 0; at < check->total; at++) {
        if (check->votes[at] > against) {
            check->starts[count++] = at;
        }
    }
    return count;
}

static int
count_knowing(const tb_check *check)
{
    int count = 0;

    for (int i = 0; i < check->count; i++) {
        count += tb_knows_starts(&check->columns[i]) && check->columns[i].same_as < 0;
    }
    return count;
}

/* The smallest position of a real token, from which rows count; never below 0. */
static void
find_position_start(tb_check *check, tb_check_column *column)
{
    int64_t lowest = INT64_MAX;
    ptrdiff_t axes = column->form == TB_FORM_AXES ? column->axes : 1;
    ptrdiff_t step = column->form == TB_FORM_AXES ? column->token_step : 1;

    if (column->wide[check->extents[0].begin * step] == 0) {
        return; /* as nearly always */
    }
    for (ptrdiff_t r = 0; r < check->rows && column->row_step != 0; r++) {
        for (ptrdiff_t at = check->extents[r].begin; at < check->extents[r].end; at++) {
            for (ptrdiff_t k = 0; k < axes; k++) {
                int64_t p = column->wide[at * step + k * column->axis_step];
                lowest = p >= 0 && p < lowest ? p : lowest;
            }
        }
    }
    column->start = lowest == INT64_MAX ? 0 : lowest;
}

/* Whether boundaries, or lengths, say where segments begin. */
static int
has_sound_list(const tb_check *check)
{
    for (int i = 0; i < check->count; i++) {
        if (check->columns[i].form == TB_FORM_LIST &&
            tb_knows_starts(&check->columns[i])) {
            return 1;
        }
    }
    return 0;
}

/* Segment numbers, where there are boundaries as well: compared with them first. */
static tb_status
read_numbers(tb_check *check, int defers)
{
    for (int i = 0; i < check->count; i++) {
        tb_check_column *column = &check->columns[i];
        if ((column->role != TB_ROLE_SEQ_IDX && column->role != TB_ROLE_SEGMENT_IDS) ||
            column->form == TB_FORM_NONE || column->same_as >= 0) {
            continue;
        }
        column->is_sound = 1;
        if (defers) {
            column->is_deferred = 1;
        }
        else if (tb_examine_segments(check, i) != TB_OK) {
            return TB_ERR_MEMORY;
        }
    }
    return TB_OK;
}

static void
read_columns(tb_check *check)
{
    for (int i = 0; i < check->count; i++) {
        tb_check_column *column = &check->columns[i];
        if (column->form == TB_FORM_NONE || column->same_as >= 0) {
            continue;
        }
        switch (column->role) {
            case TB_ROLE_BOUNDARIES:
            case TB_ROLE_PADDED_BOUNDARIES:
                tb_examine_boundaries(check, i);
                break;
            case TB_ROLE_SEQ_LENGTHS:
                tb_examine_seq_lengths(check, i);
                break;
            case TB_ROLE_POSITIONS:
                column->is_sound = 1;
                find_position_start(check, column);
                break;
            case TB_ROLE_MASK:
                column->is_sound = 1;
                break;
            default:
                break;
        }
    }
}

/* Makes room for `room` segments. */
static tb_status
reserve(tb_check *check, ptrdiff_t room)
{
    if (check->room >= room) {
        return TB_OK;
    }
    free(check->spans);
    free(check->starts);
    free(check->votes);
    check->room = room;
    check->spans = (tb_stretch *)tb_allocate_array(room, sizeof *check->spans);
    check->starts = (ptrdiff_t *)tb_allocate_array(room, sizeof *check->starts);
    check->votes = (int64_t *)tb_allocate_array(room, sizeof *check->votes);
    return check->spans == NULL || check->starts == NULL || check->votes == NULL
               ? TB_ERR_MEMORY
               : TB_OK;
}

/* The most segments that a column may tell of. */
static ptrdiff_t
count_most(const tb_check *check, int i)
{
    ptrdiff_t most = i < 0 ? 0 : check->total;

    if (i >= 0 && check->columns[i].form == TB_FORM_LIST) {
        most = tb_min(most, check->columns[i].size);
    }
    return most + check->rows + 1;
}

/* Makes the segments of the column that is most explicit; where another disagrees, of
 * what most of them say. */
static tb_status
find_story(tb_check *check)
{
    ptrdiff_t before = check->found;
    int first = check->starts_from = find_first(check);

    if (reserve(check, count_most(check, first)) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    tb_cut_spans(check, first < 0 ? 0 : tb_list_starts(check, first));
    tb_compare_rows(check);
    if (check->found == before && !check->has_doubts) {
        return TB_OK;
    }
    check->found = before;
    for (int i = 0; i < check->count; i++) {
        if (check->columns[i].is_deferred && tb_examine_segments(check, i) != TB_OK) {
            return TB_ERR_MEMORY;
        }
    }
    if (count_knowing(check) > 1) {
        if (reserve(check, check->total + check->rows + 1) != TB_OK) {
            return TB_ERR_MEMORY;
        }
        tb_cut_spans(check, list_by_majority(check, first));
    }
    tb_compare_rows(check);
    return TB_OK;
}

tb_status
tb_check_columns(tb_check *check)
{
    tb_status status = tb_settle_forms(check);

    if (status != TB_OK || check->grid_from < 0 || check->total == 0) {
        return status;
    }
    check->extents = (tb_stretch *)tb_allocate_array(check->rows, sizeof *check->extents);
    status = check->extents == NULL ? TB_ERR_MEMORY : tb_examine_masks(check);
    if (status != TB_OK) {
        return status;
    }
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        check->real_total += check->extents[r].end - check->extents[r].begin;
    }
    read_columns(check);
    status = read_numbers(check, has_sound_list(check));
    if (status == TB_OK) {
        status = find_story(check);
    }
    if (status == TB_OK) {
        tb_compare_lists(check);
        tb_check_ids(check);
        tb_check_labels(check);
    }
    return status;
}

void
tb_end_check(tb_check *check)
{
    for (int i = 0; i < check->count; i++) {
        free(check->columns[i].owned);
    }
    free(check->extents);
    free(check->spans);
    free(check->starts);
    free(check->votes);
}
