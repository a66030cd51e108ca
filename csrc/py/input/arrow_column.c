#include "py/input/arrow_column.h"

#include "core/arrow/chunk.h"

#include <string.h>

/* --- one chunk -------------------------------------------------------------------- */

/* A column while it is read: where its chunks are, and how much of it is read. */
typedef struct {
    const tb_arrow_source *source;
    ptrdiff_t child;    /* of the struct that a table is, or -1 */
    ptrdiff_t children; /* that the struct has */
    ptrdiff_t rows;     /* read so far */
} progress;

static int
raise_fault(const tb_arrow_column *column, const progress *at,
            const tb_arrow_fault *fault)
{
    return tb_raise_at(&column->context, PyExc_ValueError,
                       fault->row < 0 ? -1 : at->rows + fault->row, -1, "%s",
                       fault->reason);
}

/* The column's own array in a chunk of the source, and the rows to read of it. */
static const tb_arrow_array *
find_array(const progress *at, const tb_arrow_array *array, ptrdiff_t *first,
           ptrdiff_t *count, tb_arrow_fault *fault)
{
    *first = 0;
    *count = array->length;
    if (at->child < 0) {
        return array;
    }
    const tb_arrow_array *child =
        tb_arrow_struct_child(array, at->child, at->children, fault);
    *first = array->offset;
    return child;
}

static int
open_chunk(const tb_arrow_column *column, const progress *at, Py_ssize_t i,
           tb_arrow_chunk *chunk)
{
    const tb_arrow_array *array =
        tb_arrow_in_capsule(PyList_GET_ITEM(at->source->chunks, i));
    ptrdiff_t first, count;
    tb_arrow_fault fault;

    array = find_array(at, array, &first, &count, &fault);
    if (array == NULL || tb_arrow_read_chunk(&column->kind, array, first, count, chunk,
                                             &fault) != TB_OK) {
        return raise_fault(column, at, &fault);
    }
    return 0;
}

/* An array of [size, *trailing], over `data` if that is given. */
static PyArrayObject *
new_values(tb_state *state, const tb_arrow_kind *kind, ptrdiff_t size, const void *data)
{
    npy_intp dims[TB_ARROW_MAX_TRAILING + 1] = {size};
    tb_dtype dtype = {kind->type, tb_type_size(kind->type), NULL};
    PyArray_Descr *descr = tb_dtype_descr(state, &dtype);

    for (int d = 0; d < kind->ndim; d++) {
        dims[d + 1] = kind->trailing[d];
    }
    return descr == NULL ? NULL
                         : (PyArrayObject *)PyArray_NewFromDescr(
                               &PyArray_Type, descr, 1 + kind->ndim, dims, NULL,
                               (void *)(uintptr_t)data,
                               data == NULL ? 0 : NPY_ARRAY_C_CONTIGUOUS, NULL);
}

/* The bools of a chunk, a byte each, as NumPy has them. */
static PyArrayObject *
copy_bools(tb_state *state, const tb_arrow_kind *kind, const tb_arrow_chunk *chunk)
{
    PyArrayObject *array = new_values(state, kind, chunk->size, NULL);
    const unsigned char *stored = (const unsigned char *)chunk->values;

    if (array == NULL) {
        return NULL;
    }
    unsigned char *out = (unsigned char *)PyArray_DATA(array);
    if (kind->store == TB_ARROW_BITS) {
        tb_arrow_unpack_bits(stored, chunk->first_bit, PyArray_SIZE(array), out);
    }
    else {
        for (npy_intp i = 0; i < PyArray_SIZE(array); i++) {
            out[i] = stored[i] != 0;
        }
    }
    return array;
}

/* The values of a chunk without a copy, except bools and values that are not aligned.
 */
static PyArrayObject *
chunk_values(tb_state *state, const tb_arrow_kind *kind, const tb_arrow_chunk *chunk,
             PyObject *owner)
{
    if (chunk->values == NULL) {
        return new_values(state, kind, chunk->size, NULL);
    }
    if (kind->store != TB_ARROW_PLAIN) {
        return copy_bools(state, kind, chunk);
    }
    PyArrayObject *array = new_values(state, kind, chunk->size, chunk->values);
    if (array != NULL && PyArray_SetBaseObject(array, Py_NewRef(owner)) < 0) {
        Py_CLEAR(array);
    }
    if (array != NULL) {
        PyArray_UpdateFlags(array, NPY_ARRAY_ALIGNED);
        if (!PyArray_ISALIGNED(array)) {
            Py_SETREF(array, (PyArrayObject *)PyArray_NewCopy(array, NPY_CORDER));
        }
    }
    return array;
}

/* Copies strings that lie anywhere, one after another. */
static PyArrayObject *
gather_strings(const tb_arrow_column *column, const progress *at,
               const tb_arrow_chunk *chunk)
{
    npy_intp size = chunk->size;
    PyArrayObject *array = (PyArrayObject *)PyArray_SimpleNew(1, &size, NPY_UINT8);

    if (array != NULL) {
        tb_arrow_copy_views(&chunk->views, chunk->size, column->positions,
                            (int64_t *)PyArray_DATA(column->starts) + at->rows,
                            (int64_t *)PyArray_DATA(column->lengths) + at->rows,
                            PyArray_BYTES(array));
    }
    return array;
}

static PyArrayObject *
new_marks(ptrdiff_t count)
{
    npy_intp dims = count;
    return (PyArrayObject *)PyArray_ZEROS(1, &dims, NPY_BOOL, 0);
}

/* Which elements of a chunk are null: bool [elements]; None if none is. */
static PyObject *
chunk_nulls(const tb_arrow_kind *kind, const tb_arrow_chunk *chunk)
{
    PyArrayObject *marks = NULL;

    for (int d = 0; d < chunk->depths; d++) {
        if (!tb_arrow_has_null(&chunk->elements[d])) {
            continue;
        }
        if (marks == NULL) {
            marks = new_marks(chunk->size * kind->positions);
        }
        if (marks == NULL) {
            return NULL;
        }
        tb_arrow_mark_nulls(&chunk->elements[d], (unsigned char *)PyArray_DATA(marks));
    }
    return marks == NULL ? Py_NewRef(Py_None) : (PyObject *)marks;
}

static int
append_new(PyObject *list, PyObject *item)
{
    int answer = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return answer;
}

/* Notes which rows are null in `missing`, which is made for the first of them. */
static int
note_missing(tb_arrow_column *column, const progress *at, const tb_arrow_chunk *chunk)
{
    if (!tb_arrow_has_null(&chunk->rows)) {
        return 0;
    }
    if (column->missing == NULL) {
        column->missing = new_marks(column->count);
    }
    if (column->missing == NULL) {
        return -1;
    }
    tb_arrow_mark_nulls(&chunk->rows,
                        (unsigned char *)PyArray_DATA(column->missing) + at->rows);
    return 0;
}

static int
read_chunk(tb_state *state, tb_arrow_column *column, progress *at, Py_ssize_t i)
{
    tb_arrow_chunk chunk;
    tb_arrow_fault fault;
    int is_strings = column->kind.form == TB_ARROW_STRINGS;

    if (open_chunk(column, at, i, &chunk) < 0) {
        return -1;
    }
    if (chunk.count == 0) {
        return 0;
    }
    if (column->kind.form != TB_ARROW_NUMBERS && !is_strings &&
        tb_arrow_locate_rows(&column->kind, &chunk, column->positions,
                             (int64_t *)PyArray_DATA(column->starts) + at->rows,
                             (int64_t *)PyArray_DATA(column->lengths) + at->rows,
                             &fault) != TB_OK) {
        return raise_fault(column, at, &fault);
    }
    PyArrayObject *values = is_strings
                                ? gather_strings(column, at, &chunk)
                                : chunk_values(state, &column->kind, &chunk,
                                               PyList_GET_ITEM(at->source->chunks, i));
    if (append_new(column->chunks, (PyObject *)values) < 0 ||
        append_new(column->nulls, chunk_nulls(&column->kind, &chunk)) < 0 ||
        note_missing(column, at, &chunk) < 0) {
        return -1;
    }
    at->rows += chunk.count;
    column->positions += chunk.size;
    return 0;
}

/* How many rows the chunks have in all; each chunk is checked again later. */
static int
count_rows(tb_arrow_column *column, const progress *at)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(at->source->chunks); i++) {
        tb_arrow_chunk chunk;
        if (open_chunk(column, at, i, &chunk) < 0) {
            return -1;
        }
        if (chunk.count > PTRDIFF_MAX / 16 - column->count) {
            PyErr_NoMemory();
            return -1;
        }
        column->count += chunk.count;
    }
    return 0;
}

static int
read_chunks(tb_state *state, tb_arrow_column *column, progress *at)
{
    if (count_rows(column, at) < 0) {
        return -1;
    }
    if (column->kind.form != TB_ARROW_NUMBERS) {
        npy_intp dims = column->count;
        column->starts = (PyArrayObject *)PyArray_SimpleNew(1, &dims, NPY_INT64);
        column->lengths = (PyArrayObject *)PyArray_SimpleNew(1, &dims, NPY_INT64);
        if (column->starts == NULL || column->lengths == NULL) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(at->source->chunks); i++) {
        if (read_chunk(state, column, at, i) < 0) {
            return -1;
        }
    }
    if (PyList_GET_SIZE(column->chunks) > 0) {
        return 0;
    }
    /* Nothing has a type still. */
    return append_new(column->chunks,
                      (PyObject *)new_values(state, &column->kind, 0, NULL)) < 0
               ? -1
               : append_new(column->nulls, Py_NewRef(Py_None));
}

/* --- which column ----------------------------------------------------------------- */

static int
is_table(const tb_arrow_source *source)
{
    return strcmp(source->schema->format, "+s") == 0;
}

Py_ssize_t
tb_count_arrow_columns(const tb_context *context, const tb_arrow_source *source)
{
    const tb_arrow_schema *schema = source->schema;

    if (schema->release == NULL || schema->format == NULL ||
        (is_table(source) && (schema->n_children < 0 ||
                              (schema->n_children > 0 && schema->children == NULL)))) {
        return tb_raise_at(context, PyExc_ValueError, -1, -1,
                           "the Arrow schema is malformed");
    }
    return is_table(source) ? (Py_ssize_t)schema->n_children : 1;
}

PyObject *
tb_arrow_column_name(const tb_arrow_source *source, Py_ssize_t i)
{
    if (!is_table(source)) {
        return Py_NewRef(Py_None);
    }
    const tb_arrow_schema *child = source->schema->children[i];
    const char *text = child == NULL || child->name == NULL ? "" : child->name;

    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

int
tb_refuse_arrow_kind(const tb_arrow_column *column, const char *reason)
{
    tb_context nameless = column->context;

    nameless.key = NULL;
    return column->context.key == NULL
               ? tb_raise_at(&nameless, PyExc_TypeError, -1, -1, "the data %s", reason)
               : tb_raise_at(&nameless, PyExc_TypeError, -1, -1, "column %R %s",
                             column->context.key, reason);
}

int
tb_read_arrow_column(tb_state *state, const tb_context *context,
                     const tb_arrow_source *source, Py_ssize_t i,
                     tb_arrow_column *column)
{
    const tb_arrow_schema *schema = source->schema;
    progress at = {.source = source, .child = -1};
    tb_arrow_fault fault;

    memset(column, 0, sizeof *column);
    column->context = *context;
    column->chunks = PyList_New(0);
    column->nulls = PyList_New(0);
    if (column->chunks == NULL || column->nulls == NULL) {
        return -1;
    }
    if (is_table(source)) {
        column->name = tb_arrow_column_name(source, i);
        if (column->name == NULL) {
            return -1;
        }
        column->context.key = column->name;
        at.child = i;
        at.children = (ptrdiff_t)schema->n_children;
        schema = schema->children[i];
    }
    if (tb_arrow_read_schema(schema, &column->kind, &fault) != TB_OK) {
        return tb_refuse_arrow_kind(column, fault.reason);
    }
    return read_chunks(state, column, &at);
}

void
tb_clear_arrow_column(tb_arrow_column *column)
{
    Py_CLEAR(column->name);
    Py_CLEAR(column->chunks);
    Py_CLEAR(column->starts);
    Py_CLEAR(column->lengths);
    Py_CLEAR(column->missing);
    Py_CLEAR(column->nulls);
}

PyArrayObject *
tb_join_arrow_chunks(PyObject *chunks)
{
    return (PyArrayObject *)(PyList_GET_SIZE(chunks) == 1
                                 ? Py_NewRef(PyList_GET_ITEM(chunks, 0))
                                 : PyArray_Concatenate(chunks, 0));
}

int
tb_replace_arrow_chunks(tb_arrow_column *column, PyArrayObject *values)
{
    PyObject *one = values == NULL ? NULL : PyList_New(1);

    if (one == NULL) {
        Py_XDECREF((PyObject *)values);
        return -1;
    }
    PyList_SET_ITEM(one, 0, (PyObject *)values);
    Py_SETREF(column->chunks, one);
    return 0;
}
