#include "core/plan/partition.h"

#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/plan/exchange.h"

#include <math.h>
#include <string.h>

/* After this many numbers of parts, one after another, tries skip some. */
enum { SINGLE_TRIES = 8 };

typedef struct {
    const tb_partition_settings *settings;
    tb_priced_row *rows; /* the most expensive first */
    ptrdiff_t n;
    ptrdiff_t *part_of; /* by place in rows */
    int64_t *totals;    /* room for n */
} search;

static int64_t
find_largest(search *all, ptrdiff_t k)
{
    int64_t largest = 0;

    memset(all->totals, 0, (size_t)k * sizeof *all->totals);
    for (ptrdiff_t i = 0; i < all->n; i++) {
        int64_t *total = &all->totals[all->part_of[i]];
        *total += all->rows[i].cost;
        largest = tb_max(largest, *total);
    }
    return largest;
}

/* Makes k parts without regard to the cap. */
static tb_status
make_parts(search *all, ptrdiff_t k, int64_t *largest)
{
    int equal_counts = all->settings->equal_counts;
    tb_poll poll = all->settings->poll;
    tb_status status =
        tb_difference_rows(all->rows, all->n, k, equal_counts, poll, all->part_of);

    if (status == TB_OK) {
        status = tb_even_parts(all->rows, all->n, k, equal_counts, poll, all->part_of);
    }
    *largest = status == TB_OK ? find_largest(all, k) : 0;
    return status;
}

/* First fit decreasing: each row into the first part that has room for it. `room` is a
 * tree: place 1 has the most room of all parts, and 2 i and 2 i + 1 are below i. */
static tb_status
fit_first(search *all, ptrdiff_t *k)
{
    int64_t cap = all->settings->cap;
    ptrdiff_t leaves = 1;

    while (leaves < all->n) {
        leaves *= 2;
    }
    int64_t *room = (int64_t *)tb_allocate_array(2 * leaves, sizeof *room);
    if (room == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t i = 1; i < 2 * leaves; i++) {
        room[i] = cap;
    }
    *k = 1;
    for (ptrdiff_t i = 0; i < all->n; i++) {
        ptrdiff_t at = 1;
        while (at < leaves) {
            at = 2 * at + (room[2 * at] < all->rows[i].cost);
        }
        all->part_of[i] = at - leaves;
        *k = at - leaves + 1 > *k ? at - leaves + 1 : *k;
        room[at] -= all->rows[i].cost;
        for (at /= 2; at >= 1; at /= 2) {
            room[at] = tb_max(room[2 * at], room[2 * at + 1]);
        }
    }
    free(room);
    return TB_OK;
}

/* The number of parts to try after k. */
static ptrdiff_t
next_count(const search *all, ptrdiff_t k, ptrdiff_t tries)
{
    ptrdiff_t multiple = all->settings->multiple;
    ptrdiff_t skipped = tries < SINGLE_TRIES ? 1 : k / 16 / multiple + 1;

    return skipped > (all->n - k) / multiple ? all->n + 1 : k + skipped * multiple;
}

/* Tries numbers of parts from k on, below `end`; *k is `end` or more where none did. */
static tb_status
try_counts(search *all, ptrdiff_t *k, ptrdiff_t end, ptrdiff_t most_tries)
{
    int64_t largest = 0;
    ptrdiff_t last = (all->n / all->settings->multiple) * all->settings->multiple;

    for (ptrdiff_t tries = 0; *k < end; tries++) {
        if (tries == most_tries) {
            *k = end;
            break;
        }
        tb_status status = make_parts(all, *k, &largest);
        if (status != TB_OK || largest <= all->settings->cap) {
            return status;
        }
        ptrdiff_t next = next_count(all, *k, tries);
        *k = next > last && *k < last ? last : next;
    }
    return TB_OK;
}

/* Each part that has no row gets one from the first that has two. */
static void
fill_empty(search *all, ptrdiff_t k)
{
    ptrdiff_t empty = 0;
    int64_t *counts = all->totals;

    memset(counts, 0, (size_t)k * sizeof *counts);
    for (ptrdiff_t i = 0; i < all->n; i++) {
        counts[all->part_of[i]]++;
    }
    for (ptrdiff_t i = 0; i < all->n; i++) {
        while (empty < k && counts[empty] > 0) {
            empty++;
        }
        if (empty == k) {
            return;
        }
        if (counts[all->part_of[i]] > 1) {
            counts[all->part_of[i]]--;
            all->part_of[i] = empty;
            counts[empty] = 1;
        }
    }
}

/* The fewest parts that are found, of any number of rows: by differencing, or by first
 * fit, which needs at most 11/9 of the fewest there can be, and 6/9 of one. */
static tb_status
find_fewest(search *all, ptrdiff_t least, ptrdiff_t *k)
{
    ptrdiff_t fitted = 0;
    tb_status status = fit_first(all, &fitted);

    if (status != TB_OK) {
        return status;
    }
    *k = least;
    status = try_counts(all, k, fitted, SINGLE_TRIES);
    if (status == TB_OK && *k >= fitted) {
        status = fit_first(all, k);
    }
    return status;
}

/* Any numbers of rows. */
static tb_status
make_capped(search *all, ptrdiff_t least, tb_partition *made)
{
    const tb_partition_settings *settings = all->settings;
    tb_partition_settings single = *settings;
    ptrdiff_t fewest = 0;
    tb_status status = TB_OK;

    made->k = settings->k;
    if (made->k > 0) {
        status = make_parts(all, made->k, &made->largest);
        if (status != TB_OK || made->largest <= settings->cap) {
            return status;
        }
    }
    single.multiple = 1;
    all->settings = &single;
    status = find_fewest(all, least, &fewest);
    all->settings = settings;
    made->least = fewest;
    if (status != TB_OK || (made->k > 0 && fewest > made->k)) {
        return status != TB_OK ? status : TB_ERR_RANGE;
    }
    if (made->k == 0) {
        made->k = fewest + (ptrdiff_t)tb_find_missing(fewest, settings->multiple);
        if (made->k > all->n) {
            made->least = 0;
            return TB_ERR_RANGE;
        }
        status = make_parts(all, made->k, &made->largest);
        if (status == TB_OK && made->largest > settings->cap) {
            all->settings = &single;
            status = find_fewest(all, least, &fewest);
            all->settings = settings;
        }
        else {
            return status;
        }
    }
    fill_empty(all, made->k);
    return status != TB_OK ? status
                           : tb_even_parts(all->rows, all->n, made->k, 0,
                                           settings->poll, all->part_of);
}

static tb_status
make_equal(search *all, ptrdiff_t least, tb_partition *made)
{
    const tb_partition_settings *settings = all->settings;
    ptrdiff_t k = settings->k;
    tb_status status;

    if (k == 0) {
        k = least + (ptrdiff_t)tb_find_missing(least, settings->multiple);
        status = try_counts(all, &k, all->n + 1, PTRDIFF_MAX);
        made->k = k;
        return status == TB_OK && k > all->n ? TB_ERR_RANGE : status;
    }
    made->k = k;
    status = make_parts(all, k, &made->largest);
    if (status == TB_OK && made->largest > settings->cap) {
        k++;
        status = try_counts(all, &k, all->n + 1, PTRDIFF_MAX);
        made->least = k;
        return status == TB_OK ? TB_ERR_RANGE : status;
    }
    return status;
}

/* The first j k + 1 rows leave some part with j + 1 of them, at least the cheapest. And
 * in equal numbers the most expensive row has n / k - 1 others beside it. */
static int64_t
find_bound(search *all, ptrdiff_t k)
{
    const tb_priced_row *rows = all->rows;
    int64_t *sums = all->totals, bound = rows[0].cost, total = 0;
    ptrdiff_t n = all->n, others = n / k - 1;

    for (ptrdiff_t i = 0; i < n; i++) {
        total += rows[i].cost;
        sums[i] = total;
    }
    bound = tb_max(bound, tb_divide_up(total, k));
    for (ptrdiff_t j = 1; j <= (n - 1) / k; j++) {
        ptrdiff_t begin = j * k - j;
        int64_t before = begin > 0 ? sums[begin - 1] : 0;
        bound = tb_max(bound, sums[j * k] - before);
    }
    if (all->settings->equal_counts && others > 0) {
        bound = tb_max(bound, rows[0].cost + (total - sums[n - 1 - others]));
    }
    return bound;
}

/* The fewest parts that the costs allow: each row above half of the cap needs one. */
static ptrdiff_t
find_least(const search *all)
{
    int64_t cap = all->settings->cap, total = 0;
    ptrdiff_t large = 0;

    for (ptrdiff_t i = 0; i < all->n; i++) {
        total += all->rows[i].cost;
        large += all->rows[i].cost > cap - all->rows[i].cost;
    }
    return (ptrdiff_t)tb_max(tb_max(cap == 0 ? 1 : tb_divide_up(total, cap), large), 1);
}

static int
compare_parts(const void *left, const void *right)
{
    const int64_t *a = (const int64_t *)left, *b = (const int64_t *)right;

    if (a[0] != b[0]) {
        return a[0] < b[0] ? 1 : -1;
    }
    return a[1] < b[1] ? -1 : a[1] > b[1];
}

/* Numbers the parts by what they cost. */
static tb_status
number_parts(search *all, tb_partition *made, int64_t *part_of)
{
    ptrdiff_t k = made->k;
    int64_t *keys = (int64_t *)tb_allocate_array(k, 3 * sizeof *keys);
    int64_t *renamed = all->totals;

    if (keys == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t part = 0; part < k; part++) {
        keys[3 * part] = 0;
        keys[3 * part + 1] = INT64_MAX;
        keys[3 * part + 2] = part;
    }
    for (ptrdiff_t i = 0; i < all->n; i++) {
        int64_t *key = keys + 3 * all->part_of[i];
        key[0] += all->rows[i].cost;
        key[1] = tb_min(key[1], all->rows[i].row);
    }
    qsort(keys, (size_t)k, 3 * sizeof *keys, compare_parts);
    made->largest = keys[0];
    for (ptrdiff_t place = 0; place < k; place++) {
        renamed[keys[3 * place + 2]] = place;
    }
    for (ptrdiff_t i = 0; i < all->n; i++) {
        part_of[all->rows[i].row] = renamed[all->part_of[i]];
    }
    free(keys);
    return TB_OK;
}

static tb_status
partition_priced(search *all, int64_t *part_of, tb_partition *made, tb_error *error)
{
    const tb_partition_settings *settings = all->settings;
    ptrdiff_t least = find_least(all);
    tb_status status;

    if (all->rows[0].cost > settings->cap) {
        *error = (tb_error){all->rows[0].row, -1, all->rows[0].cost};
        return TB_ERR_TOO_LONG;
    }
    if (settings->k > all->n) {
        made->least = all->n;
        return TB_ERR_RANGE;
    }
    status = settings->equal_counts ? make_equal(all, least, made)
                                    : make_capped(all, least, made);
    if (status == TB_OK) {
        made->bound = find_bound(all, made->k);
        status = number_parts(all, made, part_of);
    }
    return status;
}

tb_status
tb_partition_rows(const int64_t *costs, ptrdiff_t n,
                  const tb_partition_settings *settings, int64_t *part_of,
                  tb_partition *made, tb_error *error)
{
    search all = {.settings = settings, .n = n};
    tb_status status = TB_ERR_MEMORY;

    *made = (tb_partition){0, 0, 0, 0};
    all.rows = (tb_priced_row *)tb_allocate_array(n, sizeof *all.rows);
    all.part_of = (ptrdiff_t *)tb_allocate_array(n, sizeof *all.part_of);
    all.totals = (int64_t *)tb_allocate_array(n, sizeof *all.totals);
    if (all.rows != NULL && all.part_of != NULL && all.totals != NULL) {
        status = tb_price_rows(costs, n, all.rows, error);
    }
    if (status == TB_OK) {
        status = partition_priced(&all, part_of, made, error);
    }
    free(all.rows);
    free(all.part_of);
    free(all.totals);
    return status;
}

void
tb_list_parts(const int64_t *part_of, ptrdiff_t n, ptrdiff_t k, int64_t *indices,
              int64_t *offsets)
{
    memset(offsets, 0, (size_t)(k + 1) * sizeof *offsets);
    for (ptrdiff_t i = 0; i < n; i++) {
        offsets[part_of[i] + 1]++;
    }
    for (ptrdiff_t part = 0; part < k; part++) {
        offsets[part + 1] += offsets[part];
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        indices[offsets[part_of[i]]++] = i;
    }
    for (ptrdiff_t part = k; part > 0; part--) { /* each is where the next begins */
        offsets[part] = offsets[part - 1];
    }
    offsets[0] = 0;
}

tb_status
tb_scale_costs(const double *costs, ptrdiff_t n, int64_t *scaled, int *shift,
               ptrdiff_t *rounded, tb_error *error)
{
    double total = 0.0;
    int exponent = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        *error = (tb_error){i, -1, 0};
        if (!(costs[i] - costs[i] == 0.0)) {
            return TB_ERR_INEXACT;
        }
        if (costs[i] < 0.0) {
            return TB_ERR_NEGATIVE;
        }
        total += costs[i];
        if (!(total - total == 0.0)) {
            return TB_ERR_OVERFLOW;
        }
    }
    /* The sum is below 2**exponent, and its rounding errors and those of the scaled
     * costs, at most one for each row, below as much again. */
    (void)frexp(total, &exponent);
    *shift = total > 0.0 ? 61 - exponent : 0;
    *rounded = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        double exact = ldexp(costs[i], *shift), up = ceil(exact);
        scaled[i] = (int64_t)up;
        /* What underflows is not 0. */
        if (exact == 0.0 && costs[i] > 0.0) {
            scaled[i] = 1;
        }
        *rounded += (double)scaled[i] != exact || ldexp(exact, -*shift) != costs[i];
    }
    return TB_OK;
}

int64_t
tb_scale_cap(double cap, int shift, ptrdiff_t n)
{
    double scaled = cap > 0.0 ? floor(ldexp(cap, shift)) + (double)n : 0.0;

    return scaled >= 0x1p63 ? INT64_MAX : (int64_t)scaled;
}
