/*
 * Rows into parts of about equal cost, by largest differencing (N. Karmarkar, R. M.
 * Karp, "The differencing method of set partitioning", 1982). Each row is a deal with
 * one part that is not empty. The two deals with the largest differences are joined, the
 * largest part of one with the smallest part of the other, until one deal is left.
 *
 * In equal numbers (W. Michiels, J. Korst, E. Aarts, J. van Leeuwen, "Performance ratios
 * for the differencing method applied to the balanced number partitioning problem",
 * STACS 2003), rows are taken from the most expensive on, as many at a time as there are
 * parts, and each such run is a deal with one row for each part.
 */
#ifndef TB_DIFFERENCE_H
#define TB_DIFFERENCE_H

#include "core/base/macros.h"
#include "core/base/status.h"

/* Some milliseconds of work. */
enum { TB_STEPS_BETWEEN_POLLS = 1 << 16 };

typedef struct {
    int64_t cost;
    ptrdiff_t row;
} tb_priced_row;

/* All n rows, the most expensive first, those of equal cost in order. A negative cost is
 * TB_ERR_NEGATIVE, a sum above INT64_MAX TB_ERR_SIZE; error: the row and its cost. */
TB_MUST_CHECK tb_status tb_price_rows(const int64_t *costs, ptrdiff_t n,
                                      tb_priced_row *rows, tb_error *error);

/* Fills part_of, from 0 to k - 1, for each of n priced rows (by its place in `rows`);
 * k >= 1. No part is empty where n >= k. With equal_counts parts have n / k rows, or
 * one more. TB_ERR_MEMORY, and TB_ERR_INTERRUPTED unless `poll` is NULL. */
TB_MUST_CHECK tb_status tb_difference_rows(const tb_priced_row *rows, ptrdiff_t n,
                                           ptrdiff_t k, int equal_counts, tb_poll poll,
                                           ptrdiff_t *part_of);

#endif
