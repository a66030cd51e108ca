/*
 * Where documents begin and end in a stream of tokens, and which documents a window of
 * such a stream has. The stream may be a file that is mapped and larger than memory: it
 * is read once, from its beginning to its end.
 */
#ifndef TB_TOKENS_H
#define TB_TOKENS_H

#include "core/base/macros.h"
#include "core/base/status.h"

/* What tb_find_tokens looks for: `pattern_size` tokens, one after another. All are
 * integers of `item_size` bytes, 1, 2, 4 or 8; signed ones by their bits. */
typedef struct {
    const void *tokens; /* aligned to item_size */
    ptrdiff_t count;
    int item_size;
    const uint64_t *pattern;
    ptrdiff_t pattern_size; /* at least 1 */
} tb_token_search;

/* The least room for places. */
enum { TB_TOKEN_BLOCK = 64 };

/* Finds where the pattern begins, from *at on and before `stop`, which is at most
 * `count`. Occurrences do not overlap: after one the search goes on behind it. Writes at
 * most `room` places, which is at least TB_TOKEN_BLOCK, and moves *at on, to `stop` or
 * beyond unless the room was too small. How many were written. */
ptrdiff_t tb_find_tokens(const tb_token_search *search, ptrdiff_t *at, ptrdiff_t stop,
                         int64_t *places, ptrdiff_t room);

/* Rows, one after another in a stream: row i is from starts[i] on, lengths[i] long, and
 * row i + 1 starts where it ends. Windows may overlap and lie within what rows have. */
typedef struct {
    const int64_t *starts;
    const int64_t *lengths;
    ptrdiff_t rows;
    const int64_t *window_starts; /* ascending */
    const int64_t *window_lengths;
    ptrdiff_t windows;
} tb_window_rows;

/* Where the segments of each window begin among those of all, offsets [windows + 1]. A
 * segment is what a window has of one row: at least one token. Windows that overlap have
 * many times more of them than there are rows, and they are counted without a step for
 * each. TB_ERR_SIZE: more than INT64_MAX. */
TB_MUST_CHECK tb_status tb_count_window_segments(const tb_window_rows *rows,
                                                 int64_t *offsets);

/* The length of each segment of the windows from *window on, until these have at least
 * `enough` segments; *window and *row, 0 at first, move on. How many were written. */
int64_t tb_fill_window_segments(const tb_window_rows *rows, ptrdiff_t *window,
                                ptrdiff_t *row, int64_t enough, int64_t *lengths);

#endif
