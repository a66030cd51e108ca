/* Strings as views (Arrow's "vu" and "vz"), copied one after another. */
#ifndef TB_VIEWS_H
#define TB_VIEWS_H

#include "core/arrow/bits.h"
#include "core/arrow/c_data.h"

typedef struct {
    const void *views; /* of the first row */
    ptrdiff_t count;
    tb_arrow_valid rows;
    const void *const *heap; /* the buffers that long views point into */
    int64_t heaps;
    const void *heap_sizes; /* in bytes, int64 each */
} tb_arrow_views;

/* How many bytes the rows have together. Each view is checked. */
TB_MUST_CHECK tb_status tb_arrow_measure_views(const tb_arrow_views *views,
                                               ptrdiff_t *size, tb_arrow_fault *fault);

/* These bytes, `size` of them, into `out`; starts count from `base` on. */
void tb_arrow_copy_views(const tb_arrow_views *views, ptrdiff_t size, ptrdiff_t base,
                         int64_t *starts, int64_t *lengths, char *out);

#endif
