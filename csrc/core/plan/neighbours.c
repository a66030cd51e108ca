#include "core/plan/neighbours.h"

#include "core/base/size.h"

#include <string.h>

/* The first sorted row that costs at least so much, from `low` up to `high`. */
static ptrdiff_t
find_cost_from(const tb_costed_row *rows, ptrdiff_t high, int64_t cost)
{
    ptrdiff_t low = 0;

    while (low < high) {
        ptrdiff_t middle = low + (high - low) / 2;
        if (rows[middle].cost < cost) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

/* Sorts rows by cost, stably: runs of one, two, four, ... are merged. */
static void
sort_rows(tb_costed_row *rows, tb_costed_row *scratch, ptrdiff_t n)
{
    for (ptrdiff_t run = 1; run < n; run *= 2) {
        for (ptrdiff_t begin = 0; begin + run < n; begin += 2 * run) {
            ptrdiff_t i = begin, middle = begin + run, j = middle, to = begin;
            ptrdiff_t end = n - middle < run ? n : middle + run;
            if (rows[middle - 1].cost <= rows[middle].cost) {
                continue;
            }
            while (i < middle && j < end) {
                scratch[to++] = rows[j].cost < rows[i].cost ? rows[j++] : rows[i++];
            }
            /* What is left of the second run lies where it belongs. */
            memcpy(scratch + to, rows + i, (size_t)(middle - i) * sizeof *rows);
            to += middle - i;
            memcpy(rows + begin, scratch + begin, (size_t)(to - begin) * sizeof *rows);
        }
    }
}

void
tb_sort_in(tb_sorted_rows *sorted)
{
    tb_costed_row *rows = sorted->rows, *fresh = sorted->scratch;
    ptrdiff_t high = sorted->sorted, n = sorted->count - high;

    sort_rows(rows + high, sorted->scratch, n);
    memcpy(fresh, rows + high, (size_t)n * sizeof *rows);
    for (ptrdiff_t k = n - 1; k >= 0; k--) {
        ptrdiff_t place = find_cost_from(rows, high, fresh[k].cost + 1);
        memmove(rows + place + k + 1, rows + place,
                (size_t)(high - place) * sizeof *rows);
        rows[place + k] = fresh[k];
        high = place;
    }
    sorted->sorted = sorted->count;
}

ptrdiff_t
tb_fit_run(const tb_sorted_rows *sorted, int64_t cost)
{
    int64_t rows = sorted->batch_size;

    if (sorted->max_tokens != INT64_MAX) {
        rows = tb_min(rows, sorted->max_tokens / cost);
    }
    return (ptrdiff_t)tb_min(rows, (int64_t)sorted->count + 1);
}

void
tb_choose_run(const tb_sorted_rows *sorted, ptrdiff_t at, ptrdiff_t *begin,
              ptrdiff_t *end)
{
    const tb_costed_row *rows = sorted->rows;
    double least = 2;
    int64_t sum = 0; /* of the costs of the rows from `low` up to `last` */
    ptrdiff_t low = at, last = at;

    *begin = 0;
    *end = at + 1;
    for (; last < sorted->count; last++) {
        ptrdiff_t count = tb_fit_run(sorted, rows[last].cost), first = last + 1 - count;
        if (first > at) {
            break;
        }
        if (first < 0) {
            *end = last + 1;
            continue;
        }
        if (least > 1) { /* the first run that is full */
            sum = 0;
            for (ptrdiff_t i = first; i < last; i++) {
                sum += rows[i].cost;
            }
            low = first;
        }
        sum += rows[last].cost;
        for (; low < first; low++) {
            sum -= rows[low].cost;
        }
        double whole = (double)count * (double)rows[last].cost;
        double part = (whole - (double)sum) / whole;
        if (part < least) {
            least = part;
            *begin = first;
            *end = last + 1;
        }
    }
}

int
tb_cut_run(const tb_sorted_rows *sorted, ptrdiff_t at, ptrdiff_t *begin, ptrdiff_t *end)
{
    ptrdiff_t count;

    *begin = sorted->count;
    do {
        *end = *begin;
        count = tb_fit_run(sorted, sorted->rows[*end - 1].cost);
        *begin = *end > count ? *end - count : 0;
    } while (*begin > at);
    return *end - *begin == count;
}

ptrdiff_t
tb_find_costed(const tb_sorted_rows *sorted, int64_t cost)
{
    return find_cost_from(sorted->rows, sorted->count, cost);
}
