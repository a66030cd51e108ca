#include "core/plan/limit_pool.h"

#include "core/base/memory.h"

#include <string.h>

enum {
    FEW_ROWS = 3,    /* in a pack, on average: then all but the first are chosen */
    WEIGHT_BITS = 48 /* a whole cap of the scarcest limit weighs 2**48 */
};

tb_status
tb_start_limit_pool(tb_limit_pool *pool, const tb_batch_plan *plan, ptrdiff_t size)
{
    const tb_limits *limits = &plan->limits;

    memset(pool, 0, sizeof *pool);
    pool->limits = limits;
    pool->mask = ((uint64_t)1 << plan->index_bits) - 1;
    pool->size = size;
    pool->held = (uint64_t *)tb_allocate_array(size, sizeof *pool->held);
    pool->weighed = (int64_t *)tb_allocate_array(size, sizeof *pool->weighed);
    if (pool->held == NULL || pool->weighed == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        pool->costs[k] = (int64_t *)tb_allocate_array(size, sizeof *pool->costs[k]);
        if (pool->costs[k] == NULL) {
            return TB_ERR_MEMORY;
        }
        double cap = limits->all[k].cap > 0 ? (double)limits->all[k].cap : 1;
        double most = limits->parts[limits->scarcest];
        pool->weights[k] = most > 0 ? limits->parts[k] / most / cap : 0;
    }
    return TB_OK;
}

void
tb_free_limit_pool(tb_limit_pool *pool)
{
    for (ptrdiff_t k = 0; k < TB_MOST_LIMITS; k++) {
        free(pool->costs[k]);
    }
    free(pool->held);
    free(pool->weighed);
    memset(pool, 0, sizeof *pool);
}

void
tb_begin_limit_pack(tb_limit_pool *pool, uint64_t *items)
{
    pool->items = items;
    tb_empty_load(pool->limits, &pool->load);
}

static void
put_row(tb_limit_pool *pool, uint64_t item)
{
    pool->items[pool->load.rows] = item;
    tb_add_load(pool->limits, &pool->load, (ptrdiff_t)(item & pool->mask));
}

static void
hold_row(tb_limit_pool *pool, uint64_t item)
{
    ptrdiff_t row = (ptrdiff_t)(item & pool->mask), place = pool->count++;

    pool->held[place] = item;
    pool->weighed[place] = 0;
    for (ptrdiff_t k = 0; k < pool->limits->count; k++) {
        int64_t cost = pool->limits->all[k].costs[row];
        pool->costs[k][place] = cost;
        pool->totals[k] += (double)cost;
        /* Whole numbers are added: the sum is the same on every machine. */
        pool->weighed[place] += (int64_t)(pool->weights[k] * (double)cost *
                                          (double)((int64_t)1 << WEIGHT_BITS));
    }
}

/* Moves a held row into the pack; those that came later move up. */
static void
move_row(tb_limit_pool *pool, ptrdiff_t place)
{
    size_t later = (size_t)(--pool->count - place);
    uint64_t item = pool->held[place];

    memmove(pool->held + place, pool->held + place + 1, later * sizeof *pool->held);
    memmove(pool->weighed + place, pool->weighed + place + 1,
            later * sizeof *pool->weighed);
    for (ptrdiff_t k = 0; k < pool->limits->count; k++) {
        int64_t *costs = pool->costs[k] + place;
        pool->totals[k] -= (double)*costs;
        memmove(costs, costs + 1, later * sizeof *costs);
    }
    put_row(pool, item);
}

/* Whether the pack may take a row of the stream and still have as much room by every
 * limit that is summed as a held row needs on average. */
static int
has_room(const tb_limit_pool *pool, ptrdiff_t row)
{
    const tb_limits *limits = pool->limits;

    if (!tb_fits_load(limits, &pool->load, row)) {
        return 0;
    }
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        const tb_limit *limit = &limits->all[k];
        double room = (double)(limit->cap - pool->load.costs[k] - limit->costs[row]);
        int has_few = pool->totals[k] > (double)limit->cap / FEW_ROWS * (double)pool->count;
        if (!limit->is_padded &&
            (has_few || room * (double)pool->count < pool->totals[k])) {
            return 0;
        }
    }
    return 1;
}

/* The held row with the largest weighed costs of those that fit, the oldest of equal
 * ones; -1 where none does. */
static ptrdiff_t
find_largest(const tb_limit_pool *pool)
{
    const tb_limits *limits = pool->limits;
    int64_t rooms[TB_MOST_LIMITS];
    ptrdiff_t best = -1;
    int64_t most = -1;

    if (pool->load.rows >= limits->max_rows) {
        return -1;
    }
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        rooms[k] = tb_find_room(&limits->all[k], pool->load.costs[k], pool->load.rows);
    }
    for (ptrdiff_t i = 0; i < pool->count; i++) {
        int fits = pool->weighed[i] > most;
        for (ptrdiff_t k = 0; k < limits->count; k++) {
            fits &= pool->costs[k][i] <= rooms[k];
        }
        if (fits) {
            best = i;
            most = pool->weighed[i];
        }
    }
    return best;
}

static void
end_pack(tb_limit_pool *pool)
{
    for (ptrdiff_t i = find_largest(pool); i >= 0; i = find_largest(pool)) {
        move_row(pool, i);
    }
}

int
tb_add_limit_row(tb_limit_pool *pool, uint64_t item)
{
    ptrdiff_t row = (ptrdiff_t)(item & pool->mask);

    if (pool->load.rows == 0 && pool->count == pool->size) {
        move_row(pool, 0);
    }
    if (pool->load.rows == 0) {
        hold_row(pool, item);
        return 0;
    }
    if (has_room(pool, row)) {
        put_row(pool, item);
        return pool->load.rows == pool->limits->max_rows;
    }
    hold_row(pool, item);
    end_pack(pool);
    return 1;
}

int
tb_drain_limit_pool(tb_limit_pool *pool)
{
    if (pool->load.rows == 0 && pool->count > 0) {
        move_row(pool, 0);
    }
    while (pool->count > 0 &&
           has_room(pool, (ptrdiff_t)(pool->held[0] & pool->mask))) {
        move_row(pool, 0);
    }
    end_pack(pool);
    return pool->load.rows > 0;
}
