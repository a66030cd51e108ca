/*
 * Packs from a stream of rows under several limits, that are as random as its order.
 *
 * As pool.h: a pool holds rows back, each pack begins with the oldest of them, and the
 * rows that follow in the stream join it until one would leave less room, by any limit,
 * than a held row needs on average. That row is held too, and rows of the pool end the
 * pack: the one with the largest costs that fits, again and again, where costs are
 * weighed by how scarce each limit is. To find it all held rows are looked at.
 */
#ifndef TB_LIMIT_POOL_H
#define TB_LIMIT_POOL_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/limits.h"

/* Held rows lie in the order of arrival. */
typedef struct {
    const tb_limits *limits;
    uint64_t mask;  /* of the row in an item */
    ptrdiff_t size; /* rows that are held back */
    ptrdiff_t count;
    uint64_t *held;                  /* items */
    int64_t *costs[TB_MOST_LIMITS];  /* of each held row, by limit */
    int64_t *weighed;                /* the costs together */
    double weights[TB_MOST_LIMITS];
    double totals[TB_MOST_LIMITS]; /* of the held rows */
    tb_load load;                  /* of the pack that is being made */
    uint64_t *items;               /* its rows: the caller's */
} tb_limit_pool;

/* An empty pool of `size` rows, at least 1. The limits have no second widths. The
 * caller's to free, also after an error. */
TB_MUST_CHECK tb_status tb_start_limit_pool(tb_limit_pool *pool,
                                            const tb_batch_plan *plan, ptrdiff_t size);

void tb_free_limit_pool(tb_limit_pool *pool);

/* Adds an item. Whether pool->items is a pack now, of pool->load.rows rows:
 * tb_begin_limit_pack must follow then. */
int tb_add_limit_row(tb_limit_pool *pool, uint64_t item);

/* Makes a pack of the held rows, at the end of the stream; whether there were any. */
int tb_drain_limit_pool(tb_limit_pool *pool);

/* The next pack is written to `items`. */
void tb_begin_limit_pack(tb_limit_pool *pool, uint64_t *items);

#endif
