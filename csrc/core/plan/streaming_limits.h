/*
 * Rows of a stream under several limits: what those that wait cost, and which of them
 * share a batch.
 *
 * Each waiting row has a slot, and its costs lie there: limits.h and limit_pool.h take
 * slots for rows.
 *
 * A batch with padding has the row it is taken around, and of the sorted rows those from
 * some place downwards that fit beside it; it ends when it has left as many as it has
 * taken, as in limit_cut.h. Several places above the row are tried, and the batch with
 * the smallest part of padding is taken.
 */
#ifndef TB_STREAMING_LIMITS_H
#define TB_STREAMING_LIMITS_H

#include "core/plan/limit_pool.h"
#include "core/plan/neighbours.h"

/* A row of a stream, as it comes. */
typedef struct {
    uint64_t number; /* of the row in the stream: rising */
    int64_t length;
    int64_t other;        /* the length of the second side, where rows have two */
    const int64_t *costs; /* one for each limit of the settings */
    int64_t weight;       /* in the buffer */
} tb_streamed_row;

typedef struct {
    tb_limits all; /* the costs of slot s are all[k].costs[s] */
    int64_t
        *widths; /* of each slot: what it costs in tokens; of two sides, the first */
    int64_t *seconds; /* and the second; NULL where rows have one */
    int64_t *costs[TB_MOST_LIMITS];
    uint64_t *numbers; /* of the row in each slot */
    ptrdiff_t *unused; /* slots */
    ptrdiff_t unused_count;
    ptrdiff_t own; /* limits of the settings: the last ones */
    ptrdiff_t reserved;
    uint64_t *items;    /* slots, or ranks, of the rows of a batch, */
    uint64_t *scratch;  /* and of another that is tried */
    uint64_t *marks;    /* at the end: of ranks that are in a batch */
    tb_limit_pool pool; /* of packs */
    int has_pool;
    int64_t pool_size; /* pool.size may be lower for a while */
} tb_stream_limits;

/* Limits without rows. Of rows with two sides both are padded, or packs cost the sum.
 * size: rows that packs hold back. The caller's to free, also after an error. */
TB_MUST_CHECK tb_status tb_start_stream_limits(tb_stream_limits *limits,
                                               const tb_batch_settings *settings,
                                               int has_sides, int64_t size);

void tb_free_stream_limits(tb_stream_limits *limits);

/* Room for so many rows that wait; the pool never holds more than its size. */
TB_MUST_CHECK tb_status tb_reserve_slots(tb_stream_limits *limits, ptrdiff_t count);

/* Puts a row into a slot, of which there is one; widths are its own two. */
ptrdiff_t tb_fill_slot(tb_stream_limits *limits, const tb_streamed_row *row,
                       const int64_t *widths);

void tb_clear_slot(tb_stream_limits *limits, ptrdiff_t slot);

/* How much of a batch a row takes, by the limit of which that is most: 2**32 is all. */
int64_t tb_find_share(const tb_stream_limits *limits, ptrdiff_t slot);

/* Whether no row that costs anything can join. */
int tb_is_load_full(const tb_limits *limits, const tb_load *load);

/* Takes a batch with padding around a slot out of the sorted rows, whose numbers are
 * slots: limits->items has its slots. Returns how many. */
ptrdiff_t tb_take_limited(tb_stream_limits *limits, tb_sorted_rows *sorted,
                          ptrdiff_t slot);

/* The same at the end of the stream: of the batches that all rows are cut into, from the
 * last on, the one with the slot; but one that is not full comes last of all. */
ptrdiff_t tb_take_limited_end(tb_stream_limits *limits, tb_sorted_rows *sorted,
                              ptrdiff_t slot, int *is_full);

#endif
