/* The loops of scan.c for AVX-512. */
#include "core/check/levels/scan_loops.h"

#if TB_X86
#    include <immintrin.h>

#    define TARGET TB_TARGET("avx512f,avx512bw,avx512vl")
#    define TABLE tb_scan_loops_avx512
#    define LANES 8
#    define vec __m512i
#    define load(p) _mm512_loadu_si512(p)
#    define set(value) _mm512_set1_epi64(value)
#    define none() _mm512_setzero_si512()
#    define count_from(start)                      \
        _mm512_add_epi64(_mm512_set1_epi64(start), \
                         _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7))
#    define add(a, b) _mm512_add_epi64(a, b)
#    define sub(a, b) _mm512_sub_epi64(a, b)
#    define or(a, b) _mm512_or_si512(a, b)
#    define xor(a, b) _mm512_xor_si512(a, b)
#    define and_not(a, b) _mm512_andnot_si512(a, b)
#    define any_bit(v) (_mm512_test_epi64_mask(v, v) != 0)
#    define any_sign(v) (_mm512_cmplt_epi64_mask(v, _mm512_setzero_si512()) != 0)
#    include "core/check/levels/scan.inc.h"
#endif
