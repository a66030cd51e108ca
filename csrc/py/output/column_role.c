#include "py/base/tb_numpy.h"
#include "py/output/column_role.h"

#include <string.h>

/* Whether the name, a setting or the type says that rows are sequences. */
static int
is_known(const tb_output *output)
{
    const tb_column *column = &output->column;
    int is_integers = column->dtype.type < TB_F32;

    switch (output->spec.role) {
        case TB_ROLE_NUMBERS:
        case TB_ROLE_STACK:
        case TB_ROLE_CONCAT:
            return 0;
        case TB_ROLE_SEQUENCE:
            return column->ndim <= 1;
        case TB_ROLE_LOOSE:
        case TB_ROLE_LABELS:
            return column->ndim <= 0 && is_integers;
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

static int
refuse_shapes(const tb_output *output, ptrdiff_t row)
{
    const tb_column *column = &output->column;
    PyObject *key = column->context.key;
    Py_ssize_t found = column->lengths[row], first = column->lengths[0];
    const char *what = output->spec.role == TB_ROLE_STACK || column->ndim > 1
                           ? "rows that are stacked have one shape"
                       : column->ndim > 0
                           ? "nothing says that these rows of vectors are sequences"
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
tb_settle_roles(tb_output *outputs, Py_ssize_t count, int promote)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        outputs[i].is_sequence =
            outputs[i].kind == TB_OUTPUT_COLUMN && is_known(&outputs[i]);
    }
    Py_ssize_t found = find_source(outputs, count, promote);
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
        int is_open =
            output->spec.role == TB_ROLE_LOOSE || output->spec.role == TB_ROLE_LABELS;
        output->is_sequence =
            is_open && follows_a_sequence(outputs, count, &output->column);
        if (!output->is_sequence && check_alike(output) < 0) {
            return -1;
        }
    }
    return 0;
}
