/* The loops that have a version for each level, for scan.c alone. */
#ifndef TB_SCAN_LOOPS_H
#define TB_SCAN_LOOPS_H

#include "core/base/macros.h"

#include <stddef.h>
#include <stdint.h>

/* Each tells of n elements whether all are as expected. */
typedef struct {
    int (*count_up)(const int64_t *p, ptrdiff_t n, int64_t start);
    int (*in_range)(const int64_t *p, ptrdiff_t n, int64_t limit);
    int (*equal)(const int64_t *a, const int64_t *b, ptrdiff_t n);
    int (*constant)(const int64_t *p, ptrdiff_t n, int64_t value);
    int (*without)(const int64_t *p, ptrdiff_t n, int64_t value);
} tb_scan_loops;

extern const tb_scan_loops tb_scan_loops_scalar;
#if TB_X86
extern const tb_scan_loops tb_scan_loops_avx2;
extern const tb_scan_loops tb_scan_loops_avx512;
#endif

#endif
