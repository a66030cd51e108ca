/* Step 5 of a plan: the order of its batches. */
#include "batching.h"

#include "memory.h"
#include "sort.h"

static uint64_t
add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* With padding, all rows of a batch cost what its longest costs, and that comes first.
 */
static uint64_t
find_batch_cost(const tb_batch_plan *plan, const tb_batch_settings *settings,
                ptrdiff_t batch)
{
    ptrdiff_t begin = plan->starts[batch], end = plan->starts[batch + 1];
    uint64_t total = 0;
    int64_t cost = 0, last = -1;

    if (!settings->padding_free) {
        uint64_t rows = (uint64_t)(end - begin);
        if (tb_find_row_cost(tb_item_length(plan, begin), settings, &cost) != TB_OK ||
            (uint64_t)cost > UINT64_MAX / rows) {
            return UINT64_MAX;
        }
        return (uint64_t)cost * rows;
    }
    for (ptrdiff_t i = begin; i < end; i++) {
        int64_t length = tb_item_length(plan, i);
        if (length != last && tb_find_row_cost(length, settings, &cost) != TB_OK) {
            return UINT64_MAX;
        }
        last = length;
        total = add_saturated(total, (uint64_t)cost);
    }
    return total;
}

/* Numbers of the full batches, the most expensive first; as cut where two cost the
 * same. The key is what a batch costs less than the most expensive one, without its low
 * bits where it and the number would not fit into 64. */
static tb_status
sort_by_cost(const tb_batch_plan *plan, ptrdiff_t full,
             const tb_batch_settings *settings, uint64_t *order)
{
    uint64_t *costs = (uint64_t *)tb_allocate_array(full, sizeof *costs);
    uint64_t most = 0, least = UINT64_MAX;
    int number_bits = tb_count_bits((uint64_t)full - 1), shift = 0;

    if (costs == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < full; k++) {
        costs[k] = find_batch_cost(plan, settings, k);
        most = costs[k] > most ? costs[k] : most;
        least = costs[k] < least ? costs[k] : least;
    }
    while (tb_count_bits((most - least) >> shift) + number_bits > 64) {
        shift++;
    }
    for (ptrdiff_t k = 0; k < full; k++) {
        /* With one batch there are no number bits; its key is then 0 and fills none. */
        order[k] = (most - costs[k]) >> shift << number_bits | (uint64_t)k;
    }
    tb_sort_items(order, full,
                  tb_lay_out_sort((most - least) >> shift, full, number_bits), costs);
    for (ptrdiff_t k = 0; k < full; k++) {
        order[k] &= ((uint64_t)1 << number_bits) - 1;
    }
    free(costs);
    return TB_OK;
}

/* Draws the order of runs. One of them is short where the batches do not fill all; it
 * comes last, so that the others stay at multiples of their size. */
static void
shuffle_runs(uint64_t *runs, ptrdiff_t count, int is_one_short, int is_first_fixed,
             tb_random *random)
{
    ptrdiff_t whole = count - is_one_short;

    for (ptrdiff_t k = 0; k < count; k++) {
        runs[k] = (uint64_t)k;
    }
    if (is_one_short) {
        uint64_t free_runs = (uint64_t)(count - (is_first_fixed && count > 1));
        uint64_t from = (uint64_t)count - free_runs;
        uint64_t chosen = from + tb_random_below(random, free_runs);
        for (ptrdiff_t k = (ptrdiff_t)chosen; k < whole; k++) {
            runs[k] = (uint64_t)k + 1;
        }
        runs[whole] = chosen;
    }
    tb_shuffle_words(random, runs, (size_t)whole);
    for (ptrdiff_t k = 0; k < whole && is_first_fixed; k++) {
        if (runs[k] == 0) {
            tb_swap_words(runs, 0, (size_t)k);
        }
    }
}

/* Puts the batches of `sorted` into `order`, run by run. The short run, runs[count -
 * 1], has fewer than `size`, and those behind it in `sorted` begin earlier by that. */
static void
lay_out_runs(const uint64_t *sorted, ptrdiff_t full, ptrdiff_t size,
             const uint64_t *runs, ptrdiff_t count, uint64_t *order)
{
    ptrdiff_t lacking = count * size - full, place = 0;
    ptrdiff_t short_run = lacking > 0 ? (ptrdiff_t)runs[count - 1] : count;

    for (ptrdiff_t k = 0; k < count; k++) {
        ptrdiff_t run = (ptrdiff_t)runs[k];
        ptrdiff_t begin = run * size - (run > short_run ? lacking : 0);
        ptrdiff_t rows = run == short_run ? size - lacking : size;
        for (ptrdiff_t i = 0; i < rows; i++) {
            order[place++] = sorted[begin + i];
        }
    }
}

static tb_status
order_by_runs(tb_batch_plan *plan, ptrdiff_t full, const tb_batch_settings *settings,
              tb_random *random)
{
    ptrdiff_t size = settings->balance < full ? (ptrdiff_t)settings->balance : full;
    ptrdiff_t count = full / size + (full % size != 0);
    uint64_t *sorted = (uint64_t *)tb_allocate_array(full, sizeof *sorted);
    uint64_t *runs = (uint64_t *)tb_allocate_array(count, sizeof *runs);
    tb_status status = TB_ERR_MEMORY;

    if (sorted != NULL && runs != NULL) {
        status = sort_by_cost(plan, full, settings, sorted);
    }
    if (status == TB_OK) {
        shuffle_runs(runs, count, full % size != 0, settings->longest_first, random);
        lay_out_runs(sorted, full, size, runs, count, plan->order);
    }
    free(sorted);
    free(runs);
    return status;
}

tb_status
tb_order_batches(tb_batch_plan *plan, ptrdiff_t full, const tb_batch_settings *settings,
                 tb_random *random)
{
    plan->order = (uint64_t *)tb_allocate_array(plan->batch_count, sizeof *plan->order);
    if (plan->order == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < plan->batch_count; k++) {
        plan->order[k] = (uint64_t)k;
    }
    if (!settings->shuffle || full == 0) {
        return TB_OK;
    }
    if (settings->balance > 1 || settings->longest_first) {
        return order_by_runs(plan, full, settings, random);
    }
    tb_shuffle_words(random, plan->order, (size_t)full);
    return TB_OK;
}
