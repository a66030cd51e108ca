/* Objects of the Arrow PyCapsule protocol, without pyarrow.
 *
 * Source: "The Arrow PyCapsule Interface",
 * https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
 */
#ifndef TB_ARROW_SOURCE_H
#define TB_ARROW_SOURCE_H

#include "core/arrow/c_data.h"
#include "py/base/errors.h"

/* What an object gives: its type, and chunks that this process now owns. Chunks of
 * length 0 are not kept. */
typedef struct {
    const tb_arrow_schema *schema;
    tb_arrow_schema own; /* of a stream; `schema` then points to it */
    PyObject *capsules;  /* keeps the schema of a single array alive, or NULL */
    PyObject *chunks;    /* list of capsules, each around one tb_arrow_array */
} tb_arrow_source;

/* 1 where `object` offers __arrow_c_stream__ or __arrow_c_array__, 0, or -1. */
int tb_is_arrow(PyObject *object);

/* Takes the data of `object`: schema and chunks. 0, or -1 with an exception. */
int tb_take_arrow(const tb_context *context, PyObject *object, tb_arrow_source *source);

void tb_drop_arrow(tb_arrow_source *source);

/* The array in a capsule of `source->chunks`. */
const tb_arrow_array *tb_arrow_in_capsule(PyObject *capsule);

#endif
