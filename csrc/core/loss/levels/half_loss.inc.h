/*
 * Template: the loops of half_loss.c for one level. They are plain C, which compilers
 * turn into the vectors that TARGET allows. The includer defines
 *     TARGET   TB_TARGET(...), or nothing
 *     TABLE    the name of the level's tb_loss_loops
 *     COUNT_COMMON, MEASURE_ERRORS    the two by hand, where that is faster
 */

#ifndef COUNT_COMMON
#    define COUNT_COMMON count_common
/* Of float32 magnitudes without the rare ones: see half_loss.c. */
TARGET static int
count_common(const char *src, ptrdiff_t n, tb_common_counts *counts)
{
    uint32_t highest = 0, lowest = UINT32_MAX, doubtful = 0;
    uint32_t flushed = 0, subnormal = 0, f16_exact = 0, bf16_exact = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, src + 4 * i, sizeof bits);
        uint32_t magnitude = bits & 0x7fffffff;
        uint32_t below = magnitude - 1; /* zero comes last */
        uint32_t is_small = below < TB_F16_NORMAL_FROM - 1;
        uint32_t short_f16 = (bits & 0x1fff) == 0;
        highest = magnitude > highest ? magnitude : highest;
        lowest = below < lowest ? below : lowest;
        flushed += below < TB_F16_FLUSHED_UP_TO;
        subnormal += is_small;
        f16_exact += short_f16;
        doubtful |= is_small & short_f16;
        bf16_exact += (bits & 0xffff) == 0;
    }
    counts->highest = highest;
    counts->lowest = lowest;
    counts->flushed = flushed;
    counts->subnormal = subnormal - flushed;
    counts->f16_exact = f16_exact;
    counts->bf16_exact = bf16_exact;
    return highest < TB_F16_OVERFLOW_FROM && lowest >= TB_BF16_NORMAL_FROM && !doubtful;
}
#endif

/* A block as float64; answers how many are zero. */
TARGET static uint32_t
widen_block(const float *narrow, double *values)
{
    uint32_t zeros = 0;

    for (int i = 0; i < TB_LOSS_BLOCK; i++) {
        uint32_t bits;
        memcpy(&bits, &narrow[i], sizeof bits);
        values[i] = (double)narrow[i];
        zeros += (bits & 0x7fffffff) == 0;
    }
    return zeros;
}

/* Counts of a block, whatever is in it; `given` is what a half type makes of it. */
TARGET static void
count_half(const double *values, const float *given, double normal,
           tb_half_counts *found)
{
    uint32_t exact = 0, overflowed = 0, flushed = 0, subnormal = 0;

    for (int i = 0; i < TB_LOSS_BLOCK; i++) {
        double value = fabs(values[i]), converted = fabs((double)given[i]);
        exact += converted == value;
        overflowed += (value <= DBL_MAX) & (converted > DBL_MAX);
        flushed += (converted == 0) & (value > 0);
        subnormal += (converted > 0) & (converted < normal);
    }
    *found = (tb_half_counts){exact, overflowed, flushed, subnormal};
}

/* Magnitudes as integers, which orders them alike. */
TARGET static void
count_values(const double *values, tb_value_counts *found)
{
    const int64_t infinity = 0x7ff0000000000000;
    int64_t nan = 0, infinite = 0, largest = 0, smallest = INT64_MAX;

    for (int i = 0; i < TB_LOSS_BLOCK; i++) {
        int64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits &= INT64_MAX;
        nan += bits > infinity ? 1 : 0;
        infinite += bits == infinity ? 1 : 0;
        int64_t finite = bits < infinity ? bits : 0;
        int64_t above = finite > 0 ? finite : INT64_MAX;
        largest = finite > largest ? finite : largest;
        smallest = above < smallest ? above : smallest;
    }
    found->nan = nan;
    found->infinite = infinite;
    memcpy(&found->largest, &largest, sizeof largest);
    smallest = smallest < infinity ? smallest : infinity;
    memcpy(&found->smallest, &smallest, sizeof smallest);
}

#ifndef MEASURE_ERRORS
#    define MEASURE_ERRORS measure_errors
/* In lanes, so that vectors of up to eight numbers add in one order. */
TARGET static int
measure_errors(const double *values, const float *given, uint32_t lowest, double known,
               tb_errors *found)
{
    tb_errors lanes = {{0}, {0}, {0}, {0}};
    int is_larger = 0;

    for (int i = 0; i < TB_LOSS_BLOCK; i += TB_LANES) {
        for (int k = 0; k < TB_LANES; k++) {
            double value = values[i + k];
            double error = fabs(value - (double)given[i + k]);
            /* Infinity and NaN come out as neither. */
            int is_finite = error <= DBL_MAX;
            double kept = is_finite ? error : 0;
            double signal = is_finite ? value : 0;
            double squared = signal * signal, noise = kept * kept;
            lanes.signal[k] += squared;
            lanes.noise[k] += noise;
            lanes.absolute[k] = kept > lanes.absolute[k] ? kept : lanes.absolute[k];
            is_larger |= kept > known * fabs(signal);
            /* 2**(1 - exponent), made of bits; no exponent is below `lowest`'s. */
            uint32_t bits;
            float scale;
            memcpy(&bits, &given[i + k], sizeof bits);
            bits &= 0x7f800000;
            bits = 0x7f800000 - (bits > lowest ? bits : lowest);
            memcpy(&scale, &bits, sizeof scale);
            double steps = kept * (double)scale;
            lanes.steps[k] = steps > lanes.steps[k] ? steps : lanes.steps[k];
        }
    }
    *found = lanes;
    return is_larger;
}
#endif

const tb_loss_loops TABLE = {COUNT_COMMON, widen_block, count_half, count_values,
                             MEASURE_ERRORS};

#undef COUNT_COMMON
#undef MEASURE_ERRORS
#undef TABLE
#undef TARGET
