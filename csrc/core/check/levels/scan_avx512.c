/* The loops of scan.c for AVX-512. */
#include "core/check/levels/scan_loops.h"

#if TB_X86
#    define TARGET TB_TARGET("avx512f,avx512bw,avx512vl")
#    define TABLE tb_scan_loops_avx512
#    include "core/check/levels/scan.inc.h"
#endif
