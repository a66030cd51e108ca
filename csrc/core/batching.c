#include "batching.h"

#include "random.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_DIGIT_BITS = 11
}; /* 2048 counters: half of a 32 KiB level-1 cache at most */

/* One pass of the sort for each digit of the key, the least significant first. */
typedef struct {
    int key_shift;
    int digit_bits;
    int passes;
} sort_layout;

static int
count_bits(uint64_t value)
{
    int bits = 0;

    for (; value != 0; value >>= 1) {
        bits++;
    }
    return bits;
}

static int64_t
min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The width of a batch whose longest row is `length`. A batch of empty rows counts as
 * if they had one token: without that, no cap on tokens would ever end it. */
static tb_status
find_width(int64_t length, int64_t multiple, int64_t *width)
{
    int64_t missing;

    if (length < 1) {
        length = 1;
    }
    missing = (multiple - length % multiple) % multiple;
    if (length > INT64_MAX - missing) {
        return TB_ERR_SIZE;
    }
    *width = length + missing;
    return TB_OK;
}

static tb_status
check_longest(int64_t longest, ptrdiff_t n, const tb_batch_settings *settings)
{
    int64_t width = 0;

    if (find_width(longest, settings->multiple, &width) != TB_OK ||
        count_bits((uint64_t)longest) + count_bits((uint64_t)n - 1) > 64) {
        return TB_ERR_SIZE;
    }
    return width > settings->max_tokens ? TB_ERR_TOO_LONG : TB_OK;
}

/* Names the first row that is refused. Being refused is monotonic in the length. */
static tb_status
find_refused(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
             tb_error *error)
{
    tb_status status = TB_OK;

    for (ptrdiff_t i = 0; i < n && status == TB_OK; i++) {
        error->row = i;
        error->column = -1;
        error->value = lengths[i];
        status = lengths[i] < 0
                     ? TB_ERR_NEGATIVE
                     : check_longest(min_int64(lengths[i], settings->max_length), n,
                                     settings);
    }
    return status;
}

tb_status
tb_summarize_lengths(const int64_t *lengths, ptrdiff_t n,
                     const tb_batch_settings *settings, tb_length_summary *summary,
                     tb_error *error)
{
    int64_t shortest = INT64_MAX, longest = 0;
    uint64_t total = 0; /* may wrap where it is not used */

    memset(summary, 0, sizeof *summary);
    if (n == 0) {
        return TB_OK;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = min_int64(lengths[i], settings->max_length);
        shortest = min_int64(shortest, length);
        longest = length > longest ? length : longest;
        total += (uint64_t)length;
    }
    if (shortest < 0 || check_longest(longest, n, settings) != TB_OK) {
        return find_refused(lengths, n, settings, error);
    }
    summary->shortest = shortest;
    summary->longest = longest;
    summary->total = longest > INT64_MAX / n ? INT64_MAX : (int64_t)total;
    return TB_OK;
}

/* How many rows of `length` share a batch. A width was found for the longest row, so
 * there is one for each. */
static int64_t
fit_rows(int64_t length, const tb_batch_settings *settings)
{
    int64_t width = 1;

    if (settings->max_tokens == INT64_MAX ||
        find_width(length, settings->multiple, &width) != TB_OK) {
        return settings->batch_size;
    }
    return min_int64(settings->batch_size, settings->max_tokens / width);
}

/* NULL where there is no such memory. */
static void *
allocate_array(ptrdiff_t count, size_t item_size)
{
    ptrdiff_t bytes = 0;

    if (tb_multiply_sizes(count, (ptrdiff_t)item_size, &bytes) != TB_OK) {
        return NULL;
    }
    return malloc(bytes > 0 ? (size_t)bytes : 1);
}

static void
pack_items(const int64_t *lengths, ptrdiff_t n, int64_t max_length, int64_t longest,
           int index_bits, uint64_t *items)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t lacks = (uint64_t)(longest - min_int64(lengths[i], max_length));
        /* With one row there are no index bits; its key is then 0 and fills none. */
        items[i] = lacks << index_bits | (uint64_t)i;
    }
}

/* No wider digits than the window has rows for, or clearing and adding up the counters
 * would outweigh the sort; no wider than the cache likes; and passes of equal width. */
static sort_layout
lay_out_sort(int64_t key_range, int64_t window, int index_bits)
{
    sort_layout layout = {index_bits, 0, 0};
    int key_bits = count_bits((uint64_t)key_range);
    int limit = count_bits((uint64_t)window);

    limit = limit < 4 ? 4 : limit > MAX_DIGIT_BITS ? MAX_DIGIT_BITS : limit;
    layout.passes = (key_bits + limit - 1) / limit;
    if (layout.passes > 0) {
        layout.digit_bits = (key_bits + layout.passes - 1) / layout.passes;
    }
    return layout;
}

/* A stable counting sort of the items by one digit of the key, from `from` to `to`. */
static void
sort_by_digit(const uint64_t *TB_RESTRICT from, ptrdiff_t n, int shift, int bits,
              uint64_t *TB_RESTRICT to)
{
    ptrdiff_t places[1 << MAX_DIGIT_BITS];
    uint64_t mask = ((uint64_t)1 << bits) - 1;
    ptrdiff_t place = 0;

    memset(places, 0, sizeof places[0] << bits);
    for (ptrdiff_t i = 0; i < n; i++) {
        places[from[i] >> shift & mask]++;
    }
    for (uint64_t digit = 0; digit <= mask; digit++) {
        ptrdiff_t count = places[digit];
        places[digit] = place;
        place += count;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        to[places[from[i] >> shift & mask]++] = from[i];
    }
}

static void
sort_items(uint64_t *items, ptrdiff_t n, sort_layout layout, uint64_t *scratch)
{
    uint64_t *from = items, *to = scratch;

    for (int pass = 0; pass < layout.passes; pass++) {
        uint64_t *held = from;
        sort_by_digit(from, n, layout.key_shift + pass * layout.digit_bits,
                      layout.digit_bits, to);
        from = to;
        to = held;
    }
    if (from != items) {
        memcpy(items, from, (size_t)n * sizeof *items);
    }
}

/* Rows that may have to be sorted together: a window and what was left of the one
 * before, or twice what was left where that is more (see cut_batches). */
static ptrdiff_t
bound_pool(ptrdiff_t n, int64_t window, int64_t left)
{
    int64_t taken = window > left ? window : left;

    return taken >= n || left >= n - taken ? n : (ptrdiff_t)(taken + left);
}

/* Steps 2 to 4. What is left of a window lies right before the next one, so that the
 * two are sorted where they are. The next window has at least as many rows as were
 * left: where a batch takes many windows, none is sorted more than a few times. Answers
 * how many of the batches are full. */
static ptrdiff_t
cut_batches(tb_batch_plan *plan, const tb_batch_settings *settings, int64_t longest,
            sort_layout layout, uint64_t *scratch)
{
    ptrdiff_t cut = 0, sorted = 0, full = 0;

    plan->starts[0] = 0;
    while (sorted < plan->row_count) {
        ptrdiff_t left = sorted - cut, rest = plan->row_count - sorted;
        int64_t taken = settings->window > left ? settings->window : left;
        sorted += taken < rest ? (ptrdiff_t)taken : rest;
        sort_items(plan->items + cut, sorted - cut, layout, scratch);
        while (cut < sorted) {
            int64_t length = longest - (int64_t)(plan->items[cut] >> layout.key_shift);
            int64_t rows = fit_rows(length, settings);
            if (rows > sorted - cut) {
                break;
            }
            cut += (ptrdiff_t)rows;
            plan->starts[++full] = cut;
        }
    }
    plan->batch_count = full;
    if (cut < sorted && settings->drop_last) {
        plan->row_count = cut;
    }
    else if (cut < sorted) {
        plan->starts[++plan->batch_count] = sorted;
    }
    return full;
}

/* Steps 2 to 5 for items that are packed and shuffled. */
static tb_status
order_batches(tb_batch_plan *plan, const tb_batch_settings *settings,
              const tb_length_summary *summary, tb_random *random)
{
    ptrdiff_t n = plan->row_count, full = 0;
    int64_t window = min_int64(settings->window, n);
    sort_layout layout =
        lay_out_sort(summary->longest - summary->shortest, window, plan->index_bits);
    int64_t most = fit_rows(summary->shortest, settings);
    int64_t least = fit_rows(summary->longest, settings);
    uint64_t *scratch = NULL;

    plan->starts =
        (ptrdiff_t *)allocate_array((ptrdiff_t)(n / least) + 2, sizeof *plan->starts);
    if (plan->starts == NULL) {
        return TB_ERR_MEMORY;
    }
    scratch = (uint64_t *)allocate_array(bound_pool(n, window, most), sizeof *scratch);
    if (scratch == NULL) {
        return TB_ERR_MEMORY;
    }
    full = cut_batches(plan, settings, summary->longest, layout, scratch);
    free(scratch);
    plan->order = (uint64_t *)allocate_array(plan->batch_count, sizeof *plan->order);
    if (plan->order == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t k = 0; k < plan->batch_count; k++) {
        plan->order[k] = (uint64_t)k;
    }
    if (settings->shuffle) {
        tb_shuffle_words(random, plan->order, (size_t)full);
    }
    return TB_OK;
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
    if (status != TB_OK || n == 0) {
        return status;
    }
    plan->items = (uint64_t *)allocate_array(n, sizeof *plan->items);
    if (plan->items == NULL) {
        return TB_ERR_MEMORY;
    }
    plan->row_count = n;
    plan->index_bits = count_bits((uint64_t)n - 1);
    pack_items(lengths, n, own.max_length, summary.longest, plan->index_bits,
               plan->items);
    tb_seed_random(&random, own.seed, own.epoch);
    if (own.shuffle) {
        tb_shuffle_words(&random, plan->items, (size_t)n);
        if (own.drop_last && own.max_tokens == INT64_MAX) {
            plan->row_count -= (ptrdiff_t)(n % own.batch_size);
        }
    }
    else {
        own.window = n;
    }
    return order_batches(plan, &own, &summary, &random);
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
