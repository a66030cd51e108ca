#include "core/plan/batching.h"

#include "core/base/memory.h"
#include "core/plan/packing.h"
#include "core/base/sort.h"

#include <string.h>

static int64_t
min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The first boundary that is not below the length, or -1. */
static int64_t
find_boundary(int64_t length, const int64_t *boundaries, ptrdiff_t count)
{
    ptrdiff_t low = 0, high = count;

    while (low < high) {
        ptrdiff_t middle = low + (high - low) / 2;
        if (boundaries[middle] < length) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low < count ? boundaries[low] : -1;
}

tb_status
tb_find_row_cost(int64_t length, const tb_batch_settings *settings, int64_t *cost)
{
    int64_t width, missing, square;

    if (settings->boundaries != NULL) {
        length = find_boundary(length, settings->boundaries, settings->boundary_count);
        if (length < 0) {
            return TB_ERR_SIZE;
        }
    }
    if (length < 1 && !settings->padding_free) {
        length = 1;
    }
    missing = (settings->multiple - length % settings->multiple) % settings->multiple;
    if (length > INT64_MAX - missing) {
        return TB_ERR_SIZE;
    }
    *cost = width = length + missing;
    if (settings->quadratic == 0 || width == 0) {
        return TB_OK;
    }
    if (width > INT64_MAX / width) {
        return TB_ERR_SIZE;
    }
    square = width * width / settings->quadratic;
    if (square > INT64_MAX - width) {
        return TB_ERR_SIZE;
    }
    *cost = width + square;
    return TB_OK;
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

static tb_status
check_longest(int64_t longest, ptrdiff_t n, const tb_batch_settings *settings)
{
    int has_cap = settings->max_tokens != INT64_MAX;
    int64_t cost = 0;

    if (tb_find_row_cost(longest, settings, &cost) != TB_OK) {
        return has_cap ? TB_ERR_TOO_LONG : TB_ERR_SIZE;
    }
    if (cost > settings->max_tokens) {
        return TB_ERR_TOO_LONG;
    }
    return tb_count_bits((uint64_t)longest) + tb_count_bits((uint64_t)n - 1) > 64
               ? TB_ERR_SIZE
               : TB_OK;
}

/* Names the first row that is refused. Being refused is monotonic in the length. */
static tb_status
find_refused(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
             int64_t limit, tb_error *error)
{
    tb_status status = TB_OK;

    for (ptrdiff_t i = 0; i < n && status == TB_OK; i++) {
        int64_t length = min_int64(lengths[i], settings->max_length);
        error->row = i;
        error->column = -1;
        error->value = lengths[i];
        status = length < 0       ? TB_ERR_NEGATIVE
                 : length > limit ? TB_OK
                                  : check_longest(length, n, settings);
    }
    return status;
}

/* Rows above it are dropped. */
static int64_t
find_limit(const tb_batch_settings *settings)
{
    return settings->drop_overlong ? tb_find_longest_allowed(settings) : INT64_MAX;
}

tb_status
tb_summarize_lengths(const int64_t *lengths, ptrdiff_t n,
                     const tb_batch_settings *settings, tb_length_summary *summary,
                     tb_error *error)
{
    int64_t shortest = INT64_MAX, longest = 0, limit = find_limit(settings);
    ptrdiff_t rows = 0;
    uint64_t total = 0; /* may wrap where it is not used */

    memset(summary, 0, sizeof *summary);
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = min_int64(lengths[i], settings->max_length);
        int64_t counted = length > limit ? 0 : length;
        shortest = min_int64(shortest, length);
        longest = counted > longest ? counted : longest;
        total += (uint64_t)counted;
        rows += length <= limit;
    }
    if (n == 0) {
        return TB_OK;
    }
    if (shortest < 0 || (rows > 0 && check_longest(longest, n, settings) != TB_OK)) {
        return find_refused(lengths, n, settings, limit, error);
    }
    summary->rows = rows;
    summary->shortest = rows > 0 ? shortest : 0;
    summary->longest = longest;
    summary->total = longest > INT64_MAX / n ? INT64_MAX : (int64_t)total;
    return TB_OK;
}

/* Four sums side by side, so that no multiplication waits for the one before. */
uint64_t
tb_fingerprint_lengths(const int64_t *lengths, ptrdiff_t n)
{
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t lanes[4] = {(uint64_t)n, 1, 2, 3};

    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t *lane = &lanes[i % 4];
        *lane = tb_rotate_left(*lane ^ (uint64_t)lengths[i], 29) * odd;
    }
    for (int i = 1; i < 4; i++) {
        lanes[0] = tb_mix_bits(lanes[0] + odd) ^ lanes[i];
    }
    return tb_mix_bits(lanes[0] + odd) >> 1;
}

/* How many rows of `length` share a batch. The longest row has a cost, so that there is
 * one for each. */
static int64_t
fit_rows(int64_t length, const tb_batch_settings *settings)
{
    int64_t cost = 0;

    if (settings->max_tokens == INT64_MAX ||
        tb_find_row_cost(length, settings, &cost) != TB_OK || cost == 0) {
        return settings->batch_size;
    }
    return min_int64(settings->batch_size, settings->max_tokens / cost);
}

static void
number_items(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
             tb_batch_plan *plan)
{
    int64_t limit = find_limit(settings);
    uint64_t *items = plan->items;

    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = min_int64(lengths[i], settings->max_length);
        uint64_t lacks = (uint64_t)(plan->longest - length);
        /* With one row there are no index bits; its key is then 0 and fills none. */
        if (length <= limit) {
            *items++ = lacks << plan->index_bits | (uint64_t)i;
        }
    }
}

/* Rows that may have to be sorted together: a window and what was left of the one
 * before, or twice what was left where that is more (see take_window). */
static ptrdiff_t
bound_pool(ptrdiff_t n, int64_t window, int64_t left)
{
    int64_t taken = window > left ? window : left;

    return taken >= n || left >= n - taken ? n : (ptrdiff_t)(taken + left);
}

/* The rows that are sorted together: from `cut` on they are left of the last window, up
 * to `sorted` they are sorted. */
typedef struct {
    ptrdiff_t cut;
    ptrdiff_t sorted;
    tb_sort_layout layout;
    uint64_t *scratch;
    tb_packer packer;
    uint32_t *pack_of;
} tb_pool;

/* Step 2. What is left of a window lies right before the next one, so that the two are
 * sorted where they are. The next window has at least as many rows as were left: where
 * a batch takes many windows, none is sorted more than a few times. */
static void
take_window(const tb_batch_plan *plan, int64_t window, tb_pool *pool)
{
    ptrdiff_t left = pool->sorted - pool->cut, rest = plan->row_count - pool->sorted;
    int64_t taken = window > left ? window : left;

    pool->sorted += taken < rest ? (ptrdiff_t)taken : rest;
    tb_sort_items(plan->items + pool->cut, pool->sorted - pool->cut, pool->layout,
                  pool->scratch);
}

/* Room in plan->starts for `more` batches, and the end of the last. */
static tb_status
reserve_starts(tb_batch_plan *plan, ptrdiff_t *reserved, ptrdiff_t more)
{
    ptrdiff_t needed = plan->batch_count + more + 1;

    if (needed > *reserved) {
        ptrdiff_t count = needed + plan->batch_count / 2;
        ptrdiff_t *moved =
            (ptrdiff_t *)realloc(plan->starts, (size_t)count * sizeof *moved);
        if (moved == NULL) {
            return TB_ERR_MEMORY;
        }
        plan->starts = moved;
        *reserved = count;
    }
    return TB_OK;
}

/* Steps 2 to 4, with padding. Answers how many of the batches are full. */
static tb_status
cut_batches(tb_batch_plan *plan, const tb_batch_settings *settings, tb_pool *pool,
            ptrdiff_t *full)
{
    ptrdiff_t least =
        (ptrdiff_t)min_int64(fit_rows(plan->longest, settings), plan->row_count);
    ptrdiff_t reserved = 0;

    if (reserve_starts(plan, &reserved, plan->row_count / least + 1) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    plan->starts[0] = 0;
    while (pool->sorted < plan->row_count) {
        take_window(plan, settings->window, pool);
        while (pool->cut < pool->sorted) {
            int64_t rows = fit_rows(tb_item_length(plan, pool->cut), settings);
            if (rows > pool->sorted - pool->cut) {
                break;
            }
            pool->cut += (ptrdiff_t)rows;
            plan->starts[++plan->batch_count] = pool->cut;
        }
    }
    *full = plan->batch_count;
    if (pool->cut < pool->sorted && settings->drop_last) {
        plan->row_count = pool->cut;
    }
    else if (pool->cut < pool->sorted) {
        plan->starts[++plan->batch_count] = pool->sorted;
    }
    return TB_OK;
}

/* Step 3, without padding: runs of rows of one length are packed together. */
static tb_status
pack_pool(const tb_batch_plan *plan, const tb_batch_settings *settings, tb_pool *pool)
{
    tb_status status = TB_OK;
    ptrdiff_t i = pool->cut;

    tb_restart_packs(&pool->packer);
    while (i < pool->sorted && status == TB_OK) {
        int64_t length = tb_item_length(plan, i), cost = 0;
        ptrdiff_t begin = i;
        while (i < pool->sorted && tb_item_length(plan, i) == length) {
            i++;
        }
        status = tb_find_row_cost(length, settings, &cost);
        if (status == TB_OK) {
            status = tb_pack_rows(&pool->packer, cost, i - begin,
                                  pool->pack_of + (begin - pool->cut));
        }
    }
    return status;
}

/* The last begun of the packs with the most room. */
static uint32_t
find_emptiest(const tb_packer *packer)
{
    uint32_t emptiest = 0;

    for (uint32_t k = 1; k < packer->count; k++) {
        if (packer->packs[k].room >= packer->packs[emptiest].room) {
            emptiest = k;
        }
    }
    return emptiest;
}

/* Brings the rows of each pack together, the emptiest pack last, and notes where packs
 * begin. In a pack rows stay in order. */
static void
gather_packs(tb_batch_plan *plan, tb_pool *pool, uint32_t emptiest)
{
    ptrdiff_t n = pool->sorted - pool->cut, place = pool->cut;
    uint64_t *items = plan->items + pool->cut;
    tb_pack *packs = pool->packer.packs;
    ptrdiff_t *starts = plan->starts + plan->batch_count;

    /* Until the items are in place, starts[j] is where the next one of pack j goes. */
    for (uint32_t k = 0, j = 0; k < pool->packer.count; k++) {
        if (k != emptiest) {
            packs[k].next = j;
            starts[j++] = place;
            place += packs[k].rows;
        }
    }
    packs[emptiest].next = pool->packer.count - 1;
    starts[pool->packer.count - 1] = place;
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t *at = &starts[packs[pool->pack_of[i]].next];
        pool->scratch[(*at)++ - pool->cut] = items[i];
    }
    memcpy(items, pool->scratch, (size_t)n * sizeof *items);
    for (uint32_t j = pool->packer.count; j > 0; j--) {
        starts[j] = starts[j - 1];
    }
    starts[0] = pool->cut;
}

/* Steps 2 to 4, without padding and with a cap on tokens. */
static tb_status
pack_batches(tb_batch_plan *plan, const tb_batch_settings *settings, tb_pool *pool,
             ptrdiff_t *full)
{
    ptrdiff_t reserved = 0;
    tb_status status =
        plan->row_count > UINT32_MAX
            ? TB_ERR_SIZE
            : tb_start_packs(&pool->packer, settings->max_tokens, settings->batch_size);

    while (pool->sorted < plan->row_count && status == TB_OK) {
        take_window(plan, settings->window, pool);
        status = pack_pool(plan, settings, pool);
        if (status == TB_OK) {
            status = reserve_starts(plan, &reserved, pool->packer.count);
        }
        if (status == TB_OK) {
            uint32_t emptiest = find_emptiest(&pool->packer);
            int is_full = pool->packer.packs[emptiest].room == 0;
            gather_packs(plan, pool, emptiest);
            plan->batch_count += pool->packer.count - !is_full;
            pool->cut = plan->starts[plan->batch_count];
        }
    }
    *full = plan->batch_count;
    if (status == TB_OK && pool->cut < pool->sorted) {
        if (settings->drop_last) {
            plan->row_count = pool->cut;
        }
        else {
            plan->batch_count++;
        }
    }
    return status;
}

/* Steps 2 to 5 for items that are numbered and shuffled. */
static tb_status
make_batches(tb_batch_plan *plan, const tb_batch_settings *settings,
             const tb_length_summary *summary, tb_random *random)
{
    ptrdiff_t n = plan->row_count, full = 0, most = 0;
    int is_packed = settings->padding_free && settings->max_tokens != INT64_MAX;
    int64_t window = min_int64(settings->window, n);
    uint64_t range = (uint64_t)(summary->longest - summary->shortest);
    tb_status status = TB_ERR_MEMORY;
    tb_pool pool = {0};

    if (settings->padding_free && !is_packed && settings->shuffle) {
        range = 0; /* any rows are as good together as any others */
    }
    pool.layout = tb_lay_out_sort(range, window, plan->index_bits);
    most = bound_pool(n, window, fit_rows(summary->shortest, settings));
    pool.scratch = (uint64_t *)tb_allocate_array(most, sizeof *pool.scratch);
    if (is_packed) {
        pool.pack_of = (uint32_t *)tb_allocate_array(most, sizeof *pool.pack_of);
    }
    if (pool.scratch != NULL && (pool.pack_of != NULL || !is_packed)) {
        status = is_packed ? pack_batches(plan, settings, &pool, &full)
                           : cut_batches(plan, settings, &pool, &full);
    }
    free(pool.scratch);
    free(pool.pack_of);
    tb_free_packs(&pool.packer);
    return status == TB_OK ? tb_order_batches(plan, full, settings, random) : status;
}

tb_status
tb_plan_batches(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
                tb_batch_plan *plan, tb_error *error)
{
    tb_batch_settings own = *settings;
    tb_length_summary summary;
    tb_random random;
    tb_status status;

    memset(plan, 0, sizeof *plan);
    status = tb_summarize_lengths(lengths, n, settings, &summary, error);
    if (status != TB_OK || summary.rows == 0) {
        return status;
    }
    plan->items = (uint64_t *)tb_allocate_array(summary.rows, sizeof *plan->items);
    if (plan->items == NULL) {
        return TB_ERR_MEMORY;
    }
    plan->row_count = summary.rows;
    plan->longest = summary.longest;
    plan->index_bits = tb_count_bits((uint64_t)n - 1);
    number_items(lengths, n, settings, plan);
    tb_seed_random(&random, own.seed, own.epoch);
    if (own.shuffle) {
        tb_shuffle_words(&random, plan->items, (size_t)plan->row_count);
        if (own.drop_last && own.max_tokens == INT64_MAX) {
            plan->row_count -= (ptrdiff_t)(plan->row_count % own.batch_size);
        }
        if (plan->row_count == 0) {
            return TB_OK;
        }
    }
    else {
        own.window = n;
    }
    return make_batches(plan, &own, &summary, &random);
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
    memset(plan, 0, sizeof *plan);
}
