/* What functions of the core return: a status, and the place of an error. */
#ifndef TB_STATUS_H
#define TB_STATUS_H

#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(ptrdiff_t) == sizeof(int64_t), "64-bit platforms only");

typedef enum {
    TB_OK = 0,
    TB_ERR_RANGE,    /* an integer outside the range of the output type */
    TB_ERR_INEXACT,  /* an integer that the floating output type cannot hold exactly */
    TB_ERR_OVERFLOW, /* a finite float that would become infinite */
    TB_ERR_NEGATIVE, /* a length below zero */
    TB_ERR_TOO_LONG, /* a row longer than what it must fit into */
    TB_ERR_SIZE,     /* a product of sizes that does not fit into ptrdiff_t */
    TB_ERR_REPEATED, /* a second one of something that may be there once */
    TB_ERR_MEMORY,   /* malloc returned NULL */
    TB_ERR_INTERRUPTED, /* a tb_poll said so */
    TB_ERR_ARROW,       /* an Arrow structure that cannot be read; a fault says why */
} tb_status;

/* Called now and then by what can take long. Below 0: end, with TB_ERR_INTERRUPTED. */
typedef int (*tb_poll)(void);

/* Filled when the status is not TB_OK. `column` is -1 where there is none. */
typedef struct {
    ptrdiff_t row;
    ptrdiff_t column;
    int64_t value;
} tb_error;

#endif
