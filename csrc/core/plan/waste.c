#include "core/plan/waste.h"

#include "core/base/size.h"
#include "core/plan/cost.h"
#include "core/plan/cut.h"
#include "core/plan/order.h"
#include "core/plan/survey.h"

#include <string.h>

void
tb_shuffle_lengths(int64_t *lengths, ptrdiff_t n, uint64_t seed, uint64_t epoch,
                   tb_random *random)
{
    tb_seed_random(random, seed, epoch);
    /* Not negative, so the same bits in either type. */
    tb_shuffle_words(random, (uint64_t *)lengths, (size_t)n);
}

tb_status
tb_plan_lengths(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
                const tb_random *random, uint64_t *items, tb_batch_plan *plan,
                tb_error *error)
{
    tb_batch_settings own = *settings;
    tb_length_summary summary;
    tb_random after;
    ptrdiff_t full = 0;
    tb_status status;

    memset(plan, 0, sizeof *plan);
    own.drop_overlong = 0;
    status = tb_summarize_lengths(lengths, n, &own, &summary, error);
    if (status != TB_OK || summary.rows == 0) {
        return status;
    }
    plan->items = items;
    plan->row_count = n;
    plan->longest = summary.longest;
    for (ptrdiff_t i = 0; i < n; i++) {
        items[i] = (uint64_t)(summary.longest - tb_min(lengths[i], own.max_length));
    }
    own.window = own.shuffle ? own.window : n;
    status = tb_cut_batches(plan, &own, &summary, &full);
    if (status == TB_OK && random != NULL) {
        after = *random;
        status = tb_order_batches(plan, full, &own, &after);
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        items[i] = (uint64_t)summary.longest - items[i];
    }
    return status;
}

ptrdiff_t
tb_cut_in_order(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
                int64_t *offsets)
{
    ptrdiff_t batches = 0, begin = 0;
    int64_t most = 0, total = 0, cost = 0;

    offsets[0] = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], settings->max_length);
        if (tb_find_row_cost(length, settings, &cost) != TB_OK) {
            cost = settings->max_tokens;
        }
        int64_t dearest = tb_max(cost, most), rows = i - begin;
        int is_over =
            rows == settings->batch_size ||
            (settings->padding_free ? cost > settings->max_tokens - total
                                    : dearest > settings->max_tokens / (rows + 1));
        if (rows > 0 && is_over) {
            offsets[++batches] = begin = i;
            total = 0;
            dearest = cost;
        }
        most = dearest;
        total += settings->max_tokens == INT64_MAX ? 0 : cost;
    }
    if (n > 0) {
        offsets[++batches] = n;
    }
    return batches;
}

tb_status
tb_measure_shapes(const int64_t *lengths, const int64_t *begins, const int64_t *ends,
                  ptrdiff_t batches, const tb_batch_settings *settings, int64_t *widths,
                  int64_t *tokens, tb_error *error)
{
    tb_batch_settings plain = *settings;
    tb_status status = TB_OK;

    plain.quadratic = 0;
    plain.padding_free = 1; /* the width that a collator gives empty rows: none */
    for (ptrdiff_t k = 0; k < batches && status == TB_OK; k++) {
        ptrdiff_t count = (ptrdiff_t)(ends[k] - begins[k]);
        int64_t longest = 0;
        uint64_t total = 0; /* wraps only where the longest is refused below */
        for (int64_t i = begins[k]; i < ends[k]; i++) {
            longest = tb_max(longest, lengths[i]);
            total += (uint64_t)lengths[i];
        }
        *error = (tb_error){k, -1, longest};
        if (count > 0 && longest > INT64_MAX / count) {
            status = TB_ERR_SIZE;
        }
        else if (settings->padding_free || count == 0) {
            widths[k] = (int64_t)total;
        }
        else {
            status = tb_find_row_cost(longest, &plain, &widths[k]);
        }
        tokens[k] = (int64_t)total;
    }
    return status;
}
