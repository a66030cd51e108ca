/* Sequences in one line: plans, numbers, boundaries, labels, and searches. */
#include "core/layout/flat.h"
#include "check.h"

#include <string.h>

static tb_flat
plan_of(const ptrdiff_t *lengths, ptrdiff_t pieces)
{
    return (tb_flat){.pieces = pieces,
                     .lengths = lengths,
                     .max_length = PTRDIFF_MAX,
                     .piece_multiple = 1,
                     .line_multiple = 1,
                     .max_tokens = -1,
                     .max_sequences = -1};
}

static void
check_plans(void)
{
    const ptrdiff_t lengths[] = {3, 0, 5, 1};
    tb_flat flat = plan_of(lengths, 4);
    tb_error error = {0, 0, 0};

    CHECK(tb_plan_flat(&flat, &error) == TB_OK);
    CHECK(flat.width == 9 && flat.used == 9);
    CHECK(flat.sequences == 3 && flat.entries == 3 && flat.longest == 5);
    flat.piece_multiple = 4;
    flat.line_multiple = 32;
    flat.max_sequences = 6;
    CHECK(tb_plan_flat(&flat, &error) == TB_OK);
    CHECK(flat.width == 32 && flat.used == 16);
    CHECK(flat.sequences == 4 && flat.entries == 6 && flat.longest == 16);
    flat.max_length = 2;
    flat.max_tokens = 12;
    CHECK(tb_plan_flat(&flat, &error) == TB_OK);
    CHECK(flat.width == 12 && flat.used == 12 && flat.sequences == 3);
    flat.max_tokens = 11;
    CHECK(tb_plan_flat(&flat, &error) == TB_ERR_TOO_LONG);
    CHECK(error.row == 3 && error.value == 12);
}

static void
check_sizes(void)
{
    const ptrdiff_t huge[] = {PTRDIFF_MAX / 2, PTRDIFF_MAX / 2, PTRDIFF_MAX / 2};
    const ptrdiff_t most[] = {PTRDIFF_MAX};
    tb_flat flat = plan_of(huge, 3);
    tb_error error = {0, 0, 0};

    CHECK(tb_plan_flat(&flat, &error) == TB_ERR_SIZE);
    CHECK(error.row >= 1);
    flat = plan_of(most, 1);
    flat.piece_multiple = PTRDIFF_MAX / 4;
    flat.line_multiple = PTRDIFF_MAX / 4;
    CHECK(tb_plan_flat(&flat, &error) == TB_ERR_SIZE);
}

/* Lengths 3, 0 and 2 in multiples of 2, in a line of 10: 3 + 1, 2, and a tail of 4. */
static void
check_line(void)
{
    const ptrdiff_t lengths[] = {3, 0, 2};
    const ptrdiff_t rows[] = {7, 8, 9};
    const int64_t positions[] = {2, 3, 4, 5, 2, 3, 2, 3, 4, 5};
    const int32_t numbers[] = {0, 0, 0, 0, 1, 1, 2, 2, 2, 2};
    const int32_t bounds[] = {0, 4, 6, 10, 10, 10}, real[] = {0, 3, 5, 5, 5, 5};
    const int64_t traces[] = {7, 9, -1, -1, -1}, plain[] = {0, 2, -1, -1, -1};
    tb_flat flat = plan_of(lengths, 3);
    tb_error error;
    int64_t wide[10];
    int32_t narrow[10];

    flat.piece_multiple = 2;
    flat.max_tokens = 10;
    flat.max_sequences = 5;
    CHECK(tb_plan_flat(&flat, &error) == TB_OK);
    tb_number_positions(&flat, 2, wide);
    CHECK(memcmp(wide, positions, sizeof positions) == 0);
    tb_number_sequences(&flat, narrow);
    CHECK(memcmp(narrow, numbers, sizeof numbers) == 0);
    tb_bound_sequences(&flat, 0, narrow);
    CHECK(memcmp(narrow, bounds, sizeof bounds) == 0);
    tb_bound_sequences(&flat, 1, narrow);
    CHECK(memcmp(narrow, real, sizeof real) == 0);
    tb_trace_sequences(&flat, rows, wide);
    CHECK(memcmp(wide, traces, sizeof traces) == 0);
    tb_trace_sequences(&flat, NULL, wide);
    CHECK(memcmp(wide, plain, sizeof plain) == 0);
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
    tb_flat flat = plan_of(lengths, 3);
    tb_error error;

    flat.piece_multiple = 2;
    flat.max_tokens = 8;
    CHECK(tb_plan_flat(&flat, &error) == TB_OK);
    CHECK(tb_label_sequences(&flat, TB_I64, ids, TB_I64,
                             (const unsigned char *)&ignored, labels, &error) == TB_OK);
    CHECK(memcmp(labels, expected, sizeof expected) == 0);
    CHECK(tb_count_others(labels, 8, 8, (const unsigned char *)&ignored) == 3);
    CHECK(tb_label_sequences(&flat, TB_U16, short_ids, TB_I64,
                             (const unsigned char *)&ignored, labels, &error) == TB_OK);
    CHECK(labels[5] == 50000 && labels[4] == -100 && labels[2] == 3);
    CHECK(tb_label_sequences(&flat, TB_U16, short_ids, TB_I16,
                             (const unsigned char *)&narrow_ignored, narrow,
                             &error) == TB_ERR_RANGE);
    CHECK(error.row == 2 && error.column == 1 && error.value == 4);
    tb_mark_starts(&flat, 8, (const unsigned char *)&ids[7], labels);
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
    check_line();
    check_labels();
    check_searches();
    return check_report();
}
