#include "core/layout/padding_free.h"

#include "core/base/fill.h"

#include <string.h>

/* Cuts the tail into segments. */
static void
plan_tail(tb_padding_free *plan)
{
    const int64_t multiple = plan->segment_multiple, tail = tb_tail(plan);
    const int64_t room =
        plan->max_segments < 0 ? tail : plan->max_segments - plan->segments;
    int64_t most = tb_max(tb_min(plan->max_tail, tail), 1);

    plan->tails = plan->piece = 0;
    if (tail == 0) {
        return;
    }
    /* The tail is a multiple too, so rounding up does not pass it. */
    most += tb_find_missing(most, multiple);
    int64_t piece = tb_min(plan->longest > 0 ? plan->longest : most, tail);
    if (tb_divide_up(tail, piece) > room) {
        int64_t even = tb_divide_up(tail, tb_max(room, 1));
        even += tb_find_missing(even, multiple);
        piece = tb_max(tb_min(even, most), piece);
    }
    plan->piece = (ptrdiff_t)piece;
    plan->tails = (ptrdiff_t)tb_divide_up(tail, piece);
    plan->longest = (ptrdiff_t)tb_max(piece, plan->longest);
    plan->segments += plan->tails;
}

tb_status
tb_plan_padding_free(tb_padding_free *plan, tb_error *error)
{
    const int64_t limit = plan->max_tokens < 0 ? PTRDIFF_MAX : plan->max_tokens;
    /* Rounding up must not overflow either. */
    const int64_t most = PTRDIFF_MAX - plan->segment_multiple - plan->width_multiple;

    plan->used = plan->segments = plan->longest = 0;
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        ptrdiff_t n = tb_count_tokens(plan, i);
        if (most < plan->used || n > most - plan->used) {
            *error = (tb_error){i, -1, 0};
            return TB_ERR_SIZE;
        }
        n = tb_count_positions(plan, n);
        plan->used += n;
        plan->segments += n > 0 || plan->keep_empty;
        plan->longest = n > plan->longest ? n : plan->longest;
        if (plan->used > limit) {
            *error = (tb_error){i, -1, plan->used};
            return TB_ERR_TOO_LONG;
        }
    }
    int64_t missing = tb_find_missing(plan->used, plan->width_multiple);
    plan->width = plan->max_tokens >= 0 ? (ptrdiff_t)plan->max_tokens
                                        : plan->used + (ptrdiff_t)missing;
    plan_tail(plan);
    plan->entries =
        plan->max_segments < 0 ? plan->segments : (ptrdiff_t)plan->max_segments;
    return TB_OK;
}

/* Positions of segment k of the tail. */
static ptrdiff_t
tail_positions(const tb_padding_free *plan, ptrdiff_t k)
{
    return k + 1 < plan->tails ? plan->piece : tb_tail(plan) - k * plan->piece;
}

void
tb_write_position_ids(const tb_padding_free *plan, int64_t start, int64_t *out)
{
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        ptrdiff_t n = tb_count_positions(plan, tb_count_tokens(plan, i));
        tb_count_up(out, n, start);
        out += n;
    }
    for (ptrdiff_t k = 0; k < plan->tails; k++) {
        tb_count_up(out, tail_positions(plan, k), start);
        out += plan->piece;
    }
}

void
tb_write_seq_idx(const tb_padding_free *plan, int32_t *out)
{
    int32_t number = 0;

    for (ptrdiff_t i = 0; i < plan->count + plan->tails; i++) {
        ptrdiff_t n = i >= plan->count
                          ? tail_positions(plan, i - plan->count)
                          : tb_count_positions(plan, tb_count_tokens(plan, i));
        tb_fill_elements(out, n, 4, (const unsigned char *)&number);
        out += n;
        number += n > 0 || plan->keep_empty;
    }
}

void
tb_write_cu_seqlens(const tb_padding_free *plan, int tokens_only, int32_t *out)
{
    ptrdiff_t at = 0, k = 0;

    out[0] = 0;
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        ptrdiff_t n = tb_count_tokens(plan, i);
        at += tokens_only ? n : tb_count_positions(plan, n);
        if (n > 0 || plan->keep_empty) {
            out[++k] = (int32_t)at;
        }
    }
    for (ptrdiff_t t = 0; t < plan->tails; t++) {
        at += tokens_only ? 0 : tail_positions(plan, t);
        out[++k] = (int32_t)at;
    }
    for (int32_t last = out[k]; k < plan->entries;) {
        out[++k] = last;
    }
}

void
tb_write_row_idx(const tb_padding_free *plan, const ptrdiff_t *rows, int64_t *out)
{
    ptrdiff_t k = 0;

    for (ptrdiff_t i = 0; i < plan->count; i++) {
        if (tb_count_tokens(plan, i) > 0 || plan->keep_empty) {
            out[k++] = rows == NULL ? i : rows[i];
        }
    }
    while (k < plan->entries) {
        out[k++] = -1;
    }
}

void
tb_mark_first_tokens(const tb_padding_free *plan, int item_size,
                     const unsigned char *value, void *out)
{
    char *to = (char *)out;

    for (ptrdiff_t i = 0; i < plan->count; i++) {
        ptrdiff_t n = tb_count_positions(plan, tb_count_tokens(plan, i));
        if (n > 0) {
            memcpy(to, value, (size_t)item_size);
        }
        to += n * item_size;
    }
}

tb_status
tb_label_segments(const tb_padding_free *plan, tb_type from, const void *ids,
                  tb_type to, const unsigned char *ignored, void *out, tb_error *error)
{
    const int from_size = tb_type_size(from), to_size = tb_type_size(to);
    const char *source = (const char *)ids;
    char *labels = (char *)out;

    for (ptrdiff_t i = 0; i < plan->count; i++) {
        ptrdiff_t tokens = tb_count_tokens(plan, i), bad = 0;
        ptrdiff_t n = tb_count_positions(plan, tokens);
        tb_status status = TB_OK;
        if (tokens == 0) {
            continue;
        }
        memcpy(labels, ignored, (size_t)to_size);
        if (from == to) {
            memcpy(labels + to_size, source + from_size,
                   (size_t)(tokens - 1) * (size_t)to_size);
        }
        else {
            status = tb_cast_elements(from, to, source + from_size, tokens - 1,
                                      labels + to_size, &bad);
        }
        if (status != TB_OK) {
            *error = (tb_error){i, 1 + bad, (source - (const char *)ids) / from_size};
            return status;
        }
        tb_fill_elements(labels + tokens * to_size, n - tokens, to_size, ignored);
        source += n * from_size;
        labels += n * to_size;
    }
    tb_fill_elements(labels, tb_tail(plan), to_size, ignored);
    return TB_OK;
}

#define COUNT_OTHERS(type)                      \
    do {                                        \
        const type *from = (const type *)data;  \
        type same;                              \
        memcpy(&same, value, sizeof same);      \
        for (ptrdiff_t i = 0; i < n; i++) {     \
            others += from[i] != same ? 1u : 0; \
        }                                       \
    } while (0)

ptrdiff_t
tb_count_others(const void *data, ptrdiff_t n, int item_size,
                const unsigned char *value)
{
    uint64_t others = 0;

    switch (item_size) {
        case 1:
            COUNT_OTHERS(uint8_t);
            break;
        case 2:
            COUNT_OTHERS(uint16_t);
            break;
        case 4:
            COUNT_OTHERS(uint32_t);
            break;
        default:
            COUNT_OTHERS(uint64_t);
            break;
    }
    return (ptrdiff_t)others;
}

/* A block at a time without a branch in it, so that compilers use wide registers. */
#define FIND_NOT_ONE(type)                               \
    do {                                                 \
        const type *from = (const type *)data;           \
        for (; i + BLOCK <= n; i += BLOCK) {             \
            unsigned other = 0;                          \
            for (ptrdiff_t j = i; j < i + BLOCK; j++) {  \
                other |= !(from[j] == (type)1) ? 1u : 0; \
            }                                            \
            if (other) {                                 \
                break;                                   \
            }                                            \
        }                                                \
        while (i < n && from[i] == (type)1) {            \
            i++;                                         \
        }                                                \
    } while (0)

ptrdiff_t
tb_find_not_one(tb_type type, const void *data, ptrdiff_t n)
{
    enum { BLOCK = 64 };
    ptrdiff_t i = 0;

    switch (type) {
        case TB_BOOL:
        case TB_I8:
        case TB_U8:
            FIND_NOT_ONE(uint8_t);
            break;
        case TB_I16:
        case TB_U16:
            FIND_NOT_ONE(uint16_t);
            break;
        case TB_I32:
        case TB_U32:
            FIND_NOT_ONE(uint32_t);
            break;
        case TB_F32:
            FIND_NOT_ONE(float);
            break;
        case TB_F64:
            FIND_NOT_ONE(double);
            break;
        default:
            FIND_NOT_ONE(uint64_t);
            break;
    }
    return i;
}
