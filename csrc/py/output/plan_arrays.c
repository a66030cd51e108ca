#include "py/output/plan_arrays.h"

#include "core/plan/batching.h"

PyObject *
tb_arrays_of_plan(const tb_batch_plan *plan)
{
    npy_intp rows = plan->row_count, edges = plan->batch_count + 1;
    PyArrayObject *indices = (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
    PyArrayObject *offsets = (PyArrayObject *)PyArray_SimpleNew(1, &edges, NPY_INT64);
    PyObject *arrays = NULL;

    if (indices != NULL && offsets != NULL) {
        PyThreadState *thread = PyEval_SaveThread();
        tb_write_batches(plan, (int64_t *)PyArray_DATA(indices),
                         (int64_t *)PyArray_DATA(offsets));
        PyEval_RestoreThread(thread);
        arrays = PyTuple_Pack(2, (PyObject *)indices, (PyObject *)offsets);
    }
    Py_XDECREF((PyObject *)indices);
    Py_XDECREF((PyObject *)offsets);
    return arrays;
}
