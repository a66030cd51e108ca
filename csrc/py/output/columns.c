#include "py/base/tb_numpy.h"
#include "py/output/columns.h"
#include "core/base/size.h"
#include "core/layout/mask.h"
#include "py/output/column_role.h"
#include "py/output/fill.h"
#include "py/output/layout.h"
#include "py/output/settle.h"

#include <string.h>

/* A cache line: in a shared block each column begins at a multiple of it. */
enum { ALIGNMENT = 64 };

/* --- types ------------------------------------------------------------------------ */

/* Scalars of NumPy and torch in a list keep their type; the first one decides. 1 with
 * *dtype set, 0, or -1 with an exception. */
static int
find_scalar_dtype(tb_state *state, const tb_column_spec *spec, tb_dtype *dtype)
{
    PyObject *attribute;

    if (!tb_role_is_numbers(spec->role) || !tb_is_list(spec->rows)) {
        return 0;
    }
    PyObject *first = tb_get_item(spec->rows, 0);
    int found = 0;
    if (first != NULL && !PyLong_CheckExact(first) && !PyFloat_CheckExact(first) &&
        !PyBool_Check(first)) {
        found = tb_find_attribute(first, "dtype", &attribute);
    }
    Py_XDECREF(first);
    if (found > 0) {
        found = tb_dtype_from_object(state, &spec->context, attribute, dtype);
        Py_DECREF(attribute);
    }
    return found;
}

int
tb_settle_spec(tb_state *state, const tb_column_spec *spec, const tb_dtype *preferred,
               tb_column *column)
{
    tb_dtype scalar = {TB_I64, 0, NULL};
    const tb_dtype *asked = spec->dtype.item_size > 0 ? &spec->dtype : preferred;
    int answer = 0, floats = 0;

    if (asked == NULL) {
        int found = find_scalar_dtype(state, spec, &scalar);
        asked = found > 0 ? &scalar : NULL;
        answer = found < 0 ? -1 : 0;
        if (answer == 0 && spec->float_dtype.item_size > 0) {
            if (asked == NULL) {
                answer = tb_find_own_dtype(state, column, &spec->options);
            }
            floats =
                answer < 0 ? -1 : tb_is_floating(state, asked ? asked : &column->dtype);
            asked = floats > 0 ? &spec->float_dtype : asked;
            answer = floats < 0 ? -1 : 0;
        }
    }
    if (answer == 0) {
        answer = tb_settle_dtype(state, column, &spec->options, asked);
    }
    Py_XDECREF((PyObject *)scalar.descr);
    return answer;
}

int
tb_settle_widened(tb_state *state, const tb_column_spec *spec, tb_column *column)
{
    if (!column->provisional || spec->float_dtype.item_size == 0 ||
        !tb_type_is_float(column->dtype.type)) {
        return 0;
    }
    return tb_settle_dtype(state, column, &spec->options, &spec->float_dtype);
}

/* --- arrays ----------------------------------------------------------------------- */

int
tb_read_extra(const tb_context *context, PyObject *given, Py_ssize_t columns,
              tb_output *output)
{
    static const char *const names[] = {"mask", "lengths", "like_main", "positions",
                                        NULL};
    int place;

    if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != 2) {
        return tb_raise_at(context, PyExc_TypeError, -1, -1, "malformed extra");
    }
    if (tb_read_choice(context, "extra", PyTuple_GET_ITEM(given, 0), names, &place) <
        0) {
        return -1;
    }
    output->kind = (tb_output_kind)(TB_OUTPUT_MASK + place);
    output->source = PyLong_AsSsize_t(PyTuple_GET_ITEM(given, 1));
    if (PyErr_Occurred()) {
        return -1;
    }
    if (output->source < TB_FIND_SOURCE || output->source >= columns) {
        return tb_raise_at(context, PyExc_TypeError, -1, -1,
                           "there is no column for %S", PyTuple_GET_ITEM(given, 0));
    }
    return 0;
}

static void
lay_out_extra(const tb_output *source, tb_output *output)
{
    output->layout = source->layout;
    output->layout.type = TB_I64;
    output->layout.item_size = 8;
    output->layout.trailing = 1;
    memset(output->layout.fill, 0, sizeof output->layout.fill);
    output->ndim = output->kind == TB_OUTPUT_LENGTHS ? 1 : 2;
    output->dims[0] = source->column.count;
    output->dims[1] = source->layout.width;
}

static int
read_fill(tb_state *state, tb_output *output)
{
    const tb_column_spec *spec = &output->spec;
    PyObject *fill = spec->padding_value;

    if (spec->float_padding_value != NULL && spec->float_padding_value != Py_None &&
        tb_type_is_float(output->column.dtype.type)) {
        fill = spec->float_padding_value;
    }
    if (fill == Py_False) {
        return tb_raise_at(&spec->context, PyExc_ValueError, -1, -1,
                           "labels of floats have no fill that a loss ignores: -100 is "
                           "one of class ids; expected padding_value={%R: 0}, or the "
                           "number that your loss leaves out",
                           spec->context.key);
    }
    if (fill == Py_None && spec->role == TB_ROLE_LOOSE) {
        return tb_raise_at(
            &spec->context, PyExc_ValueError, -1, -1,
            "the name does not say what these integers beside tokens are, "
            "so that the tokens' padding is not theirs; expected a mapping "
            "with the padding of each key, as padding_value={'input_ids': "
            "1, %R: -100} for labels",
            spec->context.key);
    }
    if (fill == Py_None) {
        return tb_raise_at(
            &spec->context, PyExc_ValueError, -1, -1,
            "1 is a token in a mask of this name for some libraries, and "
            "padding for others; expected padding_value={key: 0} or 1, or "
            "the name 'attention_mask'");
    }
    return tb_read_fill(state, &spec->context, fill, &output->column.dtype,
                        output->layout.fill);
}

static int
lay_out_column(tb_state *state, tb_output *output)
{
    const tb_pad_options *options =
        output->is_sequence ? &output->spec.options : &tb_unpadded;

    if (output->spec.role == TB_ROLE_CONCAT) {
        options = &output->spec.options;
    }
    if (tb_lay_out(&output->column, options, &output->layout) < 0) {
        return -1;
    }
    return tb_needs_fill(&output->column, &output->layout) ? read_fill(state, output)
                                                           : 0;
}

/* Columns first: the extras have the layouts of theirs. */
static int
lay_out_all(tb_state *state, tb_output *outputs, Py_ssize_t count, int promote)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        if (outputs[i].kind == TB_OUTPUT_COLUMN &&
            tb_settle_widened(state, &outputs[i].spec, &outputs[i].column) < 0) {
            return -1;
        }
    }
    if (tb_settle_roles(state, outputs, count, promote) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (outputs[i].kind == TB_OUTPUT_COLUMN) {
            if (lay_out_column(state, &outputs[i]) < 0) {
                return -1;
            }
        }
        else if (outputs[i].kind != TB_OUTPUT_NONE) {
            lay_out_extra(&outputs[outputs[i].source], &outputs[i]);
        }
    }
    return 0;
}

/* NumPy has no bfloat16, so its bits go to torch as int16. */
static PyArray_Descr *
carrier_descr(tb_state *state, const tb_output *output, int as_tensors)
{
    if (output->kind != TB_OUTPUT_COLUMN) {
        return PyArray_DescrFromType(output->layout.type == TB_I32 ? NPY_INT32
                                                                   : NPY_INT64);
    }
    if (as_tensors && output->column.dtype.type == TB_BF16) {
        return PyArray_DescrFromType(NPY_INT16);
    }
    return tb_dtype_descr(state, &output->column.dtype);
}

static int
output_shape(const tb_output *output, npy_intp *dims)
{
    if (output->kind != TB_OUTPUT_COLUMN) {
        memcpy(dims, output->dims, sizeof output->dims);
        return output->ndim;
    }
    int ndim = tb_output_shape(&output->column, &output->layout, dims);
    if (tb_role_is_numbers(output->spec.role) || output->spec.role == TB_ROLE_CONCAT) {
        ndim--; /* there is one row, without a dimension for it */
        memmove(dims, dims + 1, (size_t)ndim * sizeof *dims);
    }
    return ndim;
}

/* Offsets in one block, each column on a cache line of its own; the block's size. */
static int
assign_offsets(tb_output *outputs, Py_ssize_t count, ptrdiff_t *size)
{
    npy_intp dims[NPY_MAXDIMS];
    ptrdiff_t end = 0;

    for (Py_ssize_t i = 0; i < count; i++) {
        if (outputs[i].kind == TB_OUTPUT_NONE) {
            continue;
        }
        int ndim = output_shape(&outputs[i], dims);
        ptrdiff_t bytes = outputs[i].layout.item_size;
        int too_large = 0;
        for (int d = 0; d < ndim; d++) {
            too_large |= tb_multiply_sizes(bytes, dims[d], &bytes) != TB_OK;
        }
        if (too_large || bytes > PTRDIFF_MAX - ALIGNMENT - end) {
            return tb_raise_at(&outputs[i].spec.context, PyExc_ValueError, -1, -1,
                               "the columns of the batch are more bytes than can be "
                               "addressed");
        }
        outputs[i].offset = end;
        end += bytes + tb_find_missing(bytes, ALIGNMENT);
    }
    *size = end;
    return 0;
}

int
tb_allocate_outputs(tb_state *state, tb_output *outputs, Py_ssize_t count,
                    PyObject *allocate, int as_tensors)
{
    PyObject *block = NULL;
    npy_intp dims[NPY_MAXDIMS];
    int answer = -1;

    if (allocate != Py_None) {
        ptrdiff_t bytes = 0;
        if (assign_offsets(outputs, count, &bytes) < 0) {
            return -1;
        }
        block = PyObject_CallFunction(allocate, "n", bytes);
        if (block == NULL) {
            return -1;
        }
        if (!PyArray_Check(block) || !PyArray_ISCARRAY((PyArrayObject *)block) ||
            PyArray_NBYTES((PyArrayObject *)block) < bytes) {
            PyErr_SetString(PyExc_TypeError,
                            "allocate() must give an array that is large enough");
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (outputs[i].kind == TB_OUTPUT_NONE) {
            continue;
        }
        PyArray_Descr *descr = carrier_descr(state, &outputs[i], as_tensors);
        int ndim = output_shape(&outputs[i], dims);
        if (descr == NULL) {
            goto done;
        }
        if (block == NULL) {
            outputs[i].out =
                (PyArrayObject *)PyArray_SimpleNewFromDescr(ndim, dims, descr);
        }
        else {
            outputs[i].out = (PyArrayObject *)PyArray_NewFromDescr(
                &PyArray_Type, descr, ndim, dims, NULL,
                PyArray_BYTES((PyArrayObject *)block) + outputs[i].offset,
                NPY_ARRAY_CARRAY, NULL);
        }
        if (outputs[i].out == NULL ||
            (block != NULL &&
             PyArray_SetBaseObject(outputs[i].out, Py_NewRef(block)) < 0)) {
            goto done;
        }
    }
    answer = 0;
done:
    Py_XDECREF(block);
    return answer;
}

/* Fills what is made from lengths alone; no Python object is read. */
static void
fill_extra(const tb_column *column, const tb_output *output, void *out)
{
    static const int64_t one = 1;

    if (output->kind == TB_OUTPUT_MASK) {
        tb_mask_rows(column->lengths, column->count, &output->layout,
                     (const unsigned char *)&one, out);
    }
    else if (output->kind == TB_OUTPUT_POSITIONS) {
        tb_position_rows(column->lengths, column->count, &output->layout,
                         (int64_t *)out);
    }
    else if (output->kind == TB_OUTPUT_LENGTHS) {
        for (ptrdiff_t i = 0; i < column->count; i++) {
            ((int64_t *)out)[i] =
                tb_locate_row(&output->layout, column->lengths[i]).count;
        }
    }
}

static tb_read
fill_output(tb_state *state, const tb_output *outputs, tb_output *output)
{
    if (output->kind == TB_OUTPUT_COLUMN) {
        return tb_fill_rows(state, &output->column, &output->layout,
                            PyArray_DATA(output->out));
    }
    if (output->kind == TB_OUTPUT_NONE) {
        return TB_READ_DONE;
    }
    PyThreadState *thread = tb_release_gil(PyArray_NBYTES(output->out));
    fill_extra(&outputs[output->source].column, output, PyArray_DATA(output->out));
    tb_restore_gil(thread);
    return TB_READ_DONE;
}

int
tb_run_outputs(tb_state *state, tb_output *outputs, Py_ssize_t count, int promote,
               PyObject *allocate, int as_tensors)
{
    tb_read read;

    do {
        read = TB_READ_DONE;
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_CLEAR(outputs[i].out);
        }
        if (lay_out_all(state, outputs, count, promote) < 0 ||
            tb_allocate_outputs(state, outputs, count, allocate, as_tensors) < 0) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < count && read == TB_READ_DONE; i++) {
            read = fill_output(state, outputs, &outputs[i]);
        }
    } while (read == TB_READ_WIDEN);
    return read == TB_READ_DONE ? 0 : -1;
}

PyObject *
tb_answer_outputs(const tb_output *outputs, Py_ssize_t count)
{
    PyObject *answer = PyList_New(count);

    for (Py_ssize_t i = 0; answer != NULL && i < count; i++) {
        int is_bfloat16 = outputs[i].kind == TB_OUTPUT_COLUMN &&
                          outputs[i].column.dtype.type == TB_BF16;
        PyObject *entry = Py_BuildValue(
            "(OnO)", outputs[i].out == NULL ? Py_None : (PyObject *)outputs[i].out,
            (Py_ssize_t)outputs[i].offset, is_bfloat16 ? Py_True : Py_False);
        if (entry == NULL) {
            Py_CLEAR(answer);
            break;
        }
        PyList_SET_ITEM(answer, i, entry);
    }
    return answer;
}

void
tb_clear_output(tb_output *output)
{
    tb_clear_column(&output->column);
    tb_clear_column_spec(&output->spec);
    Py_CLEAR(output->out);
}
