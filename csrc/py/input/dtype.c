#include "py/input/dtype.h"

#include <float.h>
#include <string.h>

static const char *const type_names[] = {
    "bool",   "int8",   "int16",   "int32",   "int64",   "uint8",   "uint16",
    "uint32", "uint64", "float32", "float64", "float16", "bfloat16"};

static const int numpy_types[] = {NPY_BOOL,   NPY_INT8,    NPY_INT16,   NPY_INT32,
                                  NPY_INT64,  NPY_UINT8,   NPY_UINT16,  NPY_UINT32,
                                  NPY_UINT64, NPY_FLOAT32, NPY_FLOAT64, NPY_FLOAT16};

static tb_type
integer_of_size(npy_intp size, int is_signed)
{
    int log2 = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
    return (tb_type)((is_signed ? TB_I8 : TB_U8) + log2);
}

/* ml_dtypes.bfloat16 as a dtype, borrowed. NULL without an exception: not installed.
 * With `import` ml_dtypes is imported, otherwise it is used only if already imported.
 */
static PyArray_Descr *
find_bfloat16(tb_state *state, int import)
{
    PyObject *known = (PyObject *)TB_RECALL(state->bfloat16);
    if (known != NULL) {
        return (PyArray_Descr *)known;
    }
    PyObject *name = PyUnicode_FromString("ml_dtypes"), *module = NULL, *type = NULL;
    PyArray_Descr *descr = NULL;
    if (name == NULL) {
        return NULL;
    }
    module = import ? PyImport_Import(name) : PyImport_GetModule(name);
    Py_DECREF(name);
    if (module == NULL) {
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_ImportError)) {
            PyErr_Clear();
        }
        return NULL;
    }
    type = PyObject_GetAttrString(module, "bfloat16");
    if (type != NULL && PyArray_DescrConverter(type, &descr) == NPY_SUCCEED) {
        known = tb_remember_object(module, &state->bfloat16, (PyObject *)descr);
    }
    Py_DECREF(module);
    Py_XDECREF(type);
    return (PyArray_Descr *)known;
}

/* A type that another package registered with NumPy: only its width is used. */
static int
read_user_type(tb_state *state, PyArray_Descr *descr, tb_dtype *out)
{
    npy_intp size = PyDataType_ELSIZE(descr);

    if (size < 1 || size > TB_MAX_ITEM_SIZE || (size & (size - 1)) != 0 ||
        PyDataType_REFCHK(descr) || PyDataType_HASFIELDS(descr)) {
        return 1;
    }
    PyArray_Descr *bfloat16 = find_bfloat16(state, 0);
    if (bfloat16 == NULL && PyErr_Occurred()) {
        return -1;
    }
    out->item_size = (int)size;
    if (bfloat16 != NULL && descr->type_num == bfloat16->type_num) {
        out->type = TB_BF16;
        return 0;
    }
    out->type = TB_NUMPY_ONLY;
    Py_INCREF(descr);
    out->descr = descr;
    return 0;
}

int
tb_dtype_from_descr(tb_state *state, PyArray_Descr *descr, tb_dtype *out)
{
    int num = descr->type_num;

    out->descr = NULL;
    out->item_size = (int)PyDataType_ELSIZE(descr);
    if (PyTypeNum_ISBOOL(num)) {
        out->type = TB_BOOL;
    }
    else if (PyTypeNum_ISINTEGER(num)) {
        out->type = integer_of_size(out->item_size, PyTypeNum_ISSIGNED(num));
    }
    else if (num == NPY_HALF) {
        out->type = TB_F16;
    }
    else if (num == NPY_FLOAT) {
        out->type = TB_F32;
    }
    else if (num == NPY_DOUBLE ||
             (num == NPY_LONGDOUBLE && out->item_size == (int)sizeof(double))) {
        out->type = TB_F64;
    }
    else if (num == NPY_LONGDOUBLE && out->item_size == TB_MAX_ITEM_SIZE) {
        out->type = TB_NUMPY_ONLY;
        out->descr = PyArray_DescrFromType(NPY_LONGDOUBLE);
    }
    else if (PyTypeNum_ISUSERDEF(num)) {
        return read_user_type(state, descr, out);
    }
    else {
        return 1;
    }
    return 0;
}

/* torch.float16 prints as "torch.float16": the name after the dot is NumPy's. */
static PyObject *
strip_torch(PyObject *object)
{
    if (strcmp(Py_TYPE(object)->tp_name, "torch.dtype") != 0) {
        Py_INCREF(object);
        return object;
    }
    PyObject *text = PyObject_Str(object), *name = NULL;
    if (text != NULL) {
        name = PyUnicode_Substring(text, (Py_ssize_t)strlen("torch."),
                                   PyUnicode_GET_LENGTH(text));
        Py_DECREF(text);
    }
    return name;
}

int
tb_dtype_from_object(tb_state *state, const tb_context *context, PyObject *object,
                     tb_dtype *out)
{
    if (object == Py_None) {
        return 0;
    }
    PyArray_Descr *descr = NULL;
    PyObject *name = strip_torch(object);
    int answer = -1;
    if (name == NULL) {
        return -1;
    }
    if (PyUnicode_Check(name) &&
        PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0) {
        *out = (tb_dtype){TB_BF16, 2, NULL};
        answer = 1;
    }
    else if (PyArray_DescrConverter(name, &descr) == NPY_SUCCEED) {
        int refused = tb_dtype_from_descr(state, descr, out);
        answer = refused == 0 ? 1 : -1;
    }
    if (answer < 0 && (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError) ||
                       PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
        PyObject *found = tb_show(object);
        tb_context own = *context;
        own.argument = NULL;
        if (found != NULL) {
            tb_raise_at(&own, PyExc_TypeError, -1, -1,
                        "dtype=%U; expected a bool, integer or floating type", found);
            Py_DECREF(found);
        }
    }
    Py_XDECREF(descr);
    Py_DECREF(name);
    return answer;
}

PyArray_Descr *
tb_dtype_descr(tb_state *state, const tb_dtype *dtype)
{
    PyArray_Descr *descr;

    if (dtype->type == TB_BF16) {
        descr = find_bfloat16(state, 1);
        if (descr == NULL && !PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError,
                            "NumPy has no bfloat16 of its own: pip install ml_dtypes, "
                            "or pass another dtype=");
        }
    }
    else if (dtype->type == TB_NUMPY_ONLY) {
        descr = dtype->descr;
    }
    else {
        return PyArray_DescrFromType(numpy_types[dtype->type]);
    }
    Py_XINCREF(descr);
    return descr;
}

int
tb_dtype_equal(const tb_dtype *a, const tb_dtype *b)
{
    return a->type == b->type &&
           (a->type != TB_NUMPY_ONLY || a->descr->type_num == b->descr->type_num);
}

const char *
tb_dtype_name(const tb_dtype *dtype)
{
    if (dtype->type != TB_NUMPY_ONLY) {
        return type_names[dtype->type];
    }
    const char *full = dtype->descr->typeobj->tp_name;
    const char *dot = strrchr(full, '.');
    return dot == NULL ? full : dot + 1;
}

/* A function of tightbatch._numpy_fallback, remembered in *slot. Borrowed. */
static PyObject *
find_convert(PyObject **slot, const char *name)
{
    PyObject *known = (PyObject *)TB_RECALL(*slot);
    PyObject *module =
        known != NULL ? NULL : PyImport_ImportModule("tightbatch._numpy_fallback");

    if (module != NULL) {
        PyObject *function = PyObject_GetAttrString(module, name);
        known = function == NULL ? NULL : tb_remember_object(module, slot, function);
        Py_DECREF(module);
    }
    return known;
}

int
tb_is_floating(tb_state *state, const tb_dtype *dtype)
{
    PyArray_Descr *descr;
    PyObject *module, *answer = NULL;

    if (dtype->type != TB_NUMPY_ONLY) {
        return tb_type_is_float(dtype->type);
    }
    descr = tb_dtype_descr(state, dtype);
    module = PyImport_ImportModule("tightbatch._numpy_fallback");
    if (descr != NULL && module != NULL) {
        answer = PyObject_CallMethod(module, "is_floating", "O", descr);
    }
    Py_XDECREF(module);
    Py_XDECREF(descr);
    int is_true = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return is_true;
}

int
tb_significand_bits(tb_state *state, const tb_dtype *dtype, int *bits)
{
    PyArray_Descr *descr = tb_dtype_descr(state, dtype);
    PyObject *function = find_convert(&state->significand_bits, "significand_bits");
    PyObject *answer = descr == NULL || function == NULL
                           ? NULL
                           : PyObject_CallOneArg(function, (PyObject *)descr);

    Py_XDECREF(descr);
    if (answer == NULL) {
        return -1;
    }
    *bits = (int)PyLong_AsLong(answer);
    Py_DECREF(answer);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *
tb_masking_value(tb_state *state, const tb_dtype *dtype)
{
    switch (dtype->type) {
        case TB_F64:
            return PyFloat_FromDouble(-DBL_MAX / 4);
        case TB_F32:
            return PyFloat_FromDouble(-(double)FLT_MAX / 4);
        case TB_F16:
            return PyFloat_FromDouble(-65504.0 / 4);
        case TB_BF16:
            return PyFloat_FromDouble(-0x1.fep127 / 4);
        default:
            break;
    }
    PyArray_Descr *descr = tb_dtype_descr(state, dtype);
    PyObject *function = find_convert(&state->masking_value, "masking_value");
    PyObject *answer = descr == NULL || function == NULL
                           ? NULL
                           : PyObject_CallOneArg(function, (PyObject *)descr);
    Py_XDECREF(descr);
    return answer;
}

/* The Python function returns (array, None), or (None, failure) with the exception, the
 * index and the reason for the first element that the type cannot hold. */
PyArrayObject *
tb_convert_array(tb_state *state, const tb_context *context, Py_ssize_t row,
                 Py_ssize_t column, PyArrayObject *array, const tb_dtype *dtype)
{
    PyObject *descr = tb_type_is_half(dtype->type)
                          ? Py_NewRef(Py_None)
                          : (PyObject *)tb_dtype_descr(state, dtype);
    PyObject *function = find_convert(&state->convert, "convert");
    PyObject *answer = NULL, *converted = NULL, *failure = NULL;

    if (descr != NULL && function != NULL) {
        answer = PyObject_CallFunctionObjArgs(function, (PyObject *)array, descr, NULL);
    }
    if (answer != NULL && PyArg_ParseTuple(answer, "OO", &converted, &failure)) {
        Py_ssize_t index;
        PyObject *exception, *reason;
        if (failure == Py_None) {
            Py_INCREF(converted);
        }
        else {
            converted = NULL;
            if (PyArg_ParseTuple(failure, "OnU", &exception, &index, &reason)) {
                /* Without a row it is the fill: "padding_value 2049 is not exact". */
                tb_raise_at(context, exception, row, row < 0 ? -1 : column + index,
                            row < 0 ? "padding_%U" : "%U", reason);
            }
        }
    }
    Py_XDECREF(answer);
    Py_XDECREF(descr);
    return (PyArrayObject *)converted;
}
