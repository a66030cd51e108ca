/* Holds what each column says of rows against the segments of the story. */
#include "core/base/size.h"
#include "core/check/scan.h"
#include "core/check/story.h"

/* --- boundaries ------------------------------------------------------------------- */

/* A segment as boundaries should have it: flat, or counted among real tokens. */
static tb_stretch
expect_span(const tb_check *check, const tb_check_column *column, ptrdiff_t k,
            int64_t *before)
{
    tb_stretch span = check->spans[k];

    if (column->is_compact) {
        ptrdiff_t length = span.end - span.begin;
        span = (tb_stretch){(ptrdiff_t)*before, (ptrdiff_t)*before + length};
        *before += length;
    }
    return span;
}

/* Each range of boundaries is a segment, or padding between segments. */
static void
compare_boundaries(tb_check *check, int i, int other)
{
    const tb_check_column *column = &check->columns[i];
    const int64_t *b = column->wide;
    int may_be_longer = column->role == TB_ROLE_PADDED_BOUNDARIES;
    ptrdiff_t k = 0, n = column->size;
    int64_t before = 0;
    tb_stretch span = {0, 0};

    if (check->span_count > 0) {
        span = expect_span(check, column, 0, &before);
    }
    for (ptrdiff_t j = 0; j + 1 < n; j++) {
        if (b[j] == b[j + 1] || (k == check->span_count) || b[j + 1] <= span.begin) {
            continue;
        }
        int64_t end =
            k + 1 < check->span_count ? check->spans[k + 1].begin : check->total;
        if (b[j] != span.begin) {
            tb_note(check, TB_FOUND_ROWS, i, other, -1, j, b[j], span.begin);
            return;
        }
        if (b[j + 1] != span.end &&
            !(may_be_longer && b[j + 1] > span.end && b[j + 1] <= end)) {
            tb_note(check, TB_FOUND_ROWS, i, other, -1, j + 1, b[j + 1], span.end);
            return;
        }
        if (++k < check->span_count) {
            span = expect_span(check, column, k, &before);
        }
    }
    if (k < check->span_count && n > 0) {
        tb_note(check, TB_FOUND_ROWS, i, other, -1, n - 1, b[n - 1], span.end);
    }
}

/* Boundaries of tokens beside those with padding: as many, none longer. */
static void
compare_with_padded(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];

    for (int k = 0; k < check->count; k++) {
        const tb_check_column *padded = &check->columns[k];
        if (padded->role != TB_ROLE_PADDED_BOUNDARIES || padded->form != TB_FORM_LIST ||
            !padded->is_sound) {
            continue;
        }
        for (ptrdiff_t j = 1; j < tb_min(column->size, padded->size); j++) {
            int64_t length = tb_subtract_any(column->wide[j], column->wide[j - 1]);
            int64_t room = tb_subtract_any(padded->wide[j], padded->wide[j - 1]);
            if (length > room) {
                tb_note(check, TB_FOUND_ROWS, i, k, -1, j, column->wide[j],
                        tb_add_any(column->wide[j - 1], room));
                return;
            }
        }
        if (column->size != padded->size) {
            tb_note(check, TB_FOUND_SHAPE, i, k, -1, -1, column->size, -1);
        }
        return;
    }
}

/* --- segment numbers, masks, lengths ---------------------------------------------- */

/* One number for each segment, another than its neighbour's. */
static void
compare_numbers(tb_check *check, int i, int other)
{
    const tb_check_column *column = &check->columns[i];
    const char *data = (const char *)column->data;
    int size = tb_type_size(column->type);
    int64_t before = 0;
    ptrdiff_t row = -1;

    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t length = span.end - span.begin;
        int64_t here = tb_read_element(data, column->type, span.begin);
        int is_first = span.begin / check->width != row;
        row = span.begin / check->width;
        if (!is_first && check->spans[k - 1].end == span.begin && before == here) {
            tb_note_at(check, TB_FOUND_ROWS, i, other, span.begin, here, -1);
            return;
        }
        ptrdiff_t same = tb_scan_constant(data + span.begin * size, size, length);
        if (same < length) {
            tb_note_at(check, TB_FOUND_ROWS, i, other, span.begin + same,
                       tb_read_element(data, column->type, span.begin + same), here);
            return;
        }
        check->has_doubts |= !is_first && here < before;
        before = here;
    }
}

/* A mask, or segment ids, that did not say itself which tokens are real. */
static void
compare_extents(tb_check *check, int i, int other)
{
    const tb_check_column *column = &check->columns[i];

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        for (ptrdiff_t c = 0; c < check->width; c++) {
            ptrdiff_t at = r * check->width + c;
            int is_real = at >= check->extents[r].begin && at < check->extents[r].end;
            int64_t value = tb_read_element(column->data, column->type, at);
            if ((value != 0) != is_real) {
                tb_note_at(check, TB_FOUND_ROWS, i, other, at, value, is_real);
                break;
            }
        }
    }
}

/* A mask of ones over several segments of a row hides that they are several. */
static void
find_joined(tb_check *check, int i, int other)
{
    for (ptrdiff_t k = 1; k < check->span_count; k++) {
        ptrdiff_t row = check->spans[k].begin / check->width;
        if (check->spans[k - 1].begin / check->width == row) {
            tb_note_at(check, TB_FOUND_MASK_JOINS, i, other, check->spans[k].begin, 1,
                       -1);
            while (k + 1 < check->span_count &&
                   check->spans[k + 1].begin / check->width == row) {
                k++;
            }
        }
    }
}

static void
compare_seq_lengths(tb_check *check, int i, int other)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t most = column->shape[1], k = 0;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        const int64_t *lengths = column->wide + r * most;
        for (ptrdiff_t j = 0; j < most; j++) {
            if (lengths[j] == 0) {
                continue;
            }
            int64_t length =
                k < check->span_count ? check->spans[k].end - check->spans[k].begin : 0;
            if (lengths[j] != length) {
                tb_note(check, TB_FOUND_LENGTH, i, other, r, j, lengths[j], length);
                return;
            }
            k++;
        }
    }
}

/* The length of each row, or of each segment where all are in one row. */
static void
compare_lengths(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int of_segments = check->rows == 1 && check->starts_from >= 0 &&
                      column->size == check->span_count;

    if (column->size != check->rows && !of_segments) {
        return;
    }
    for (ptrdiff_t k = 0; k < column->size; k++) {
        int64_t found = column->wide[k];
        tb_stretch span = of_segments ? check->spans[k] : check->extents[k];
        int64_t length = span.end - span.begin;
        int is_known = of_segments || check->real_from >= 0;
        /* A mask of queries and keys may show padding; it hides no token of a row. */
        if (found < 0 || found > length || (is_known && found != length)) {
            tb_note(check, TB_FOUND_LENGTH, i, is_known ? check->real_from : -1, k, -1,
                    found, length);
        }
    }
}

/* --- the longest ------------------------------------------------------------------ */

/* Whether the segments from `tail` on are padding: labels say so, or they are 0 and nothing
 * before is. Else they may be rows of one repeated token. */
static int
is_surely_padding(const tb_check *check, ptrdiff_t tail)
{
    ptrdiff_t before = check->spans[tail].begin;
    const int64_t *ids = check->columns[check->ids].wide;

    for (int i = 0; i < check->count; i++) {
        if (check->columns[i].role >= TB_ROLE_LABELS &&
            check->columns[i].role <= TB_ROLE_DECODER_LABELS) {
            return 1;
        }
    }
    return ids[before] == 0 && tb_scan_value(ids, before, 0) == before;
}

/* Whether padding from `tail` on is cut into several segments, none longer than it must
 * be for so many. */
static int
is_cut_evenly(const tb_check *check, ptrdiff_t tail, int64_t longest)
{
    ptrdiff_t pieces = check->span_count - tail;
    ptrdiff_t total =
        check->spans[check->span_count - 1].end - check->spans[tail].begin;

    return pieces > 1 && longest <= (total - 1) / pieces + 1;
}

static void
compare_longest(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int64_t longest = 0, reported = column->wide[0], others = 0;
    ptrdiff_t which = -1, tail = tb_find_tail(check);

    if (column->partner >= 0 && check->columns[column->partner].form == TB_FORM_LIST) {
        const tb_check_column *of = &check->columns[column->partner];
        for (ptrdiff_t k = 1; k < of->size; k++) {
            int64_t length = tb_subtract_any(of->wide[k], of->wide[k - 1]);
            which = length > longest ? k - 1 : which;
            longest = length > longest ? length : longest;
        }
    }
    else {
        for (ptrdiff_t k = 0; k < check->span_count; k++) {
            int64_t length = check->spans[k].end - check->spans[k].begin;
            which = length > longest ? k : which;
            longest = length > longest ? length : longest;
        }
    }
    if (reported < longest) {
        tb_note(check, TB_FOUND_LONGEST, i, column->partner, -1, -1, reported, longest);
        return;
    }
    for (ptrdiff_t k = 0; k < tail; k++) {
        others = tb_max(others, check->spans[k].end - check->spans[k].begin);
    }
    if (tail < check->span_count && which >= tail && reported == longest &&
        others < longest && is_surely_padding(check, tail) &&
        !is_cut_evenly(check, tail, longest)) {
        tb_note(check, TB_FOUND_TAIL, i, column->partner, -1, -1, reported, others);
    }
}

/* --- all -------------------------------------------------------------------------- */

/* Another column that knows what `i` is wrong about, for the message. */
static int
find_other(const tb_check *check, int i)
{
    if (check->starts_from >= 0 && check->starts_from != i) {
        return check->starts_from;
    }
    for (int k = 0; k < check->count; k++) {
        if (k != i && check->columns[k].same_as < 0 &&
            tb_knows_starts(&check->columns[k])) {
            return k;
        }
    }
    return check->real_from == i ? -1 : check->real_from;
}

static void
compare_mask(tb_check *check, int i, int other)
{
    if (i != check->real_from) {
        compare_extents(check, i, check->real_from);
    }
    if (check->columns[i].is_numbered) {
        compare_numbers(check, i, other);
    }
    else {
        find_joined(check, i, other);
    }
}

static void
compare_column(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int other = find_other(check, i);

    switch (column->role) {
        case TB_ROLE_BOUNDARIES:
            if (column->tells_next) {
                compare_with_padded(check, i);
                break;
            }
            compare_boundaries(check, i, other);
            break;
        case TB_ROLE_PADDED_BOUNDARIES:
            compare_boundaries(check, i, other);
            break;
        case TB_ROLE_SEGMENT_IDS:
            if (i != check->real_from) {
                compare_extents(check, i, check->real_from);
            }
            compare_numbers(check, i, other);
            break;
        case TB_ROLE_SEQ_IDX:
            compare_numbers(check, i, other);
            break;
        case TB_ROLE_SEQ_LENGTHS:
            compare_seq_lengths(check, i, other);
            break;
        case TB_ROLE_POSITIONS:
            tb_compare_positions(check, i);
            break;
        case TB_ROLE_MASK:
            if (column->form == TB_FORM_GRID) {
                compare_mask(check, i, other);
            }
            else {
                tb_compare_square(check, i);
            }
            break;
        default:
            break;
    }
}

void
tb_compare_rows(tb_check *check)
{
    for (int i = 0; i < check->count; i++) {
        const tb_check_column *column = &check->columns[i];
        if (column->form != TB_FORM_NONE && column->same_as < 0 && column->is_sound) {
            compare_column(check, i);
        }
    }
}

void
tb_compare_lists(tb_check *check)
{
    for (int i = 0; i < check->count; i++) {
        const tb_check_column *column = &check->columns[i];
        if (column->form != TB_FORM_LIST) {
            continue;
        }
        if (column->role == TB_ROLE_LENGTHS) {
            compare_lengths(check, i);
        }
        else if (column->role == TB_ROLE_LONGEST) {
            compare_longest(check, i);
        }
    }
}
