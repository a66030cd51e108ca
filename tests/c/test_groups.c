/* Plans by groups, numbers of labels and rectangles, without Python. */
#include "check.h"

#include "core/base/memory.h"
#include "core/plan/batching.h"
#include "core/plan/groups.h"
#include "core/plan/rectangles.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 1000, GROUPS = 37 };

static tb_batch_settings
plain_settings(void)
{
    tb_batch_settings settings = {0};

    settings.batch_size = INT64_MAX;
    settings.max_tokens = 600;
    settings.max_length = INT64_MAX;
    settings.multiple = 1;
    settings.window = INT64_MAX;
    settings.ranks = 1;
    settings.shuffle = 1;
    return settings;
}

/* How often each row comes; all batches are within the cap and of one group. */
static void
check_plan(const tb_batch_plan *plan, const int64_t *lengths, const int64_t *groups,
           const tb_batch_settings *settings, int *seen)
{
    int64_t *indices = malloc(sizeof *indices * (size_t)(plan->row_count + 1));
    int64_t *offsets = malloc(sizeof *offsets * (size_t)(plan->batch_count + 1));

    CHECK(indices != NULL && offsets != NULL);
    memset(seen, 0, ROWS * sizeof *seen);
    tb_write_batches(plan, indices, offsets);
    CHECK(offsets[plan->batch_count] == plan->row_count);
    for (ptrdiff_t k = 0; k < plan->batch_count; k++) {
        int64_t total = 0, longest = 0, rows = offsets[k + 1] - offsets[k];
        CHECK(rows > 0);
        for (int64_t i = offsets[k]; i < offsets[k + 1]; i++) {
            int64_t length = lengths[indices[i]];
            CHECK(groups[indices[i]] == groups[indices[offsets[k]]]);
            seen[indices[i]]++;
            total += length;
            longest = length > longest ? length : longest;
        }
        int64_t cost =
            settings->padding_free ? total : rows * (longest > 0 ? longest : 1);
        CHECK(cost <= settings->max_tokens);
    }
    free(indices);
    free(offsets);
}

static void
fill(int64_t *lengths, int64_t *groups)
{
    uint64_t state = 5;

    for (int i = 0; i < ROWS; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        lengths[i] = (int64_t)(state >> 33) % 200;
        groups[i] = (int64_t)(state >> 40) % GROUPS;
    }
}

static void
test_each_row_once(void)
{
    int64_t lengths[ROWS], groups[ROWS];
    int seen[ROWS];

    fill(lengths, groups);
    for (int kind = 0; kind < 4; kind++) {
        tb_batch_settings settings = plain_settings();
        tb_group_settings own = {groups, GROUPS, NULL, 100};
        tb_batch_plan plan;
        tb_error error;
        settings.padding_free = kind > 1;
        settings.pool = kind == 2 ? 50 : 0;
        settings.ranks = kind == 1 ? 4 : 1;
        settings.epoch = (uint64_t)kind;
        CHECK(tb_plan_groups(lengths, ROWS, &settings, &own, &plan, &error) == TB_OK);
        CHECK(plan.row_count == ROWS);
        check_plan(&plan, lengths, groups, &settings, seen);
        for (int i = 0; i < ROWS; i++) {
            CHECK(seen[i] == 1);
        }
        tb_free_batches(&plan);
    }
}

static void
test_quotas(void)
{
    int64_t lengths[ROWS], groups[ROWS], quotas[GROUPS];
    int seen[ROWS], total[ROWS] = {0}, counts[GROUPS] = {0};

    fill(lengths, groups);
    for (int k = 0; k < GROUPS; k++) {
        quotas[k] = k * 3 % 50;
    }
    for (int i = 0; i < ROWS; i++) {
        counts[groups[i]]++;
    }
    for (uint64_t epoch = 0; epoch < 9; epoch++) {
        tb_batch_settings settings = plain_settings();
        tb_group_settings own = {groups, GROUPS, quotas, 0};
        tb_batch_plan plan;
        tb_error error;
        settings.epoch = epoch;
        CHECK(tb_plan_groups(lengths, ROWS, &settings, &own, &plan, &error) == TB_OK);
        check_plan(&plan, lengths, groups, &settings, seen);
        for (int i = 0; i < ROWS; i++) {
            total[i] += seen[i];
        }
        tb_free_batches(&plan);
    }
    for (int i = 0; i < ROWS; i++) {
        int64_t whole = 9 * quotas[groups[i]] / counts[groups[i]];
        CHECK(total[i] == whole || total[i] == whole + 1);
    }
}

static void
test_errors(void)
{
    int64_t lengths[3] = {1, 2, 3}, groups[3] = {0, 2, 0}, quotas[2] = {INT64_MAX, 1};
    tb_batch_settings settings = plain_settings();
    tb_group_settings own = {groups, 2, NULL, 0};
    tb_batch_plan plan;
    tb_error error;

    CHECK(tb_plan_groups(lengths, 3, &settings, &own, &plan, &error) == TB_ERR_RANGE);
    CHECK(error.row == 1 && error.value == 2);
    tb_free_batches(&plan);
    groups[1] = 1;
    own.quotas = quotas;
    CHECK(tb_plan_groups(lengths, 3, &settings, &own, &plan, &error) == TB_ERR_SIZE);
    tb_free_batches(&plan);
    quotas[0] = -1;
    CHECK(tb_plan_groups(lengths, 3, &settings, &own, &plan, &error) == TB_ERR_SIZE);
    tb_free_batches(&plan);
    quotas[0] = quotas[1] = 0;
    CHECK(tb_plan_groups(lengths, 3, &settings, &own, &plan, &error) == TB_OK);
    CHECK(plan.row_count == 0 && plan.batch_count == 0);
    tb_free_batches(&plan);
    CHECK(tb_plan_groups(lengths, 0, &settings, &own, &plan, &error) == TB_OK);
    tb_free_batches(&plan);
}

static void
test_labels(void)
{
    int64_t labels[ROWS], groups[ROWS], *firsts = NULL;
    ptrdiff_t count = 0;

    for (int i = 0; i < ROWS; i++) {
        labels[i] = (int64_t)(i % 300) * INT64_C(-1234567890123) ^ INT64_MIN;
    }
    CHECK(tb_number_groups(labels, ROWS, groups, &firsts, &count) == TB_OK);
    CHECK(count == 300);
    for (int i = 0; i < ROWS; i++) {
        CHECK(groups[i] == i % 300);
    }
    for (int k = 0; k < 300; k++) {
        CHECK(firsts[k] == k);
    }
    free(firsts);
    CHECK(tb_number_groups(labels, 0, groups, &firsts, &count) == TB_OK && count == 0);
    free(firsts);
}

static void
test_rectangles(void)
{
    const int64_t first[4] = {1, 5, 9, 5}, second[4] = {1, 2, 9, 8};
    const int64_t bounds[6] = {5, 2, 5, 8, 8, 8};
    int64_t buckets[4];

    tb_assign_rectangles(first, second, 4, bounds, 3, buckets);
    CHECK(buckets[0] == 0 && buckets[1] == 0 && buckets[2] == -1 && buckets[3] == 1);
}

static void
test_large_arrays(void)
{
    const ptrdiff_t count = (1 << 20) + 3;
    uint64_t *words = (uint64_t *)tb_allocate_at_random(count, sizeof *words);

    CHECK(words != NULL);
    words[0] = 1;
    words[count - 1] = 2;
    CHECK(words[0] + words[count - 1] == 3);
    free(words);
    CHECK(tb_allocate_at_random(PTRDIFF_MAX, 8) == NULL);
    free(tb_allocate_at_random(0, 8));
}

int
main(void)
{
    test_each_row_once();
    test_quotas();
    test_errors();
    test_labels();
    test_rectangles();
    test_large_arrays();
    return check_report();
}
