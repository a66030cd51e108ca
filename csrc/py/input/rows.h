/* Rows as Python gives them -> rows as the core reads them: one column of a batch. */
#ifndef TB_ROWS_H
#define TB_ROWS_H

#include "py/base/gil.h"
#include "py/input/list.h"
#include "py/input/pad_options.h"
#include "core/layout/pad.h"
#include "py/input/tensor.h"

/* In tb_column.types: a list or tuple, which is read when the output is there. */
enum { TB_LIST = TB_OTHER + 1 };

typedef struct {
    tb_context context;
    PyObject *rows;   /* a tuple: holds what the pointers below point into */
    PyObject *owners; /* a list of arrays made on the way, or NULL */
    ptrdiff_t count;
    const void **data;    /* of an array row its elements, of a list row the list */
    ptrdiff_t *lengths;   /* positions */
    unsigned char *types; /* a tb_type or TB_LIST, each row */
    unsigned char *held;  /* 1: `data` is the memory of the row object itself */
    ptrdiff_t lists;      /* how many rows are lists */
    int ndim;             /* of one position; -1 until a row has told */
    npy_intp trailing[TB_MAX_TRAILING];
    ptrdiff_t shape_row;  /* the row that told `trailing` */
    ptrdiff_t array_row;  /* the row that stands for those that are no lists, or -1 */
    tb_dtype whole;       /* of the one array that was given; item_size 0: none was */
    PyArray_Descr *other; /* what TB_OTHER is in this column, owned; or NULL */
    tb_dtype dtype;       /* of the output; its descr is owned */
    int provisional;      /* `dtype` may still be widened while the lists are read */
} tb_column;

/* Looks at every row: its length, shape and type. Nothing is converted yet. */
int tb_survey_rows(tb_state *state, const tb_context *context, PyObject *sequences,
                   tb_column *column);

/* Settles the output's element type: `asked` (may be NULL), or the rows' own. */
int tb_settle_dtype(tb_state *state, tb_column *column, const tb_pad_options *options,
                    const tb_dtype *asked);

/* Finds the type that the rows have by themselves, without a look at whether all of them
 * agree; where they are lists it is provisional. */
int tb_find_own_dtype(tb_state *state, tb_column *column,
                      const tb_pad_options *options);

/* The type of row i, which is no list; borrowed from the column. */
tb_dtype tb_row_dtype(const tb_column *column, ptrdiff_t i);

/* What is kept of row i, which the core does not convert, is made an array, which then
 * is the row: of the output's type, or of float64 where that is a half type, which the
 * core goes on to. */
int tb_convert_row(tb_state *state, tb_column *column, tb_span kept, ptrdiff_t i);

/* The width that the options ask for, given the longest row as it is cut; before it is
 * rounded up. */
int tb_choose_width(const tb_column *column, const tb_pad_options *options,
                    ptrdiff_t longest, ptrdiff_t *width);

/* The output's layout but for the fill: width from the lengths, the options, overflow.
 */
int tb_lay_out(const tb_column *column, const tb_pad_options *options,
               tb_layout *layout);

/* The output's dimensions [batch, width, *trailing], batch 1 where the layout is flat;
 * answers how many they are. */
int tb_output_shape(const tb_column *column, const tb_layout *layout, npy_intp *dims);

/* Whether any row leaves something to fill. */
int tb_needs_fill(const tb_column *column, const tb_layout *layout);

/* Reads, moves, converts and fills into `out`. */
tb_read tb_fill_rows(tb_state *state, tb_column *column, const tb_layout *layout,
                     void *out);

/* The rows' lengths as a new int64 array [batch]. */
PyArrayObject *tb_new_lengths(const tb_column *column);

/* RuntimeError where an array's memory is no longer what the survey saw: code that ran
 * meanwhile, an __index__ say, can resize it. */
int tb_verify_rows(const tb_column *column);

/* Room for `count` rows. */
int tb_allocate_rows(tb_column *column, Py_ssize_t count);

/* Keeps `owner` alive as long as the column. */
int tb_note_owner(tb_column *column, PyObject *owner);

void tb_clear_column(tb_column *column);

#endif
