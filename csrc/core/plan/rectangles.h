/* Buckets of two lengths: which of them a row is in. */
#ifndef TB_RECTANGLES_H
#define TB_RECTANGLES_H

#include <stddef.h>
#include <stdint.h>

/* For each of n rows the first rectangle whose two bounds are at least its two lengths; -1
 * where none is. bounds: two for each rectangle, the cheapest first. */
void tb_assign_rectangles(const int64_t *first, const int64_t *second, ptrdiff_t n,
                          const int64_t *bounds, ptrdiff_t count, int64_t *buckets);

#endif
