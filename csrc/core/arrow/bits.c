#include "core/arrow/bits.h"

#include <string.h>

int
tb_arrow_has_null(const tb_arrow_valid *valid)
{
    ptrdiff_t i = 0;

    if (valid->bits == NULL) {
        return 0;
    }
    while (i < valid->count) {
        ptrdiff_t bit = valid->first + i;
        if ((bit & 7) == 0 && valid->count - i >= 8) {
            if (valid->bits[bit >> 3] != 0xFF) {
                return 1;
            }
            i += 8;
        }
        else {
            if (!tb_arrow_is_valid(valid, i)) {
                return 1;
            }
            i++;
        }
    }
    return 0;
}

void
tb_arrow_mark_nulls(const tb_arrow_valid *valid, unsigned char *out)
{
    for (ptrdiff_t i = 0; valid->bits != NULL && i < valid->count; i++) {
        if (!tb_arrow_is_valid(valid, i)) {
            memset(out + i * valid->elements, 1, (size_t)valid->elements);
        }
    }
}

void
tb_arrow_unpack_bits(const void *bits, ptrdiff_t first, ptrdiff_t count,
                     unsigned char *out)
{
    const unsigned char *bytes = (const unsigned char *)bits;

    for (ptrdiff_t i = 0; i < count; i++) {
        ptrdiff_t bit = first + i;
        out[i] = bytes[bit >> 3] >> (bit & 7) & 1;
    }
}

void
tb_arrow_pack_bits(const unsigned char *bytes, ptrdiff_t count, unsigned char *bits)
{
    memset(bits, 0, (size_t)((count + 7) / 8));
    for (ptrdiff_t i = 0; i < count; i++) {
        bits[i >> 3] |= (unsigned char)((bytes[i] != 0) << (i & 7));
    }
}
