#include "core/plan/batching.h"

#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/base/size.h"
#include "core/base/sort.h"
#include "core/plan/cost.h"
#include "core/plan/cut.h"
#include "core/plan/limit_cut.h"
#include "core/plan/limits.h"
#include "core/plan/order.h"
#include "core/plan/survey.h"

#include <string.h>

enum { AHEAD = 8 }; /* batches */

/* The same for rows that may break a limit, or are sorted by other keys. */
static void
number_limited(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
               tb_batch_plan *plan)
{
    int64_t limit = tb_find_drop_limit(settings), largest = plan->longest;
    uint64_t *items = plan->items;

    if (settings->keys != NULL) {
        largest = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            largest = tb_max(largest, settings->keys[i]);
        }
        plan->longest = largest;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], settings->max_length);
        int64_t key = settings->keys != NULL ? settings->keys[i] : length;
        int is_broken = settings->drop_broken &&
                        tb_find_broken(settings->limits, settings->limit_count, i) >= 0;
        if (length <= limit && !is_broken) {
            *items++ = (uint64_t)(largest - key) << plan->index_bits | (uint64_t)i;
        }
    }
}

/* The items of the rows that are kept, in the order of their index. Lengths may lie in a
 * file that another process changes meanwhile: whatever they are now, items stay within
 * the summary. */
static void
number_items(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
             const tb_length_summary *summary, tb_batch_plan *plan)
{
    int64_t limit = tb_find_drop_limit(settings);
    int64_t most = settings->max_length;
    int64_t longest = summary->longest, shortest = summary->shortest;
    uint64_t *items = plan->items, *end = items + summary->rows;
    int index_bits = plan->index_bits; /* 0 with one row, whose key is 0 then */

    if (plan->limits.tokens != NULL) {
        number_limited(lengths, n, settings, plan);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], most);
        if (length <= limit && items < end) {
            length = tb_min(tb_max(length, shortest), longest);
            *items++ = (uint64_t)(longest - length) << index_bits | (uint64_t)i;
        }
    }
    plan->row_count = items - plan->items;
}

tb_status
tb_plan_batches(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
                tb_batch_plan *plan, tb_error *error)
{
    tb_batch_settings own = *settings;
    tb_length_summary summary;
    tb_random random;
    tb_status status;
    ptrdiff_t full = 0;

    memset(plan, 0, sizeof *plan);
    status = tb_summarize_lengths(lengths, n, settings, &summary, error);
    if (status != TB_OK || summary.rows == 0) {
        return status;
    }
    plan->items = (uint64_t *)tb_allocate_at_random(summary.rows, sizeof *plan->items);
    if (plan->items == NULL) {
        return TB_ERR_MEMORY;
    }
    if (tb_is_limited(settings)) {
        status = tb_start_limits(lengths, n, settings, &plan->limits);
        if (status != TB_OK) {
            return status;
        }
    }
    plan->row_count = summary.rows;
    plan->longest = summary.longest;
    plan->index_bits = tb_count_bits((uint64_t)n - 1);
    number_items(lengths, n, settings, &summary, plan);
    if (plan->row_count == 0) {
        return TB_OK;
    }
    if (tb_is_limited(settings)) {
        tb_weigh_limits(plan);
    }
    tb_seed_random(&random, own.seed, own.epoch);
    if (own.shuffle) {
        tb_shuffle_words(&random, plan->items, (size_t)plan->row_count);
        if (own.drop_last && own.max_tokens == INT64_MAX && own.limit_count == 0) {
            plan->row_count -=
                (ptrdiff_t)(plan->row_count % tb_round_rows(own.batch_size, &own));
        }
        if (plan->row_count == 0) {
            return TB_OK;
        }
    }
    else {
        own.window = n;
    }
    status = tb_is_limited(settings) ? tb_cut_limited(plan, &own, &full)
                                     : tb_cut_batches(plan, &own, &summary, &full);
    return status == TB_OK ? tb_order_batches(plan, full, &own, &random) : status;
}

void
tb_write_batches(const tb_batch_plan *plan, int64_t *indices, int64_t *offsets)
{
    uint64_t mask = ((uint64_t)1 << plan->index_bits) - 1;
    int64_t written = 0;

    offsets[0] = 0;
    for (ptrdiff_t k = 0; k < plan->batch_count; k++) {
        uint64_t batch = plan->order[k];
        ptrdiff_t end = plan->starts[batch + 1];
        /* Batches lie anywhere: those that follow are fetched while this one is read. */
        if (plan->batch_count - k > 2 * AHEAD) {
            TB_PREFETCH(plan->starts + plan->order[k + 2 * AHEAD]);
            TB_PREFETCH(plan->items + plan->starts[plan->order[k + AHEAD]]);
        }
        for (ptrdiff_t i = plan->starts[batch]; i < end; i++) {
            indices[written++] = (int64_t)(plan->items[i] & mask);
        }
        offsets[k + 1] = written;
    }
}

void
tb_free_batches(tb_batch_plan *plan)
{
    free(plan->items);
    free(plan->starts);
    free(plan->order);
    tb_free_limits(&plan->limits);
    memset(plan, 0, sizeof *plan);
}
