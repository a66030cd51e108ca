/* Labels: none on padding, none that another row predicts, none off by one, and some in
 * each row. */
#include "core/base/size.h"
#include "core/check/label_work.h"
#include "core/check/scan.h"
#include "core/check/story.h"

static void
count_unlabelled(tb_label_counts *counts, ptrdiff_t count, int64_t id,
                 int has_other_ids)
{
    if (count > 0) {
        counts->has_other_ids |=
            has_other_ids || (counts->unlabelled > 0 && counts->unlabelled_id != id);
        counts->unlabelled_id = id;
        counts->unlabelled += count;
    }
}

static void
count_each(const tb_label_work *w, tb_stretch span, int shift, tb_label_counts *counts)
{
    for (ptrdiff_t at = span.begin; at < span.end; at++) {
        int64_t label = w->labels[at];
        if (label == w->ignored) {
            continue;
        }
        counts->trained++;
        if (counts->bad < 0 && (label < 0 || label >= w->limit)) {
            counts->bad = at;
        }
        if (w->ids != NULL && at + shift >= span.begin && at + shift < span.end) {
            int64_t id = w->ids[at + shift];
            counts->comparable++;
            counts->same += label == id;
            if (label == id && w->labels[at + shift] == w->ignored) {
                count_unlabelled(counts, 1, id, 0);
            }
        }
    }
}

/* Labels that are the tokens, after some that are ignored, are compared as memory. */
static tb_label_counts
count_labels(const tb_label_work *w, tb_stretch span, int shift)
{
    tb_label_counts counts = {.bad = -1};
    ptrdiff_t first = span.begin + tb_scan_other(w->labels + span.begin,
                                                 span.end - span.begin, w->ignored);
    ptrdiff_t count = span.end - tb_max(shift, 0) - first;

    if (first == span.end) {
        return counts;
    }
    if (w->ids != NULL && shift == w->shift && first + shift >= span.begin &&
        count > 0 &&
        tb_scan_equal(w->labels + first, w->ids + first + shift, count) == count &&
        (w->check->are_ids_in_range ||
         tb_scan_range(w->ids + first + shift, count, w->limit) == count)) {
        counts = (tb_label_counts){count, count, count, .bad = -1};
        first += count;
    }
    count_each(w, (tb_stretch){first, span.end}, shift, &counts);
    return counts;
}

static tb_label_counts
add_counts(tb_label_counts a, tb_label_counts b)
{
    a.trained += b.trained;
    a.comparable += b.comparable;
    a.same += b.same;
    a.bad = a.bad >= 0 ? a.bad : b.bad;
    count_unlabelled(&a, b.unlabelled, b.unlabelled_id, b.has_other_ids);
    return a;
}

/* All segments at one shift. With `trained`, notes how many labels each has. */
static tb_label_counts
count_all(const tb_label_work *w, int shift, int64_t *trained)
{
    tb_label_counts all = {.bad = -1};

    for (ptrdiff_t k = 0; k < w->check->span_count; k++) {
        tb_label_counts counts = count_labels(w, w->check->spans[k], shift);
        if (trained != NULL) {
            trained[k] = counts.trained;
        }
        all = add_counts(all, counts);
    }
    return all;
}

/* Without what may be padding. */
static tb_label_counts
leave_out_padding(tb_label_counts counts)
{
    ptrdiff_t left_out = counts.has_other_ids ? 0 : counts.unlabelled;

    counts.comparable -= left_out;
    counts.same -= left_out;
    return counts;
}

static int
are_tokens(tb_label_counts counts)
{
    return counts.comparable > 0 && 3 * counts.same >= 2 * counts.comparable;
}

/* --- shift ------------------------------------------------------------------------ */

static void
note_shift(const tb_label_work *w, tb_stretch span, int shift)
{
    ptrdiff_t first =
        tb_scan_other(w->labels + span.begin, span.end - span.begin, w->ignored);

    tb_note_at(w->check, TB_FOUND_LABEL_SHIFT, w->column, w->check->ids,
               tb_min(span.begin + first, span.end - 1), shift, w->shift);
}

/* How many labels show that they are other tokens: small ones may be tags. */
static ptrdiff_t
count_evidence(const tb_label_work *w)
{
    tb_role role = w->check->columns[w->column].role;

    if (role != TB_ROLE_LABELS) {
        return role == TB_ROLE_SHIFTED_LABELS ? 2 : 3;
    }
    for (ptrdiff_t at = 0; at < w->check->total; at++) {
        if (w->labels[at] >= TB_LEAST_TOKEN) {
            return 3;
        }
    }
    return 4;
}

/* Whether all labels are one number: then they are equal to others by chance. */
static int
are_labels_alike(const tb_label_work *w)
{
    ptrdiff_t total = w->check->total;
    ptrdiff_t first = tb_scan_other(w->labels, total, w->ignored);

    for (ptrdiff_t at = first; at < total; at++) {
        if (w->labels[at] != w->ignored && w->labels[at] != w->labels[first]) {
            return 0;
        }
    }
    return 1;
}

/* Which other shift the labels of all segments have; 1 if one was found. */
static int
find_shift_of_all(tb_label_work *w)
{
    const tb_check *check = w->check;
    ptrdiff_t least = count_evidence(w);

    if (are_labels_alike(w)) {
        return 0;
    }

    for (int shift = -1; shift <= 2; shift++) {
        tb_label_counts counts = leave_out_padding(count_all(w, shift, NULL));
        if (shift == w->shift || counts.comparable < least || !are_tokens(counts)) {
            continue;
        }
        if (check->columns[w->column].role == TB_ROLE_TARGETS && shift == 1) {
            w->shift = 1;
            w->repeats = 1;
            w->all.comparable = counts.comparable;
            w->all.same = counts.same;
            return 0;
        }
        for (ptrdiff_t k = 0; k < check->span_count; k++) {
            if (w->trained[k] > 0) {
                note_shift(w, check->spans[k], shift);
                return 1;
            }
        }
    }
    return 0;
}

/* Segments whose labels alone are shifted. */
static int
find_shift_of_each(const tb_label_work *w)
{
    const tb_check *check = w->check;
    ptrdiff_t row = -1;

    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        tb_label_counts counts = count_labels(w, span, w->shift);
        if (2 * counts.same >= counts.comparable || span.begin / check->width == row) {
            continue;
        }
        for (int shift = -1; shift <= 2; shift++) {
            tb_label_counts other = leave_out_padding(count_labels(w, span, shift));
            if (shift != w->shift && other.comparable >= 2 &&
                other.same == other.comparable) {
                note_shift(w, span, shift);
                row = span.begin / check->width;
                break;
            }
        }
    }
    return row >= 0;
}

/* --- from one row into the next --------------------------------------------------- */

/* The place in a segment whose label another segment's token predicts, or belongs to;
 * -1 where there is none. */
static ptrdiff_t
find_crossing(const tb_label_work *w, ptrdiff_t k)
{
    const tb_check *check = w->check;
    tb_stretch span = check->spans[k];
    int after_another = k > 0 && check->spans[k - 1].end == span.begin &&
                        span.begin % check->width != 0;
    int before_another = k + 1 < check->span_count &&
                         check->spans[k + 1].begin == span.end &&
                         span.end % check->width != 0;
    ptrdiff_t last = span.end - 1;

    if (w->shift == 0) {
        return after_another && w->labels[span.begin] != w->ignored ? span.begin : -1;
    }
    if (w->labels[last] == w->ignored) {
        return -1;
    }
    if (check->columns[w->column].role == TB_ROLE_SHIFTED_LABELS) {
        return last;
    }
    return before_another && w->ids != NULL && w->labels[last] == w->ids[span.end]
               ? last
               : -1;
}

static void
check_crossing(const tb_label_work *w)
{
    tb_check *check = w->check;
    ptrdiff_t row = -1;

    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        ptrdiff_t at = find_crossing(w, k);
        if (at >= 0 && at / check->width != row) {
            row = at / check->width;
            tb_note_at(check, TB_FOUND_LABEL_CROSSES, w->column, check->starts_from, at,
                       w->labels[at], w->ignored);
        }
    }
}

/* --- all -------------------------------------------------------------------------- */

/* A causal model shifts labels by itself: that of a row's first column is for nothing.
 * Marks the segments that have no other; how many labels remain. */
static ptrdiff_t
drop_shifted_away(const tb_label_work *w)
{
    const tb_check *check = w->check;
    ptrdiff_t trained = w->all.trained;

    /* Tags may be their token's id by chance. */
    if (w->shift != 0 || w->all.comparable < 2 || w->all.same < w->all.comparable) {
        return trained;
    }
    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        ptrdiff_t begin = check->spans[k].begin;
        if (w->trained[k] == 1 && begin % check->width == 0 &&
            w->labels[begin] != w->ignored) {
            w->trained[k] = -1;
            trained--;
        }
    }
    return trained;
}

static tb_label_work
look_at_labels(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int is_mask = column->role == TB_ROLE_LOSS_MASK;
    int64_t vocab = check->settings.vocab_size;
    tb_label_work w = {check,
                       i,
                       column->wide,
                       NULL,
                       is_mask ? 0 : check->settings.ignore_index,
                       is_mask     ? 2
                       : vocab < 0 ? INT64_MAX
                                   : vocab,
                       column->role == TB_ROLE_SHIFTED_LABELS ||
                           column->role == TB_ROLE_DECODER_LABELS,
                       0,
                       0,
                       {.bad = -1},
                       check->votes};

    if (check->ids >= 0 && !is_mask) {
        w.ids = check->columns[check->ids].wide;
    }
    w.tail = tb_find_tail(check);
    w.all = count_all(&w, w.shift, w.trained);
    w.repeats = are_tokens(w.all);
    return w;
}

static void
check_column(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int is_mask = column->role == TB_ROLE_LOSS_MASK;
    int64_t vocab = check->settings.vocab_size;

    if (column->is_weights) { /* of any size, but not all of them nothing */
        if (tb_scan_other(column->wide, column->size, 0) == column->size) {
            tb_note(check, TB_FOUND_BATCH_UNLABELLED, i, -1, -1, -1, 0, -1);
        }
        return;
    }
    tb_label_work w = look_at_labels(check, i);
    if (w.all.bad >= 0) {
        tb_note_at(check, is_mask ? TB_FOUND_MASK_VALUE : TB_FOUND_LABEL_RANGE, i, -1,
                   w.all.bad, w.labels[w.all.bad], is_mask ? 1 : vocab);
    }
    int is_shifted = 0;
    if (w.ids != NULL && w.all.trained > 0) {
        is_shifted = !w.repeats                      ? find_shift_of_all(&w)
                     : w.all.same < w.all.comparable ? find_shift_of_each(&w)
                                                     : 0;
    }
    tb_check_label_padding(&w);
    if (drop_shifted_away(&w) == 0) {
        tb_note(check, TB_FOUND_BATCH_UNLABELLED, i, -1, -1, -1, 0, -1);
        return;
    }
    if (!is_shifted && !is_mask &&
        (w.repeats || column->role == TB_ROLE_SHIFTED_LABELS)) {
        check_crossing(&w);
    }
    tb_check_labelled_rows(&w);
}

/* shift_labels beside labels: at each token the label of the next. */
static void
compare_shifted(tb_check *check, int shifted, int labels)
{
    const int64_t *next = check->columns[shifted].wide;
    const int64_t *own = check->columns[labels].wide;
    ptrdiff_t row = -1;

    for (ptrdiff_t k = 0; k < check->span_count; k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t count = span.end - span.begin - 1;
        ptrdiff_t at = tb_scan_equal(next + span.begin, own + span.begin + 1, count);
        if (at < count && span.begin / check->width != row) {
            row = span.begin / check->width;
            at += span.begin;
            tb_note_at(check, TB_FOUND_LABEL_DIFFERS, shifted, labels, at, next[at],
                       own[at + 1]);
        }
    }
}

static int
find_labels(const tb_check *check, tb_role role)
{
    for (int i = 0; i < check->count; i++) {
        if (check->columns[i].role == role && check->columns[i].form == TB_FORM_GRID) {
            return i;
        }
    }
    return -1;
}

void
tb_check_labels(tb_check *check)
{
    int shifted = find_labels(check, TB_ROLE_SHIFTED_LABELS);
    int labels = find_labels(check, TB_ROLE_LABELS);

    for (int i = 0; i < check->count; i++) {
        const tb_check_column *column = &check->columns[i];
        if (column->form == TB_FORM_LIST && column->role == TB_ROLE_ROW_LABELS) {
            tb_check_row_labels(check, i);
        }
        else if (column->form == TB_FORM_GRID &&
                 ((column->role >= TB_ROLE_LABELS &&
                   column->role <= TB_ROLE_DECODER_LABELS) ||
                  column->role == TB_ROLE_LOSS_MASK)) {
            check_column(check, i);
        }
    }
    if (shifted >= 0 && labels >= 0) {
        compare_shifted(check, shifted, labels);
    }
}
