#include "py/base/tb_numpy.h"
#include "py/output/column_role.h"
#include "py/input/list.h"

#include <string.h>

/* Whether the name, a setting or the type says that rows are sequences. Labels are looked
 * at after all others, because it depends on those. */
static int
is_known(const tb_output *output)
{
    const tb_column *column = &output->column;

    switch (output->spec.role) {
        case TB_ROLE_NUMBERS:
        case TB_ROLE_STACK:
        case TB_ROLE_CONCAT:
        case TB_ROLE_LABELS:
            return 0;
        case TB_ROLE_SEQUENCE:
            return column->ndim <= 1;
        case TB_ROLE_LOOSE:
            return column->ndim <= 0 && column->dtype.type < TB_F32;
        default:
            return 1;
    }
}

/* Whether masks and lengths may be of it: its name does not say that it is anything else
 * than the tokens. */
static int
may_be_source(const tb_output *output)
{
    return output->kind == TB_OUTPUT_COLUMN &&
           (output->spec.role == TB_ROLE_LOOSE || output->spec.role == TB_ROLE_ROWS);
}

/* The column for masks and lengths of names that say nothing. */
static Py_ssize_t
find_source(tb_output *outputs, Py_ssize_t count, int promote)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        if (may_be_source(&outputs[i]) && outputs[i].is_sequence) {
            return i;
        }
    }
    for (Py_ssize_t i = 0; promote != TB_PROMOTE_NONE && i < count; i++) {
        int ndim = outputs[i].column.ndim;
        if (may_be_source(&outputs[i]) &&
            (ndim == 1 || (ndim < 1 && promote == TB_PROMOTE_ROWS))) {
            outputs[i].is_sequence = 1;
            return i;
        }
    }
    return -1;
}

/* Whether rows are as long as those of a sequence, which are not all empty. */
static int
follows_a_sequence(const tb_output *outputs, Py_ssize_t count, const tb_column *column)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        const tb_column *other = &outputs[i].column;
        if (outputs[i].kind == TB_OUTPUT_COLUMN && outputs[i].is_sequence &&
            other->count == column->count &&
            memcmp(other->lengths, column->lengths,
                   (size_t)column->count * sizeof *column->lengths) == 0) {
            return 1;
        }
    }
    return 0;
}

/* --- labels ----------------------------------------------------------------------- */

/* Whether an integer of this size is 0 or 1. */
static int
is_zero_or_one(const unsigned char *at, int size)
{
    uint64_t value = 0;

    if (size == 1) {
        value = *at;
    }
    else if (size == 2) {
        uint16_t narrow;
        memcpy(&narrow, at, sizeof narrow);
        value = narrow;
    }
    else if (size == 4) {
        uint32_t narrow;
        memcpy(&narrow, at, sizeof narrow);
        value = narrow;
    }
    else {
        memcpy(&value, at, sizeof value);
    }
    return value <= 1; /* a negative one is large */
}

static int
has_binary_items(tb_state *state, PyObject *list, ptrdiff_t length)
{
    tb_number number;
    int is_binary = 1;

    for (ptrdiff_t j = 0; j < length && is_binary; j++) {
        PyObject *item = tb_get_item(list, j);
        if (item == NULL) {
            return 0; /* the list was changed: reading it says so */
        }
        int answer = tb_read_number(state, item, &number);
        Py_DECREF(item);
        Py_XDECREF(number.object);
        if (answer < 0) {
            return -1;
        }
        is_binary =
            number.kind == TB_NUMBER_BOOL ||
            (number.kind == TB_NUMBER_INT && (number.i == 0 || number.i == 1)) ||
            (number.kind == TB_NUMBER_FLOAT && (number.f == 0 || number.f == 1));
    }
    return is_binary;
}

/* Whether all numbers are 0 or 1: class ids and tokens of a whole batch are not. Arrays
 * first, as reading lists may run Python code. -1 with an exception. */
static int
is_binary(tb_state *state, const tb_column *column)
{
    int answer = 1;

    if (tb_verify_rows(column) < 0) {
        return -1;
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->types[i] == TB_LIST || column->lengths[i] == 0) {
            continue;
        }
        tb_dtype found = tb_row_dtype(column, i);
        const unsigned char *at = column->data[i];
        if (found.type >= TB_F32) {
            return 0;
        }
        for (ptrdiff_t j = 0; j < column->lengths[i]; j++) {
            if (!is_zero_or_one(at + j * found.item_size, found.item_size)) {
                return 0;
            }
        }
    }
    for (ptrdiff_t i = 0; i < column->count && answer == 1; i++) {
        if (column->types[i] == TB_LIST) {
            PyObject *list = Py_NewRef(tb_list_row(column, i));
            answer = has_binary_items(state, list, column->lengths[i]);
            Py_DECREF(list);
        }
    }
    return answer;
}

static int
are_alike(const tb_column *column)
{
    for (ptrdiff_t i = 1; i < column->count; i++) {
        if (column->lengths[i] != column->lengths[0]) {
            return 0;
        }
    }
    return 1;
}

/* Whether masks, lengths or positions are made of a column. */
static int
is_source(const tb_output *outputs, Py_ssize_t count, Py_ssize_t column)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        if (outputs[i].kind != TB_OUTPUT_COLUMN && outputs[i].kind != TB_OUTPUT_NONE &&
            outputs[i].source == column) {
            return 1;
        }
    }
    return 0;
}

/* Whether rows of labels are sequences; -1 with an exception. */
static int
are_labels_sequences(tb_state *state, const tb_output *outputs, Py_ssize_t count,
                     Py_ssize_t place)
{
    const tb_column *column = &outputs[place].column;

    if (column->dtype.type >= TB_F32) {
        return 0;
    }
    if (column->ndim > 0) {
        return follows_a_sequence(outputs, count, column);
    }
    if (column->count == 0 || column->lengths[0] == 0 || !are_alike(column) ||
        is_source(outputs, count, place)) {
        return 1;
    }
    if (column->dtype.type == TB_BOOL) {
        return 0; /* no bool is ignored by a loss */
    }
    if (follows_a_sequence(outputs, count, column)) {
        return 1;
    }
    int answer = is_binary(state, column);
    return answer < 0 ? -1 : !answer;
}

/* --- what is not padded ------------------------------------------------------------- */

static int
refuse_shapes(const tb_output *output, ptrdiff_t row)
{
    const tb_column *column = &output->column;
    PyObject *key = column->context.key;
    Py_ssize_t found = column->lengths[row], first = column->lengths[0];
    const char *what =
        output->spec.role == TB_ROLE_STACK || column->ndim > 1
            ? "rows that are stacked have one shape"
        : output->spec.role == TB_ROLE_LABELS && column->dtype.type >= TB_F32
            ? "labels of floats have no fill that a loss ignores"
        : column->ndim > 0 ? "nothing says that these rows of vectors are sequences"
                           : "nothing says that these rows of floats are sequences";

    if (key == NULL) {
        return tb_raise_at(&column->context, PyExc_ValueError, row, -1,
                           "has %zd items, row 0 has %zd, and %s; padding_value={None: "
                           "0} pads them",
                           found, first, what);
    }
    return tb_raise_at(&column->context, PyExc_ValueError, row, -1,
                       "has %zd items, row 0 has %zd, and %s; padding_value={%R: 0} "
                       "pads them, concat=%R joins them along the first dimension, "
                       "keep=%R makes a list",
                       found, first, what, key, key, key);
}

/* All rows are as long as the first one. */
static int
check_alike(const tb_output *output)
{
    const tb_column *column = &output->column;

    for (ptrdiff_t i = 1; i < column->count; i++) {
        if (column->lengths[i] == column->lengths[0]) {
            continue;
        }
        return refuse_shapes(output, i);
    }
    return 0;
}

static int
settle_source(tb_output *outputs, tb_output *extra, Py_ssize_t found)
{
    Py_ssize_t source = extra->source == TB_FIND_SOURCE ? found : extra->source;

    if (source >= 0 &&
        (outputs[source].is_sequence || outputs[source].spec.role == TB_ROLE_CONCAT)) {
        extra->source = source;
        return 0;
    }
    if (extra->kind == TB_OUTPUT_LENGTHS) {
        tb_context context = outputs[source < 0 ? 0 : source].spec.context;
        context.key = source < 0 ? NULL : context.key;
        return tb_raise_at(&context, PyExc_ValueError, -1, -1,
                           "return_lengths=, but this is no column of sequences; "
                           "expected one");
    }
    extra->kind = TB_OUTPUT_NONE;
    return 0;
}

int
tb_settle_roles(tb_state *state, tb_output *outputs, Py_ssize_t count, int promote)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        outputs[i].is_sequence =
            outputs[i].kind == TB_OUTPUT_COLUMN && is_known(&outputs[i]);
    }
    Py_ssize_t found = find_source(outputs, count, promote);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (outputs[i].kind == TB_OUTPUT_COLUMN &&
            outputs[i].spec.role == TB_ROLE_LABELS) {
            int answer = are_labels_sequences(state, outputs, count, i);
            if (answer < 0) {
                return -1;
            }
            outputs[i].is_sequence = answer;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        tb_output *output = &outputs[i];
        if (output->kind != TB_OUTPUT_COLUMN) {
            if (output->kind != TB_OUTPUT_NONE &&
                settle_source(outputs, output, found) < 0) {
                return -1;
            }
            continue;
        }
        if (output->is_sequence || output->spec.role == TB_ROLE_CONCAT ||
            output->spec.role == TB_ROLE_NUMBERS) {
            continue;
        }
        output->is_sequence = output->spec.role == TB_ROLE_LOOSE &&
                              follows_a_sequence(outputs, count, &output->column);
        if (!output->is_sequence && check_alike(output) < 0) {
            return -1;
        }
    }
    return 0;
}
