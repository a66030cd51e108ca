#include "py/input/ragged.h"

#include "py/input/array.h"

#include <string.h>

typedef struct {
    PyObject_HEAD tb_ragged buffers;
} ragged_object;

/* --- the buffers ------------------------------------------------------------------ */

void
tb_clear_ragged(tb_ragged *buffers)
{
    Py_CLEAR(buffers->chunks);
    Py_CLEAR(buffers->bounds);
    Py_CLEAR(buffers->starts);
    Py_CLEAR(buffers->lengths);
}

int
tb_count_bounds(tb_ragged *buffers)
{
    npy_intp size = PyTuple_GET_SIZE(buffers->chunks) + 1;
    PyArrayObject *bounds = (PyArrayObject *)PyArray_SimpleNew(1, &size, NPY_INT64);

    if (bounds == NULL) {
        return -1;
    }
    int64_t *bound = (int64_t *)PyArray_DATA(bounds);
    bound[0] = 0;
    for (npy_intp k = 0; k + 1 < size; k++) {
        PyObject *chunk = PyTuple_GET_ITEM(buffers->chunks, k);
        npy_intp positions = PyArray_DIM((PyArrayObject *)chunk, 0);
        if (positions > PTRDIFF_MAX - bound[k]) {
            PyErr_SetString(
                PyExc_OverflowError,
                "Ragged(): the chunks have more positions than int64 can count");
            Py_DECREF(bounds);
            return -1;
        }
        bound[k + 1] = bound[k] + positions;
    }
    Py_XSETREF(buffers->bounds, bounds);
    return 0;
}

/* Whether the chunk has the type and the trailing shape of `first`. */
static int
is_like(PyArrayObject *chunk, PyArrayObject *first)
{
    return PyArray_ISCARRAY_RO(chunk) && PyArray_NDIM(chunk) == PyArray_NDIM(first) &&
           PyArray_DESCR(chunk)->type_num == PyArray_DESCR(first)->type_num &&
           PyArray_ITEMSIZE(chunk) == PyArray_ITEMSIZE(first) &&
           PyArray_CompareLists(PyArray_DIMS(chunk) + 1, PyArray_DIMS(first) + 1,
                                PyArray_NDIM(first) - 1);
}

static int
check_chunks(PyObject *chunks)
{
    Py_ssize_t count = PyTuple_GET_SIZE(chunks);
    PyObject *first = count == 0 ? NULL : PyTuple_GET_ITEM(chunks, 0);
    int right = first != NULL && PyArray_Check(first) &&
                PyArray_NDIM((PyArrayObject *)first) > 0;

    for (Py_ssize_t k = 0; right && k < count; k++) {
        PyObject *chunk = PyTuple_GET_ITEM(chunks, k);
        right = PyArray_Check(chunk) &&
                is_like((PyArrayObject *)chunk, (PyArrayObject *)first);
    }
    if (!right) {
        PyErr_SetString(
            PyExc_TypeError,
            "RaggedBuffers(): expected a tuple of C-contiguous arrays of one "
            "dtype and one trailing shape");
    }
    return right ? 0 : -1;
}

static int
is_int64_row(PyArrayObject *array)
{
    return PyArray_TYPE(array) == NPY_INT64 && PyArray_NDIM(array) == 1 &&
           PyArray_ISCARRAY_RO(array);
}

/* The array itself if it is read-only, else a read-only view: rows were checked with
 * these numbers. A new reference. */
static PyArrayObject *
freeze(PyArrayObject *array)
{
    if (!PyArray_ISWRITEABLE(array)) {
        return (PyArrayObject *)Py_NewRef((PyObject *)array);
    }
    PyArrayObject *view = (PyArrayObject *)PyArray_View(array, NULL, &PyArray_Type);
    if (view != NULL) {
        PyArray_CLEARFLAGS(view, NPY_ARRAY_WRITEABLE);
    }
    return view;
}

/* --- the class -------------------------------------------------------------------- */

int
tb_is_ragged(const tb_state *state, PyObject *object)
{
    return PyObject_TypeCheck(object, state->ragged);
}

const tb_ragged *
tb_open_ragged(PyObject *object)
{
    const tb_ragged *buffers = &((ragged_object *)object)->buffers;

    if (buffers->chunks == NULL) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "Ragged: found no arrays; expected that Ragged.__init__() was called");
        return NULL;
    }
    if (PyArray_DIM(buffers->bounds, 0) != PyTuple_GET_SIZE(buffers->chunks) + 1 ||
        PyArray_DIM(buffers->starts, 0) != PyArray_DIM(buffers->lengths, 0)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Ragged: its starts or lengths were resized; expected arrays "
                        "that keep their size");
        return NULL;
    }
    return buffers;
}

/* An object of the class around `buffers`, which it takes over. */
static PyObject *
wrap_buffers(PyTypeObject *type, tb_ragged *buffers)
{
    ragged_object *self = (ragged_object *)type->tp_alloc(type, 0);

    if (self == NULL) {
        tb_clear_ragged(buffers);
        return NULL;
    }
    self->buffers = *buffers;
    memset(buffers, 0, sizeof *buffers);
    return (PyObject *)self;
}

PyObject *
tb_new_ragged(const tb_state *state, PyObject *type, tb_ragged *buffers)
{
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, state->ragged)) {
        PyErr_SetString(PyExc_TypeError, "expected a class derived from RaggedBuffers");
        tb_clear_ragged(buffers);
        return NULL;
    }
    if (buffers->bounds == NULL && tb_count_bounds(buffers) < 0) {
        tb_clear_ragged(buffers);
        return NULL;
    }
    PyArray_CLEARFLAGS(buffers->starts, NPY_ARRAY_WRITEABLE);
    PyArray_CLEARFLAGS(buffers->lengths, NPY_ARRAY_WRITEABLE);
    return wrap_buffers((PyTypeObject *)type, buffers);
}

/* Puts the two arrays that say where rows lie into `buffers`, read-only. */
static int
take_rows(PyArrayObject *starts, PyArrayObject *lengths, tb_ragged *buffers)
{
    if (!is_int64_row(starts) || !is_int64_row(lengths) ||
        PyArray_DIM(starts, 0) != PyArray_DIM(lengths, 0)) {
        PyErr_SetString(PyExc_TypeError,
                        "RaggedBuffers(): expected starts and lengths "
                        "as int64 arrays of one dimension");
        return -1;
    }
    buffers->starts = freeze(starts);
    buffers->lengths = freeze(lengths);
    return buffers->starts == NULL || buffers->lengths == NULL ? -1 : 0;
}

static int
init_ragged(PyObject *self, PyObject *args, PyObject *kwargs)
{
    tb_ragged buffers = {NULL, NULL, NULL, NULL};
    PyObject *chunks;
    PyArrayObject *starts, *lengths;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "RaggedBuffers() takes positions only");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "O!O!O!:RaggedBuffers", &PyTuple_Type, &chunks,
                          &PyArray_Type, &starts, &PyArray_Type, &lengths) ||
        check_chunks(chunks) < 0) {
        return -1;
    }
    buffers.chunks = Py_NewRef(chunks);
    if (tb_count_bounds(&buffers) < 0 || take_rows(starts, lengths, &buffers) < 0) {
        tb_clear_ragged(&buffers);
        return -1;
    }
    /* For good: other threads may read what an object holds. */
    int is_filled;
    TB_BEGIN_CRITICAL_SECTION(self);
    is_filled = ((ragged_object *)self)->buffers.chunks != NULL;
    if (!is_filled) {
        ((ragged_object *)self)->buffers = buffers;
    }
    TB_END_CRITICAL_SECTION();
    if (is_filled) {
        tb_clear_ragged(&buffers);
        PyErr_SetString(PyExc_RuntimeError,
                        "Ragged.__init__(): the object has its arrays; expected a new "
                        "one, as Ragged() makes it");
        return -1;
    }
    return 0;
}

static void
free_ragged(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    tb_clear_ragged(&((ragged_object *)self)->buffers);
    type->tp_free(self);
    Py_DECREF(type);
}

/* One of the buffers, by its number in tb_ragged. */
static PyObject *
get_buffer(PyObject *self, void *number)
{
    const tb_ragged *buffers = tb_open_ragged(self);

    if (buffers == NULL) {
        return NULL;
    }
    PyObject *all[] = {buffers->chunks, (PyObject *)buffers->bounds,
                       (PyObject *)buffers->starts, (PyObject *)buffers->lengths};
    return Py_NewRef(all[(uintptr_t)number]);
}

/* Other rows of the same chunks, as this class, with the starts and lengths given. */
static PyObject *
with_rows(PyObject *self, PyObject *args)
{
    const tb_ragged *own = tb_open_ragged(self);
    tb_ragged buffers = {NULL, NULL, NULL, NULL};
    PyArrayObject *starts, *lengths;

    if (own == NULL || !PyArg_ParseTuple(args, "O!O!:with_rows", &PyArray_Type, &starts,
                                         &PyArray_Type, &lengths)) {
        return NULL;
    }
    buffers.chunks = Py_NewRef(own->chunks);
    buffers.bounds = (PyArrayObject *)Py_NewRef((PyObject *)own->bounds);
    if (take_rows(starts, lengths, &buffers) < 0) {
        tb_clear_ragged(&buffers);
        return NULL;
    }
    return wrap_buffers(Py_TYPE(self), &buffers);
}

/* elements[index] for each index, read-only; IndexError for one that is outside. */
static PyArrayObject *
choose(PyArrayObject *elements, PyArrayObject *indices)
{
    npy_intp count = PyArray_DIM(indices, 0), all = PyArray_DIM(elements, 0);
    PyArrayObject *chosen = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);

    if (chosen == NULL) {
        return NULL;
    }
    const int64_t *from = (const int64_t *)PyArray_DATA(elements);
    const int64_t *index = (const int64_t *)PyArray_DATA(indices);
    int64_t *to = (int64_t *)PyArray_DATA(chosen);
    for (npy_intp i = 0; i < count; i++) {
        if (index[i] < 0 || index[i] >= all) {
            PyErr_Format(PyExc_IndexError, "Ragged: index %lld is outside %zd rows",
                         (long long)index[i], (Py_ssize_t)all);
            Py_DECREF(chosen);
            return NULL;
        }
        to[i] = from[index[i]];
    }
    PyArray_CLEARFLAGS(chosen, NPY_ARRAY_WRITEABLE);
    return chosen;
}

/* The rows of an int64 array of indices from 0 on, as this class. */
static PyObject *
take(PyObject *self, PyObject *indices)
{
    const tb_ragged *own = tb_open_ragged(self);
    tb_ragged buffers = {NULL, NULL, NULL, NULL};

    if (own == NULL) {
        return NULL;
    }
    if (!PyArray_Check(indices) || !is_int64_row((PyArrayObject *)indices)) {
        PyErr_SetString(PyExc_TypeError,
                        "take(): expected an int64 array of one dimension");
        return NULL;
    }
    buffers.chunks = Py_NewRef(own->chunks);
    buffers.bounds = (PyArrayObject *)Py_NewRef((PyObject *)own->bounds);
    buffers.starts = choose(own->starts, (PyArrayObject *)indices);
    buffers.lengths =
        buffers.starts == NULL ? NULL : choose(own->lengths, (PyArrayObject *)indices);
    if (buffers.lengths == NULL) {
        tb_clear_ragged(&buffers);
        return NULL;
    }
    return wrap_buffers(Py_TYPE(self), &buffers);
}

static PyMethodDef methods[] = {
    {"_take", take, METH_O, NULL},
    {"_with_rows", with_rows, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef parts_of_ragged[] = {
    {"_chunks", get_buffer, NULL, "The buffers that hold the rows, a tuple of arrays.",
     (void *)0},
    {"_bounds", get_buffer, NULL,
     "Where each of the chunks begins, in positions, and where the last one ends.",
     (void *)1},
    {"starts", get_buffer, NULL,
     "Where each row starts in :attr:`values`, int64 of shape (rows,), read-only.",
     (void *)2},
    {"lengths", get_buffer, NULL,
     "Positions of each row, int64 of shape (rows,), read-only.", (void *)3},
    {NULL, NULL, NULL, NULL, NULL},
};

int
tb_add_ragged_type(PyObject *module)
{
    PyType_Slot slots[] = {
        {Py_tp_doc,
         "RaggedBuffers(chunks, starts, lengths, /)\n--\n\n"
         "The arrays that a Ragged is made of."},
        {Py_tp_new, (void *)(uintptr_t)PyType_GenericNew},
        {Py_tp_init, (void *)(uintptr_t)init_ragged},
        {Py_tp_dealloc, (void *)(uintptr_t)free_ragged},
        {Py_tp_methods, methods},
        {Py_tp_getset, parts_of_ragged},
        {0, NULL},
    };
    PyType_Spec spec = {.name = "tightbatch._core.RaggedBuffers",
                        .basicsize = sizeof(ragged_object),
                        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                        .slots = slots};
    PyObject *type = PyType_FromSpec(&spec);

    if (type == NULL) {
        return -1;
    }
    tb_state_of(module)->ragged = (PyTypeObject *)type;
    return PyModule_AddObjectRef(module, "RaggedBuffers", type);
}

/* --- its rows --------------------------------------------------------------------- */

/* The chunk that position `start` lies in, by a binary search without branches: with
 * random rows the processor would mispredict them. */
static ptrdiff_t
find_chunk(const int64_t *bounds, ptrdiff_t chunks, int64_t start)
{
    ptrdiff_t low = 0;

    while (chunks > 1) {
        ptrdiff_t half = chunks / 2;
        low += bounds[low + half] <= start ? half : 0;
        chunks -= half;
    }
    return low;
}

/* The data of a chunk, if it still has the type and shape of the first one and the
 * length in bounds; it may have been resized. */
static const char *
chunk_data(const tb_ragged *buffers, const tb_view *first, ptrdiff_t k)
{
    PyArrayObject *chunk = (PyArrayObject *)PyTuple_GET_ITEM(buffers->chunks, k);
    const int64_t *bounds = (const int64_t *)PyArray_DATA(buffers->bounds);

    if (!PyArray_ISCARRAY_RO(chunk) || PyArray_NDIM(chunk) != first->ndim ||
        PyArray_ITEMSIZE(chunk) != first->dtype.item_size ||
        PyArray_DIM(chunk, 0) != bounds[k + 1] - bounds[k] ||
        !PyArray_CompareLists(PyArray_DIMS(chunk) + 1, first->shape + 1,
                              first->ndim - 1)) {
        return NULL;
    }
    return PyArray_BYTES(chunk);
}

static int
place_rows(tb_column *column, const tb_ragged *buffers, const tb_view *first)
{
    const int64_t *bounds = (const int64_t *)PyArray_DATA(buffers->bounds);
    const int64_t *starts = (const int64_t *)PyArray_DATA(buffers->starts);
    const int64_t *lengths = (const int64_t *)PyArray_DATA(buffers->lengths);
    ptrdiff_t chunks = PyTuple_GET_SIZE(buffers->chunks), k = 0;
    ptrdiff_t position = first->dtype.item_size;
    const char *data = chunk_data(buffers, first, 0);

    for (int d = 1; d < first->ndim; d++) {
        position *= first->shape[d];
    }
    memset(column->types, (int)first->dtype.type, (size_t)column->count);
    for (ptrdiff_t i = 0; i < column->count; i++) {
        int64_t start = starts[i], length = lengths[i];
        column->lengths[i] = length;
        column->data[i] = NULL;
        if (length == 0) {
            continue;
        }
        if (start < bounds[k] || start >= bounds[k + 1]) {
            k = find_chunk(bounds, chunks, start);
            data = chunk_data(buffers, first, k);
        }
        if (data == NULL || start < bounds[k] || length < 0 ||
            length > bounds[k + 1] - start) {
            return tb_raise_at(
                &column->context, PyExc_RuntimeError, i, -1,
                "lies outside the values of its Ragged: they were resized");
        }
        column->data[i] = data + (start - bounds[k]) * position;
        column->sources[i] = PyTuple_GET_ITEM(buffers->chunks, k);
        if (column->array_row < 0) {
            column->array_row = i;
        }
    }
    column->array_row =
        column->array_row < 0 && column->count > 0 ? 0 : column->array_row;
    return 0;
}

int
tb_survey_ragged(tb_state *state, const tb_ragged *buffers, tb_column *column)
{
    PyArrayObject *chunk = (PyArrayObject *)PyTuple_GET_ITEM(buffers->chunks, 0);
    tb_view first;

    if (tb_view_array(state, &column->context, -1, chunk, &first) < 0) {
        return -1;
    }
    Py_XDECREF(first.owner); /* a chunk is C-contiguous: chunk_data() looks again */
    column->numpy_only = first.dtype.descr;
    if (first.ndim < 1 || first.ndim > TB_MAX_TRAILING + 1) {
        return tb_raise_at(&column->context, PyExc_ValueError, -1, -1,
                           "found rows of %d dimensions, expected at most %d",
                           first.ndim, (int)TB_MAX_TRAILING + 1);
    }
    column->whole = first.dtype;
    column->ndim = first.ndim - 1;
    memcpy(column->trailing, first.shape + 1,
           (size_t)column->ndim * sizeof *column->trailing);
    if (tb_allocate_rows(column, PyArray_DIM(buffers->starts, 0)) < 0 ||
        place_rows(column, buffers, &first) < 0) {
        return -1;
    }
    return tb_note_owner(column, buffers->chunks);
}
