/*
 * The widths to which rows are padded with the fewest tokens, from their lengths alone.
 *
 * Every row is padded to the smallest boundary that holds it. The best boundaries are
 * widths of rows, since any other one can be lowered to the next width. So the sorted
 * widths have to be cut into runs, and a run costs its rows times its widest. With
 * best[q][j] the fewest tokens of the first j widths in q runs,
 *
 *     best[q][j] = min over i < j of best[q-1][i] + (rows[j] - rows[i]) * widths[j]
 *
 * where rows[j] counts the rows of the first j widths. The cost satisfies the
 * quadrangle inequality (F. F. Yao, "Efficient dynamic programming using quadrangle
 * inequalities", STOC 1980; surveyed by Z. Galil and K. Park, "Dynamic programming with
 * convexity, concavity and sparsity", Theoretical Computer Science 92, 1992), and
 * divide and conquer would take O(m log m) for m widths. But for a given i the cost is
 * also linear in the width. So the minimum is the lower envelope of one line for each
 * i. The slopes of the lines, -rows[i], and the points that are asked for, widths[j],
 * are both in order. A queue can then hold the envelope, and a layer takes O(m) (P.
 * Brucker, "Efficient algorithms for some path partitioning problems", Discrete Applied
 * Mathematics 62, 1995).
 */
#ifndef TB_BUCKETS_H
#define TB_BUCKETS_H

#include "core/base/macros.h"
#include "core/base/status.h"

/* Distinct widths in ascending order, and how many rows are no wider. All sums of rows
 * times widths fit into int64: the largest, all rows at the greatest width, was
 * checked.
 */
typedef struct {
    int64_t *widths;
    int64_t *rows; /* rows[j] of the first j widths; count + 1 of them, rows[0] is 0 */
    ptrdiff_t count; /* of distinct widths */
    int64_t tokens;  /* sum of the lengths */
} tb_widths;

/* Counts n >= 1 lengths, each rounded up to `multiple` >= 1. The result is the caller's
 * to free, also after an error. A negative length is TB_ERR_NEGATIVE; where all rows at
 * the greatest width are more tokens than int64 counts, TB_ERR_SIZE. error: the row, or
 * the first of the longest, and its length. Memory is O(n), however long the rows. */
TB_MUST_CHECK tb_status tb_count_widths(const int64_t *lengths, ptrdiff_t n,
                                        int64_t multiple, tb_widths *widths,
                                        tb_error *error);

/* The best boundaries, ascending: min(k, widths->count) of them, k >= 1; each further
 * one saves tokens. Of equally good choices it is the one with the smaller boundaries,
 * compared from the last to the first. With `waste`, as long, also the padding of the
 * best 1, 2, ... boundaries. Up to 64 MiB, and beyond about 6 sqrt(2 k) bytes, for each
 * different width; where that is less than all cuts, most layers are computed twice. */
TB_MUST_CHECK tb_status tb_choose_boundaries(const tb_widths *widths, ptrdiff_t k,
                                             int64_t *boundaries, int64_t *waste,
                                             tb_poll poll);

void tb_free_widths(tb_widths *widths);

#endif
