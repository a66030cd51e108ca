/* The loops of scan.c for AVX2. */
#include "core/check/levels/scan_loops.h"

#if TB_X86
#    include <immintrin.h>

#    define TARGET TB_TARGET("avx2")
#    define TABLE tb_scan_loops_avx2
#    define LANES 4
#    define vec __m256i
#    define load(p) _mm256_loadu_si256((const __m256i *)(p))
#    define set(value) _mm256_set1_epi64x(value)
#    define none() _mm256_setzero_si256()
#    define count_from(start) \
        _mm256_add_epi64(_mm256_set1_epi64x(start), _mm256_setr_epi64x(0, 1, 2, 3))
#    define add(a, b) _mm256_add_epi64(a, b)
#    define sub(a, b) _mm256_sub_epi64(a, b)
#    define or(a, b) _mm256_or_si256(a, b)
#    define xor(a, b) _mm256_xor_si256(a, b)
#    define and_not(a, b) _mm256_andnot_si256(a, b)
#    define any_bit(v) (!_mm256_testz_si256(v, v))
#    define any_sign(v) (_mm256_movemask_pd(_mm256_castsi256_pd(v)) != 0)
#    include "core/check/levels/scan.inc.h"
#endif
