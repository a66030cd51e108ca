#include "py/output/layout.h"

#include "core/base/size.h"
#include "py/output/settle.h"

#include <string.h>

static int
refuse_row(const tb_column *column, const tb_pad_options *options, Py_ssize_t most)
{
    ptrdiff_t max_length = options->max_length < 0 ? PTRDIFF_MAX : options->max_length;
    ptrdiff_t i = 0;

    while (column->lengths[i] <= most || max_length <= most) {
        i++;
    }
    Py_ssize_t length = column->lengths[i];
    return options->boundaries == NULL
               ? tb_raise_at(&column->context, PyExc_ValueError, i, -1,
                             "has length %zd, more than width=%zd; pass max_length= to "
                             "cut longer rows",
                             length, most)
               : tb_raise_at(
                     &column->context, PyExc_ValueError, i, -1,
                     "has length %zd, more than %zd, the last of boundaries=; pass "
                     "max_length=%zd to cut longer rows, or add a larger boundary",
                     length, most, most);
}

/* The width by the options, for the longest row after cutting; not rounded up yet. */
static int
choose_width(const tb_column *column, const tb_pad_options *options, ptrdiff_t longest,
             ptrdiff_t *width)
{
    ptrdiff_t most = options->boundaries == NULL
                         ? options->width
                         : options->boundaries[options->boundary_count - 1];

    if (options->boundaries == NULL && options->width < 0) {
        *width = longest;
        return 0;
    }
    if (longest > most) {
        return refuse_row(column, options, most);
    }
    *width = options->boundaries == NULL
                 ? most
                 : (ptrdiff_t)tb_find_boundary(options->boundaries,
                                               options->boundary_count, longest);
    return 0;
}

int
tb_lay_out(const tb_column *column, const tb_pad_options *options, tb_layout *layout)
{
    ptrdiff_t longest = 0, total = 0, size;

    layout->type = column->dtype.type;
    layout->item_size = column->dtype.item_size;
    layout->pad_left = options->pad_left;
    layout->cut_left = options->cut_left;
    layout->stream = 0;
    layout->flat = options->flat;
    layout->row_multiple = 0;
    layout->max_length = options->max_length < 0 ? PTRDIFF_MAX : options->max_length;
    layout->trailing = 1;
    int too_large = 0;
    for (ptrdiff_t i = 0; i < column->count; i++) {
        longest = column->lengths[i] > longest ? column->lengths[i] : longest;
    }
    longest = longest > layout->max_length ? layout->max_length : longest;
    for (ptrdiff_t i = 0; options->flat && i < column->count; i++) {
        ptrdiff_t kept = tb_keep_row(options, column->lengths[i]).count;
        too_large |= kept > PTRDIFF_MAX - total;
        total = too_large ? total : total + kept;
    }
    if (options->flat) { /* the caller knows that `width` is enough */
        longest = options->width < 0 ? total : options->width;
    }
    else if (choose_width(column, options, longest, &longest) < 0) {
        return -1;
    }
    int64_t rounded = longest;
    too_large |= tb_round_up(longest, options->multiple, &rounded) != TB_OK;
    layout->width = too_large ? longest : (ptrdiff_t)rounded;
    for (int d = 0; d < column->ndim; d++) {
        too_large |= tb_multiply_sizes(layout->trailing, column->trailing[d],
                                       &layout->trailing) != TB_OK;
    }
    too_large |=
        tb_multiply_sizes(layout->width, layout->item_size, &size) != TB_OK ||
        tb_multiply_sizes(size, layout->trailing, &size) != TB_OK ||
        tb_multiply_sizes(size, options->flat ? 1 : column->count, &size) != TB_OK;
    if (too_large) {
        return tb_raise_at(
            &column->context, PyExc_ValueError, -1, -1,
            "%zd rows of width %zd need more bytes than can be addressed",
            (Py_ssize_t)column->count, (Py_ssize_t)layout->width);
    }
    return 0;
}

int
tb_output_shape(const tb_column *column, const tb_layout *layout, npy_intp *dims)
{
    int ndim = column->ndim < 0 ? 0 : column->ndim;

    dims[0] = layout->flat ? 1 : column->count;
    dims[1] = layout->width;
    memcpy(dims + 2, column->trailing, (size_t)ndim * sizeof *dims);
    return 2 + ndim;
}

ptrdiff_t
tb_used_positions(const tb_column *column, const tb_layout *layout)
{
    ptrdiff_t used = 0;

    for (ptrdiff_t i = 0; i < column->count; i++) {
        used += tb_row_pitch(layout, tb_locate_row(layout, column->lengths[i]));
    }
    return used;
}

int
tb_needs_fill(const tb_column *column, const tb_layout *layout)
{
    if (layout->flat) {
        return layout->row_multiple > 1 ||
               tb_used_positions(column, layout) < layout->width;
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->lengths[i] < layout->width) {
            return 1;
        }
    }
    return layout->width > layout->max_length;
}
