/* The one gateway to Python and NumPy: every file of csrc/py includes this one first.
 */
#ifndef TB_NUMPY_H
#define TB_NUMPY_H

#include "py/base/compat.h"

#define PY_ARRAY_UNIQUE_SYMBOL tightbatch_ARRAY_API
#ifndef TB_IMPORTS_NUMPY
#    define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "core/base/macros.h"
#include "core/base/status.h"

#endif
