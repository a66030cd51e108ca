#include "core/plan/streaming_limits.h"

#include "core/base/memory.h"
#include "core/base/size.h"

#include <string.h>

enum {
    LEAST_LEFT = 16, /* rows that a batch leaves before it ends */
    PLACES = 8       /* tried above the row that a batch is taken around */
};

static const ptrdiff_t NO_RANK = -1;
static const uint64_t GONE = UINT64_MAX;

tb_status
tb_start_stream_limits(tb_stream_limits *limits, const tb_batch_settings *settings,
                       int has_sides, int64_t size)
{
    int has_cap = settings->max_tokens != INT64_MAX,
        is_padded = !settings->padding_free;
    tb_limits *all = &limits->all;
    int64_t most_rows = has_cap ? settings->max_tokens : 1;

    memset(limits, 0, sizeof *limits);
    limits->own = settings->limit_count;
    all->all = (tb_limit *)tb_allocate_array(settings->limit_count + has_cap,
                                             sizeof *all->all);
    if (all->all == NULL) {
        return TB_ERR_MEMORY;
    }
    if (has_cap) {
        all->all[all->count++] =
            (tb_limit){NULL, NULL, settings->max_tokens, is_padded};
    }
    for (ptrdiff_t k = 0; k < settings->limit_count; k++) {
        all->all[all->count++] = settings->limits[k];
        if (!has_cap) {
            most_rows = tb_max(most_rows, settings->limits[k].cap);
        }
    }
    for (ptrdiff_t k = 0; k < all->count; k++) {
        all->parts[k] = 1; /* of rows that are still to come nothing is known */
    }
    all->max_rows = settings->batch_size;
    if (has_sides && is_padded) {
        limits->seconds = (int64_t *)tb_allocate_array(1, sizeof *limits->seconds);
        if (limits->seconds == NULL) {
            return TB_ERR_MEMORY;
        }
    }
    if (is_padded) {
        return TB_OK;
    }
    /* Rows that cost nothing must not make an endless pack. */
    all->max_rows = tb_min(all->max_rows, most_rows);
    limits->has_pool = 1;
    limits->pool_size = size;
    return tb_start_limit_pool(&limits->pool, all, UINT64_MAX, (uint32_t)size);
}

void
tb_free_stream_limits(tb_stream_limits *limits)
{
    if (limits->has_pool) {
        tb_free_limit_pool(&limits->pool);
    }
    for (ptrdiff_t k = 0; k < limits->own; k++) {
        free(limits->costs[k]);
    }
    free(limits->all.all);
    free(limits->widths);
    free(limits->seconds);
    free(limits->numbers);
    free(limits->unused);
    free(limits->items);
    free(limits->scratch);
    free(limits->marks);
    memset(limits, 0, sizeof *limits);
}

/* --- slots ------------------------------------------------------------------------ */

static tb_status
grow_slots(tb_stream_limits *limits, ptrdiff_t count)
{
    if (TB_RESIZE(limits->widths, count) != TB_OK ||
        (limits->seconds != NULL && TB_RESIZE(limits->seconds, count) != TB_OK) ||
        TB_RESIZE(limits->numbers, count) != TB_OK ||
        TB_RESIZE(limits->items, count) != TB_OK ||
        TB_RESIZE(limits->scratch, count) != TB_OK ||
        TB_RESIZE(limits->marks, count) != TB_OK ||
        TB_RESIZE(limits->unused, count) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < limits->own; k++) {
        if (TB_RESIZE(limits->costs[k], count) != TB_OK) {
            return TB_ERR_MEMORY;
        }
    }
    if (!limits->has_pool) {
        return TB_OK;
    }
    return tb_reserve_limit_pool(&limits->pool,
                                 (uint32_t)tb_min(count, limits->pool_size));
}

tb_status
tb_reserve_slots(tb_stream_limits *limits, ptrdiff_t count)
{
    tb_limits *all = &limits->all;
    ptrdiff_t first = all->count - limits->own; /* 1: the cap on tokens */
    tb_status status = grow_slots(limits, count);

    /* Also where memory was lacking in the end: arrays may have moved. */
    if (first > 0) {
        all->all->costs = limits->widths;
        all->all->others = limits->seconds;
    }
    for (ptrdiff_t k = 0; k < limits->own; k++) {
        all->all[first + k].costs = limits->costs[k];
    }
    limits->pool.items = limits->items;
    if (status != TB_OK) {
        return status;
    }
    for (ptrdiff_t slot = count; slot-- > limits->reserved;) {
        limits->unused[limits->unused_count++] = slot;
    }
    limits->reserved = count;
    return TB_OK;
}

ptrdiff_t
tb_fill_slot(tb_stream_limits *limits, const tb_streamed_row *row,
             const int64_t *widths)
{
    ptrdiff_t slot = limits->unused[--limits->unused_count];

    limits->numbers[slot] = row->number;
    limits->widths[slot] = widths[0];
    if (limits->seconds != NULL) {
        limits->seconds[slot] = widths[1];
    }
    for (ptrdiff_t k = 0; k < limits->own; k++) {
        limits->costs[k][slot] = row->costs[k];
    }
    return slot;
}

void
tb_clear_slot(tb_stream_limits *limits, ptrdiff_t slot)
{
    limits->unused[limits->unused_count++] = slot;
}

int64_t
tb_find_share(const tb_stream_limits *limits, ptrdiff_t slot)
{
    const double whole = (double)((int64_t)1 << 32);
    double most = 1 / (double)limits->all.max_rows;

    for (ptrdiff_t k = 0; k < limits->all.count; k++) {
        const tb_limit *limit = &limits->all.all[k];
        double cost = (double)limit->costs[slot];
        if (limit->others != NULL) {
            cost += (double)limit->others[slot];
        }
        double part = cost / (double)tb_max(limit->cap, 1);
        most = part > most ? part : most;
    }
    return (int64_t)(most * whole) + 1;
}

int
tb_is_load_full(const tb_limits *limits, const tb_load *load)
{
    int is_full = load->rows >= limits->max_rows;

    for (ptrdiff_t k = 0; k < limits->count && !is_full; k++) {
        is_full = tb_find_room(&limits->all[k], load->costs[k], load->rows) <= 0;
    }
    return is_full;
}

/* --- batches with padding --------------------------------------------------------- */

/* A batch that is tried, of the sorted rows at some ranks. */
typedef struct {
    tb_load load;
    int64_t longest[2];
    double tokens;
    ptrdiff_t left; /* rows that did not fit */
} trial;

static void
add_row(const tb_stream_limits *limits, trial *batch, uint64_t *ranks, ptrdiff_t rank,
        ptrdiff_t slot)
{
    int64_t first = limits->widths[slot];
    int64_t second = limits->seconds != NULL ? limits->seconds[slot] : 0;

    ranks[batch->load.rows] = (uint64_t)rank;
    tb_add_load(&limits->all, &batch->load, slot);
    batch->longest[0] = tb_max(batch->longest[0], first);
    batch->longest[1] = tb_max(batch->longest[1], second);
    batch->tokens += (double)first + (double)second;
}

static double
find_padding(const trial *batch)
{
    double width = (double)batch->longest[0] + (double)batch->longest[1];
    double whole = width * (double)batch->load.rows;

    return whole > 0 ? (whole - batch->tokens) / whole : 0;
}

/* The batch of the row at a rank, unless it is NO_RANK, and of those from another one
 * downwards; rows that are marked are passed over. */
static void
fill_trial(const tb_stream_limits *limits, const tb_sorted_rows *sorted, ptrdiff_t own,
           ptrdiff_t from, const uint64_t *marks, trial *batch, uint64_t *ranks)
{
    memset(batch, 0, sizeof *batch);
    tb_empty_load(&limits->all, &batch->load);
    if (own != NO_RANK) {
        add_row(limits, batch, ranks, own, (ptrdiff_t)sorted->rows[own].number);
    }
    for (ptrdiff_t rank = from; rank >= 0; rank--) {
        ptrdiff_t slot = (ptrdiff_t)sorted->rows[rank].number;
        if (rank == own || (marks != NULL && marks[rank] != 0)) {
            continue;
        }
        if (batch->load.rows >= limits->all.max_rows ||
            (batch->left >= LEAST_LEFT && batch->left >= batch->load.rows)) {
            return;
        }
        if (tb_fits_load(&limits->all, &batch->load, slot)) {
            add_row(limits, batch, ranks, rank, slot);
        }
        else {
            batch->left++;
        }
    }
}

static int
is_closed(const tb_stream_limits *limits, const trial *batch)
{
    return batch->left > 0 || batch->load.rows >= limits->all.max_rows;
}

/* Tries a batch; if it is better than the best so far, its ranks become `items`. */
static void
try_batch(tb_stream_limits *limits, const tb_sorted_rows *sorted, ptrdiff_t own,
          ptrdiff_t from, trial *best)
{
    trial batch;

    fill_trial(limits, sorted, own, from, NULL, &batch, limits->scratch);
    int closed = is_closed(limits, &batch), was_closed = is_closed(limits, best);
    if (best->load.rows == 0 || closed > was_closed ||
        (closed == was_closed && (closed ? find_padding(&batch) < find_padding(best)
                                         : batch.load.rows > best->load.rows))) {
        uint64_t *moved = limits->items;
        limits->items = limits->scratch;
        limits->scratch = moved;
        *best = batch;
    }
}

static ptrdiff_t
find_rank(const tb_sorted_rows *sorted, ptrdiff_t slot)
{
    ptrdiff_t rank = 0;

    while (sorted->rows[rank].number != (uint64_t)slot) {
        rank++;
    }
    return rank;
}

/* Takes the rows whose ranks are `items` out of the sorted ones; items become slots. */
static ptrdiff_t
take_ranks(tb_stream_limits *limits, tb_sorted_rows *sorted, ptrdiff_t count)
{
    ptrdiff_t kept = sorted->count;

    for (ptrdiff_t i = 0; i < count; i++) {
        ptrdiff_t rank = (ptrdiff_t)limits->items[i];
        limits->items[i] = sorted->rows[rank].number;
        sorted->rows[rank].number = GONE;
        kept = tb_min(kept, rank);
    }
    for (ptrdiff_t rank = kept; rank < sorted->count; rank++) {
        sorted->rows[kept] = sorted->rows[rank];
        kept += sorted->rows[rank].number != GONE;
    }
    return count;
}

ptrdiff_t
tb_take_limited(tb_stream_limits *limits, tb_sorted_rows *sorted, ptrdiff_t slot)
{
    ptrdiff_t own = find_rank(sorted, slot), last = sorted->count - 1, from = own;
    trial best = {0};

    try_batch(limits, sorted, own, own, &best);
    ptrdiff_t rows = (ptrdiff_t)best.load.rows;
    ptrdiff_t step = rows > PLACES ? rows / PLACES : 1;
    for (int k = 0; k < PLACES && from < last; k++) {
        from = tb_min(from + step, last);
        try_batch(limits, sorted, own, from, &best);
    }
    /* All that is below fits: the batch begins further above. */
    while (!is_closed(limits, &best) && from < last) {
        step *= 2;
        from = tb_min(from + step, last);
        try_batch(limits, sorted, own, from, &best);
    }
    return take_ranks(limits, sorted, (ptrdiff_t)best.load.rows);
}

ptrdiff_t
tb_take_limited_end(tb_stream_limits *limits, tb_sorted_rows *sorted, ptrdiff_t slot,
                    int *is_full)
{
    ptrdiff_t own = find_rank(sorted, slot), from = sorted->count - 1, count = 0;
    trial batch;

    memset(limits->marks, 0, (size_t)sorted->count * sizeof *limits->marks);
    *is_full = 1;
    while (from >= 0 && limits->marks[own] == 0) {
        fill_trial(limits, sorted, NO_RANK, from, limits->marks, &batch,
                   limits->scratch);
        if (count > 0 && !is_closed(limits, &batch)) {
            break; /* the one before it is taken instead */
        }
        count = (ptrdiff_t)batch.load.rows;
        *is_full = is_closed(limits, &batch);
        memcpy(limits->items, limits->scratch, (size_t)count * sizeof *limits->items);
        for (ptrdiff_t i = 0; i < count; i++) {
            limits->marks[limits->items[i]] = 1;
        }
        while (from >= 0 && limits->marks[from] != 0) {
            from--;
        }
    }
    return take_ranks(limits, sorted, count);
}
