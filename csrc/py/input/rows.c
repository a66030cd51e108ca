#include "py/input/rows.h"

#include "py/input/arrow_rows.h"
#include "py/input/ragged.h"
#include "py/input/tensor.h"

#include <string.h>

static int
same_trailing(const tb_column *column, int ndim, const npy_intp *shape)
{
    return column->ndim == ndim &&
           memcmp(column->trailing, shape, (size_t)ndim * sizeof *shape) == 0;
}

static PyObject *
shape_tuple(int ndim, const npy_intp *shape)
{
    PyObject *tuple = PyTuple_New(ndim);
    for (int d = 0; tuple != NULL && d < ndim; d++) {
        PyObject *size = PyLong_FromSsize_t(shape[d]);
        if (size == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, d, size);
    }
    return tuple;
}

/* The positions of all rows have one shape; the first row that has one decides. */
static int
note_trailing(tb_column *column, Py_ssize_t row, int ndim, const npy_intp *shape)
{
    if (column->ndim < 0) {
        if (ndim > TB_MAX_TRAILING) {
            return tb_raise_at(&column->context, PyExc_ValueError, row, -1,
                               "has %d dimensions, expected at most %d", ndim + 1,
                               (int)TB_MAX_TRAILING + 1);
        }
        column->ndim = ndim;
        column->shape_row = row;
        memcpy(column->trailing, shape, (size_t)ndim * sizeof *shape);
        return 0;
    }
    if (same_trailing(column, ndim, shape)) {
        return 0;
    }
    PyObject *found = shape_tuple(ndim, shape);
    PyObject *expected = shape_tuple(column->ndim, column->trailing);
    if (found != NULL && expected != NULL) {
        int is_mixed = ndim == 0 || column->ndim == 0;
        tb_raise_at(&column->context, is_mixed ? PyExc_TypeError : PyExc_ValueError,
                    row, is_mixed ? 0 : -1,
                    "each position has shape %S, expected %S as in row %zd: only the "
                    "first dimension may vary%s",
                    found, expected, (Py_ssize_t)column->shape_row,
                    strcmp(column->context.function, "PadCollator") == 0
                        ? "; time_last= pads the last one instead, keep= lists the rows"
                        : "");
    }
    Py_XDECREF(found);
    Py_XDECREF(expected);
    return -1;
}

/* An empty row does not decide the type: it has no values that could be lost. */
static void
note_array_row(tb_column *column, ptrdiff_t i)
{
    if (column->array_row < 0 ||
        (column->lengths[column->array_row] == 0 && column->lengths[i] > 0)) {
        column->array_row = i;
    }
}

/* A column has at most one type that only NumPy converts. Takes over view->dtype.descr.
 */
static int
note_numpy_only(tb_column *column, Py_ssize_t i, tb_view *view)
{
    PyArray_Descr *descr = view->dtype.descr;

    view->dtype.descr = NULL;
    if (descr == NULL || column->numpy_only == NULL) {
        column->numpy_only = descr == NULL ? column->numpy_only : descr;
        return 0;
    }
    int same = descr->type_num == column->numpy_only->type_num;
    if (!same) {
        tb_raise_at(&column->context, PyExc_TypeError, i, -1, "found %S, expected %S",
                    (PyObject *)descr, (PyObject *)column->numpy_only);
    }
    Py_DECREF(descr);
    return same ? 0 : -1;
}

static int
note_view(tb_column *column, Py_ssize_t i, tb_view *view)
{
    int answer = -1;

    if (view->ndim == 0) {
        Py_CLEAR(view->dtype.descr);
        tb_raise_at(&column->context, PyExc_TypeError, i, -1,
                    "is a single number, expected a sequence of numbers");
        goto done;
    }
    if (note_numpy_only(column, i, view) < 0 ||
        (view->owner != NULL && tb_note_owner(column, view->owner) < 0)) {
        goto done;
    }
    column->data[i] = view->data;
    column->lengths[i] = view->shape[0];
    column->types[i] = (unsigned char)view->dtype.type;
    column->sources[i] = view->source;
    note_array_row(column, i);
    answer = view->ndim == 1 && view->shape[0] == 0
                 ? 0
                 : note_trailing(column, i, view->ndim - 1, view->shape + 1);
done:
    Py_XDECREF(view->owner);
    return answer;
}

static int
note_list(tb_column *column, Py_ssize_t i, PyObject *list)
{
    int ndim = 0;
    npy_intp shape[TB_MAX_TRAILING];
    Py_ssize_t length = tb_list_size(list);

    column->data[i] = list;
    column->lengths[i] = length;
    column->types[i] = TB_LIST;
    column->lists++;
    if (length == 0 || column->ndim == 0) {
        return 0; /* an empty list has the shape of the others; numbers are read later
                   */
    }
    if (tb_nested_shape(&column->context, i, list, &ndim, shape) < 0) {
        return -1;
    }
    return note_trailing(column, i, ndim, shape);
}

static int
refuse_row(const tb_column *column, Py_ssize_t i, PyObject *row)
{
    PyObject *found = tb_describe(row);
    if (found != NULL) {
        tb_raise_at(&column->context, PyExc_TypeError, i, -1,
                    "found %U, expected a list, an array or a CPU tensor of numbers",
                    found);
        Py_DECREF(found);
    }
    return -1;
}

/* Other sequences, such as range and deque: copied into a tuple, which is the row. */
static int
note_sequence(tb_column *column, Py_ssize_t i, PyObject *row)
{
    PyObject *keys = NULL;
    if (!PySequence_Check(row) || PyUnicode_Check(row) || PyType_Check(row) ||
        PyDict_Check(row)) {
        return refuse_row(column, i, row);
    }
    /* A mapping that is no dict: it would be asked for items 0, 1, 2, ... */
    int found = tb_find_attribute((PyObject *)Py_TYPE(row), "keys", &keys);
    Py_XDECREF(keys);
    if (found != 0) {
        return found < 0 ? -1 : refuse_row(column, i, row);
    }
    PyObject *tuple = PySequence_Tuple(row);
    if (tuple == NULL) {
        return -1;
    }
    int answer = tb_note_owner(column, tuple) < 0 ? -1 : note_list(column, i, tuple);
    Py_DECREF(tuple);
    return answer;
}

static int
survey_row(tb_state *state, tb_column *column, Py_ssize_t i, PyObject *row)
{
    tb_view view;

    if (tb_is_list(row)) {
        return note_list(column, i, row);
    }
    view.dtype.descr = NULL;
    int answer = PyArray_Check(row);
    if (answer) {
        answer =
            tb_view_array(state, &column->context, i, (PyArrayObject *)row, &view) < 0
                ? -1
                : 1;
    }
    else {
        answer = tb_view_tensor(state, &column->context, i, row, &view);
        if (answer == 0 && !PyUnicode_Check(row) && !PyType_Check(row)) {
            answer = tb_view_buffer(state, &column->context, i, row, &view);
        }
    }
    if (answer == 0) {
        return note_sequence(column, i, row);
    }
    return answer < 0 ? -1 : note_view(column, i, &view);
}

/* One array of two or more dimensions is rows of one length, at a fixed distance. */
static int
survey_rectangle(tb_column *column, tb_view *view)
{
    ptrdiff_t pitch = view->dtype.item_size;
    int is_copy = view->owner != NULL;

    column->numpy_only = view->dtype.descr;
    column->whole = view->dtype;
    int noted = is_copy ? tb_note_owner(column, view->owner) : 0;
    Py_CLEAR(view->owner);
    if (noted < 0) {
        return -1;
    }
    if (view->ndim < 2) {
        return tb_raise_at(&column->context, PyExc_TypeError, -1, -1,
                           "found an array of %d dimension%s, expected rows: an array "
                           "of two or more dimensions",
                           view->ndim, view->ndim == 1 ? "" : "s");
    }
    if (tb_allocate_rows(column, view->shape[0]) < 0) {
        return -1;
    }
    for (int d = 1; d < view->ndim; d++) {
        pitch *= view->shape[d];
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        column->data[i] = (const char *)view->data + i * pitch;
        column->lengths[i] = view->shape[1];
        column->types[i] = (unsigned char)view->dtype.type;
        column->sources[i] = is_copy ? NULL : view->source;
    }
    column->array_row = column->count > 0 ? 0 : -1;
    return note_trailing(column, 0, view->ndim - 2, view->shape + 2);
}

/* 1 if `sequences` was one array or tensor of numbers and is surveyed, else 0. */
static int
survey_whole(tb_state *state, tb_column *column, PyObject *sequences)
{
    tb_view view;
    int answer;

    view.dtype.descr = NULL;
    if (PyArray_Check(sequences)) {
        PyArrayObject *array = (PyArrayObject *)sequences;
        if (PyArray_TYPE(array) == NPY_OBJECT && PyArray_NDIM(array) == 1) {
            return 0;
        }
        answer = tb_view_array(state, &column->context, -1, array, &view) < 0 ? -1 : 1;
    }
    else {
        answer = tb_view_tensor(state, &column->context, -1, sequences, &view);
    }
    if (answer > 0 && survey_rectangle(column, &view) < 0) {
        return -1;
    }
    return answer;
}

static int
refuse_sequences(const tb_column *column, PyObject *sequences)
{
    if (column->context.one_row) {
        return tb_raise_at(&column->context, PyExc_TypeError, -1, -1,
                           "found %s, expected a sequence of integers",
                           Py_TYPE(sequences)->tp_name);
    }
    return tb_raise_at(
        &column->context, PyExc_TypeError, -1, -1,
        "%sfound %s, expected a list of rows, or an array or tensor of two dimensions "
        "or more",
        column->context.key == NULL && column->context.argument == NULL ? "sequences: "
                                                                        : "",
        Py_TYPE(sequences)->tp_name);
}

/* 1 if `sequences` was a Ragged and is surveyed, else 0. */
static int
survey_ragged(tb_state *state, tb_column *column, PyObject *sequences)
{
    if (!tb_is_ragged(state, sequences)) {
        return 0;
    }
    const tb_ragged *buffers = tb_open_ragged(sequences);
    return buffers == NULL || tb_survey_ragged(state, buffers, column) < 0 ? -1 : 1;
}

/* The same for Arrow data. */
static int
survey_arrow(tb_state *state, tb_column *column, PyObject *source)
{
    tb_ragged buffers = {NULL, NULL, NULL, NULL};
    int answer = tb_is_arrow(source);

    if (answer <= 0) {
        return answer;
    }
    answer =
        tb_read_arrow_rows(state, &column->context, source, NULL, NULL, &buffers) < 0
            ? -1
            : tb_survey_ragged(state, &buffers, column);
    tb_clear_ragged(&buffers);
    return answer < 0 ? -1 : 1;
}

int
tb_survey_rows(tb_state *state, const tb_context *context, PyObject *sequences,
               tb_column *column)
{
    memset(column, 0, sizeof *column);
    column->state = state;
    column->context = *context;
    column->ndim = -1;
    column->array_row = -1;
    if (PyUnicode_Check(sequences) || PyBytes_Check(sequences) ||
        PyByteArray_Check(sequences) || PyDict_Check(sequences) ||
        PyAnySet_Check(sequences)) {
        return refuse_sequences(column, sequences);
    }
    if (!PyList_CheckExact(sequences) && !PyTuple_CheckExact(sequences)) {
        int whole = survey_ragged(state, column, sequences);
        if (whole == 0) {
            whole = survey_whole(state, column, sequences);
        }
        if (whole == 0) {
            whole = survey_arrow(state, column, sequences);
        }
        if (whole != 0) {
            column->rows = whole > 0 ? Py_NewRef(sequences) : NULL;
            return whole < 0 ? -1 : 0;
        }
        if (Py_TYPE(sequences)->tp_iter == NULL && !PySequence_Check(sequences)) {
            return refuse_sequences(column, sequences);
        }
    }
    /* A tuple of our own: code that runs while rows are read can change the caller's
     * list. */
    column->rows = PySequence_Tuple(sequences);
    if (column->rows == NULL ||
        tb_allocate_rows(column, PyTuple_GET_SIZE(column->rows)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < column->count; i++) {
        if (survey_row(state, column, i, PyTuple_GET_ITEM(column->rows, i)) < 0) {
            return -1;
        }
    }
    return 0;
}
