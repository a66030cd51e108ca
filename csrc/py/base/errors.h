/* Messages that say where: "pad(): key 'labels', row 3, column 5: found ..." */
#ifndef TB_ERRORS_H
#define TB_ERRORS_H

#include "py/base/tb_numpy.h"

/* For whom the work is done: the public function's name, its argument, and the column's
 * key. Those of one reader stand for all of its messages. */
typedef struct {
    const char *function;
    PyObject *key;         /* borrowed, or NULL */
    const ptrdiff_t *rows; /* the caller's number of each row, NULL: its place */
    int one_row; /* what is read as one row of numbers has a number for each row */
    const char *argument; /* NULL where a row says enough */
} tb_context;

/* Sets `exception`; row and column -1 are left out. Answers -1, for `return`. */
int tb_raise_at(const tb_context *context, PyObject *exception, Py_ssize_t row,
                Py_ssize_t column, const char *format, ...);

/* What was found, for a message: its repr(), cut where it is long. One that raises is
 * left out. */
PyObject *tb_show(PyObject *object);

/* The same with its type: "'a' (str)". */
PyObject *tb_describe(PyObject *object);

/* The exception that a core status is. */
PyObject *tb_status_exception(tb_status status);

#endif
