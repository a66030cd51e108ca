/*
 * Deals the rows of one step to ranks, so that all ranks have about as much work: by
 * largest differencing in equal numbers, then by exchanges.
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
