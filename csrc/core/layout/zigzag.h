/*
 * Segments shared out among the ranks of context parallelism, so that each has as much
 * work under a causal mask. Each segment is padded to a multiple of 2 * ranks and cut into
 * 2 * ranks chunks; rank r has chunks r and 2 * ranks - 1 - r of every segment:
 *
 *     2 ranks     chunk 0   chunk 1   chunk 2   chunk 3
 *     rank           0         1         1         0
 *
 * These are the shares of Megatron-LM (get_batch_on_this_cp_rank, and for packed
 * sequences TransformerEngine's thd_get_partitioned_indices) and of torch's head-tail
 * load balancer.
 */
#ifndef TB_ZIGZAG_H
#define TB_ZIGZAG_H

#include "core/base/macros.h"
#include "core/base/status.h"

typedef struct {
    const int64_t *lengths; /* of segments, without padding */
    ptrdiff_t count;
    ptrdiff_t ranks;
    int is_padded; /* the padding lies between the segments already, at the end of each */
    int64_t total; /* tokens of all segments; with padding if is_padded. Planned: */
    int64_t padded_total;
} tb_zigzag;

/* Checks the lengths and fills in the totals. TB_ERR_NEGATIVE, or TB_ERR_SIZE where the
 * padded segments up to error->row are more than int64 counts, or ranks are too many. */
TB_MUST_CHECK tb_status tb_plan_zigzag(tb_zigzag *plan, tb_error *error);

/* Each segment's length with padding, [count]. */
void tb_pad_zigzag(const tb_zigzag *plan, int64_t *padded);

/* [padded_total / ranks]: where each token of the rank is among the padded segments. */
void tb_index_zigzag(const tb_zigzag *plan, ptrdiff_t rank, int64_t *out);

/* [padded_total / ranks]: each token's place in its segment. */
void tb_position_zigzag(const tb_zigzag *plan, ptrdiff_t rank, int64_t *out);

/* The rank's share of `total` items at data, each of item_size bytes, [padded_total /
 * ranks]. Padding that is not there yet is the item at `fill`. With shift, of 0 or 1, each
 * place has the item `shift` places further on in its segment, and `fill` where there is
 * none. */
void tb_take_zigzag(const tb_zigzag *plan, ptrdiff_t rank, const void *data,
                    ptrdiff_t item_size, int shift, const void *fill, void *out);

/* The other way: puts the share of a rank where it belongs among `total` items at out. */
void tb_put_zigzag(const tb_zigzag *plan, ptrdiff_t rank, const void *share,
                   ptrdiff_t item_size, void *out);

#endif
