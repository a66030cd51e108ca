#include "core/plan/pool.h"

#include "core/base/memory.h"
#include "core/base/sort.h"

#include <string.h>

enum {
    FEW_ROWS = 3,      /* in a pack, on average */
    SPARE_PART = 2048, /* of the capacity: a pack with no more room than that is full */
    FEW_PART = 256, /* the same with few rows: a second row is needed for other packs */
    PAIRS_TRIED = 8 /* oldest rows, each with the one that fits best beside it */
};

static const uint32_t NONE = UINT32_MAX;

tb_status
tb_start_pool(tb_pool *pool, int64_t capacity, int64_t max_rows, uint32_t size)
{
    int bits = tb_count_bits((uint64_t)capacity) + tb_count_bits((uint64_t)size);

    memset(pool, 0, sizeof *pool);
    pool->capacity = capacity;
    pool->max_rows = max_rows;
    pool->size = size;
    pool->oldest = pool->newest = NONE;
    pool->shift = bits > 63 ? bits - 63 : 0;
    pool->room = capacity;
    return tb_start_fits(&pool->tree, capacity);
}

tb_status
tb_reserve_pool(tb_pool *pool, uint32_t places)
{
    if (places <= pool->reserved) {
        return TB_OK;
    }
    if (TB_RESIZE(pool->held, (ptrdiff_t)places) != TB_OK ||
        TB_RESIZE(pool->fits, (ptrdiff_t)places) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    /* The chain of unused places ended at the first of the new ones. */
    for (uint32_t k = pool->reserved; k < places; k++) {
        pool->held[k].newer = k + 1;
    }
    pool->reserved = places;
    return TB_OK;
}

void
tb_free_pool(tb_pool *pool)
{
    tb_free_fits(&pool->tree);
    free(pool->held);
    free(pool->fits);
    memset(pool, 0, sizeof *pool);
}

void
tb_begin_pack(tb_pool *pool, uint64_t *rows)
{
    pool->rows = rows;
    pool->row_count = 0;
    pool->room = pool->capacity;
}

static tb_status
hold_row(tb_pool *pool, uint64_t row, int64_t size)
{
    uint32_t place = pool->unused;
    tb_held_row *held = &pool->held[place];

    pool->fits[place].room = pool->capacity - size;
    tb_status status = tb_put_fit(&pool->tree, pool->fits, place);
    if (status != TB_OK) {
        return status;
    }
    pool->unused = held->newer;
    held->row = row;
    held->newer = NONE;
    held->older = pool->newest;
    if (pool->newest == NONE) {
        pool->oldest = place;
    }
    else {
        pool->held[pool->newest].newer = place;
    }
    pool->newest = place;
    pool->count++;
    pool->total += (uint64_t)size >> pool->shift;
    return TB_OK;
}

/* Moves a held row into the pack. Of equally long ones it is the oldest. path: of its
 * room in the tree. */
static void
move_found(tb_pool *pool, int64_t room, const uint32_t *path)
{
    uint32_t place = tb_take_fit(&pool->tree, pool->fits, room, path);
    tb_held_row *held = &pool->held[place];
    int64_t size = pool->capacity - room;

    if (held->older == NONE) {
        pool->oldest = held->newer;
    }
    else {
        pool->held[held->older].newer = held->newer;
    }
    if (held->newer == NONE) {
        pool->newest = held->older;
    }
    else {
        pool->held[held->newer].older = held->older;
    }
    tb_put_row(pool, held->row, size);
    held->newer = pool->unused;
    pool->unused = place;
    pool->count--;
    pool->total -= (uint64_t)size >> pool->shift;
}

/* The same for the row at a place, which is the oldest of its length. */
static void
move_row(tb_pool *pool, uint32_t place)
{
    uint32_t path[TB_FIT_LEVELS];
    int64_t room = pool->fits[place].room;

    (void)tb_find_fit(&pool->tree, room, path);
    move_found(pool, room, path);
}

/* The room that the largest held row of at most `size` leaves of `size`, or -1. */
static int64_t
find_largest(const tb_pool *pool, int64_t size, uint32_t *path)
{
    int64_t full = pool->capacity - size;
    int64_t room = tb_find_fit(&pool->tree, full, path);

    return room < 0 ? -1 : room - full;
}

/* The same without the row at a place. */
static int64_t
find_other(const tb_pool *pool, int64_t size, uint32_t place)
{
    uint32_t path[TB_FIT_LEVELS];
    int64_t left = find_largest(pool, size, path), own = pool->fits[place].room;

    if (left >= 0 && pool->capacity - size + left == own &&
        pool->fits[place].next == place) { /* it is the only one of its length */
        int64_t room =
            own < pool->capacity ? tb_find_fit(&pool->tree, own + 1, path) : -1;
        left = room < 0 ? -1 : room - (pool->capacity - size);
    }
    return left;
}

/* Of the oldest rows, the one that leaves the least room, less than `least`, with the
 * row that fits best beside it; NONE where there is none. */
static uint32_t
find_pair(const tb_pool *pool, int64_t least)
{
    uint32_t best = NONE, place = pool->oldest;

    for (int k = 0; k < PAIRS_TRIED && place != NONE && least > pool->spare; k++) {
        int64_t beside = pool->room - (pool->capacity - pool->fits[place].room);
        int64_t left = beside < 0 ? -1 : find_other(pool, beside, place);
        if (left >= 0 && left < least) {
            best = place;
            least = left;
        }
        place = pool->held[place].newer;
    }
    return best;
}

/* Ends the pack: nothing that is held fits any more. */
static void
end_pack(tb_pool *pool)
{
    uint32_t path[TB_FIT_LEVELS];

    while (pool->row_count < pool->max_rows) {
        int64_t left = find_largest(pool, pool->room, path);
        if (left < 0) {
            break;
        }
        uint32_t one = NONE;
        if (left > pool->spare && pool->max_rows - pool->row_count > 1) {
            one = find_pair(pool, left);
        }
        if (one == NONE) {
            move_found(pool, pool->capacity - pool->room + left, path);
        }
        else {
            move_row(pool, one); /* the other one is now the largest that fits */
        }
    }
}

void
tb_continue_pack(tb_pool *pool, int is_chosen)
{
    pool->is_chosen = is_chosen;
    pool->spare = pool->capacity / (is_chosen ? FEW_PART : SPARE_PART);
}

/* The oldest row first. */
static void
start_pack(tb_pool *pool)
{
    uint64_t part = (uint64_t)(pool->capacity / FEW_ROWS) >> pool->shift;

    tb_continue_pack(pool, pool->total > part * pool->count);
    move_row(pool, pool->oldest);
}

tb_status
tb_hold_row(tb_pool *pool, uint64_t row, int64_t size, int *is_pack)
{
    tb_status status;

    *is_pack = 0;
    if (pool->count == pool->size && pool->row_count == 0) {
        start_pack(pool);
        if (tb_has_room(pool, size)) {
            tb_put_row(pool, row, size);
            *is_pack = pool->row_count == pool->max_rows;
            return TB_OK;
        }
    }
    int is_ended = pool->row_count > 0;
    status = hold_row(pool, row, size);
    if (status == TB_OK && is_ended) {
        end_pack(pool);
        *is_pack = 1;
    }
    return status;
}

int
tb_drain_pool(tb_pool *pool)
{
    if (pool->row_count == 0 && pool->count > 0) {
        start_pack(pool);
    }
    while (pool->count > 0 &&
           tb_has_room(pool, pool->capacity - pool->fits[pool->oldest].room)) {
        move_row(pool, pool->oldest);
    }
    end_pack(pool);
    return pool->row_count > 0;
}
