/* Bits of Arrow data: validity, and bools. */
#ifndef TB_BITS_H
#define TB_BITS_H

#include <stddef.h>

/* Bits of a validity bitmap, from `first` on; bits NULL: everything is valid. */
typedef struct {
    const unsigned char *bits;
    ptrdiff_t first;
    ptrdiff_t count;
    ptrdiff_t elements; /* that each bit stands for */
} tb_arrow_valid;

static inline int
tb_arrow_is_valid(const tb_arrow_valid *valid, ptrdiff_t i)
{
    ptrdiff_t bit = valid->first + i;
    return valid->bits == NULL || (valid->bits[bit >> 3] >> (bit & 7) & 1);
}

/* Whether any of the bits is 0. */
int tb_arrow_has_null(const tb_arrow_valid *valid);

/* ORs into `out`, for each bit, `elements` bytes: 1 if the bit is 0, else 0. */
void tb_arrow_mark_nulls(const tb_arrow_valid *valid, unsigned char *out);

/* Bits as bytes of 0 and 1. */
void tb_arrow_unpack_bits(const void *bits, ptrdiff_t first, ptrdiff_t count,
                          unsigned char *out);

/* Bytes of 0 and 1 as bits, (count + 7) / 8 bytes of them. */
void tb_arrow_pack_bits(const unsigned char *bytes, ptrdiff_t count,
                        unsigned char *bits);

#endif
