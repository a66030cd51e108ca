/*
 * Rows that wait, sorted by cost, and the runs of neighbours among them that make padded
 * batches.
 */
#ifndef TB_NEIGHBOURS_H
#define TB_NEIGHBOURS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t cost;
    uint64_t number;
} tb_costed_row;

/* Up to `sorted` they are sorted; those that have just come follow in their order. Both
 * arrays have room for `count`. The costs of all rows can be added. */
typedef struct {
    tb_costed_row *rows;
    tb_costed_row *scratch;
    ptrdiff_t count;
    ptrdiff_t sorted;
    int64_t batch_size;
    int64_t max_tokens; /* INT64_MAX: no cap; else no row costs more */
} tb_sorted_rows;

/* Sorts the rows that have come, and moves them among the others; behind equal ones. */
void tb_sort_in(tb_sorted_rows *sorted);

/* The first of the sorted rows that costs at least so much. */
ptrdiff_t tb_find_costed(const tb_sorted_rows *sorted, int64_t cost);

/* How many rows share a batch whose longest costs so much; count + 1 where that is less. */
ptrdiff_t tb_fit_run(const tb_sorted_rows *sorted, int64_t cost);

/* The full run of sorted rows around place `at` of which the smallest part is padding;
 * or, where no run is full, the longest from the first row on. */
void tb_choose_run(const tb_sorted_rows *sorted, ptrdiff_t at, ptrdiff_t *begin,
                   ptrdiff_t *end);

/* Of the batches that all sorted rows are cut into, from the longest row on, the one
 * with the row at a place. Returns whether it is full. */
int tb_cut_run(const tb_sorted_rows *sorted, ptrdiff_t at, ptrdiff_t *begin,
               ptrdiff_t *end);

#endif
