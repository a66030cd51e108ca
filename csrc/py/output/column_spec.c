#include "py/base/tb_numpy.h"
#include "py/output/column_spec.h"

/* --- read ------------------------------------------------------------------------ */

static const char *const role_names[] = {
    "main",           "rows",        "per_token",  "numbers",        "labels",
    "labels_of_main", "labels_kept", "row_labels", "attention_mask", "seq_lengths",
    "sequence",       "loose",       "stack",      "concat",         NULL};

/* The fields of a tuple (key, rows, role, settings), and of columns.ColumnSettings. */
enum { KEY, ROWS, ROLE, SETTINGS, SPEC_FIELDS };
enum {
    PADDING_VALUE,
    DTYPE,
    FLOAT_DTYPE,
    WIDTH,
    MAX_LENGTH,
    PAD_TO_MULTIPLE_OF,
    BOUNDARIES,
    PADDING_SIDE,
    FLOAT_PADDING_VALUE,
    SETTINGS_FIELDS
};

static int
check_fields(const tb_context *context, PyObject *given, Py_ssize_t fields)
{
    if (PyTuple_Check(given) && PyTuple_GET_SIZE(given) == fields) {
        return 0;
    }
    return tb_raise_at(context, PyExc_TypeError, -1, -1,
                       "malformed column; expected a tuple of %zd", fields);
}

const tb_pad_options tb_unpadded = {.width = -1, .max_length = -1, .multiple = 1};

/* Ascending widths as the collator keeps them: an int64 array, borrowed. */
static int
read_boundaries(const tb_context *context, PyObject *given, tb_pad_options *options)
{
    PyArrayObject *array = (PyArrayObject *)given;

    if (given == Py_None) {
        return 0;
    }
    if (options->width >= 0) {
        return tb_raise_at(context, PyExc_ValueError, -1, -1,
                           "width=%zd and boundaries=; expected one of them: "
                           "boundaries=(width,) is the same as width=",
                           options->width);
    }
    if (!PyArray_Check(given) || PyArray_NDIM(array) != 1 ||
        PyArray_TYPE(array) != NPY_INT64 || !PyArray_ISCARRAY_RO(array) ||
        PyArray_SIZE(array) == 0) {
        return tb_raise_at(context, PyExc_TypeError, -1, -1,
                           "boundaries: expected a contiguous int64 array");
    }
    options->boundaries = (const int64_t *)PyArray_DATA(array);
    options->boundary_count = PyArray_SIZE(array);
    return 0;
}

static int
read_float_dtype(tb_state *state, PyObject *given, tb_column_spec *spec)
{
    int found = tb_dtype_from_object(state, &spec->context, given, &spec->float_dtype);

    if (found <= 0) {
        return found;
    }
    found = tb_is_floating(state, &spec->float_dtype);
    return found != 0 ? (found < 0 ? -1 : 0)
                      : tb_raise_at(&spec->context, PyExc_TypeError, -1, -1,
                                    "dtype=%R; expected a floating type, for all "
                                    "columns of floats, or a mapping of keys to dtypes",
                                    given);
}

int
tb_read_column_settings(tb_state *state, PyObject *settings, tb_column_spec *spec)
{
    const tb_context *context = &spec->context;
    tb_pad_options *options = &spec->options;

    if (check_fields(context, settings, SETTINGS_FIELDS) < 0) {
        return -1;
    }
    spec->padding_value = PyTuple_GET_ITEM(settings, PADDING_VALUE);
    spec->float_padding_value = PyTuple_GET_ITEM(settings, FLOAT_PADDING_VALUE);
    PyObject *side = PyTuple_GET_ITEM(settings, PADDING_SIDE);
    if (side != Py_None && tb_read_choice(context, "padding_side", side, tb_sides,
                                          &options->pad_left) < 0) {
        return -1;
    }
    if (tb_dtype_from_object(state, context, PyTuple_GET_ITEM(settings, DTYPE),
                             &spec->dtype) < 0 ||
        read_float_dtype(state, PyTuple_GET_ITEM(settings, FLOAT_DTYPE), spec) < 0 ||
        tb_read_size(context, "width", PyTuple_GET_ITEM(settings, WIDTH), 0, -1,
                     &options->width) < 0 ||
        tb_read_size(context, "max_length", PyTuple_GET_ITEM(settings, MAX_LENGTH), 0,
                     -1, &options->max_length) < 0 ||
        tb_read_size(context, "pad_to_multiple_of",
                     PyTuple_GET_ITEM(settings, PAD_TO_MULTIPLE_OF), 1, 1,
                     &options->multiple) < 0) {
        return -1;
    }
    return read_boundaries(context, PyTuple_GET_ITEM(settings, BOUNDARIES), options);
}

int
tb_read_column_spec(tb_state *state, const tb_context *context,
                    const tb_pad_options *sides, PyObject *given, tb_column_spec *spec)
{
    int role;

    spec->context = *context;
    spec->options = *sides;
    if (check_fields(context, given, SPEC_FIELDS) < 0) {
        return -1;
    }
    PyObject *key = PyTuple_GET_ITEM(given, KEY);
    spec->context.key = key == Py_None ? NULL : key;
    spec->rows = PyTuple_GET_ITEM(given, ROWS);
    if (tb_read_choice(&spec->context, "role", PyTuple_GET_ITEM(given, ROLE),
                       role_names, &role) < 0) {
        return -1;
    }
    spec->role = (tb_column_role)role;
    if (tb_read_column_settings(state, PyTuple_GET_ITEM(given, SETTINGS), spec) < 0) {
        return -1;
    }
    if (tb_role_is_numbers(spec->role)) { /* one row, as wide as the batch */
        spec->context.one_row = 1;
        spec->options = tb_unpadded;
    }
    if (spec->role == TB_ROLE_STACK || spec->role == TB_ROLE_CONCAT) {
        spec->options = tb_unpadded;
        spec->options.flat = spec->role == TB_ROLE_CONCAT;
    }
    return 0;
}

int
tb_check_fill(tb_state *state, const tb_column_spec *spec)
{
    tb_number number;

    if (tb_read_number(state, spec->padding_value, &number) < 0) {
        return -1;
    }
    Py_XDECREF(number.object);
    if (number.kind != TB_NOT_A_NUMBER) {
        return 0;
    }
    PyObject *found = tb_describe(spec->padding_value);
    if (found != NULL) {
        tb_raise_at(&spec->context, PyExc_TypeError, -1, -1,
                    "padding_value is %U, expected a number", found);
        Py_DECREF(found);
    }
    return -1;
}

/* --- surveyed --------------------------------------------------------------------- */

int
tb_survey_spec(tb_state *state, const tb_column_spec *spec, tb_column *column)
{
    PyObject *rows = tb_role_is_numbers(spec->role) ? PyTuple_Pack(1, spec->rows)
                                                    : Py_NewRef(spec->rows);

    if (rows == NULL) {
        return -1;
    }
    int answer = tb_survey_rows(state, &spec->context, rows, column);
    Py_DECREF(rows);
    return answer;
}

int
tb_check_per_token(const tb_column *column, const tb_column *main)
{
    if (column->count != main->count) {
        return tb_raise_at(&column->context, PyExc_ValueError, -1, -1,
                           "has %zd rows, but key %R has %zd",
                           (Py_ssize_t)column->count, main->context.key,
                           (Py_ssize_t)main->count);
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->lengths[i] != main->lengths[i]) {
            return tb_raise_at(&column->context, PyExc_ValueError, i, -1,
                               "has length %zd, but key %R has %zd in this row; "
                               "expected a value for each of its tokens",
                               (Py_ssize_t)column->lengths[i], main->context.key,
                               (Py_ssize_t)main->lengths[i]);
        }
    }
    return 0;
}

void
tb_clear_column_spec(tb_column_spec *spec)
{
    Py_CLEAR(spec->dtype.descr);
    Py_CLEAR(spec->float_dtype.descr);
}
