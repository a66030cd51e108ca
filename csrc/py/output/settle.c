#include "py/output/settle.h"

#include "py/output/numpy_fallback.h"

static void
set_dtype(tb_column *column, tb_dtype dtype)
{
    Py_XINCREF((PyObject *)dtype.descr);
    Py_XDECREF((PyObject *)column->dtype.descr);
    column->dtype = dtype;
    column->provisional = 0;
}

/* The type of rows that are all lists: that of their first number, widened later if
 * another number needs more. Without any number: int64. */
static int
guess_from_lists(tb_state *state, tb_column *column, const tb_pad_options *options)
{
    set_dtype(column, (tb_dtype){TB_I64, 8, NULL});
    column->provisional = 1;
    for (ptrdiff_t i = 0; i < column->count; i++) {
        int found = 0;
        tb_span kept = tb_keep_row(options, column->lengths[i]);
        if (kept.count > 0 && tb_guess_dtype(state, tb_list_row(column, i), kept.skip,
                                             &column->dtype, &found) < 0) {
            return -1;
        }
        if (found) {
            break;
        }
    }
    return 0;
}

static int
refuse_types(const tb_column *column, ptrdiff_t i)
{
    tb_dtype found = tb_row_dtype(column, i);
    tb_dtype expected = tb_row_dtype(column, column->array_row);

    return tb_raise_at(&column->context, PyExc_TypeError, i, -1,
                       "found %s, expected %s as in row %zd; pass dtype= to convert "
                       "all rows to one type",
                       tb_dtype_name(&found), tb_dtype_name(&expected),
                       (Py_ssize_t)column->array_row);
}

/* Prepares row i for the output's type: nothing to do, the core converts while it
 * moves, a conversion now, or an error. */
static int
reconcile_row(tb_state *state, tb_column *column, const tb_pad_options *options,
              ptrdiff_t i, int asked)
{
    tb_span kept = tb_keep_row(options, column->lengths[i]);
    tb_type to = column->dtype.type;
    tb_type from = (tb_type)column->types[i]; /* or TB_LIST */

    if (from == to &&
        (to != TB_NUMPY_ONLY || column->numpy_only == column->dtype.descr ||
         column->numpy_only->type_num == column->dtype.descr->type_num)) {
        return 0;
    }
    if (column->types[i] == TB_LIST) {
        return to == TB_NUMPY_ONLY ? tb_convert_row(state, column, kept, i) : 0;
    }
    if (column->lengths[i] == 0) {
        column->types[i] = (unsigned char)to;
        return 0;
    }
    if (!asked) {
        return refuse_types(column, i);
    }
    if (tb_type_is_float(from) && to < TB_F32) {
        tb_dtype found = tb_row_dtype(column, i);
        return tb_raise_at(&column->context, PyExc_TypeError, i, 0,
                           "found floats (%s), expected integers for dtype=%s",
                           tb_dtype_name(&found), tb_dtype_name(&column->dtype));
    }
    return from == TB_NUMPY_ONLY || to == TB_NUMPY_ONLY
               ? tb_convert_row(state, column, kept, i)
               : 0;
}

int
tb_find_own_dtype(tb_state *state, tb_column *column, const tb_pad_options *options)
{
    if (column->array_row >= 0) {
        set_dtype(column, tb_row_dtype(column, column->array_row));
    }
    else if (column->whole.item_size > 0) {
        set_dtype(column, column->whole);
    }
    else {
        return guess_from_lists(state, column, options);
    }
    return 0;
}

int
tb_settle_dtype(tb_state *state, tb_column *column, const tb_pad_options *options,
                const tb_dtype *asked)
{
    if (asked != NULL) {
        set_dtype(column, *asked);
    }
    else if (tb_find_own_dtype(state, column, options) < 0) {
        return -1;
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->types[i] != (unsigned char)column->dtype.type ||
            column->numpy_only) {
            if (reconcile_row(state, column, options, i, asked != NULL) < 0) {
                return -1;
            }
        }
    }
    return 0;
}
