/* Arrow columns as NumPy arrays over the producer's memory, and back. */
#include "py/base/tb_numpy.h"
#include "py/arrow/capsule.h"
#include "py/input/lengths.h"

#include <string.h>

/* --- one column ------------------------------------------------------------------- */

/* A column on its way: its kind, where its chunks are, and what is made of them. */
typedef struct {
    const tb_context *context;
    tb_arrow_kind kind;
    const tb_arrow_source *source;
    ptrdiff_t child;     /* of the struct, or -1 */
    ptrdiff_t children;  /* that the struct has */
    ptrdiff_t rows;      /* done so far */
    ptrdiff_t positions; /* done so far */
    PyObject *chunks;    /* list of ndarray [positions, *trailing] */
    PyArrayObject *starts, *lengths;
    PyArrayObject *missing; /* bool [rows], or NULL */
    PyObject *nulls;        /* list of bool ndarrays or None, a chunk each; or NULL */
} tb_import;

static int
raise_fault(const tb_import *import, const tb_arrow_fault *fault)
{
    return tb_raise_at(import->context, PyExc_ValueError,
                       fault->row < 0 ? -1 : import->rows + fault->row, -1, "%s",
                       fault->reason);
}

/* The array of this column in a chunk of the source, and which of its rows count. */
static const tb_arrow_array *
column_of(const tb_import *import, const tb_arrow_array *array, ptrdiff_t *first,
          ptrdiff_t *count, tb_arrow_fault *fault)
{
    *first = 0;
    *count = array->length;
    if (import->child < 0) {
        return array;
    }
    const tb_arrow_array *column =
        tb_arrow_struct_child(array, import->child, import->children, fault);
    *first = array->offset;
    return column;
}

static tb_status
open_chunk(const tb_import *import, Py_ssize_t i, tb_arrow_chunk *chunk,
           tb_arrow_fault *fault)
{
    const tb_arrow_array *array =
        tb_arrow_in_capsule(PyList_GET_ITEM(import->source->chunks, i));
    ptrdiff_t first, count;

    array = column_of(import, array, &first, &count, fault);
    return array == NULL
               ? TB_ERR_ARROW
               : tb_arrow_read_chunk(&import->kind, array, first, count, chunk, fault);
}

/* The values of a chunk where they lie; a copy of bits, and of what is misaligned. */
static PyObject *
chunk_values(tb_state *state, const tb_import *import, const tb_arrow_chunk *chunk,
             PyObject *owner)
{
    npy_intp dims[TB_ARROW_MAX_TRAILING + 1] = {chunk->size};
    int ndim = 1 + import->kind.ndim;
    tb_dtype dtype = {import->kind.type, tb_type_size(import->kind.type), NULL};
    PyArray_Descr *descr = tb_dtype_descr(state, &dtype);
    PyArrayObject *array;

    for (int d = 1; d < ndim; d++) {
        dims[d] = import->kind.trailing[d - 1];
    }
    if (descr == NULL) {
        return NULL;
    }
    if (import->kind.type == TB_BOOL || chunk->values == NULL) {
        array = (PyArrayObject *)PyArray_SimpleNewFromDescr(ndim, dims, descr);
        if (array != NULL && PyArray_SIZE(array) > 0) {
            tb_arrow_unpack_bits(chunk->values, chunk->first_bit, PyArray_SIZE(array),
                                 (unsigned char *)PyArray_DATA(array));
        }
        return (PyObject *)array;
    }
    array = (PyArrayObject *)PyArray_NewFromDescr(
        &PyArray_Type, descr, ndim, dims, NULL, (void *)(uintptr_t)chunk->values,
        NPY_ARRAY_C_CONTIGUOUS, NULL);
    if (array != NULL && PyArray_SetBaseObject(array, Py_NewRef(owner)) < 0) {
        Py_CLEAR(array);
    }
    if (array != NULL) {
        PyArray_UpdateFlags(array, NPY_ARRAY_ALIGNED);
        if (!PyArray_ISALIGNED(array)) {
            Py_SETREF(array, (PyArrayObject *)PyArray_NewCopy(array, NPY_CORDER));
        }
    }
    return (PyObject *)array;
}

/* Strings that lie anywhere, brought together: the values, and where the rows are. */
static PyObject *
gather_strings(const tb_import *import, const tb_arrow_chunk *chunk)
{
    npy_intp size = chunk->size;
    PyArrayObject *array = (PyArrayObject *)PyArray_SimpleNew(1, &size, NPY_UINT8);

    if (array != NULL) {
        tb_arrow_copy_views(chunk, import->positions,
                            (int64_t *)PyArray_DATA(import->starts) + import->rows,
                            (int64_t *)PyArray_DATA(import->lengths) + import->rows,
                            PyArray_BYTES(array));
    }
    return (PyObject *)array;
}

static PyArrayObject *
new_marks(ptrdiff_t count)
{
    npy_intp dims = count;
    return (PyArrayObject *)PyArray_ZEROS(1, &dims, NPY_BOOL, 0);
}

/* Which elements of a chunk are null: bool [elements]; None where none is. */
static PyObject *
chunk_nulls(const tb_import *import, const tb_arrow_chunk *chunk)
{
    PyArrayObject *marks = NULL;

    for (int d = 0; d < chunk->depths; d++) {
        if (!tb_arrow_has_null(&chunk->elements[d])) {
            continue;
        }
        if (marks == NULL) {
            marks = new_marks(chunk->size * import->kind.positions);
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

/* Which rows are null, into `missing`, which is made when the first is. */
static int
note_missing(tb_import *import, const tb_arrow_chunk *chunk, ptrdiff_t rows)
{
    if (!tb_arrow_has_null(&chunk->rows)) {
        return 0;
    }
    if (import->missing == NULL) {
        import->missing = new_marks(rows);
    }
    if (import->missing == NULL) {
        return -1;
    }
    tb_arrow_mark_nulls(&chunk->rows,
                        (unsigned char *)PyArray_DATA(import->missing) + import->rows);
    return 0;
}

static int
read_chunk(tb_state *state, tb_import *import, Py_ssize_t i, ptrdiff_t rows)
{
    tb_arrow_chunk chunk;
    tb_arrow_fault fault;

    if (open_chunk(import, i, &chunk, &fault) != TB_OK) {
        return raise_fault(import, &fault);
    }
    int strings = import->kind.form == TB_ARROW_STRINGS;
    if (import->kind.form != TB_ARROW_FLAT && !strings &&
        tb_arrow_locate_rows(&import->kind, &chunk, import->positions,
                             (int64_t *)PyArray_DATA(import->starts) + import->rows,
                             (int64_t *)PyArray_DATA(import->lengths) + import->rows,
                             &fault) != TB_OK) {
        return raise_fault(import, &fault);
    }
    PyObject *owner = PyList_GET_ITEM(import->source->chunks, i);
    if (note_missing(import, &chunk, rows) < 0 ||
        append_new(import->chunks,
                   strings ? gather_strings(import, &chunk)
                           : chunk_values(state, import, &chunk, owner)) < 0 ||
        append_new(import->nulls, chunk_nulls(import, &chunk)) < 0) {
        return -1;
    }
    import->rows += chunk.count;
    import->positions += chunk.size;
    return 0;
}

/* How many rows the chunks have together; each chunk is looked at once more later. */
static int
count_rows(const tb_import *import, ptrdiff_t *rows)
{
    *rows = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(import->source->chunks); i++) {
        tb_arrow_chunk chunk;
        tb_arrow_fault fault;
        if (open_chunk(import, i, &chunk, &fault) != TB_OK) {
            return raise_fault(import, &fault);
        }
        if (chunk.count > PTRDIFF_MAX / 16 - *rows) {
            PyErr_NoMemory();
            return -1;
        }
        *rows += chunk.count;
    }
    return 0;
}

/* (form, chunks, starts, lengths, missing, nulls); form "rows", "text" or "flat". */
static PyObject *
import_column(tb_state *state, tb_import *import)
{
    PyObject *answer = NULL, *none = Py_None;
    ptrdiff_t rows;
    int flat = import->kind.form == TB_ARROW_FLAT;

    import->chunks = PyList_New(0);
    import->nulls = PyList_New(0);
    if (import->chunks == NULL || import->nulls == NULL ||
        count_rows(import, &rows) < 0) {
        goto done;
    }
    if (!flat) {
        npy_intp dims = rows;
        import->starts = (PyArrayObject *)PyArray_SimpleNew(1, &dims, NPY_INT64);
        import->lengths = (PyArrayObject *)PyArray_SimpleNew(1, &dims, NPY_INT64);
        if (import->starts == NULL || import->lengths == NULL) {
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(import->source->chunks); i++) {
        if (read_chunk(state, import, i, rows) < 0) {
            goto done;
        }
    }
    if (PyList_GET_SIZE(import->chunks) ==
        0) { /* a stream of nothing has a type still */
        static const tb_arrow_chunk nothing;
        if (append_new(import->chunks, chunk_values(state, import, &nothing, Py_None)) <
                0 ||
            append_new(import->nulls, Py_NewRef(Py_None)) < 0) {
            goto done;
        }
    }
    answer = Py_BuildValue(
        "(sOOOOO)", flat ? "flat" : (import->kind.is_text ? "text" : "rows"),
        import->chunks, flat ? none : (PyObject *)import->starts,
        flat ? none : (PyObject *)import->lengths,
        import->missing == NULL ? none : (PyObject *)import->missing, import->nulls);
done:
    Py_XDECREF(import->chunks);
    Py_XDECREF(import->nulls);
    Py_XDECREF((PyObject *)import->starts);
    Py_XDECREF((PyObject *)import->lengths);
    Py_XDECREF((PyObject *)import->missing);
    return answer;
}

/* --- all columns ------------------------------------------------------------------ */

/* (name, column); for a column of a type that is none of ours (name, reason). */
static PyObject *
import_named(tb_state *state, const tb_context *context, const tb_arrow_source *source,
             const tb_arrow_schema *schema, ptrdiff_t child, ptrdiff_t children,
             PyObject *name)
{
    tb_context named = *context;
    tb_import import = {
        .context = &named, .source = source, .child = child, .children = children};
    tb_arrow_fault fault;

    named.key = name == Py_None ? NULL : name;
    PyObject *column = tb_arrow_read_schema(schema, &import.kind, &fault) == TB_OK
                           ? import_column(state, &import)
                           : PyUnicode_FromString(fault.reason);
    return column == NULL ? NULL : Py_BuildValue("(ON)", name, column);
}

static PyObject *
import_children(tb_state *state, const tb_context *context,
                const tb_arrow_source *source, PyObject *wanted)
{
    const tb_arrow_schema *schema = source->schema;
    PyObject *answer = PyList_New(0);

    if (schema->n_children < 0 ||
        (schema->n_children > 0 && schema->children == NULL)) {
        tb_raise_at(context, PyExc_ValueError, -1, -1, "the Arrow schema is malformed");
        Py_CLEAR(answer);
    }
    for (int64_t i = 0; answer != NULL && i < schema->n_children; i++) {
        const tb_arrow_schema *child = schema->children[i];
        const char *text = child == NULL || child->name == NULL ? "" : child->name;
        PyObject *name =
            PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
        int is_wanted = name == NULL        ? -1
                        : wanted == Py_None ? 1
                                            : PySequence_Contains(wanted, name);
        if (is_wanted < 0 ||
            (is_wanted &&
             append_new(answer, import_named(state, context, source, child, i,
                                             schema->n_children, name)) < 0)) {
            Py_CLEAR(answer);
        }
        Py_XDECREF(name);
    }
    return answer;
}

/* read_arrow(function, source, wanted) -> [(name, column), ...]
 *
 * `wanted` names the columns of a table to read, None: all. What is no table has one
 * column, of name None. */
static PyObject *
wrap_read_arrow(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {0};
    tb_arrow_source source;
    PyObject *answer = NULL;

    if (tb_check_count("read_arrow", nargs, 3) < 0) {
        return NULL;
    }
    context.function = PyUnicode_AsUTF8(args[0]);
    if (context.function == NULL) {
        return NULL;
    }
    if (tb_take_arrow(&context, args[1], &source) == 0) {
        const tb_arrow_schema *schema = source.schema;
        if (schema->release == NULL || schema->format == NULL) {
            tb_raise_at(&context, PyExc_ValueError, -1, -1,
                        "the Arrow schema is malformed");
        }
        else if (strcmp(schema->format, "+s") == 0) {
            answer = import_children(state, &context, &source, args[2]);
        }
        else {
            answer = PyList_New(0);
            if (answer != NULL &&
                append_new(answer, import_named(state, &context, &source, schema, -1, 0,
                                                Py_None)) < 0) {
                Py_CLEAR(answer);
            }
        }
    }
    tb_drop_arrow(&source);
    return answer;
}

/* export_arrow(format, values, offsets, shape) -> (schema capsule, array capsule) */
static PyObject *
wrap_export_arrow(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *format;
    PyArrayObject *values, *offsets;
    PyArray_Dims shape = {NULL, 0};
    PyObject *answer = NULL;

    if (PyArg_ParseTuple(args, "sO!O!O&", &format, &PyArray_Type, &values,
                         &PyArray_Type, &offsets, PyArray_IntpConverter, &shape)) {
        if (shape.len < 1 || PyArray_NDIM(offsets) != 1 ||
            PyArray_TYPE(offsets) != NPY_INT64 || PyArray_DIM(offsets, 0) < 1 ||
            !PyArray_ISCARRAY_RO(offsets) || !PyArray_ISCARRAY_RO(values)) {
            PyErr_SetString(PyExc_TypeError, "export_arrow(): malformed arrays");
        }
        else {
            answer = tb_export_list(format, values, offsets, shape.len, shape.ptr);
        }
        PyDimMem_FREE(shape.ptr);
    }
    return answer;
}

static PyObject *
wrap_is_arrow(PyObject *Py_UNUSED(module), PyObject *object)
{
    int answer = tb_is_arrow(object);
    return answer < 0 ? NULL : PyBool_FromLong(answer);
}

PyMethodDef tb_arrow_methods[] = {
    {"read_arrow", (PyCFunction)(void (*)(void))wrap_read_arrow, METH_FASTCALL, NULL},
    {"export_arrow", wrap_export_arrow, METH_VARARGS, NULL},
    {"is_arrow", wrap_is_arrow, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
