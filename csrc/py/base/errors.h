/* Messages that say where: "pad(): key 'labels', row 3, column 5: found ..." */
#ifndef TB_ERRORS_H
#define TB_ERRORS_H

#include "py/base/tb_numpy.h"

/* What messages name first: the public function, its argument, and the column's key. */
typedef struct {
    const char *function;
    PyObject *key;         /* borrowed, or NULL */
    const ptrdiff_t *rows; /* the caller's number of each row; NULL: its index */
    int one_row;           /* one row of numbers is read, with a number for each row */
    const char *argument;  /* NULL if the row is enough */
} tb_context;

/* Sets `exception`; a row or column of -1 is left out. Returns -1. */
int tb_raise_at(const tb_context *context, PyObject *exception, Py_ssize_t row,
                Py_ssize_t column, const char *format, ...);

/* Makes `cause`, an exception or NULL, the cause of the exception that is set. */
void tb_set_cause(PyObject *cause);

/* A value for a message: its repr(), cut if it is long; its type if repr() raises. */
PyObject *tb_show(PyObject *object);

/* The same with its type: "'a' (str)". */
PyObject *tb_describe(PyObject *object);

/* The exception for a status of the core. */
PyObject *tb_status_exception(tb_status status);

#endif
