/* Boundaries against a dynamic programme that looks at every cut. */
#include "core/plan/buckets.h"
#include "core/base/random.h"
#include "check.h"

#include <stdlib.h>

enum { MOST = 600 };

/* best[j], the fewest tokens of the first j widths in q runs, from that of q - 1. */
static void
add_run(const tb_widths *widths, const int64_t *before, int64_t *after)
{
    for (ptrdiff_t j = 0; j <= widths->count; j++) {
        after[j] = INT64_MAX;
        for (ptrdiff_t i = 0; i < j; i++) {
            int64_t run = (widths->rows[j] - widths->rows[i]) * widths->widths[j - 1];
            if (before[i] < INT64_MAX && before[i] + run < after[j]) {
                after[j] = before[i] + run;
            }
        }
    }
}

/* Tokens of the rows, each padded to its boundary. */
static int64_t
pad_to_boundaries(const int64_t *lengths, ptrdiff_t n, const int64_t *boundaries)
{
    int64_t tokens = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t b = 0;
        while (boundaries[b] < lengths[i]) {
            b++;
        }
        tokens += boundaries[b];
    }
    return tokens;
}

static void
check_choice(const int64_t *lengths, ptrdiff_t n, int64_t multiple, ptrdiff_t k)
{
    int64_t boundaries[MOST], alone[MOST], waste[MOST], best[2][MOST + 1];
    tb_widths widths;
    tb_error error;

    CHECK(tb_count_widths(lengths, n, multiple, &widths, &error) == TB_OK);
    ptrdiff_t count = k < widths.count ? k : widths.count;
    CHECK(tb_choose_boundaries(&widths, k, boundaries, waste, NULL) == TB_OK);
    CHECK(tb_choose_boundaries(&widths, k, alone, NULL, NULL) == TB_OK);
    CHECK(widths.rows[0] == 0 && widths.rows[widths.count] == n);
    for (ptrdiff_t j = 0; j <= widths.count; j++) {
        best[0][j] = j == 0 ? 0 : INT64_MAX;
    }
    for (ptrdiff_t q = 0; q < count; q++) {
        add_run(&widths, best[q % 2], best[(q + 1) % 2]);
        CHECK(waste[q] == best[(q + 1) % 2][widths.count] - widths.tokens);
        CHECK(boundaries[q] % multiple == 0 && boundaries[q] == alone[q]);
        CHECK(q == 0 || (boundaries[q] > boundaries[q - 1] && waste[q] < waste[q - 1]));
    }
    CHECK(boundaries[count - 1] == widths.widths[widths.count - 1]);
    CHECK(pad_to_boundaries(lengths, n, boundaries) ==
          widths.tokens + waste[count - 1]);
    tb_free_widths(&widths);
}

/* Short lengths are counted in a table, long ones are sorted. */
static void
check_choices(void)
{
    const int64_t ranges[] = {1, 3, 40, 5000, INT64_C(1) << 22, INT64_C(1) << 50};
    int64_t lengths[MOST];
    tb_random random;

    tb_seed_random(&random, 1, 2);
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
        for (ptrdiff_t n = 1; n <= MOST; n = 3 * n + 1) {
            for (ptrdiff_t i = 0; i < n; i++) {
                lengths[i] = (int64_t)tb_random_below(&random, (uint64_t)ranges[r]);
            }
            check_choice(lengths, n, 1, 1);
            check_choice(lengths, n, 1, 7);
            check_choice(lengths, n, 64, 5);
            check_choice(lengths, n, 1, PTRDIFF_MAX);
        }
    }
}

static void
check_errors(void)
{
    const int64_t negative[] = {4, -2, 7, -9}, long_ones[] = {5, INT64_MAX / 2, 1},
                  exact[] = {INT64_MAX};
    tb_widths widths;
    tb_error error;

    CHECK(tb_count_widths(negative, 4, 1, &widths, &error) == TB_ERR_NEGATIVE);
    CHECK(error.row == 1 && error.value == -2);
    tb_free_widths(&widths);
    CHECK(tb_count_widths(long_ones, 3, 1, &widths, &error) == TB_ERR_SIZE);
    CHECK(error.row == 1 && error.value == INT64_MAX / 2);
    tb_free_widths(&widths);
    CHECK(tb_count_widths(exact, 1, 2, &widths, &error) == TB_ERR_SIZE);
    CHECK(error.row == 0);
    tb_free_widths(&widths);
    CHECK(tb_count_widths(exact, 1, 1, &widths, &error) == TB_OK);
    CHECK(widths.count == 1 && widths.tokens == INT64_MAX);
    tb_free_widths(&widths);
    tb_free_widths(&widths);
}

/* More cuts than can be numbered. */
static void
check_no_memory(void)
{
    tb_widths widths = {NULL, NULL, (ptrdiff_t)1 << 50, 0};

    CHECK(tb_choose_boundaries(&widths, 2, NULL, NULL, NULL) == TB_ERR_MEMORY);
}

static int polls;

static int
poll_thrice(void)
{
    return ++polls < 3 ? 0 : -1;
}

/* So many cuts that only some are held at once. The last of k boundaries and the best k - 1
 * before it are the best k: so each prefix is checked against the waste. */
static void
check_many(void)
{
    enum { WIDTHS = 6000, K = 3000 };
    int64_t *lengths = (int64_t *)malloc(WIDTHS * sizeof *lengths);
    int64_t *boundaries = (int64_t *)malloc(K * sizeof *boundaries);
    int64_t *waste = (int64_t *)malloc(K * sizeof *waste);
    tb_widths widths;
    tb_random random;
    tb_error error;

    tb_seed_random(&random, 5, 6);
    for (ptrdiff_t i = 0; i < WIDTHS; i++) {
        lengths[i] = 10 * i + (int64_t)tb_random_below(&random, 10);
    }
    CHECK(tb_count_widths(lengths, WIDTHS, 1, &widths, &error) == TB_OK);
    for (ptrdiff_t k = K; k > K - 3; k--) {
        CHECK(tb_choose_boundaries(&widths, k, boundaries, waste, NULL) == TB_OK);
        CHECK(pad_to_boundaries(lengths, WIDTHS, boundaries) ==
              widths.tokens + waste[k - 1]);
        CHECK(k == 1 || waste[k - 1] < waste[k - 2]);
        waste[k - 1] = boundaries[0];
        CHECK(tb_choose_boundaries(&widths, k, boundaries, NULL, NULL) == TB_OK);
        CHECK(boundaries[0] == waste[k - 1] &&
              boundaries[k - 1] == lengths[WIDTHS - 1]);
    }
    polls = 0;
    CHECK(tb_choose_boundaries(&widths, K, boundaries, waste, poll_thrice) ==
          TB_ERR_INTERRUPTED);
    CHECK(polls == 3);
    tb_free_widths(&widths);
    free(lengths);
    free(boundaries);
    free(waste);
}

int
main(void)
{
    check_choices();
    check_many();
    check_errors();
    check_no_memory();
    return check_report();
}
