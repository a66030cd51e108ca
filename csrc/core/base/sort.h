/*
 * Stable sorting of numbered keys: 64-bit items that hold a key above `key_shift` bits
 * of payload. A radix sort from the least significant digit (H. H. Seward, 1954; D. E.
 * Knuth, "The Art of Computer Programming", volume 3, 5.2.5).
 */
#ifndef TB_SORT_H
#define TB_SORT_H

#include "core/base/status.h"

/* One pass for each digit of the key, the least significant first. */
typedef struct {
    int key_shift;
    int digit_bits;
    int passes;
} tb_sort_layout;

/* How many bits `value` needs; 0 for 0. */
int tb_count_bits(uint64_t value);

/* For keys from 0 up to key_range, and about `n` items at a time. */
tb_sort_layout tb_lay_out_sort(uint64_t key_range, int64_t n, int key_shift);

/* Ascending by key; items of equal keys stay in order. scratch: room for n items. */
void tb_sort_items(uint64_t *items, ptrdiff_t n, tb_sort_layout layout,
                   uint64_t *scratch);

#endif
