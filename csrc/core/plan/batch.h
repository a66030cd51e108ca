/*
 * Which rows share a batch, from their lengths alone: what a planner is asked for, and
 * what it makes.
 *
 *     1. Rows are shuffled, or stay in the order of their index.
 *     2. Window by window they are sorted, longest first. Rows of equal length keep the
 *        order of step 1.
 *     3. Each window is cut, from its longest row on, into full batches: one more row
 *        as long as the batch's longest would not fit. The rows that are left of a
 *        window (less than one batch) join the next window before that is sorted.
 *     4. The rows that are left of the last window make the one batch that is not full.
 *     5. The full batches are sorted by cost and divided into runs, so that the ranks of
 *        a step have similar work. The runs are shuffled, and the batches in them. For
 *        one rank there are no runs: all orders are equally likely. The batch that is
 *        not full comes last. With longest_first, the most expensive batch for each
 *        rank is taken out before, and comes first.
 *
 * Without padding and with a cap on tokens, steps 2 to 4 are others. Rows go through a
 * pool (pool.h), and the last pack is the one that is not full. Or, without a pool,
 * windows are packed by best fit instead of being cut (packing.h), and the rows of the
 * emptiest pack join the next window.
 *
 * With a cap on rows alone and drop_last, the rows beyond the last full batch are left
 * out after step 1, so that chance and not length decides which they are. Without
 * padding and with a cap on rows alone, shuffled rows need no sorting.
 *
 * Under limits beside the tokens (limits.h), step 3 is another (limit_cut.h), and so are
 * the pool (limit_pool.h) and the packs of a window (first_fit.h).
 *
 *     cost       what a row, a batch costs
 *     survey     the lengths, checked
 *     cut        steps 2 to 4
 *     packing    packs of a window
 *     pool       packs of rows that come one by one
 *     fit_tree   both find what fits
 *     order      step 5
 *     batching   all of it
 *     labels     groups of rows, numbered
 *     groups     all of it, for each group apart
 *
 * Of a stream, whose lengths are not known before, batches are made otherwise:
 *
 *     streaming  rows that wait; _take: which of them are the next batch, _limits: the same
 *                under several limits
 *     neighbours the sorted ones, and runs of them
 */
#ifndef TB_BATCH_H
#define TB_BATCH_H

#include <stddef.h>
#include <stdint.h>

/* A hard cap beside the tokens. Costs are at least 0, one of each row; a row that alone
 * costs more than the cap breaks it. */
typedef struct {
    const int64_t *costs;
    const int64_t *others; /* a second width that is padded beside the first; or NULL */
    int64_t cap;
    int is_padded; /* a batch costs its rows times the largest, else the sum */
} tb_limit;

enum { TB_MOST_LIMITS = 32 };

/* All numbers but quadratic are at least 1; INT64_MAX is no cap. */
typedef struct {
    int64_t batch_size;        /* rows in a batch */
    int64_t max_tokens;        /* the most that a batch may cost */
    int64_t max_length;        /* longer rows count as this long */
    int64_t multiple;          /* the width is rounded up to it */
    const int64_t *boundaries; /* ascending: the widths there are; NULL: all */
    ptrdiff_t boundary_count;
    int64_t rows_multiple; /* with padding: of the rows of a batch; 0 or 1: any */
    int64_t quadratic;     /* a width w costs w + w * w / quadratic; 0: w */
    int64_t window;        /* rows sorted together; without shuffle it is all rows */
    int64_t pool;          /* rows held back to fill packs; 0: windows are packed */
    int64_t balance;       /* batches in a run of similar cost; 0: as many as ranks */
    int64_t ranks;         /* that share the batches of a step */
    int padding_free;      /* rows lie one after another, each of its own width */
    int shuffle;
    int longest_first; /* the most expensive batches come first, full or not */
    int drop_last;
    int drop_overlong; /* rows that alone cost more than max_tokens */
    int drop_broken;   /* rows that alone break one of the limits */
    const tb_limit *limits;
    ptrdiff_t limit_count;
    int64_t most_packs; /* a first fit of more makes no plan at all; 0: any number */
    const int64_t
        *keys; /* rows are sorted by these instead of their lengths; or NULL */
    uint64_t seed;
    uint64_t epoch;
} tb_batch_settings;

/* What a plan under limits goes by. */
typedef struct {
    tb_limit *all; /* the cap on tokens, if there is one, and those of the settings */
    ptrdiff_t count;
    ptrdiff_t row_count; /* with those that are dropped */
    int64_t max_rows;
    int64_t *tokens; /* what each row costs alone; NULL: the lengths say it */
    double parts[TB_MOST_LIMITS + 1]; /* of its cap that all rows together need */
    ptrdiff_t scarcest;               /* where that is most */
} tb_limits;

/* Batch k of the epoch is number order[k] in the order of cutting. Batch number b holds
 * the items from starts[b] up to starts[b + 1]. An item is a row: its index in the low
 * index_bits, and above them how much shorter it is than the longest row. */
typedef struct {
    uint64_t *items;
    ptrdiff_t *starts;
    uint64_t *order;
    ptrdiff_t batch_count;
    ptrdiff_t row_count; /* without the rows that are left out */
    int index_bits;
    int64_t longest; /* with keys, the largest of these */
    tb_limits limits;
} tb_batch_plan;

/* The length, once clipped, of the row that is item i. */
static inline int64_t
tb_item_length(const tb_batch_plan *plan, ptrdiff_t i)
{
    return plan->longest - (int64_t)(plan->items[i] >> plan->index_bits);
}

#endif
