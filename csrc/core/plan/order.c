#include "core/plan/order.h"

#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/base/sort.h"
#include "core/plan/cost.h"

#include <string.h>

/* Sorts the numbers of n batches, which ascend, the most expensive first; batches of
 * equal cost stay in the order of cutting. The key is how much cheaper a batch is than
 * the most expensive one, without its low bits where key and place do not fit into 64.
 */
static tb_status
sort_by_cost(const tb_batch_plan *plan, const tb_batch_settings *settings,
             uint64_t *batches, ptrdiff_t n)
{
    uint64_t *costs = (uint64_t *)tb_allocate_array(n, sizeof *costs);
    uint64_t *order = (uint64_t *)tb_allocate_array(n, sizeof *order);
    uint64_t most = 0, least = UINT64_MAX;
    int place_bits = tb_count_bits((uint64_t)n - 1), shift = 0;

    if (costs == NULL || order == NULL) {
        free(costs);
        free(order);
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < n; k++) {
        costs[k] = tb_find_batch_cost(plan, settings, (ptrdiff_t)batches[k]);
        most = costs[k] > most ? costs[k] : most;
        least = costs[k] < least ? costs[k] : least;
    }
    while (tb_count_bits((most - least) >> shift) + place_bits > 64) {
        shift++;
    }
    for (ptrdiff_t k = 0; k < n; k++) {
        /* With one batch there are no place bits; its key is then 0 and fills none. */
        order[k] = (most - costs[k]) >> shift << place_bits | (uint64_t)k;
    }
    tb_sort_items(order, n, tb_lay_out_sort((most - least) >> shift, n, place_bits),
                  costs);
    for (ptrdiff_t k = 0; k < n; k++) {
        costs[k] = batches[order[k] & (((uint64_t)1 << place_bits) - 1)];
    }
    memcpy(batches, costs, (size_t)n * sizeof *batches);
    free(costs);
    free(order);
    return TB_OK;
}

/* Moves the most expensive batches, one for each rank, to the front, the most expensive
 * one first; the others keep their order. So each rank's first batch is its most
 * expensive one, and the batch that is not full may be among them. Afterwards *first is
 * how many were moved, *full how many of the others are full. */
static tb_status
move_dearest(tb_batch_plan *plan, const tb_batch_settings *settings, ptrdiff_t *first,
             ptrdiff_t *full)
{
    ptrdiff_t n = plan->batch_count, place, were_full = *full;
    uint64_t *sorted = (uint64_t *)tb_allocate_array(n, sizeof *sorted);
    unsigned char *is_moved = (unsigned char *)tb_allocate_array(n, 1);
    tb_status status = TB_ERR_MEMORY;

    if (sorted != NULL && is_moved != NULL) {
        memcpy(sorted, plan->order, (size_t)n * sizeof *sorted);
        memset(is_moved, 0, (size_t)n);
        status = sort_by_cost(plan, settings, sorted, n);
    }
    if (status == TB_OK) {
        *first = settings->ranks < n ? (ptrdiff_t)settings->ranks : n;
        for (ptrdiff_t k = 0; k < *first; k++) {
            plan->order[k] = sorted[k];
            is_moved[sorted[k]] = 1;
            *full -= (ptrdiff_t)sorted[k] < were_full;
        }
        place = *first;
        for (ptrdiff_t k = 0; k < n; k++) {
            if (!is_moved[k]) {
                plan->order[place++] = (uint64_t)k;
            }
        }
    }
    free(sorted);
    free(is_moved);
    return status;
}

/* Shuffles runs of `size` neighbours. If n is not a multiple of the size, one run,
 * drawn too, is short. It comes last, so that all others begin at multiples of their
 * size. copy: room for n words; runs: room for the number of runs. */
static void
shuffle_runs(uint64_t *words, ptrdiff_t n, ptrdiff_t size, tb_random *random,
             uint64_t *copy, uint64_t *runs)
{
    ptrdiff_t count = (ptrdiff_t)tb_divide_up(n, size), whole = n / size, place = 0;
    ptrdiff_t short_run = count, lacking = count * size - n;

    for (ptrdiff_t k = 0; k < count; k++) {
        runs[k] = (uint64_t)k;
    }
    if (lacking > 0) {
        short_run = (ptrdiff_t)tb_random_below(random, (uint64_t)count);
        for (ptrdiff_t k = short_run; k < whole; k++) {
            runs[k] = (uint64_t)k + 1;
        }
        runs[whole] = (uint64_t)short_run;
    }
    tb_shuffle_words(random, runs, (size_t)whole);
    memcpy(copy, words, (size_t)n * sizeof *words);
    for (ptrdiff_t k = 0; k < count; k++) {
        ptrdiff_t run = (ptrdiff_t)runs[k];
        ptrdiff_t begin = run * size - (run > short_run ? lacking : 0);
        ptrdiff_t length = run == short_run ? size - lacking : size;
        memcpy(words + place, copy + begin, (size_t)length * sizeof *words);
        place += length;
    }
}

/* Orders n full batches, whose numbers ascend: in runs of `size` of similar cost. */
static tb_status
order_by_runs(const tb_batch_plan *plan, const tb_batch_settings *settings,
              ptrdiff_t size, uint64_t *batches, ptrdiff_t n, tb_random *random)
{
    uint64_t *copy = (uint64_t *)tb_allocate_array(n, sizeof *copy);
    uint64_t *runs = (uint64_t *)tb_allocate_array(n / size + 1, sizeof *runs);
    tb_status status = TB_ERR_MEMORY;

    if (copy != NULL && runs != NULL) {
        status = sort_by_cost(plan, settings, batches, n);
    }
    if (status == TB_OK) {
        shuffle_runs(batches, n, size, random, copy, runs);
        for (ptrdiff_t begin = 0; begin < n; begin += size) {
            ptrdiff_t length = n - begin < size ? n - begin : size;
            tb_shuffle_words(random, batches + begin, (size_t)length);
        }
    }
    free(copy);
    free(runs);
    return status;
}

/* Orders n batches, whose numbers ascend: in runs for the ranks of a step, or at random.
 */
static tb_status
order_similar(const tb_batch_plan *plan, const tb_batch_settings *settings,
              uint64_t *batches, ptrdiff_t n, tb_random *random)
{
    int64_t size = settings->balance > 0 ? settings->balance : settings->ranks;

    if (n > 1 && size > 1) {
        return order_by_runs(plan, settings, (ptrdiff_t)tb_min(size, n), batches, n,
                             random);
    }
    tb_shuffle_words(random, batches, (size_t)n);
    return TB_OK;
}

tb_status
tb_order_batches(tb_batch_plan *plan, ptrdiff_t full, const tb_batch_settings *settings,
                 tb_random *random)
{
    tb_status status = TB_OK;
    ptrdiff_t first = 0;

    plan->order = (uint64_t *)tb_allocate_array(plan->batch_count, sizeof *plan->order);
    if (plan->order == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < plan->batch_count; k++) {
        plan->order[k] = (uint64_t)k;
    }
    if (settings->longest_first && plan->batch_count > 0) {
        status = move_dearest(plan, settings, &first, &full);
    }
    if (status != TB_OK || !settings->shuffle) {
        return status;
    }
    status = order_similar(plan, settings, plan->order + first, full, random);
    if (status == TB_OK) {
        /* Of a plan by groups several are not full. */
        ptrdiff_t begin = first + full;
        status = order_similar(plan, settings, plan->order + begin,
                               plan->batch_count - begin, random);
    }
    return status;
}
