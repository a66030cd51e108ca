/*
 * Which blocks of an attention matrix are not empty, in the layout of FlexAttention's
 * BlockMask, from the lengths of the segments alone.
 *
 * A query sees the keys of its own segment. The keys that the queries of one block see
 * are one range without a gap, since segments follow each other without a gap. So are
 * the keys that all of these queries see. Two divisions give the blocks of keys that
 * are touched, and two more those that are full.
 */
#ifndef TB_BLOCK_MASK_H
#define TB_BLOCK_MASK_H

#include "core/base/macros.h"
#include "core/base/status.h"

typedef struct {
    ptrdiff_t total;      /* tokens in a pack, 0 to INT32_MAX */
    ptrdiff_t query_size; /* of a block, at least 1 */
    ptrdiff_t key_size;
    int causal;       /* no key after the query */
    ptrdiff_t window; /* no key `window` or further away; at least 1 */
} tb_block_rule;

/* Of one pack: for each block of queries, a count of blocks of keys, [query blocks],
 * and the numbers of all blocks of keys, [query blocks, key blocks], those that are
 * counted first. `full` counts blocks that are seen as a whole, `partial`
 * those of which only some keys are seen. */
typedef struct {
    int32_t *partial_counts;
    int32_t *partial;
    int32_t *full_counts;
    int32_t *full;
} tb_blocks;

/* The pack's lengths add up to rule->total at most. The rest is a segment too. */
void tb_mask_blocks(const int64_t *lengths, ptrdiff_t count, const tb_block_rule *rule,
                    const tb_blocks *blocks);

#endif
