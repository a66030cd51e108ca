/*
 * Which rows share a batch, from their lengths alone.
 *
 *     1. rows are shuffled, or stay in order of index;
 *     2. window by window they are sorted, longest first, ties in the order of step 1;
 *     3. each window is cut, from its longest row on, into batches that are full: that
 *        could not take one more row as long as their longest. What is left of a
 * window, less than one batch, joins the next one before that is sorted;
 *     4. what is left of the last window is the one batch that is not full;
 *     5. the full batches are shuffled; the one that is not full comes last.
 *
 * With a cap on rows alone and drop_last, the rows beyond the last full batch go after
 * step 1, so that it is chance and not length that decides which.
 */
#ifndef TB_BATCHING_H
#define TB_BATCHING_H

#include "macros.h"
#include "status.h"

/* All numbers are at least 1; INT64_MAX is no cap. */
typedef struct {
    int64_t batch_size; /* rows in a batch */
    int64_t max_tokens; /* rows times width in a batch */
    int64_t max_length; /* longer rows count as this long */
    int64_t multiple;   /* the width is rounded up to it */
    int64_t window;     /* rows sorted together; without shuffle it is all rows */
    int shuffle;
    int drop_last;
    uint64_t seed;
    uint64_t epoch;
} tb_batch_settings;

/* Of lengths once clipped to max_length; 0 where there are no rows. */
typedef struct {
    int64_t shortest;
    int64_t longest;
    int64_t total; /* INT64_MAX where the sum might not fit */
} tb_length_summary;

/* Batch k of the epoch is number order[k] in the order of cutting, and number b holds
 * the items from starts[b] up to starts[b + 1]. An item is a row's index in the low
 * index_bits and above them what it lacks to the longest row. */
typedef struct {
    uint64_t *items;
    ptrdiff_t *starts;
    uint64_t *order;
    ptrdiff_t batch_count;
    ptrdiff_t row_count; /* without the rows that drop_last leaves out */
    int index_bits;
} tb_batch_plan;

/* A negative length is TB_ERR_NEGATIVE, a row that alone is wider than max_tokens
 * TB_ERR_TOO_LONG, and one that leaves no room in 64 bits for its index, or whose width
 * overflows, TB_ERR_SIZE. error: the row, its length as given. */
TB_MUST_CHECK tb_status tb_summarize_lengths(const int64_t *lengths, ptrdiff_t n,
                                             const tb_batch_settings *settings,
                                             tb_length_summary *summary,
                                             tb_error *error);

/* Plans one epoch. The plan is the caller's to free, also after an error. */
TB_MUST_CHECK tb_status tb_plan_batches(const int64_t *lengths, ptrdiff_t n,
                                        const tb_batch_settings *settings,
                                        tb_batch_plan *plan, tb_error *error);

/* The epoch as it is run through: row_count indices, and where in them each batch
 * starts, batch_count + 1 offsets. */
void tb_write_batches(const tb_batch_plan *plan, int64_t *indices, int64_t *offsets);

void tb_free_batches(tb_batch_plan *plan);

#endif
