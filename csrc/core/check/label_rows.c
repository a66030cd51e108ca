/* Rows without a label: computed for nothing, often because their answer was cut off. */
#include "core/base/size.h"
#include "core/check/label_work.h"

/* How the labels of segments lie together. */
typedef struct {
    ptrdiff_t runs;
    ptrdiff_t labelled; /* segments with labels */
    ptrdiff_t at_ends;  /* of them, those with one run, which reaches their end */
    ptrdiff_t possible; /* labels that they could have */
} label_runs;

static label_runs
count_runs(const tb_label_work *w)
{
    label_runs all = {0, 0, 0, 0};

    for (ptrdiff_t k = 0; k < w->check->span_count; k++) {
        tb_stretch span = w->check->spans[k];
        ptrdiff_t runs = 0;
        for (ptrdiff_t at = span.begin; at < span.end; at++) {
            runs += w->labels[at] != w->ignored &&
                    (at == span.begin || w->labels[at - 1] == w->ignored);
        }
        /* The last label of the next token is not there. */
        ptrdiff_t last = span.end - 1 - (w->shift > 0);
        all.runs += runs;
        all.labelled += runs > 0;
        all.possible += runs > 0 ? span.end - span.begin - 1 : 0;
        all.at_ends += runs == 1 && last >= span.begin && w->labels[last] != w->ignored;
    }
    return all;
}

/* Whether a segment of `length` tokens can be without a label by chance, as in masked
 * language modelling, where labels are few and far between. */
static int
may_lack_labels(const tb_label_work *w, ptrdiff_t length)
{
    label_runs runs = count_runs(w);
    ptrdiff_t trained = w->all.trained;
    int is_mask = w->check->columns[w->column].role == TB_ROLE_LOSS_MASK;
    int are_long = 5 * runs.runs <= 2 * trained;
    int are_answers = runs.at_ends == runs.labelled && (w->repeats || w->shift > 0);

    /* Answers reach the end, whole texts are labelled all over; by chance neither is
     * seen in several rows, or in many labels. */
    if (is_mask) {
        return 0; /* no library draws it */
    }
    if (are_answers &&
        (are_long || 2 * trained >= runs.possible || runs.labelled >= 3)) {
        return 0;
    }
    if (are_long && trained >= (runs.at_ends == runs.labelled ? 6 : 8)) {
        return 0;
    }
    double chance = 1, none = 1 - (double)trained / (double)w->check->real_total;
    for (ptrdiff_t i = 0; i < length && chance > 1e-6; i++) {
        chance *= none;
    }
    return chance > 1e-6;
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
        if (w->trained[k] == 0 && length > 1 && measure_segment(w, k) > 1 &&
            !may_lack_labels(w, length)) {
            tb_note_at(check, TB_FOUND_ROW_UNLABELLED, w->column, -1, span.begin,
                       length, -1);
        }
    }
}
