/* All that differs between versions of Python: no other file asks for the version. Code
 * uses the newer form; the older one is removed with the last Python that needs it. */
#ifndef TB_COMPAT_H
#define TB_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/base/macros.h"

#if PY_VERSION_HEX < 0x030B0000
#    error "tightbatch needs Python 3.11 or later"
#endif

/* --- exceptions put aside --------------------------------------------------------- */

/* Takes the exception that is set, a new reference, and clears it; NULL if none is. */
static inline PyObject *
tb_save_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* Sets it again and takes the reference; NULL clears the exception. */
static inline void
tb_restore_exception(PyObject *exception)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyObject *type = exception == NULL ? NULL : Py_NewRef(Py_TYPE(exception));

    PyErr_Restore(type, exception,
                  exception == NULL ? NULL : PyException_GetTraceback(exception));
#endif
}

/* --- what may be missing ---------------------------------------------------------- */

/* An attribute: 1 and a new reference, 0 if there is none, -1 with an exception. */
static inline int
tb_find_attribute(PyObject *object, const char *name, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttrString(object, name, value);
#else
    *value = PyObject_GetAttrString(object, name);
    if (*value != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
#endif
}

/* The value of a key of a dict: 1 and a new reference, 0 if there is none, -1 with an
 * exception. Comparing keys may run Python code. */
static inline int
tb_find_key(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(dict, key, value);
#else
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

/* --- what other threads change ---------------------------------------------------- */

/* A critical section for an object: while it lasts no other thread changes the object, or
 * takes it for a critical section of its own, but where Python code runs in it. With the
 * GIL it is the GIL. */
#if defined(Py_GIL_DISABLED)
#    define TB_BEGIN_CRITICAL_SECTION(object) Py_BEGIN_CRITICAL_SECTION(object)
#    define TB_END_CRITICAL_SECTION() Py_END_CRITICAL_SECTION()
#else
#    define TB_BEGIN_CRITICAL_SECTION(object) \
        {                                     \
            (void)(object);
#    define TB_END_CRITICAL_SECTION() }
#endif

/* A pointer that the module's state remembers: it is NULL until some thread has looked up
 * what it stands for, and then stays. All that was written before TB_REMEMBER() is seen
 * after TB_RECALL() has given the value. */
#if defined(Py_GIL_DISABLED)
#    define TB_RECALL(slot) _Py_atomic_load_ptr_acquire(&(slot))
#    define TB_REMEMBER(slot, value) _Py_atomic_store_ptr_release(&(slot), (value))
#else
#    define TB_RECALL(slot) (slot)
#    define TB_REMEMBER(slot, value) ((void)((slot) = (value)))
#endif

/* --- lists and ints, read without calls ------------------------------------------- */

/* An item of a list or tuple, a new reference; NULL without an exception where the list
 * has become shorter. */
static inline PyObject *
tb_get_item(PyObject *list, Py_ssize_t i)
{
    if (PyTuple_Check(list)) {
        return i < PyTuple_GET_SIZE(list) ? Py_NewRef(PyTuple_GET_ITEM(list, i)) : NULL;
    }
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *item = PyList_GetItemRef(list, i);
    if (item == NULL) {
        PyErr_Clear();
    }
    return item;
#else
    return i < PyList_GET_SIZE(list) ? Py_NewRef(PyList_GET_ITEM(list, i)) : NULL;
#endif
}

/* 1 and the value if `item` is exactly an int of one digit, without a call. */
static inline int
tb_read_compact_int(PyObject *item, int64_t *value)
{
    if (TB_UNLIKELY(!PyLong_CheckExact(item))) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030C0000
    const PyLongObject *number = (const PyLongObject *)item;
    if (TB_UNLIKELY(!PyUnstable_Long_IsCompact(number))) {
        return 0;
    }
    *value = PyUnstable_Long_CompactValue(number);
#else
    Py_ssize_t digits = Py_SIZE(item); /* its sign is the number's */
    if (TB_UNLIKELY(digits < -1 || digits > 1)) {
        return 0;
    }
    *value = digits * (int64_t)((PyLongObject *)item)->ob_digit[0];
#endif
    return 1;
}

/* --- objects dropped by any thread -------------------------------------------------- */

/* Drops a reference, from any thread, with or without the GIL. While the interpreter
 * ends the object is kept: nobody needs its memory any more, and on 3.15 a thread that
 * asks for the GIL then hangs. */
static inline void
tb_decref_anywhere(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030F0000
    if (PyThreadState_GetUnchecked() != NULL) {
        Py_DECREF(object);
        return;
    }
    PyInterpreterView *view = PyInterpreterView_FromMain();
    PyThreadStateToken *token =
        view == NULL ? NULL : PyThreadState_EnsureFromView(view);
    if (token != NULL) {
        Py_DECREF(object);
        PyThreadState_Release(token);
    }
    if (view != NULL) {
        PyInterpreterView_Close(view);
    }
#else
    if (Py_IsInitialized()) {
        PyGILState_STATE gil = PyGILState_Ensure();
        Py_DECREF(object);
        PyGILState_Release(gil);
    }
#endif
}

/* --- the module ------------------------------------------------------------------- */

/* What the module declares to Python. It supports neither several interpreters, because
 * NumPy does not, nor a build without the GIL: there, its import switches the GIL on.
 */
#if PY_VERSION_HEX >= 0x030D0000
#    define TB_MODULE_SLOTS(exec)                         \
        {                                                 \
            {Py_mod_exec, (void *)(uintptr_t)(exec)},     \
            {Py_mod_multiple_interpreters,                \
             Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, \
            {Py_mod_gil, Py_MOD_GIL_USED},                \
            {0, NULL},                                    \
        }
#elif PY_VERSION_HEX >= 0x030C0000
#    define TB_MODULE_SLOTS(exec)                         \
        {                                                 \
            {Py_mod_exec, (void *)(uintptr_t)(exec)},     \
            {Py_mod_multiple_interpreters,                \
             Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, \
            {0, NULL},                                    \
        }
#else
#    define TB_MODULE_SLOTS(exec)                     \
        {                                             \
            {Py_mod_exec, (void *)(uintptr_t)(exec)}, \
            {0, NULL},                                \
        }
#endif

#endif
