/* Filling memory with copies of one element, or with consecutive numbers. */
#ifndef TB_FILL_H
#define TB_FILL_H

#include <stddef.h>
#include <stdint.h>

/* Writes n copies of the item_size (1, 2, 4, 8 or 16) bytes at `value`. */
void tb_fill_elements(void *dst, ptrdiff_t n, int item_size,
                      const unsigned char *value);

/* Writes first, first + 1, ..., n numbers. */
void tb_count_up(int64_t *out, ptrdiff_t n, int64_t first);
void tb_count_up_i32(int32_t *out, ptrdiff_t n, int32_t first);

#endif
