#include "py/input/number.h"

#include "py/input/tensor.h"

#include <math.h>
#include <string.h>

static int
read_int(PyObject *item, tb_number *number)
{
    int overflow = 0;

    number->i = PyLong_AsLongLongAndOverflow(item, &overflow);
    number->kind = TB_NUMBER_INT;
    if (overflow == 0) {
        return number->i == -1 && PyErr_Occurred() ? -1 : 0;
    }
    if (overflow > 0) {
        number->u = PyLong_AsUnsignedLongLong(item);
        if (!PyErr_Occurred()) {
            number->kind = TB_NUMBER_UINT;
            return 0;
        }
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
    }
    number->kind = TB_NUMBER_HUGE;
    Py_INCREF(item);
    number->object = item;
    return 0;
}

/* An array of another library, such as JAX's: it has a dtype and an item(). */
static int
is_foreign_array(PyObject *item)
{
    static const char *const names[] = {"__array__", "dtype", "item"};
    int found = 1;

    if (PyType_Check(item) || !PyType_HasFeature(Py_TYPE(item), Py_TPFLAGS_HEAPTYPE)) {
        return 0;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names && found > 0; i++) {
        PyObject *value = NULL;
        found = tb_find_attribute(item, names[i], &value);
        Py_XDECREF(value);
    }
    return found;
}

/* A scalar of a type that was added to NumPy, such as ml_dtypes.bfloat16. */
static int
is_of_added_type(PyObject *scalar)
{
    PyArray_Descr *descr = PyArray_DescrFromScalar(scalar);
    int answer = descr == NULL ? -1 : PyTypeNum_ISUSERDEF(descr->type_num);

    Py_XDECREF((PyObject *)descr);
    return answer;
}

/* A scalar with a type of its own: 0-d arrays and tensors, NumPy's floats and bools. A
 * masked one is not a number. -1 with an exception. */
static int
is_boxed_number(tb_state *state, PyObject *item)
{
    if (PyArray_Check(item)) {
        int masked = tb_is_masked((PyArrayObject *)item);
        return masked < 0 ? -1 : !masked && PyArray_NDIM((PyArrayObject *)item) == 0;
    }
    if (PyArray_IsScalar(item, Generic)) {
        return PyArray_IsScalar(item, Floating) || PyArray_IsScalar(item, Bool) ||
               is_of_added_type(item);
    }
    int is_tensor = tb_is_tensor(state, item);
    return is_tensor != 0 ? is_tensor : is_foreign_array(item);
}

/* The number in an array or tensor, through its item(); NULL, without an exception and
 * with the reason in `number`, where it has no value to read: a tensor that vmap() or
 * torch.export traces, say. */
static PyObject *
read_item(PyObject *item, tb_number *number)
{
    PyObject *value = PyObject_CallMethod(item, "item", NULL);

    if (value == NULL && !PyArray_Check(item) &&
        PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        number->object = tb_save_exception();
    }
    return value;
}

static int
read_boxed_number(PyObject *item, tb_number *number)
{
    if (PyArray_IsScalar(item, Bool)) {
        int truth = PyObject_IsTrue(item);
        number->kind = TB_NUMBER_BOOL;
        number->i = truth;
        return truth < 0 ? -1 : 0;
    }
    if (PyArray_IsScalar(item, Floating)) {
        number->kind = TB_NUMBER_FLOAT;
        number->f = PyFloat_AsDouble(item);
        return number->f == -1.0 && PyErr_Occurred() ? -1 : 0;
    }
    /* Where NumPy counts time, item() gives an integer. */
    if (PyArray_Check(item) && PyArray_ISDATETIME((PyArrayObject *)item)) {
        return 0;
    }
    PyObject *ndim = PyObject_GetAttrString(item, "ndim"), *value = NULL;
    long dimensions = ndim == NULL ? -1 : PyLong_AsLong(ndim);
    Py_XDECREF(ndim);
    if (dimensions != 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    value = read_item(item, number);
    if (value == NULL) {
        return number->object != NULL ? 0 : -1;
    }
    int answer = 0;
    if (PyBool_Check(value)) {
        number->kind = TB_NUMBER_BOOL;
        number->i = value == Py_True;
    }
    else if (PyLong_Check(value)) {
        answer = read_int(value, number);
    }
    else if (PyFloat_Check(value) || PyArray_IsScalar(value, Floating)) {
        number->kind = TB_NUMBER_FLOAT;
        number->f = PyFloat_AsDouble(value); /* of a longdouble too */
        answer = number->f == -1.0 && PyErr_Occurred() ? -1 : 0;
    }
    Py_DECREF(value);
    return answer;
}

int
tb_read_number(tb_state *state, PyObject *item, tb_number *number)
{
    *number = (tb_number){.kind = TB_NOT_A_NUMBER};
    if (PyBool_Check(item)) {
        number->kind = TB_NUMBER_BOOL;
        number->i = item == Py_True;
        return 0;
    }
    if (PyLong_Check(item)) {
        return read_int(item, number);
    }
    if (PyFloat_Check(item)) {
        number->kind = TB_NUMBER_FLOAT;
        number->f = PyFloat_AS_DOUBLE(item);
        return 0;
    }
    int is_boxed = is_boxed_number(state, item);
    if (is_boxed != 0) {
        return is_boxed < 0 ? -1 : read_boxed_number(item, number);
    }
    if (PyIndex_Check(item) && !PyArray_Check(item)) {
        PyObject *value = PyNumber_Index(item);
        int answer = value == NULL ? -1 : read_int(value, number);
        Py_XDECREF(value);
        return answer;
    }
    return 0;
}

/* A Python int of any size to a float, if that is exact. */
static int
store_huge(const tb_number *number, tb_type type, void *dst, tb_status *status)
{
    double value = PyLong_AsDouble(number->object);

    if (value == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        *status = TB_ERR_RANGE;
        return 0;
    }
    PyObject *back = PyLong_FromDouble(value);
    int same =
        back == NULL ? -1 : PyObject_RichCompareBool(back, number->object, Py_EQ);
    Py_XDECREF(back);
    if (same < 0) {
        return -1;
    }
    ptrdiff_t bad;
    double again = value;
    *status = tb_cast_elements(TB_F64, type, &value, 1, dst, &bad);
    if (*status == TB_OK) {
        *status = tb_cast_elements(type, TB_F64, dst, 1, &again, &bad);
    }
    if (*status == TB_OK && (!same || again != value)) {
        *status = TB_ERR_INEXACT;
    }
    return 0;
}

int
tb_store_number(const tb_number *number, tb_type type, void *dst, tb_status *status)
{
    ptrdiff_t bad;

    switch (number->kind) {
        case TB_NUMBER_BOOL:
        case TB_NUMBER_INT:
            *status = tb_cast_elements(TB_I64, type, &number->i, 1, dst, &bad);
            return 0;
        case TB_NUMBER_UINT:
            *status = tb_cast_elements(TB_U64, type, &number->u, 1, dst, &bad);
            return 0;
        case TB_NUMBER_FLOAT:
            *status = tb_cast_elements(TB_F64, type, &number->f, 1, dst, &bad);
            return 0;
        case TB_NUMBER_HUGE:
            if (tb_type_is_float(type)) {
                return store_huge(number, type, dst, status);
            }
            *status = TB_ERR_RANGE;
            return 0;
        case TB_NOT_A_NUMBER:
            break;
    }
    PyErr_SetString(PyExc_SystemError, "tb_store_number() was given no number");
    return -1;
}

int
tb_raise_value(const tb_context *context, tb_status status, Py_ssize_t row,
               Py_ssize_t column, PyObject *found, const tb_dtype *dtype)
{
    const char *name = tb_dtype_name(dtype);
    const char *reason = "value %U is not exact in %s";
    PyObject *shown = tb_show(found);

    if (status == TB_ERR_RANGE) {
        reason = "value %U is outside %s";
    }
    else if (status == TB_ERR_OVERFLOW) {
        reason = "value %U overflows %s";
    }
    if (shown != NULL) {
        tb_raise_at(context, tb_status_exception(status), row, column, reason, shown,
                    name);
        Py_DECREF(shown);
    }
    return -1;
}

/* Through an array of one element, for types that only NumPy can write. */
static int
convert_fill(tb_state *state, const tb_context *context, const tb_number *number,
             const tb_dtype *dtype, unsigned char *dst)
{
    npy_intp one = 1;
    int is_float = number->kind == TB_NUMBER_FLOAT || number->kind == TB_NUMBER_HUGE;
    PyArrayObject *given =
        (PyArrayObject *)PyArray_SimpleNew(1, &one, is_float ? NPY_FLOAT64 : NPY_INT64);
    PyArrayObject *converted = NULL;
    tb_status status = TB_OK;

    if (given != NULL && tb_store_number(number, is_float ? TB_F64 : TB_I64,
                                         PyArray_DATA(given), &status) == 0) {
        if (status != TB_OK) {
            tb_raise_at(context, tb_status_exception(status), -1, -1,
                        "padding_value is outside %s", tb_dtype_name(dtype));
        }
        else {
            converted = tb_convert_array(state, context, -1, 0, given, dtype);
        }
    }
    if (converted != NULL) {
        memcpy(dst, PyArray_DATA(converted), (size_t)dtype->item_size);
    }
    Py_XDECREF(given);
    Py_XDECREF(converted);
    return converted == NULL ? -1 : 0;
}

/* A float that is a whole number fills integers too: 0.0 is torch's own default. */
static int
make_whole(tb_number *number)
{
    if (number->f != floor(number->f) || isinf(number->f)) {
        return 0;
    }
    PyObject *whole = PyLong_FromDouble(number->f);
    int answer = whole == NULL ? -1 : read_int(whole, number);
    Py_XDECREF(whole);
    return answer < 0 ? -1 : 1;
}

static int
refuse_fill(const tb_context *context, PyObject *exception, PyObject *value,
            const char *reason, const char *dtype)
{
    PyObject *shown = tb_show(value);

    if (shown != NULL) {
        tb_raise_at(context, exception, -1, -1, "padding_value=%U %s %s", shown, reason,
                    dtype);
        Py_DECREF(shown);
    }
    return -1;
}

/* A number as an element of a type that the core knows. */
static int
store_fill(const tb_context *context, PyObject *value, const tb_number *number,
           const tb_dtype *dtype, unsigned char *dst)
{
    uint64_t element = 0; /* aligned, as `dst` need not be */
    tb_status status = TB_OK;

    if (tb_store_number(number, dtype->type, &element, &status) < 0) {
        return -1;
    }
    memcpy(dst, &element, (size_t)dtype->item_size);
    return status == TB_OK ? 0
                           : refuse_fill(context, tb_status_exception(status), value,
                                         "is not exact in", tb_dtype_name(dtype));
}

int
tb_read_fill(tb_state *state, const tb_context *context, PyObject *value,
             const tb_dtype *dtype, unsigned char *dst)
{
    tb_number number;
    int answer = -1, fits = 1;

    if (tb_refuse_grad_of_fill(state, context, value) < 0 ||
        tb_read_number(state, value, &number) < 0) {
        return -1;
    }
    if (number.kind == TB_NUMBER_FLOAT) {
        int floating = tb_is_floating(state, dtype);
        fits = floating == 0 ? make_whole(&number) : floating;
    }
    if (number.kind == TB_NOT_A_NUMBER) {
        PyObject *found = tb_describe(value);
        if (found != NULL) {
            tb_raise_at(context, PyExc_TypeError, -1, -1,
                        "padding_value is %U, expected a number", found);
            tb_set_cause(number.object);
            Py_DECREF(found);
        }
    }
    else if (fits == 0) {
        refuse_fill(context, PyExc_ValueError, value,
                    "is not an integer; pass one, or a floating dtype=, for",
                    tb_dtype_name(dtype));
    }
    else if (fits > 0) {
        answer = dtype->type == TB_NUMPY_ONLY
                     ? convert_fill(state, context, &number, dtype, dst)
                     : store_fill(context, value, &number, dtype, dst);
    }
    Py_XDECREF(number.object);
    return answer;
}

PyObject *
tb_plain_number(tb_state *state, PyObject *value)
{
    tb_number number;
    PyObject *plain = NULL;

    if (PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyBool_Check(value)) {
        return Py_NewRef(value);
    }
    if (tb_read_number(state, value, &number) < 0) {
        return NULL;
    }
    switch (number.kind) {
        case TB_NUMBER_BOOL:
            plain = PyBool_FromLong(number.i != 0);
            break;
        case TB_NUMBER_INT:
            plain = PyLong_FromLongLong(number.i);
            break;
        case TB_NUMBER_UINT:
            plain = PyLong_FromUnsignedLongLong(number.u);
            break;
        case TB_NUMBER_FLOAT:
            plain = PyFloat_FromDouble(number.f);
            break;
        case TB_NUMBER_HUGE:
            plain = PyNumber_Index(number.object);
            break;
        case TB_NOT_A_NUMBER:
            plain = Py_NewRef(value);
            break;
    }
    Py_XDECREF(number.object);
    return plain;
}

static int
refuse_additive(const tb_context *context, const tb_dtype *dtype)
{
    tb_context own = *context;

    own.argument = NULL;
    return tb_raise_at(&own, PyExc_TypeError, -1, -1,
                       "additive=True with dtype=%s; expected a floating type",
                       tb_dtype_name(dtype));
}

/* The two values of an additive mask of a type that only NumPy can write: a Python float
 * does not hold that of longdouble. */
static int
read_additive_numpy_only(tb_state *state, const tb_context *context,
                         const tb_dtype *dtype, unsigned char *real,
                         unsigned char *fill)
{
    PyObject *masked = tb_masking_value(state, dtype);
    int answer = -1;

    if (masked == Py_None) {
        refuse_additive(context, dtype);
    }
    else if (masked != NULL) {
        memcpy(fill, PyArray_DATA((PyArrayObject *)masked), (size_t)dtype->item_size);
        memset(real, 0, (size_t)dtype->item_size);
        answer = 0;
    }
    Py_XDECREF(masked);
    return answer;
}

int
tb_read_mask_values(tb_state *state, const tb_context *context, const tb_dtype *dtype,
                    int additive, unsigned char *real, unsigned char *fill)
{
    PyObject *masked = NULL, *one = NULL;
    int answer = -1;

    if (additive && dtype->type < TB_F32) {
        return refuse_additive(context, dtype);
    }
    if (additive && dtype->type == TB_NUMPY_ONLY) {
        return read_additive_numpy_only(state, context, dtype, real, fill);
    }
    one = PyLong_FromLong(additive ? 0 : 1);
    masked = additive ? tb_masking_value(state, dtype) : PyLong_FromLong(0);
    if (one != NULL && masked != NULL &&
        tb_read_fill(state, context, one, dtype, real) == 0 &&
        tb_read_fill(state, context, masked, dtype, fill) == 0) {
        answer = 0;
    }
    Py_XDECREF(one);
    Py_XDECREF(masked);
    return answer;
}
