#include "core/base/fill.h"

#include "core/base/macros.h"

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

#define COUNT_UP(name, type)                      \
    void name(type *out, ptrdiff_t n, type first) \
    {                                             \
        for (ptrdiff_t i = 0; i < n; i++) {       \
            out[i] = (type)(first + (type)i);     \
        }                                         \
    }

COUNT_UP(tb_count_up, int64_t)
COUNT_UP(tb_count_up_i32, int32_t)
