#include "py/input/arrow_rows.h"

#include "py/input/arrow_nulls.h"

#include <string.h>

/* ValueError, with all names: the source has several columns, or none. */
static int
refuse_table(const tb_context *context, const tb_arrow_source *source, Py_ssize_t count)
{
    PyObject *names = PyUnicode_FromString("");

    for (Py_ssize_t i = 0; names != NULL && i < count; i++) {
        PyObject *name = tb_arrow_column_name(source, i);
        PyObject *longer =
            name == NULL
                ? NULL
                : PyUnicode_FromFormat("%U%s%R", names, i == 0 ? "" : ", ", name);
        Py_XDECREF(name);
        Py_SETREF(names, longer);
    }
    if (names != NULL) {
        tb_raise_at(context, PyExc_ValueError, -1, -1,
                    "found a table with the columns %U, expected one column; choose it "
                    "by Ragged.from_arrow(..., column=)",
                    names);
        Py_DECREF(names);
    }
    return -1;
}

/* The number of the column called `name`, -1 with an exception. */
static Py_ssize_t
find_named(const tb_context *context, const tb_arrow_source *source, Py_ssize_t count,
           PyObject *name)
{
    Py_ssize_t found = -1;
    PyObject *shown = tb_show(name);

    if (shown == NULL) {
        return -1;
    }
    if (!PyUnicode_Check(name)) {
        tb_raise_at(context, PyExc_TypeError, -1, -1, "column=%U; expected a str",
                    shown);
        Py_DECREF(shown);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count && found >= -1; i++) {
        PyObject *own = tb_arrow_column_name(source, i);
        int same = own == NULL ? -1 : PyObject_RichCompareBool(own, name, Py_EQ);
        Py_XDECREF(own);
        if (same > 0 && found >= 0) {
            tb_raise_at(context, PyExc_ValueError, -1, -1,
                        "there are two columns called %U", shown);
        }
        found = same < 0 || (same > 0 && found >= 0) ? -2 : same > 0 ? i : found;
    }
    if (found == -1) {
        tb_raise_at(context, PyExc_KeyError, -1, -1, "there is no column %U", shown);
    }
    Py_DECREF(shown);
    return found < 0 ? -1 : found;
}

int
tb_read_named_column(tb_state *state, const tb_context *context,
                     const tb_arrow_source *source, PyObject *name,
                     tb_arrow_column *column)
{
    Py_ssize_t count = tb_count_arrow_columns(context, source), i = 0;

    memset(column, 0, sizeof *column);
    if (count < 0) {
        return -1;
    }
    if (name != NULL) {
        i = find_named(context, source, count, name);
    }
    else if (count != 1) {
        return refuse_table(context, source, count);
    }
    return i < 0 ? -1 : tb_read_arrow_column(state, context, source, i, column);
}

static int
choose(PyArrayObject **array, PyArrayObject *chosen)
{
    if (*array != NULL) {
        Py_SETREF(*array, (PyArrayObject *)PyArray_TakeFrom(*array, (PyObject *)chosen,
                                                            0, NULL, NPY_RAISE));
    }
    return PyErr_Occurred() ? -1 : 0;
}

static int
has_missing(const tb_arrow_column *column)
{
    return column->missing != NULL && column->count > 0 &&
           memchr(PyArray_DATA(column->missing), 1, (size_t)column->count) != NULL;
}

int
tb_choose_arrow_rows(tb_arrow_column *column, PyArrayObject *chosen)
{
    if (choose(&column->starts, chosen) < 0 || choose(&column->lengths, chosen) < 0 ||
        choose(&column->missing, chosen) < 0) {
        return -1;
    }
    column->count = PyArray_DIM(chosen, 0);
    if (!has_missing(column)) {
        Py_CLEAR(column->missing);
    }
    if (column->kind.form != TB_ARROW_NUMBERS) {
        return 0;
    }
    PyArrayObject *numbers = tb_join_arrow_chunks(column->chunks);
    if (numbers != NULL) {
        (void)choose(&numbers, chosen);
    }
    return tb_replace_arrow_chunks(column, numbers);
}

int
tb_take_arrow_rows(tb_arrow_column *column, tb_ragged *rows)
{
    *rows = (tb_ragged){PyList_AsTuple(column->chunks), NULL, column->starts,
                        column->lengths};
    column->starts = NULL;
    column->lengths = NULL;
    if (rows->chunks == NULL || tb_count_bounds(rows) < 0) {
        tb_clear_ragged(rows);
        return -1;
    }
    return 0;
}

int
tb_read_arrow_rows(tb_state *state, const tb_context *context, PyObject *object,
                   PyObject *name, PyObject *fill_null, tb_ragged *rows)
{
    tb_arrow_source source;
    tb_arrow_column column;
    int answer = -1;

    memset(&column, 0, sizeof column);
    if (tb_check_fill_null(state, context, fill_null) < 0) {
        return -1;
    }
    if (tb_take_arrow(context, object, &source) == 0 &&
        tb_read_named_column(state, context, &source, name, &column) == 0) {
        if (column.kind.form == TB_ARROW_NUMBERS || column.kind.is_text) {
            tb_refuse_arrow_kind(&column,
                                 column.kind.is_text
                                     ? "holds text; expected lists of numbers"
                                     : "holds numbers; expected lists of numbers");
        }
        else if (tb_settle_nulls(state, &column, fill_null) == 0) {
            answer = tb_take_arrow_rows(&column, rows);
        }
    }
    tb_clear_arrow_column(&column);
    tb_drop_arrow(&source);
    return answer;
}
