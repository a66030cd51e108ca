/* Arrow columns in and out. */
#include "py/base/tb_numpy.h"
#include "py/input/arrow_nulls.h"
#include "py/input/arrow_rows.h"
#include "py/input/settings.h"
#include "py/output/arrow_export.h"

#include <string.h>

/* arrow_rows(function, class, source, column, fill_null) -> class
 *
 * The rows of the column of lists called `column`; None: of the only one. */
static PyObject *
wrap_arrow_rows(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {0};
    tb_ragged rows;

    if (tb_check_count("arrow_rows", nargs, 5) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        tb_read_arrow_rows(state, &context, args[2],
                           args[3] == Py_None ? NULL : args[3], args[4], &rows) < 0) {
        return NULL;
    }
    return tb_new_ragged(state, args[1], &rows);
}

/* Lists as an object of the class, numbers as an array, text as (object of the class,
 * which rows are null or None). */
static PyObject *
wrap_column(tb_state *state, tb_arrow_column *column, PyObject *type,
            PyObject *fill_null)
{
    int is_text = column->kind.is_text;
    tb_ragged rows;

    if (!is_text && tb_settle_nulls(state, column, fill_null) < 0) {
        return NULL;
    }
    if (column->kind.form == TB_ARROW_NUMBERS) {
        return Py_NewRef(PyList_GET_ITEM(column->chunks, 0));
    }
    if (tb_take_arrow_rows(column, &rows) < 0) {
        return NULL;
    }
    PyObject *object = tb_new_ragged(state, type, &rows);
    if (object == NULL || !is_text) {
        return object;
    }
    PyObject *missing = column->missing == NULL ? Py_None : (PyObject *)column->missing;
    PyObject *text = PyTuple_Pack(2, object, missing);
    Py_DECREF(object);
    return text;
}

/* (name, column); the name is None if the source is not a table. */
static PyObject *
read_pair(tb_state *state, const tb_context *context, const tb_arrow_source *source,
          Py_ssize_t i, PyObject *const *args)
{
    PyObject *chosen = args[6], *value = NULL, *pair = NULL;
    tb_arrow_column column;

    if (tb_read_arrow_column(state, context, source, i, &column) == 0 &&
        (chosen == Py_None ||
         tb_choose_arrow_rows(&column, (PyArrayObject *)chosen) == 0)) {
        value = wrap_column(state, &column, args[1], args[5]);
    }
    if (value != NULL) {
        pair = PyTuple_Pack(2, column.name == NULL ? Py_None : column.name, value);
        Py_DECREF(value);
    }
    tb_clear_arrow_column(&column);
    return pair;
}

/* Whether the column is wanted; -1 with an exception. */
static int
is_wanted(const tb_arrow_source *source, Py_ssize_t i, PyObject *wanted)
{
    if (wanted == Py_None) {
        return 1;
    }
    PyObject *name = tb_arrow_column_name(source, i);
    int answer = name == NULL ? -1 : PySequence_Contains(wanted, name);
    Py_XDECREF(name);
    return answer;
}

static PyObject *
read_pairs(tb_state *state, const tb_context *context, const tb_arrow_source *source,
           PyObject *const *args)
{
    Py_ssize_t count = tb_count_arrow_columns(context, source);
    PyObject *pairs = count < 0 ? NULL : PyList_New(0);

    for (Py_ssize_t i = 0; pairs != NULL && i < count; i++) {
        int wanted = is_wanted(source, i, args[4]);
        PyObject *pair = wanted > 0 ? read_pair(state, context, source, i, args) : NULL;
        if (wanted < 0 ||
            (wanted > 0 && (pair == NULL || PyList_Append(pairs, pair) < 0))) {
            Py_CLEAR(pairs);
        }
        Py_XDECREF(pair);
    }
    return pairs;
}

static int
check_chosen(PyObject *chosen)
{
    if (chosen == Py_None ||
        (PyArray_Check(chosen) && PyArray_TYPE((PyArrayObject *)chosen) == NPY_INT64 &&
         PyArray_NDIM((PyArrayObject *)chosen) == 1)) {
        return 0;
    }
    PyErr_SetString(PyExc_TypeError,
                    "chosen: expected an int64 array of one dimension");
    return -1;
}

/* arrow_columns(function, class, source, key, wanted, fill_null, chosen)
 *     -> [(name, column), ...]
 *
 * `wanted` names the columns of a table to read, None: all. What is no table has one
 * column, of name None, that messages call `key`. `chosen`: of these rows alone, int64;
 * what the others hold is not looked at. */
static PyObject *
wrap_arrow_columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_arrow_source source;
    PyObject *pairs = NULL;

    if (tb_check_count("arrow_columns", nargs, 7) < 0 || check_chosen(args[6]) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        tb_check_fill_null(tb_state_of(module), &context, args[5]) < 0) {
        return NULL;
    }
    context.key = args[3] == Py_None ? NULL : args[3];
    if (tb_take_arrow(&context, args[2], &source) == 0) {
        pairs = read_pairs(tb_state_of(module), &context, &source, args);
    }
    tb_drop_arrow(&source);
    return pairs;
}

/* The lengths of a column of lists; null rows are refused, null elements are not read.
 */
static PyObject *
column_lengths(tb_arrow_column *column, PyObject *chosen)
{
    if (column->kind.form == TB_ARROW_NUMBERS || column->kind.is_text) {
        tb_refuse_arrow_kind(column, column->kind.is_text
                                         ? "holds text; expected lists"
                                         : "holds numbers; expected lists");
        return NULL;
    }
    if ((chosen != Py_None &&
         tb_choose_arrow_rows(column, (PyArrayObject *)chosen) < 0) ||
        tb_refuse_missing_rows(column, NULL) < 0) {
        return NULL;
    }
    return Py_NewRef((PyObject *)column->lengths);
}

/* arrow_lengths(function, source, column, chosen) -> int64 [rows] */
static PyObject *
wrap_arrow_lengths(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_arrow_source source;
    tb_arrow_column column;
    PyObject *lengths = NULL;

    if (tb_check_count("arrow_lengths", nargs, 4) < 0 || check_chosen(args[3]) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    memset(&column, 0, sizeof column);
    if (tb_take_arrow(&context, args[1], &source) == 0 &&
        tb_read_named_column(tb_state_of(module), &context, &source, args[2],
                             &column) == 0) {
        lengths = column_lengths(&column, args[3]);
    }
    tb_clear_arrow_column(&column);
    tb_drop_arrow(&source);
    return lengths;
}

/* export_arrow(ragged) -> (schema capsule, array capsule); the rows lie one after
 * another in one chunk. */
static PyObject *
wrap_export_arrow(PyObject *module, PyObject *ragged)
{
    tb_state *state = tb_state_of(module);

    if (!tb_is_ragged(state, ragged)) {
        PyErr_SetString(PyExc_TypeError, "export_arrow() takes a Ragged");
        return NULL;
    }
    const tb_ragged *rows = tb_open_ragged(ragged);
    return rows == NULL ? NULL : tb_export_ragged(state, rows);
}

static PyObject *
wrap_is_arrow(PyObject *Py_UNUSED(module), PyObject *object)
{
    int answer = tb_is_arrow(object);
    return answer < 0 ? NULL : PyBool_FromLong(answer);
}

PyMethodDef tb_arrow_methods[] = {
    {"arrow_rows", (PyCFunction)(void (*)(void))wrap_arrow_rows, METH_FASTCALL, NULL},
    {"arrow_columns", (PyCFunction)(void (*)(void))wrap_arrow_columns, METH_FASTCALL,
     NULL},
    {"arrow_lengths", (PyCFunction)(void (*)(void))wrap_arrow_lengths, METH_FASTCALL,
     NULL},
    {"export_arrow", wrap_export_arrow, METH_O, NULL},
    {"is_arrow", wrap_is_arrow, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
