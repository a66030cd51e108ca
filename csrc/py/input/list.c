#include "py/input/list.h"

#include "py/input/tensor.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Numbers go through a buffer on the stack if the output has another type. */
enum { CHUNK = 256 };

/* How many lists are read before signals are looked at: a list that contains another one
 * twice, and so on, has very many in little memory. */
enum { LISTS_BETWEEN_SIGNALS = 1 << 14 };

/* Reads the compact ints at the front, and stops at anything else. Runs no Python code.
 */
static Py_ssize_t
read_ints(PyObject *const *items, Py_ssize_t n, int64_t *TB_RESTRICT dst)
{
    Py_ssize_t i = 0;

    while (i < n && tb_read_compact_int(items[i], &dst[i])) {
        i++;
    }
    return i;
}

static Py_ssize_t
read_floats(PyObject *const *items, Py_ssize_t n, double *TB_RESTRICT dst)
{
    Py_ssize_t i = 0;

    while (i < n && PyFloat_CheckExact(items[i])) {
        dst[i] = PyFloat_AS_DOUBLE(items[i]);
        i++;
    }
    return i;
}

static Py_ssize_t
read_bools(PyObject *const *items, Py_ssize_t n, unsigned char *TB_RESTRICT dst)
{
    Py_ssize_t i = 0;

    while (i < n && PyBool_Check(items[i])) {
        dst[i] = items[i] == Py_True;
        i++;
    }
    return i;
}

static tb_read
refuse_item(const tb_list_reader *reader, Py_ssize_t column, PyObject *item,
            const tb_number *number)
{
    const char *expected = tb_type_is_float(reader->dtype.type) || reader->provisional
                               ? "a number"
                               : "an integer";
    if (tb_is_list(item)) {
        expected = "a number: rows must be nested equally deep";
    }
    else if (PyArray_Check(item) && tb_is_masked((PyArrayObject *)item) > 0) {
        expected =
            "a number: .filled(value) or .compressed() of the masked array that "
            "this is from gives one";
    }
    else if (PyArray_Check(item) && PyArray_NDIM((PyArrayObject *)item) > 0) {
        expected = "a number: stack a list of arrays with numpy.stack()";
    }
    PyObject *found = tb_describe(item);
    if (found != NULL) {
        tb_raise_at(reader->context, PyExc_TypeError, reader->row, column,
                    "found %U, expected %s", found, expected);
        if (number->kind == TB_NOT_A_NUMBER) {
            tb_set_cause(number->object);
        }
        Py_DECREF(found);
    }
    return TB_READ_ERROR;
}

static void
refuse_float(const tb_list_reader *reader, Py_ssize_t column, PyObject *item)
{
    PyObject *found = tb_show(item);

    if (found != NULL) {
        tb_raise_at(reader->context, PyExc_TypeError, reader->row, column,
                    "found the float %U, expected an integer for %s", found,
                    tb_dtype_name(&reader->dtype));
        Py_DECREF(found);
    }
}

/* No dtype was asked for, and `kind` does not fit into the one assumed so far. */
static int
must_widen(tb_list_reader *reader, tb_number_kind kind)
{
    tb_type type = reader->dtype.type;

    if (!reader->provisional || type == TB_F32) {
        return 0;
    }
    int is_beyond_int64 = kind == TB_NUMBER_UINT || kind == TB_NUMBER_HUGE;
    if (kind == TB_NUMBER_FLOAT ||
        (is_beyond_int64 && reader->significand >= DBL_MANT_DIG)) {
        reader->dtype = (tb_dtype){TB_F32, 4, NULL};
        return 1;
    }
    if (type == TB_BOOL && kind != TB_NUMBER_BOOL) {
        reader->dtype = (tb_dtype){TB_I64, 8, NULL};
        return 1;
    }
    return 0;
}

/* 0 where an integer, which is exact as the float64 at `stored`, needs more bits than
 * the target has. */
static int
fits_target(const tb_list_reader *reader, const tb_number *number, const void *stored)
{
    double value;
    int exponent;

    if (reader->target == NULL || reader->dtype.type != TB_F64 ||
        number->kind == TB_NUMBER_FLOAT || reader->significand >= DBL_MANT_DIG) {
        return 1;
    }
    memcpy(&value, stored, sizeof value);
    double fraction = fabs(frexp(value, &exponent)); /* 0, or from 0.5 to 1 */
    uint64_t significand = (uint64_t)ldexp(fraction, DBL_MANT_DIG);
    return tb_fits_significand(significand, reader->significand);
}

/* One item of any kind, which may run Python code. */
static tb_read
read_item(tb_list_reader *reader, PyObject *item, Py_ssize_t column, void *dst)
{
    tb_number number;
    tb_status status = TB_OK;
    tb_read answer = TB_READ_ERROR;

    Py_INCREF(item);
    if (tb_read_number(reader->state, item, &number) < 0 ||
        (reader->guard.check != NULL &&
         reader->guard.check(reader->guard.memory) < 0)) {
        goto done;
    }
    if (number.kind == TB_NUMBER_FLOAT && !PyFloat_Check(item) &&
        tb_refuse_grad(reader->state, reader->context, reader->row, column, item) < 0) {
        goto done;
    }
    if (number.kind == TB_NOT_A_NUMBER ||
        (number.kind == TB_NUMBER_BOOL && reader->no_bools)) {
        refuse_item(reader, column, item, &number);
    }
    else if (must_widen(reader, number.kind)) {
        answer = TB_READ_WIDEN;
    }
    else if (number.kind == TB_NUMBER_FLOAT && reader->dtype.type < TB_F32) {
        refuse_float(reader, column, item);
    }
    else if (tb_store_number(&number, reader->dtype.type, dst, &status) == 0) {
        answer = TB_READ_DONE;
        const tb_dtype *refused_by = &reader->dtype;
        if (status == TB_OK && !fits_target(reader, &number, dst)) {
            status = TB_ERR_INEXACT;
            refused_by = reader->target;
        }
        if (status != TB_OK) {
            answer = (tb_read)tb_raise_value(reader->context, status, reader->row,
                                             column, item, refused_by);
        }
    }
done:
    Py_XDECREF(number.object);
    Py_DECREF(item);
    return answer;
}

/* Stores the exact ints, floats or bools at the front of `items` at `dst`, and returns
 * how many. Stops before any other object, and before what does not fit. */
static Py_ssize_t
read_run(const tb_list_reader *reader, PyObject *const *items, Py_ssize_t n, void *dst)
{
    tb_type type = reader->dtype.type;

    if (type == TB_I64) {
        return read_ints(items, n, (int64_t *)dst);
    }
    if (type == TB_F64) {
        Py_ssize_t run = read_floats(items, n, (double *)dst);
        if (run > 0) {
            return run;
        }
    }
    if (type == TB_BOOL) {
        Py_ssize_t run = read_bools(items, n, (unsigned char *)dst);
        if (run > 0 || reader->provisional) {
            return run;
        }
    }
    union {
        int64_t ints[CHUNK];
        double floats[CHUNK];
    } buffer;
    ptrdiff_t bad = 0;
    tb_type from = TB_I64;
    if (reader->target != NULL) {
        return 0; /* integers are checked one by one */
    }
    Py_ssize_t run = read_ints(items, n < CHUNK ? n : CHUNK, buffer.ints);
    if (run == 0 && tb_type_is_float(type)) {
        run = read_floats(items, n < CHUNK ? n : CHUNK, buffer.floats);
        from = TB_F64;
    }
    if (tb_cast_elements(from, type, &buffer, run, dst, &bad) != TB_OK) {
        return bad;
    }
    return run;
}

static tb_read
changed_size(const tb_list_reader *reader)
{
    return (tb_read)tb_raise_at(reader->context, PyExc_RuntimeError, reader->row, -1,
                                "changed size during conversion");
}

static tb_read
read_numbers(tb_list_reader *reader, PyObject *list, Py_ssize_t length,
             Py_ssize_t start, Py_ssize_t count, Py_ssize_t column, char *dst)
{
    Py_ssize_t i = 0;

    while (i < count) {
        i += read_run(reader, tb_list_items(list) + start + i, count - i,
                      dst + i * reader->dtype.item_size);
        if (i == count) {
            break;
        }
        tb_read read = read_item(reader, tb_list_item(list, start + i),
                                 column < 0 ? start + i : column,
                                 dst + i * reader->dtype.item_size);
        if (read != TB_READ_DONE) {
            return read;
        }
        if (tb_list_size(list) != length) {
            return changed_size(reader);
        }
        i++;
    }
    return TB_READ_DONE;
}

static ptrdiff_t
elements_below(const tb_list_reader *reader, int depth)
{
    ptrdiff_t elements = 1;

    for (int d = depth; d < reader->ndim; d++) {
        elements *= reader->shape[d];
    }
    return elements;
}

static tb_read
refuse_number(const tb_list_reader *reader, Py_ssize_t column, PyObject *item,
              Py_ssize_t expected)
{
    PyObject *found = tb_describe(item);
    if (found != NULL) {
        tb_raise_at(
            reader->context, PyExc_TypeError, reader->row, column,
            "found %U, expected a list of %zd: rows must be nested equally deep", found,
            expected);
        Py_DECREF(found);
    }
    return TB_READ_ERROR;
}

static tb_read read_nested(tb_list_reader *reader, PyObject *list, Py_ssize_t expected,
                           int depth, Py_ssize_t column, char *dst);

/* `column` is -1 at the top, where each item is a column of its own. */
static tb_read
read_level(tb_list_reader *reader, PyObject *list, Py_ssize_t length, Py_ssize_t start,
           Py_ssize_t count, int depth, Py_ssize_t column, char *dst)
{
    if (++reader->lists_read % LISTS_BETWEEN_SIGNALS == 0 && PyErr_CheckSignals() < 0) {
        return TB_READ_ERROR;
    }
    if (depth == reader->ndim) {
        return read_numbers(reader, list, length, start, count, column, dst);
    }
    Py_ssize_t expected = reader->shape[depth];
    ptrdiff_t pitch = elements_below(reader, depth) * reader->dtype.item_size;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t at = column < 0 ? start + i : column;
        PyObject *item = tb_get_item(list, start + i);
        if (item == NULL) {
            return changed_size(reader);
        }
        tb_read read = tb_is_list(item) ? read_nested(reader, item, expected, depth + 1,
                                                      at, dst + i * pitch)
                                        : refuse_number(reader, at, item, expected);
        Py_DECREF(item);
        if (read != TB_READ_DONE) {
            return read;
        }
        if (tb_list_size(list) != length) {
            return changed_size(reader);
        }
    }
    return TB_READ_DONE;
}

/* A whole list, `depth` lists deep. */
static tb_read
read_nested(tb_list_reader *reader, PyObject *list, Py_ssize_t expected, int depth,
            Py_ssize_t column, char *dst)
{
    tb_read read;

    TB_BEGIN_CRITICAL_SECTION(list);
    Py_ssize_t length = tb_list_size(list);
    read = length == expected
               ? read_level(reader, list, length, 0, length, depth, column, dst)
               : (tb_read)tb_raise_at(reader->context, PyExc_ValueError, reader->row,
                                      column,
                                      "found a list of %zd, expected %zd: only the "
                                      "first dimension may vary",
                                      length, expected);
    TB_END_CRITICAL_SECTION();
    return read;
}

tb_read
tb_read_list(tb_list_reader *reader, PyObject *list, Py_ssize_t length,
             Py_ssize_t start, Py_ssize_t count, void *dst)
{
    tb_read read;

    TB_BEGIN_CRITICAL_SECTION(list);
    read = tb_list_size(list) == length
               ? read_level(reader, list, length, start, count, 0, -1, (char *)dst)
               : changed_size(reader);
    TB_END_CRITICAL_SECTION();
    return read;
}

int
tb_guess_dtype(tb_state *state, PyObject *list, Py_ssize_t start, tb_dtype *dtype,
               int *found)
{
    tb_number number;
    PyObject *item = Py_NewRef(list);

    *found = 0;
    while (item != NULL && tb_is_list(item)) {
        Py_SETREF(item, tb_get_item(item, start));
        start = 0;
    }
    if (item == NULL) {
        return 0;
    }
    *found = 1;
    *dtype = (tb_dtype){TB_I64, 8, NULL};
    if (PyLong_CheckExact(item)) {
        Py_DECREF(item);
        return 0;
    }
    int answer = tb_read_number(state, item, &number);
    Py_DECREF(item);
    Py_XDECREF(number.object);
    if (answer == 0 && number.kind == TB_NUMBER_BOOL) {
        *dtype = (tb_dtype){TB_BOOL, 1, NULL};
    }
    if (answer == 0 && number.kind == TB_NUMBER_FLOAT) {
        *dtype = (tb_dtype){TB_F32, 4, NULL};
    }
    return answer;
}

int
tb_nested_shape(const tb_context *context, Py_ssize_t row, PyObject *list, int *ndim,
                npy_intp *shape)
{
    PyObject *first = tb_get_item(list, 0);

    *ndim = 0;
    while (first != NULL && tb_is_list(first)) {
        if (*ndim == TB_MAX_TRAILING) {
            Py_DECREF(first);
            return tb_raise_at(context, PyExc_ValueError, row, 0,
                               "nested deeper than %d levels, or a list that contains "
                               "itself",
                               (int)TB_MAX_TRAILING);
        }
        shape[*ndim] = tb_list_size(first);
        *ndim += 1;
        Py_SETREF(first, tb_get_item(first, 0));
    }
    Py_XDECREF(first);
    return 0;
}
