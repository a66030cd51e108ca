/*
 * Batches from a stream of rows, of which nothing is known before they come.
 *
 * Rows wait until there are as many as the buffer holds, and then a batch is taken.
 *
 *     packs     rows go through a pool (pool.h), which ends each pack by those that fill
 *               it
 *     padded    the waiting rows are sorted by cost. A random one of the oldest quarter
 *               is drawn, so that long rows (few to a batch) are drawn as often, batch
 *               for batch, as short ones; the batch is the full run of neighbours around
 *               it with the least padding. The oldest rows are those where no batch was
 *               taken for long, so rows are dense there: batches have less padding than
 *               windows of as many rows would give. A row that has waited while
 *               TB_DUE_PARTS buffers of rows came is due: the batch is taken around it,
 *               the oldest first.
 *     in order  without padding and with a cap on rows alone nothing has to be sorted.
 *
 * Under several limits, and with padding of two sides (source and target), packs and
 * padded batches are made by streaming_limits.h. Rows with two sides are sorted by their
 * place in the plane of both (pair_keys.h).
 *
 * At the end of the stream the sorted rows are cut into full batches, from the longest
 * row on, and handed out in the order of their oldest rows. That needs no state: the
 * rows that are left are cut as before.
 *
 * What is drawn depends on the waiting rows, the seed and the number of the batch alone,
 * so that a stream can be continued from the numbers of the rows that wait.
 */
#ifndef TB_STREAMING_H
#define TB_STREAMING_H

#include "core/plan/batch.h"
#include "core/plan/neighbours.h"
#include "core/plan/pool.h"
#include "core/plan/streaming_limits.h"

enum { TB_DUE_PARTS = 4, TB_OLD_PART = 4 };

typedef enum { TB_STREAM_PADDED, TB_STREAM_PACKS, TB_STREAM_IN_ORDER } tb_stream_kind;

/* A row that waits. */
typedef struct {
    uint64_t number; /* of the row in the stream: rising */
    int64_t
        cost; /* -1: it has been taken; under several limits, its share of a batch */
    int64_t weight;
    ptrdiff_t slot; /* under several limits */
} tb_waiting_row;

typedef struct {
    tb_batch_settings settings;
    tb_stream_kind kind;
    int has_sides;    /* rows have two lengths */
    int64_t sides[2]; /* longer ones count as this long */
    int is_limited;
    int64_t size;        /* of the buffer, in rows */
    int64_t most_weight; /* in the buffer; INT64_MAX: no cap */
    int64_t weight;
    tb_waiting_row *waiting; /* by age */
    ptrdiff_t count;
    ptrdiff_t reserved;
    tb_sorted_rows sorted; /* padded: the same rows */
    tb_pool pool;
    tb_stream_limits limits; /* packs under several limits: with a pool of its own */
    int is_pack;             /* the pool has made a pack */
    int is_taken;            /* and that was taken: the next one must begin */
    uint64_t *batch;         /* the numbers of the rows of a batch */
    ptrdiff_t batch_count;
    uint64_t next;        /* the number of the next row */
    uint64_t batches;     /* that were taken */
    uint64_t fingerprint; /* of the lengths so far */
    int64_t dropped;      /* rows that were left out */
    int64_t truncated;    /* rows longer than max_length */
} tb_streaming;

/* An empty stream. 1 <= size < UINT32_MAX, and size >= the batch size where that is a cap
 * alone. Costs of the limits come with the rows. sides: how long both lengths of a row
 * count at most, or NULL where it has one. The stream is the caller's to free, also after
 * an error. */
TB_MUST_CHECK tb_status tb_start_streaming(tb_streaming *stream,
                                           const tb_batch_settings *settings,
                                           const int64_t *sides, int64_t size,
                                           int64_t most_weight);

/* Adds a row, whose number is above those before. *is_kept: it waits, and was not left
 * out for its length or costs. Not while a batch is ready. error->column: the limit that
 * it breaks, or the side that is wrong. */
TB_MUST_CHECK tb_status tb_stream_row(tb_streaming *stream, const tb_streamed_row *row,
                                      int *is_kept, tb_error *error);

/* Where a row of a stream that is continued was when it was saved. */
typedef enum { TB_ROW_WAITS, TB_ROW_IN_PACK, TB_ROW_GONE } tb_row_place;

/* The same for a row of a stream that is continued: no batch becomes ready. The rows of
 * the pack that was begun are put into it, in its order, after all others. */
TB_MUST_CHECK tb_status tb_restore_row(tb_streaming *stream, const tb_streamed_row *row,
                                       tb_row_place place, tb_error *error);
TB_MUST_CHECK tb_status tb_restore_pack(tb_streaming *stream, const uint64_t *numbers,
                                        ptrdiff_t count, int is_chosen);

/* The numbers of the rows of the pack that was begun, until the next call, and whether
 * its rows are chosen. */
const uint64_t *tb_find_begun_pack(tb_streaming *stream, ptrdiff_t *count,
                                   int *is_chosen);

/* Of the waiting rows, the one with this number; NULL where there is none. */
tb_waiting_row *tb_find_waiting(const tb_streaming *stream, uint64_t number);

/* The numbers of the rows whose slots are stream->limits.items become the batch. */
void tb_name_items(tb_streaming *stream, ptrdiff_t count);

/* Begins the next pack, where the one before was taken. */
void tb_begin_stream_pack(tb_streaming *stream);

void tb_free_streaming(tb_streaming *stream);

#endif
