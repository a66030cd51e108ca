/* Spans, fills of every width, cut and side, masks and positions. */
#include "core/layout/mask.h"
#include "core/base/fill.h"
#include "core/layout/pad.h"
#include "core/base/stream.h"
#include "check.h"

#include <string.h>

static void
check_spans(void)
{
    tb_layout layout = {.width = 8, .max_length = 5};

    for (int pad_left = 0; pad_left < 2; pad_left++) {
        for (int cut_left = 0; cut_left < 2; cut_left++) {
            for (ptrdiff_t length = 0; length < 10; length++) {
                layout.pad_left = pad_left;
                layout.cut_left = cut_left;
                tb_span span = tb_locate_row(&layout, length);
                CHECK(span.count == (length < 5 ? length : 5));
                CHECK(span.skip == (cut_left ? length - span.count : 0));
                CHECK(span.at == (pad_left ? 8 - span.count : 0));
            }
        }
    }
}

static void
check_fill(int size)
{
    unsigned char value[TB_MAX_ITEM_SIZE], out[TB_MAX_ITEM_SIZE * 20];

    for (int i = 0; i < TB_MAX_ITEM_SIZE; i++) {
        value[i] = (unsigned char)(i + 1);
    }
    for (int n = 0; n < 20; n++) {
        memset(out, 0xEE, sizeof out);
        tb_fill_elements(out, n, size, value);
        for (int i = 0; i < 20; i++) {
            unsigned char *element = out + i * size;
            CHECK(i < n ? memcmp(element, value, (size_t)size) == 0
                        : element[0] == 0xEE && element[size - 1] == 0xEE);
        }
    }
}

/* Every alignment and every length around the loops' steps: the bytes of plain code,
 * and none beyond them. */
static void
check_stream(int size)
{
    unsigned char source[400], value[TB_MAX_ITEM_SIZE];
    _Alignas(64) unsigned char expected[480], found[480];

    for (size_t i = 0; i < sizeof source; i++) {
        source[i] = (unsigned char)(i * 7 + 1);
    }
    memcpy(value, source, sizeof value);
    for (int shift = 0; shift < 32; shift += size < 8 ? size : 8) {
        for (int n = 0; n * size <= 200; n++) {
            memset(expected, 0xEE, sizeof expected);
            memset(found, 0xEE, sizeof found);
            for (int i = 0; i < n; i++) {
                memcpy(expected + shift + i * size, value, (size_t)size);
            }
            if (n > 0) {
                tb_stream_fill(found + shift, n, size, value);
                tb_stream_fence();
            }
            CHECK(memcmp(expected, found, sizeof found) == 0);
        }
        for (int n = 0; n < 300 && size == 1; n++) {
            memset(expected, 0xEE, sizeof expected);
            memset(found, 0xEE, sizeof found);
            memcpy(expected + shift, source + n % 17, (size_t)n);
            tb_stream_copy(found + shift, source + n % 17, (size_t)n);
            tb_stream_fence();
            CHECK(memcmp(expected, found, sizeof found) == 0);
        }
    }
}

static void
check_rows(void)
{
    const int32_t a[] = {1, 2, 3}, b[] = {4};
    const int16_t c[] = {-5, 6};
    const void *data[] = {a, b, c, NULL};
    const ptrdiff_t lengths[] = {3, 1, 2, 0};
    const unsigned char types[] = {TB_I32, TB_I32, TB_I16, TB_I32};
    const int32_t right[] = {1, 2, 3, 9, 4, 9, 9, 9, -5, 6, 9, 9, 9, 9, 9, 9};
    const int32_t left[] = {9, 9, 2, 3, 9, 9, 9, 4, 9, 9, -5, 6, 9, 9, 9, 9};
    tb_rows rows = {4, data, lengths, types};
    tb_layout layout = {.width = 4,
                        .max_length = PTRDIFF_MAX,
                        .trailing = 1,
                        .type = TB_I32,
                        .item_size = 4,
                        .fill = {9}};
    tb_error error = {0, 0, 0};
    int32_t out[16];

    CHECK(tb_pad_rows(&rows, &layout, out, &error) == TB_OK);
    CHECK(memcmp(out, right, sizeof out) == 0);
    layout.pad_left = layout.cut_left = 1;
    layout.max_length = 2;
    CHECK(tb_pad_rows(&rows, &layout, out, &error) == TB_OK);
    CHECK(memcmp(out, left, sizeof out) == 0);

    layout.type = TB_U8;
    layout.item_size = 1;
    CHECK(tb_pad_rows(&rows, &layout, out, &error) == TB_ERR_RANGE);
    CHECK(error.row == 2 && error.column == 0);
}

static void
check_masks(void)
{
    const ptrdiff_t lengths[] = {2, 0, 3};
    const unsigned char real[] = {7, 1}, expected[] = {7, 1, 7, 1, 0, 2, 0, 2, 0,
                                                       2, 0, 2, 7, 1, 7, 1, 7, 1};
    const int64_t positions[] = {0, 0, 1, 0, 0, 0, 0, 1, 2};
    tb_layout layout = {.width = 3,
                        .max_length = PTRDIFF_MAX,
                        .trailing = 1,
                        .type = TB_I16,
                        .item_size = 2,
                        .fill = {0, 2}};
    unsigned char mask[sizeof expected];
    int64_t out[9];

    tb_mask_rows(lengths, 3, &layout, real, mask);
    CHECK(memcmp(mask, expected, sizeof mask) == 0);

    tb_layout left = {.width = 3,
                      .max_length = PTRDIFF_MAX,
                      .trailing = 1,
                      .type = TB_I64,
                      .item_size = 8,
                      .pad_left = 1};
    tb_position_rows(lengths, 3, &left, out);
    CHECK(memcmp(out, positions, sizeof out) == 0);
    left.flat = 1;
    tb_position_rows(lengths, 3, &left, out);
    CHECK(out[0] == 0 && out[1] == 1 && out[2] == 0 && out[3] == 1 && out[4] == 2);
}

static void
check_lengths(void)
{
    const ptrdiff_t good[] = {2, 0, 5}, negative[] = {1, -1}, huge[] = {PTRDIFF_MAX, 1};
    ptrdiff_t longest, total;
    tb_error error;

    CHECK(tb_check_lengths(good, 3, 5, &longest, &total, &error) == TB_OK);
    CHECK(longest == 5 && total == 7);
    CHECK(tb_check_lengths(good, 3, 4, &longest, &total, &error) == TB_ERR_TOO_LONG);
    CHECK(error.row == 2 && error.value == 5);
    CHECK(tb_check_lengths(negative, 2, 9, &longest, &total, &error) ==
          TB_ERR_NEGATIVE);
    CHECK(error.row == 1);
    CHECK(tb_check_lengths(huge, 2, PTRDIFF_MAX, &longest, &total, &error) ==
          TB_ERR_SIZE);
}

int
main(void)
{
    check_spans();
    for (int size = 1; size <= TB_MAX_ITEM_SIZE; size *= 2) {
        check_fill(size);
        check_stream(size);
    }
    check_rows();
    check_masks();
    check_lengths();
    return check_report();
}
