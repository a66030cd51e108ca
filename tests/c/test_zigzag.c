/* Shares of context parallelism: every token once, to and fro, and no size overflows. */
#include "check.h"
#include "core/base/random.h"
#include "core/layout/zigzag.h"

#include <string.h>

enum { SEGMENTS = 5, RANKS = 4, MOST = 400 };

/* By the definition, token by token: the rank and the place of each padded token. */
static void
check_share(const tb_zigzag *plan, ptrdiff_t rank)
{
    int64_t places[MOST], positions[MOST], padded[SEGMENTS], begin = 0;
    ptrdiff_t at = 0;

    tb_index_zigzag(plan, rank, places);
    tb_position_zigzag(plan, rank, positions);
    tb_pad_zigzag(plan, padded);
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        int64_t size = padded[i] / (2 * plan->ranks);
        CHECK(padded[i] % (2 * plan->ranks) == 0 && padded[i] >= plan->lengths[i] &&
              padded[i] < plan->lengths[i] + 2 * plan->ranks);
        for (int64_t j = 0; j < padded[i]; j++) {
            int64_t chunk = size > 0 ? j / size : 0;
            if (chunk == rank || chunk == 2 * plan->ranks - 1 - rank) {
                CHECK(places[at] == begin + j && positions[at] == j);
                at++;
            }
        }
        begin += padded[i];
    }
    CHECK(at == plan->padded_total / plan->ranks);
}

static void
check_values(const tb_zigzag *plan)
{
    int64_t values[MOST], back[MOST], share[MOST], fill = -7;

    for (int64_t i = 0; i < plan->total; i++) {
        values[i] = i;
        back[i] = -1;
    }
    for (ptrdiff_t rank = 0; rank < plan->ranks; rank++) {
        tb_take_zigzag(plan, rank, values, sizeof *values, 0, &fill, share);
        tb_put_zigzag(plan, rank, share, sizeof *share, back);
    }
    CHECK(memcmp(values, back, (size_t)plan->total * sizeof *values) == 0);
    for (ptrdiff_t rank = 0; rank < plan->ranks; rank++) {
        tb_take_zigzag(plan, rank, values, sizeof *values, 1, &fill, share);
        tb_put_zigzag(plan, rank, share, sizeof *share, back);
    }
    for (ptrdiff_t i = 0, at = 0; i < plan->count; i++) {
        int64_t padded[SEGMENTS];
        tb_pad_zigzag(plan, padded);
        int64_t length = plan->is_padded ? padded[i] : plan->lengths[i];
        for (int64_t j = 0; j < length; j++, at++) {
            CHECK(back[at] == (j + 1 < plan->lengths[i] ? at + 1 : fill));
        }
    }
}

static void
check_shares(void)
{
    tb_random random;
    int64_t lengths[SEGMENTS];
    tb_error error;

    tb_seed_random(&random, 3, 0);
    for (int round = 0; round < 400; round++) {
        tb_zigzag plan = {.lengths = lengths, .is_padded = round % 2};
        plan.count = (ptrdiff_t)tb_random_below(&random, SEGMENTS + 1);
        plan.ranks = 1 + (ptrdiff_t)tb_random_below(&random, RANKS);
        for (ptrdiff_t i = 0; i < plan.count; i++) {
            lengths[i] = (int64_t)tb_random_below(&random, 60);
        }
        CHECK(tb_plan_zigzag(&plan, &error) == TB_OK);
        for (ptrdiff_t rank = 0; rank < plan.ranks; rank++) {
            check_share(&plan, rank);
        }
        check_values(&plan);
    }
}

static void
check_errors(void)
{
    int64_t lengths[2] = {4, -1};
    tb_zigzag plan = {.lengths = lengths, .count = 2, .ranks = 2};
    tb_error error;

    CHECK(tb_plan_zigzag(&plan, &error) == TB_ERR_NEGATIVE);
    CHECK(error.row == 1 && error.value == -1);
    lengths[1] = INT64_MAX;
    CHECK(tb_plan_zigzag(&plan, &error) == TB_ERR_SIZE && error.row == 1);
    lengths[0] = lengths[1] = INT64_MAX / 2 + 1;
    CHECK(tb_plan_zigzag(&plan, &error) == TB_ERR_SIZE && error.row == 1);
    lengths[1] = 0;
    CHECK(tb_plan_zigzag(&plan, &error) == TB_OK);
    plan.ranks = PTRDIFF_MAX / 2 + 1;
    CHECK(tb_plan_zigzag(&plan, &error) == TB_ERR_SIZE && error.row == -1);
    plan.ranks = 0;
    CHECK(tb_plan_zigzag(&plan, &error) == TB_ERR_SIZE);
}

int
main(void)
{
    check_shares();
    check_errors();
    return check_report();
}
