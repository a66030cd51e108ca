#include "tb_numpy.h"
#include "state.h"
PyMethodDef tb_collate_methods[] = {{NULL, NULL, 0, NULL}};
