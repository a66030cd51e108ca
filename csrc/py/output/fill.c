#include "core/base/size.h"
#include "py/input/rows.h"

#include <string.h>

/* Row i, which is a TB_LIST. */
static PyObject *
list_at(const tb_column *column, ptrdiff_t i)
{
    return (PyObject *)(uintptr_t)column->data[i];
}

/* What max_length leaves of a row: nothing else of it is looked at. */
static tb_span
keep_row(const tb_pad_options *options, ptrdiff_t length)
{
    tb_layout layout = {
        .max_length = options->max_length < 0 ? PTRDIFF_MAX : options->max_length,
        .cut_left = options->cut_left};

    return tb_locate_row(&layout, length);
}

static void
set_dtype(tb_column *column, tb_dtype dtype)
{
    Py_XINCREF((PyObject *)dtype.descr);
    Py_XDECREF((PyObject *)column->dtype.descr);
    column->dtype = dtype;
    column->provisional = 0;
}

/* The type of rows that are all lists: what their first number asks for, widened later
 * where another asks for more. No number at all: int64. */
static int
guess_from_lists(tb_state *state, tb_column *column, const tb_pad_options *options)
{
    set_dtype(column, (tb_dtype){TB_I64, 8, NULL});
    column->provisional = 1;
    for (ptrdiff_t i = 0; i < column->count; i++) {
        int found = 0;
        tb_span kept = keep_row(options, column->lengths[i]);
        if (kept.count > 0 && tb_guess_dtype(state, list_at(column, i), kept.skip,
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

    return tb_raise_at(
        &column->context, PyExc_TypeError, i, -1,
        "found %s, expected %s as in row %zd: dtype= converts all to one",
        tb_dtype_name(&found), tb_dtype_name(&expected), (Py_ssize_t)column->array_row);
}

/* What stands between row i and the output's type: nothing, the core's conversion while
 * it is moved, a conversion now, or an error. */
static int
reconcile_row(tb_state *state, tb_column *column, const tb_pad_options *options,
              ptrdiff_t i, int asked)
{
    tb_span kept = keep_row(options, column->lengths[i]);
    tb_type to = column->dtype.type;
    tb_type from = (tb_type)column->types[i]; /* or TB_LIST */

    if (from == to && (to != TB_OTHER || column->other == column->dtype.descr ||
                       column->other->type_num == column->dtype.descr->type_num)) {
        return 0;
    }
    if (column->types[i] == TB_LIST) {
        return to == TB_OTHER ? tb_convert_row(state, column, kept, i) : 0;
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
    return from == TB_OTHER || to == TB_OTHER ? tb_convert_row(state, column, kept, i)
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
        if (column->types[i] != (unsigned char)column->dtype.type || column->other) {
            if (reconcile_row(state, column, options, i, asked != NULL) < 0) {
                return -1;
            }
        }
    }
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
        ptrdiff_t kept = keep_row(options, column->lengths[i]).count;
        too_large |= kept > PTRDIFF_MAX - total;
        total = too_large ? total : total + kept;
    }
    if (options->flat) { /* the caller knows that `width` is enough */
        longest = options->width < 0 ? total : options->width;
    }
    else if (tb_choose_width(column, options, longest, &longest) < 0) {
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
        return tb_raise_at(&column->context, PyExc_ValueError, -1, -1,
                           "%zd rows of width %zd are more bytes than can be addressed",
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

/* Positions of a flat output that rows and what is between them take. */
static ptrdiff_t
used_positions(const tb_column *column, const tb_layout *layout)
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
               used_positions(column, layout) < layout->width;
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->lengths[i] < layout->width) {
            return 1;
        }
    }
    return layout->width > layout->max_length;
}

/* An element as a Python number. NumPy does without bfloat16, and so do we. */
static PyObject *
number_at(tb_dtype dtype, const char *element)
{
    PyObject *scalar, *value = NULL;
    double wide;
    ptrdiff_t bad;

    if (tb_type_is_float(dtype.type) &&
        tb_cast_elements(dtype.type, TB_F64, element, 1, &wide, &bad) == TB_OK) {
        return PyFloat_FromDouble(wide);
    }
    PyArray_Descr *descr = tb_dtype_descr(NULL, &dtype);
    if (descr == NULL) {
        return NULL;
    }
    scalar = PyArray_Scalar((void *)(uintptr_t)element, descr, NULL);
    Py_DECREF(descr);
    if (scalar != NULL) {
        value = PyObject_CallMethod(scalar, "item", NULL);
        Py_DECREF(scalar);
    }
    return value;
}

/* The value that did not fit, read back from the row for the message. */
static tb_read
refuse_value(const tb_column *column, tb_status status, const tb_error *error)
{
    tb_dtype from = tb_row_dtype(column, error->row);
    const char *data = (const char *)column->data[error->row];
    PyObject *value = number_at(from, data + error->value * from.item_size);

    if (value != NULL) {
        tb_raise_value(&column->context, status, error->row, error->column, value,
                       &column->dtype);
        Py_DECREF(value);
    }
    return TB_READ_ERROR;
}

static tb_read
fill_array_rows(const tb_column *column, ptrdiff_t first, ptrdiff_t count,
                const tb_layout *layout, char *out)
{
    tb_rows rows = {count, column->data + first, column->lengths + first,
                    column->types + first};
    tb_error error = {0, -1, 0};
    tb_status status;
    ptrdiff_t bytes = (layout->flat ? 1 : count) * layout->width * layout->trailing *
                      layout->item_size;

    PyThreadState *thread = tb_release_gil(bytes);
    status = tb_pad_rows(&rows, layout, out, &error);
    tb_restore_gil(thread);
    if (status == TB_OK) {
        return TB_READ_DONE;
    }
    error.row += first;
    return refuse_value(column, status, &error);
}

/* Whether there is a float among the numbers of `list`, at any depth. */
static int
has_float(tb_state *state, PyObject *list)
{
    tb_number number;
    int found = 0;

    Py_ssize_t count = PyObject_Size(list);
    for (Py_ssize_t i = 0; i < count && found == 0; i++) {
        PyObject *item = PySequence_GetItem(list, i);
        if (item == NULL) {
            return -1;
        }
        if (tb_is_list(item)) {
            found = has_float(state, item);
        }
        else {
            found = tb_read_number(state, item, &number) < 0
                        ? -1
                        : number.kind == TB_NUMBER_FLOAT;
            Py_XDECREF(number.object);
        }
        Py_DECREF(item);
    }
    return count < 0 ? -1 : found;
}

/* An int outside int64 is an error, unless a float elsewhere makes all of it float32.
 */
static tb_read
reconsider_range(tb_state *state, tb_column *column)
{
    int found = 0;

    if (!column->provisional || column->dtype.type != TB_I64 ||
        !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return TB_READ_ERROR;
    }
    PyObject *exception = tb_save_exception();
    for (ptrdiff_t i = 0; i < column->count && found == 0; i++) {
        found = has_float(state, list_at(column, i));
    }
    if (found == 0) {
        tb_restore_exception(exception);
        return TB_READ_ERROR;
    }
    Py_XDECREF(exception);
    column->dtype = (tb_dtype){TB_F32, 4, NULL};
    return found < 0 ? TB_READ_ERROR : TB_READ_WIDEN;
}

static tb_read
fill_list_rows(tb_state *state, tb_column *column, const tb_layout *layout, char *out)
{
    tb_list_reader reader = {.state = state,
                             .context = &column->context,
                             .dtype = column->dtype,
                             .provisional = column->provisional,
                             .ndim = column->ndim < 0 ? 0 : column->ndim,
                             .shape = column->trailing};
    ptrdiff_t position = layout->trailing * layout->item_size, at = 0;

    for (ptrdiff_t i = 0; i < column->count; i++) {
        tb_span span = tb_locate_row(layout, column->lengths[i]);
        char *row = out + at * position;
        at += tb_row_pitch(layout, span);
        if (column->types[i] != TB_LIST) {
            continue;
        }
        reader.row = i;
        tb_read read = tb_read_list(&reader, list_at(column, i), column->lengths[i],
                                    span.skip, span.count, row + span.at * position);
        tb_fill_around(layout, span, row);
        if (read == TB_READ_WIDEN) {
            column->dtype = reader.dtype;
        }
        if (read != TB_READ_DONE) {
            return read == TB_READ_ERROR ? reconsider_range(state, column) : read;
        }
    }
    return TB_READ_DONE;
}

tb_read
tb_fill_rows(tb_state *state, tb_column *column, const tb_layout *layout, void *out)
{
    ptrdiff_t position = layout->trailing * layout->item_size, at = 0;
    tb_read read = TB_READ_DONE;

    if (tb_verify_rows(column) < 0) {
        return TB_READ_ERROR;
    }
    if (layout->flat) {
        tb_fill_tail(layout, used_positions(column, layout), out);
    }
    if (column->lists == 0) {
        return fill_array_rows(column, 0, column->count, layout, (char *)out);
    }
    /* Arrays first: reading a list can run code, and that can resize an array. */
    for (ptrdiff_t i = 0; i < column->count && read == TB_READ_DONE; i++) {
        if (column->types[i] != TB_LIST) {
            read = fill_array_rows(column, i, 1, layout, (char *)out + at * position);
        }
        at += tb_row_pitch(layout, tb_locate_row(layout, column->lengths[i]));
    }
    return read == TB_READ_DONE ? fill_list_rows(state, column, layout, (char *)out)
                                : read;
}
