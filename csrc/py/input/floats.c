#include "py/input/floats.h"

#include "py/input/rows.h"

static int
refuse_type(const tb_context *context, PyObject *found)
{
    return tb_raise_at(context, PyExc_TypeError, -1, -1,
                       "found dtype %S; expected float64, float32, float16 or "
                       "bfloat16: convert it by .astype()",
                       found);
}

static int
take_array(tb_state *state, const tb_context *context, PyArrayObject *array,
           int is_bfloat16, tb_floats *floats)
{
    tb_dtype dtype = {TB_BF16, 2, NULL};
    int masked = tb_is_masked(array);

    if (masked != 0) {
        return masked < 0 ? -1
                          : tb_raise_at(context, PyExc_TypeError, -1, -1,
                                        "found a masked array; expected one without a "
                                        "mask: .filled(value) gives one");
    }
    if (!is_bfloat16) {
        int refused = tb_dtype_from_descr(state, PyArray_DESCR(array), &dtype);
        if (refused < 0) {
            return -1;
        }
        Py_XDECREF(refused == 0 ? dtype.descr : NULL);
        if (refused > 0 || !tb_type_is_float(dtype.type)) {
            return refuse_type(context, (PyObject *)PyArray_DESCR(array));
        }
    }
    floats->type = dtype.type;
    floats->ndim = PyArray_NDIM(array);
    floats->count = PyArray_SIZE(array);
    for (int d = 0; d < floats->ndim; d++) {
        floats->shape[d] = PyArray_DIM(array, d);
    }
    if (PyArray_IS_C_CONTIGUOUS(array) && PyArray_ISNOTSWAPPED(array)) {
        floats->data = PyArray_BYTES(array);
        floats->owner = Py_NewRef((PyObject *)array);
    }
    else if (dtype.type == TB_BF16) {
        /* Its bytes as int16: the iterator may not know ml_dtypes' type. */
        floats->strided = (PyArrayObject *)PyArray_View(
            array, PyArray_DescrFromType(NPY_UINT16), NULL);
    }
    else {
        floats->strided = (PyArrayObject *)Py_NewRef((PyObject *)array);
    }
    return floats->data == NULL && floats->strided == NULL ? -1 : 0;
}

static int
take_view(const tb_context *context, tb_view *view, tb_floats *floats)
{
    if (!tb_type_is_float(view->dtype.type)) {
        int answer = tb_raise_at(context, PyExc_TypeError, -1, -1,
                                 "found dtype %s; expected float64, float32, float16 "
                                 "or bfloat16: convert it by .float()",
                                 tb_dtype_name(&view->dtype));
        Py_CLEAR(view->owner);
        Py_XDECREF((PyObject *)view->dtype.descr);
        return answer;
    }
    floats->type = view->dtype.type;
    floats->ndim = view->ndim;
    floats->count = 1;
    for (int d = 0; d < view->ndim; d++) {
        floats->shape[d] = view->shape[d];
        floats->count *= view->shape[d];
    }
    floats->data = (const char *)view->data;
    floats->owner = view->owner;
    return 0;
}

static int
take_tensor(tb_state *state, const tb_context *context, PyObject *tensor,
            tb_floats *floats)
{
    int is_bfloat16;
    tb_view view;

    if (tb_view_plain_tensor(state, tensor, &view)) {
        return tb_check_storage(context, tensor, &view) < 0
                   ? -1
                   : take_view(context, &view, floats);
    }
    PyArrayObject *array = tb_tensor_array(context, -1, "found", tensor, &is_bfloat16);
    int answer =
        array == NULL ? -1 : take_array(state, context, array, is_bfloat16, floats);
    Py_XDECREF((PyObject *)array);
    return answer;
}

int
tb_read_floats(tb_state *state, const tb_context *context, PyObject *object,
               tb_floats *floats)
{
    tb_view view;

    floats->data = NULL;
    floats->strided = NULL;
    floats->owner = NULL;
    if (PyArray_Check(object)) {
        return take_array(state, context, (PyArrayObject *)object, 0, floats);
    }
    int found = tb_is_tensor(state, object);
    if (found != 0) {
        return found < 0 ? -1 : take_tensor(state, context, object, floats);
    }
    found = tb_view_buffer(state, context, -1, object, &view);
    if (found != 0) {
        return found < 0 ? -1 : take_view(context, &view, floats);
    }
    return tb_raise_at(
        context, PyExc_TypeError, -1, -1,
        "found type %s; expected a NumPy array, a CPU tensor or a buffer",
        Py_TYPE(object)->tp_name);
}

void
tb_clear_floats(tb_floats *floats)
{
    Py_CLEAR(floats->strided);
    Py_CLEAR(floats->owner);
}

/* By NumPy's iterator, which copies swapped and scattered elements into a buffer. */
static int
each_strided_run(const tb_floats *floats, tb_run_function function, void *context)
{
    const npy_uint32 flags = NPY_ITER_READONLY | NPY_ITER_EXTERNAL_LOOP |
                             NPY_ITER_BUFFERED | NPY_ITER_NBO | NPY_ITER_ALIGNED |
                             NPY_ITER_CONTIG;
    PyArray_Descr *native =
        PyArray_DescrNewByteorder(PyArray_DESCR(floats->strided), NPY_NATIVE);
    NpyIter *iterator = native == NULL ? NULL
                                       : NpyIter_New(floats->strided, flags, NPY_CORDER,
                                                     NPY_EQUIV_CASTING, native);
    NpyIter_IterNextFunc *next = NULL;
    npy_intp at = 0;
    int answer = -1;

    Py_XDECREF(native);
    if (iterator == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory(); /* NumPy does not always set it */
    }
    if (iterator != NULL) {
        next = NpyIter_GetIterNext(iterator, NULL);
    }
    if (next != NULL) {
        char **data = NpyIter_GetDataPtrArray(iterator);
        npy_intp *n = NpyIter_GetInnerLoopSizePtr(iterator);
        NPY_BEGIN_THREADS_DEF;
        if (!NpyIter_IterationNeedsAPI(iterator)) {
            NPY_BEGIN_THREADS;
        }
        do {
            answer = function(*data, *n, at, context);
            at += *n;
        } while (answer == 0 && next(iterator));
        NPY_END_THREADS;
    }
    if (iterator != NULL && NpyIter_Deallocate(iterator) != NPY_SUCCEED) {
        return -1;
    }
    return answer;
}

int
tb_each_run(const tb_floats *floats, tb_run_function function, void *context)
{
    int answer;

    if (floats->count == 0) {
        return 0;
    }
    if (floats->data == NULL) {
        return each_strided_run(floats, function, context);
    }
    if (floats->count < TB_WORTH_RELEASING / 4) {
        return function(floats->data, floats->count, 0, context);
    }
    Py_BEGIN_ALLOW_THREADS
    answer = function(floats->data, floats->count, 0, context);
    Py_END_ALLOW_THREADS
    return answer;
}

int
tb_floats_overlap(const tb_floats *floats, const char *begin, const char *end)
{
    const char *low = floats->data, *high = floats->data;

    if (floats->count == 0) {
        return 0;
    }
    if (floats->data != NULL) {
        high += floats->count * tb_type_size(floats->type);
        return low < end && high > begin;
    }
    low = high = PyArray_BYTES(floats->strided);
    for (int d = 0; d < floats->ndim; d++) {
        npy_intp reach = (floats->shape[d] - 1) * PyArray_STRIDE(floats->strided, d);
        low += reach < 0 ? reach : 0;
        high += reach > 0 ? reach : 0;
    }
    return low < end && high + tb_type_size(floats->type) > begin;
}
