/*
 * Packs from a stream of rows under several limits, that are as random as its order.
 *
 * As pool.h: a pool holds rows back, each pack begins with the oldest of them, and the
 * rows that follow in the stream join it until one would leave less room, by any limit,
 * than a held row needs on average. That row is held too, and rows of the pool end the
 * pack: the one with the largest costs that fits, again and again, where costs are
 * weighed by how scarce each limit is. Held rows are sorted by these, so that the first
 * one that fits is the one.
 */
#ifndef TB_LIMIT_POOL_H
#define TB_LIMIT_POOL_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/limits.h"

/* A row that is held back. */
typedef struct {
    uint64_t item;
    int64_t weighed;
    uint64_t arrival;
    uint32_t newer; /* in the order of arrival; of unused places: the next of them */
    uint32_t older;
} tb_limit_row;

typedef struct {
    const tb_limits *limits;
    uint64_t mask; /* of the row in an item */
    uint32_t size; /* rows that are held back */
    uint32_t count;
    uint32_t oldest; /* UINT32_MAX: no row */
    uint32_t newest;
    uint32_t unused;
    uint32_t reserved; /* places that there is memory for */
    uint64_t arrivals;
    tb_limit_row *held;
    /* By falling weighed costs, of equal ones the oldest first: the place of each held
     * row, and its costs in lanes (lanes.h), by limit. */
    uint32_t *places;
    uint16_t *lanes[TB_MOST_LIMITS];
    int shifts[TB_MOST_LIMITS];
    int is_exact; /* lanes keep all bits */
    double weights[TB_MOST_LIMITS];
    uint64_t totals[TB_MOST_LIMITS]; /* of the held rows, without their last bits, so */
    int cut[TB_MOST_LIMITS];         /* many, that sums fit and depend on no order */
    tb_load load;                    /* of the pack that is being made */
    uint64_t *items;                 /* its rows: the caller's */
} tb_limit_pool;

/* An empty pool of `size` rows; 1 <= size < UINT32_MAX. It has memory for none yet.
 * mask: of the row in an item. The limits have no second widths. The caller's to free, also after an error. */
TB_MUST_CHECK tb_status tb_start_limit_pool(tb_limit_pool *pool,
                                            const tb_limits *limits, uint64_t mask,
                                            uint32_t size);

/* Memory for so many held rows, at most the size. Never are more held. */
TB_MUST_CHECK tb_status tb_reserve_limit_pool(tb_limit_pool *pool, uint32_t places);

void tb_free_limit_pool(tb_limit_pool *pool);

/* Adds an item. Whether pool->items is a pack now, of pool->load.rows rows:
 * tb_begin_limit_pack must follow then. */
int tb_add_limit_row(tb_limit_pool *pool, uint64_t item);

/* Of a stream that is continued: holds an item, or puts it into the pack. */
void tb_hold_limit_row(tb_limit_pool *pool, uint64_t item);
void tb_put_limit_row(tb_limit_pool *pool, uint64_t item);

/* Makes a pack of the held rows, at the end of the stream; whether there were any. */
int tb_drain_limit_pool(tb_limit_pool *pool);

/* The next pack is written to `items`. */
void tb_begin_limit_pack(tb_limit_pool *pool, uint64_t *items);

#endif
