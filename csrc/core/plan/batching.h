/*
 * Which rows share a batch, from their lengths alone.
 *
 *     1. rows are shuffled, or stay in order of index;
 *     2. window by window they are sorted, longest first, ties in the order of step 1;
 *     3. each window is cut, from its longest row on, into batches that are full: that
 *        could not take one more row as long as their longest. Or, without padding and
 *        with a cap on tokens, it is packed. What is left of a window (less than one
 *        batch; or the emptiest pack) joins the next one before that is sorted;
 *     4. what is left of the last window is the one batch that is not full;
 *     5. the full batches are put into runs of like cost, these into shorter ones, and
 *        the runs are shuffled, and the batches in them; the batch that is not full
 *        comes last.
 *
 * With a cap on rows alone and drop_last, the rows beyond the last full batch go after
 * step 1, so that it is chance and not length that decides which. Without padding and
 * with a cap on rows alone, shuffled rows need no sorting.
 */
#ifndef TB_BATCHING_H
#define TB_BATCHING_H

#include "core/base/macros.h"
#include "core/base/random.h"
#include "core/base/status.h"

/* All numbers but quadratic are at least 1; INT64_MAX is no cap. */
typedef struct {
    int64_t batch_size; /* rows in a batch */
    int64_t
        max_tokens; /* cost of a batch: rows times that of its width, or their sum */
    int64_t max_length;        /* longer rows count as this long */
    int64_t multiple;          /* the width is rounded up to it */
    const int64_t *boundaries; /* ascending: the widths there are; NULL: all */
    ptrdiff_t boundary_count;
    int64_t quadratic; /* a width w costs w + w * w / quadratic; 0: w */
    int64_t window;    /* rows sorted together; without shuffle it is all rows */
    int64_t balance;   /* batches in a run of like cost */
    int padding_free;  /* rows lie one after another, each of its own width */
    int shuffle;
    int longest_first; /* the full batch of the highest cost comes first */
    int drop_last;
    int drop_overlong; /* rows that alone cost more than max_tokens */
    uint64_t seed;
    uint64_t epoch;
} tb_batch_settings;

/* Of lengths once clipped to max_length, without those that are dropped. */
typedef struct {
    ptrdiff_t rows;
    int64_t shortest; /* 0 where there are no rows */
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
    ptrdiff_t row_count; /* without the rows that are left out */
    int index_bits;
    int64_t longest;
} tb_batch_plan;

/* What a row costs alone: its length up to a boundary and rounded up (with padding, an
 * empty row counts as one of length 1: without that, no cap on tokens would ever end a
 * batch), and what is quadratic. TB_ERR_SIZE where that is beyond int64 or the last
 * boundary. */
TB_MUST_CHECK tb_status tb_find_row_cost(int64_t length,
                                         const tb_batch_settings *settings,
                                         int64_t *cost);

/* The longest row that max_tokens and the boundaries allow; -1 where none is. */
int64_t tb_find_longest_allowed(const tb_batch_settings *settings);

/* A negative length is TB_ERR_NEGATIVE, a row that alone costs more than max_tokens
 * TB_ERR_TOO_LONG unless those are dropped, and one that leaves no room in 64 bits for
 * its index, or whose cost overflows, TB_ERR_SIZE. error: the row, its length as given.
 */
TB_MUST_CHECK tb_status tb_summarize_lengths(const int64_t *lengths, ptrdiff_t n,
                                             const tb_batch_settings *settings,
                                             tb_length_summary *summary,
                                             tb_error *error);

/* 63 bits, for stores that know int64 alone, that tell lists of lengths apart. */
uint64_t tb_fingerprint_lengths(const int64_t *lengths, ptrdiff_t n);

/* Plans one epoch. The plan is the caller's to free, also after an error. */
TB_MUST_CHECK tb_status tb_plan_batches(const int64_t *lengths, ptrdiff_t n,
                                        const tb_batch_settings *settings,
                                        tb_batch_plan *plan, tb_error *error);

/* Step 5, for batches that are cut, `full` of them full. Fills plan->order. */
TB_MUST_CHECK tb_status tb_order_batches(tb_batch_plan *plan, ptrdiff_t full,
                                         const tb_batch_settings *settings,
                                         tb_random *random);

/* The epoch as it is run through: row_count indices, and where in them each batch
 * starts, batch_count + 1 offsets. */
void tb_write_batches(const tb_batch_plan *plan, int64_t *indices, int64_t *offsets);

void tb_free_batches(tb_batch_plan *plan);

/* The length, once clipped, of the row that is item i. */
static inline int64_t
tb_item_length(const tb_batch_plan *plan, ptrdiff_t i)
{
    return plan->longest - (int64_t)(plan->items[i] >> plan->index_bits);
}

#endif
