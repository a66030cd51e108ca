/* Plans under several limits: every row once, every cap kept; and first fit against a
 * plain search of all packs. */
#include "core/base/random.h"
#include "core/plan/batching.h"
#include "core/plan/first_fit.h"
#include "core/plan/limits.h"
#include "core/plan/pair_keys.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 2000, LIMITS = 3 };

static int64_t lengths[MOST_ROWS], costs[LIMITS][MOST_ROWS];
static int64_t indices[MOST_ROWS], offsets[MOST_ROWS + 1];

static void
draw_rows(tb_random *random, ptrdiff_t n, uint64_t most)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        lengths[i] = (int64_t)tb_random_below(random, most);
        for (ptrdiff_t k = 0; k < LIMITS; k++) {
            costs[k][i] = (int64_t)tb_random_below(random, most);
        }
    }
}

static void
check_plan(ptrdiff_t n, const tb_batch_settings *settings)
{
    tb_batch_plan plan;
    tb_error error = {-1, -1, 0};
    int is_there[MOST_ROWS] = {0};

    CHECK(tb_plan_batches(lengths, n, settings, &plan, &error) == TB_OK);
    CHECK(plan.row_count == n);
    tb_write_batches(&plan, indices, offsets);
    for (ptrdiff_t b = 0; b < plan.batch_count; b++) {
        tb_load load;
        tb_empty_load(&plan.limits, &load);
        CHECK(offsets[b] < offsets[b + 1]);
        for (int64_t i = offsets[b]; i < offsets[b + 1]; i++) {
            CHECK(!is_there[indices[i]]++);
            /* Rows join in any order: no cap is broken at the end if none is before. */
            CHECK(tb_fits_load(&plan.limits, &load, (ptrdiff_t)indices[i]));
            tb_add_load(&plan.limits, &load, (ptrdiff_t)indices[i]);
        }
    }
    tb_free_batches(&plan);
}

static void
check_plans(tb_random *random)
{
    for (int k = 0; k < 300; k++) {
        ptrdiff_t n = 1 + (ptrdiff_t)tb_random_below(random, 300);
        uint64_t most = 2 + tb_random_below(random, 40);
        tb_limit limits[LIMITS];
        draw_rows(random, n, most);
        for (int j = 0; j < LIMITS; j++) {
            int64_t cap = (int64_t)(most + tb_random_below(random, 3 * most));
            limits[j] = (tb_limit){costs[j], NULL, cap, j == 2 && k % 2};
        }
        tb_batch_settings settings = {
            .batch_size = k % 3 ? INT64_MAX : 5,
            .max_tokens = k % 5 ? (int64_t)(2 * most) : INT64_MAX,
            .max_length = INT64_MAX,
            .multiple = 1,
            .rows_multiple = k % 7 ? 1 : 2,
            .window = k % 4 ? 40 : n,
            .pool = k % 11 % 3 ? 1 + k % 13 : 0,
            .ranks = 1,
            .padding_free = k % 3 != 1,
            .shuffle = k % 4 != 0,
            .longest_first = k % 2,
            .limits = limits,
            .limit_count = 1 + k % LIMITS,
            .seed = (uint64_t)k};
        if (!settings.padding_free && k % 2) {
            limits[0].others = costs[1];
            limits[0].is_padded = 1;
            limits[0].cap = (int64_t)(3 * most);
        }
        check_plan(n, &settings);
    }
}

/* Rows that break a limit are named, or dropped. */
static void
check_broken(void)
{
    int64_t own[3] = {1, 5, 1};
    tb_limit limit = {own, NULL, 4, 0};
    tb_batch_settings settings = {.batch_size = 2,
                                  .max_tokens = INT64_MAX,
                                  .max_length = INT64_MAX,
                                  .multiple = 1,
                                  .window = 3,
                                  .ranks = 1,
                                  .limits = &limit,
                                  .limit_count = 1};
    tb_batch_plan plan;
    tb_error error = {-1, -1, 0};

    lengths[0] = lengths[1] = lengths[2] = 3;
    CHECK(tb_plan_batches(lengths, 3, &settings, &plan, &error) == TB_ERR_TOO_LONG);
    CHECK(error.row == 1 && error.column == 0);
    tb_free_batches(&plan);
    settings.drop_broken = 1;
    CHECK(tb_plan_batches(lengths, 3, &settings, &plan, &error) == TB_OK);
    CHECK(plan.row_count == 2);
    tb_free_batches(&plan);
}

static void
check_first_fit(tb_random *random)
{
    ptrdiff_t n = MOST_ROWS, count = 0;
    tb_limit all[LIMITS];
    tb_limits limits = {.all = all, .count = LIMITS, .max_rows = 6};
    tb_first_fit fit;
    tb_load *loads = (tb_load *)malloc((size_t)n * sizeof *loads);

    draw_rows(random, n, 100000); /* more than 15 bits */
    for (int k = 0; k < LIMITS; k++) {
        all[k] = (tb_limit){costs[k], NULL, 150000, k == 2};
    }
    CHECK(tb_start_first_fit(&fit, &limits, n) == TB_OK);
    for (ptrdiff_t i = 0; i < n && loads != NULL; i++) {
        ptrdiff_t first = 0;
        while (first < count && !tb_fits_load(&limits, &loads[first], i)) {
            first++;
        }
        if (first == count) {
            tb_empty_load(&limits, &loads[count++]);
        }
        tb_add_load(&limits, &loads[first], i);
        CHECK(tb_put_first_fit(&fit, i) == first);
        CHECK(fit.count == count);
    }
    CHECK(count > 300); /* three levels of the tree */
    tb_free_first_fit(&fit);
    free(loads);
}

/* Neighbours on the curve are neighbours in the plane. */
static void
check_keys(void)
{
    int64_t pairs[64 * 64][2], keys[64 * 64];
    ptrdiff_t at[64 * 64];

    for (ptrdiff_t i = 0; i < 64 * 64; i++) {
        pairs[i][0] = i / 64;
        pairs[i][1] = i % 64;
    }
    tb_find_pair_keys(&pairs[0][0], 64 * 64, keys);
    for (ptrdiff_t i = 0; i < 64 * 64; i++) {
        CHECK(keys[i] >= 0 && keys[i] < 64 * 64);
        at[keys[i]] = i;
    }
    for (ptrdiff_t k = 1; k < 64 * 64; k++) {
        int64_t right = pairs[at[k]][0] - pairs[at[k - 1]][0];
        int64_t up = pairs[at[k]][1] - pairs[at[k - 1]][1];
        CHECK(right * right + up * up == 1);
    }
    int64_t largest[2] = {INT64_MAX, INT64_MAX};
    tb_find_pair_keys(largest, 1, keys);
    CHECK(keys[0] >= 0 && keys[0] < (int64_t)1 << 24);
}

int
main(void)
{
    tb_random random;

    tb_seed_random(&random, 1, 0);
    check_plans(&random);
    check_broken();
    check_first_fit(&random);
    check_keys();
    return check_report();
}
