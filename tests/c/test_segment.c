/* The core's segments and blocks against comparing every query with every key. */
#include "core/base/size.h"
#include "core/layout/block_mask.h"
#include "check.h"
#include "core/base/random.h"
#include "core/layout/segment.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 40, MOST_BLOCKS = MOST * MOST };

static ptrdiff_t
pick(tb_random *random, ptrdiff_t below)
{
    return (ptrdiff_t)tb_random_below(random, (uint64_t)below);
}

static int
is_near(ptrdiff_t query, ptrdiff_t key, int causal, ptrdiff_t window)
{
    ptrdiff_t distance = query > key ? query - key : key - query;
    return distance < window && !(causal && key > query);
}

static void
check_lengths(void)
{
    const int64_t lengths[] = {3, 0, INT32_MAX - 3, 0, 1, INT64_MAX};
    int32_t offsets[7];
    tb_error error = {-1, -1, -1};

    CHECK(tb_add_lengths(lengths, 0, offsets, &error) == TB_OK && offsets[0] == 0);
    CHECK(tb_add_lengths(lengths, 4, offsets, &error) == TB_OK);
    CHECK(offsets[1] == 3 && offsets[2] == 3 && offsets[4] == INT32_MAX);
    CHECK(tb_add_lengths(lengths, 5, offsets, &error) == TB_ERR_RANGE);
    CHECK(error.row == 4 && error.column == -1 && error.value == 1);
    CHECK(tb_add_lengths(lengths + 4, 2, offsets, &error) == TB_ERR_RANGE);
    CHECK(error.row == 1 && error.value == INT64_MAX);
}

static void
check_packs(void)
{
    const int64_t lengths[] = {2, 0, 1, INT64_MAX, 1, -1};
    const ptrdiff_t counts[] = {2, 0, 1, 1}, two[] = {3, 2}, bad[] = {4, 2};
    ptrdiff_t totals[4];
    tb_error error = {-1, -1, -1};
    tb_layout layout = {.width = 3, .max_length = PTRDIFF_MAX, .trailing = 1};
    int64_t ids[9];
    const int64_t right[] = {1, 1, 0, 0, 0, 0, 1, 0, 0};
    const int64_t left[] = {0, 1, 1, 0, 0, 0, 0, 0, 1};

    CHECK(tb_sum_packs(lengths, counts, 4, totals, &error) == TB_OK);
    CHECK(totals[0] == 2 && totals[1] == 0 && totals[2] == 1 && totals[3] == INT64_MAX);
    CHECK(tb_sum_packs(lengths, two, 2, totals, &error) == TB_ERR_SIZE);
    CHECK(error.row == 1 && error.column == 1);
    CHECK(tb_sum_packs(lengths + 2, bad, 1, totals, &error) == TB_ERR_SIZE);
    CHECK(tb_sum_packs(lengths + 4, two + 1, 1, totals, &error) == TB_ERR_NEGATIVE);
    CHECK(error.row == 0 && error.column == 1 && error.value == -1);
    CHECK(tb_sum_packs(lengths, counts, 3, totals, &error) == TB_OK);
    layout.item_size = 8;
    tb_segment_rows(lengths, counts, totals, 3, &layout, ids);
    CHECK(memcmp(ids, right, sizeof right) == 0);
    layout.pad_left = 1;
    tb_segment_rows(lengths, counts, totals, 3, &layout, ids);
    CHECK(memcmp(ids, left, sizeof left) == 0);
}

/* Two rows of ids, and elements of `item_size` bytes. */
static void
check_mask(tb_random *random, int item_size)
{
    static unsigned char out[2 * MOST * MOST * 8 + 1];
    int64_t ids[2 * MOST];
    tb_run runs[MOST];
    tb_error error;
    ptrdiff_t width = pick(random, MOST + 1);
    ptrdiff_t kinds = 1 + pick(random, 6);
    tb_segment_rule rule = {.causal = (int)pick(random, 2),
                            .window = 1 + pick(random, 2 * MOST),
                            .prefix = -1,
                            .item_size = item_size};

    if (pick(random, 3) == 0) {
        rule.window = PTRDIFF_MAX;
    }
    memset(rule.shown, 1, sizeof rule.shown);
    for (int i = 0; i < item_size; i++) {
        rule.hidden[i] = (unsigned char)(7 + i);
    }
    for (ptrdiff_t i = 0; i < 2 * width; i++) {
        int goes_on = i > 0 && pick(random, 4) != 0;
        ids[i] = goes_on ? ids[i - 1] : pick(random, kinds) - 1;
    }
    memset(out, 99, sizeof out);
    CHECK(tb_mask_segments(ids, 2, width, &rule, runs, out, &error) == TB_OK);
    ptrdiff_t wrong = 0;
    for (ptrdiff_t i = 0; i < 2 * width * width; i++) {
        ptrdiff_t key = i % width, query = i / width % width;
        const int64_t *row = ids + i / (width * width) * width;
        int sees =
            row[query] == row[key] && is_near(query, key, rule.causal, rule.window);
        wrong += memcmp(out + i * item_size, sees ? rule.shown : rule.hidden,
                        (size_t)item_size) != 0;
    }
    CHECK(wrong == 0);
    CHECK(out[2 * width * width * item_size] == 99);
}

/* As many runs as there is room for; the sanitizers see what is beyond. */
static void
check_room(void)
{
    const int64_t ids[] = {1, 2, 1, 2};
    const unsigned char seen[] = {1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1};
    tb_run *runs = (tb_run *)malloc(4 * sizeof *runs);
    unsigned char out[16];
    tb_error error;
    tb_segment_rule rule = {
        .window = PTRDIFF_MAX, .prefix = -1, .item_size = 1, .shown = {1}};

    CHECK(runs != NULL);
    CHECK(tb_mask_segments(ids, 1, 4, &rule, runs, out, &error) == TB_OK);
    CHECK(memcmp(out, seen, sizeof seen) == 0);
    free(runs);
}

static void
check_prefixes(void)
{
    const int64_t ids[] = {0, 1, 1, 3, 0, 2, 1, 1, 2, 3};
    const int64_t prefixes[] = {1, 0, 9};
    const ptrdiff_t counts[] = {3, 2};
    unsigned char out[50];
    tb_run runs[5];
    tb_error error;
    tb_segment_rule rule = {
        .causal = 1, .window = PTRDIFF_MAX, .prefix = 1, .item_size = 1, .shown = {1}};

    CHECK(tb_mask_segments(ids, 1, 5, &rule, runs, out, &error) == TB_OK);
    CHECK(out[5 * 1 + 1] == 1 && out[5 * 1 + 2] == 0 && out[5 * 4 + 0] == 1);
    memset(out, 7, sizeof out);
    CHECK(tb_mask_segments(ids, 2, 5, &rule, runs, out, &error) == TB_ERR_REPEATED);
    CHECK(error.row == 1 && error.column == 3 && error.value == 2 && out[0] == 7);
    rule.prefixes = prefixes;
    rule.prefix_counts = counts;
    CHECK(tb_mask_segments(ids, 1, 5, &rule, runs, out, &error) == TB_OK);
    for (int i = 0; i < 25; i++) {
        int key = i % 5, query = i / 5;
        CHECK(out[i] == (ids[query] == ids[key] && key <= query));
    }
    rule.prefix_counts = counts + 1;
    CHECK(tb_mask_segments(ids, 1, 5, &rule, runs, out, &error) == TB_ERR_RANGE);
    CHECK(error.row == 0 && error.column == 3 && error.value == 3);
}

/* The blocks of one pack from its whole mask. */
static void
check_blocks(tb_random *random)
{
    static int32_t partial[MOST_BLOCKS], full[MOST_BLOCKS];
    int32_t partial_counts[MOST], full_counts[MOST];
    int64_t lengths[8], ids[MOST] = {0};
    ptrdiff_t count = pick(random, 8), at = 0;
    tb_blocks blocks = {partial_counts, partial, full_counts, full};
    tb_block_rule rule = {
        .query_size = 1 + pick(random, 9),
        .key_size = 1 + pick(random, 9),
        .causal = (int)pick(random, 2),
        .window = pick(random, 2) ? 1 + pick(random, MOST) : PTRDIFF_MAX};

    for (ptrdiff_t i = 0; i < count; i++) {
        lengths[i] = pick(random, MOST / 8 + 1);
        for (ptrdiff_t j = 0; j < lengths[i]; j++) {
            ids[at++] = i + 1;
        }
    }
    rule.total = at + pick(random, MOST - at + 1);
    tb_mask_blocks(lengths, count, &rule, &blocks);
    ptrdiff_t query_blocks = tb_divide_up(rule.total, rule.query_size);
    ptrdiff_t key_blocks = tb_divide_up(rule.total, rule.key_size);
    for (ptrdiff_t i = 0; i < query_blocks; i++) {
        /* Twice through the numbers: the blocks that count, then the others. */
        ptrdiff_t partial_at = i * key_blocks, full_at = partial_at, wrong = 0;
        for (int others = 0; others < 2; others++) {
            for (ptrdiff_t k = 0; k < key_blocks; k++) {
                ptrdiff_t seen = 0, all = rule.query_size * rule.key_size;
                for (ptrdiff_t e = 0; e < all; e++) {
                    ptrdiff_t query = i * rule.query_size + e / rule.key_size;
                    ptrdiff_t key = k * rule.key_size + e % rule.key_size;
                    seen += query < rule.total && key < rule.total &&
                            ids[query] == ids[key] &&
                            is_near(query, key, rule.causal, rule.window);
                }
                if ((seen > 0 && seen < all) != others) {
                    wrong += partial[partial_at++] != (int32_t)k;
                }
                if ((seen == all) != others) {
                    wrong += full[full_at++] != (int32_t)k;
                }
            }
            if (!others) {
                wrong += partial_counts[i] != (int32_t)(partial_at - i * key_blocks);
                wrong += full_counts[i] != (int32_t)(full_at - i * key_blocks);
            }
        }
        CHECK(wrong == 0);
    }
}

int
main(void)
{
    tb_random random;

    tb_seed_random(&random, 11, 0);
    check_lengths();
    check_packs();
    check_room();
    check_prefixes();
    for (int round = 0; round < 3000; round++) {
        check_mask(&random, 1 << round % 4);
        check_blocks(&random);
    }
    return check_report();
}
