#include "core/layout/block_mask.h"

#include "core/base/fill.h"
#include "core/base/size.h"

/* Where in a pack a query is. The cursor moves forward, as queries do. */
typedef struct {
    const int64_t *lengths;
    ptrdiff_t count;
    ptrdiff_t next;  /* the segment after this one */
    ptrdiff_t begin; /* the segment's first position, and the one after its last */
    ptrdiff_t end;
} tb_cursor;

/* From begin up to but without end; empty where end <= begin. */
typedef struct {
    ptrdiff_t begin;
    ptrdiff_t end;
} tb_range;

/* The keys that `query` sees. */
static tb_range
find_keys(tb_cursor *cursor, ptrdiff_t query, const tb_block_rule *rule)
{
    while (cursor->end <= query) {
        int is_tail = cursor->next == cursor->count;
        cursor->begin = cursor->end;
        cursor->end =
            is_tail ? rule->total : cursor->end + cursor->lengths[cursor->next++];
    }
    tb_range keys = {cursor->begin, cursor->end};
    if (rule->window <= query - keys.begin) {
        keys.begin = query - rule->window + 1;
    }
    if (rule->causal) {
        keys.end = query + 1;
    }
    else if (rule->window < keys.end - query) {
        keys.end = query + rule->window;
    }
    return keys;
}

/* Writes the numbers from `begin` up to `end` - 1; returns where the next one goes. */
static int32_t *
append_numbers(int32_t *out, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t n = end > begin ? end - begin : 0;

    tb_count_up_i32(out, n, (int32_t)begin);
    return out + n;
}

/* The numbers of one block of queries: `full` lies within `touched`. */
static void
write_blocks(tb_range touched, tb_range full, ptrdiff_t key_blocks, int32_t *partial,
             int32_t *all)
{
    partial = append_numbers(partial, touched.begin, full.begin);
    partial = append_numbers(partial, full.end, touched.end);
    partial = append_numbers(partial, 0, touched.begin);
    partial = append_numbers(partial, full.begin, full.end);
    append_numbers(partial, touched.end, key_blocks);
    all = append_numbers(all, full.begin, full.end);
    all = append_numbers(all, 0, full.begin);
    append_numbers(all, full.end, key_blocks);
}

void
tb_mask_blocks(const int64_t *lengths, ptrdiff_t count, const tb_block_rule *rule,
               const tb_blocks *blocks)
{
    ptrdiff_t query_blocks = tb_divide_up(rule->total, rule->query_size);
    ptrdiff_t key_blocks = tb_divide_up(rule->total, rule->key_size);
    tb_cursor to_first = {lengths, count, 0, 0, 0}, to_last = to_first;

    for (ptrdiff_t i = 0; i < query_blocks; i++) {
        ptrdiff_t query = i * rule->query_size;
        int is_cut = rule->total - query < rule->query_size; /* padded, never full */
        ptrdiff_t last = is_cut ? rule->total - 1 : query + rule->query_size - 1;
        tb_range first_keys = find_keys(&to_first, query, rule);
        tb_range last_keys = find_keys(&to_last, last, rule);
        tb_range touched = {first_keys.begin / rule->key_size,
                            tb_divide_up(last_keys.end, rule->key_size)};
        tb_range full = {tb_divide_up(last_keys.begin, rule->key_size),
                         first_keys.end / rule->key_size};
        if (is_cut || full.end <= full.begin) {
            full = (tb_range){touched.begin, touched.begin};
        }
        blocks->full_counts[i] = (int32_t)(full.end - full.begin);
        blocks->partial_counts[i] =
            (int32_t)(touched.end - touched.begin - (full.end - full.begin));
        write_blocks(touched, full, key_blocks, blocks->partial + i * key_blocks,
                     blocks->full + i * key_blocks);
    }
}
