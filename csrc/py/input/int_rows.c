#include "py/input/int_rows.h"

#include "core/layout/segment.h"

/* How many dimensions an array, a tensor or their like has: -1 for anything else, -2
 * with an exception. */
static Py_ssize_t
count_dimensions(PyObject *object)
{
    PyObject *ndim;

    if (PyArray_Check(object)) {
        return PyArray_NDIM((PyArrayObject *)object);
    }
    int found = tb_find_attribute(object, "ndim", &ndim);
    if (found <= 0) {
        return found < 0 ? -2 : -1;
    }
    Py_ssize_t count = PyIndex_Check(ndim) ? PyNumber_AsSsize_t(ndim, NULL) : -1;
    Py_DECREF(ndim);
    return PyErr_Occurred() ? -2 : count;
}

/* Whether `item`, the first of a list, is a row and no number. */
static int
is_row(PyObject *item)
{
    if (PyLong_Check(item) || PyFloat_Check(item)) {
        return 0;
    }
    if (tb_is_list(item)) {
        return 1;
    }
    Py_ssize_t ndim = count_dimensions(item);
    if (ndim == -2) {
        return -1;
    }
    return ndim == -1 ? PyObject_CheckBuffer(item) : ndim > 0;
}

/* Whether `object` is one row: 1 or 0, -1 with an exception. What is neither a row nor
 * made of rows is for the survey to refuse. */
static int
is_single_row(tb_state *state, PyObject *object)
{
    if (tb_is_list(object)) {
        Py_ssize_t size = PyObject_Size(object);
        PyObject *first = size > 0 ? PySequence_GetItem(object, 0) : NULL;
        int single = size == 0;
        if (first != NULL) {
            int row = is_row(first);
            single = row < 0 ? -1 : !row;
            Py_DECREF(first);
        }
        return PyErr_Occurred() ? -1 : single;
    }
    if (PyArray_Check(object) &&
        PyArray_DESCR((PyArrayObject *)object)->type_num == NPY_OBJECT) {
        return 0;
    }
    if (state->ragged != NULL && PyObject_TypeCheck(object, state->ragged)) {
        return 0;
    }
    Py_ssize_t ndim = count_dimensions(object);
    if (ndim == -2) {
        return -1;
    }
    return ndim == -1 ? PyObject_CheckBuffer(object) : ndim == 1;
}

/* TypeError for the first bool. */
static int
check_no_bools(const tb_column *column)
{
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->types[i] == TB_BOOL && column->lengths[i] > 0) {
            return tb_raise_at(&column->context, PyExc_TypeError, i, 0,
                               "found bools, expected integers; of a mask, "
                               "mask.sum(axis=1) are the lengths");
        }
        if (column->types[i] != TB_LIST) {
            continue;
        }
        PyObject *list = (PyObject *)(uintptr_t)column->data[i];
        for (Py_ssize_t j = 0; j < tb_list_size(list); j++) {
            PyObject *item = tb_list_item(list, j);
            if (PyBool_Check(item) || PyArray_IsScalar(item, Bool)) {
                return tb_raise_at(&column->context, PyExc_TypeError, i, j,
                                   "found %R, expected an integer", item);
            }
        }
    }
    return 0;
}

/* Surveyed rows as int64, one after another. */
static int
fill_values(tb_state *state, tb_column *column, tb_int_rows *rows)
{
    static const tb_pad_options flat = {
        .width = -1, .max_length = -1, .multiple = 1, .flat = 1};
    tb_dtype int64 = {TB_I64, 8, NULL};
    tb_layout layout;

    if (column->ndim > 0) {
        return tb_raise_at(&column->context, PyExc_TypeError, -1, -1,
                           "found %d dimensions, expected %s",
                           column->ndim + 1 + !rows->is_single,
                           rows->is_single ? "one" : "one or two");
    }
    if (tb_settle_dtype(state, column, &flat, &int64) < 0 ||
        tb_lay_out(column, &flat, &layout) < 0) {
        return -1;
    }
    npy_intp count = layout.width;
    rows->counts = tb_new_lengths(column);
    rows->values = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    return rows->counts != NULL && rows->values != NULL &&
                   tb_fill_rows(state, column, &layout, PyArray_DATA(rows->values)) ==
                       TB_READ_DONE
               ? 0
               : -1;
}

int
tb_read_int_rows(tb_state *state, const tb_context *context, PyObject *object,
                 int are_lengths, tb_int_rows *rows)
{
    tb_context own = *context;
    tb_column column;
    int answer = -1;

    *rows = (tb_int_rows){NULL, NULL, 0};
    rows->is_single = is_single_row(state, object);
    if (rows->is_single < 0) {
        return -1;
    }
    own.is_flat = rows->is_single && are_lengths;
    PyObject *given = rows->is_single ? PyTuple_Pack(1, object) : Py_NewRef(object);
    if (given == NULL) {
        return -1;
    }
    if (tb_survey_rows(state, &own, given, &column) == 0 &&
        (!are_lengths || check_no_bools(&column) == 0)) {
        answer = fill_values(state, &column, rows);
    }
    tb_clear_column(&column);
    Py_DECREF(given);
    return answer;
}

void
tb_clear_int_rows(tb_int_rows *rows)
{
    Py_CLEAR(rows->values);
    Py_CLEAR(rows->counts);
}

/* What is wrong with the lengths of a pack; those of a single one count as rows. */
static int
raise_pack(const tb_context *context, const tb_int_rows *lengths, tb_status status,
           const tb_error *error)
{
    tb_context own = *context;

    own.is_flat = lengths->is_single;
    if (status == TB_ERR_NEGATIVE) {
        return tb_raise_at(&own, PyExc_ValueError, error->row, error->column,
                           "length %lld is negative", (long long)error->value);
    }
    return tb_raise_at(&own, PyExc_ValueError, error->row, error->column,
                       "the lengths add up to more than can be addressed");
}

PyArrayObject *
tb_sum_int_rows(const tb_context *context, const tb_int_rows *lengths)
{
    npy_intp packs = tb_count_int_rows(lengths);
    PyArrayObject *totals = (PyArrayObject *)PyArray_SimpleNew(1, &packs, NPY_INT64);
    tb_error error;

    if (totals != NULL) {
        tb_status status = tb_sum_packs(tb_int_values(lengths), tb_int_counts(lengths),
                                        packs, PyArray_DATA(totals), &error);
        if (status != TB_OK) {
            raise_pack(context, lengths, status, &error);
            Py_CLEAR(totals);
        }
    }
    return totals;
}

int
tb_check_totals(const tb_context *context, const tb_int_rows *lengths,
                PyArrayObject *totals, const char *name, Py_ssize_t limit)
{
    const ptrdiff_t *total = (const ptrdiff_t *)PyArray_DATA(totals);

    for (npy_intp i = 0; i < PyArray_SIZE(totals); i++) {
        if (total[i] > limit) {
            return tb_raise_at(context, PyExc_ValueError, lengths->is_single ? -1 : i,
                               -1, "the lengths add up to %zd, more than %s=%zd",
                               (Py_ssize_t)total[i], name, limit);
        }
    }
    return 0;
}
