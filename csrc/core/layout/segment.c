#include "core/layout/segment.h"

#include "core/base/fill.h"
#include "core/base/size.h"

#include <stdlib.h>
#include <string.h>

tb_status
tb_add_lengths(const int64_t *lengths, ptrdiff_t count, int32_t *offsets,
               tb_error *error)
{
    int64_t sum = 0;

    offsets[0] = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        error->row = i;
        error->column = -1;
        error->value = lengths[i];
        if (lengths[i] < 0) {
            return TB_ERR_NEGATIVE;
        }
        if (lengths[i] > INT32_MAX - sum) {
            return TB_ERR_RANGE;
        }
        sum += lengths[i];
        offsets[i + 1] = (int32_t)sum;
    }
    return TB_OK;
}

tb_status
tb_sum_packs(const int64_t *lengths, const ptrdiff_t *counts, ptrdiff_t packs,
             ptrdiff_t *totals, tb_error *error)
{
    for (ptrdiff_t i = 0; i < packs; i++) {
        totals[i] = 0;
        for (ptrdiff_t j = 0; j < counts[i]; j++) {
            error->row = i;
            error->column = j;
            error->value = lengths[j];
            if (lengths[j] < 0) {
                return TB_ERR_NEGATIVE;
            }
            if (lengths[j] > PTRDIFF_MAX - totals[i]) {
                return TB_ERR_SIZE;
            }
            totals[i] += lengths[j];
        }
        lengths += counts[i];
    }
    return TB_OK;
}

/* Each token's position in its segment, or the number of the segment from 1. */
static void
write_packs(const int64_t *lengths, const ptrdiff_t *counts, const ptrdiff_t *totals,
            ptrdiff_t packs, const tb_layout *layout, int positions, int64_t *out)
{
    for (ptrdiff_t i = 0; i < packs; i++) {
        tb_span span = tb_locate_row(layout, totals[i]);
        int64_t *to = out + span.at;
        for (ptrdiff_t k = 0; k < counts[i]; k++) {
            ptrdiff_t length = lengths[k];
            if (positions) {
                tb_count_up(to, length, 0);
            }
            for (ptrdiff_t j = 0; !positions && j < length; j++) {
                to[j] = k + 1;
            }
            to += length;
        }
        tb_fill_around(layout, span, out);
        lengths += counts[i];
        out += layout->width;
    }
}

void
tb_segment_rows(const int64_t *lengths, const ptrdiff_t *counts,
                const ptrdiff_t *totals, ptrdiff_t packs, const tb_layout *layout,
                int64_t *out)
{
    write_packs(lengths, counts, totals, packs, layout, 0, out);
}

void
tb_position_segments(const int64_t *lengths, const ptrdiff_t *counts,
                     const ptrdiff_t *totals, ptrdiff_t packs, const tb_layout *layout,
                     int64_t *out)
{
    write_packs(lengths, counts, totals, packs, layout, 1, out);
}

/* --- runs of one id --------------------------------------------------------------- */

static int
compare_runs(const void *a, const void *b)
{
    const tb_run *left = (const tb_run *)a, *right = (const tb_run *)b;

    if (left->id != right->id) {
        return left->id < right->id ? -1 : 1;
    }
    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static int
compare_begins(const void *a, const void *b)
{
    const tb_run *left = (const tb_run *)a, *right = (const tb_run *)b;

    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

/* Joins the runs of each id into a chain. While they are sorted by id, the runs of one
 * id are neighbours, and `next` is their place in the row. */
static void
chain_runs(tb_run *runs, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        runs[i].next = i;
    }
    qsort(runs, (size_t)count, sizeof *runs, compare_runs);
    for (ptrdiff_t i = 0; i < count; i++) {
        int again = i > 0 && runs[i - 1].id == runs[i].id;
        runs[i].first = again ? runs[i - 1].first : runs[i].next;
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        int goes_on = i + 1 < count && runs[i + 1].id == runs[i].id;
        runs[i].next = goes_on ? runs[i + 1].next : -1;
    }
    qsort(runs, (size_t)count, sizeof *runs, compare_begins);
}

/* Finds the runs of a row, in order. Returns their number. */
static ptrdiff_t
find_runs(const int64_t *ids, ptrdiff_t width, tb_run *runs)
{
    ptrdiff_t count = 0;
    int64_t highest = 0; /* where ids only rise, each has one run */
    int zeros = 0, distinct = 1;

    for (ptrdiff_t begin = 0, end; begin < width; begin = end) {
        int64_t id = ids[begin];
        for (end = begin + 1; end < width && ids[end] == id;) {
            end++;
        }
        runs[count] = (tb_run){id, begin, end, begin, count, -1};
        count++;
        if (id > highest) {
            highest = id;
        }
        else if (id != 0 || zeros++ > 0) {
            distinct = 0;
        }
    }
    if (!distinct) {
        chain_runs(runs, count);
    }
    return count;
}

/* Notes in each run how much of it is its segment's prefix. */
static tb_status
note_prefixes(tb_run *runs, ptrdiff_t count, const tb_segment_rule *rule,
              const int64_t *prefixes, ptrdiff_t prefix_count, tb_error *error)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        tb_run *run = &runs[i];
        if (run->id == 0) {
            continue;
        }
        error->column = run->begin;
        error->value = run->id;
        if (run->first != i) {
            return TB_ERR_REPEATED;
        }
        if (prefixes != NULL && (run->id < 0 || run->id > prefix_count)) {
            return TB_ERR_RANGE;
        }
        ptrdiff_t prefix = prefixes == NULL ? rule->prefix : prefixes[run->id - 1];
        ptrdiff_t length = run->end - run->begin;
        run->prefix = run->begin + (prefix < length ? prefix : length);
    }
    return TB_OK;
}

/* --- the mask --------------------------------------------------------------------- */

/* The mask, written in the order of memory. All between two shown ranges is one hidden
 * range, even where a row of the mask ends in it, so that most rows take two fills.
 * (Streaming stores are slower on ranges this short, at 32 and at 128 MiB.) */
typedef struct {
    const tb_segment_rule *rule;
    char *out;
    ptrdiff_t at; /* elements written */
} tb_ribbon;

static void
fill_until(tb_ribbon *ribbon, ptrdiff_t end, const unsigned char *value)
{
    int item_size = ribbon->rule->item_size;

    tb_fill_elements(ribbon->out + ribbon->at * item_size, end - ribbon->at, item_size,
                     value);
    ribbon->at = end;
}

/* Elements begin to end - 1, none of them written yet. */
static void
show(tb_ribbon *ribbon, ptrdiff_t begin, ptrdiff_t end)
{
    if (begin < end) {
        fill_until(ribbon, begin, ribbon->rule->hidden);
        fill_until(ribbon, end, ribbon->rule->shown);
    }
}

/* The mask row of each query of a run, the first of them beginning at element `row`. */
static void
show_queries(tb_ribbon *ribbon, const tb_run *runs, const tb_run *of, ptrdiff_t width,
             ptrdiff_t row)
{
    const tb_segment_rule *rule = ribbon->rule;
    ptrdiff_t window = tb_min(rule->window, width); /* which is all, and cannot wrap */

    for (ptrdiff_t query = of->begin; query < of->end; query++, row += width) {
        ptrdiff_t low = query - window + 1;
        ptrdiff_t high = query + (rule->causal ? 1 : window);
        for (ptrdiff_t i = of->first; i >= 0; i = runs[i].next) {
            const tb_run *run = &runs[i];
            show(ribbon, row + run->begin, row + run->prefix);
            show(ribbon, row + tb_max(low, run->prefix), row + tb_min(high, run->end));
        }
    }
}

/* Finds the runs of row i and their prefixes. *prefixes is moved on to the next row's.
 */
static tb_status
read_row(const int64_t *ids, ptrdiff_t i, ptrdiff_t width, const tb_segment_rule *rule,
         const int64_t **prefixes, tb_run *runs, ptrdiff_t *count, tb_error *error)
{
    tb_status status = TB_OK;

    *count = find_runs(ids + i * width, width, runs);
    error->row = i;
    if (*prefixes != NULL) {
        ptrdiff_t known = rule->prefix_counts[i];
        status = note_prefixes(runs, *count, rule, *prefixes, known, error);
        *prefixes += known;
    }
    else if (rule->prefix >= 0) {
        status = note_prefixes(runs, *count, rule, NULL, 0, error);
    }
    return status;
}

tb_status
tb_mask_segments(const int64_t *ids, ptrdiff_t rows, ptrdiff_t width,
                 const tb_segment_rule *rule, tb_run *runs, void *out, tb_error *error)
{
    const int64_t *prefixes = rule->prefixes;
    int can_fail = prefixes != NULL || rule->prefix >= 0;
    tb_ribbon ribbon = {rule, (char *)out, 0};
    tb_status status = TB_OK;
    ptrdiff_t count;

    for (ptrdiff_t i = 0; can_fail && i < rows && status == TB_OK; i++) {
        status = read_row(ids, i, width, rule, &prefixes, runs, &count, error);
    }
    if (status != TB_OK) {
        return status;
    }
    prefixes = rule->prefixes;
    for (ptrdiff_t i = 0; i < rows; i++) {
        ptrdiff_t row = i * width * width;
        status = read_row(ids, i, width, rule, &prefixes, runs, &count, error);
        for (ptrdiff_t r = 0; r < count; r++) {
            show_queries(&ribbon, runs, &runs[r], width, row + runs[r].begin * width);
        }
    }
    fill_until(&ribbon, rows * width * width, rule->hidden);
    return status;
}
