/*
 * Several hard caps on a batch: each row has a cost for each of them, and a batch costs
 * the sum, or, where it is padded, its rows times the largest.
 *
 * Either way, whether one more row may join comes down to one number for each limit, the
 * room: a row joins if its costs are at most the rooms. Rooms never grow. (Only where two
 * widths are padded side by side it takes both.)
 */
#ifndef TB_LIMITS_H
#define TB_LIMITS_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

/* Whether a plan goes by more than lengths and tokens. */
static inline int
tb_is_limited(const tb_batch_settings *settings)
{
    return settings->limit_count > 0 || settings->keys != NULL;
}

/* The limits of a plan, with what tokens cost. The caller's to free, also after an
 * error. Lengths are those of tb_summarize_lengths, which has allowed them. */
TB_MUST_CHECK tb_status tb_start_limits(const int64_t *lengths, ptrdiff_t n,
                                        const tb_batch_settings *settings,
                                        tb_limits *limits);

void tb_free_limits(tb_limits *limits);

/* The first limit that a row alone breaks, or -1. */
ptrdiff_t tb_find_broken(const tb_limit *limits, ptrdiff_t count, ptrdiff_t row);

/* Finds the scarcest limit, from plan->items. */
void tb_weigh_limits(tb_batch_plan *plan);

/* What the rows of a batch cost so far. */
typedef struct {
    int64_t rows;
    int64_t costs[TB_MOST_LIMITS];  /* the sum, or the largest */
    int64_t others[TB_MOST_LIMITS]; /* the largest of the second widths */
} tb_load;

void tb_empty_load(const tb_limits *limits, tb_load *load);

/* Whether a row may join, by every limit and the number of rows. */
int tb_fits_load(const tb_limits *limits, const tb_load *load, ptrdiff_t row);

void tb_add_load(const tb_limits *limits, tb_load *load, ptrdiff_t row);

/* What one more row may cost at most of a limit without second widths, beside `rows`
 * rows of this cost; -1 where no row may join. */
static inline int64_t
tb_find_room(const tb_limit *limit, int64_t cost, int64_t rows)
{
    if (!limit->is_padded) {
        return limit->cap - cost;
    }
    int64_t most = rows < INT64_MAX ? limit->cap / (rows + 1) : 0;
    return cost <= most ? most : -1;
}

#endif
