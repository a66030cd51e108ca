#include "py/output/fill.h"

#include "py/output/layout.h"

#include <string.h>

/* An element as a Python number; bfloat16, which NumPy does not have, as a float. */
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

/* Whether there is a float among the numbers of `list`, which lie `depth` lists deep: what
 * lies deeper is refused in any case. The list may change meanwhile, or contain itself. */
static int
has_float(tb_state *state, PyObject *list, int depth)
{
    int found = PyErr_CheckSignals();

    for (Py_ssize_t i = 0; found == 0; i++) {
        PyObject *item = tb_get_item(list, i);
        if (item == NULL) {
            break;
        }
        if (depth > 0) {
            found = tb_is_list(item) ? has_float(state, item, depth - 1) : 0;
        }
        else if (!tb_is_list(item)) {
            tb_number number;
            found = tb_read_number(state, item, &number) < 0
                        ? -1
                        : number.kind == TB_NUMBER_FLOAT;
            Py_XDECREF(number.object);
        }
        Py_DECREF(item);
    }
    return found;
}

/* An int outside int64 is an error, unless a float elsewhere makes the column float32.
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
    int depth = column->ndim < 0 ? 0 : column->ndim;
    for (ptrdiff_t i = 0; i < column->count && found == 0; i++) {
        if (column->types[i] == TB_LIST) {
            found = has_float(state, tb_list_row(column, i), depth);
        }
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
                             .shape = column->trailing,
                             .guard = column->guard};
    ptrdiff_t position = layout->trailing * layout->item_size, at = 0;

    for (ptrdiff_t i = 0; i < column->count; i++) {
        tb_span span = tb_locate_row(layout, column->lengths[i]);
        char *row = out + at * position;
        at += tb_row_pitch(layout, span);
        if (column->types[i] != TB_LIST) {
            continue;
        }
        reader.row = i;
        tb_read read = tb_read_list(&reader, tb_list_row(column, i), column->lengths[i],
                                    span.skip, span.count, row + span.at * position);
        if (read == TB_READ_WIDEN) {
            column->dtype = reader.dtype;
        }
        if (read != TB_READ_DONE) {
            return read == TB_READ_ERROR ? reconsider_range(state, column) : read;
        }
        tb_fill_around(layout, span, row);
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
        tb_fill_tail(layout, tb_used_positions(column, layout), out);
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
