/* A collator's description of one column of the batch: its key, its rows, its role, and
 * the settings of that key. */
#ifndef TB_COLUMN_SPEC_H
#define TB_COLUMN_SPEC_H

#include "py/input/rows.h"

/* What happens to a column. Masks and lengths are made from the main column. */
typedef enum {
    TB_ROLE_MAIN,           /* rows: padded, or laid one after another */
    TB_ROLE_ROWS,           /* the same */
    TB_ROLE_PER_TOKEN,      /* the same, and as long as those of the main column */
    TB_ROLE_NUMBERS,        /* one number for each row: stacked, [batch] */
    TB_ROLE_LABELS,         /* padding-free: per token, ignored at first tokens */
    TB_ROLE_LABELS_OF_MAIN, /* padding-free: no rows; made from the main column */
    TB_ROLE_LABELS_KEPT,    /* padding-free: per token, as they are */
    TB_ROLE_ROW_LABELS,     /* padding-free: one number for each row, [segments] */
    TB_ROLE_MASK,           /* padding-free: must be ones, and is left out */
    TB_ROLE_SEGMENTS,       /* padding-free: lengths of each row's segments; left out */
    TB_ROLE_SEQUENCE,       /* padded: rows of numbers, or of vectors */
    TB_ROLE_LOOSE,          /* a name that says nothing: see column_role.h */
    TB_ROLE_STACK,          /* rows of one shape, as they are */
    TB_ROLE_CONCAT          /* one after another along the first dimension */
} tb_column_role;

typedef struct {
    tb_context context; /* names the key, unless it is None */
    PyObject *rows;     /* borrowed */
    tb_column_role role;
    PyObject *padding_value;       /* borrowed */
    PyObject *float_padding_value; /* the same of a column of floats, or None; False: it
                                    * is not known, and padding is an error */
    tb_dtype dtype;                /* item_size 0: none is asked for */
    tb_dtype float_dtype; /* of a column that otherwise would be floating; or 0 */
    tb_pad_options options;
} tb_column_spec;

/* The options of what is not padded. */
extern const tb_pad_options tb_unpadded;

/* Whether the column has one number for each row. */
static inline int
tb_role_is_numbers(tb_column_role role)
{
    return role == TB_ROLE_NUMBERS || role == TB_ROLE_ROW_LABELS;
}

/* Reads (key, rows, role, settings). `sides` has the options of all columns. */
int tb_read_column_spec(tb_state *state, const tb_context *context,
                        const tb_pad_options *sides, PyObject *given,
                        tb_column_spec *spec);

/* Reads a columns.ColumnSettings. The error for a wrong one has its name. */
int tb_read_column_settings(tb_state *state, PyObject *settings, tb_column_spec *spec);

/* TypeError if padding_value is not a number. */
int tb_check_fill(tb_state *state, const tb_column_spec *spec);

/* Surveys the rows. */
int tb_survey_spec(tb_state *state, const tb_column_spec *spec, tb_column *column);

/* ValueError if a row of `column` is not as long as that of `main`. */
int tb_check_per_token(const tb_column *column, const tb_column *main);

void tb_clear_column_spec(tb_column_spec *spec);

#endif
