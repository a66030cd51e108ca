#include "core/plan/streaming_take.h"

#include "core/base/random.h"
#include "core/base/size.h"

#include <string.h>

enum { MOST_DRAWS = 64 };

/* --- padded batches --------------------------------------------------------------- */

/* One of the oldest, in proportion to its share of a batch. */
static const tb_waiting_row *
draw_share(const tb_streaming *stream, tb_random *random, ptrdiff_t old)
{
    const tb_waiting_row *waiting = stream->waiting;
    int64_t most = 1;

    for (ptrdiff_t i = 0; i < old; i++) {
        most = tb_max(most, stream->waiting[i].cost);
    }
    for (int draw = 0; draw < MOST_DRAWS; draw++) {
        waiting = stream->waiting + tb_random_below(random, (uint64_t)old);
        if (tb_random_below(random, (uint64_t)most) < (uint64_t)waiting->cost) {
            break;
        }
    }
    return waiting;
}

/* The row that the next batch is taken around. */
static const tb_waiting_row *
draw_row(const tb_streaming *stream)
{
    const tb_waiting_row *waiting = stream->waiting;
    ptrdiff_t old = stream->count / TB_OLD_PART > 0 ? stream->count / TB_OLD_PART : 1;
    tb_random random;

    if (stream->next - waiting->number > TB_DUE_PARTS * (uint64_t)stream->size) {
        return waiting;
    }
    tb_seed_random(&random, stream->settings.seed, stream->batches);
    if (stream->is_limited) {
        return draw_share(stream, &random, old);
    }
    ptrdiff_t least =
        tb_fit_run(&stream->sorted, stream->sorted.rows[stream->count - 1].cost);
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
        tb_waiting_row *row = tb_find_waiting(stream, stream->batch[i]);
        stream->weight -= row->weight;
        row->cost = -1;
        if (stream->is_limited) {
            tb_clear_slot(&stream->limits, row->slot);
        }
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
    if (stream->is_limited) {
        ptrdiff_t slot = is_end ? stream->waiting->slot : draw_row(stream)->slot;
        stream->batch_count =
            is_end
                ? tb_take_limited_end(&stream->limits, &stream->sorted, slot, &is_full)
                : tb_take_limited(&stream->limits, &stream->sorted, slot);
        tb_name_items(stream, stream->batch_count);
        return is_full;
    }
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
take_limited_pack(tb_streaming *stream)
{
    tb_limit_pool *pool = &stream->limits.pool;
    int is_last = 0;

    if (!stream->is_pack) {
        tb_begin_stream_pack(stream);
        (void)tb_drain_limit_pool(pool);
        is_last = pool->count == 0;
    }
    stream->batch_count = (ptrdiff_t)pool->load.rows;
    stream->is_pack = 0;
    stream->is_taken = 1;
    tb_name_items(stream, stream->batch_count);
    return !is_last || tb_is_load_full(&stream->limits.all, &pool->load);
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
                      : stream->kind != TB_STREAM_PACKS ? take_in_order(stream)
                      : stream->is_limited              ? take_limited_pack(stream)
                                                        : take_pack(stream);
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
