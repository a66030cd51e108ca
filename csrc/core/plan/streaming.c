#include "core/plan/streaming.h"

#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/base/size.h"
#include "core/plan/cost.h"

#include <string.h>

enum { MOST_DRAWS = 64, LEAST_RESERVED = 64 };

tb_status
tb_start_streaming(tb_streaming *stream, const tb_batch_settings *settings,
                   int64_t size, int64_t most_weight)
{
    memset(stream, 0, sizeof *stream);
    stream->settings = *settings;
    stream->size = size;
    stream->most_weight = most_weight;
    stream->sorted.batch_size = settings->batch_size;
    stream->sorted.max_tokens = settings->max_tokens;
    if (!settings->padding_free) {
        stream->kind = TB_STREAM_PADDED;
        return TB_OK;
    }
    if (settings->max_tokens == INT64_MAX) {
        stream->kind = TB_STREAM_IN_ORDER;
        return TB_OK;
    }
    stream->kind = TB_STREAM_PACKS;
    stream->is_taken = 1;
    /* Rows of length 0 cost nothing, and an endless stream of them must not make an
     * endless pack. */
    return tb_start_pool(&stream->pool, settings->max_tokens,
                         tb_min(settings->batch_size, settings->max_tokens),
                         (uint32_t)size);
}

void
tb_free_streaming(tb_streaming *stream)
{
    tb_free_pool(&stream->pool);
    free(stream->waiting);
    free(stream->sorted.rows);
    free(stream->sorted.scratch);
    free(stream->batch);
    memset(stream, 0, sizeof *stream);
}

static void
note_length(tb_streaming *stream, int64_t length)
{
    uint64_t golden = UINT64_C(0x9E3779B97F4A7C15); /* odd */

    stream->fingerprint = tb_mix_bits(stream->fingerprint * golden + (uint64_t)length);
}

/* --- rows that wait --------------------------------------------------------------- */

static int
grow(void **array, ptrdiff_t count, size_t item_size)
{
    ptrdiff_t bytes = 0;

    if (tb_multiply_sizes(count, (ptrdiff_t)item_size, &bytes) != TB_OK) {
        return -1;
    }
    void *moved = realloc(*array, (size_t)bytes);
    if (moved == NULL) {
        return -1;
    }
    *array = moved;
    return 0;
}

/* Room for one more row, wherever rows are kept. */
static tb_status
reserve_row(tb_streaming *stream)
{
    if (stream->count < stream->reserved) {
        return TB_OK;
    }
    ptrdiff_t wanted = stream->reserved + stream->reserved / 2 + LEAST_RESERVED;
    void *waiting = stream->waiting, *rows = stream->sorted.rows,
         *scratch = stream->sorted.scratch, *batch = stream->batch;
    int failed = grow(&waiting, wanted, sizeof *stream->waiting);
    stream->waiting = (tb_waiting_row *)waiting;
    if (!failed && stream->kind == TB_STREAM_PADDED) {
        failed = grow(&rows, wanted, sizeof *stream->sorted.rows);
        stream->sorted.rows = (tb_costed_row *)rows;
        failed = failed || grow(&scratch, wanted, sizeof *stream->sorted.scratch);
        stream->sorted.scratch = (tb_costed_row *)scratch;
    }
    failed = failed || grow(&batch, wanted, sizeof *stream->batch);
    stream->batch = (uint64_t *)batch;
    stream->pool.rows = stream->batch;
    if (failed) {
        return TB_ERR_MEMORY;
    }
    stream->reserved = wanted;
    return TB_OK;
}

/* The cost of a row, or an error that says why it has none. */
static tb_status
find_cost(const tb_streaming *stream, uint64_t number, int64_t length, int64_t *cost,
          tb_error *error)
{
    const tb_batch_settings *settings = &stream->settings;

    *error = (tb_error){(ptrdiff_t)number, -1, length};
    if (length < 0) {
        return TB_ERR_NEGATIVE;
    }
    tb_status status =
        tb_find_row_cost(tb_min(length, settings->max_length), settings, cost);
    if (status == TB_OK && *cost > settings->max_tokens) {
        return TB_ERR_TOO_LONG;
    }
    /* The costs of all that wait can be added. */
    return status == TB_OK && stream->kind == TB_STREAM_PADDED &&
                   *cost > INT64_MAX / (stream->size + 1)
               ? TB_ERR_SIZE
               : status;
}

static void
append_row(tb_streaming *stream, uint64_t number, int64_t cost, int64_t weight)
{
    /* So little that the weights of all that wait can be added. */
    weight = tb_min(weight, INT64_MAX / (stream->size + 1));
    stream->waiting[stream->count] = (tb_waiting_row){number, cost, weight};
    if (stream->kind == TB_STREAM_PADDED) {
        stream->sorted.rows[stream->sorted.count++] = (tb_costed_row){cost, number};
    }
    stream->count++;
    stream->weight += weight;
    stream->next = number + 1;
}

/* With packs, the pool is full too where weight is the cap. */
static tb_status
pool_row(tb_streaming *stream, uint64_t number, int64_t cost)
{
    tb_pool *pool = &stream->pool;
    uint32_t size = (uint32_t)stream->size;

    if (stream->is_taken) {
        tb_begin_pack(pool, stream->batch);
        stream->is_taken = 0;
    }
    if (stream->weight >= stream->most_weight) {
        size = pool->count > 0 ? pool->count : 1;
    }
    pool->size = size;
    return tb_add_row(pool, number, cost, &stream->is_pack);
}

tb_status
tb_stream_row(tb_streaming *stream, uint64_t number, int64_t length, int64_t weight,
              int *is_kept, tb_error *error)
{
    int64_t cost = 0;
    tb_status status = find_cost(stream, number, length, &cost, error);

    *is_kept = status == TB_OK;
    if (status != TB_OK &&
        (status == TB_ERR_NEGATIVE || !stream->settings.drop_overlong)) {
        return status;
    }
    if (status == TB_OK) {
        status = reserve_row(stream);
        if (status == TB_OK) {
            append_row(stream, number, cost, weight);
            if (stream->kind == TB_STREAM_PACKS) {
                status = pool_row(stream, number, cost);
            }
        }
        if (status != TB_OK) {
            return status;
        }
        stream->truncated += length > stream->settings.max_length;
    }
    else {
        stream->dropped++;
    }
    note_length(stream, length);
    return TB_OK;
}

tb_status
tb_restore_row(tb_streaming *stream, uint64_t number, int64_t length, int64_t weight,
               tb_row_place place, tb_error *error)
{
    int64_t cost = 0;
    int is_pack = 0;
    tb_status status = find_cost(stream, number, length, &cost, error);
    int is_refused = status == TB_ERR_NEGATIVE || !stream->settings.drop_overlong;

    if (status != TB_OK && place == TB_ROW_GONE) {
        if (!is_refused) {
            note_length(stream, length);
        }
        return TB_OK; /* it was an error then too */
    }
    if (status == TB_OK && place != TB_ROW_GONE) {
        status = reserve_row(stream);
    }
    if (status != TB_OK) {
        return status;
    }
    note_length(stream, length);
    if (place != TB_ROW_GONE) {
        append_row(stream, number, cost, weight);
    }
    if (stream->kind != TB_STREAM_PACKS || place != TB_ROW_WAITS) {
        return TB_OK;
    }
    return stream->pool.count == stream->pool.size
               ? TB_ERR_SIZE /* no state that was saved */
               : tb_hold_row(&stream->pool, number, cost, &is_pack);
}

/* Of the waiting rows, the one with this number; NULL where there is none. */
static tb_waiting_row *
find_waiting(const tb_streaming *stream, uint64_t number)
{
    ptrdiff_t low = 0, high = stream->count;

    while (low < high) {
        ptrdiff_t middle = low + (high - low) / 2;
        if (stream->waiting[middle].number < number) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low < stream->count && stream->waiting[low].number == number
               ? &stream->waiting[low]
               : NULL;
}

tb_status
tb_restore_pack(tb_streaming *stream, const uint64_t *numbers, ptrdiff_t count,
                int is_chosen)
{
    tb_status status = TB_OK;
    ptrdiff_t put = 0;

    if (count == 0) {
        return TB_OK;
    }
    if (stream->kind != TB_STREAM_PACKS || count > stream->count) {
        return TB_ERR_SIZE;
    }
    tb_begin_pack(&stream->pool, stream->batch);
    stream->is_taken = 0;
    while (put < count && status == TB_OK) {
        tb_waiting_row *row = find_waiting(stream, numbers[put]);
        if (row == NULL || row->cost < 0 || row->cost > stream->pool.room ||
            stream->pool.row_count == stream->pool.max_rows) {
            status = TB_ERR_SIZE;
        }
        else {
            tb_put_row(&stream->pool, row->number, row->cost);
            row->cost = ~row->cost; /* below 0 until all are put: none comes twice */
            put++;
        }
    }
    for (ptrdiff_t i = 0; i < put; i++) {
        tb_waiting_row *row = find_waiting(stream, numbers[i]);
        row->cost = ~row->cost;
    }
    if (status == TB_OK) {
        tb_continue_pack(&stream->pool, is_chosen);
    }
    return status;
}

/* --- padded batches --------------------------------------------------------------- */

/* The row that the next batch is taken around. */
static const tb_waiting_row *
draw_row(const tb_streaming *stream)
{
    const tb_waiting_row *waiting = stream->waiting;
    ptrdiff_t old = stream->count / TB_OLD_PART > 0 ? stream->count / TB_OLD_PART : 1;
    ptrdiff_t least =
        tb_fit_run(&stream->sorted, stream->sorted.rows[stream->count - 1].cost);
    tb_random random;

    if (stream->next - waiting->number > TB_DUE_PARTS * (uint64_t)stream->size) {
        return waiting;
    }
    tb_seed_random(&random, stream->settings.seed, stream->batches);
    for (int draw = 0; draw < MOST_DRAWS; draw++) {
        waiting = stream->waiting + tb_random_below(&random, (uint64_t)old);
        ptrdiff_t rows = tb_fit_run(&stream->sorted, waiting->cost);
        if (rows <= least ||
            tb_random_below(&random, (uint64_t)rows) < (uint64_t)least) {
            break;
        }
    }
    return waiting;
}

/* Moves a run of sorted rows into the batch, the longest first. */
static void
take_run(tb_streaming *stream, ptrdiff_t begin, ptrdiff_t end)
{
    tb_costed_row *rows = stream->sorted.rows;

    stream->batch_count = end - begin;
    for (ptrdiff_t i = 0; i < end - begin; i++) {
        stream->batch[i] = rows[end - 1 - i].number;
    }
    memmove(rows + begin, rows + end, (size_t)(stream->count - end) * sizeof *rows);
}

/* --- taking a batch --------------------------------------------------------------- */

/* Takes the rows of the batch out of those that wait. */
static void
forget_rows(tb_streaming *stream)
{
    ptrdiff_t kept = stream->count;

    for (ptrdiff_t i = 0; i < stream->batch_count; i++) {
        tb_waiting_row *row = find_waiting(stream, stream->batch[i]);
        stream->weight -= row->weight;
        row->cost = -1;
        kept = tb_min(kept, row - stream->waiting);
    }
    for (ptrdiff_t i = kept; i < stream->count; i++) {
        stream->waiting[kept] = stream->waiting[i];
        kept += stream->waiting[i].cost >= 0;
    }
    stream->count = kept;
    stream->sorted.count = stream->sorted.sorted = kept;
}

int
tb_is_batch_ready(const tb_streaming *stream)
{
    if (stream->kind == TB_STREAM_PACKS) {
        return stream->is_pack;
    }
    if (stream->kind == TB_STREAM_IN_ORDER) {
        return stream->count >= stream->settings.batch_size;
    }
    return stream->count > 0 &&
           (stream->count >= stream->size || stream->weight >= stream->most_weight);
}

/* Returns whether the batch is full. */
static int
take_padded(tb_streaming *stream, int is_end)
{
    ptrdiff_t begin, end;
    int is_full = 1;

    tb_sort_in(&stream->sorted);
    if (is_end) {
        ptrdiff_t at = tb_find_costed(&stream->sorted, stream->waiting->cost);
        is_full = tb_cut_run(&stream->sorted, at, &begin, &end);
    }
    else {
        const tb_waiting_row *row = draw_row(stream);
        tb_choose_run(&stream->sorted, tb_find_costed(&stream->sorted, row->cost),
                      &begin, &end);
    }
    take_run(stream, begin, end);
    return is_full;
}

static int
take_pack(tb_streaming *stream)
{
    tb_pool *pool = &stream->pool;
    int is_last = 0;

    if (!stream->is_pack) {
        if (stream->is_taken) {
            tb_begin_pack(pool, stream->batch);
        }
        (void)tb_drain_pool(pool);
        is_last = pool->count == 0;
    }
    stream->batch_count = (ptrdiff_t)pool->row_count;
    stream->is_pack = 0;
    stream->is_taken = 1;
    return !is_last || pool->room == 0 || pool->row_count == pool->max_rows;
}

static int
take_in_order(tb_streaming *stream)
{
    int64_t most = stream->settings.batch_size;

    stream->batch_count = (ptrdiff_t)tb_min(most, stream->count);
    for (ptrdiff_t i = 0; i < stream->batch_count; i++) {
        stream->batch[i] = stream->waiting[i].number;
    }
    return stream->batch_count == most;
}

tb_status
tb_take_batch(tb_streaming *stream, int is_end)
{
    stream->batch_count = 0;
    while (stream->count > 0 && (is_end || tb_is_batch_ready(stream))) {
        int is_full = stream->kind == TB_STREAM_PADDED  ? take_padded(stream, is_end)
                      : stream->kind == TB_STREAM_PACKS ? take_pack(stream)
                                                        : take_in_order(stream);
        forget_rows(stream);
        if (is_full || !stream->settings.drop_last) {
            stream->batches++;
            break;
        }
        stream->dropped += stream->batch_count;
        stream->batch_count = 0;
    }
    return TB_OK;
}
