#include "core/plan/buckets.h"

#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/base/sort.h"

#include <string.h>

enum { SMALL_TABLE = 4096 }; /* counters that are affordable for any number of rows */
enum { CUTS_AT_ONCE = 1 << 24 }; /* 64 MiB */

/* A place for the last cut: the best one from width `from` on, up to that of the next
 * line. */
typedef struct {
    int64_t from;
    ptrdiff_t cut;
} envelope_line;

/* --- lengths to distinct widths -------------------------------------------------- */

static tb_status
allocate_widths(ptrdiff_t count, tb_widths *out)
{
    out->widths = (int64_t *)tb_allocate_array(count, sizeof *out->widths);
    out->rows = (int64_t *)tb_allocate_array(count + 1, sizeof *out->rows);
    if (out->widths == NULL || out->rows == NULL) {
        return TB_ERR_MEMORY;
    }
    out->rows[0] = 0;
    return TB_OK;
}

/* Adds `length`, longer than those before it: the rows up to number `rows` have it.
 */
static void
append_width(tb_widths *out, int64_t length, int64_t rows)
{
    out->widths[out->count++] = length;
    out->rows[out->count] = rows;
}

/* A counter for every length up to `mask`. Lengths are masked although they were
 * checked, because another thread may write to them meanwhile. */
static tb_status
count_in_table(const int64_t *lengths, ptrdiff_t n, uint64_t mask, tb_widths *out)
{
    ptrdiff_t size = (ptrdiff_t)mask + 1, distinct = 0;
    int64_t *counts = (int64_t *)tb_allocate_array(size, sizeof *counts), rows = 0;
    tb_status status;

    if (counts == NULL) {
        return TB_ERR_MEMORY;
    }
    memset(counts, 0, (size_t)size * sizeof *counts);
    for (ptrdiff_t i = 0; i < n; i++) {
        counts[(uint64_t)lengths[i] & mask]++;
    }
    for (ptrdiff_t length = 0; length < size; length++) {
        distinct += counts[length] != 0;
    }
    status = allocate_widths(distinct, out);
    for (ptrdiff_t length = 0; status == TB_OK && length < size; length++) {
        if (counts[length] != 0) {
            rows += counts[length];
            append_width(out, length, rows);
        }
    }
    free(counts);
    return status;
}

/* For lengths much larger than their number. */
static tb_status
count_by_sorting(const int64_t *lengths, ptrdiff_t n, uint64_t mask, tb_widths *out)
{
    uint64_t *block = (uint64_t *)tb_allocate_array(n, 2 * sizeof *block);
    uint64_t *sorted = block;
    ptrdiff_t distinct = 0;
    tb_status status;

    if (block == NULL) {
        return TB_ERR_MEMORY;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        sorted[i] = (uint64_t)lengths[i] & mask;
    }
    tb_sort_items(sorted, n, tb_lay_out_sort(mask, n, 0), block + n);
    for (ptrdiff_t i = 0; i < n; i++) {
        distinct += i + 1 == n || sorted[i] != sorted[i + 1];
    }
    status = allocate_widths(distinct, out);
    for (ptrdiff_t i = 0; status == TB_OK && i < n; i++) {
        if (i + 1 == n || sorted[i] != sorted[i + 1]) {
            append_width(out, (int64_t)sorted[i], i + 1);
        }
    }
    free(block);
    return status;
}

/* Adds up the lengths and rounds them to widths, once that is known to fit. */
static tb_status
round_widths(int64_t multiple, tb_widths *out)
{
    int64_t longest = out->widths[out->count - 1], n = out->rows[out->count];
    int64_t widest = 0;
    ptrdiff_t distinct = 0;

    if (tb_round_up(longest, multiple, &widest) != TB_OK || widest > INT64_MAX / n) {
        return TB_ERR_SIZE;
    }
    for (ptrdiff_t j = 0; j < out->count; j++) {
        int64_t length = out->widths[j];
        int64_t width = length + tb_find_missing(length, multiple);
        out->tokens += (out->rows[j + 1] - out->rows[j]) * length;
        if (distinct == 0 || out->widths[distinct - 1] != width) {
            out->widths[distinct++] = width;
        }
        /* Not read again: `distinct` is j + 1 at most. */
        out->rows[distinct] = out->rows[j + 1];
    }
    out->count = distinct;
    return TB_OK;
}

/* The first negative length; if there is none, the first of the longest. */
static void
find_refused(const int64_t *lengths, ptrdiff_t n, tb_error *error)
{
    error->row = 0;
    error->column = -1;
    for (ptrdiff_t i = 0; i < n && lengths[error->row] >= 0; i++) {
        if (lengths[i] < 0 || lengths[i] > lengths[error->row]) {
            error->row = i;
        }
    }
    error->value = lengths[error->row];
}

tb_status
tb_count_widths(const int64_t *lengths, ptrdiff_t n, int64_t multiple,
                tb_widths *widths, tb_error *error)
{
    uint64_t mask = 0; /* all bits that any length has, and then all below them */
    ptrdiff_t most = n > SMALL_TABLE ? n : SMALL_TABLE;
    tb_status status;

    memset(widths, 0, sizeof *widths);
    for (ptrdiff_t i = 0; i < n; i++) {
        mask |= (uint64_t)lengths[i];
    }
    if (mask > INT64_MAX) {
        find_refused(lengths, n, error);
        return TB_ERR_NEGATIVE;
    }
    for (int shift = 1; shift < 64; shift *= 2) {
        mask |= mask >> shift;
    }
    status = mask < (uint64_t)most ? count_in_table(lengths, n, mask, widths)
                                   : count_by_sorting(lengths, n, mask, widths);
    if (status == TB_OK) {
        status = round_widths(multiple, widths);
    }
    if (status == TB_ERR_SIZE) {
        find_refused(lengths, n, error);
    }
    return status;
}

/* --- distinct widths to boundaries ----------------------------------------------- */

/* The first width at which a cut at `b` is better than one at `a` < b. Between equals
 * the smaller cut wins. More rows never take fewer tokens, and so nothing is negative.
 */
static int64_t
find_crossing(const int64_t *before, const int64_t *rows, ptrdiff_t a, ptrdiff_t b)
{
    int64_t crossing = (before[b] - before[a]) / (rows[b] - rows[a]);

    return crossing < INT64_MAX ? crossing + 1 : INT64_MAX;
}

/* One layer: with before[i] the fewest tokens of the first i widths in q - 1 runs,
 * those of the first j in q runs, and where the last of these runs begins. Defined from
 * i = q
 * - 1 and j = q on. */
static void
choose_cuts(const tb_widths *widths, ptrdiff_t q, const int64_t *TB_RESTRICT before,
            envelope_line *TB_RESTRICT lines, int64_t *TB_RESTRICT after,
            uint32_t *cuts)
{
    const int64_t *rows = widths->rows;
    ptrdiff_t best = 0, count = 0; /* the line that is best now; all lines */

    for (ptrdiff_t j = q; j <= widths->count; j++) {
        int64_t width = widths->widths[j - 1], from = 0;
        for (; count > best; count--) {
            from = find_crossing(before, rows, lines[count - 1].cut, j - 1);
            if (count - 1 == best || from > lines[count - 1].from) {
                break;
            }
        }
        lines[count++] = (envelope_line){from, j - 1};
        while (best + 1 < count && lines[best + 1].from <= width) {
            best++;
        }
        ptrdiff_t cut = lines[best].cut;
        after[j] = before[cut] + (rows[j] - rows[cut]) * width;
        if (cuts != NULL) {
            cuts[j] = (uint32_t)cut;
        }
    }
}

/* Where layers are computed: the tokens of one layer and of the next, and the envelope. */
typedef struct {
    int64_t *before;
    int64_t *after;
    envelope_line *lines;
    tb_poll poll;
} layer_room;

static tb_status
make_room(ptrdiff_t size, tb_poll poll, layer_room *room)
{
    room->before = (int64_t *)tb_allocate_array(size, sizeof *room->before);
    room->after = (int64_t *)tb_allocate_array(size, sizeof *room->after);
    room->lines = (envelope_line *)tb_allocate_array(size, sizeof *room->lines);
    room->poll = poll;
    return room->before == NULL || room->after == NULL || room->lines == NULL
               ? TB_ERR_MEMORY
               : TB_OK;
}

static void
free_room(layer_room *room)
{
    free(room->before);
    free(room->after);
    free(room->lines);
}

/* Makes room->before, which is layer q, the next one. */
static tb_status
next_layer(const tb_widths *widths, ptrdiff_t q, layer_room *room, uint32_t *cuts)
{
    if (room->poll != NULL && room->poll() < 0) {
        return TB_ERR_INTERRUPTED;
    }
    choose_cuts(widths, q + 1, room->before, room->lines, room->after, cuts);
    int64_t *held = room->before;
    room->before = room->after;
    room->after = held;
    return TB_OK;
}

/* Some layers as they were, 1, 1 + stride, ... up to `last`, for the others to be computed
 * again from them. */
typedef struct {
    int64_t *tokens;
    ptrdiff_t stride;
    ptrdiff_t last; /* 0: none are kept */
} kept_layers;

/* All layers up to q = k, and the waste of each. */
static tb_status
choose_layers(const tb_widths *widths, ptrdiff_t k, layer_room *room,
              const kept_layers *kept, int64_t *waste)
{
    ptrdiff_t size = widths->count + 1;
    tb_status status = TB_OK;

    room->before[0] = 0;
    for (ptrdiff_t j = 1; j < size; j++) {
        room->before[j] = widths->rows[j] * widths->widths[j - 1];
    }
    for (ptrdiff_t q = 1; status == TB_OK; q++) {
        if (waste != NULL) {
            waste[q - 1] = room->before[widths->count] - widths->tokens;
        }
        if (q <= kept->last && (q - 1) % kept->stride == 0) {
            memcpy(kept->tokens + (q - 1) / kept->stride * size, room->before,
                   (size_t)size * sizeof *kept->tokens);
        }
        if (q == k) {
            break;
        }
        status = next_layer(widths, q, room, NULL);
    }
    return status;
}

/* The boundaries of the layers `from` + 1 to `to`, from the last to the first, with the
 * cuts of these layers alone. *end: the widths that are left to cut. */
static tb_status
trace_back(const tb_widths *widths, ptrdiff_t from, ptrdiff_t to, layer_room *room,
           uint32_t *cuts, int64_t *boundaries, ptrdiff_t *end)
{
    ptrdiff_t size = widths->count + 1;
    tb_status status = TB_OK;

    for (ptrdiff_t q = from; status == TB_OK && q < to; q++) {
        status = next_layer(widths, q, room, cuts + (q - from) * size);
    }
    for (ptrdiff_t q = to; status == TB_OK && q > from; q--) {
        boundaries[q - 1] = widths->widths[*end - 1];
        *end = (ptrdiff_t)cuts[(q - from - 1) * size + *end];
    }
    return status;
}

/* How many layers' cuts are held at once: all, if they take no more than
 * CUTS_AT_ONCE; else so many that they take about as much as the layers that are kept. */
static ptrdiff_t
choose_stride(ptrdiff_t size, ptrdiff_t layers)
{
    ptrdiff_t stride = 1;

    if (size <= CUTS_AT_ONCE / layers) {
        return layers;
    }
    while (stride * stride < 2 * layers) {
        stride++;
    }
    return stride;
}

/* The boundaries, for k < widths->count. */
static tb_status
cut_widths(const tb_widths *widths, ptrdiff_t k, layer_room *room, int64_t *boundaries,
           int64_t *waste)
{
    ptrdiff_t size = widths->count + 1, end = widths->count, cells = 0, blocks = 0;
    kept_layers kept = {NULL, 1, 1};
    uint32_t *cuts = NULL;
    tb_status status = TB_ERR_MEMORY;

    if (k > 1) {
        kept.stride = choose_stride(size, k - 1);
        kept.last += (k - 2) / kept.stride * kept.stride;
    }
    if (tb_multiply_sizes(size, kept.stride, &cells) == TB_OK &&
        tb_multiply_sizes(size, (kept.last - 1) / kept.stride + 1, &blocks) == TB_OK) {
        cuts = (uint32_t *)tb_allocate_array(cells, sizeof *cuts);
        kept.tokens = (int64_t *)tb_allocate_array(blocks, sizeof *kept.tokens);
    }
    if (cuts != NULL && kept.tokens != NULL) {
        status =
            choose_layers(widths, waste == NULL ? kept.last : k, room, &kept, waste);
    }
    for (ptrdiff_t to = k, from = kept.last; status == TB_OK && to > 1;
         to = from, from -= kept.stride) {
        memcpy(room->before, kept.tokens + (from - 1) / kept.stride * size,
               (size_t)size * sizeof *kept.tokens);
        status = trace_back(widths, from, to, room, cuts, boundaries, &end);
    }
    if (status == TB_OK) {
        boundaries[0] = widths->widths[end - 1];
    }
    free(cuts);
    free(kept.tokens);
    return status;
}

tb_status
tb_choose_boundaries(const tb_widths *widths, ptrdiff_t k, int64_t *boundaries,
                     int64_t *waste, tb_poll poll)
{
    const kept_layers none = {NULL, 1, 0};
    layer_room room;
    tb_status status;

    if (widths->count >= UINT32_MAX) {
        return TB_ERR_MEMORY; /* cuts are numbers of 32 bits */
    }
    status = make_room(widths->count + 1, poll, &room);
    if (status == TB_OK && k < widths->count) {
        status = cut_widths(widths, k, &room, boundaries, waste);
    }
    else if (status == TB_OK) {
        memcpy(boundaries, widths->widths, (size_t)widths->count * sizeof *boundaries);
        status = waste == NULL
                     ? TB_OK
                     : choose_layers(widths, widths->count, &room, &none, waste);
    }
    free_room(&room);
    return status;
}

void
tb_free_widths(tb_widths *widths)
{
    free(widths->widths);
    free(widths->rows);
    memset(widths, 0, sizeof *widths);
}
