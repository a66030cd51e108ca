/* The story of a batch: by its most explicit column, or by what most of them say. */
#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/check/scan.h"
#include "core/check/story.h"

#include <string.h>

/* Of the columns that know starts, the most explicit first. */
static const tb_role order[] = {
    TB_ROLE_PADDED_BOUNDARIES, TB_ROLE_BOUNDARIES, TB_ROLE_SEQ_IDX,
    TB_ROLE_SEGMENT_IDS,       TB_ROLE_MASK,       TB_ROLE_SEQ_LENGTHS,
    TB_ROLE_POSITIONS};

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

/* Whether positions count up from the same start in all of check->spans. */
static int
count_up_everywhere(const tb_check *check, const tb_check_column *column)
{
    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t length = span.end - span.begin;
        const int64_t *p = column->wide + span.begin;
        if (tb_scan_count_up(p, length, column->start) != length) {
            return 0;
        }
    }
    return 1;
}

/* A number for each token says more than one list of boundaries, in which one may be
 * wrong. Positions are right by chance nowhere: a restart says most. That they go on says
 * less, and nearly nothing where they never restart, as positions do that nobody has
 * cared for. */
static tb_weight
weigh(tb_check *check, int i, ptrdiff_t starts)
{
    const tb_check_column *column = &check->columns[i];

    if (column->role == TB_ROLE_POSITIONS && column->form == TB_FORM_GRID) {
        tb_cut_spans(check, starts);
        if (!count_up_everywhere(check, column)) {
            return (tb_weight){0, 0};
        }
        return (tb_weight){7, check->span_count > check->rows ? 4 : 1};
    }
    int is_numbered = column->role == TB_ROLE_SEQ_IDX ||
                      column->role == TB_ROLE_SEGMENT_IDS || column->is_numbered;
    return is_numbered ? (tb_weight){5, 5} : (tb_weight){3, 3};
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

/* Whether positions count from the padding before the tokens, from 0: wrong, though all
 * tokens count up. With one token of padding it may be that padding has position 0. */
static int
count_from_padding(const tb_check *check, const tb_check_column *column)
{
    for (ptrdiff_t r = 0; r < check->rows && column->form == TB_FORM_GRID; r++) {
        ptrdiff_t from = r * check->width, before = check->extents[r].begin - from;
        if (before > 1 && check->extents[r].end > check->extents[r].begin &&
            tb_scan_count_up(column->wide + from, before + 1, 0) == before + 1) {
            return 1;
        }
    }
    return 0;
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
    if (column->row_step != 0 && count_from_padding(check, column)) {
        return;
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
    check->extents =
        (tb_stretch *)tb_allocate_array(check->rows, sizeof *check->extents);
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
