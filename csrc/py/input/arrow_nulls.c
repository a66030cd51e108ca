#include "py/input/arrow_nulls.h"

#include "core/base/size.h"

#include "py/input/number.h"

#include <string.h>

int
tb_check_fill_null(tb_state *state, const tb_context *context, PyObject *fill_null)
{
    tb_number number;

    if (fill_null == NULL || fill_null == Py_None) {
        return 0;
    }
    if (tb_read_number(state, fill_null, &number) < 0) {
        return -1;
    }
    Py_XDECREF(number.object);
    if (number.kind != TB_NOT_A_NUMBER) {
        return 0;
    }
    PyObject *found = tb_describe(fill_null);
    if (found != NULL) {
        tb_raise_at(context, PyExc_TypeError, -1, -1, "fill_null=%U; expected a number",
                    found);
        Py_DECREF(found);
    }
    return -1;
}

static int
refuse_null(const tb_arrow_column *column, Py_ssize_t row, Py_ssize_t position,
            PyObject *fill_null)
{
    return tb_raise_at(
        &column->context, PyExc_ValueError, row, position,
        fill_null == NULL
            ? "is null; read it by Ragged.from_arrow(..., fill_null=) to replace nulls"
            : "is null; pass fill_null= to replace nulls");
}

int
tb_refuse_missing_rows(const tb_arrow_column *column, PyObject *fill_null)
{
    const npy_bool *missing = column->missing == NULL
                                  ? NULL
                                  : (const npy_bool *)PyArray_DATA(column->missing);

    for (ptrdiff_t i = 0; missing != NULL && i < column->count; i++) {
        if (missing[i]) {
            return refuse_null(column, i, -1, fill_null);
        }
    }
    return 0;
}

/* The positions of a chunk that have a null element, ascending, counted from `begin`;
 * to be freed. NULL with MemoryError. */
static int64_t *
list_nulls(const npy_bool *marks, ptrdiff_t size, ptrdiff_t elements, int64_t begin,
           ptrdiff_t *count)
{
    ptrdiff_t found = 0;

    for (int pass = 0;; pass++) {
        int64_t *list =
            pass == 0 ? NULL
                      : (int64_t *)PyMem_Malloc(((size_t)found + 1) * sizeof *list);
        if (pass == 1 && list == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        found = 0;
        for (ptrdiff_t i = 0; i < size; i++) {
            if (elements > 0 && memchr(marks + i * elements, 1, (size_t)elements)) {
                if (list != NULL) {
                    list[found] = begin + i;
                }
                found++;
            }
        }
        if (list != NULL) {
            *count = found;
            return list;
        }
    }
}

/* Refuses the first row that holds a null element of one chunk, whose positions are
 * `begin` to begin + size. */
static int
refuse_touched(const tb_arrow_column *column, PyArrayObject *marks, int64_t begin,
               ptrdiff_t size, PyObject *fill_null)
{
    const int64_t *starts = (const int64_t *)PyArray_DATA(column->starts);
    const int64_t *lengths = (const int64_t *)PyArray_DATA(column->lengths);
    ptrdiff_t count = 0;
    int64_t *nulls = list_nulls((const npy_bool *)PyArray_DATA(marks), size,
                                column->kind.positions, begin, &count);
    int answer = nulls == NULL ? -1 : 0;

    for (ptrdiff_t i = 0; answer == 0 && i < column->count; i++) {
        if (lengths[i] == 0 || starts[i] < begin || starts[i] >= begin + size) {
            continue;
        }
        ptrdiff_t k = tb_find_at_least(nulls, count, starts[i]);
        if (k < count && nulls[k] < starts[i] + lengths[i]) {
            answer = refuse_null(column, i, nulls[k] - starts[i], fill_null);
        }
    }
    PyMem_Free(nulls);
    return answer;
}

/* fill_null as an element. */
static int
read_fill(tb_state *state, const tb_arrow_column *column, PyObject *fill_null,
          unsigned char *element)
{
    tb_dtype dtype = {column->kind.type, tb_type_size(column->kind.type), NULL};

    if (tb_read_fill(state, &column->context, fill_null, &dtype, element) == 0) {
        return 0;
    }
    PyObject *const kinds[] = {PyExc_TypeError, PyExc_OverflowError, PyExc_ValueError};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (PyErr_ExceptionMatches(kinds[k])) {
            PyErr_Clear(); /* its message names padding_value */
            PyObject *shown = tb_show(fill_null);
            if (shown != NULL) {
                tb_raise_at(&column->context, kinds[k], -1, -1,
                            "fill_null=%U does not fit %s", shown,
                            tb_dtype_name(&dtype));
                Py_DECREF(shown);
            }
            return -1;
        }
    }
    return -1;
}

/* A copy of an array with an element at the nulls. */
static PyArrayObject *
fill_nulls(PyArrayObject *array, PyArrayObject *nulls, const unsigned char *element)
{
    PyArrayObject *filled = (PyArrayObject *)PyArray_NewCopy(array, NPY_CORDER);
    size_t size = (size_t)PyArray_ITEMSIZE(array);
    const npy_bool *is_null = (const npy_bool *)PyArray_DATA(nulls);

    for (npy_intp i = 0; filled != NULL && i < PyArray_SIZE(filled); i++) {
        if (is_null[i]) {
            memcpy(PyArray_BYTES(filled) + (size_t)i * size, element, size);
        }
    }
    return filled;
}

/* Null elements of the rows of lists. */
static int
settle_elements(tb_state *state, tb_arrow_column *column, PyObject *fill_null)
{
    unsigned char element[TB_MAX_ITEM_SIZE];
    int is_filled = fill_null != NULL && fill_null != Py_None;
    int64_t begin = 0;

    for (Py_ssize_t k = 0; k < PyList_GET_SIZE(column->chunks); k++) {
        PyObject *nulls = PyList_GET_ITEM(column->nulls, k);
        PyArrayObject *chunk = (PyArrayObject *)PyList_GET_ITEM(column->chunks, k);
        ptrdiff_t size = PyArray_DIM(chunk, 0);
        if (nulls != Py_None && is_filled) {
            PyArrayObject *filled =
                read_fill(state, column, fill_null, element) < 0
                    ? NULL
                    : fill_nulls(chunk, (PyArrayObject *)nulls, element);
            if (filled == NULL ||
                PyList_SetItem(column->chunks, k, (PyObject *)filled) < 0) {
                return -1;
            }
        }
        else if (nulls != Py_None && refuse_touched(column, (PyArrayObject *)nulls,
                                                    begin, size, fill_null) < 0) {
            return -1;
        }
        begin += size;
    }
    return 0;
}

/* Null numbers of a column of numbers, which then is one chunk. */
static int
settle_numbers(tb_state *state, tb_arrow_column *column, PyObject *fill_null)
{
    unsigned char element[TB_MAX_ITEM_SIZE];
    PyArrayObject *numbers = tb_join_arrow_chunks(column->chunks);

    if (numbers != NULL && column->missing != NULL) {
        Py_SETREF(numbers, read_fill(state, column, fill_null, element) < 0
                               ? NULL
                               : fill_nulls(numbers, column->missing, element));
    }
    return tb_replace_arrow_chunks(column, numbers);
}

int
tb_settle_nulls(tb_state *state, tb_arrow_column *column, PyObject *fill_null)
{
    int is_filled = fill_null != NULL && fill_null != Py_None;

    if (!is_filled && tb_refuse_missing_rows(column, fill_null) < 0) {
        return -1;
    }
    return column->kind.form == TB_ARROW_NUMBERS
               ? settle_numbers(state, column, fill_null)
               : settle_elements(state, column, fill_null);
}
