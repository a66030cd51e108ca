/* Parts of a batch: numbers, caps and bounds, against every assignment; and floats. */
#include "check.h"
#include "core/base/random.h"
#include "core/plan/partition.h"

#include <math.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 7 };

/* The least that the most expensive of k parts can cost, with none empty. */
static int64_t
find_best(const int64_t *costs, ptrdiff_t n, ptrdiff_t k, int equal_counts)
{
    int64_t best = INT64_MAX;
    ptrdiff_t tries = 1;

    for (ptrdiff_t i = 0; i < n; i++) {
        tries *= k;
    }
    for (ptrdiff_t number = 0; number < tries; number++) {
        int64_t totals[MOST] = {0}, counts[MOST] = {0}, largest = 0;
        int is_allowed = 1;
        ptrdiff_t rest = number;
        for (ptrdiff_t i = 0; i < n; i++, rest /= k) {
            totals[rest % k] += costs[i];
            counts[rest % k]++;
        }
        for (ptrdiff_t part = 0; part < k; part++) {
            largest = totals[part] > largest ? totals[part] : largest;
            is_allowed &= counts[part] > 0;
            if (equal_counts) {
                is_allowed &= counts[part] == n / k || counts[part] == (n + k - 1) / k;
            }
        }
        best = is_allowed && largest < best ? largest : best;
    }
    return best;
}

static void
check_parts(const int64_t *costs, ptrdiff_t n, const tb_partition_settings *settings,
            const int64_t *part_of, const tb_partition *made)
{
    int64_t totals[64] = {0}, counts[64] = {0}, indices[64], offsets[65], least = n;
    int64_t most = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        CHECK(part_of[i] >= 0 && part_of[i] < made->k);
        totals[part_of[i]] += costs[i];
        counts[part_of[i]]++;
    }
    for (ptrdiff_t part = 0; part < made->k; part++) {
        CHECK(counts[part] > 0);
        CHECK(totals[part] <= settings->cap);
        CHECK(part == 0 || totals[part] <= totals[part - 1]);
        least = counts[part] < least ? counts[part] : least;
        most = counts[part] > most ? counts[part] : most;
    }
    CHECK(totals[0] == made->largest && made->bound <= made->largest);
    CHECK(!settings->equal_counts || most - least <= 1);
    tb_list_parts(part_of, n, made->k, indices, offsets);
    CHECK(offsets[0] == 0 && offsets[made->k] == n);
    for (ptrdiff_t part = 0; part < made->k; part++) {
        CHECK(offsets[part + 1] - offsets[part] == counts[part]);
        for (int64_t i = offsets[part]; i < offsets[part + 1]; i++) {
            CHECK(part_of[indices[i]] == part);
            CHECK(i == offsets[part] || indices[i] > indices[i - 1]);
        }
    }
}

static void
check_small(void)
{
    tb_random random;
    int64_t costs[MOST], part_of[MOST];

    tb_seed_random(&random, 1, 0);
    for (int round = 0; round < 600; round++) {
        ptrdiff_t n = 1 + (ptrdiff_t)tb_random_below(&random, MOST - 1);
        tb_partition_settings settings = {.multiple = 1, .cap = INT64_MAX};
        tb_partition made;
        tb_error error;
        settings.k = 1 + (ptrdiff_t)tb_random_below(&random, n < 3 ? (uint64_t)n : 3);
        settings.equal_counts = round % 2;
        for (ptrdiff_t i = 0; i < n; i++) {
            costs[i] = (int64_t)tb_random_below(&random, 20);
        }
        int64_t best = find_best(costs, n, settings.k, settings.equal_counts);
        CHECK(tb_partition_rows(costs, n, &settings, part_of, &made, &error) == TB_OK);
        check_parts(costs, n, &settings, part_of, &made);
        CHECK(made.k == settings.k && made.bound <= best && best <= made.largest);
        /* The best cap there is: parts are found, or the error says for how many. */
        settings.cap = best;
        tb_status status =
            tb_partition_rows(costs, n, &settings, part_of, &made, &error);
        CHECK(status == TB_OK || status == TB_ERR_RANGE);
        if (status == TB_OK) {
            check_parts(costs, n, &settings, part_of, &made);
        }
        else {
            CHECK(made.least > settings.k && made.least <= n);
            settings.k = made.least;
            CHECK(tb_partition_rows(costs, n, &settings, part_of, &made, &error) ==
                  TB_OK);
        }
    }
}

static void
check_many(void)
{
    tb_random random;
    int64_t costs[60], part_of[60];

    tb_seed_random(&random, 2, 0);
    for (int round = 0; round < 600; round++) {
        ptrdiff_t n = 1 + (ptrdiff_t)tb_random_below(&random, 60);
        tb_partition_settings settings = {.multiple = 1 + round % 3, .cap = 1000};
        tb_partition made, fixed;
        tb_error error;
        settings.equal_counts = round / 3 % 2;
        for (ptrdiff_t i = 0; i < n; i++) {
            int64_t cost = (int64_t)tb_random_below(&random, 1001);
            costs[i] = round % 5 == 0 ? cost / 300 * 300 : cost;
        }
        tb_status status =
            tb_partition_rows(costs, n, &settings, part_of, &made, &error);
        if (status == TB_ERR_RANGE) {
            CHECK(settings.multiple > 1 && made.least == 0);
            continue;
        }
        CHECK(status == TB_OK && made.k % settings.multiple == 0);
        check_parts(costs, n, &settings, part_of, &made);
        if (settings.equal_counts) {
            continue;
        }
        for (settings.k = made.k; settings.k <= n; settings.k++) {
            CHECK(tb_partition_rows(costs, n, &settings, part_of, &fixed, &error) ==
                  TB_OK);
            check_parts(costs, n, &settings, part_of, &fixed);
        }
    }
}

static void
check_errors(void)
{
    int64_t costs[3] = {5, 9, 2}, part_of[3];
    tb_partition_settings settings = {.k = 0, .multiple = 1, .cap = 8};
    tb_partition made;
    tb_error error;

    CHECK(tb_partition_rows(costs, 3, &settings, part_of, &made, &error) ==
          TB_ERR_TOO_LONG);
    CHECK(error.row == 1 && error.value == 9);
    settings.cap = INT64_MAX;
    settings.k = 4;
    CHECK(tb_partition_rows(costs, 3, &settings, part_of, &made, &error) ==
          TB_ERR_RANGE);
    CHECK(made.least == 3);
    settings.k = 1;
    settings.cap = 15;
    CHECK(tb_partition_rows(costs, 3, &settings, part_of, &made, &error) ==
          TB_ERR_RANGE);
    CHECK(made.least == 2);
    costs[2] = -1;
    CHECK(tb_partition_rows(costs, 3, &settings, part_of, &made, &error) ==
          TB_ERR_NEGATIVE);
    CHECK(error.row == 2 && error.value == -1);
    costs[0] = costs[2] = INT64_MAX / 2 + 1;
    costs[1] = 0;
    CHECK(tb_partition_rows(costs, 3, &settings, part_of, &made, &error) ==
          TB_ERR_SIZE);
    CHECK(error.row == 2);
    /* Costs that leave no bits for a row's number. */
    costs[0] = INT64_MAX - 1;
    costs[1] = 1;
    costs[2] = 0;
    settings = (tb_partition_settings){.k = 2, .multiple = 1, .cap = INT64_MAX};
    CHECK(tb_partition_rows(costs, 3, &settings, part_of, &made, &error) == TB_OK);
    CHECK(part_of[0] == 0 && part_of[1] == 1 && made.bound == INT64_MAX - 1);
    settings.cap = INT64_MAX - 1;
    settings.k = 0;
    CHECK(tb_partition_rows(costs, 3, &settings, part_of, &made, &error) == TB_OK);
    CHECK(made.k == 2 && made.largest == INT64_MAX - 1);
}

static void
check_floats(void)
{
    double costs[3] = {0.5, 0.25, 3.0};
    int64_t scaled[3];
    int shift;
    ptrdiff_t rounded;
    tb_error error;

    CHECK(tb_scale_costs(costs, 3, scaled, &shift, &rounded, &error) == TB_OK);
    CHECK(shift == 59 && rounded == 0 && scaled[1] == INT64_C(1) << 57);
    CHECK(tb_scale_cap(0.75, shift, 0) == scaled[0] + scaled[1]);
    CHECK(tb_scale_cap(1e300, shift, 9) == INT64_MAX && tb_scale_cap(0, shift, 9) == 0);
    costs[0] = 0x1p-1074;
    CHECK(tb_scale_costs(costs, 3, scaled, &shift, &rounded, &error) == TB_OK);
    CHECK(rounded == 1 && scaled[0] == 1);
    costs[1] = NAN;
    CHECK(tb_scale_costs(costs, 3, scaled, &shift, &rounded, &error) == TB_ERR_INEXACT);
    CHECK(error.row == 1);
    costs[1] = INFINITY;
    CHECK(tb_scale_costs(costs, 3, scaled, &shift, &rounded, &error) == TB_ERR_INEXACT);
    costs[1] = -0.5;
    CHECK(tb_scale_costs(costs, 3, scaled, &shift, &rounded, &error) ==
          TB_ERR_NEGATIVE);
    costs[1] = costs[2] = 1e308;
    CHECK(tb_scale_costs(costs, 3, scaled, &shift, &rounded, &error) ==
          TB_ERR_OVERFLOW);
    memset(costs, 0, sizeof costs);
    CHECK(tb_scale_costs(costs, 3, scaled, &shift, &rounded, &error) == TB_OK);
    CHECK(shift == 0 && rounded == 0 && scaled[0] == 0);
}

static int polls, most_polls;

static int
poll_some(void)
{
    return ++polls < most_polls ? 0 : -1;
}

enum { N = 60000 };

/* A signal ends the call, at whichever poll it is seen. Gives how many there are. */
static int
check_signals(const int64_t *costs, const tb_partition_settings *settings,
              int64_t *part_of)
{
    tb_partition made;
    tb_error error;

    polls = 0;
    most_polls = INT_MAX;
    CHECK(tb_partition_rows(costs, N, settings, part_of, &made, &error) == TB_OK);
    int all = polls;
    for (int seen = 1; seen <= all; seen += 1 + seen / 8) {
        polls = 0;
        most_polls = seen;
        CHECK(tb_partition_rows(costs, N, settings, part_of, &made, &error) ==
              TB_ERR_INTERRUPTED);
        CHECK(polls == seen);
    }
    return all;
}

/* Nearly as many parts as rows: what took n * k steps. */
static void
check_many_parts(void)
{
    tb_partition_settings settings = {
        .k = N / 2, .multiple = 1, .cap = INT64_MAX, .poll = poll_some};
    int64_t *costs = (int64_t *)malloc(2 * N * sizeof *costs), *part_of = costs + N;
    tb_partition made;
    tb_error error;

    CHECK(costs != NULL);
    for (ptrdiff_t i = 0; i < N; i++) {
        costs[i] = i + 1;
    }
    for (settings.equal_counts = 0; settings.equal_counts < 2;
         settings.equal_counts++) {
        polls = 0;
        most_polls = 1000;
        CHECK(tb_partition_rows(costs, N, &settings, part_of, &made, &error) == TB_OK);
        CHECK(polls < most_polls && made.k == N / 2 && made.largest == made.bound);
        for (ptrdiff_t i = 0; i < N; i++) { /* the largest with the smallest */
            CHECK(part_of[i] == part_of[N - 1 - i]);
        }
    }
    settings.equal_counts = 0;
    settings.k = 8; /* most joins are of two that have all parts */
    CHECK(check_signals(costs, &settings, part_of) > 0);
    settings.k = 5000; /* most are not */
    CHECK(check_signals(costs, &settings, part_of) > 0);
    free(costs);
}

int
main(void)
{
    check_small();
    check_many();
    check_errors();
    check_floats();
    check_many_parts();
    return check_report();
}
