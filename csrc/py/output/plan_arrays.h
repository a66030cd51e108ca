/* A plan of batches as arrays. */
#ifndef TB_PLAN_ARRAYS_H
#define TB_PLAN_ARRAYS_H

#include "py/base/tb_numpy.h"
#include "core/plan/batch.h"

/* (indices [rows], offsets [batches + 1]), int64, in the order of the epoch. */
PyObject *tb_arrays_of_plan(const tb_batch_plan *plan);

#endif
