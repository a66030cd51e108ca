/* Loops over a column that is expected to be right: as fast as memory is read. Where it
 * is not, they find the first place. */
#ifndef TB_SCAN_H
#define TB_SCAN_H

#include "core/base/macros.h"
#include "core/cast/type.h"

#include <stddef.h>

/* The first of n elements that differs from the first of them; n where all are alike.
 */
ptrdiff_t tb_scan_constant(const void *data, int item_size, ptrdiff_t n);

/* The first p[i] that is not start + i; n where there is none. */
ptrdiff_t tb_scan_count_up(const int64_t *p, ptrdiff_t n, int64_t start);

/* The first place at which a and b differ; n where there is none. */
ptrdiff_t tb_scan_equal(const int64_t *a, const int64_t *b, ptrdiff_t n);

/* The first p[i] below 0 or at least `limit`, which is at least 1; n where there is
 * none. */
ptrdiff_t tb_scan_range(const int64_t *p, ptrdiff_t n, int64_t limit);

/* The first p[i] other than `value`; n where there is none. */
ptrdiff_t tb_scan_other(const int64_t *p, ptrdiff_t n, int64_t value);

/* The first p[i] that is `value`; n where there is none. */
ptrdiff_t tb_scan_value(const int64_t *p, ptrdiff_t n, int64_t value);

/* Element i of an integer or bool column. */
static inline int64_t
tb_read_element(const void *data, tb_type type, ptrdiff_t i)
{
    switch (type) {
        case TB_I64:
            return ((const int64_t *)data)[i];
        case TB_I32:
            return ((const int32_t *)data)[i];
        case TB_I16:
            return ((const int16_t *)data)[i];
        case TB_I8:
            return ((const int8_t *)data)[i];
        case TB_U32:
            return ((const uint32_t *)data)[i];
        case TB_U16:
            return ((const uint16_t *)data)[i];
        case TB_U64: {
            uint64_t value = ((const uint64_t *)data)[i];
            return value > INT64_MAX ? INT64_MAX : (int64_t)value;
        }
        default:
            return ((const uint8_t *)data)[i];
    }
}

#endif
