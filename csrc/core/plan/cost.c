#include "core/plan/cost.h"

#include "core/base/size.h"

static uint64_t
add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

tb_status
tb_find_row_cost(int64_t length, const tb_batch_settings *settings, int64_t *cost)
{
    int64_t width = 0, square = 0;

    if (settings->boundaries != NULL) {
        length =
            tb_find_boundary(settings->boundaries, settings->boundary_count, length);
        if (length < 0) {
            return TB_ERR_SIZE;
        }
    }
    if (length < 1 && !settings->padding_free) {
        length = 1;
    }
    if (tb_round_up(length, settings->multiple, &width) != TB_OK) {
        return TB_ERR_SIZE;
    }
    if (settings->quadratic > 0 && width > 0) {
        if (width > INT64_MAX / width) {
            return TB_ERR_SIZE;
        }
        square = width * width / settings->quadratic;
        if (square > INT64_MAX - width) {
            return TB_ERR_SIZE;
        }
    }
    *cost = width + square;
    return TB_OK;
}

void
tb_find_row_costs(const int64_t *lengths, ptrdiff_t n,
                  const tb_batch_settings *settings, int64_t *costs)
{
    int64_t most = n > 0 ? INT64_MAX / n : INT64_MAX;

    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], settings->max_length);
        tb_status status = tb_find_row_cost(length, settings, &costs[i]);
        costs[i] = status == TB_OK ? tb_min(costs[i], most) : most;
    }
}

/* Costs never fall with the length. */
int64_t
tb_find_longest_allowed(const tb_batch_settings *settings)
{
    int64_t allowed = -1, most = settings->max_tokens, cost = 0;

    while (allowed < most) {
        uint64_t apart = (uint64_t)most - (uint64_t)allowed;
        int64_t length = most - (int64_t)(apart / 2);
        if (tb_find_row_cost(length, settings, &cost) == TB_OK &&
            cost <= settings->max_tokens) {
            allowed = length;
        }
        else {
            most = length - 1;
        }
    }
    return allowed;
}

/* The longest row has a cost, so every row has one. */
int64_t
tb_fit_rows(int64_t length, const tb_batch_settings *settings)
{
    int64_t cost = 0, rows = settings->batch_size;

    if (settings->max_tokens != INT64_MAX &&
        tb_find_row_cost(length, settings, &cost) == TB_OK && cost > 0) {
        rows = tb_min(rows, settings->max_tokens / cost);
    }
    return tb_round_rows(rows, settings);
}

/* The same from the tokens of rows that lie in any order. */
static uint64_t
find_limited_cost(const tb_batch_plan *plan, const tb_batch_settings *settings,
                  ptrdiff_t begin, ptrdiff_t end)
{
    uint64_t mask = ((uint64_t)1 << plan->index_bits) - 1, total = 0;
    int64_t dearest = 0;

    for (ptrdiff_t i = begin; i < end; i++) {
        int64_t tokens = plan->limits.tokens[plan->items[i] & mask];
        total = add_saturated(total, (uint64_t)tokens);
        dearest = tb_max(dearest, tokens);
    }
    if (settings->padding_free) {
        return total;
    }
    return (uint64_t)dearest > UINT64_MAX / (uint64_t)(end - begin)
               ? UINT64_MAX
               : (uint64_t)dearest * (uint64_t)(end - begin);
}

/* With padding, all rows of a batch cost what its longest costs, and that comes first.
 */
uint64_t
tb_find_batch_cost(const tb_batch_plan *plan, const tb_batch_settings *settings,
                   ptrdiff_t batch)
{
    ptrdiff_t begin = plan->starts[batch], end = plan->starts[batch + 1];
    uint64_t total = 0;
    int64_t cost = 0, last = -1;

    if (plan->limits.tokens != NULL) {
        return find_limited_cost(plan, settings, begin, end);
    }
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
