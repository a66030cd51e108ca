/* Taking batches out of the rows of a stream that wait (streaming.h). */
#ifndef TB_STREAMING_TAKE_H
#define TB_STREAMING_TAKE_H

#include "core/plan/streaming.h"

/* Whether a batch can be taken before more rows come. */
int tb_is_batch_ready(const tb_streaming *stream);

/* Takes a batch: stream->batch has its rows until the next call, batch_count of them; 0:
 * none is ready. is_end: no more rows will come, and all that wait are handed out. */
TB_MUST_CHECK tb_status tb_take_batch(tb_streaming *stream, int is_end);

#endif
