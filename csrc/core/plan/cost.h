/*
 * What a row and a batch cost, in tokens.
 *
 * With padding, a batch costs its number of rows times the cost of its longest row;
 * without, the sum of the costs of its rows. A row costs its width: its length, up to
 * the next boundary, rounded up to the multiple. A quadratic part may be added.
 *
 * Costs that do not fit into 64 bits are an error where one row is planned for, and
 * saturated where rows and batches are only compared.
 */
#ifndef TB_COST_H
#define TB_COST_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

/* What a row costs alone. With padding an empty row counts as one of length 1: else no
 * cap on tokens would ever end a batch. TB_ERR_SIZE where the cost is beyond int64 or
 * the length beyond the last boundary. */
TB_MUST_CHECK tb_status tb_find_row_cost(int64_t length,
                                         const tb_batch_settings *settings,
                                         int64_t *cost);

/* What each of n rows costs, clipped to max_length. Where that is more than INT64_MAX /
 * n, or an error, it is that: the sum fits. */
void tb_find_row_costs(const int64_t *lengths, ptrdiff_t n,
                       const tb_batch_settings *settings, int64_t *costs);

/* The longest row that max_tokens and the boundaries allow; -1 where none is. */
int64_t tb_find_longest_allowed(const tb_batch_settings *settings);

/* Rows rounded down to the multiple, unless they are fewer. */
static inline int64_t
tb_round_rows(int64_t rows, const tb_batch_settings *settings)
{
    int64_t multiple = settings->rows_multiple;

    return multiple > 1 && rows >= multiple ? rows - rows % multiple : rows;
}

/* How many rows of this length share a batch with padding. */
int64_t tb_fit_rows(int64_t length, const tb_batch_settings *settings);

/* The cost of batch number `batch` in the order of cutting; UINT64_MAX where it does
 * not fit. */
uint64_t tb_find_batch_cost(const tb_batch_plan *plan,
                            const tb_batch_settings *settings, ptrdiff_t batch);

#endif
