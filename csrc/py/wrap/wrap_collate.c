/* For collators: turns samples into columns, and pads columns together. */
#include "py/base/tb_numpy.h"
#include "py/output/columns.h"

#include <string.h>

/* --- samples to columns ---------------------------------------------------------- */

/* The first key of `a` that `b` lacks, a new reference; NULL where there is none, or with
 * an exception. Comparing keys may run Python code. */
static PyObject *
missing_key(PyObject *a, PyObject *b)
{
    PyObject *keys = PyDict_Keys(a), *missing = NULL;
    Py_ssize_t count = keys == NULL ? 0 : PyList_GET_SIZE(keys);

    for (Py_ssize_t i = 0; i < count && missing == NULL; i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        int there = PyDict_Contains(b, key);
        if (there < 0) {
            break;
        }
        missing = there ? NULL : Py_NewRef(key);
    }
    Py_XDECREF(keys);
    return missing;
}

static int
refuse_keys(const tb_context *context, PyObject *first, PyObject *sample,
            Py_ssize_t row)
{
    PyObject *missing = missing_key(first, sample), *extra = NULL, *shown = NULL;

    if (missing == NULL && !PyErr_Occurred()) {
        extra = missing_key(sample, first);
    }
    if (missing != NULL || extra != NULL) {
        shown = tb_show(missing != NULL ? missing : extra);
    }
    else if (!PyErr_Occurred()) {
        tb_raise_at(context, PyExc_RuntimeError, row, -1,
                    "changed its keys while they were compared");
    }
    if (shown != NULL) {
        tb_raise_at(context, PyExc_ValueError, row, -1,
                    missing != NULL ? "has no key %U, which row 0 has"
                                    : "has the key %U, which row 0 does not have",
                    shown);
        Py_DECREF(shown);
    }
    Py_XDECREF(missing);
    Py_XDECREF(extra);
    return -1;
}

/* A sample as a dict, a new reference: itself, or what as_dict() makes of any other. A
 * subclass of dict may make its values when it is asked for them, so it is no dict here.
 */
static PyObject *
sample_as_dict(PyObject *const *args, PyObject *sample, Py_ssize_t row)
{
    if (PyDict_CheckExact(sample)) {
        return Py_NewRef(sample);
    }
    PyObject *dict =
        PyObject_CallFunction(args[3], "OOnO", args[0], args[1], row, sample);
    if (dict != NULL && !PyDict_Check(dict)) {
        PyErr_SetString(PyExc_TypeError, "gather_columns(): as_dict() gave no dict");
        Py_CLEAR(dict);
    }
    return dict;
}

/* Puts the values of one sample into their columns, at index `row`. */
static int
scatter_sample(const tb_context *context, PyObject *columns, PyObject *first,
               PyObject *sample, Py_ssize_t row)
{
    PyObject *key, *column;
    Py_ssize_t position = 0; /* in a dict that nobody else has */

    if (PyDict_GET_SIZE(sample) != PyDict_GET_SIZE(columns)) {
        return refuse_keys(context, first, sample, row);
    }
    while (PyDict_Next(columns, &position, &key, &column)) {
        PyObject *value;
        int found = tb_find_key(sample, key, &value);
        if (found <= 0) {
            return found < 0 ? -1 : refuse_keys(context, first, sample, row);
        }
        PyList_SET_ITEM(column, row, value);
    }
    return 0;
}

/* {key: a list of `count` places} for the keys of the first sample; NULL with an
 * exception. Setting a key may run Python code, so the keys are a list of our own. */
static PyObject *
make_columns(PyObject *first, Py_ssize_t count)
{
    PyObject *keys = PyDict_Keys(first), *columns = keys == NULL ? NULL : PyDict_New();

    for (Py_ssize_t i = 0; columns != NULL && i < PyList_GET_SIZE(keys); i++) {
        PyObject *column = PyList_New(count);
        if (column == NULL ||
            PyDict_SetItem(columns, PyList_GET_ITEM(keys, i), column) < 0) {
            Py_CLEAR(columns);
        }
        Py_XDECREF(column);
    }
    Py_XDECREF(keys);
    return columns;
}

/* gather_columns(function, key, samples, as_dict) -> {key: list of values}, keys in the
 * order of the first sample. Every sample has the same keys, or it is an error. `key` is
 * that of the column that the samples are, or None. as_dict(function, key, row, sample)
 * reads a sample that is not a dict. */
static PyObject *
wrap_gather_columns(PyObject *Py_UNUSED(module), PyObject *const *args,
                    Py_ssize_t nargs)
{
    tb_context context = {0};
    PyObject *fast = NULL, *columns = NULL, *first = NULL;
    Py_ssize_t count;

    if (tb_check_count("gather_columns", nargs, 4) < 0) {
        return NULL;
    }
    context.key = args[1] == Py_None ? NULL : args[1];
    fast = tb_read_function(args[0], &context) < 0 ? NULL : PySequence_Tuple(args[2]);
    count = fast == NULL ? 0 : PyTuple_GET_SIZE(fast);
    if (count == 0) {
        goto done;
    }
    first = sample_as_dict(args, PyTuple_GET_ITEM(fast, 0), 0);
    columns = first == NULL ? NULL : make_columns(first, count);
    for (Py_ssize_t i = 0; columns != NULL && i < count; i++) {
        PyObject *sample = i == 0 ? Py_NewRef(first)
                                  : sample_as_dict(args, PyTuple_GET_ITEM(fast, i), i);
        if (sample == NULL || scatter_sample(&context, columns, first, sample, i) < 0) {
            Py_CLEAR(columns);
        }
        Py_XDECREF(sample);
    }
done:
    Py_XDECREF(first);
    Py_XDECREF(fast);
    return columns == NULL && !PyErr_Occurred() ? PyDict_New() : columns;
}

/* --- columns padded together ------------------------------------------------------ */

/* Reads all specs, in order. */
static int
read_columns(tb_state *state, const tb_context *context, const tb_pad_options *sides,
             PyObject *specs, tb_output *outputs)
{
    Py_ssize_t count = PyList_GET_SIZE(specs);

    for (Py_ssize_t i = 0; i < count; i++) {
        tb_output *output = &outputs[i];
        if (tb_read_column_spec(state, context, sides, PyList_GET_ITEM(specs, i),
                                &output->spec) < 0 ||
            tb_survey_spec(state, &output->spec, &output->column) < 0 ||
            tb_settle_spec(state, &output->spec, NULL, &output->column) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Holds columns with a value for each token against those of the tokens: `links` is a
 * tuple of pairs of their indices. */
static int
check_links(const tb_context *context, PyObject *links, const tb_output *outputs,
            Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(links); i++) {
        PyObject *link = PyTuple_GET_ITEM(links, i);
        if (!PyTuple_Check(link) || PyTuple_GET_SIZE(link) != 2) {
            return tb_raise_at(context, PyExc_TypeError, -1, -1, "malformed links");
        }
        Py_ssize_t column = PyLong_AsSsize_t(PyTuple_GET_ITEM(link, 0));
        Py_ssize_t tokens = PyLong_AsSsize_t(PyTuple_GET_ITEM(link, 1));
        if (PyErr_Occurred()) {
            return -1;
        }
        if (column < 0 || column >= count || tokens < 0 || tokens >= count) {
            return tb_raise_at(context, PyExc_TypeError, -1, -1, "malformed links");
        }
        if (outputs[column].column.ndim <= 0 &&
            tb_check_per_token(&outputs[column].column, &outputs[tokens].column) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
read_sides(const tb_context *context, PyObject *padding, PyObject *truncation,
           tb_pad_options *options)
{
    *options = (tb_pad_options){.width = -1, .max_length = -1, .multiple = 1};
    return tb_read_choice(context, "padding_side", padding, tb_sides,
                          &options->pad_left) < 0
               ? -1
               : tb_read_choice(context, "truncation_side", truncation, tb_sides,
                                &options->cut_left);
}

/* pad_columns(function, specs, padding_side, truncation_side, links, extras, promote,
 *             allocate, as_tensors) -> [(array or None, offset, is_bfloat16), ...]
 *
 * `specs` is a list of (key, rows, role, settings). `links` is a tuple of (column with a
 * value for each token, column of the tokens). `extras`, a tuple of ("mask" or what else
 * columns.h names, column), come after the columns; -1 is the first of tokens.
 * allocate(bytes) -> uint8 array, or None: an array each. */
static PyObject *
wrap_pad_columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const char *const promotions[] = {"none", "vectors", "rows", NULL};
    tb_state *state = tb_state_of(module);
    tb_context context = {0};
    tb_pad_options sides;
    PyObject *answer = NULL;
    int promote, as_tensors;

    if (tb_check_count("pad_columns", nargs, 9) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        read_sides(&context, args[2], args[3], &sides) < 0 ||
        tb_read_choice(&context, "promote", args[6], promotions, &promote) < 0 ||
        tb_read_flag(&context, "as_tensors", args[8], &as_tensors) < 0) {
        return NULL;
    }
    if (!PyList_Check(args[1]) || !PyTuple_Check(args[4]) || !PyTuple_Check(args[5])) {
        PyErr_SetString(PyExc_TypeError, "pad_columns(): malformed arguments");
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(args[1]);
    Py_ssize_t total = count + PyTuple_GET_SIZE(args[5]);
    tb_output *outputs = PyMem_Calloc((size_t)total + 1, sizeof *outputs);
    if (outputs == NULL) {
        return PyErr_NoMemory();
    }
    int failed = read_columns(state, &context, &sides, args[1], outputs) < 0 ||
                 check_links(&context, args[4], outputs, count) < 0;
    for (Py_ssize_t i = count; i < total && !failed; i++) {
        failed = tb_read_extra(&context, PyTuple_GET_ITEM(args[5], i - count), count,
                               &outputs[i]) < 0;
    }
    if (!failed &&
        tb_run_outputs(state, outputs, total, promote, args[7], as_tensors) == 0) {
        answer = tb_answer_outputs(outputs, total);
    }
    for (Py_ssize_t i = 0; i < total; i++) {
        tb_clear_output(&outputs[i]);
    }
    PyMem_Free(outputs);
    return answer;
}

/* check_columns(function, settings by key, padding_side, truncation_side): raises what is
 * wrong with them. The key None stands for all that have no settings of their own. */
static PyObject *
wrap_check_columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    int answer = 0;
    tb_column_spec spec = {0};
    tb_context context = {0};

    if (tb_check_count("check_columns", nargs, 4) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        read_sides(&context, args[2], args[3], &spec.options) < 0) {
        return NULL;
    }
    PyObject *items = PyDict_Items(args[1]); /* reading them may run Python code */
    Py_ssize_t count = items == NULL ? 0 : PyList_GET_SIZE(items);
    for (Py_ssize_t i = 0; i < count && answer == 0; i++) {
        PyObject *item = PyList_GET_ITEM(items, i), *key = PyTuple_GET_ITEM(item, 0);
        spec.context = context;
        spec.context.key = key == Py_None ? NULL : key;
        answer = tb_read_column_settings(state, PyTuple_GET_ITEM(item, 1), &spec);
        answer = answer < 0 ? -1 : tb_check_fill(state, &spec);
        tb_clear_column_spec(&spec);
    }
    if (items == NULL || answer < 0) {
        Py_XDECREF(items);
        return NULL;
    }
    Py_DECREF(items);
    Py_RETURN_NONE;
}

PyMethodDef tb_collate_methods[] = {
    {"gather_columns", (PyCFunction)(void (*)(void))wrap_gather_columns, METH_FASTCALL,
     NULL},
    {"pad_columns", (PyCFunction)(void (*)(void))wrap_pad_columns, METH_FASTCALL, NULL},
    {"check_columns", (PyCFunction)(void (*)(void))wrap_check_columns, METH_FASTCALL,
     NULL},
    {NULL, NULL, 0, NULL},
};
