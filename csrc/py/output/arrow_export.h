/* Exports rows to any Arrow library, without pyarrow, by the Arrow PyCapsule protocol.
 */
#ifndef TB_ARROW_EXPORT_H
#define TB_ARROW_EXPORT_H

#include "py/input/ragged.h"

/* (schema capsule, array capsule) of a large_list over the memory of the one chunk of
 * `rows`, which they keep alive; bools are packed in a copy. The rows lie one after
 * another. TypeError for an element type that Arrow does not have. */
PyObject *tb_export_ragged(tb_state *state, const tb_ragged *rows);

#endif
