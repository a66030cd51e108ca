#include "core/plan/cut.h"

#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/base/sort.h"
#include "core/plan/cost.h"
#include "core/plan/packing.h"
#include "core/plan/pool.h"

#include <string.h>

/* Rows that may have to be sorted together: a window and what was left of the one
 * before, or twice what was left where that is more (see take_window). */
static ptrdiff_t
bound_pool(ptrdiff_t n, int64_t window, int64_t left)
{
    int64_t taken = window > left ? window : left;

    return taken >= n || left >= n - taken ? n : (ptrdiff_t)(taken + left);
}

/* The rows that are sorted together: from `cut` on they are left of the last window, up
 * to `sorted` they are sorted. */
typedef struct {
    ptrdiff_t cut;
    ptrdiff_t sorted;
    tb_sort_layout layout;
    uint64_t *scratch;
    tb_packer packer;
    uint32_t *pack_of;
} sorted_rows;

/* Step 2. The rows that are left of a window lie right before the next one, so both are
 * sorted in place. The next window has at least as many rows as were left. So even
 * where a batch needs many windows, no row is sorted more than a few times. */
static void
take_window(const tb_batch_plan *plan, int64_t window, sorted_rows *pool)
{
    ptrdiff_t left = pool->sorted - pool->cut, rest = plan->row_count - pool->sorted;
    int64_t taken = window > left ? window : left;

    pool->sorted += taken < rest ? (ptrdiff_t)taken : rest;
    tb_sort_items(plan->items + pool->cut, pool->sorted - pool->cut, pool->layout,
                  pool->scratch);
}

/* Room in plan->starts for `more` batches, and the end of the last. */
static tb_status
reserve_starts(tb_batch_plan *plan, ptrdiff_t *reserved, ptrdiff_t more)
{
    ptrdiff_t needed = plan->batch_count + more + 1;

    if (needed > *reserved) {
        ptrdiff_t count = needed + plan->batch_count / 2;
        if (TB_RESIZE(plan->starts, count) != TB_OK) {
            return TB_ERR_MEMORY;
        }
        *reserved = count;
    }
    return TB_OK;
}

/* Steps 2 to 4, with padding. *full: how many of the batches are full. */
static tb_status
cut_batches(tb_batch_plan *plan, const tb_batch_settings *settings, sorted_rows *pool,
            ptrdiff_t *full)
{
    ptrdiff_t least =
        (ptrdiff_t)tb_min(tb_fit_rows(plan->longest, settings), plan->row_count);
    ptrdiff_t reserved = 0;

    if (reserve_starts(plan, &reserved, plan->row_count / least + 1) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    plan->starts[0] = 0;
    while (pool->sorted < plan->row_count) {
        take_window(plan, settings->window, pool);
        while (pool->cut < pool->sorted) {
            int64_t rows = tb_fit_rows(tb_item_length(plan, pool->cut), settings);
            if (rows > pool->sorted - pool->cut) {
                break;
            }
            pool->cut += (ptrdiff_t)rows;
            plan->starts[++plan->batch_count] = pool->cut;
        }
    }
    *full = plan->batch_count;
    if (pool->cut < pool->sorted && settings->drop_last) {
        plan->row_count = pool->cut;
    }
    else if (pool->cut < pool->sorted) {
        plan->starts[++plan->batch_count] = pool->sorted;
    }
    return TB_OK;
}

/* Step 3, without padding: runs of rows of one length are packed together. */
static tb_status
pack_pool(const tb_batch_plan *plan, const tb_batch_settings *settings,
          sorted_rows *pool)
{
    tb_status status = TB_OK;
    ptrdiff_t i = pool->cut;

    tb_restart_packs(&pool->packer);
    while (i < pool->sorted && status == TB_OK) {
        int64_t length = tb_item_length(plan, i), cost = 0;
        ptrdiff_t begin = i;
        while (i < pool->sorted && tb_item_length(plan, i) == length) {
            i++;
        }
        status = tb_find_row_cost(length, settings, &cost);
        if (status == TB_OK) {
            status = tb_pack_rows(&pool->packer, cost, i - begin,
                                  pool->pack_of + (begin - pool->cut));
        }
    }
    return status;
}

/* The last begun of the packs with the most room. */
static uint32_t
find_emptiest(const tb_packer *packer)
{
    uint32_t emptiest = 0;

    for (uint32_t k = 1; k < packer->count; k++) {
        if (packer->packs[k].room >= packer->packs[emptiest].room) {
            emptiest = k;
        }
    }
    return emptiest;
}

/* Moves the rows of each pack together, the emptiest pack last, and notes where packs
 * begin. Rows of one pack keep their order. */
static void
gather_packs(tb_batch_plan *plan, sorted_rows *pool, uint32_t emptiest)
{
    ptrdiff_t n = pool->sorted - pool->cut, place = pool->cut;
    uint64_t *items = plan->items + pool->cut;
    tb_pack *packs = pool->packer.packs;
    ptrdiff_t *starts = plan->starts + plan->batch_count;

    /* Until the items are in place, starts[j] is where the next one of pack j goes. */
    for (uint32_t k = 0, j = 0; k < pool->packer.count; k++) {
        if (k != emptiest) {
            packs[k].next = j;
            starts[j++] = place;
            place += packs[k].rows;
        }
    }
    packs[emptiest].next = pool->packer.count - 1;
    starts[pool->packer.count - 1] = place;
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t *at = &starts[packs[pool->pack_of[i]].next];
        pool->scratch[(*at)++ - pool->cut] = items[i];
    }
    memcpy(items, pool->scratch, (size_t)n * sizeof *items);
    for (uint32_t j = pool->packer.count; j > 0; j--) {
        starts[j] = starts[j - 1];
    }
    starts[0] = pool->cut;
}

/* Steps 2 to 4, without padding and with a cap on tokens. */
static tb_status
pack_batches(tb_batch_plan *plan, const tb_batch_settings *settings, sorted_rows *pool,
             ptrdiff_t *full)
{
    ptrdiff_t reserved = 0;
    tb_status status =
        plan->row_count > UINT32_MAX
            ? TB_ERR_SIZE
            : tb_start_packs(&pool->packer, settings->max_tokens, settings->batch_size);

    while (pool->sorted < plan->row_count && status == TB_OK) {
        take_window(plan, settings->window, pool);
        status = pack_pool(plan, settings, pool);
        if (status == TB_OK) {
            status = reserve_starts(plan, &reserved, pool->packer.count);
        }
        if (status == TB_OK) {
            uint32_t emptiest = find_emptiest(&pool->packer);
            int is_full = pool->packer.packs[emptiest].room == 0;
            gather_packs(plan, pool, emptiest);
            plan->batch_count += pool->packer.count - !is_full;
            pool->cut = plan->starts[plan->batch_count];
        }
    }
    *full = plan->batch_count;
    if (status == TB_OK && pool->cut < pool->sorted) {
        if (settings->drop_last) {
            plan->row_count = pool->cut;
        }
        else {
            plan->batch_count++;
        }
    }
    return status;
}

/* Notes the pack that the pool has made, and how many of them are full if it is the last
 * one. */
static tb_status
take_pack(tb_batch_plan *plan, tb_pool *pool, ptrdiff_t *reserved, ptrdiff_t *full)
{
    tb_status status = reserve_starts(plan, reserved, 1);

    if (status == TB_OK) {
        ptrdiff_t end = plan->starts[plan->batch_count] + (ptrdiff_t)pool->row_count;
        int is_full = pool->room == 0 || pool->row_count == pool->max_rows;
        *full = plan->batch_count + is_full;
        plan->starts[++plan->batch_count] = end;
        tb_begin_pack(pool, plan->items + end);
    }
    return status;
}

/* Steps 2 to 4, without padding, with a cap on tokens and a pool. A pack lies where its
 * rows were before, or rows that were read before them. */
static tb_status
draw_batches(tb_batch_plan *plan, const tb_batch_settings *settings, tb_pool *pool,
             ptrdiff_t *full)
{
    ptrdiff_t reserved = 0;
    int is_plain = settings->multiple == 1 && settings->quadratic == 0;
    tb_status status = reserve_starts(plan, &reserved, 1);

    if (status != TB_OK) {
        return status;
    }
    plan->starts[0] = 0;
    tb_begin_pack(pool, plan->items);
    for (ptrdiff_t i = 0; i < plan->row_count && status == TB_OK; i++) {
        int64_t cost = tb_item_length(plan, i);
        int is_pack = 0;
        if (!is_plain) {
            status = tb_find_row_cost(cost, settings, &cost);
        }
        if (status == TB_OK) {
            status = tb_add_row(pool, plan->items[i], cost, &is_pack);
        }
        if (is_pack && status == TB_OK) {
            status = take_pack(plan, pool, &reserved, full);
        }
    }
    while (status == TB_OK && tb_drain_pool(pool)) {
        status = take_pack(plan, pool, &reserved, full);
    }
    if (settings->drop_last) {
        plan->batch_count = *full;
        plan->row_count = plan->starts[*full];
    }
    return status;
}

static tb_status
draw_from_pool(tb_batch_plan *plan, const tb_batch_settings *settings, ptrdiff_t *full)
{
    tb_pool pool;
    uint32_t size =
        (uint32_t)tb_min(tb_min(settings->pool, plan->row_count), UINT32_MAX - 1);
    tb_status status =
        tb_start_pool(&pool, settings->max_tokens, settings->batch_size, size);

    if (status == TB_OK) {
        status = tb_reserve_pool(&pool, size);
    }
    if (status == TB_OK) {
        status = draw_batches(plan, settings, &pool, full);
    }
    tb_free_pool(&pool);
    return status;
}

tb_status
tb_cut_batches(tb_batch_plan *plan, const tb_batch_settings *settings,
               const tb_length_summary *summary, ptrdiff_t *full)
{
    ptrdiff_t n = plan->row_count, most = 0;
    int is_packed = settings->padding_free && settings->max_tokens != INT64_MAX;
    int64_t window = tb_min(settings->window, n);
    uint64_t range = (uint64_t)(summary->longest - summary->shortest);
    tb_status status = TB_ERR_MEMORY;
    sorted_rows pool = {0};

    if (is_packed && settings->pool > 0) {
        return draw_from_pool(plan, settings, full);
    }
    if (settings->padding_free && !is_packed && settings->shuffle) {
        range = 0; /* the rows of a batch need not be similar */
    }
    pool.layout = tb_lay_out_sort(range, window, plan->index_bits);
    most = bound_pool(n, window, tb_fit_rows(summary->shortest, settings));
    pool.scratch = (uint64_t *)tb_allocate_array(most, sizeof *pool.scratch);
    if (is_packed) {
        pool.pack_of = (uint32_t *)tb_allocate_array(most, sizeof *pool.pack_of);
    }
    if (pool.scratch != NULL && (pool.pack_of != NULL || !is_packed)) {
        status = is_packed ? pack_batches(plan, settings, &pool, full)
                           : cut_batches(plan, settings, &pool, full);
    }
    free(pool.scratch);
    free(pool.pack_of);
    tb_free_packs(&pool.packer);
    return status;
}
