#include "core/plan/groups.h"

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

enum { LEAST_POOL = 64 }; /* rows, if the group has so many */

/* The rows of a group that are not dropped, and where their items begin. */
typedef struct {
    tb_length_summary summary;
    ptrdiff_t begin;
} group_rows;

/* A plan while groups are added to it. Full batches lie in plan->items, one after
 * another; the others are kept apart until all groups are planned. */
typedef struct {
    tb_batch_plan *plan;
    ptrdiff_t reserved; /* in plan->starts */
    ptrdiff_t written;  /* items of full batches */
    uint64_t *tails;
    ptrdiff_t tail_items;
    ptrdiff_t tail_room;
    ptrdiff_t *tail_sizes; /* room for one of each group */
    ptrdiff_t tail_count;
} group_plan;

/* --- counting -------------------------------------------------------------------- */

/* What a row is sorted by: its length, or its key. */
static int64_t
find_key(const int64_t *lengths, ptrdiff_t row, const tb_batch_settings *settings)
{
    return settings->keys != NULL ? settings->keys[row]
                                  : tb_min(lengths[row], settings->max_length);
}

/* limit: tb_find_drop_limit. */
static int
is_dropped(const int64_t *lengths, ptrdiff_t row, const tb_batch_settings *settings,
           int64_t limit)
{
    return tb_min(lengths[row], settings->max_length) > limit ||
           (settings->drop_broken &&
            tb_find_broken(settings->limits, settings->limit_count, row) >= 0);
}

static tb_status
count_rows(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
           const tb_group_settings *groups, group_rows *rows, tb_error *error)
{
    int64_t limit = tb_find_drop_limit(settings), most = settings->max_length;
    ptrdiff_t begin = 0;

    memset(rows, 0, (size_t)groups->count * sizeof *rows);
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], most);
        if ((uint64_t)groups->groups[i] >= (uint64_t)groups->count) {
            *error = (tb_error){i, -1, groups->groups[i]};
            return TB_ERR_RANGE;
        }
        if (!is_dropped(lengths, i, settings, limit)) {
            tb_length_summary *own = &rows[groups->groups[i]].summary;
            int64_t key = find_key(lengths, i, settings);
            own->shortest = own->rows == 0 ? key : tb_min(own->shortest, key);
            own->longest = tb_max(own->longest, key);
            own->total =
                length > INT64_MAX - own->total ? INT64_MAX : own->total + length;
            own->rows++;
        }
    }
    for (ptrdiff_t k = 0; k < groups->count; k++) {
        rows[k].begin = begin;
        begin += rows[k].summary.rows;
    }
    return TB_OK;
}

static int64_t
find_largest_key(const group_rows *rows, ptrdiff_t count)
{
    int64_t largest = 0;

    for (ptrdiff_t k = 0; k < count; k++) {
        largest = tb_max(largest, rows[k].summary.longest);
    }
    return largest;
}

/* Items of each group in the order of their rows. How much shorter a row is than the
 * longest counts within its group, so that there is less to sort. */
static void
place_items(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
            const tb_group_settings *groups, group_rows *rows, int index_bits,
            uint64_t *items)
{
    int64_t limit = tb_find_drop_limit(settings);

    for (ptrdiff_t i = 0; i < n; i++) {
        if (!is_dropped(lengths, i, settings, limit)) {
            group_rows *own = &rows[groups->groups[i]];
            int64_t key = find_key(lengths, i, settings);
            uint64_t shorter = (uint64_t)(own->summary.longest - key);
            items[own->begin++] = shorter << index_bits | (uint64_t)i;
        }
    }
    for (ptrdiff_t k = 0; k < groups->count; k++) {
        rows[k].begin -= rows[k].summary.rows;
    }
}

/* --- the rows of a group in an epoch --------------------------------------------- */

/* A stream for each shuffle of each group, apart from that of the order of batches. */
static void
shuffle_group(const tb_batch_settings *settings, ptrdiff_t group, uint64_t cycle,
              uint64_t *items, ptrdiff_t n)
{
    const uint64_t odd = UINT64_C(0xD1B54A32D192ED03);
    tb_random random;

    tb_seed_random(&random, tb_mix_bits(settings->seed ^ odd * ((uint64_t)group + 1)),
                   cycle);
    tb_shuffle_words(&random, items, (size_t)n);
}

/* Writes the epoch's part of the endless sequence of the group's rows. copy: room for
 * all of them. */
static tb_status
draw_rows(const uint64_t *items, ptrdiff_t n, int64_t quota,
          const tb_batch_settings *settings, ptrdiff_t group, uint64_t *copy,
          uint64_t *out)
{
    uint64_t rounds = settings->epoch / (uint64_t)n;
    int64_t rest = (int64_t)(settings->epoch % (uint64_t)n);

    if (quota > INT64_MAX / n) {
        return TB_ERR_SIZE;
    }
    uint64_t cycle = rounds * (uint64_t)quota + (uint64_t)(rest * quota / n);
    ptrdiff_t place = (ptrdiff_t)(rest * quota % n);
    for (; quota > 0; cycle++, place = 0) {
        ptrdiff_t taken = (ptrdiff_t)tb_min(n - place, quota);
        memcpy(copy, items, (size_t)n * sizeof *copy);
        if (settings->shuffle) {
            shuffle_group(settings, group, cycle, copy, n);
        }
        memcpy(out, copy + place, (size_t)taken * sizeof *out);
        out += taken;
        quota -= taken;
    }
    return TB_OK;
}

/* --- the batches of a group ------------------------------------------------------ */

/* Rows in a window of so many full batches of rows of mean length and mean costs. */
static int64_t
choose_window(const tb_batch_plan *plan, const tb_length_summary *summary,
              int64_t batches, const tb_batch_settings *settings)
{
    int64_t mean = tb_max(tb_divide_up(summary->total, summary->rows), 1);
    int64_t batch = tb_fit_rows(mean, settings), rows = plan->row_count;
    double needed = plan->limits.count > 0 ? plan->limits.parts[plan->limits.scarcest]
                                           : 0; /* batches, at least */

    if (needed > 1) {
        batch = tb_min(batch, (int64_t)((double)rows / needed));
    }
    batch = tb_max(tb_min(batch, rows), 1);
    return batch * tb_max(tb_min(rows / 4 / batch, batches), 1);
}

static tb_status
reserve_starts(group_plan *all, ptrdiff_t more)
{
    ptrdiff_t needed = all->plan->batch_count + more + 1;

    if (needed > all->reserved) {
        ptrdiff_t count = needed + needed / 2;
        if (TB_RESIZE(all->plan->starts, count) != TB_OK) {
            return TB_ERR_MEMORY;
        }
        all->reserved = count;
    }
    return TB_OK;
}

static tb_status
keep_tail(group_plan *all, const uint64_t *items, ptrdiff_t n)
{
    if (n > all->tail_room - all->tail_items) {
        ptrdiff_t count = all->tail_items + n + all->tail_room / 2;
        if (TB_RESIZE(all->tails, count) != TB_OK) {
            return TB_ERR_MEMORY;
        }
        all->tail_room = count;
    }
    memcpy(all->tails + all->tail_items, items, (size_t)n * sizeof *items);
    all->tail_items += n;
    all->tail_sizes[all->tail_count++] = n;
    return TB_OK;
}

/* Adds the batches of a group; their lengths count from the longest row of all from now
 * on. */
static tb_status
add_batches(group_plan *all, tb_batch_plan *own, ptrdiff_t full)
{
    uint64_t shorter = (uint64_t)(all->plan->longest - own->longest);
    ptrdiff_t full_rows = full > 0 ? own->starts[full] : 0;

    if (reserve_starts(all, full) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t i = 0; shorter != 0 && i < own->row_count; i++) {
        own->items[i] += shorter << own->index_bits;
    }
    for (ptrdiff_t k = 0; k < full; k++) {
        all->plan->starts[++all->plan->batch_count] = all->written + own->starts[k + 1];
    }
    if (full < own->batch_count &&
        keep_tail(all, own->items + full_rows, own->row_count - full_rows) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    memmove(all->plan->items + all->written, own->items,
            (size_t)full_rows * sizeof *own->items);
    all->written += full_rows;
    return TB_OK;
}

/* A pool of more rows would choose whole packs of a small group, instead of their last
 * rows. */
static int64_t
choose_pool(ptrdiff_t rows, int64_t pool)
{
    return tb_min(pool, tb_max(rows / 4, LEAST_POOL));
}

/* Plans n rows of a group, which lie in the order in which they are taken. */
static tb_status
plan_group(group_plan *all, uint64_t *items, ptrdiff_t n,
           const tb_length_summary *summary, const tb_batch_settings *settings,
           int64_t window_batches)
{
    tb_batch_settings own = *settings;
    tb_batch_plan plan = {0};
    ptrdiff_t full = 0;

    plan.items = items;
    plan.row_count = n;
    plan.longest = summary->longest;
    plan.index_bits = all->plan->index_bits;
    if (own.shuffle && own.drop_last && own.max_tokens == INT64_MAX &&
        own.limit_count == 0) {
        plan.row_count -= (ptrdiff_t)(n % tb_round_rows(own.batch_size, &own));
    }
    if (tb_is_limited(&own)) {
        plan.limits = all->plan->limits; /* whose memory is that of the whole plan */
        plan.limits.row_count = -1;      /* rows may come twice, and not all do */
        tb_weigh_limits(&plan);
    }
    own.pool = choose_pool(n, own.pool); /* 0 stays: there is none */
    if (!own.shuffle) {
        own.window = n;
    }
    else if (window_batches > 0) {
        own.window = choose_window(&plan, summary, window_batches, settings);
    }
    if (plan.row_count == 0) {
        return TB_OK;
    }
    tb_status status = tb_is_limited(&own)
                           ? tb_cut_limited(&plan, &own, &full)
                           : tb_cut_batches(&plan, &own, summary, &full);
    if (status == TB_OK) {
        status = add_batches(all, &plan, full);
    }
    free(plan.starts);
    return status;
}

/* The batches that are not full, after all others. */
static tb_status
add_tails(group_plan *all)
{
    if (reserve_starts(all, all->tail_count) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    if (all->tail_items > 0) {
        memcpy(all->plan->items + all->written, all->tails,
               (size_t)all->tail_items * sizeof *all->tails);
    }
    for (ptrdiff_t k = 0; k < all->tail_count; k++) {
        all->written += all->tail_sizes[k];
        all->plan->starts[++all->plan->batch_count] = all->written;
    }
    all->plan->row_count = all->written;
    return TB_OK;
}

/* --- all groups ------------------------------------------------------------------ */

static tb_status
plan_each_once(group_plan *all, const group_rows *rows,
               const tb_batch_settings *settings, const tb_group_settings *groups)
{
    tb_status status = TB_OK;

    for (ptrdiff_t k = 0; k < groups->count && status == TB_OK; k++) {
        ptrdiff_t n = rows[k].summary.rows;
        uint64_t *items = all->plan->items + rows[k].begin;
        if (settings->shuffle && n > 0) {
            shuffle_group(settings, k, settings->epoch, items, n);
        }
        if (n > 0) {
            status = plan_group(all, items, n, &rows[k].summary, settings,
                                groups->window_batches);
        }
    }
    return status;
}

/* The rows of all groups, by group, become those of the epoch. */
static tb_status
plan_by_quotas(group_plan *all, const group_rows *rows,
               const tb_batch_settings *settings, const tb_group_settings *groups)
{
    uint64_t *sorted = all->plan->items, *copy = NULL;
    ptrdiff_t most = 0;
    int64_t total = 0;
    tb_status status = TB_OK;

    all->plan->items = NULL;
    for (ptrdiff_t k = 0; k < groups->count; k++) {
        int64_t quota = rows[k].summary.rows > 0 ? groups->quotas[k] : 0;
        if (quota < 0 || total > INT64_MAX - quota) {
            status = TB_ERR_SIZE;
            break;
        }
        total += quota;
        most = quota > 0 && rows[k].summary.rows > most ? rows[k].summary.rows : most;
    }
    if (status == TB_OK) {
        copy = (uint64_t *)tb_allocate_at_random(most, sizeof *copy);
        all->plan->items =
            (uint64_t *)tb_allocate_at_random((ptrdiff_t)total, sizeof *copy);
        status = copy == NULL || all->plan->items == NULL ? TB_ERR_MEMORY : TB_OK;
    }
    for (ptrdiff_t k = 0; k < groups->count && status == TB_OK; k++) {
        ptrdiff_t n = rows[k].summary.rows;
        uint64_t *items = all->plan->items + all->written;
        if (n > 0 && groups->quotas[k] > 0) {
            status = draw_rows(sorted + rows[k].begin, n, groups->quotas[k], settings,
                               k, copy, items);
        }
        if (n > 0 && groups->quotas[k] > 0 && status == TB_OK) {
            status = plan_group(all, items, (ptrdiff_t)groups->quotas[k],
                                &rows[k].summary, settings, groups->window_batches);
        }
    }
    free(sorted);
    free(copy);
    return status;
}

static tb_status
plan_rows(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
          const tb_group_settings *groups, group_rows *rows, group_plan *all,
          tb_error *error)
{
    tb_random random;
    tb_status status = count_rows(lengths, n, settings, groups, rows, error);

    if (status == TB_OK && tb_is_limited(settings)) {
        status = tb_start_limits(lengths, n, settings, &all->plan->limits);
        if (settings->keys != NULL) {
            all->plan->longest = find_largest_key(rows, groups->count);
        }
    }
    if (status != TB_OK) {
        return status;
    }
    place_items(lengths, n, settings, groups, rows, all->plan->index_bits,
                all->plan->items);
    status = reserve_starts(all, 0);
    if (status == TB_OK) {
        all->plan->starts[0] = 0;
        status = groups->quotas == NULL ? plan_each_once(all, rows, settings, groups)
                                        : plan_by_quotas(all, rows, settings, groups);
    }
    ptrdiff_t full = all->plan->batch_count;
    if (status == TB_OK) {
        status = add_tails(all);
    }
    if (status == TB_OK) {
        tb_seed_random(&random, settings->seed, settings->epoch);
        status = tb_order_batches(all->plan, full, settings, &random);
    }
    return status;
}

tb_status
tb_plan_groups(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
               const tb_group_settings *groups, tb_batch_plan *plan, tb_error *error)
{
    tb_length_summary summary;
    group_plan all = {0};
    group_rows *rows = NULL;

    memset(plan, 0, sizeof *plan);
    tb_status status = tb_summarize_lengths(lengths, n, settings, &summary, error);
    if (status != TB_OK || summary.rows == 0) {
        return status;
    }
    plan->longest = summary.longest;
    plan->index_bits = tb_count_bits((uint64_t)n - 1);
    plan->items = (uint64_t *)tb_allocate_at_random(summary.rows, sizeof *plan->items);
    rows = (group_rows *)tb_allocate_array(groups->count, sizeof *rows);
    all.plan = plan;
    all.tail_sizes =
        (ptrdiff_t *)tb_allocate_array(groups->count, sizeof *all.tail_sizes);
    status = plan->items == NULL || rows == NULL || all.tail_sizes == NULL
                 ? TB_ERR_MEMORY
                 : plan_rows(lengths, n, settings, groups, rows, &all, error);
    free(rows);
    free(all.tails);
    free(all.tail_sizes);
    return status;
}
