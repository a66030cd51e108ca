/* How wide a padded output is: its longest row, width=, or the boundary that holds it.
 */
#include "core/base/size.h"
#include "py/input/rows.h"

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
                             "has length %zd, more than width=%zd: max_length= cuts "
                             "longer rows",
                             length, most)
               : tb_raise_at(
                     &column->context, PyExc_ValueError, i, -1,
                     "has length %zd, more than the last of boundaries=, %zd: "
                     "max_length=%zd cuts longer rows, or add a larger boundary",
                     length, most, most);
}

int
tb_choose_width(const tb_column *column, const tb_pad_options *options,
                ptrdiff_t longest, ptrdiff_t *width)
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
