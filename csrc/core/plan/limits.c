#include "core/plan/limits.h"

#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/plan/cost.h"

#include <string.h>

tb_status
tb_start_limits(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
                tb_limits *limits)
{
    int has_cap = settings->max_tokens != INT64_MAX;

    memset(limits, 0, sizeof *limits);
    limits->row_count = n;
    limits->max_rows = settings->batch_size;
    limits->tokens = (int64_t *)tb_allocate_array(n, sizeof *limits->tokens);
    limits->all = (tb_limit *)tb_allocate_array(settings->limit_count + has_cap,
                                                sizeof *limits->all);
    if (limits->tokens == NULL || limits->all == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], settings->max_length);
        if (tb_find_row_cost(length, settings, &limits->tokens[i]) != TB_OK) {
            limits->tokens[i] = INT64_MAX; /* of a row that is dropped */
        }
    }
    if (has_cap) {
        limits->all[limits->count++] = (tb_limit){
            limits->tokens, NULL, settings->max_tokens, !settings->padding_free};
    }
    for (ptrdiff_t k = 0; k < settings->limit_count; k++) {
        limits->all[limits->count++] = settings->limits[k];
    }
    return limits->count <= TB_MOST_LIMITS ? TB_OK : TB_ERR_SIZE;
}

void
tb_free_limits(tb_limits *limits)
{
    free(limits->all);
    free(limits->tokens);
    memset(limits, 0, sizeof *limits);
}

ptrdiff_t
tb_find_broken(const tb_limit *limits, ptrdiff_t count, ptrdiff_t row)
{
    for (ptrdiff_t k = 0; k < count; k++) {
        int64_t cost = limits[k].costs[row];
        if (cost > limits[k].cap || (limits[k].others != NULL &&
                                     limits[k].others[row] > limits[k].cap - cost)) {
            return k;
        }
    }
    return -1;
}

void
tb_weigh_limits(tb_batch_plan *plan)
{
    uint64_t mask = ((uint64_t)1 << plan->index_bits) - 1;
    tb_limits *limits = &plan->limits;

    for (ptrdiff_t k = 0; k < limits->count; k++) {
        const tb_limit *limit = &limits->all[k];
        double total = 0;
        for (ptrdiff_t i = 0; i < plan->row_count; i++) {
            total += (double)limit->costs[plan->items[i] & mask];
        }
        limits->parts[k] = limit->cap > 0 ? total / (double)limit->cap : 0;
        if (limits->parts[k] > limits->parts[limits->scarcest]) {
            limits->scarcest = k;
        }
    }
}

void
tb_empty_load(const tb_limits *limits, tb_load *load)
{
    load->rows = 0;
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        load->costs[k] = load->others[k] = 0;
    }
}

int
tb_fits_load(const tb_limits *limits, const tb_load *load, ptrdiff_t row)
{
    if (load->rows >= limits->max_rows) {
        return 0;
    }
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        const tb_limit *limit = &limits->all[k];
        int64_t cost = limit->costs[row];
        if (!limit->is_padded) {
            if (cost > limit->cap - load->costs[k]) {
                return 0;
            }
            continue;
        }
        int64_t most = limit->cap / (load->rows + 1);
        cost = tb_max(cost, load->costs[k]);
        if (cost > most) {
            return 0;
        }
        if (limit->others != NULL &&
            tb_max(limit->others[row], load->others[k]) > most - cost) {
            return 0;
        }
    }
    return 1;
}

void
tb_add_load(const tb_limits *limits, tb_load *load, ptrdiff_t row)
{
    load->rows++;
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        const tb_limit *limit = &limits->all[k];
        load->costs[k] = limit->is_padded ? tb_max(load->costs[k], limit->costs[row])
                                          : load->costs[k] + limit->costs[row];
        if (limit->others != NULL) {
            load->others[k] = tb_max(load->others[k], limit->others[row]);
        }
    }
}
