/* What a collator says of a column of the batch: its key, its rows, what is to become of
 * them, and the settings of that key. */
#ifndef TB_COLUMN_SPEC_H
#define TB_COLUMN_SPEC_H

#include "py/input/rows.h"

/* What becomes of a column. Masks and lengths are made of the one main column. */
typedef enum {
    TB_ROLE_MAIN,           /* rows: padded, or laid one after another */
    TB_ROLE_ROWS,           /* the same */
    TB_ROLE_PER_TOKEN,      /* the same, and as long as those of the main column */
    TB_ROLE_NUMBERS,        /* a number a row: stacked, [batch] */
    TB_ROLE_LABELS,         /* padding-free: per token, ignored at first tokens */
    TB_ROLE_LABELS_OF_MAIN, /* padding-free: no rows; labels are the main column's */
    TB_ROLE_MASK,           /* padding-free: must be ones, and is left out */
    TB_ROLE_SEGMENTS        /* padding-free: lengths of each row's segments; left out */
} tb_column_role;

typedef struct {
    tb_context context; /* names the key, unless it is None */
    PyObject *rows;     /* borrowed */
    tb_column_role role;
    PyObject *padding_value; /* borrowed */
    tb_dtype dtype;          /* item_size 0: none is asked for */
    tb_dtype float_dtype;    /* of a column that otherwise would be floating; or 0 */
    tb_pad_options options;
} tb_column_spec;

/* Reads (key, rows, role, settings). `sides` are options of all columns. */
int tb_read_column_spec(tb_state *state, const tb_context *context,
                        const tb_pad_options *sides, PyObject *given,
                        tb_column_spec *spec);

/* Reads what columns.ColumnSettings holds. A wrong one is an error of its name. */
int tb_read_column_settings(tb_state *state, PyObject *settings, tb_column_spec *spec);

/* TypeError where padding_value is no number. */
int tb_check_fill(tb_state *state, const tb_column_spec *spec);

/* Looks at the rows. */
int tb_survey_spec(tb_state *state, const tb_column_spec *spec, tb_column *column);

/* ValueError where a row of `column` is not as long as that of `main`. */
int tb_check_per_token(const tb_column *column, const tb_column *main);

void tb_clear_column_spec(tb_column_spec *spec);

#endif
