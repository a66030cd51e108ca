/* Labels and padding: labels on it, unless they may be rows of their own that have the
 * width of the ids by chance; and labels of first tokens, which the padding before them
 * predicts. */
#include "core/base/size.h"
#include "core/check/label_work.h"
#include "core/check/scan.h"

/* How the labels of all rows lie beside the tokens. */
typedef struct {
    ptrdiff_t matched; /* rows with padding, labelled where their tokens are */
    ptrdiff_t missed;  /* rows labelled elsewhere */
    int64_t highest;
    int has_ignored;
    /* One value on all padding. */
    int is_filled;
    int64_t fill;
    ptrdiff_t filled;  /* places */
    ptrdiff_t longest; /* of them in one row */
} label_places;

/* The first trained label of padding in a row, or -1. */
static ptrdiff_t
find_on_padding(const tb_label_work *w, ptrdiff_t row)
{
    tb_stretch extent = w->check->extents[row];
    ptrdiff_t from = row * w->check->width, to = from + w->check->width;
    ptrdiff_t before =
        from + tb_scan_other(w->labels + from, extent.begin - from, w->ignored);
    ptrdiff_t after =
        extent.end + tb_scan_other(w->labels + extent.end, to - extent.end, w->ignored);

    return before < extent.begin ? before : after < to ? after : -1;
}

/* What is on a stretch of padding. */
static void
add_padding(const tb_label_work *w, tb_stretch padding, label_places *places)
{
    const int64_t *labels = w->labels + padding.begin;
    ptrdiff_t length = padding.end - padding.begin;

    if (length == 0) {
        return;
    }
    if (places->filled == 0) {
        places->fill = labels[0];
    }
    places->is_filled &= places->fill != w->ignored &&
                         tb_scan_other(labels, length, places->fill) == length;
    places->filled += length;
    places->longest = tb_max(places->longest, length);
}

/* Adds a row. 0 where its labels are those of tokens: with gaps, as where words have
 * several tokens, or without a label at both ends, as where special tokens are. */
static int
add_row(const tb_label_work *w, ptrdiff_t row, label_places *places)
{
    ptrdiff_t from = row * w->check->width, to = from + w->check->width;
    tb_stretch extent = w->check->extents[row];
    ptrdiff_t first = from + tb_scan_other(w->labels + from, to - from, w->ignored);
    ptrdiff_t last = to;

    while (last > first && w->labels[last - 1] == w->ignored) {
        last--;
    }
    if (tb_scan_value(w->labels + first, last - first, w->ignored) < last - first ||
        (first > from && last < to)) {
        return 0;
    }
    for (ptrdiff_t at = first; at < last; at++) {
        places->highest = tb_max(places->highest, w->labels[at]);
    }
    int is_whole = first == from && last == to;
    int has_all = extent.begin == from && extent.end == to;
    int is_same = first == extent.begin && last == extent.end;
    places->has_ignored |= !is_whole;
    places->matched += is_same && !(is_whole && has_all);
    places->missed += !is_same;
    add_padding(w, (tb_stretch){from, extent.begin}, places);
    add_padding(w, (tb_stretch){extent.end, to}, places);
    return 1;
}

/* Whether labels are far below the ids, as tags are: those of a decoder are as high. */
static int
are_below_ids(const tb_label_work *w, int64_t highest)
{
    double sum = 0;

    for (ptrdiff_t r = 0; w->ids != NULL && r < w->check->rows; r++) {
        for (ptrdiff_t at = w->check->extents[r].begin; at < w->check->extents[r].end;
             at++) {
            sum += (double)w->ids[at];
        }
    }
    return highest < TB_LEAST_TOKEN &&
           4 * (double)highest * (double)w->check->real_total < sum;
}

/* Whether one value is on all padding, in more places than chance puts it there. */
static int
are_filled(const tb_label_work *w, const label_places *places)
{
    ptrdiff_t same = 0;

    for (ptrdiff_t r = 0; places->is_filled && r < w->check->rows; r++) {
        for (ptrdiff_t at = w->check->extents[r].begin; at < w->check->extents[r].end;
             at++) {
            same += w->labels[at] == places->fill;
        }
    }
    return places->is_filled && places->longest > 1 &&
           places->filled >= (same > 0 ? 6 : 3);
}

/* Whether labels may be rows of their own, a decoder's or a number for each class: of
 * token ids, or with ends of their own. */
static int
are_own_rows(const tb_label_work *w)
{
    label_places places = {.is_filled = 1};

    for (ptrdiff_t r = 0; r < w->check->rows; r++) {
        if (!add_row(w, r, &places)) {
            return 0;
        }
    }
    if (!places.has_ignored && places.highest <= 1) {
        return 1; /* as of several classes: a 0 or 1 for each */
    }
    if (are_filled(w, &places)) {
        return 0;
    }
    return !are_below_ids(w, places.highest) || places.matched < 2 * places.missed;
}

/* The first label of rows of their own that no loss takes, if it is beside the tokens. */
static void
check_own_range(const tb_label_work *w)
{
    for (ptrdiff_t at = 0; w->all.bad < 0 && at < w->check->total; at++) {
        if (w->labels[at] != w->ignored &&
            (w->labels[at] < 0 || w->labels[at] >= w->limit)) {
            tb_note_at(w->check, TB_FOUND_LABEL_RANGE, w->column, -1, at, w->labels[at],
                       w->check->settings.vocab_size);
            return;
        }
    }
}

/* The first tokens of rows that have padding before them. */
static void
find_after_padding(const tb_label_work *w)
{
    tb_check *check = w->check;
    ptrdiff_t count = 0, first = -1;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        tb_stretch extent = check->extents[r];
        if (extent.begin > r * check->width && extent.begin < extent.end &&
            w->labels[extent.begin] != w->ignored) {
            first = first < 0 ? extent.begin : first;
            count++;
        }
    }
    if (count > 0 && check->found < TB_MOST_FINDINGS) {
        tb_note_at(check, TB_FOUND_AFTER_PADDING, w->column, -1, first, count,
                   w->ignored);
    }
}

void
tb_check_label_padding(const tb_label_work *w)
{
    tb_check *check = w->check;
    int is_mask = check->columns[w->column].role == TB_ROLE_LOSS_MASK;
    int may_be_own = !w->repeats && w->shift == 0 && !is_mask;

    for (ptrdiff_t r = 0; r < check->rows; r++) {
        ptrdiff_t at = find_on_padding(w, r);
        if (at < 0) {
            continue;
        }
        if (may_be_own && are_own_rows(w)) {
            check_own_range(w);
            tb_check_padded_classes(check, w->column);
            return;
        }
        may_be_own = 0;
        tb_note_at(check, TB_FOUND_LABEL_ON_PADDING, w->column, check->real_from, at,
                   w->labels[at], w->ignored);
    }
    if (w->repeats && w->shift == 0) {
        find_after_padding(w);
    }
}
