#include "core/plan/limit_pool.h"

#include "core/base/memory.h"
#include "core/plan/lanes.h"

#include <string.h>

enum {
    FEW_ROWS = 3,    /* in a pack, on average: then all but the first are chosen */
    WEIGHT_BITS = 48 /* a whole cap of the scarcest limit weighs 2**48 */
};

static const uint32_t NONE = UINT32_MAX;

tb_status
tb_start_limit_pool(tb_limit_pool *pool, const tb_limits *limits, uint64_t mask,
                    uint32_t size)
{
    memset(pool, 0, sizeof *pool);
    pool->limits = limits;
    pool->mask = mask;
    pool->size = size;
    pool->is_exact = 1;
    pool->oldest = pool->newest = NONE;
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        double cap = limits->all[k].cap > 0 ? (double)limits->all[k].cap : 1;
        double most = limits->parts[limits->scarcest];
        int bits = tb_count_bits((uint64_t)limits->all[k].cap) + tb_count_bits(size);
        pool->cut[k] = bits > 63 ? bits - 63 : 0;
        pool->shifts[k] = tb_find_lane_shift(limits->all[k].cap);
        pool->is_exact = pool->is_exact && pool->shifts[k] == 0;
        pool->weights[k] = most > 0 ? limits->parts[k] / most / cap : 0;
    }
    return TB_OK;
}

tb_status
tb_reserve_limit_pool(tb_limit_pool *pool, uint32_t places)
{
    /* Words of lanes are read whole, beyond the last row too. */
    size_t lanes = (size_t)places + TB_LANES;
    size_t before = pool->reserved > 0 ? (size_t)pool->reserved + TB_LANES : 0;

    if (places <= pool->reserved) {
        return TB_OK;
    }
    if (TB_RESIZE(pool->held, (ptrdiff_t)places) != TB_OK ||
        TB_RESIZE(pool->places, (ptrdiff_t)places) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < pool->limits->count; k++) {
        if (TB_RESIZE(pool->lanes[k], (ptrdiff_t)lanes) != TB_OK) {
            return TB_ERR_MEMORY;
        }
        memset(pool->lanes[k] + before, 0, (lanes - before) * sizeof *pool->lanes[k]);
    }
    /* The chain of unused places ended at the first of the new ones. */
    for (uint32_t i = pool->reserved; i < places; i++) {
        pool->held[i].newer = i + 1;
    }
    pool->reserved = places;
    return TB_OK;
}

void
tb_free_limit_pool(tb_limit_pool *pool)
{
    for (ptrdiff_t k = 0; k < TB_MOST_LIMITS; k++) {
        free(pool->lanes[k]);
    }
    free(pool->held);
    free(pool->places);
    memset(pool, 0, sizeof *pool);
}

void
tb_begin_limit_pack(tb_limit_pool *pool, uint64_t *items)
{
    pool->items = items;
    tb_empty_load(pool->limits, &pool->load);
}

void
tb_put_limit_row(tb_limit_pool *pool, uint64_t item)
{
    pool->items[pool->load.rows] = item;
    tb_add_load(pool->limits, &pool->load, (ptrdiff_t)(item & pool->mask));
}

/* What costs weigh: whole numbers are added, so that the sum is the same on every
 * machine. */
static int64_t
weigh_cost(const tb_limit_pool *pool, ptrdiff_t limit, int64_t cost)
{
    return (int64_t)(pool->weights[limit] * (double)cost *
                     (double)((int64_t)1 << WEIGHT_BITS));
}

/* Where a row belongs among the sorted ones, or is. */
static uint32_t
find_rank(const tb_limit_pool *pool, const tb_limit_row *row)
{
    uint32_t low = 0, high = pool->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const tb_limit_row *other = &pool->held[pool->places[middle]];
        if (other->weighed > row->weighed ||
            (other->weighed == row->weighed && other->arrival < row->arrival)) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

void
tb_hold_limit_row(tb_limit_pool *pool, uint64_t item)
{
    ptrdiff_t row = (ptrdiff_t)(item & pool->mask);
    uint32_t place = pool->unused;
    tb_limit_row *held = &pool->held[place];

    pool->unused = held->newer;
    *held = (tb_limit_row){item, 0, pool->arrivals++, NONE, pool->newest};
    *(pool->newest == NONE ? &pool->oldest : &pool->held[pool->newest].newer) = place;
    pool->newest = place;
    for (ptrdiff_t k = 0; k < pool->limits->count; k++) {
        int64_t cost = pool->limits->all[k].costs[row];
        pool->totals[k] += (uint64_t)cost >> pool->cut[k];
        held->weighed += weigh_cost(pool, k, cost);
    }
    uint32_t rank = find_rank(pool, held);
    size_t after = (size_t)(pool->count++ - rank);
    memmove(pool->places + rank + 1, pool->places + rank, after * sizeof *pool->places);
    pool->places[rank] = place;
    for (ptrdiff_t k = 0; k < pool->limits->count; k++) {
        uint16_t *lanes = pool->lanes[k] + rank;
        memmove(lanes + 1, lanes, after * sizeof *lanes);
        *lanes = tb_make_lane(pool->limits->all[k].costs[row], pool->shifts[k]);
    }
}

/* Moves a held row into the pack. */
static void
move_row(tb_limit_pool *pool, uint32_t rank)
{
    uint32_t place = pool->places[rank];
    tb_limit_row *held = &pool->held[place];
    ptrdiff_t row = (ptrdiff_t)(held->item & pool->mask);
    size_t after = (size_t)(--pool->count - rank);

    *(held->older == NONE ? &pool->oldest : &pool->held[held->older].newer) =
        held->newer;
    *(held->newer == NONE ? &pool->newest : &pool->held[held->newer].older) =
        held->older;
    memmove(pool->places + rank, pool->places + rank + 1, after * sizeof *pool->places);
    for (ptrdiff_t k = 0; k < pool->limits->count; k++) {
        uint16_t *lanes = pool->lanes[k] + rank;
        memmove(lanes, lanes + 1, after * sizeof *lanes);
        int64_t cost = pool->limits->all[k].costs[row];
        pool->totals[k] -= (uint64_t)cost >> pool->cut[k];
    }
    tb_put_limit_row(pool, held->item);
    held->newer = pool->unused;
    pool->unused = place;
}

static void
move_oldest(tb_limit_pool *pool)
{
    move_row(pool, find_rank(pool, &pool->held[pool->oldest]));
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
        double unit = (double)((uint64_t)1 << pool->cut[k]);
        double total = (double)pool->totals[k] * unit;
        int has_few =
            total > (double)limit->cap / (double)FEW_ROWS * (double)pool->count;
        if (!limit->is_padded && (has_few || room * (double)pool->count < total)) {
            return 0;
        }
    }
    return 1;
}

/* The first of TB_LANES ranks from `rank` on where a held row fits by its lanes, and which
 * of these ranks do, a bit of each lane; no rank is at the number of rows or beyond. */
static uint32_t
find_candidates(const tb_limit_pool *pool, const uint64_t *rooms, uint32_t rank,
                uint64_t *fitting)
{
    for (; rank < pool->count; rank += TB_LANES) {
        uint64_t tops = TB_LANE_TOPS;
        for (ptrdiff_t k = 0; k < pool->limits->count; k++) {
            uint64_t costs;
            memcpy(&costs, pool->lanes[k] + rank, sizeof costs);
            tops &= tb_compare_lanes(rooms[k], costs);
        }
        if (pool->count - rank < TB_LANES) {
            tops &= ((uint64_t)1 << (pool->count - rank) * TB_LANE_BITS) - 1;
        }
        if (tops != 0) {
            *fitting = tops;
            return rank;
        }
    }
    return pool->count;
}

/* The rank of the held row with the largest weighed costs of those that fit; NONE where
 * none does. */
static uint32_t
find_largest(const tb_limit_pool *pool)
{
    const tb_limits *limits = pool->limits;
    uint64_t rooms[TB_MOST_LIMITS];
    tb_limit_row largest = {0}; /* that might fit */

    for (ptrdiff_t k = 0; k < limits->count; k++) {
        int64_t room =
            tb_find_room(&limits->all[k], pool->load.costs[k], pool->load.rows);
        if (room < 0) {
            return NONE;
        }
        rooms[k] = tb_fill_lanes(tb_make_lane(room, pool->shifts[k]));
        largest.weighed += weigh_cost(pool, k, room);
    }
    uint32_t rank = find_rank(pool, &largest);
    while (pool->load.rows < limits->max_rows) {
        uint64_t fitting = 0;
        rank = find_candidates(pool, rooms, rank, &fitting);
        for (; fitting != 0; fitting &= fitting - 1) {
            uint32_t found =
                rank + (uint32_t)(tb_find_lowest_bit(fitting) / TB_LANE_BITS);
            uint64_t item = pool->held[pool->places[found]].item;
            if (pool->is_exact ||
                tb_fits_load(limits, &pool->load, (ptrdiff_t)(item & pool->mask))) {
                return found;
            }
        }
        if (rank >= pool->count) {
            break;
        }
        rank += TB_LANES;
    }
    return NONE;
}

static void
end_pack(tb_limit_pool *pool)
{
    for (uint32_t i = find_largest(pool); i != NONE; i = find_largest(pool)) {
        move_row(pool, i);
    }
}

int
tb_add_limit_row(tb_limit_pool *pool, uint64_t item)
{
    ptrdiff_t row = (ptrdiff_t)(item & pool->mask);

    if (pool->load.rows == 0 && pool->count == pool->size) {
        move_oldest(pool);
    }
    if (pool->load.rows == 0) {
        tb_hold_limit_row(pool, item);
        return 0;
    }
    if (has_room(pool, row)) {
        tb_put_limit_row(pool, item);
        return pool->load.rows == pool->limits->max_rows;
    }
    tb_hold_limit_row(pool, item);
    end_pack(pool);
    return 1;
}

int
tb_drain_limit_pool(tb_limit_pool *pool)
{
    if (pool->load.rows == 0 && pool->count > 0) {
        move_oldest(pool);
    }
    while (pool->count > 0 &&
           has_room(pool, (ptrdiff_t)(pool->held[pool->oldest].item & pool->mask))) {
        move_oldest(pool);
    }
    end_pack(pool);
    return pool->load.rows > 0;
}
