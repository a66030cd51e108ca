#include "py/output/arrow_export.h"

#include "core/arrow/bits.h"
#include "core/arrow/c_data.h"
#include "core/arrow/kind.h"

#include <string.h>

/* --- structs that own what they point to ------------------------------------------- */

/* The private data of an exported struct. A consumer may move a child and release it
 * after its parent, so each struct itself keeps alive what it points to. */
typedef struct {
    char format[32];
    tb_arrow_schema child;
    tb_arrow_schema *children[1];
} schema_owner;

typedef struct {
    PyObject *memory;
    const void *buffers[2];
    tb_arrow_array child;
    tb_arrow_array *children[1];
} array_owner;

static void
release_schema(tb_arrow_schema *schema)
{
    schema_owner *owner = (schema_owner *)schema->private_data;

    if (owner->child.release != NULL) {
        owner->child.release(&owner->child);
    }
    PyMem_RawFree(owner);
    schema->release = NULL;
}

/* May be called by any thread, with or without the GIL. */
static void
release_array(tb_arrow_array *array)
{
    array_owner *owner = (array_owner *)array->private_data;

    if (owner->child.release != NULL) {
        owner->child.release(&owner->child);
    }
    tb_decref_anywhere(owner->memory);
    PyMem_RawFree(owner);
    array->release = NULL;
}

/* Begins one schema; the caller makes its child, if it has one. */
static int
begin_schema(tb_arrow_schema *schema, const char *format, const char *name,
             int has_child, tb_arrow_schema **child)
{
    schema_owner *owner = PyMem_RawCalloc(1, sizeof *owner);

    if (owner == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(schema, 0, sizeof *schema);
    PyOS_snprintf(owner->format, sizeof owner->format, "%s", format);
    owner->children[0] = &owner->child;
    schema->format = owner->format;
    schema->name = name;
    schema->flags = 2; /* ARROW_FLAG_NULLABLE, as other libraries' lists have it */
    schema->n_children = has_child;
    schema->children = has_child ? owner->children : NULL;
    schema->private_data = owner;
    schema->release = release_schema;
    *child = &owner->child;
    return 0;
}

static int
begin_array(tb_arrow_array *array, PyObject *memory, int64_t length, int64_t n_buffers,
            const void *buffer, int has_child, tb_arrow_array **child)
{
    array_owner *owner = PyMem_RawCalloc(1, sizeof *owner);

    if (owner == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(array, 0, sizeof *array);
    owner->memory = Py_NewRef(memory);
    owner->buffers[1] = buffer;
    owner->children[0] = &owner->child;
    array->length = length;
    array->n_buffers = n_buffers;
    array->n_children = has_child;
    array->buffers = owner->buffers;
    array->children = has_child ? owner->children : NULL;
    array->private_data = owner;
    array->release = release_array;
    *child = &owner->child;
    return 0;
}

static void
destroy_schema_capsule(PyObject *capsule)
{
    tb_arrow_schema *schema =
        (tb_arrow_schema *)PyCapsule_GetPointer(capsule, "arrow_schema");
    if (schema->release != NULL) {
        schema->release(schema);
    }
    PyMem_RawFree(schema);
}

static void
destroy_array_capsule(PyObject *capsule)
{
    tb_arrow_array *array =
        (tb_arrow_array *)PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release != NULL) {
        array->release(array);
    }
    PyMem_RawFree(array);
}

static int
build_schema(tb_arrow_schema *schema, const char *format, int ndim,
             const npy_intp *shape)
{
    char fixed[32];

    if (begin_schema(schema, "+L", "", 1, &schema) < 0) {
        return -1;
    }
    for (int d = 1; d < ndim; d++) {
        PyOS_snprintf(fixed, sizeof fixed, "+w:%lld", (long long)shape[d]);
        if (begin_schema(schema, fixed, "item", 1, &schema) < 0) {
            return -1;
        }
    }
    return begin_schema(schema, format, "item", 0, &schema);
}

static int
build_array(tb_arrow_array *array, PyArrayObject *values, PyArrayObject *offsets,
            int ndim, const npy_intp *shape)
{
    npy_intp rows = PyArray_DIM(offsets, 0) - 1, length = shape[0];

    if (begin_array(array, (PyObject *)offsets, rows, 2, PyArray_DATA(offsets), 1,
                    &array) < 0) {
        return -1;
    }
    for (int d = 1; d < ndim; d++) {
        if (begin_array(array, (PyObject *)values, length, 1, NULL, 1, &array) < 0) {
            return -1;
        }
        length *= shape[d];
    }
    return begin_array(array, (PyObject *)values, length, 2, PyArray_DATA(values), 0,
                       &array);
}

/* (schema capsule, array capsule): `offsets` is int64 [rows + 1], `values` the buffer of
 * the elements, whose format is `format`; `shape` [positions, *trailing]. */
static PyObject *
export_list(const char *format, PyArrayObject *values, PyArrayObject *offsets, int ndim,
            const npy_intp *shape)
{
    tb_arrow_schema *schema = PyMem_RawCalloc(1, sizeof *schema);
    tb_arrow_array *array = PyMem_RawCalloc(1, sizeof *array);
    PyObject *first = NULL, *second = NULL, *pair = NULL;

    if (schema == NULL || array == NULL) {
        PyErr_NoMemory();
        PyMem_RawFree(schema);
        PyMem_RawFree(array);
        return NULL;
    }
    first = PyCapsule_New(schema, "arrow_schema", destroy_schema_capsule);
    if (first == NULL) {
        PyMem_RawFree(schema);
    }
    second = PyCapsule_New(array, "arrow_array", destroy_array_capsule);
    if (second == NULL) {
        PyMem_RawFree(array);
    }
    /* A struct that is not complete releases what it has. */
    if (first != NULL && second != NULL &&
        build_schema(schema, format, ndim, shape) == 0 &&
        build_array(array, values, offsets, ndim, shape) == 0) {
        pair = PyTuple_Pack(2, first, second);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return pair;
}

/* --- the rows --------------------------------------------------------------------- */

/* Where the rows begin, and where the last one ends; SystemError if they do not lie one
 * after another from the beginning of the chunk. */
static PyArrayObject *
new_offsets(const tb_ragged *rows, npy_intp positions)
{
    npy_intp count = PyArray_DIM(rows->starts, 0), size = count + 1;
    const int64_t *starts = (const int64_t *)PyArray_DATA(rows->starts);
    const int64_t *lengths = (const int64_t *)PyArray_DATA(rows->lengths);
    PyArrayObject *offsets = (PyArrayObject *)PyArray_SimpleNew(1, &size, NPY_INT64);

    if (offsets == NULL) {
        return NULL;
    }
    int64_t *offset = (int64_t *)PyArray_DATA(offsets);
    offset[0] = 0;
    for (npy_intp i = 0; i < count; i++) {
        if (starts[i] != offset[i] || lengths[i] < 0 ||
            lengths[i] > positions - starts[i]) {
            PyErr_SetString(PyExc_SystemError,
                            "export_arrow(): the rows are not compact");
            Py_DECREF(offsets);
            return NULL;
        }
        offset[i + 1] = offset[i] + lengths[i];
    }
    return offsets;
}

/* Bools are packed in a copy. */
static PyArrayObject *
pack_bools(PyArrayObject *values)
{
    npy_intp bytes = (PyArray_SIZE(values) + 7) / 8;
    PyArrayObject *bits = (PyArrayObject *)PyArray_SimpleNew(1, &bytes, NPY_UINT8);

    if (bits != NULL) {
        tb_arrow_pack_bits((const unsigned char *)PyArray_DATA(values),
                           PyArray_SIZE(values), (unsigned char *)PyArray_DATA(bits));
    }
    return bits;
}

PyObject *
tb_export_ragged(tb_state *state, const tb_ragged *rows)
{
    PyArrayObject *values = (PyArrayObject *)PyTuple_GET_ITEM(rows->chunks, 0);
    PyArrayObject *buffer = NULL, *offsets = NULL;
    PyObject *pair = NULL;
    tb_dtype dtype;
    int refused = tb_dtype_from_descr(state, PyArray_DESCR(values), &dtype);

    if (refused < 0) {
        return NULL;
    }
    const char *format = refused ? NULL : tb_arrow_format(dtype.type);
    Py_XDECREF(refused ? NULL : dtype.descr);
    if (format == NULL) {
        PyErr_Format(PyExc_TypeError, "Ragged: Arrow has no type for %S",
                     (PyObject *)PyArray_DESCR(values));
        return NULL;
    }
    offsets = new_offsets(rows, PyArray_DIM(values, 0));
    buffer = dtype.type == TB_BOOL ? pack_bools(values)
                                   : (PyArrayObject *)Py_NewRef((PyObject *)values);
    if (offsets != NULL && buffer != NULL) {
        pair = export_list(format, buffer, offsets, PyArray_NDIM(values),
                           PyArray_DIMS(values));
    }
    Py_XDECREF((PyObject *)offsets);
    Py_XDECREF((PyObject *)buffer);
    return pair;
}
