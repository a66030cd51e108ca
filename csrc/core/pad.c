#include "pad.h"

#include <string.h>

#define FILL_AS(type)                       \
    do {                                    \
        type one;                           \
        memcpy(&one, value, sizeof one);    \
        type *TB_RESTRICT to = (type *)dst; \
        for (ptrdiff_t i = 0; i < n; i++) { \
            to[i] = one;                    \
        }                                   \
    } while (0)

typedef struct {
    uint64_t low;
    uint64_t high;
} two_words;

static int
all_bytes_equal(const unsigned char *value, int item_size)
{
    for (int i = 1; i < item_size; i++) {
        if (value[i] != value[0]) {
            return 0;
        }
    }
    return 1;
}

void
tb_fill_elements(void *dst, ptrdiff_t n, int item_size, const unsigned char *value)
{
    if (n == 0) {
        return;
    }
    if (all_bytes_equal(value, item_size)) {
        memset(dst, value[0], (size_t)n * (size_t)item_size);
        return;
    }
    switch (item_size) {
        case 2:
            FILL_AS(uint16_t);
            break;
        case 4:
            FILL_AS(uint32_t);
            break;
        case 8:
            FILL_AS(uint64_t);
            break;
        default:
            FILL_AS(two_words);
            break;
    }
}

void
tb_fill_around(const tb_layout *layout, tb_span span, void *row)
{
    char *bytes = (char *)row;
    ptrdiff_t position = layout->trailing * layout->item_size;
    ptrdiff_t end = span.at + span.count;

    tb_fill_elements(bytes, span.at * layout->trailing, layout->item_size,
                     layout->fill);
    tb_fill_elements(bytes + end * position, (layout->width - end) * layout->trailing,
                     layout->item_size, layout->fill);
}

tb_status
tb_pad_rows(const tb_rows *rows, const tb_layout *layout, void *out, tb_error *error)
{
    ptrdiff_t position = layout->trailing * layout->item_size;
    ptrdiff_t pitch = layout->width * position;

    for (ptrdiff_t i = 0; i < rows->count; i++) {
        tb_span span = tb_locate_row(layout, rows->lengths[i]);
        char *to = (char *)out + i * pitch;
        if (span.count > 0 && layout->trailing > 0) {
            char *place = to + span.at * position;
            const char *from = (const char *)rows->data[i];
            if (rows->types == NULL || rows->types[i] == layout->type) {
                memcpy(place, from + span.skip * position,
                       (size_t)(span.count * position));
            }
            else {
                ptrdiff_t bad = 0;
                ptrdiff_t first = span.skip * layout->trailing;
                tb_type type = (tb_type)rows->types[i];
                tb_status status = tb_cast_elements(
                    type, layout->type, from + first * tb_type_size(type),
                    span.count * layout->trailing, place, &bad);
                if (status != TB_OK) {
                    error->row = i;
                    error->column = span.skip + bad / layout->trailing;
                    error->value = first + bad;
                    return status;
                }
            }
        }
        tb_fill_around(layout, span, to);
    }
    return TB_OK;
}
