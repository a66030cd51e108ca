#include "core/layout/zigzag.h"

#include "core/base/size.h"

#include <string.h>

/* Positions of a segment that a rank has, one run of the two; from here on in bytes or
 * tokens of the segment. */
typedef struct {
    int64_t segment; /* where it begins among all tokens, as they lie in memory */
    int64_t padded;  /* the same among padded segments */
    int64_t length;  /* tokens of the segment that lie in memory */
    int64_t real;    /* of these, without padding */
    int64_t begin;   /* of the chunk, in its segment */
    int64_t size;    /* of the chunk */
} chunk;

static int64_t
pad_length(const tb_zigzag *plan, ptrdiff_t i)
{
    return plan->lengths[i] + tb_find_missing(plan->lengths[i], 2 * plan->ranks);
}

tb_status
tb_plan_zigzag(tb_zigzag *plan, tb_error *error)
{
    int64_t total = 0, padded = 0;

    if (plan->ranks < 1 || plan->ranks > PTRDIFF_MAX / 2) {
        *error = (tb_error){-1, -1, plan->ranks};
        return TB_ERR_SIZE;
    }
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        int64_t length = plan->lengths[i], whole = 0;
        *error = (tb_error){i, -1, length};
        if (length < 0) {
            return TB_ERR_NEGATIVE;
        }
        if (tb_round_up(length, 2 * plan->ranks, &whole) != TB_OK ||
            whole > INT64_MAX - padded) {
            return TB_ERR_SIZE;
        }
        total += length;
        padded += whole;
    }
    plan->total = plan->is_padded ? padded : total;
    plan->padded_total = padded;
    return TB_OK;
}

void
tb_pad_zigzag(const tb_zigzag *plan, int64_t *padded)
{
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        padded[i] = pad_length(plan, i);
    }
}

static chunk
begin_chunks(void)
{
    return (chunk){0, 0, 0, 0, 0, 0};
}

/* Goes on to segment i; the rank's chunks of it are found by find_chunk. */
static void
enter_segment(const tb_zigzag *plan, ptrdiff_t i, chunk *at)
{
    int64_t padded = pad_length(plan, i);

    at->real = plan->lengths[i];
    at->length = plan->is_padded ? padded : at->real;
    at->size = padded / plan->ranks / 2;
}

static void
find_chunk(const tb_zigzag *plan, ptrdiff_t rank, int is_tail, chunk *at)
{
    at->begin = at->size * (is_tail ? 2 * plan->ranks - 1 - rank : rank);
}

static void
leave_segment(const tb_zigzag *plan, chunk *at)
{
    at->segment += at->length;
    at->padded += 2 * plan->ranks * at->size;
}

/* Writes where each token of a rank is, among all padded segments or in its own. */
static void
write_places(const tb_zigzag *plan, ptrdiff_t rank, int in_segment, int64_t *out)
{
    chunk at = begin_chunks();

    for (ptrdiff_t i = 0; i < plan->count; i++) {
        enter_segment(plan, i, &at);
        for (int tail = 0; tail < 2; tail++) {
            find_chunk(plan, rank, tail, &at);
            int64_t place = at.begin + (in_segment ? 0 : at.padded);
            for (int64_t j = 0; j < at.size; j++) {
                *out++ = place + j;
            }
        }
        leave_segment(plan, &at);
    }
}

void
tb_index_zigzag(const tb_zigzag *plan, ptrdiff_t rank, int64_t *out)
{
    write_places(plan, rank, 0, out);
}

void
tb_position_zigzag(const tb_zigzag *plan, ptrdiff_t rank, int64_t *out)
{
    write_places(plan, rank, 1, out);
}

/* How many items of the chunk are there, once they are shifted. */
static int64_t
count_there(const chunk *at, int shift)
{
    /* What follows the last token is padding, and no label. */
    int64_t length = shift ? at->real : at->length;
    int64_t left = length - shift - at->begin;

    return left < 0 ? 0 : tb_min(left, at->size);
}

void
tb_take_zigzag(const tb_zigzag *plan, ptrdiff_t rank, const void *data,
               ptrdiff_t item_size, int shift, const void *fill, void *out)
{
    const char *from = (const char *)data;
    char *to = (char *)out;
    chunk at = begin_chunks();

    for (ptrdiff_t i = 0; i < plan->count; i++) {
        enter_segment(plan, i, &at);
        for (int tail = 0; tail < 2; tail++) {
            find_chunk(plan, rank, tail, &at);
            int64_t there = count_there(&at, shift);
            if (there > 0) {
                memcpy(to, from + (at.segment + at.begin + shift) * item_size,
                       (size_t)(there * item_size));
                to += there * item_size;
            }
            for (int64_t j = there; j < at.size; j++) {
                memcpy(to, fill, (size_t)item_size);
                to += item_size;
            }
        }
        leave_segment(plan, &at);
    }
}

void
tb_put_zigzag(const tb_zigzag *plan, ptrdiff_t rank, const void *share,
              ptrdiff_t item_size, void *out)
{
    const char *from = (const char *)share;
    char *to = (char *)out;
    chunk at = begin_chunks();

    for (ptrdiff_t i = 0; i < plan->count; i++) {
        enter_segment(plan, i, &at);
        for (int tail = 0; tail < 2; tail++) {
            find_chunk(plan, rank, tail, &at);
            int64_t there = count_there(&at, 0);
            if (there > 0) {
                memcpy(to + (at.segment + at.begin) * item_size, from,
                       (size_t)(there * item_size));
            }
            from += at.size * item_size;
        }
        leave_segment(plan, &at);
    }
}
