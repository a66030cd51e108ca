/*
 * Deals the rows of one step to ranks, so that all ranks have about as much work.
 *
 * By largest differencing (N. Karmarkar, R. M. Karp, "The differencing method of set
 * partitioning", 1982), kept balanced in numbers as well (W. Michiels, J. Korst, E.
 * Aarts, J. van Leeuwen, "Performance ratios for the differencing method applied to the
 * balanced number partitioning problem", STACS 2003): rows are taken from the most
 * expensive on, as many at a time as there are ranks, one for each rank. That makes
 * partial deals. The two deals with the largest differences are joined, the largest
 * share of one with the smallest share of the other, until one deal is left. Then the
 * ranks with the most and the least work exchange rows while that helps.
 */
#ifndef TB_BALANCE_H
#define TB_BALANCE_H

#include "core/base/macros.h"
#include "core/base/status.h"

/* Fills rank_of, for each of n rows. Every rank gets n / ranks rows, or one more.
 * Negative costs are TB_ERR_NEGATIVE; a sum above INT64_MAX, or no rank, TB_ERR_SIZE.
 */
TB_MUST_CHECK tb_status tb_share_rows(const int64_t *costs, ptrdiff_t n,
                                      ptrdiff_t ranks, int64_t *rank_of);

#endif
