/*
 * One key for two lengths (source and target), so that rows with similar keys have
 * similar lengths of both kinds: the place of the row on a Hilbert curve (D. Hilbert,
 * 1891) through the plane of both lengths. Lengths count by their ratio, so that a cell
 * is as wide, in proportion, for short rows as for long ones.
 */
#ifndef TB_PAIR_KEYS_H
#define TB_PAIR_KEYS_H

#include <stddef.h>
#include <stdint.h>

/* keys of n pairs, none negative: from 0 to 2**24 - 1. */
void tb_find_pair_keys(const int64_t *pairs, ptrdiff_t n, int64_t *keys);

#endif
