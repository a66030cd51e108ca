/* Arrow columns: rows of each form, nulls, bits; and random structures by the thousand.
 */
#include "fuzz_arrow.c"

#include "check.h"

static tb_arrow_schema
schema_of(const char *format, tb_arrow_schema **children)
{
    tb_arrow_schema schema = {.format = format,
                              .n_children = children != NULL,
                              .children = children,
                              .release = release_schema};
    return schema;
}

static void
test_lists_with_offsets(void)
{
    static const int32_t values[] = {1, 2, 3, 4, 5, 6}, offsets[] = {0, 2, 2, 5};
    const void *leaf_buffers[] = {NULL, values}, *list_buffers[] = {NULL, offsets};
    tb_arrow_schema leaf = schema_of("i", NULL), *leaves[] = {&leaf};
    tb_arrow_schema list = schema_of("+l", leaves);
    tb_arrow_array numbers = {.length = 5,
                              .offset = 1,
                              .n_buffers = 2,
                              .buffers = leaf_buffers,
                              .release = release_array};
    tb_arrow_array *children[] = {&numbers};
    tb_arrow_array rows = {.length = 2,
                           .offset = 1,
                           .n_buffers = 2,
                           .n_children = 1,
                           .buffers = list_buffers,
                           .children = children,
                           .release = release_array};
    tb_arrow_kind kind;
    tb_arrow_chunk chunk;
    tb_arrow_fault fault;
    int64_t starts[2], lengths[2];

    CHECK(tb_arrow_read_schema(&list, &kind, &fault) == TB_OK);
    CHECK(kind.form == TB_ARROW_LIST32 && kind.type == TB_I32 && kind.ndim == 0);
    CHECK(tb_arrow_read_chunk(&kind, &rows, 0, 2, &chunk, &fault) == TB_OK);
    CHECK(chunk.count == 2 && chunk.size == 5 && chunk.values == values + 1);
    CHECK(tb_arrow_locate_rows(&kind, &chunk, 100, starts, lengths, &fault) == TB_OK);
    CHECK(starts[0] == 102 && lengths[0] == 0 && starts[1] == 102 && lengths[1] == 3);
    numbers.length = 4;
    CHECK(tb_arrow_read_chunk(&kind, &rows, 0, 2, &chunk, &fault) == TB_OK);
    CHECK(tb_arrow_locate_rows(&kind, &chunk, 0, starts, lengths, &fault) ==
          TB_ERR_ARROW);
    CHECK(fault.row == 1);
}

static void
test_positions_of_several_numbers(void)
{
    static const float values[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int64_t offsets[] = {0, 1, 2};
    static const unsigned char valid = 0x0B; /* 1, 1, 0, 1 from the lowest bit */
    const void *leaf_buffers[] = {NULL, values}, *fixed_buffers[] = {&valid},
               *list_buffers[] = {NULL, offsets};
    tb_arrow_schema leaf = schema_of("f", NULL), *leaves[] = {&leaf};
    tb_arrow_schema fixed = schema_of("+w:2", leaves), *fixeds[] = {&fixed};
    tb_arrow_schema list = schema_of("+L", fixeds);
    tb_arrow_array numbers = {
        .length = 8, .n_buffers = 2, .buffers = leaf_buffers, .release = release_array};
    tb_arrow_array *in_fixed[] = {&numbers};
    tb_arrow_array pairs = {.length = 2,
                            .offset = 1,
                            .null_count = -1,
                            .n_buffers = 1,
                            .n_children = 1,
                            .buffers = fixed_buffers,
                            .children = in_fixed,
                            .release = release_array};
    tb_arrow_array *in_list[] = {&pairs};
    tb_arrow_array rows = {.length = 2,
                           .n_buffers = 2,
                           .n_children = 1,
                           .buffers = list_buffers,
                           .children = in_list,
                           .release = release_array};
    tb_arrow_kind kind;
    tb_arrow_chunk chunk;
    tb_arrow_fault fault;
    unsigned char marks[4] = {0};

    CHECK(tb_arrow_read_schema(&list, &kind, &fault) == TB_OK);
    CHECK(kind.ndim == 1 && kind.trailing[0] == 2 && kind.positions == 2);
    CHECK(tb_arrow_read_chunk(&kind, &rows, 0, 2, &chunk, &fault) == TB_OK);
    CHECK(chunk.values == values + 2 && chunk.size == 2 && chunk.depths == 2);
    CHECK(tb_arrow_has_null(&chunk.elements[0]) &&
          !tb_arrow_has_null(&chunk.elements[1]));
    tb_arrow_mark_nulls(&chunk.elements[0], marks);
    CHECK(!marks[0] && !marks[1] && marks[2] && marks[3]);
}

static void
test_bits(void)
{
    unsigned char bits[64], bytes[300];

    for (int i = 0; i < 64; i++) {
        bits[i] = (unsigned char)(i * 37 + 11);
    }
    for (ptrdiff_t first = 0; first < 19; first++) {
        for (ptrdiff_t count = 0; count < 300; count += 7) {
            tb_arrow_valid valid = {bits, first, count, 1};
            int any = 0;
            tb_arrow_unpack_bits(bits, first, count, bytes);
            for (ptrdiff_t i = 0; i < count; i++) {
                int bit = bits[(first + i) / 8] >> (first + i) % 8 & 1;
                CHECK(bytes[i] == bit);
                any |= !bit;
            }
            CHECK(tb_arrow_has_null(&valid) == any);
        }
    }
    for (ptrdiff_t count = 0; count < 40; count++) {
        unsigned char packed[6], left = (unsigned char)(count % 8);
        memset(packed, 0xA5, sizeof packed);
        memset(bytes, 2, sizeof bytes);
        tb_arrow_pack_bits(bytes, count, packed);
        for (ptrdiff_t i = 0; i < 6;
             i++) { /* nothing beyond the last byte is written */
            int expected = i < count / 8 ? 0xFF : 0xA5;
            expected = i == count / 8 && left > 0 ? (1 << left) - 1 : expected;
            CHECK(packed[i] == expected);
        }
    }
    memset(bits, 0xFF, sizeof bits);
    for (int null = 0; null < 300; null++) {
        tb_arrow_valid valid = {bits, 3, 300, 1};
        bits[(3 + null) / 8] ^= (unsigned char)(1 << (3 + null) % 8);
        CHECK(tb_arrow_has_null(&valid));
        bits[(3 + null) / 8] = 0xFF;
        CHECK(!tb_arrow_has_null(&valid));
    }
}

static void
test_random_structures(void)
{
    uint8_t data[600];
    uint64_t state = 88172645463325252u;

    for (int round = 0; round < 100000; round++) {
        for (size_t i = 0; i < sizeof data; i++) {
            state ^= state << 13; /* xorshift64, G. Marsaglia 2003 */
            state ^= state >> 7;
            state ^= state << 17;
            data[i] = (uint8_t)(state >> 32);
        }
        CHECK(LLVMFuzzerTestOneInput(data, (size_t)(state % sizeof data)) == 0);
    }
}

int
main(void)
{
    test_lists_with_offsets();
    test_positions_of_several_numbers();
    test_bits();
    test_random_structures();
    return check_report();
}
