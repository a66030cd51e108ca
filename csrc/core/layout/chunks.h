/* Chunks of documents that overlap, put together again: where several chunks have a
 * value for a position, their mean. */
#ifndef TB_CHUNKS_H
#define TB_CHUNKS_H

#include "core/layout/pad.h"

/* Chunk k has positions begins[k] to begins[k] + lengths[k] - 1 of its document, and
 * data[k] the values of them, `trailing` of each. Chunks offsets[d] to offsets[d + 1] - 1
 * are of document d; they begin and end in order, and leave no position out. */
typedef struct {
    const void *const *data;
    const int64_t *begins;
    const ptrdiff_t *lengths;
    ptrdiff_t trailing;
    int item_size; /* float32 or float64, by size */
    const int64_t *offsets;
    ptrdiff_t documents;
} tb_chunks;

/* The number of positions of all documents. TB_ERR_RANGE for a chunk that is not in
 * order or leaves a gap before it, error->row. */
TB_MUST_CHECK tb_status tb_count_merged(const tb_chunks *chunks, ptrdiff_t *total,
                                        tb_error *error);

/* Writes document after document. A sum is made in float64, from the first chunk to the
 * last, and rounded once. */
void tb_mean_chunks(const tb_chunks *chunks, void *out);

#endif
