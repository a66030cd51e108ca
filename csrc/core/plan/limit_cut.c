#include "core/plan/limit_cut.h"

#include "core/base/memory.h"
#include "core/base/sort.h"
#include "core/plan/cost.h"
#include "core/plan/first_fit.h"
#include "core/plan/limit_pool.h"
#include "core/plan/limits.h"

#include <string.h>

enum {
    LEAST_LEFT = 16, /* rows that a batch leaves before it ends */
    ROWS_AHEAD = 16  /* whose costs are fetched while others are looked at */
};

/* Rows of a window: from `cut` on they are in no batch, up to `sorted` they are sorted. */
typedef struct {
    ptrdiff_t cut;
    ptrdiff_t sorted;
    uint64_t mask;     /* of the row in an item */
    uint64_t *scratch; /* room for all rows */
    tb_first_fit fit;
} window_rows;

static ptrdiff_t
row_of(const window_rows *rows, uint64_t item)
{
    return (ptrdiff_t)(item & rows->mask);
}

/* The costs of rows in a random order lie anywhere. */
static void
fetch_costs(const tb_batch_plan *plan, ptrdiff_t i)
{
    uint64_t mask = ((uint64_t)1 << plan->index_bits) - 1;
    ptrdiff_t ahead = i + ROWS_AHEAD;
    ptrdiff_t row = (ptrdiff_t)(plan->items[tb_min(ahead, plan->row_count - 1)] & mask);

    for (ptrdiff_t k = 0; k < plan->limits.count; k++) {
        TB_PREFETCH(plan->limits.all[k].costs + row);
    }
}

/* Step 2, as in cut.c: at least as many rows as were left. */
static void
take_window(const tb_batch_plan *plan, int64_t window, window_rows *rows)
{
    ptrdiff_t left = rows->sorted - rows->cut, rest = plan->row_count - rows->sorted;

    rows->sorted += (ptrdiff_t)tb_min(tb_max(window, left), rest);
}

/* Moves the rows of the next batch to the front, those that do not fit behind them, in
 * their order. *is_open: whether the batch took all rows and could take more. */
static ptrdiff_t
fill_batch(const tb_batch_plan *plan, const tb_batch_settings *settings,
           window_rows *rows, int *is_open)
{
    uint64_t *items = plan->items + rows->cut;
    ptrdiff_t n = rows->sorted - rows->cut, taken = 0, left = 0, i;
    int64_t most = tb_round_rows(settings->batch_size, settings);
    tb_load load;

    tb_empty_load(&plan->limits, &load);
    for (i = 0; i < n && taken < most; i++) {
        uint64_t item = items[i];
        if (tb_fits_load(&plan->limits, &load, row_of(rows, item))) {
            tb_add_load(&plan->limits, &load, row_of(rows, item));
            items[taken++] = item;
        }
        else {
            rows->scratch[left++] = item;
            if (left >= LEAST_LEFT && left >= taken) {
                i++;
                break;
            }
        }
    }
    memcpy(items + taken, rows->scratch, (size_t)left * sizeof *items);
    *is_open = i == n && left == 0 && taken < most;
    return (ptrdiff_t)tb_round_rows(taken, settings);
}

static tb_status
cut_windows(tb_batch_plan *plan, const tb_batch_settings *settings, window_rows *rows,
            ptrdiff_t *full)
{
    int64_t range = plan->longest;
    tb_sort_layout layout = tb_lay_out_sort(
        (uint64_t)range, tb_min(settings->window, plan->row_count), plan->index_bits);
    int is_open = 0;

    while (rows->sorted < plan->row_count) {
        take_window(plan, settings->window, rows);
        tb_sort_items(plan->items + rows->cut, rows->sorted - rows->cut, layout,
                      rows->scratch);
        while (rows->cut < rows->sorted) {
            ptrdiff_t taken = fill_batch(plan, settings, rows, &is_open);
            if (is_open) {
                break;
            }
            rows->cut += taken;
            plan->starts[++plan->batch_count] = rows->cut;
        }
    }
    *full = plan->batch_count;
    return TB_OK;
}

/* The rows of a window with the largest cost of the scarcest limit first. If a window is
 * all rows, rows of equal cost are in the order of their index. */
static void
sort_by_scarcest(const tb_batch_plan *plan, window_rows *rows)
{
    const int64_t *costs = plan->limits.all[plan->limits.scarcest].costs;
    uint64_t *items = plan->items + rows->cut, most = 0, least = UINT64_MAX;
    ptrdiff_t n = rows->sorted - rows->cut;
    int shift = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t cost = (uint64_t)costs[row_of(rows, items[i])];
        items[i] &= rows->mask;
        most = cost > most ? cost : most;
        least = cost < least ? cost : least;
    }
    for (ptrdiff_t i = 0; n == plan->limits.row_count && i < n; i++) {
        items[i] = (uint64_t)i;
    }
    if (n == plan->row_count && n < plan->limits.row_count) {
        tb_sort_items(items, n, tb_lay_out_sort(rows->mask, n, 0), rows->scratch);
    }
    while (tb_count_bits((most - least) >> shift) + plan->index_bits > 64) {
        shift++;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t less = most - (uint64_t)costs[items[i]];
        items[i] |= less >> shift << plan->index_bits;
    }
    tb_sort_items(items, n,
                  tb_lay_out_sort((most - least) >> shift, n, plan->index_bits),
                  rows->scratch);
}

/* Moves the rows of each pack together, the one with the fewest rows last, and notes
 * where packs begin. Rows of a pack keep their order. */
static void
gather_packs(tb_batch_plan *plan, window_rows *rows, const uint32_t *pack_of)
{
    const tb_first_fit *fit = &rows->fit;
    ptrdiff_t n = rows->sorted - rows->cut, place = rows->cut, fewest = 0;
    ptrdiff_t *starts = plan->starts + plan->batch_count;
    uint64_t *items = plan->items + rows->cut;

    for (ptrdiff_t k = 1; k < fit->count; k++) {
        fewest = fit->rows[k] <= fit->rows[fewest] ? k : fewest;
    }
    /* Until the items are in place, starts[j + 1] is where the next one of the pack with
     * place j goes. */
    for (ptrdiff_t k = 0; k < fit->count; k++) {
        if (k != fewest) {
            starts[k - (k > fewest) + 1] = place;
            place += fit->rows[k];
        }
    }
    starts[fit->count] = place;
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t k = pack_of[i];
        ptrdiff_t j = k == fewest ? fit->count - 1 : k - (k > fewest);
        rows->scratch[starts[j + 1]++ - rows->cut] = items[i];
    }
    memcpy(items, rows->scratch, (size_t)n * sizeof *items);
    starts[0] = rows->cut;
}

/* The rows of a window's smallest pack join the next window. With more packs than are
 * asked for there is no plan. */
static tb_status
pack_windows(tb_batch_plan *plan, const tb_batch_settings *settings, window_rows *rows,
             ptrdiff_t *full)
{
    uint32_t *pack_of = (uint32_t *)tb_allocate_array(plan->row_count, sizeof *pack_of);
    tb_status status = plan->row_count > UINT32_MAX ? TB_ERR_SIZE
                       : pack_of == NULL            ? TB_ERR_MEMORY
                                         : tb_start_first_fit(&rows->fit, &plan->limits,
                                                              plan->row_count);
    int64_t most = settings->most_packs > 0 ? settings->most_packs : INT64_MAX;

    while (rows->sorted < plan->row_count && status == TB_OK) {
        take_window(plan, settings->window, rows);
        sort_by_scarcest(plan, rows);
        tb_restart_first_fit(&rows->fit);
        for (ptrdiff_t i = rows->cut; i < rows->sorted; i++) {
            fetch_costs(plan, i);
            pack_of[i - rows->cut] =
                (uint32_t)tb_put_first_fit(&rows->fit, row_of(rows, plan->items[i]));
            if (rows->fit.count > most) {
                plan->row_count = 0;
                goto done;
            }
        }
        gather_packs(plan, rows, pack_of);
        plan->batch_count += rows->fit.count - 1;
        rows->cut = plan->starts[plan->batch_count];
    }
done:
    *full = plan->batch_count;
    tb_free_first_fit(&rows->fit);
    free(pack_of);
    return status;
}

/* Packs from a pool. They lie where their rows were before, or rows that were read before
 * them. */
static tb_status
draw_packs(tb_batch_plan *plan, const tb_batch_settings *settings, ptrdiff_t *full)
{
    tb_limit_pool pool;
    ptrdiff_t place = 0;
    uint32_t size =
        (uint32_t)tb_min(tb_min(settings->pool, plan->row_count), UINT32_MAX - 1);
    tb_status status = tb_start_limit_pool(&pool, &plan->limits,
                                           ((uint64_t)1 << plan->index_bits) - 1, size);

    if (status == TB_OK) {
        status = tb_reserve_limit_pool(&pool, size);
    }
    if (status == TB_OK) {
        tb_begin_limit_pack(&pool, plan->items);
        for (ptrdiff_t i = 0; i < plan->row_count; i++) {
            fetch_costs(plan, i);
            if (tb_add_limit_row(&pool, plan->items[i])) {
                place += (ptrdiff_t)pool.load.rows;
                plan->starts[++plan->batch_count] = place;
                tb_begin_limit_pack(&pool, plan->items + place);
            }
        }
        while (tb_drain_limit_pool(&pool)) {
            place += (ptrdiff_t)pool.load.rows;
            plan->starts[++plan->batch_count] = place;
            tb_begin_limit_pack(&pool, plan->items + place);
        }
        /* The last pack is the one that is not full. */
        *full = plan->batch_count - 1;
    }
    tb_free_limit_pool(&pool);
    return status;
}

/* Step 4: what is in no batch makes the last one. */
static void
end_cut(tb_batch_plan *plan, const tb_batch_settings *settings, ptrdiff_t full)
{
    ptrdiff_t cut = plan->starts[full];

    plan->batch_count = full;
    if (settings->drop_last) {
        plan->row_count = cut;
    }
    else if (cut < plan->row_count) {
        plan->starts[++plan->batch_count] = plan->row_count;
    }
}

tb_status
tb_cut_limited(tb_batch_plan *plan, const tb_batch_settings *settings, ptrdiff_t *full)
{
    window_rows rows = {.mask = ((uint64_t)1 << plan->index_bits) - 1};
    tb_status status = TB_ERR_MEMORY;

    /* At most a batch for each row. */
    plan->starts =
        (ptrdiff_t *)tb_allocate_array(plan->row_count + 1, sizeof *plan->starts);
    rows.scratch = (uint64_t *)tb_allocate_array(plan->row_count, sizeof *rows.scratch);
    if (plan->starts != NULL && rows.scratch != NULL) {
        plan->starts[0] = 0;
        status = !settings->padding_free ? cut_windows(plan, settings, &rows, full)
                 : settings->pool > 0    ? draw_packs(plan, settings, full)
                                         : pack_windows(plan, settings, &rows, full);
    }
    if (status == TB_OK) {
        end_cut(plan, settings, *full);
    }
    free(rows.scratch);
    return status;
}
