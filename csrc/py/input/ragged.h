/* tightbatch.Ragged, as its Python class keeps it, read as rows. */
#ifndef TB_RAGGED_H
#define TB_RAGGED_H

#include "py/input/rows.h"

/* 1 where `object` is a Ragged, whose rows then are the column's; 0, or -1. */
int tb_survey_ragged(tb_state *state, PyObject *object, tb_column *column);

#endif
