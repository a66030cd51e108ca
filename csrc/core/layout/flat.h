/*
 * Sequences one after another in one line of positions, as attention kernels for
 * variable lengths take them: where each begins, and what is made of lengths alone.
 *
 *     piece      what becomes a sequence: a row, or a part of a row that is a pack
 *     sequence   a piece that has a token; pieces without one leave no trace
 *     tail       what is left of the line behind the last sequence: one sequence more
 */
#ifndef TB_FLAT_H
#define TB_FLAT_H

#include "core/cast/cast.h"

typedef struct {
    /* Given: */
    ptrdiff_t pieces;
    const ptrdiff_t *lengths; /* of pieces, before they are cut */
    ptrdiff_t max_length;     /* pieces are cut to it; PTRDIFF_MAX: never */
    ptrdiff_t piece_multiple; /* positions of each sequence: a multiple of it */
    ptrdiff_t line_multiple;  /* and of the line */
    ptrdiff_t max_tokens;     /* exactly so many positions; -1: as many as it takes */
    ptrdiff_t max_sequences; /* entries are written for so many; -1: no more than are */
    /* Planned: */
    ptrdiff_t width;     /* positions of the line */
    ptrdiff_t used;      /* of these, positions of sequences: the tail is behind them */
    ptrdiff_t sequences; /* the tail is one of them */
    ptrdiff_t longest;   /* positions of the longest, be it the tail */
    ptrdiff_t entries;   /* sequences that entries are written for */
} tb_flat;

/* Tokens of piece i that are kept. */
static inline ptrdiff_t
tb_flat_tokens(const tb_flat *flat, ptrdiff_t i)
{
    return flat->lengths[i] > flat->max_length ? flat->max_length : flat->lengths[i];
}

/* Positions that n tokens take. */
static inline ptrdiff_t
tb_flat_positions(const tb_flat *flat, ptrdiff_t n)
{
    ptrdiff_t rest = flat->piece_multiple > 1 ? n % flat->piece_multiple : 0;

    return rest == 0 ? n : n + (flat->piece_multiple - rest);
}

/* Plans. TB_ERR_TOO_LONG: piece error->row does not fit into max_tokens any more, and
 * with it there are error->value positions. TB_ERR_SIZE: more than can be counted. */
TB_MUST_CHECK tb_status tb_plan_flat(tb_flat *flat, tb_error *error);

/* [width]: start, start + 1, ... over each sequence, padding included. */
void tb_number_positions(const tb_flat *flat, int64_t start, int64_t *out);

/* [width]: the number of the sequence, from 0. */
void tb_number_sequences(const tb_flat *flat, int32_t *out);

/* [entries + 1]: where sequences begin and end; past the last its end again. `real`:
 * padding is not counted, and so the tail has no length. Width is at most INT32_MAX. */
void tb_bound_sequences(const tb_flat *flat, int real, int32_t *out);

/* [entries]: the row of each sequence, -1 for the tail and past it. rows NULL: pieces
 * are rows. */
void tb_trace_sequences(const tb_flat *flat, const ptrdiff_t *rows, int64_t *out);

/* Writes the item_size bytes at `value` to the first position of every sequence but the
 * tail's. */
void tb_mark_starts(const tb_flat *flat, int item_size, const unsigned char *value,
                    void *out);

/* [width] labels of the tokens that lie in `ids` as sequences: `ignored` at the first
 * and at padding. The error is that of tb_cast_elements; error->row is the piece. */
TB_MUST_CHECK tb_status tb_label_sequences(const tb_flat *flat, tb_type from,
                                           const void *ids, tb_type to,
                                           const unsigned char *ignored, void *out,
                                           tb_error *error);

/* How many of n elements are not the one at `value`; of up to 8 bytes. */
ptrdiff_t tb_count_others(const void *data, ptrdiff_t n, int item_size,
                          const unsigned char *value);

/* The first of n elements, of a type up to TB_F64, that is not 1; n: there is none. */
ptrdiff_t tb_find_not_one(tb_type type, const void *data, ptrdiff_t n);

#endif
