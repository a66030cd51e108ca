/* Reads settings: sizes, flags, choices and numbers from the user. Every reader's error
 * names the function and the setting, what was found and what was expected: TypeError
 * for another type, ValueError outside the range, OverflowError beyond what the setting
 * can hold. */
#ifndef TB_SETTINGS_H
#define TB_SETTINGS_H

#include "py/base/errors.h"

/* As `missing`: None is refused. */
#define TB_REQUIRED INT64_MIN

/* An integer from `least` to `most`: an int, NumPy's, or anything with __index__ but a
 * bool. None is `missing`. */
int tb_read_int(const tb_context *context, const char *name, PyObject *value,
                int64_t least, int64_t most, int64_t missing, int64_t *out);

/* The same, up to the largest size that can be addressed. */
int tb_read_size(const tb_context *context, const char *name, PyObject *value,
                 Py_ssize_t least, int64_t missing, Py_ssize_t *out);

/* An index into `count` items, as in Python: negative ones, down to -count, count from
 * the end. IndexError for any other, also beyond 64 bits. */
int tb_read_index(const tb_context *context, const char *name, PyObject *value,
                  Py_ssize_t count, Py_ssize_t *out);

/* An integer from 0 to 2**64 - 1, such as a seed. */
int tb_read_uint64(const tb_context *context, const char *name, PyObject *value,
                   uint64_t *out);

/* A bool, Python's or NumPy's; nothing else. */
int tb_read_flag(const tb_context *context, const char *name, PyObject *value,
                 int *out);

/* A number from `least` to `most`; bools and NaN are refused. */
int tb_read_real(const tb_context *context, const char *name, PyObject *value,
                 double least, double most, double *out);

/* The index of one of `choices`, strings that end with NULL. */
int tb_read_choice(const tb_context *context, const char *name, PyObject *value,
                   const char *const choices[], int *out);

/* "right" 0, "left" 1. */
extern const char *const tb_sides[];

/* What to do with a row that is longer than what it must fit into. */
typedef enum {
    TB_OVERLONG_ERROR,
    TB_OVERLONG_TRUNCATE,
    TB_OVERLONG_SPLIT,
    TB_OVERLONG_DROP
} tb_overlong;

extern const char *const tb_overlong_choices[];

/* A function that has many settings describes them by a table. */
typedef enum {
    TB_SETTING_INT,    /* int64_t; `most` 0 is INT64_MAX */
    TB_SETTING_UINT64, /* uint64_t */
    TB_SETTING_FLAG,   /* int */
    TB_SETTING_CHOICE, /* int */
} tb_setting_kind;

typedef struct {
    const char *name;
    tb_setting_kind kind;
    size_t offset; /* of the field that takes it */
    int64_t least;
    int64_t most;
    int64_t missing; /* what None stands for, or TB_REQUIRED */
    const char *const *choices;
} tb_setting;

/* Reads the settings of `table` from `mapping`, a dict with a value for each name, into
 * the fields of `out`. */
int tb_read_settings(const tb_context *context, const tb_setting *table, size_t count,
                     PyObject *mapping, void *out);

/* The fields as a dict of int, bool and str; None for a missing one. */
PyObject *tb_dict_of_settings(const tb_setting *table, size_t count, const void *from);

/* Private functions take all arguments by position. */
int tb_check_count(const char *function, Py_ssize_t given, Py_ssize_t expected);

/* The name of the public function that a private one works for. */
int tb_read_function(PyObject *name, tb_context *context);

#endif
