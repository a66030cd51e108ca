#include "core/layout/mask.h"

#include "core/base/fill.h"

#include <string.h>

void
tb_mask_rows(const ptrdiff_t *lengths, ptrdiff_t count, const tb_layout *layout,
             const unsigned char *real, void *out)
{
    char *row = (char *)out;
    const char *longest =
        NULL; /* run of `real` so far: shorter ones are copies of it */
    ptrdiff_t most = 0;

    for (ptrdiff_t i = 0; i < count; i++) {
        tb_span span = tb_locate_row(layout, lengths[i]);
        char *run = row + span.at * layout->item_size;
        if (longest != NULL && span.count <= most) {
            memcpy(run, longest, (size_t)(span.count * layout->item_size));
        }
        else {
            tb_fill_elements(run, span.count, layout->item_size, real);
            longest = run;
            most = span.count;
        }
        tb_fill_around(layout, span, row);
        row += tb_row_pitch(layout, span) * layout->item_size;
    }
}

void
tb_position_rows(const ptrdiff_t *lengths, ptrdiff_t count, const tb_layout *layout,
                 int64_t *out)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        tb_span span = tb_locate_row(layout, lengths[i]);
        tb_count_up(out + span.at, span.count, 0);
        tb_fill_around(layout, span, out);
        out += tb_row_pitch(layout, span);
    }
}

tb_status
tb_check_lengths(const ptrdiff_t *lengths, ptrdiff_t count, ptrdiff_t limit,
                 ptrdiff_t *longest, ptrdiff_t *total, tb_error *error)
{
    *longest = 0;
    *total = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        ptrdiff_t length = lengths[i];
        error->row = i;
        error->column = -1;
        error->value = length;
        if (length < 0) {
            return TB_ERR_NEGATIVE;
        }
        if (length > limit) {
            return TB_ERR_TOO_LONG;
        }
        if (length > PTRDIFF_MAX - *total) {
            return TB_ERR_SIZE;
        }
        *total += length;
        if (length > *longest) {
            *longest = length;
        }
    }
    return TB_OK;
}
