#include "core/plan/streaming.h"

#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/base/size.h"
#include "core/plan/cost.h"
#include "core/plan/pair_keys.h"

#include <string.h>

enum { LEAST_RESERVED = 64 };

tb_status
tb_start_streaming(tb_streaming *stream, const tb_batch_settings *settings,
                   const int64_t *sides, int64_t size, int64_t most_weight)
{
    int is_packed = settings->padding_free;

    memset(stream, 0, sizeof *stream);
    stream->settings = *settings;
    stream->size = size;
    stream->most_weight = most_weight;
    stream->sorted.batch_size = settings->batch_size;
    stream->sorted.max_tokens = settings->max_tokens;
    stream->has_sides = sides != NULL;
    if (sides != NULL) {
        memcpy(stream->sides, sides, sizeof stream->sides);
    }
    stream->is_limited = settings->limit_count > 0 || (sides != NULL && !is_packed);
    if (stream->is_limited) {
        stream->kind = is_packed ? TB_STREAM_PACKS : TB_STREAM_PADDED;
        stream->is_taken = is_packed;
        return tb_start_stream_limits(&stream->limits, settings, sides != NULL, size);
    }
    if (!is_packed) {
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
    tb_free_stream_limits(&stream->limits);
    free(stream->waiting);
    free(stream->sorted.rows);
    free(stream->sorted.scratch);
    free(stream->batch);
    memset(stream, 0, sizeof *stream);
}

static uint64_t
mix_number(uint64_t fingerprint, int64_t number)
{
    uint64_t golden = UINT64_C(0x9E3779B97F4A7C15); /* odd */

    return tb_mix_bits(fingerprint * golden + (uint64_t)number);
}

static void
note_row(tb_streaming *stream, const tb_streamed_row *row)
{
    stream->fingerprint = mix_number(stream->fingerprint, row->length);
    if (stream->has_sides) {
        stream->fingerprint = mix_number(stream->fingerprint, row->other);
    }
    for (ptrdiff_t k = 0; k < stream->settings.limit_count; k++) {
        stream->fingerprint = mix_number(stream->fingerprint, row->costs[k]);
    }
}

/* --- rows that wait --------------------------------------------------------------- */

/* Room for one more row, wherever rows are kept: it is added without asking for any. */
static tb_status
reserve_row(tb_streaming *stream)
{
    if (stream->kind == TB_STREAM_PACKS && !stream->is_limited &&
        tb_reserve_fit(&stream->pool.tree) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    if (stream->count < stream->reserved) {
        return TB_OK;
    }
    ptrdiff_t wanted = stream->reserved + stream->reserved / 2 + LEAST_RESERVED;
    if (TB_RESIZE(stream->waiting, wanted) != TB_OK ||
        TB_RESIZE(stream->batch, wanted) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    stream->pool.rows = stream->batch;
    if (stream->kind == TB_STREAM_PADDED &&
        (TB_RESIZE(stream->sorted.rows, wanted) != TB_OK ||
         TB_RESIZE(stream->sorted.scratch, wanted) != TB_OK)) {
        return TB_ERR_MEMORY;
    }
    tb_status status = TB_OK;
    if (stream->is_limited) {
        status = tb_reserve_slots(&stream->limits, wanted);
    }
    else if (stream->kind == TB_STREAM_PACKS) {
        status = tb_reserve_pool(&stream->pool, (uint32_t)tb_min(wanted, stream->size));
    }
    if (status == TB_OK) {
        stream->reserved = wanted;
    }
    return status;
}

/* The widths of both sides of a row. */
static tb_status
find_widths(const tb_streaming *stream, const tb_streamed_row *row, int64_t *widths)
{
    for (int side = 0; side < 2; side++) {
        int64_t length =
            tb_min(side == 0 ? row->length : row->other, stream->sides[side]);
        if (tb_round_up(length, stream->settings.multiple, &widths[side]) != TB_OK ||
            widths[side] > INT64_MAX / 2) {
            return TB_ERR_SIZE; /* the sum of both fits */
        }
    }
    return TB_OK;
}

/* What a row costs in tokens, and the widths of its sides; or an error that says why it
 * has none. */
static tb_status
find_cost(const tb_streaming *stream, const tb_streamed_row *row, int64_t *cost,
          int64_t *widths, tb_error *error)
{
    const tb_batch_settings *settings = &stream->settings;
    int64_t length = tb_min(row->length, settings->max_length);
    tb_status status = TB_OK;

    *error = (tb_error){(ptrdiff_t)row->number, -1, row->length};
    if (row->length < 0 || (stream->has_sides && row->other < 0)) {
        error->value = row->length < 0 ? row->length : row->other;
        error->column = stream->has_sides ? row->length >= 0 : -1;
        return TB_ERR_NEGATIVE;
    }
    if (stream->has_sides) {
        status = find_widths(stream, row, widths);
        length = status == TB_OK ? widths[0] + widths[1] : length;
    }
    if (status == TB_OK) {
        status = tb_find_row_cost(length, settings, cost);
    }
    if (status == TB_OK && *cost > settings->max_tokens) {
        return TB_ERR_TOO_LONG;
    }
    if (!stream->has_sides) {
        widths[0] = *cost;
    }
    for (ptrdiff_t k = 0; k < settings->limit_count && status == TB_OK; k++) {
        if (row->costs[k] > settings->limits[k].cap) {
            *error = (tb_error){(ptrdiff_t)row->number, k, row->costs[k]};
            return TB_ERR_TOO_LONG;
        }
    }
    /* The costs of all that wait can be added. */
    return status == TB_OK && stream->kind == TB_STREAM_PADDED && !stream->is_limited &&
                   *cost > INT64_MAX / (stream->size + 1)
               ? TB_ERR_SIZE
               : status;
}

/* What rows that are padded are sorted by. */
static int64_t
find_key(const tb_streaming *stream, int64_t cost, const int64_t *widths)
{
    int64_t key = cost;

    if (stream->has_sides) {
        tb_find_pair_keys(widths, 1, &key);
    }
    return key;
}

static void
append_row(tb_streaming *stream, const tb_streamed_row *row, int64_t cost,
           const int64_t *widths)
{
    /* So little that the weights of all that wait can be added. */
    int64_t weight = tb_min(row->weight, INT64_MAX / (stream->size + 1));
    ptrdiff_t slot = 0;
    tb_costed_row sorted = {cost, row->number};

    if (stream->is_limited) {
        int64_t packed[2] = {cost, 0};
        slot = tb_fill_slot(&stream->limits, row,
                            stream->kind == TB_STREAM_PACKS ? packed : widths);
        sorted = (tb_costed_row){find_key(stream, cost, widths), (uint64_t)slot};
        cost = tb_find_share(&stream->limits, slot);
    }
    stream->waiting[stream->count] = (tb_waiting_row){row->number, cost, weight, slot};
    if (stream->kind == TB_STREAM_PADDED) {
        stream->sorted.rows[stream->sorted.count++] = sorted;
    }
    stream->count++;
    stream->weight += weight;
    stream->next = row->number + 1;
}

tb_waiting_row *
tb_find_waiting(const tb_streaming *stream, uint64_t number)
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

void
tb_name_items(tb_streaming *stream, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        stream->batch[i] = stream->limits.numbers[stream->limits.items[i]];
    }
}

void
tb_begin_stream_pack(tb_streaming *stream)
{
    if (stream->is_taken && stream->is_limited) {
        tb_begin_limit_pack(&stream->limits.pool, stream->limits.items);
    }
    else if (stream->is_taken) {
        tb_begin_pack(&stream->pool, stream->batch);
    }
    stream->is_taken = 0;
}

/* With packs, the pool is full too where weight is the cap. */
static tb_status
pool_row(tb_streaming *stream, int64_t cost)
{
    const tb_waiting_row *row = &stream->waiting[stream->count - 1];
    uint32_t count =
        stream->is_limited ? stream->limits.pool.count : stream->pool.count;
    uint32_t size = (uint32_t)stream->size;

    tb_begin_stream_pack(stream);
    if (stream->weight >= stream->most_weight) {
        size = count > 0 ? count : 1;
    }
    if (stream->is_limited) {
        stream->limits.pool.size = size;
        stream->is_pack = tb_add_limit_row(&stream->limits.pool, (uint64_t)row->slot);
        return TB_OK;
    }
    stream->pool.size = size;
    return tb_add_row(&stream->pool, row->number, cost, &stream->is_pack);
}

static int
is_cut(const tb_streaming *stream, const tb_streamed_row *row)
{
    return stream->has_sides
               ? row->length > stream->sides[0] || row->other > stream->sides[1]
               : row->length > stream->settings.max_length;
}

tb_status
tb_stream_row(tb_streaming *stream, const tb_streamed_row *row, int *is_kept,
              tb_error *error)
{
    int64_t cost = 0, widths[2] = {0, 0};
    tb_status status = find_cost(stream, row, &cost, widths, error);

    *is_kept = status == TB_OK;
    if (status != TB_OK &&
        (status == TB_ERR_NEGATIVE || !stream->settings.drop_overlong)) {
        return status;
    }
    if (status == TB_OK) {
        status = reserve_row(stream);
        if (status == TB_OK) {
            append_row(stream, row, cost, widths);
            if (stream->kind == TB_STREAM_PACKS) {
                status = pool_row(stream, cost);
            }
        }
        if (status != TB_OK) {
            return status;
        }
        stream->truncated += is_cut(stream, row);
    }
    else {
        stream->dropped++;
    }
    note_row(stream, row);
    return TB_OK;
}

/* --- rows that are restored ------------------------------------------------------- */

/* Holds the row that was appended; TB_ERR_SIZE: no state that was saved has so many. */
static tb_status
hold_row(tb_streaming *stream, int64_t cost)
{
    const tb_waiting_row *row = &stream->waiting[stream->count - 1];
    tb_limit_pool *pool = &stream->limits.pool;
    int is_pack = 0;

    if (!stream->is_limited) {
        return stream->pool.count == stream->pool.size
                   ? TB_ERR_SIZE
                   : tb_hold_row(&stream->pool, row->number, cost, &is_pack);
    }
    if (pool->count == pool->size) {
        return TB_ERR_SIZE;
    }
    tb_hold_limit_row(pool, (uint64_t)row->slot);
    return TB_OK;
}

tb_status
tb_restore_row(tb_streaming *stream, const tb_streamed_row *row, tb_row_place place,
               tb_error *error)
{
    int64_t cost = 0, widths[2] = {0, 0};
    tb_status status = find_cost(stream, row, &cost, widths, error);
    int is_refused = status == TB_ERR_NEGATIVE || !stream->settings.drop_overlong;

    if (status != TB_OK && place == TB_ROW_GONE) {
        if (!is_refused) {
            note_row(stream, row);
        }
        return TB_OK; /* it was an error then too */
    }
    if (status == TB_OK && place != TB_ROW_GONE) {
        status = reserve_row(stream);
    }
    if (status != TB_OK) {
        return status;
    }
    note_row(stream, row);
    if (place != TB_ROW_GONE) {
        append_row(stream, row, cost, widths);
    }
    return stream->kind == TB_STREAM_PACKS && place == TB_ROW_WAITS
               ? hold_row(stream, cost)
               : TB_OK;
}

/* Puts a row into the pack that was begun, if it fits. */
static int
put_row(tb_streaming *stream, const tb_waiting_row *row)
{
    tb_limit_pool *limited = &stream->limits.pool;
    tb_pool *pool = &stream->pool;
    int fits;

    if (stream->is_limited) {
        fits = tb_fits_load(&stream->limits.all, &limited->load, row->slot);
        if (fits) {
            tb_put_limit_row(limited, (uint64_t)row->slot);
        }
        return fits;
    }
    fits = row->cost <= pool->room && pool->row_count < pool->max_rows;
    if (fits) {
        tb_put_row(pool, row->number, row->cost);
    }
    return fits;
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
    tb_begin_stream_pack(stream);
    while (put < count && status == TB_OK) {
        tb_waiting_row *row = tb_find_waiting(stream, numbers[put]);
        if (row == NULL || row->cost < 0 || !put_row(stream, row)) {
            status = TB_ERR_SIZE;
        }
        else {
            row->cost = ~row->cost; /* below 0 until all are put: none comes twice */
            put++;
        }
    }
    for (ptrdiff_t i = 0; i < put; i++) {
        tb_waiting_row *row = tb_find_waiting(stream, numbers[i]);
        row->cost = ~row->cost;
    }
    if (status == TB_OK && !stream->is_limited) {
        tb_continue_pack(&stream->pool, is_chosen);
    }
    return status;
}

const uint64_t *
tb_find_begun_pack(tb_streaming *stream, ptrdiff_t *count, int *is_chosen)
{
    *count = 0;
    *is_chosen = 0;
    if (stream->kind != TB_STREAM_PACKS || stream->is_taken) {
        return stream->batch;
    }
    if (stream->is_limited) {
        *count = (ptrdiff_t)stream->limits.pool.load.rows;
        tb_name_items(stream, *count);
    }
    else {
        *count = (ptrdiff_t)stream->pool.row_count;
        *is_chosen = stream->pool.is_chosen;
    }
    return stream->batch;
}
