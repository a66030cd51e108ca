/* Other threads run while much is written and no Python object is looked at. */
#ifndef TB_GIL_H
#define TB_GIL_H

#include "py/base/tb_numpy.h"

/* Below this many bytes taking the GIL back costs more than others gain from it. */
enum { TB_WORTH_RELEASING = 1 << 16 };

/* Releases the GIL where `bytes` are worth it; what it answers goes to tb_restore_gil. */
static inline PyThreadState *
tb_release_gil(npy_intp bytes)
{
    return bytes < TB_WORTH_RELEASING ? NULL : PyEval_SaveThread();
}

static inline void
tb_restore_gil(PyThreadState *thread)
{
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
}

#endif
