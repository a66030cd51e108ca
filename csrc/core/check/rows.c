/* What each column says by itself: which tokens are real, and where segments begin. */
#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/check/scan.h"
#include "core/check/story.h"

#include <string.h>

/* --- masks ------------------------------------------------------------------------ */

static int64_t
element(const tb_check_column *column, ptrdiff_t at)
{
    return tb_read_element(column->data, column->type, at);
}

/* The first of n elements from `at` on that differs from the first of them. */
static ptrdiff_t
run_end(const tb_check_column *column, ptrdiff_t at, ptrdiff_t n)
{
    int size = tb_type_size(column->type);

    return tb_scan_constant((const char *)column->data + at * size, size, n);
}

/* The extent of a row of ones beside zeros, at one side or both. 0 for any other. */
static int
find_plain_extent(const tb_check_column *mask, ptrdiff_t at, ptrdiff_t width,
                  tb_stretch *extent)
{
    ptrdiff_t low = 0, high;

    if (width > 0 && element(mask, at) == 0) {
        low = run_end(mask, at, width);
    }
    high = low;
    if (low < width) {
        if (element(mask, at + low) != 1) {
            return 0;
        }
        high = low + run_end(mask, at + low, width - low);
        if (high < width && (element(mask, at + high) != 0 ||
                             run_end(mask, at + high, width - high) != width - high)) {
            return 0;
        }
    }
    *extent = (tb_stretch){at + low, at + high};
    return low < high;
}

/* Whether the mask holds segment numbers: in each row runs of 1, 2, ..., or of numbers
 * that go on from row to row, with padding at the ends. */
static int
is_numbered(const tb_check *check, const tb_check_column *mask)
{
    int64_t before = 0;
    ptrdiff_t above = 0; /* one number above 1 is rather a fault than a segment */

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        int64_t last = 0;
        int ended = 0;
        for (ptrdiff_t at = r * check->width; at < (r + 1) * check->width;) {
            int64_t value = element(mask, at);
            ptrdiff_t length = run_end(mask, at, (r + 1) * check->width - at);
            at += length;
            if (value == 0) {
                ended = last != 0;
                continue;
            }
            int starts = last == 0 && (value == 1 || value == before + 1);
            if (ended || (!starts && (last == 0 || value != last + 1))) {
                return 0;
            }
            last = value;
            above += value > 1 ? length : 0;
        }
        before = last;
    }
    return above > 1;
}

/* A row of a mask that is not plain: notes why, and takes what is not 0 as real. */
static void
read_odd_row(tb_check *check, int i, ptrdiff_t row, tb_stretch *extent)
{
    const tb_check_column *mask = &check->columns[i];
    ptrdiff_t from = row * check->width, to = from + check->width;
    ptrdiff_t first = to, last = from, hole = -1, odd = -1;

    for (ptrdiff_t at = from; at < to; at++) {
        int64_t value = element(mask, at);
        if (value != 0) {
            first = first == to ? at : first;
            hole = hole < 0 && last > from && last != at ? last : hole;
            last = at + 1;
            odd = odd < 0 && value != 1 && !mask->is_numbered ? at : odd;
        }
    }
    *extent = (tb_stretch){first < last ? first : from, first < last ? last : from};
    if (odd >= 0) {
        tb_note_at(check, TB_FOUND_MASK_VALUE, i, -1, odd, element(mask, odd), 1);
    }
    if (first == to) {
        tb_note(check, TB_FOUND_MASK_EMPTY, i, -1, row, -1, 0, check->width);
    }
    if (hole >= 0) {
        tb_note_at(check, TB_FOUND_MASK_HOLE, i, -1, hole, 0, last - from);
    }
}

/* Reads one mask; its extents become the batch's if no other has given them. */
static void
read_mask(tb_check *check, int i, tb_stretch *extents)
{
    tb_check_column *mask = &check->columns[i];
    ptrdiff_t plain = 0;

    mask->is_sound = 1;
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        plain += find_plain_extent(mask, r * check->width, check->width, &extents[r]);
    }
    if (plain == check->rows) {
        return;
    }
    mask->is_numbered = is_numbered(check, mask);
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        if (!find_plain_extent(mask, r * check->width, check->width, &extents[r])) {
            read_odd_row(check, i, r, &extents[r]);
        }
    }
}

/* Segment ids that are 0 at the first real token of every row are the token types of
 * BERT's first code. */
static int
are_token_types(const tb_check *check, const tb_check_column *ids, int has_mask)
{
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t at = has_mask ? check->extents[r].begin : r * check->width;
        if (check->width > 0 && element(ids, at) != 0) {
            return 0;
        }
    }
    return 1;
}

static void
take_whole_rows(tb_check *check)
{
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        check->extents[r] = (tb_stretch){r * check->width, (r + 1) * check->width};
    }
}

/* Whether any token sees a key: itself first, then those after it. */
static int
is_seen(const tb_check *check, const tb_check_column *square, ptrdiff_t row,
        ptrdiff_t key)
{
    ptrdiff_t queries = square->shape[square->ndim - 2];

    for (ptrdiff_t k = 0; k < queries; k++) {
        if (tb_sees(check, square, row, (key + k) % queries, key)) {
            return 1;
        }
    }
    return 0;
}

/* What a square mask shows as real: tokens that a token sees. That a token sees itself
 * says less, as it is what may be wrong. Where nothing is seen, all may be real, unless
 * the mask is one of padding. */
static void
read_square_extents(tb_check *check, const tb_check_column *square, int is_padding)
{
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t first = 0, last = check->width, from = r * check->width;
        if (tb_shows_nothing(square, r)) {
            last = is_padding ? first : last;
        }
        else {
            while (first < last && !is_seen(check, square, r, first)) {
                first++;
            }
            while (last > first && !is_seen(check, square, r, last - 1)) {
                last--;
            }
        }
        check->extents[r] = first < last ? (tb_stretch){from + first, from + last}
                                         : (tb_stretch){from, from};
    }
}

/* The first column of a role and form that is sound, or -1. */
static int
find_column(const tb_check *check, tb_role role, tb_form form)
{
    for (int i = 0; i < check->count; i++) {
        if (check->columns[i].role == role && check->columns[i].form == form) {
            return i;
        }
    }
    return -1;
}

tb_status
tb_examine_masks(tb_check *check)
{
    tb_stretch *others = NULL;

    check->real_from = -1;
    for (int i = 0; i < check->count; i++) {
        tb_check_column *column = &check->columns[i];
        if (column->form != TB_FORM_GRID || column->role != TB_ROLE_MASK ||
            column->same_as >= 0) {
            continue;
        }
        if (check->real_from < 0) {
            read_mask(check, i, check->extents);
            check->real_from = i;
            continue;
        }
        if (others == NULL) {
            others = (tb_stretch *)tb_allocate_array(check->rows, sizeof *others);
            if (others == NULL) {
                return TB_ERR_MEMORY;
            }
        }
        read_mask(check, i, others);
    }
    free(others);
    int ids = find_column(check, TB_ROLE_SEGMENT_IDS, TB_FORM_GRID);
    if (ids >= 0) {
        if (are_token_types(check, &check->columns[ids], check->real_from >= 0)) {
            check->columns[ids].form = TB_FORM_NONE;
        }
        else if (check->real_from < 0) {
            tb_check_column *column = &check->columns[ids];
            column->is_numbered = 1;
            for (ptrdiff_t r = 0; r < check->rows; r++) {
                read_odd_row(check, ids, r, &check->extents[r]);
            }
            check->real_from = ids;
        }
    }
    if (check->real_from < 0) {
        int square = find_column(check, TB_ROLE_MASK, TB_FORM_SQUARE);
        if (square >= 0) {
            const tb_check_column *column = &check->columns[square];
            /* One query for all tokens: a mask of padding, of another shape. */
            int is_padding = column->shape[column->ndim - 2] == 1 && check->width > 1;
            read_square_extents(check, column, is_padding);
            check->real_from = is_padding ? square : -1;
        }
        else {
            take_whole_rows(check);
        }
    }
    return TB_OK;
}

/* --- numbers of segments ---------------------------------------------------------- */

typedef struct {
    int64_t value;
    ptrdiff_t at;
} numbered_run;

static int
compare_runs(const void *a, const void *b)
{
    const numbered_run *left = (const numbered_run *)a,
                       *right = (const numbered_run *)b;

    if (left->value != right->value) {
        return left->value < right->value ? -1 : 1;
    }
    return left->at < right->at ? -1 : left->at > right->at;
}

/* Where the number of an earlier segment of the row comes again, first; -1. */
static ptrdiff_t
find_repeated(numbered_run *runs, ptrdiff_t count)
{
    ptrdiff_t first = -1;

    qsort(runs, (size_t)count, sizeof *runs, compare_runs);
    for (ptrdiff_t i = 1; i < count; i++) {
        if (runs[i].value == runs[i - 1].value && (first < 0 || runs[i].at < first)) {
            first = runs[i].at;
        }
    }
    return first;
}

/* Numbers that only rise are sound; else those of each row are sorted. */
tb_status
tb_examine_segments(tb_check *check, int i)
{
    tb_check_column *column = &check->columns[i];
    int64_t padding = column->role == TB_ROLE_SEQ_IDX ? -1 : 0;
    numbered_run *runs = (numbered_run *)tb_allocate_array(check->width, sizeof *runs);

    if (runs == NULL) {
        return TB_ERR_MEMORY;
    }
    column->is_sound = 1;
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t count = 0, end = (r + 1) * check->width;
        int rises = 1;
        for (ptrdiff_t at = r * check->width; at < end;) {
            int64_t value = element(column, at);
            if (value != padding) {
                rises = rises && (count == 0 || value > runs[count - 1].value);
                runs[count++] = (numbered_run){value, at};
            }
            at += run_end(column, at, end - at);
        }
        ptrdiff_t again = rises ? -1 : find_repeated(runs, count);
        if (again >= 0) {
            column->is_sound = 0;
            tb_note_at(check, TB_FOUND_REPEATED, i, -1, again, element(column, again),
                       -1);
        }
    }
    free(runs);
    return TB_OK;
}

/* --- boundaries and lengths ------------------------------------------------------- */

void
tb_examine_boundaries(tb_check *check, int i)
{
    tb_check_column *column = &check->columns[i];
    const int64_t *b = column->wide;
    ptrdiff_t n = column->size;
    int counts_tokens = 0; /* beside those that count padding too */

    for (int k = 0; column->role == TB_ROLE_BOUNDARIES && k < check->count; k++) {
        counts_tokens |= check->columns[k].role == TB_ROLE_PADDED_BOUNDARIES &&
                         check->columns[k].form == TB_FORM_LIST;
    }
    column->is_sound = n > 0;
    column->tells_next = counts_tokens;
    if (n == 0 || b[0] != 0) {
        column->is_sound = 0;
        tb_note(check, TB_FOUND_START, i, -1, -1, n == 0 ? -1 : 0, n == 0 ? -1 : b[0],
                0);
    }
    for (ptrdiff_t k = 1; k < n; k++) {
        if (b[k] < b[k - 1]) {
            column->is_sound = 0;
            tb_note(check, TB_FOUND_ORDER, i, -1, -1, k, b[k], b[k - 1]);
            return;
        }
    }
    if (n == 0 || counts_tokens) {
        return;
    }
    column->is_compact = b[n - 1] == check->real_total && b[n - 1] != check->total;
    if (b[n - 1] != check->total && !column->is_compact) {
        column->is_sound = 0;
        tb_note(check, TB_FOUND_END, i, -1, -1, n - 1, b[n - 1], check->total);
    }
}

/* [rows, most segments], with zeros after the last. */
void
tb_examine_seq_lengths(tb_check *check, int i)
{
    tb_check_column *column = &check->columns[i];
    ptrdiff_t most = column->shape[1];

    column->is_sound = column->shape[0] == check->rows;
    if (!column->is_sound) {
        tb_note(check, TB_FOUND_SHAPE, i, check->grid_from, -1, -1, column->shape[0],
                most);
        return;
    }
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        const int64_t *lengths = column->wide + r * most;
        ptrdiff_t count = most;
        int64_t sum = 0, real = check->extents[r].end - check->extents[r].begin;
        while (count > 0 && lengths[count - 1] == 0) {
            count--;
        }
        for (ptrdiff_t k = 0; k < count; k++) {
            if (lengths[k] == 0 && check->rows == 1) {
                continue; /* the lists of several rows, one after another */
            }
            if (lengths[k] <= 0 || lengths[k] > check->width) {
                column->is_sound = 0;
                tb_note(check, TB_FOUND_LENGTH, i, -1, r, k, lengths[k], -1);
                return;
            }
            sum += lengths[k];
        }
        if (sum != real && (check->real_from >= 0 || sum > real)) {
            column->is_sound = 0;
            tb_note(check, TB_FOUND_LENGTH, i, check->real_from, r, -1, sum, real);
        }
    }
}
