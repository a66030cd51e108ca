/* Rows without a label: computed for nothing, often because their answer was cut off; and
 * labels of rows, not of tokens. */
#include "core/base/size.h"
#include "core/check/label_work.h"
#include "core/check/scan.h"

/* How the labels of segments lie together. */
typedef struct {
    ptrdiff_t runs;
    ptrdiff_t labelled; /* segments with labels */
    ptrdiff_t at_ends;  /* of them, those with one run, which reaches their end */
    ptrdiff_t possible; /* labels that they could have */
    int are_whole;      /* all are labelled alike, but for special tokens at the ends */
    ptrdiff_t special;  /* such tokens of each */
} label_runs;

static label_runs
count_runs(const tb_label_work *w)
{
    label_runs all = {.are_whole = 1};
    tb_stretch ends = {-1, -1}; /* tokens without a label before and after the others */

    for (ptrdiff_t k = 0; k < w->check->span_count; k++) {
        tb_stretch span = w->check->spans[k];
        ptrdiff_t runs = 0;
        tb_stretch labels = {span.end, span.begin};
        for (ptrdiff_t at = span.begin; at < span.end; at++) {
            if (w->labels[at] != w->ignored) {
                labels = (tb_stretch){tb_min(labels.begin, at), at + 1};
            }
            runs += w->labels[at] != w->ignored &&
                    (at == span.begin || w->labels[at - 1] == w->ignored);
        }
        /* The last label of the next token is not there. */
        ptrdiff_t last = span.end - 1 - (w->shift > 0);
        all.runs += runs;
        all.labelled += runs > 0;
        all.possible += runs > 0 ? span.end - span.begin - 1 : 0;
        all.at_ends += runs == 1 && last >= span.begin && w->labels[last] != w->ignored;
        if (runs > 0) {
            tb_stretch here = {labels.begin - span.begin, span.end - labels.end};
            ends = ends.begin < 0 ? here : ends;
            all.special = ends.begin + ends.end;
            all.are_whole &= runs == 1 && here.begin <= 1 && here.end <= 1 &&
                             here.begin == ends.begin && here.end == ends.end;
        }
    }
    return all;
}

/* Whether it may be that none of `trained` labels is on `length` of `total` tokens. */
static int
may_be_none(ptrdiff_t trained, ptrdiff_t length, ptrdiff_t total, double least)
{
    double chance = 1;

    for (ptrdiff_t i = 0; i < length && chance > least; i++) {
        chance *= (double)tb_max(total - trained - i, 0) / (double)(total - i);
    }
    return chance > least;
}

/* Whether a segment of `length` tokens can be without a label by chance: as in masked
 * language modelling, where any token may be drawn, or in tags, of a word's first tokens. */
static int
may_lack_labels(const tb_label_work *w, ptrdiff_t length)
{
    label_runs runs = count_runs(w);
    ptrdiff_t trained = w->all.trained;
    int is_mask = w->check->columns[w->column].role == TB_ROLE_LOSS_MASK;
    int are_long = 5 * runs.runs <= 2 * trained;
    int are_at_ends = runs.at_ends == runs.labelled;
    /* Few may be their own tokens by chance: a tenth of those that are drawn stay. */
    int are_of_text = w->shift > 0 || (w->repeats && w->all.comparable > 2);

    if (is_mask) {
        return 0; /* no library draws it */
    }
    /* Answers reach the end, and turns are long; neither is seen by chance in several
     * rows, or in many labels. */
    if (are_of_text && are_at_ends &&
        (are_long || 2 * trained >= runs.possible || runs.labelled >= 3)) {
        return 0;
    }
    if (are_of_text && are_long && trained >= (are_at_ends ? 6 : 8)) {
        return 0;
    }
    if (runs.are_whole && trained >= 8) {
        ptrdiff_t possible = tb_max(length - runs.special, 0);
        return may_be_none(trained, possible, trained + possible, 1.0 / 400);
    }
    return may_be_none(trained, length, w->check->real_total, 1e-6);
}

/* Whether another segment ends with the same id, without a label. */
static int
ends_alike(const tb_label_work *w, ptrdiff_t k)
{
    int64_t last = w->ids[w->check->spans[k].end - 1];

    for (ptrdiff_t i = 0; i < w->check->span_count; i++) {
        ptrdiff_t at = w->check->spans[i].end - 1;
        if (i != k && w->ids[at] == last && w->labels[at] == w->ignored) {
            return 1;
        }
    }
    return 0;
}

/* The length of a segment without labels, less what may be its own padding, where there
 * is no mask to tell: ids at its end that are all alike. */
static ptrdiff_t
measure_segment(const tb_label_work *w, ptrdiff_t k)
{
    tb_stretch span = w->check->spans[k];
    ptrdiff_t length = span.end - span.begin, run = 1;

    if (w->check->real_from >= 0 || w->ids == NULL) {
        return length;
    }
    while (run < length && w->ids[span.end - 1 - run] == w->ids[span.end - 1]) {
        run++;
    }
    return run > 1 || ends_alike(w, k) ? length - run : length;
}

void
tb_check_labelled_rows(const tb_label_work *w)
{
    tb_check *check = w->check;

    for (ptrdiff_t k = 0; k < tb_min(w->tail, check->span_count); k++) {
        tb_stretch span = check->spans[k];
        ptrdiff_t length = span.end - span.begin;
        int is_shifted_away = w->trained[k] < 0;
        if (is_shifted_away && w->all.comparable < 4) {
            continue; /* which may be its token by chance */
        }
        if (w->trained[k] <= 0 && length > 1 &&
            (is_shifted_away ||
             (measure_segment(w, k) > 1 && !may_lack_labels(w, length)))) {
            tb_note_at(check, TB_FOUND_ROW_UNLABELLED, w->column, -1, span.begin,
                       length, -1);
        }
    }
}

/* --- labels of rows --------------------------------------------------------------- */

/* Whether there may be so many labels of rows: one for each row, or for each segment of
 * a single row, with the padding or without, or with the empty ones of a static shape. */
static int
may_have_labels(const tb_check *check, ptrdiff_t count)
{
    if (count == check->rows || count * check->choices == check->rows) {
        return 1;
    }
    for (int i = 0; i < check->count; i++) {
        const tb_check_column *column = &check->columns[i];
        if (column->form == TB_FORM_LIST && column->size == count + 1 &&
            (column->role == TB_ROLE_BOUNDARIES ||
             column->role == TB_ROLE_PADDED_BOUNDARIES)) {
            return 1;
        }
    }
    return check->rows == 1 &&
           (count == check->span_count || count == tb_find_tail(check));
}

/* Labels [rows, n] of another width than the ids: those of a decoder, but not where
 * rows are packed, or where labels repeat the ids. */
static int
have_wrong_width(const tb_check *check, const tb_check_column *column)
{
    ptrdiff_t each = column->ndim == 2 ? column->shape[1] : 1, compared = 0, same = 0;

    if (each < 2 || each == check->width || check->ids < 0 ||
        column->shape[0] != check->rows) {
        return 0;
    }
    if (check->span_count > check->rows) {
        return 1;
    }
    const int64_t *ids = check->columns[check->ids].wide;
    for (ptrdiff_t r = 0; r < check->rows; r++) {
        for (ptrdiff_t c = 0; c < tb_min(each, check->width); c++) {
            int64_t label = column->wide[r * each + c];
            if (label != check->settings.ignore_index) {
                compared++;
                same += label == ids[r * check->width + c];
            }
        }
    }
    return compared > 2 && 3 * same >= 2 * compared;
}

/* Whether all labels are between two numbers, or ignored. */
static int
are_between(const tb_check_column *column, int64_t low, int64_t high, int64_t ignored)
{
    for (ptrdiff_t at = 0; at < column->size; at++) {
        int64_t label = column->wide[at];
        if (label != ignored && (label < low || label > high)) {
            return 0;
        }
    }
    return 1;
}

/* The first label that no loss takes: below 0, but for the signs that losses of pairs
 * take; and, of a decoder's tokens, one beyond the vocabulary. Those of one number for
 * each row, or of 0 and 1 for each class, are no tokens. */
static void
check_range(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int64_t ignored = check->settings.ignore_index, vocab = check->settings.vocab_size;
    ptrdiff_t each = column->ndim == 2 ? column->shape[1] : 1;

    if (are_between(column, -1, 1, ignored)) {
        return;
    }
    int64_t limit = each > 1 && vocab >= 0 ? vocab : INT64_MAX;
    for (ptrdiff_t at = 0; at < column->size; at++) {
        int64_t label = column->wide[at];
        if (label != ignored && (label < 0 || label >= limit)) {
            int is_of_row = column->ndim == 2 || column->size == check->rows;
            tb_note(check, TB_FOUND_LABEL_RANGE, i, -1, is_of_row ? at / each : -1,
                    column->ndim == 2 ? at % each
                    : is_of_row       ? -1
                                      : at,
                    label, each > 1 ? vocab : -1);
            return;
        }
    }
}

/* How many classes multi-hot labels [rows, n] have that were padded: columns of 0 and 1
 * alone, before columns that are ignored in every row. 0: they are none. In several rows
 * of two classes and more that is no chance. */
static ptrdiff_t
count_padded_classes(const tb_check *check, const tb_check_column *column)
{
    ptrdiff_t rows = column->shape[0], each = column->shape[1], classes = 0;
    int64_t ignored = check->settings.ignore_index;

    while (classes < each && column->wide[classes] != ignored) {
        classes++;
    }
    if (rows < 2 || classes < 2 || classes == each || ignored == 0 || ignored == 1) {
        return 0;
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        for (ptrdiff_t c = 0; c < each; c++) {
            int64_t label = column->wide[r * each + c];
            if (c < classes ? label != 0 && label != 1 : label != ignored) {
                return 0;
            }
        }
    }
    return classes;
}

void
tb_check_padded_classes(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    ptrdiff_t classes = column->ndim == 2 ? count_padded_classes(check, column) : 0;

    if (classes > 0) {
        tb_note(check, TB_FOUND_ROW_LABELS_PADDED, i, -1, -1, -1, column->shape[1],
                classes);
    }
}

/* Labels of rows: as many as rows, and not all ignored. */
void
tb_check_row_labels(tb_check *check, int i)
{
    const tb_check_column *column = &check->columns[i];
    int64_t ignored = check->settings.ignore_index;
    ptrdiff_t count = column->ndim > 0 ? column->shape[0] : 1;
    ptrdiff_t each = column->ndim == 2 ? column->shape[1] : 1;

    if (!may_have_labels(check, count) || have_wrong_width(check, column)) {
        tb_note(check, TB_FOUND_SHAPE, i, check->grid_from, -1, -1, count,
                column->ndim == 2 ? each : -1);
        return;
    }
    if (column->size > 0 &&
        tb_scan_other(column->wide, column->size, ignored) == column->size) {
        tb_note(check, TB_FOUND_BATCH_UNLABELLED, i, -1, -1, -1, 0, -1);
        return;
    }
    check_range(check, i);
    tb_check_padded_classes(check, i);
    for (ptrdiff_t r = 0; column->ndim == 2 && r < count; r++) {
        if (tb_scan_other(column->wide + r * each, each, ignored) == each) {
            tb_note(check, TB_FOUND_ROW_UNLABELLED, i, -1, r, -1, each, -1);
        }
    }
}
