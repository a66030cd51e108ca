#include "core/layout/flat.h"

#include "core/base/fill.h"

#include <string.h>

tb_status
tb_plan_flat(tb_flat *flat, tb_error *error)
{
    const ptrdiff_t limit = flat->max_tokens < 0 ? PTRDIFF_MAX : flat->max_tokens;
    /* Rounding up must not overflow either. */
    const ptrdiff_t most = PTRDIFF_MAX - flat->piece_multiple - flat->line_multiple;

    flat->used = flat->sequences = flat->longest = 0;
    for (ptrdiff_t i = 0; i < flat->pieces; i++) {
        ptrdiff_t n = tb_flat_tokens(flat, i);
        if (most < flat->used || n > most - flat->used) {
            *error = (tb_error){i, -1, 0};
            return TB_ERR_SIZE;
        }
        n = tb_flat_positions(flat, n);
        flat->used += n;
        flat->sequences += n > 0;
        flat->longest = n > flat->longest ? n : flat->longest;
        if (flat->used > limit) {
            *error = (tb_error){i, -1, flat->used};
            return TB_ERR_TOO_LONG;
        }
    }
    ptrdiff_t rest = flat->used % flat->line_multiple;
    flat->width = flat->max_tokens >= 0 ? flat->max_tokens
                  : rest == 0           ? flat->used
                                        : flat->used + (flat->line_multiple - rest);
    ptrdiff_t tail = flat->width - flat->used;
    flat->sequences += tail > 0;
    flat->longest = tail > flat->longest ? tail : flat->longest;
    flat->entries = flat->max_sequences < 0 ? flat->sequences : flat->max_sequences;
    return TB_OK;
}

static void
count_up(int64_t *TB_RESTRICT out, ptrdiff_t n, int64_t start)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        out[j] = start + j;
    }
}

void
tb_number_positions(const tb_flat *flat, int64_t start, int64_t *out)
{
    for (ptrdiff_t i = 0; i < flat->pieces; i++) {
        ptrdiff_t n = tb_flat_positions(flat, tb_flat_tokens(flat, i));
        count_up(out, n, start);
        out += n;
    }
    count_up(out, flat->width - flat->used, start);
}

void
tb_number_sequences(const tb_flat *flat, int32_t *out)
{
    int32_t number = 0;

    for (ptrdiff_t i = 0; i <= flat->pieces; i++) {
        ptrdiff_t n = i == flat->pieces
                          ? flat->width - flat->used
                          : tb_flat_positions(flat, tb_flat_tokens(flat, i));
        tb_fill_elements(out, n, 4, (const unsigned char *)&number);
        out += n;
        number += n > 0;
    }
}

void
tb_bound_sequences(const tb_flat *flat, int real, int32_t *out)
{
    ptrdiff_t at = 0, k = 0;

    out[0] = 0;
    for (ptrdiff_t i = 0; i < flat->pieces; i++) {
        ptrdiff_t n = tb_flat_tokens(flat, i);
        at += real ? n : tb_flat_positions(flat, n);
        if (n > 0) {
            out[++k] = (int32_t)at;
        }
    }
    if (k < flat->sequences) {
        out[++k] = (int32_t)(real ? at : flat->width);
    }
    for (int32_t last = out[k]; k < flat->entries;) {
        out[++k] = last;
    }
}

void
tb_trace_sequences(const tb_flat *flat, const ptrdiff_t *rows, int64_t *out)
{
    ptrdiff_t k = 0;

    for (ptrdiff_t i = 0; i < flat->pieces; i++) {
        if (tb_flat_tokens(flat, i) > 0) {
            out[k++] = rows == NULL ? i : rows[i];
        }
    }
    while (k < flat->entries) {
        out[k++] = -1;
    }
}

void
tb_mark_starts(const tb_flat *flat, int item_size, const unsigned char *value,
               void *out)
{
    char *to = (char *)out;

    for (ptrdiff_t i = 0; i < flat->pieces; i++) {
        ptrdiff_t n = tb_flat_positions(flat, tb_flat_tokens(flat, i));
        if (n > 0) {
            memcpy(to, value, (size_t)item_size);
        }
        to += n * item_size;
    }
}

tb_status
tb_label_sequences(const tb_flat *flat, tb_type from, const void *ids, tb_type to,
                   const unsigned char *ignored, void *out, tb_error *error)
{
    const int from_size = tb_type_size(from), to_size = tb_type_size(to);
    const char *source = (const char *)ids;
    char *labels = (char *)out;

    for (ptrdiff_t i = 0; i < flat->pieces; i++) {
        ptrdiff_t tokens = tb_flat_tokens(flat, i), bad = 0;
        ptrdiff_t n = tb_flat_positions(flat, tokens);
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
    tb_fill_elements(labels, flat->width - flat->used, to_size, ignored);
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
