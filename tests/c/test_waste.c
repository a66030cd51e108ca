/* Plans of bare lengths against plans of rows: the same batches, in the same order. */
#include "core/base/random.h"
#include "core/plan/batching.h"
#include "core/plan/waste.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 1000 };

static const tb_batch_settings plain = {
    .batch_size = 16,
    .max_tokens = INT64_MAX,
    .max_length = INT64_MAX,
    .multiple = 1,
    .window = 160,
    .ranks = 1,
    .shuffle = 1,
    .seed = 5,
};

static void
draw_lengths(int64_t *lengths, uint64_t bound)
{
    tb_random random;

    tb_seed_random(&random, 7, 0);
    for (ptrdiff_t i = 0; i < ROWS; i++) {
        lengths[i] = (int64_t)tb_random_below(&random, bound);
    }
}

/* Row by row, batch by batch, the lengths of both plans are the same. */
static void
check_same(const int64_t *lengths, const tb_batch_settings *settings)
{
    static int64_t indices[ROWS], offsets[ROWS + 1], shuffled[ROWS];
    static uint64_t items[ROWS];
    tb_batch_plan rows, bare;
    tb_error error = {-1, -1, 0};
    tb_random random;

    CHECK(tb_plan_batches(lengths, ROWS, settings, &rows, &error) == TB_OK);
    tb_write_batches(&rows, indices, offsets);
    memcpy(shuffled, lengths, sizeof shuffled);
    tb_shuffle_lengths(shuffled, ROWS, settings->seed, settings->epoch, &random);
    CHECK(tb_plan_lengths(shuffled, ROWS, settings, &random, items, &bare, &error) ==
          TB_OK);
    CHECK(bare.batch_count == rows.batch_count);
    for (ptrdiff_t k = 0; k < bare.batch_count; k++) {
        ptrdiff_t begin = bare.starts[bare.order[k]];
        CHECK(bare.starts[bare.order[k] + 1] - begin == offsets[k + 1] - offsets[k]);
        for (int64_t i = offsets[k]; i < offsets[k + 1]; i++) {
            CHECK((int64_t)items[begin + i - offsets[k]] == lengths[indices[i]]);
        }
    }
    bare.items = NULL;
    tb_free_batches(&bare);
    tb_free_batches(&rows);
}

static void
check_plans(void)
{
    static int64_t lengths[ROWS];
    const uint64_t bounds[] = {1, 50, 5000, UINT64_C(1) << 40};

    for (int b = 0; b < 4; b++) {
        tb_batch_settings settings = plain;
        draw_lengths(lengths, bounds[b]);
        check_same(lengths, &settings);
        settings.window = ROWS;
        settings.ranks = 8;
        check_same(lengths, &settings);
        settings.window = 1;
        settings.longest_first = 1;
        check_same(lengths, &settings);
        settings = plain;
        settings.multiple = 8;
        settings.max_tokens = (int64_t)bounds[b] * 4 + 8;
        check_same(lengths, &settings);
        settings.padding_free = 1;
        settings.pool = 64;
        check_same(lengths, &settings);
        settings.max_tokens = INT64_MAX;
        check_same(lengths, &settings);
        settings.shuffle = 0;
        settings.padding_free = 0;
        if (bounds[b] == 50) { /* without a shuffle lengths stay in their order */
            int64_t widest = 0, width, tokens, ends = ROWS, begins = 0;
            for (ptrdiff_t i = 0; i < ROWS; i++) {
                widest = lengths[i] > widest ? lengths[i] : widest;
            }
            tb_error error;
            CHECK(tb_measure_shapes(lengths, &begins, &ends, 1, &settings, &width,
                                    &tokens, &error) == TB_OK);
            CHECK(width == (widest + 7) / 8 * 8 && tokens > 0);
        }
    }
}

/* Rows that do not fit would be missed among the items. */
static void
check_overlong(void)
{
    const int64_t lengths[] = {3, 9, 4};
    uint64_t items[3];
    tb_batch_settings settings = plain;
    tb_batch_plan plan;
    tb_error error;

    settings.max_tokens = 8;
    for (settings.drop_overlong = 0; settings.drop_overlong < 2;
         settings.drop_overlong++) {
        CHECK(tb_plan_lengths(lengths, 3, &settings, NULL, items, &plan, &error) ==
              TB_ERR_TOO_LONG);
        CHECK(error.row == 1 && error.value == 9);
        tb_free_batches(&plan);
    }
}

static void
check_shapes(void)
{
    const int64_t lengths[] = {3, 9, 0, 0, INT64_MAX / 2, INT64_MAX / 2};
    const int64_t begins[] = {0, 2, 1, 4}, ends[] = {2, 4, 1, 6}, bounds[] = {4, 12};
    int64_t widths[4], tokens[4];
    tb_batch_settings settings = plain;
    tb_error error = {-1, -1, 0};

    CHECK(tb_measure_shapes(lengths, begins, ends, 3, &settings, widths, tokens,
                            &error) == TB_OK);
    CHECK(widths[0] == 9 && widths[1] == 0 && widths[2] == 0);
    CHECK(tokens[0] == 12 && tokens[1] == 0 && tokens[2] == 0);
    settings.boundaries = bounds;
    settings.boundary_count = 2;
    CHECK(tb_measure_shapes(lengths, begins, ends, 2, &settings, widths, tokens,
                            &error) == TB_OK);
    CHECK(widths[0] == 12 && widths[1] == 4);
    CHECK(tb_measure_shapes(lengths, begins, ends, 4, &settings, widths, tokens,
                            &error) == TB_ERR_SIZE);
    CHECK(error.row == 3);
    settings = plain;
    settings.padding_free = 1;
    CHECK(tb_measure_shapes(lengths, begins, ends, 3, &settings, widths, tokens,
                            &error) == TB_OK);
    CHECK(widths[0] == 12 && widths[1] == 0);
    const int64_t all[] = {0}, end[] = {6};
    settings.padding_free = 0;
    CHECK(tb_measure_shapes(lengths, all, end, 1, &settings, widths, tokens, &error) ==
          TB_ERR_SIZE);
}

static void
check_cuts(void)
{
    const int64_t lengths[] = {3, 5, 0, 9, 2, 2, 1};
    int64_t offsets[8];
    tb_batch_settings settings = plain;

    settings.batch_size = 3;
    CHECK(tb_cut_in_order(lengths, 7, &settings, offsets) == 3);
    CHECK(offsets[1] == 3 && offsets[2] == 6 && offsets[3] == 7);
    settings.max_tokens = 10; /* 2 x 5, 1 x 0, 1 x 9, 3 x 2 */
    CHECK(tb_cut_in_order(lengths, 7, &settings, offsets) == 4);
    CHECK(offsets[1] == 2 && offsets[2] == 3 && offsets[3] == 4 && offsets[4] == 7);
    settings.padding_free = 1; /* 3 + 5 + 0, 9, 2 + 2 + 1 */
    CHECK(tb_cut_in_order(lengths, 7, &settings, offsets) == 3);
    CHECK(offsets[1] == 3 && offsets[2] == 4 && offsets[3] == 7);
    CHECK(tb_cut_in_order(lengths, 0, &settings, offsets) == 0 && offsets[0] == 0);
}

int
main(void)
{
    check_plans();
    check_overlong();
    check_shapes();
    check_cuts();
    return check_report();
}
