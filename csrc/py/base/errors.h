/* Messages that say where: "pad(): key 'labels', row 3, column 5: found ..." */
#ifndef TB_ERRORS_H
#define TB_ERRORS_H

#include "py/base/tb_numpy.h"

/* For whom the work is done: the public function's name, and the column's key or NULL.
 */
typedef struct {
    const char *function;
    PyObject *key;         /* borrowed */
    const ptrdiff_t *rows; /* the caller's number of each row, NULL: its place */
    int is_flat; /* the one row that is read has a number for each row of the batch */
} tb_context;

/* Sets `exception`; row and column -1 are left out. Answers -1, for `return`. */
int tb_raise_at(const tb_context *context, PyObject *exception, Py_ssize_t row,
                Py_ssize_t column, const char *format, ...);

/* What was found, for a message: "'a' (str)". A repr() that raises is left out. */
PyObject *tb_describe(PyObject *object);

/* The exception that a core status is. */
PyObject *tb_status_exception(tb_status status);

#endif
