/* The shares of ranks in context parallelism: zigzag_lengths(), zigzag_places(),
 * zigzag_take() and zigzag_put(). Python has read what the user passed. */
#include "py/base/tb_numpy.h"
#include "py/base/gil.h"
#include "py/input/settings.h"
#include "core/layout/zigzag.h"

#include <string.h>

static const tb_context zigzag_context = {.function = "context_parallel"};
static const tb_context lengths_context = {.function = "context_parallel",
                                           .argument = "lengths"};

static int
refuse(const char *what)
{
    PyErr_Format(PyExc_TypeError, "context_parallel(): expected %s", what);
    return -1;
}

/* An array of this package's making: of plain memory. */
static int
check_array(PyObject *object, int type)
{
    return PyArray_Check(object) && PyArray_ISCARRAY_RO((PyArrayObject *)object) &&
                   (type < 0 || PyArray_TYPE((PyArrayObject *)object) == type)
               ? 0
               : refuse("an array of plain memory");
}

/* Reads (lengths, ranks) and plans. */
static int
read_plan(PyObject *const *args, tb_zigzag *plan)
{
    tb_error error = {-1, -1, 0};

    if (check_array(args[0], NPY_INT64) < 0 ||
        tb_read_size(&zigzag_context, "num_ranks", args[1], 1, TB_REQUIRED,
                     &plan->ranks) < 0) {
        return -1;
    }
    plan->lengths = (const int64_t *)PyArray_DATA((PyArrayObject *)args[0]);
    plan->count = PyArray_SIZE((PyArrayObject *)args[0]);
    tb_status status = tb_plan_zigzag(plan, &error);
    if (status == TB_ERR_NEGATIVE) {
        return tb_raise_at(&lengths_context, PyExc_ValueError, error.row, -1,
                           "length %lld is negative", (long long)error.value);
    }
    if (status != TB_OK && error.row < 0) {
        return tb_raise_at(&zigzag_context, PyExc_OverflowError, -1, -1,
                           "num_ranks=%zd are more than chunks can be counted for",
                           plan->ranks);
    }
    return status == TB_OK
               ? 0
               : tb_raise_at(&lengths_context, PyExc_OverflowError, error.row, -1,
                             "with length %lld, padded to a multiple of 2 * %zd ranks, "
                             "the sum is more than int64 can hold",
                             (long long)error.value, plan->ranks);
}

/* zigzag_lengths(lengths, num_ranks) -> the lengths with padding, int64 */
static PyObject *
wrap_zigzag_lengths(PyObject *Py_UNUSED(module), PyObject *const *args,
                    Py_ssize_t nargs)
{
    tb_zigzag plan = {0};
    npy_intp count;

    if (tb_check_count("zigzag_lengths", nargs, 2) < 0 || read_plan(args, &plan) < 0) {
        return NULL;
    }
    count = plan.count;
    PyObject *padded = PyArray_SimpleNew(1, &count, NPY_INT64);
    if (padded != NULL) {
        tb_pad_zigzag(&plan, (int64_t *)PyArray_DATA((PyArrayObject *)padded));
    }
    return padded;
}

/* zigzag_places(lengths, num_ranks, rank, in_segment) -> the place of each of the rank's
 * tokens among all padded tokens, or in its segment, int64 */
static PyObject *
wrap_zigzag_places(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_zigzag plan = {0};
    Py_ssize_t rank;
    int in_segment;

    if (tb_check_count("zigzag_places", nargs, 4) < 0 || read_plan(args, &plan) < 0 ||
        tb_read_index(&zigzag_context, "rank", args[2], plan.ranks, &rank) < 0 ||
        tb_read_flag(&zigzag_context, "in_segment", args[3], &in_segment) < 0) {
        return NULL;
    }
    npy_intp size = plan.padded_total / plan.ranks;
    PyObject *places = PyArray_SimpleNew(1, &size, NPY_INT64);
    if (places != NULL) {
        int64_t *out = (int64_t *)PyArray_DATA((PyArrayObject *)places);
        PyThreadState *thread = tb_release_gil(size * 8);
        (in_segment ? tb_position_zigzag : tb_index_zigzag)(&plan, rank, out);
        tb_restore_gil(thread);
    }
    return places;
}

/* An array like `like`, but for its number of items. */
static PyArrayObject *
new_items(PyArrayObject *like, npy_intp count)
{
    npy_intp dims[NPY_MAXDIMS];
    PyArray_Descr *descr = PyArray_DESCR(like);

    memcpy(dims, PyArray_DIMS(like), (size_t)PyArray_NDIM(like) * sizeof *dims);
    dims[0] = count;
    Py_INCREF(descr);
    return (PyArrayObject *)PyArray_SimpleNewFromDescr(PyArray_NDIM(like), dims, descr);
}

/* The bytes of one item along the first dimension. */
static npy_intp
measure_item(PyArrayObject *array)
{
    npy_intp size = PyArray_ITEMSIZE(array);

    for (int d = 1; d < PyArray_NDIM(array); d++) {
        size *= PyArray_DIM(array, d);
    }
    return size;
}

static int
check_items(PyObject *object, npy_intp count)
{
    if (check_array(object, -1) < 0) {
        return -1;
    }
    PyArrayObject *array = (PyArrayObject *)object;
    return PyArray_NDIM(array) > 0 && PyArray_DIM(array, 0) == count &&
                   !PyDataType_REFCHK(PyArray_DESCR(array))
               ? 0
               : refuse("as many items as tokens");
}

/* zigzag_take(lengths, num_ranks, rank, is_padded, values, fill, shift) -> the rank's
 * share of values; fill is an array of one item */
static PyObject *
wrap_zigzag_take(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_zigzag plan = {0};
    Py_ssize_t rank;
    int shift;

    if (tb_check_count("zigzag_take", nargs, 7) < 0 ||
        tb_read_flag(&zigzag_context, "is_padded", args[3], &plan.is_padded) < 0 ||
        tb_read_flag(&zigzag_context, "shift", args[6], &shift) < 0 ||
        read_plan(args, &plan) < 0 ||
        tb_read_index(&zigzag_context, "rank", args[2], plan.ranks, &rank) < 0 ||
        check_items(args[4], plan.total) < 0 || check_items(args[5], 1) < 0) {
        return NULL;
    }
    PyArrayObject *values = (PyArrayObject *)args[4], *fill = (PyArrayObject *)args[5];
    if (measure_item(fill) != measure_item(values)) {
        refuse("a fill of one item");
        return NULL;
    }
    PyArrayObject *share = new_items(values, plan.padded_total / plan.ranks);
    if (share != NULL) {
        PyThreadState *thread = tb_release_gil(PyArray_NBYTES(share));
        tb_take_zigzag(&plan, rank, PyArray_DATA(values), measure_item(values), shift,
                       PyArray_DATA(fill), PyArray_DATA(share));
        tb_restore_gil(thread);
    }
    return (PyObject *)share;
}

/* zigzag_put(lengths, num_ranks, is_padded, shares) -> the values that a tuple of all
 * shares are of */
static PyObject *
wrap_zigzag_put(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_zigzag plan = {0};

    if (tb_check_count("zigzag_put", nargs, 4) < 0 ||
        tb_read_flag(&zigzag_context, "is_padded", args[2], &plan.is_padded) < 0 ||
        read_plan(args, &plan) < 0) {
        return NULL;
    }
    if (!PyTuple_Check(args[3]) || PyTuple_GET_SIZE(args[3]) != plan.ranks) {
        refuse("a tuple with a share of each rank");
        return NULL;
    }
    PyArrayObject *first = (PyArrayObject *)PyTuple_GET_ITEM(args[3], 0);
    for (ptrdiff_t rank = 0; rank < plan.ranks; rank++) {
        PyObject *share = PyTuple_GET_ITEM(args[3], rank);
        if (check_items(share, plan.padded_total / plan.ranks) < 0) {
            return NULL;
        }
        if (measure_item((PyArrayObject *)share) != measure_item(first)) {
            refuse("shares of one type");
            return NULL;
        }
    }
    PyArrayObject *values = new_items(first, plan.total);
    if (values == NULL) {
        return NULL;
    }
    PyThreadState *thread = tb_release_gil(PyArray_NBYTES(values));
    for (ptrdiff_t rank = 0; rank < plan.ranks; rank++) {
        PyArrayObject *share = (PyArrayObject *)PyTuple_GET_ITEM(args[3], rank);
        tb_put_zigzag(&plan, rank, PyArray_DATA(share), measure_item(first),
                      PyArray_DATA(values));
    }
    tb_restore_gil(thread);
    return (PyObject *)values;
}

PyMethodDef tb_zigzag_methods[] = {
    {"zigzag_lengths", (PyCFunction)(void (*)(void))wrap_zigzag_lengths, METH_FASTCALL,
     NULL},
    {"zigzag_places", (PyCFunction)(void (*)(void))wrap_zigzag_places, METH_FASTCALL,
     NULL},
    {"zigzag_take", (PyCFunction)(void (*)(void))wrap_zigzag_take, METH_FASTCALL, NULL},
    {"zigzag_put", (PyCFunction)(void (*)(void))wrap_zigzag_put, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
