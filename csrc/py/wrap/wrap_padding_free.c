/* For padding-free collators: lays out columns one row after another, in one call. */
#include "py/base/tb_numpy.h"
#include "py/output/padding_free.h"

static const char *const extra_names[] = {
    "shift_labels",      "position_ids", "seq_idx", "cu_seqlens",
    "cu_seqlens_tokens", "row_idx",      NULL};

static int
read_extras(tb_padding_free_batch *batch, PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        int place;
        if (tb_read_choice(&batch->context, "extra", PyTuple_GET_ITEM(names, i),
                           extra_names, &place) < 0) {
            return -1;
        }
        batch->extras[i] = (tb_padding_free_extra)place;
        if (batch->extras[i] == TB_SHIFT_LABELS && batch->labels < 0) {
            return tb_raise_at(&batch->context, PyExc_ValueError, -1, -1,
                               "shift_labels=True, but there are no labels; expected a "
                               "column 'labels'");
        }
    }
    return 0;
}

/* (arrays, longest, num_items): the arrays as from pad_columns, the positions of the
 * longest segment, and the number of labels that are not ignored (0 if not asked for).
 */
static PyObject *
answer_batch(const tb_padding_free_batch *batch)
{
    const tb_padding_free_settings *settings = &batch->settings;
    int64_t longest =
        settings->max_seqlen < 0 ? batch->plan.longest : settings->max_seqlen;
    ptrdiff_t items = 0;
    PyObject *arrays = tb_answer_outputs(batch->outputs, batch->count);

    if (arrays == NULL) {
        return NULL;
    }
    if (settings->return_num_items && batch->labels >= 0) {
        const tb_output *labels = &batch->outputs[batch->labels];
        items = tb_count_others(PyArray_DATA(labels->out), PyArray_SIZE(labels->out),
                                labels->layout.item_size, labels->layout.fill);
    }
    return Py_BuildValue("(NLn)", arrays, (long long)longest, (Py_ssize_t)items);
}

/* flatten_columns(function, specs, settings, keep_empty, extras, allocate, as_tensors)
 *     -> (arrays, longest, num_items)
 *
 * `specs` is a list of (key, rows, role, settings), `settings` a dict with the names of
 * PaddingFreeCollator's parameters, `extras` a tuple of names. The arrays are those of
 * the columns, without "attention_mask" and "seq_lengths", then the extras. */
static PyObject *
wrap_flatten_columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_padding_free_batch batch = {.state = tb_state_of(module)};
    PyObject *answer = NULL;
    int as_tensors;

    if (tb_check_count("flatten_columns", nargs, 7) < 0 ||
        tb_read_function(args[0], &batch.context) < 0 ||
        tb_read_padding_free_settings(&batch.context, args[2], &batch.settings) < 0 ||
        tb_read_flag(&batch.context, "keep_empty", args[3],
                     &batch.settings.keep_empty) < 0 ||
        tb_read_flag(&batch.context, "as_tensors", args[6], &as_tensors) < 0) {
        return NULL;
    }
    if (!PyList_Check(args[1]) || !PyTuple_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "flatten_columns(): malformed arguments");
        return NULL;
    }
    Py_ssize_t extras = PyTuple_GET_SIZE(args[4]);
    batch.count = PyList_GET_SIZE(args[1]) + extras;
    batch.outputs = PyMem_Calloc((size_t)batch.count + 1, sizeof *batch.outputs);
    batch.extras = PyMem_Calloc((size_t)extras + 1, sizeof *batch.extras);
    if (batch.outputs == NULL || batch.extras == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (tb_read_padding_free_columns(&batch, args[1]) < 0 ||
        read_extras(&batch, args[4]) < 0 || tb_plan_batch(&batch) < 0) {
        goto done;
    }
    batch.count = batch.columns + extras;
    if (tb_run_batch(&batch, args[5], as_tensors) == 0) {
        answer = answer_batch(&batch);
    }
done:
    tb_clear_batch(&batch);
    return answer;
}

/* check_padding_free(function, settings): raises for wrong settings. */
static PyObject *
wrap_check_padding_free(PyObject *Py_UNUSED(module), PyObject *const *args,
                        Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_padding_free_settings settings;

    if (tb_check_count("check_padding_free", nargs, 2) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        tb_read_padding_free_settings(&context, args[1], &settings) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef tb_padding_free_methods[] = {
    {"flatten_columns", (PyCFunction)(void (*)(void))wrap_flatten_columns,
     METH_FASTCALL, NULL},
    {"check_padding_free", (PyCFunction)(void (*)(void))wrap_check_padding_free,
     METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
