/*
 * Copying and filling past the caches, for outputs that are larger than the caches. A
 * cached store reads its line before it overwrites it, and evicts lines that are still
 * needed. Streaming is faster above about half of the last-level cache and slower
 * below. It takes SSE2, which every x86-64 has. Elsewhere memcpy and plain fills do the
 * same.
 */
#ifndef TB_STREAM_H
#define TB_STREAM_H

#include <stddef.h>

/* Outputs of this many bytes or more are streamed: as much as the last-level cache of a
 * server, or more. */
enum { TB_STREAM_FROM = 32 << 20 };

/* As memcpy. */
void tb_stream_copy(void *dst, const void *src, size_t n);

/* n copies of the item_size (1, 2, 4, 8 or 16) bytes at `value`. */
void tb_stream_fill(void *dst, ptrdiff_t n, int item_size, const unsigned char *value);

/* Streamed bytes are ordered before what follows. */
void tb_stream_fence(void);

#endif
