#include "core/layout/pad.h"

#include "core/base/fill.h"
#include "core/base/macros.h"
#include "core/base/stream.h"

#include <string.h>

/* Rows are fetched this many rows before they are moved. */
enum { AHEAD = 3 };

static void
fill_positions(const tb_layout *layout, char *dst, ptrdiff_t positions)
{
    ptrdiff_t n = positions * layout->trailing;

    if (n > 0 && layout->stream) {
        tb_stream_fill(dst, n, layout->item_size, layout->fill);
    }
    else {
        tb_fill_elements(dst, n, layout->item_size, layout->fill);
    }
}

void
tb_fill_around(const tb_layout *layout, tb_span span, void *row)
{
    ptrdiff_t position = layout->trailing * layout->item_size;
    ptrdiff_t end = span.at + span.count;

    fill_positions(layout, (char *)row, span.at);
    fill_positions(layout, (char *)row + end * position,
                   tb_row_pitch(layout, span) - end);
}

void
tb_fill_tail(const tb_layout *layout, ptrdiff_t used, void *out)
{
    fill_positions(layout, (char *)out + used * layout->trailing * layout->item_size,
                   layout->width - used);
}

/* Moves the kept elements of row i to `place`, converted where their type differs. */
static tb_status
place_row(const tb_rows *rows, ptrdiff_t i, const tb_layout *layout, tb_span span,
          char *place, tb_error *error)
{
    tb_type type = rows->types == NULL ? layout->type : (tb_type)rows->types[i];
    ptrdiff_t first = span.skip * layout->trailing;
    ptrdiff_t n = span.count * layout->trailing;
    ptrdiff_t bad = 0;

    if (type == layout->type) {
        const char *from = (const char *)rows->data[i] + first * layout->item_size;
        size_t bytes = (size_t)(n * layout->item_size);
        if (layout->stream) {
            tb_stream_copy(place, from, bytes);
        }
        else {
            memcpy(place, from, bytes);
        }
        return TB_OK;
    }
    tb_status status = tb_cast_elements(
        type, layout->type, (const char *)rows->data[i] + first * tb_type_size(type), n,
        place, &bad);
    if (status != TB_OK) {
        error->row = i;
        error->column = span.skip + bad / layout->trailing;
        error->value = first + bad;
    }
    return status;
}

/* Rows chosen at random lie anywhere in a large buffer. The first lines of a row are
 * fetched while earlier rows are moved. The processor fetches the next lines by itself.
 */
static void
prefetch_row(const void *data)
{
    for (int line = 0; data != NULL && line < 4; line++) {
        TB_PREFETCH((const char *)data + 64 * line);
    }
}

tb_status
tb_pad_rows(const tb_rows *rows, const tb_layout *layout, void *out, tb_error *error)
{
    tb_layout own = *layout;
    ptrdiff_t position = own.trailing * own.item_size;
    char *to = (char *)out;

    own.stream = own.width * position * (own.flat ? 1 : rows->count) >= TB_STREAM_FROM;
    for (ptrdiff_t i = 0; i < rows->count; i++) {
        tb_span span = tb_locate_row(&own, rows->lengths[i]);
        if (i + AHEAD < rows->count) {
            prefetch_row(rows->data[i + AHEAD]);
        }
        if (span.count > 0 && own.trailing > 0) {
            tb_status status =
                place_row(rows, i, &own, span, to + span.at * position, error);
            if (status != TB_OK) {
                return status;
            }
        }
        tb_fill_around(&own, span, to);
        to += tb_row_pitch(&own, span) * position;
    }
    if (own.stream) {
        tb_stream_fence();
    }
    return TB_OK;
}
