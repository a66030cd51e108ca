/* Random numbers against published values, and plans against what they promise. */
#include "core/plan/balance.h"
#include "core/plan/batching.h"
#include "core/plan/cost.h"
#include "core/plan/survey.h"
#include "core/base/random.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

/* The first numbers of the authors' programs: splitmix64.c with x = 1234567, and
 * xoshiro256starstar.c with s = {1, 2, 3, 4}. */
static void
check_published_values(void)
{
    const uint64_t golden = UINT64_C(0x9E3779B97F4A7C15);
    const uint64_t split[] = {UINT64_C(6457827717110365317),
                              UINT64_C(3203168211198807973),
                              UINT64_C(9817491932198370423)};
    const uint64_t xoshiro[] = {11520,
                                0,
                                1509978240,
                                UINT64_C(1215971899390074240),
                                UINT64_C(1216172134540287360),
                                UINT64_C(607988272756665600),
                                UINT64_C(16172922978634559625),
                                UINT64_C(8476171486693032832)};
    tb_random random = {{1, 2, 3, 4}};

    for (uint64_t i = 0; i < 3; i++) {
        CHECK(tb_mix_bits(1234567 + (i + 1) * golden) == split[i]);
    }
    for (int i = 0; i < 8; i++) {
        CHECK(tb_next_random(&random) == xoshiro[i]);
    }
}

static void
check_seeds(void)
{
    uint64_t first[64];

    for (uint64_t i = 0; i < 64; i++) {
        tb_random random;
        tb_seed_random(&random, i / 8, i % 8);
        first[i] = tb_next_random(&random);
        for (uint64_t j = 0; j < i; j++) {
            CHECK(first[j] != first[i]);
        }
    }
}

static void
check_wide_product(void)
{
    uint64_t low, a = UINT64_MAX, b = UINT64_C(0xFEDCBA9876543210);

    CHECK(tb_multiply_wide(a, a, &low) == UINT64_MAX - 1 && low == 1);
    CHECK(tb_multiply_wide(a, 2, &low) == 1 && low == UINT64_MAX - 1);
    CHECK(tb_multiply_wide(b, (uint64_t)1 << 60, &low) == b >> 4 && low == b << 60);
    CHECK(tb_multiply_wide(UINT32_MAX, UINT32_MAX, &low) == 0 &&
          low == (uint64_t)UINT32_MAX * UINT32_MAX);
    /* (2**64 - 1) * b = b * 2**64 - b */
    CHECK(tb_multiply_wide(a, b, &low) == b - 1 && low == 0 - b);
}

/* Bounds near the top, where nearly half of the draws have to be made again: without
 * that, some thirds would come up more often than others by a quarter. */
static void
check_bounds(void)
{
    tb_random random;
    int thirds[2][3] = {{0}};

    tb_seed_random(&random, 3, 4);
    for (int i = 0; i < 30000; i++) {
        uint32_t bits = (uint32_t)(tb_next_random(&random) >> 32);
        uint32_t narrow = tb_bound_bits(&random, bits, (uint32_t)3 << 30);
        uint64_t wide = tb_random_below(&random, (uint64_t)3 << 62);
        thirds[0][narrow >> 30]++;
        thirds[1][wide >> 62]++;
        CHECK(tb_bound_bits(&random, bits, 1) == 0);
        CHECK(tb_bound_bits(&random, bits, 7) < 7);
        CHECK(tb_random_below(&random, 1) == 0);
        CHECK(tb_random_below(&random, 7) < 7);
    }
    for (int i = 0; i < 6; i++) {
        /* 10,000 and 5 standard deviations */
        CHECK(abs(thirds[i / 3][i % 3] - 10000) < 410);
    }
}

static void
check_shuffle(void)
{
    uint64_t words[200];
    unsigned char seen[200];

    for (size_t n = 0; n <= 200; n++) {
        tb_random random;
        tb_seed_random(&random, n, 0);
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < n; i++) {
            words[i] = i;
        }
        tb_shuffle_words(&random, words, n);
        for (size_t i = 0; i < n; i++) {
            CHECK(words[i] < n && !seen[words[i]]);
            seen[words[i]] = 1;
        }
    }
}

enum { MOST_ROWS = 400 };

/* What a batch costs, or would cost with one more row as long as its longest. */
static int64_t
find_cost(const int64_t *lengths, const tb_batch_settings *settings,
          const int64_t *batch, int64_t rows, int64_t more)
{
    int64_t longest = 0, cost = 0, total = 0;

    for (int64_t i = 0; i < rows; i++) {
        int64_t length = lengths[batch[i]];
        length = length > settings->max_length ? settings->max_length : length;
        longest = length > longest ? length : longest;
        CHECK(tb_find_row_cost(length, settings, &cost) == TB_OK);
        total += cost;
    }
    CHECK(tb_find_row_cost(longest, settings, &cost) == TB_OK);
    return settings->padding_free ? total + cost * more : cost * (rows + more);
}

static void
check_plan(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings)
{
    static int64_t indices[MOST_ROWS], offsets[MOST_ROWS + 1];
    unsigned char seen[MOST_ROWS] = {0};
    tb_batch_plan plan;
    tb_error error;

    CHECK(tb_plan_batches(lengths, n, settings, &plan, &error) == TB_OK);
    CHECK(plan.row_count <= n && (settings->drop_last || plan.row_count == n));
    tb_write_batches(&plan, indices, offsets);
    CHECK(offsets[0] == 0 && offsets[plan.batch_count] == plan.row_count);
    for (ptrdiff_t i = 0; i < plan.row_count; i++) {
        CHECK(indices[i] >= 0 && indices[i] < n && !seen[indices[i]]);
        seen[indices[i]] = 1;
    }
    for (ptrdiff_t k = 0; k < plan.batch_count; k++) {
        int64_t rows = offsets[k + 1] - offsets[k];
        const int64_t *batch = indices + offsets[k];
        int fits_more =
            rows < settings->batch_size &&
            find_cost(lengths, settings, batch, rows, 1) <= settings->max_tokens;
        CHECK(rows >= 1 && rows <= settings->batch_size);
        CHECK(find_cost(lengths, settings, batch, rows, 0) <= settings->max_tokens);
        CHECK(!fits_more || settings->padding_free ||
              ((k == plan.batch_count - 1 || settings->longest_first) &&
               !settings->drop_last));
    }
    tb_free_batches(&plan);
    CHECK(plan.items == NULL && plan.batch_count == 0);
}

static void
check_plans(void)
{
    tb_random random;
    int64_t lengths[MOST_ROWS];

    tb_seed_random(&random, 5, 0);
    for (int round = 0; round < 3000; round++) {
        tb_batch_settings settings = {
            .max_length = INT64_MAX, .balance = 1 + round % 6, .ranks = 1 + round % 5};
        ptrdiff_t n = (ptrdiff_t)tb_random_below(&random, MOST_ROWS);
        int64_t longest =
            1 + (int64_t)tb_random_below(&random, (uint64_t)1 << round % 40);
        for (ptrdiff_t i = 0; i < n; i++) {
            lengths[i] = (int64_t)tb_random_below(&random, (uint64_t)longest + 1);
        }
        settings.multiple = 1 + (int64_t)tb_random_below(&random, 9);
        settings.window = 1 + (int64_t)tb_random_below(&random, MOST_ROWS);
        settings.shuffle = round % 4 != 0;
        settings.drop_last = round % 5 == 0;
        settings.seed = (uint64_t)round;
        settings.batch_size =
            round % 3 == 0 ? INT64_MAX : 1 + (int64_t)tb_random_below(&random, 50);
        settings.max_tokens =
            round % 3 == 1
                ? INT64_MAX
                : (longest + 9) * (1 + (int64_t)tb_random_below(&random, 50));
        settings.padding_free = round % 2;
        settings.longest_first = round % 8 < 3;
        if (round % 7 == 0) {
            settings.max_length = 1 + longest / 2;
        }
        if (round % 11 == 0 && longest < 1 << 20) {
            /* A row may then cost up to 5 times its width, or 9 more for its multiple.
             */
            settings.quadratic = 1 + longest / 3;
            settings.max_tokens = round % 3 == 1 ? INT64_MAX : 40 * (longest + 9) * 5;
        }
        check_plan(lengths, n, &settings);
    }
}

static void
check_refused(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
              tb_status status, ptrdiff_t row)
{
    tb_length_summary summary;
    tb_batch_plan plan;
    tb_error error = {-1, -1, -1};

    CHECK(tb_summarize_lengths(lengths, n, settings, &summary, &error) == status);
    CHECK(error.row == row && error.column == -1 && error.value == lengths[row]);
    error.row = -1;
    CHECK(tb_plan_batches(lengths, n, settings, &plan, &error) == status);
    CHECK(error.row == row && error.value == lengths[row]);
    tb_free_batches(&plan);
}

static void
check_errors(void)
{
    tb_batch_settings settings = {.batch_size = 2,
                                  .max_tokens = 10,
                                  .max_length = INT64_MAX,
                                  .multiple = 4,
                                  .window = 3};
    const int64_t negative[] = {3, INT64_MIN, -1}, wide[] = {3, 9, 12};
    const int64_t longest[] = {1, INT64_MAX, 2};

    check_refused(negative, 3, &settings, TB_ERR_NEGATIVE, 1);
    check_refused(wide, 3, &settings, TB_ERR_TOO_LONG, 1);
    check_refused(longest, 3, &settings, TB_ERR_TOO_LONG, 1);
    settings.drop_overlong = 1;
    CHECK(tb_find_longest_allowed(&settings) == 8);
    settings.drop_overlong = 0;
    settings.multiple = 1;
    settings.max_tokens = INT64_MAX;
    check_refused(longest, 3, &settings, TB_ERR_SIZE,
                  1); /* 63 bits and 2 of the index */
    settings.max_length = INT64_MAX >> 1;
    check_plan(longest, 3, &settings);
    settings.max_length = 8;
    settings.multiple = 4;
    settings.max_tokens = 8;
    check_plan(wide, 3, &settings);
}

static void
check_summary(void)
{
    const int64_t lengths[] = {7, 0, 100, 5},
                  large[] = {INT64_MAX >> 2, INT64_MAX >> 3};
    tb_batch_settings settings = {.batch_size = 2,
                                  .max_tokens = INT64_MAX,
                                  .max_length = 50,
                                  .multiple = 1,
                                  .window = 1};
    tb_length_summary summary;
    tb_error error;

    CHECK(tb_summarize_lengths(lengths, 4, &settings, &summary, &error) == TB_OK);
    CHECK(summary.shortest == 0 && summary.longest == 50 && summary.total == 62);
    CHECK(tb_summarize_lengths(lengths, 0, &settings, &summary, &error) == TB_OK);
    CHECK(summary.shortest == 0 && summary.longest == 0 && summary.total == 0);
    settings.max_length = INT64_MAX;
    CHECK(tb_summarize_lengths(large, 2, &settings, &summary, &error) == TB_OK);
    CHECK(summary.total == (INT64_MAX >> 2) + (INT64_MAX >> 3));
}

/* Costs up to the last that fits into 64 bits, and saturated beyond. */
static void
check_costs(void)
{
    const int64_t widths[] = {3, 100, (int64_t)1 << 40};
    const int64_t lengths[] = {0, 7, 8, 9, INT64_MAX};
    tb_batch_settings settings = {.batch_size = 2,
                                  .max_tokens = INT64_MAX,
                                  .max_length = INT64_MAX,
                                  .multiple = 8};
    int64_t cost = -1, costs[5];
    uint64_t items[4] = {0, 1, 2, 3};
    ptrdiff_t starts[2] = {0, 4};
    tb_batch_plan plan = {.items = items, .starts = starts, .index_bits = 2};

    CHECK(tb_find_row_cost(0, &settings, &cost) == TB_OK && cost == 8);
    CHECK(tb_find_row_cost(INT64_MAX - 7, &settings, &cost) == TB_OK);
    CHECK(cost == INT64_MAX - 7);
    CHECK(tb_find_row_cost(INT64_MAX - 6, &settings, &cost) == TB_ERR_SIZE);
    tb_find_row_costs(lengths, 5, &settings, costs);
    CHECK(costs[0] == 8 && costs[1] == 8 && costs[2] == 8 && costs[3] == 16);
    CHECK(costs[4] == INT64_MAX / 5);
    settings.max_length = 10;
    tb_find_row_costs(lengths + 4, 1, &settings, costs);
    CHECK(costs[0] == 16);
    settings.padding_free = 1;
    CHECK(tb_find_row_cost(0, &settings, &cost) == TB_OK && cost == 0);
    settings.multiple = 1;
    settings.quadratic = 3;
    CHECK(tb_find_row_cost(10, &settings, &cost) == TB_OK && cost == 43);
    settings.quadratic = 1;
    CHECK(tb_find_row_cost(3037000499, &settings, &cost) == TB_OK);
    CHECK(cost == INT64_C(9223372033963249500));
    CHECK(tb_find_row_cost(3037000500, &settings, &cost) == TB_ERR_SIZE);
    for (int padding_free = 0; padding_free < 2; padding_free++) {
        settings.padding_free = padding_free;
        plan.longest = 2147483000;
        CHECK(tb_find_batch_cost(&plan, &settings, 0) ==
              UINT64_C(18446732949745932000));
        plan.longest = (int64_t)1 << 31;
        CHECK(tb_find_batch_cost(&plan, &settings, 0) == UINT64_MAX);
        plan.longest = 3037000500;
        CHECK(tb_find_batch_cost(&plan, &settings, 0) == UINT64_MAX);
    }
    settings = (tb_batch_settings){
        .multiple = 1, .boundaries = widths, .boundary_count = 3, .max_tokens = 100};
    CHECK(tb_find_row_cost(0, &settings, &cost) == TB_OK && cost == 3);
    CHECK(tb_find_row_cost(3, &settings, &cost) == TB_OK && cost == 3);
    CHECK(tb_find_row_cost(4, &settings, &cost) == TB_OK && cost == 100);
    CHECK(tb_find_row_cost(widths[2], &settings, &cost) == TB_OK && cost == widths[2]);
    CHECK(tb_find_row_cost(widths[2] + 1, &settings, &cost) == TB_ERR_SIZE);
    CHECK(tb_find_longest_allowed(&settings) == 100);
}

/* Ranks get as many rows, and costs that are as even as the best of many shuffles. */
static void
check_shares(void)
{
    tb_random random;
    int64_t costs[60], rank_of[60];

    tb_seed_random(&random, 9, 0);
    for (int round = 0; round < 500; round++) {
        ptrdiff_t n = (ptrdiff_t)tb_random_below(&random, 61);
        ptrdiff_t ranks = 1 + (ptrdiff_t)tb_random_below(&random, 8);
        int64_t totals[8] = {0}, counts[8] = {0}, total = 0, largest = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            costs[i] = (int64_t)tb_random_below(&random, 1000);
            total += costs[i];
            largest = costs[i] > largest ? costs[i] : largest;
        }
        CHECK(tb_share_rows(costs, n, ranks, rank_of) == TB_OK);
        for (ptrdiff_t i = 0; i < n; i++) {
            CHECK(rank_of[i] >= 0 && rank_of[i] < ranks);
            totals[rank_of[i]] += costs[i];
            counts[rank_of[i]]++;
        }
        for (ptrdiff_t r = 0; r < ranks; r++) {
            CHECK(counts[r] == n / ranks || counts[r] == n / ranks + 1);
            CHECK(totals[r] <= total / ranks + largest);
        }
    }
    costs[0] = -1;
    CHECK(tb_share_rows(costs, 1, 1, rank_of) == TB_ERR_NEGATIVE);
    costs[0] = costs[1] = INT64_MAX;
    CHECK(tb_share_rows(costs, 2, 1, rank_of) == TB_ERR_SIZE);
    CHECK(tb_share_rows(costs, 0, 0, rank_of) == TB_ERR_SIZE);
}

int
main(void)
{
    check_published_values();
    check_seeds();
    check_wide_product();
    check_bounds();
    check_shuffle();
    check_plans();
    check_errors();
    check_summary();
    check_costs();
    check_shares();
    return check_report();
}
