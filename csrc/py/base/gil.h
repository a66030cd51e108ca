/* Releases the GIL while much is written and no Python object is read. */
#ifndef TB_GIL_H
#define TB_GIL_H

#include "py/base/tb_numpy.h"

/* Below this many bytes, to take the GIL again costs more than other threads gain. */
enum { TB_WORTH_RELEASING = 1 << 16 };

/* Releases the GIL if `bytes` are worth it; the result is for tb_restore_gil. */
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

/* Whether a signal, such as Ctrl+C, ends the call: a tb_poll, called without the GIL. */
static inline int
tb_poll_signals(void)
{
    PyGILState_STATE held = PyGILState_Ensure();
    int answer = PyErr_CheckSignals();

    PyGILState_Release(held);
    return answer;
}

#endif
