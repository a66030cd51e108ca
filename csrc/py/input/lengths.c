#include "py/input/lengths.h"

#include <string.h>

#include "core/layout/mask.h"
#include "core/layout/segment.h"
#include "py/input/number.h"
#include "py/input/ragged.h"
#include "py/input/tensor.h"

/* How many dimensions an array or tensor has: -1 for anything else, -2 with an
 * exception. */
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

/* Whether `item`, the first of a list, is a row and not a number. */
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

int
tb_holds_rows(PyObject *object)
{
    if (tb_is_list(object)) {
        PyObject *first =
            PyObject_Size(object) > 0 ? PySequence_GetItem(object, 0) : NULL;
        int holds = first == NULL ? 0 : is_row(first);
        Py_XDECREF(first);
        return PyErr_Occurred() ? -1 : holds;
    }
    Py_ssize_t ndim = count_dimensions(object);
    return ndim == -2 ? -1 : ndim >= 2;
}

/* Whether `object` is one row: 1 or 0, -1 with an exception. The survey refuses what is
 * neither a row nor made of rows. */
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
    if (tb_is_ragged(state, object)) {
        return 0;
    }
    Py_ssize_t ndim = count_dimensions(object);
    if (ndim == -2) {
        return -1;
    }
    return ndim == -1 ? PyObject_CheckBuffer(object) : ndim == 1;
}

/* "lengths", "lengths_or_mask": for these a mask may have been meant. */
static int
is_named_lengths(const tb_context *context)
{
    return context->argument != NULL && strncmp(context->argument, "lengths", 7) == 0;
}

/* TypeError for the first row, no list, that holds no integers. */
static int
check_types(const tb_column *column)
{
    for (ptrdiff_t i = 0; i < column->count; i++) {
        int type = column->types[i];
        if (column->lengths[i] == 0 || type == TB_LIST ||
            (type != TB_BOOL && type < TB_F32)) {
            continue;
        }
        tb_dtype found = tb_row_dtype(column, i);
        if (type != TB_BOOL) {
            return tb_raise_at(&column->context, PyExc_TypeError, i, 0,
                               "found %s, expected integers", tb_dtype_name(&found));
        }
        return tb_raise_at(&column->context, PyExc_TypeError, i, 0,
                           "found bools, expected integers%s",
                           is_named_lengths(&column->context)
                               ? "; the lengths of a mask are mask.sum(axis=1)"
                               : "");
    }
    return 0;
}

/* Row i, not a list, as int64. */
static int
cast_row(const tb_column *column, ptrdiff_t i, int64_t *out)
{
    tb_dtype from = tb_row_dtype(column, i);
    const tb_dtype int64 = {TB_I64, 8, NULL};
    ptrdiff_t bad;

    if (column->lengths[i] == 0) {
        return 0;
    }
    tb_status status = tb_cast_elements(from.type, TB_I64, column->data[i],
                                        column->lengths[i], out, &bad);
    if (status == TB_OK) {
        return 0;
    }
    /* Only uint64 has values that int64 cannot hold. */
    PyObject *found =
        PyLong_FromUnsignedLongLong(((const uint64_t *)column->data[i])[bad]);
    if (found != NULL) {
        tb_raise_value(&column->context, status, i, bad, found, &int64);
        Py_DECREF(found);
    }
    return -1;
}

/* Arrays first: reading a list can run code, and that can resize an array. */
static int
write_values(tb_state *state, const tb_column *column, int64_t *values)
{
    tb_list_reader reader = {.state = state,
                             .context = &column->context,
                             .dtype = {TB_I64, 8, NULL},
                             .no_bools = 1};
    int64_t *at = values;

    if (tb_verify_rows(column) < 0) {
        return -1;
    }
    for (ptrdiff_t i = 0; i < column->count; at += column->lengths[i++]) {
        if (column->types[i] != TB_LIST && cast_row(column, i, at) < 0) {
            return -1;
        }
    }
    at = values;
    for (ptrdiff_t i = 0; i < column->count; at += column->lengths[i++]) {
        reader.row = i;
        if (column->types[i] == TB_LIST &&
            tb_read_list(&reader, tb_list_row(column, i), column->lengths[i], 0,
                         column->lengths[i], at) != TB_READ_DONE) {
            return -1;
        }
    }
    return 0;
}

int
tb_read_int_column(tb_state *state, tb_column *column, tb_int_rows *rows)
{
    npy_intp count = 0;

    if (column->ndim > 0) {
        return tb_raise_at(&column->context, PyExc_TypeError, -1, -1,
                           "found %d dimensions, expected %s",
                           column->ndim + 1 + !rows->is_single,
                           rows->is_single ? "one" : "one or two");
    }
    if (check_types(column) < 0) {
        return -1;
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->lengths[i] > PTRDIFF_MAX / 8 - count) {
            PyErr_NoMemory(); /* rows that share their memory */
            return -1;
        }
        count += column->lengths[i];
    }
    rows->counts = tb_new_lengths(column);
    rows->values = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    return rows->counts != NULL && rows->values != NULL
               ? write_values(state, column, (int64_t *)PyArray_DATA(rows->values))
               : -1;
}

/* `given` is made of rows. */
static int
survey_values(tb_state *state, const tb_context *context, PyObject *given,
              tb_int_rows *rows)
{
    tb_column column;
    int answer = -1;

    if (tb_survey_rows(state, context, given, &column) == 0) {
        answer = tb_read_int_column(state, &column, rows);
    }
    tb_clear_column(&column);
    return answer;
}

/* TypeError for what holds no integers at all: numbers, text, sets, None. */
static int
check_holds_integers(tb_state *state, const tb_context *context, PyObject *given)
{
    int is_text = PyUnicode_Check(given);
    int is_array = PyArray_Check(given) && PyArray_NDIM((PyArrayObject *)given) > 0;

    if (tb_is_list(given) || is_array) {
        return 0;
    }
    if (!is_text && !PyArray_Check(given) && !PyArray_CheckScalar(given) &&
        !PyType_Check(given) && !PyDict_Check(given)) {
        int is_tensor = tb_is_tensor(state, given);
        if (is_tensor != 0 || PySequence_Check(given) || PyObject_CheckBuffer(given) ||
            Py_TYPE(given)->tp_iter != NULL) {
            return is_tensor < 0 ? -1 : 0;
        }
    }
    PyObject *found = tb_describe(given);
    if (found != NULL) {
        tb_context whole = {.function = context->function, .key = context->key};
        tb_raise_at(&whole, PyExc_TypeError, -1, -1,
                    "%s=%U; expected a sequence of integers",
                    context->argument == NULL ? "lengths" : context->argument, found);
        Py_DECREF(found);
    }
    return -1;
}

int
tb_read_int_rows(tb_state *state, const tb_context *context, PyObject *object,
                 int name_rows, tb_int_rows *rows)
{
    tb_context own = *context;

    *rows = (tb_int_rows){NULL, NULL, 0};
    if (check_holds_integers(state, context, object) < 0) {
        return -1;
    }
    rows->is_single = is_single_row(state, object);
    if (rows->is_single < 0) {
        return -1;
    }
    own.one_row = rows->is_single && name_rows;
    PyObject *given = rows->is_single ? PyTuple_Pack(1, object) : Py_NewRef(object);
    int answer = given == NULL ? -1 : survey_values(state, &own, given, rows);
    Py_XDECREF(given);
    return answer;
}

PyArrayObject *
tb_read_lengths(tb_state *state, const tb_context *context, PyObject *lengths)
{
    tb_int_rows rows = {NULL, NULL, 1};
    tb_context own = *context;
    PyObject *one = check_holds_integers(state, context, lengths) < 0
                        ? NULL
                        : PyTuple_Pack(1, lengths);
    PyArrayObject *values = NULL;

    own.one_row = 1;
    if (one != NULL && survey_values(state, &own, one, &rows) == 0) {
        values = (PyArrayObject *)Py_NewRef(rows.values);
    }
    tb_clear_int_rows(&rows);
    Py_XDECREF(one);
    return values;
}

int
tb_check_row_lengths(const tb_context *context, PyArrayObject *lengths,
                     Py_ssize_t width, ptrdiff_t *total)
{
    Py_ssize_t limit = width < 0 ? PTRDIFF_MAX : width;
    ptrdiff_t longest;
    tb_error error;
    tb_status status =
        tb_check_lengths((const ptrdiff_t *)PyArray_DATA(lengths),
                         PyArray_SIZE(lengths), limit, &longest, total, &error);

    return status == TB_OK ? 0 : tb_raise_length(context, status, &error, limit);
}

static int
refuse_boundaries(const tb_context *context, PyObject *exception, PyObject *given,
                  const char *expected)
{
    PyObject *found = tb_show(given);

    if (found != NULL) {
        tb_raise_at(context, exception, -1, -1, "boundaries=%U; expected %s", found,
                    expected);
        Py_DECREF(found);
    }
    return -1;
}

/* A tuple of what `given` holds: a sequence, an array or a tensor. */
static PyObject *
list_boundaries(const tb_context *context, PyObject *given)
{
    PyObject *to_list, *plain = Py_NewRef(given), *items = NULL;
    int found = tb_find_attribute(given, "tolist", &to_list);

    if (found > 0) {
        Py_SETREF(plain, PyObject_CallNoArgs(to_list));
        Py_DECREF(to_list);
    }
    if (found >= 0 && plain != NULL) {
        if (!PySequence_Check(plain) || PyUnicode_Check(plain) ||
            PyBytes_Check(plain)) {
            refuse_boundaries(context, PyExc_TypeError, given,
                              "a sequence of integers");
        }
        else {
            items = PySequence_Tuple(plain);
        }
    }
    if (items != NULL && PyTuple_GET_SIZE(items) == 0) {
        refuse_boundaries(context, PyExc_ValueError, given, "at least one width");
        Py_CLEAR(items);
    }
    Py_XDECREF(plain);
    return items;
}

PyArrayObject *
tb_read_boundaries(const tb_context *context, PyObject *boundaries)
{
    PyObject *items = list_boundaries(context, boundaries);
    npy_intp count = items == NULL ? 0 : PyTuple_GET_SIZE(items);
    PyArrayObject *widths =
        items == NULL ? NULL : (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    char name[40];

    for (npy_intp i = 0; widths != NULL && i < count; i++) {
        int64_t *width = (int64_t *)PyArray_DATA(widths) + i;
        PyOS_snprintf(name, sizeof name, "boundaries[%lld]", (long long)i);
        if (tb_read_int(context, name, PyTuple_GET_ITEM(items, i), 0, INT64_MAX,
                        TB_REQUIRED, width) < 0) {
            Py_CLEAR(widths);
        }
        else if (i > 0 && width[0] <= width[-1]) {
            tb_raise_at(context, PyExc_ValueError, -1, -1,
                        "%s=%lld after %lld; expected widths in ascending order, each "
                        "once: sorted(set(boundaries))",
                        name, (long long)width[0], (long long)width[-1]);
            Py_CLEAR(widths);
        }
    }
    Py_XDECREF(items);
    return widths;
}

int
tb_raise_length(const tb_context *context, tb_status status, const tb_error *error,
                Py_ssize_t limit)
{
    PyObject *exception = tb_status_exception(status);

    switch (status) {
        case TB_ERR_NEGATIVE:
            return tb_raise_at(context, exception, error->row, -1,
                               "length %lld is negative", (long long)error->value);
        case TB_ERR_TOO_LONG:
            return tb_raise_at(context, exception, error->row, -1,
                               "length %lld is more than width=%zd",
                               (long long)error->value, limit);
        default:
            return tb_raise_at(context, exception, error->row, -1,
                               "the lengths add up to more than can be addressed");
    }
}

void
tb_clear_int_rows(tb_int_rows *rows)
{
    Py_CLEAR(rows->values);
    Py_CLEAR(rows->counts);
}

/* Raises for the lengths of a pack. If there is one pack, messages count them as rows.
 */
static int
raise_pack(const tb_context *context, const tb_int_rows *lengths, tb_status status,
           const tb_error *error)
{
    tb_context own = *context;

    own.one_row = lengths->is_single;
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
                PyArrayObject *totals, Py_ssize_t width)
{
    const ptrdiff_t *total = (const ptrdiff_t *)PyArray_DATA(totals);

    for (npy_intp i = 0; i < PyArray_SIZE(totals); i++) {
        if (total[i] > width) {
            return tb_raise_at(context, PyExc_ValueError, lengths->is_single ? -1 : i,
                               -1, "the lengths add up to %zd, more than width=%zd",
                               (Py_ssize_t)total[i], width);
        }
    }
    return 0;
}

const int64_t *
tb_read_length_array(const char *function, PyObject *object, ptrdiff_t *count)
{
    PyArrayObject *array = (PyArrayObject *)object;

    if (!PyArray_Check(object) || PyArray_NDIM(array) != 1 ||
        PyArray_TYPE(array) != NPY_INT64 || !PyArray_ISCARRAY_RO(array)) {
        PyErr_Format(PyExc_TypeError,
                     "%s(): expected a contiguous int64 array of one dimension",
                     function);
        return NULL;
    }
    *count = PyArray_SIZE(array);
    return (const int64_t *)PyArray_DATA(array);
}
