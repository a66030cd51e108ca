#include "py/base/tb_numpy.h"
#include "py/input/streamed_row.h"

/* The number of a row in the source. */
static Py_ssize_t
find_row(const tb_row_reader *reader, uint64_t number)
{
    return (Py_ssize_t)(number * reader->shares + reader->share);
}

/* Raises for a length of a row, or for what it costs by a limit, unless that is -1. */
static int
raise_number(const tb_row_reader *reader, uint64_t number, ptrdiff_t limit,
             PyObject *found, PyObject *exception, const char *expected)
{
    Py_ssize_t row = find_row(reader, number);
    PyObject *shown =
        exception == PyExc_TypeError ? tb_describe(found) : tb_show(found);
    PyObject *name = limit < 0 ? NULL : tb_show(reader->settings->limits.names[limit]);

    if (shown != NULL && limit < 0) {
        tb_raise_at(&reader->context, exception, row, -1, "length %U%s", shown,
                    expected);
    }
    else if (shown != NULL && name != NULL) {
        tb_raise_at(&reader->context, exception, row, -1, "cost %U of limits[%U]%s",
                    shown, name, expected);
    }
    Py_XDECREF(shown);
    Py_XDECREF(name);
    return -1;
}

static int
is_no_row(PyObject *item)
{
    return item == Py_None || PyUnicode_Check(item) || PyBytes_Check(item) ||
           PyDict_Check(item) || PyBool_Check(item) || PyFloat_Check(item) ||
           PyComplex_Check(item);
}

/* The length of what stands for a row: an integer, or a row that has a length. Or what
 * it costs by a limit, unless that is -1. */
static int
read_length(const tb_row_reader *reader, uint64_t number, ptrdiff_t limit,
            PyObject *item, int64_t *length)
{
    const char *expected = limit < 0
                               ? "; expected an int, or a row of tokens"
                               : "; expected an int, or a row whose length counts";
    Py_ssize_t size = -1;

    if (tb_read_compact_int(item, length)) {
        return 0;
    }
    if (PyList_CheckExact(item)) {
        *length = PyList_GET_SIZE(item);
        return 0;
    }
    if (is_no_row(item)) {
        return raise_number(reader, number, limit, item, PyExc_TypeError, expected);
    }
    if (!PyLong_Check(item)) {
        size = PyObject_Size(item);
        if (size >= 0) {
            *length = size;
            return 0;
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    PyObject *index = PyIndex_Check(item) ? PyNumber_Index(item) : NULL;
    if (index == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        PyErr_Clear();
        return raise_number(reader, number, limit, item, PyExc_TypeError, expected);
    }
    int overflow;
    *length = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    return overflow == 0 ? 0
                         : raise_number(reader, number, limit, item,
                                        PyExc_OverflowError, " is outside int64");
}

/* One length, or two. */
static int
read_lengths(const tb_row_reader *reader, PyObject *item, tb_streamed_row *row)
{
    static const char one[] = "; expected an int, or a tuple of two for every sample";
    static const char two[] = "; expected a tuple of two lengths, source and target";
    uint64_t number = row->number;
    int is_tuple = PyTuple_CheckExact(item);

    if (!reader->has_sides) {
        return is_tuple && reader->refuses_tuples
                   ? raise_number(reader, number, -1, item, PyExc_TypeError, one)
                   : read_length(reader, number, -1, item, &row->length);
    }
    if (!is_tuple || PyTuple_GET_SIZE(item) != 2) {
        return raise_number(reader, number, -1, item, PyExc_TypeError, two);
    }
    return read_length(reader, number, -1, PyTuple_GET_ITEM(item, 0), &row->length) < 0
               ? -1
               : read_length(reader, number, -1, PyTuple_GET_ITEM(item, 1),
                             &row->other);
}

/* A tuple of what a row costs by each limit. */
static int
read_costs(const tb_row_reader *reader, PyObject *given, tb_row_input *input)
{
    const tb_plan_limits *limits = &reader->settings->limits;
    uint64_t number = input->row.number;

    input->row.costs = input->costs;
    if (limits->count == 0) {
        return 0;
    }
    if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != limits->count) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of one cost for each limit");
        return -1;
    }
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        PyObject *item = PyTuple_GET_ITEM(given, k);
        if (read_length(reader, number, k, item, &input->costs[k]) < 0) {
            return -1;
        }
        if (input->costs[k] < 0) {
            return raise_number(reader, number, k, item, PyExc_ValueError,
                                " is negative; expected 0 or more");
        }
    }
    return 0;
}

int
tb_read_streamed_row(const tb_row_reader *reader, PyObject *const *args,
                     tb_row_input *input)
{
    tb_streamed_row *row = &input->row;
    int64_t small;

    if (!tb_read_compact_int(args[0], &small)) {
        small = PyLong_AsLongLong(args[0]);
        if (small == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    row->number = (uint64_t)small;
    row->other = 0;
    if (read_lengths(reader, args[1], row) < 0 ||
        read_costs(reader, args[3], input) < 0) {
        return -1;
    }
    if (args[2] == Py_None) {
        /* Negative lengths are refused later. */
        int fits = row->length < 0 || row->other <= INT64_MAX - row->length;
        row->weight = !fits             ? INT64_MAX
                      : row->length < 0 ? 0
                                        : row->length + row->other;
        return 0;
    }
    return tb_read_int(&reader->context, "weight", args[2], 0, INT64_MAX, TB_REQUIRED,
                       &row->weight);
}

/* The errors of rows with two lengths. */
static void
raise_sides(const tb_row_reader *reader, tb_status status, const tb_streamed_row *row)
{
    Py_ssize_t number = find_row(reader, row->number);
    PyObject *exception = tb_status_exception(status);
    const int64_t *most = reader->sides;
    long long first = (long long)(row->length < most[0] ? row->length : most[0]);
    long long second = (long long)(row->other < most[1] ? row->other : most[1]);

    if (status == TB_ERR_NEGATIVE) {
        int side = row->length >= 0;
        tb_raise_at(&reader->context, exception, number, side,
                    "length %lld is negative",
                    side ? (long long)row->other : (long long)row->length);
    }
    else if (status == TB_ERR_TOO_LONG) {
        tb_raise_at(
            &reader->context, exception, number, -1,
            "lengths %lld and %lld are together more than max_tokens=%lld; pass "
            "max_length=(source, target), a larger max_tokens, or "
            "overlong='drop'",
            first, second, (long long)reader->settings->core.max_tokens);
    }
    else {
        tb_raise_at(&reader->context, PyExc_OverflowError, number, -1,
                    "lengths [%lld, %lld] are too long to plan for; pass max_length=",
                    first, second);
    }
}

void
tb_raise_streamed_row(const tb_row_reader *reader, tb_status status,
                      const tb_streamed_row *row, const tb_error *error)
{
    tb_error own = *error;

    own.row = find_row(reader, row->number);
    if (status == TB_ERR_MEMORY) {
        tb_raise_at(&reader->context, PyExc_MemoryError, own.row, -1,
                    "no memory for all samples that wait; pass a smaller buffer=, or "
                    "buffer_tokens=");
    }
    else if (status == TB_ERR_TOO_LONG && error->column >= 0) {
        tb_raise_broken_cost(&reader->context, &reader->settings->limits, &own);
    }
    else if (reader->has_sides) {
        raise_sides(reader, status, row);
    }
    else {
        tb_raise_plan_lengths(&reader->context, status, reader->settings, &own);
    }
}

PyObject *
tb_get_of_sample(PyObject *getter, PyObject *sample)
{
    if (getter == Py_None) {
        return Py_NewRef(sample);
    }
    if (!PyUnicode_Check(getter)) {
        return PyObject_CallOneArg(getter, sample);
    }
    if (!PyDict_CheckExact(sample)) {
        return PyObject_GetItem(sample, getter);
    }
    PyObject *item = PyDict_GetItemWithError(sample, getter);
    if (item == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, getter);
    }
    return Py_XNewRef(item);
}

PyObject *
tb_read_sample(PyObject *samples, PyObject *progress)
{
    PyObject *back = PyList_GET_ITEM(progress, 1);

    return PyTuple_GET_SIZE(back) > 0 ? Py_NewRef(PyTuple_GET_ITEM(back, 0))
                                      : PyIter_Next(samples);
}

int
tb_note_next(PyObject *progress, PyObject *next)
{
    if (next == NULL || PyList_SetItem(progress, 0, next) < 0) {
        return -1;
    }
    return PyTuple_GET_SIZE(PyList_GET_ITEM(progress, 1)) > 0
               ? PyList_SetItem(progress, 1, PyTuple_New(0))
               : 0;
}

int
tb_hold_back(PyObject *progress, PyObject *sample, int is_read)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyObject *back = PyTuple_Pack(1, sample);
    if (back != NULL && PyList_SetItem(progress, 1, back) == 0 &&
        PyList_SetItem(progress, 2, PyBool_FromLong(is_read)) == 0) {
        PyErr_Restore(type, value, traceback);
        return 0;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return -1;
}
