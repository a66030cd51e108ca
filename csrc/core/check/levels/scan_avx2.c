/* The loops of scan.c for AVX2. */
#include "core/check/levels/scan_loops.h"

#if TB_X86
#    define TARGET TB_TARGET("avx2")
#    define TABLE tb_scan_loops_avx2
#    include "core/check/levels/scan.inc.h"
#endif
