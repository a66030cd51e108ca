/*
 * Packs from a stream of rows, that are as random as its order and nearly full.
 *
 * A pool holds some rows back. The rows that follow go into a pack one after another,
 * until one would leave less room than a held row needs on average. That row is held
 * too, and rows of the pool end the pack: the one that fills it, or else the two that
 * leave the least room (one of the oldest, and the one that fits best beside it), and
 * then the largest that fits, while there is one. Each pack begins with the oldest row
 * of the pool, so that no row is held for more packs than the pool has rows.
 *
 * So only the last rows of a pack are chosen by length. If packs hold less than three
 * rows on average, all but the first are: there, long rows need the short ones. Nothing has to be known of the
 * rows that are still to come, and memory is for the pool alone.
 */
#ifndef TB_POOL_H
#define TB_POOL_H

#include "core/base/macros.h"
#include "core/plan/fit_tree.h"

#include <stddef.h>

/* A row that is held back. */
typedef struct {
    uint64_t row;
    uint32_t newer; /* in the order of arrival; of unused places: the next of them */
    uint32_t older;
} tb_held_row;

typedef struct {
    int64_t capacity; /* of a pack */
    int64_t max_rows; /* in a pack; INT64_MAX: any number */
    uint32_t size;    /* rows that are held back */
    uint32_t count;
    uint32_t oldest; /* UINT32_MAX: no row */
    uint32_t newest;
    uint32_t unused;
    uint32_t reserved; /* places that there is memory for */
    tb_held_row *held;
    tb_pack *fits; /* of each held row, the room of a pack that it would fill */
    tb_fit_tree tree;
    int is_chosen; /* packs hold few rows: all but the first are chosen by length */
    int64_t spare; /* so little room need not be filled */
    int shift; /* sums of sizes are kept without their last bits, so that they fit */
    uint64_t total;
    /* The pack that is being made. Its rows are written where `rows` points; the caller
     * sees to it that there is room for as many as were added. */
    uint64_t *rows;
    int64_t row_count;
    int64_t room;
} tb_pool;

/* An empty pool of `size` rows; 1 <= size < UINT32_MAX, capacity >= 0, max_rows >= 1. It
 * has memory for none yet. The pool is the caller's to free, also after an error. */
TB_MUST_CHECK tb_status tb_start_pool(tb_pool *pool, int64_t capacity, int64_t max_rows,
                                      uint32_t size);

/* Memory for so many held rows, at most the size. Never are more held. */
TB_MUST_CHECK tb_status tb_reserve_pool(tb_pool *pool, uint32_t places);

/* Whether the pack may take a row and still have as much room as a held row needs on
 * average: room - size >= total / count. */
static inline int
tb_has_room(const tb_pool *pool, int64_t size)
{
    uint64_t left = (uint64_t)(pool->room - size) >> pool->shift;

    return size <= pool->room && !pool->is_chosen &&
           left * pool->count >= pool->total && pool->row_count < pool->max_rows;
}

static inline void
tb_put_row(tb_pool *pool, uint64_t row, int64_t size)
{
    pool->rows[pool->row_count++] = row;
    pool->room -= size;
}

/* Adds a row that does not just follow those of the pack. */
TB_MUST_CHECK tb_status tb_hold_row(tb_pool *pool, uint64_t row, int64_t size,
                                    int *is_pack);

/* Adds a row, whose size is from 0 to the capacity. *is_pack: whether pool->rows is a
 * pack now, of pool->row_count rows. tb_begin_pack must follow then. */
TB_MUST_CHECK static inline tb_status
tb_add_row(tb_pool *pool, uint64_t row, int64_t size, int *is_pack)
{
    if (pool->row_count > 0 && tb_has_room(pool, size)) {
        tb_put_row(pool, row, size);
        *is_pack = pool->row_count == pool->max_rows;
        return TB_OK;
    }
    return tb_hold_row(pool, row, size, is_pack);
}

/* Makes a pack of the rows that are held, at the end of the stream, and says whether
 * there were any. The last pack may have room for more rows. tb_begin_pack must follow.
 */
int tb_drain_pool(tb_pool *pool);

/* The next pack is written to `rows`. */
void tb_begin_pack(tb_pool *pool, uint64_t *rows);

/* Goes on with a pack whose rows were put into it by tb_put_row, as it was begun before. */
void tb_continue_pack(tb_pool *pool, int is_chosen);

void tb_free_pool(tb_pool *pool);

#endif
