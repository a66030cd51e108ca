/* Segments one after another: plans, numbers, boundaries, labels, and searches. */
#include "core/layout/padding_free.h"
#include "check.h"

#include <string.h>

static tb_padding_free
plan_of(const ptrdiff_t *lengths, ptrdiff_t count)
{
    return (tb_padding_free){.count = count,
                             .lengths = lengths,
                             .max_length = INT64_MAX,
                             .segment_multiple = 1,
                             .width_multiple = 1,
                             .max_tokens = -1,
                             .max_segments = -1,
                             .max_tail = INT64_MAX};
}

static void
check_plans(void)
{
    const ptrdiff_t lengths[] = {3, 0, 5, 1};
    tb_padding_free plan = plan_of(lengths, 4);
    tb_error error = {0, 0, 0};

    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(plan.width == 9 && plan.used == 9);
    CHECK(plan.segments == 3 && plan.entries == 3 && plan.longest == 5);
    plan.segment_multiple = 4;
    plan.width_multiple = 32;
    plan.max_segments = 6;
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(plan.width == 32 && plan.used == 16);
    /* 16 positions of padding: as long as the longest, which takes 8. */
    CHECK(plan.tails == 2 && plan.piece == 8);
    CHECK(plan.segments == 5 && plan.entries == 6 && plan.longest == 8);
    plan.max_segments = 4; /* so one is left for it */
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(plan.tails == 1 && plan.piece == 16 && plan.longest == 16);
    plan.max_tail = 10; /* and it is to be no longer than 12 */
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(plan.tails == 2 && plan.piece == 12 && plan.segments == 5);
    plan.max_tail = INT64_MAX;
    plan.max_segments = 2; /* and none, which is for the caller to refuse */
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(plan.tails == 1 && plan.segments == 4);
    plan.max_length = 2;
    plan.max_tokens = 12;
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(plan.width == 12 && plan.used == 12 && plan.segments == 3);
    plan.max_tokens = 11;
    CHECK(tb_plan_padding_free(&plan, &error) == TB_ERR_TOO_LONG);
    CHECK(error.row == 3 && error.value == 12);
}

static void
check_sizes(void)
{
    const ptrdiff_t huge[] = {PTRDIFF_MAX / 2, PTRDIFF_MAX / 2, PTRDIFF_MAX / 2};
    const ptrdiff_t most[] = {PTRDIFF_MAX};
    tb_padding_free plan = plan_of(huge, 3);
    tb_error error = {0, 0, 0};

    CHECK(tb_plan_padding_free(&plan, &error) == TB_ERR_SIZE);
    CHECK(error.row >= 1);
    plan = plan_of(most, 1);
    plan.segment_multiple = PTRDIFF_MAX / 4;
    plan.width_multiple = PTRDIFF_MAX / 4;
    CHECK(tb_plan_padding_free(&plan, &error) == TB_ERR_SIZE);
}

/* Lengths 3, 0 and 2 in multiples of 2, in a row of 10: 3 + 1, 2, and a tail of 4. */
static void
check_row(void)
{
    const ptrdiff_t lengths[] = {3, 0, 2};
    const ptrdiff_t rows[] = {7, 8, 9};
    const int64_t positions[] = {2, 3, 4, 5, 2, 3, 2, 3, 4, 5};
    const int32_t numbers[] = {0, 0, 0, 0, 1, 1, 2, 2, 2, 2};
    const int32_t cu_seqlens[] = {0, 4, 6, 10, 10, 10}, real[] = {0, 3, 5, 5, 5, 5};
    const int64_t row_idx[] = {7, 9, -1, -1, -1}, plain[] = {0, 2, -1, -1, -1};
    tb_padding_free plan = plan_of(lengths, 3);
    tb_error error;
    int64_t wide[10];
    int32_t narrow[10];

    plan.segment_multiple = 2;
    plan.max_tokens = 10;
    plan.max_segments = 5;
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    tb_write_position_ids(&plan, 2, wide);
    CHECK(memcmp(wide, positions, sizeof positions) == 0);
    tb_write_seq_idx(&plan, narrow);
    CHECK(memcmp(narrow, numbers, sizeof numbers) == 0);
    tb_write_cu_seqlens(&plan, 0, narrow);
    CHECK(memcmp(narrow, cu_seqlens, sizeof cu_seqlens) == 0);
    tb_write_cu_seqlens(&plan, 1, narrow);
    CHECK(memcmp(narrow, real, sizeof real) == 0);
    tb_write_row_idx(&plan, rows, wide);
    CHECK(memcmp(wide, row_idx, sizeof row_idx) == 0);
    tb_write_row_idx(&plan, NULL, wide);
    CHECK(memcmp(wide, plain, sizeof plain) == 0);
}

/* Where segments without tokens are kept they have a number and an entry. */
static void
check_empty_segments(void)
{
    const ptrdiff_t lengths[] = {2, 0, 1};
    const int32_t numbers[] = {0, 0, 2}, cu_seqlens[] = {0, 2, 2, 3};
    tb_padding_free plan = plan_of(lengths, 3);
    tb_error error;
    int32_t out[4];

    plan.keep_empty = 1;
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(plan.width == 3 && plan.segments == 3 && plan.entries == 3);
    tb_write_seq_idx(&plan, out);
    CHECK(memcmp(out, numbers, sizeof numbers) == 0);
    tb_write_cu_seqlens(&plan, 0, out);
    CHECK(memcmp(out, cu_seqlens, sizeof cu_seqlens) == 0);
}

static void
check_labels(void)
{
    const ptrdiff_t lengths[] = {3, 0, 2};
    const int64_t ids[] = {1, 2, 3, 0, 4, 5, 0, 0};
    const uint16_t short_ids[] = {1, 2, 3, 0, 4, 50000, 0, 0};
    const int64_t expected[] = {-100, 2, 3, -100, -100, 5, -100, -100};
    const int64_t ignored = -100;
    const int16_t narrow_ignored = -100;
    int64_t labels[8];
    int16_t narrow[8];
    tb_padding_free plan = plan_of(lengths, 3);
    tb_error error;

    plan.segment_multiple = 2;
    plan.max_tokens = 8;
    CHECK(tb_plan_padding_free(&plan, &error) == TB_OK);
    CHECK(tb_label_segments(&plan, TB_I64, ids, TB_I64, (const unsigned char *)&ignored,
                            labels, &error) == TB_OK);
    CHECK(memcmp(labels, expected, sizeof expected) == 0);
    CHECK(tb_count_others(labels, 8, 8, (const unsigned char *)&ignored) == 3);
    CHECK(tb_label_segments(&plan, TB_U16, short_ids, TB_I64,
                            (const unsigned char *)&ignored, labels, &error) == TB_OK);
    CHECK(labels[5] == 50000 && labels[4] == -100 && labels[2] == 3);
    CHECK(tb_label_segments(&plan, TB_U16, short_ids, TB_I16,
                            (const unsigned char *)&narrow_ignored, narrow,
                            &error) == TB_ERR_RANGE);
    CHECK(error.row == 2 && error.column == 1 && error.value == 4);
    tb_mark_first_tokens(&plan, 8, (const unsigned char *)&ids[7], labels);
    CHECK(labels[0] == 0 && labels[4] == 0 && labels[1] == 2 && labels[6] == -100);
}

#define CHECK_SEARCH(type, name)                                 \
    do {                                                         \
        type values[200];                                        \
        for (ptrdiff_t n = 0; n <= 200; n += 25) {               \
            for (ptrdiff_t at = 0; at <= n; at++) {              \
                for (ptrdiff_t i = 0; i < n; i++) {              \
                    values[i] = (type)(i == at ? 0 : 1);         \
                }                                                \
                found &= tb_find_not_one(name, values, n) == at; \
            }                                                    \
        }                                                        \
    } while (0)

static void
check_searches(void)
{
    int found = 1;

    CHECK_SEARCH(uint8_t, TB_BOOL);
    CHECK_SEARCH(int8_t, TB_I8);
    CHECK_SEARCH(int16_t, TB_I16);
    CHECK_SEARCH(int32_t, TB_I32);
    CHECK_SEARCH(int64_t, TB_I64);
    CHECK_SEARCH(uint16_t, TB_U16);
    CHECK_SEARCH(float, TB_F32);
    CHECK_SEARCH(double, TB_F64);
    CHECK(found);
    const uint16_t same = 3, values[] = {3, 4, 3};
    const uint8_t byte = 3, bytes[] = {3, 3};
    const uint32_t word = 1, words[] = {2, 2};
    CHECK(tb_count_others(values, 3, 2, (const unsigned char *)&same) == 1);
    CHECK(tb_count_others(bytes, 2, 1, &byte) == 0);
    CHECK(tb_count_others(words, 2, 4, (const unsigned char *)&word) == 2);
}

int
main(void)
{
    check_plans();
    check_sizes();
    check_row();
    check_empty_segments();
    check_labels();
    check_searches();
    return check_report();
}
