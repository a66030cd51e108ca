/*
 * Template: the loops of half_loss.c for one level. They are plain C, which compilers
 * turn into the vectors that TARGET allows. The includer defines
 *     TARGET   TB_TARGET(...), or nothing
 *     TABLE    the name of the level's tb_loss_loops
 *     COUNT_COMMON    count_common by hand, if there is one
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

/* Side by side, so that there is one order for vectors of any width. */
enum { LANES = 32 };

typedef struct {
    double signal[LANES];
    double noise[LANES];
    double absolute[LANES];
    double relative[LANES];
    double ulp[LANES];
} lanes;

/* The lanes are brought together by halves. */
TARGET static double
sum_lanes(double *values)
{
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            values[i] += values[half + i];
        }
    }
    return values[0];
}

TARGET static double
max_lanes(const double *values, double highest)
{
    for (int i = 0; i < LANES; i++) {
        highest = values[i] > highest ? values[i] : highest;
    }
    return highest;
}

/* Errors of TB_LOSS_BLOCK numbers that became `given`, a half type as float32. `digits`
 * and `lowest` are its fraction bits and the exponent of its smallest normal number. */
TARGET static void
measure_errors(const double *values, const float *given, int digits, int lowest,
               tb_half_loss *loss)
{
    lanes sums;

    memset(&sums, 0, sizeof sums);
    for (int i = 0; i < TB_LOSS_BLOCK; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            double value = values[i + k];
            double error = fabs(value - (double)given[i + k]);
            /* Infinity and NaN come out as neither. */
            int is_finite = error <= DBL_MAX;
            double kept = is_finite ? error : 0;
            double known = is_finite ? value : 0;
            sums.signal[k] += known * known;
            sums.noise[k] += kept * kept;
            sums.absolute[k] = kept > sums.absolute[k] ? kept : sums.absolute[k];
            /* Of zero the error is zero; 1 keeps the quotient a number. */
            double relative = kept / (kept > 0 ? fabs(known) : 1);
            sums.relative[k] =
                relative > sums.relative[k] ? relative : sums.relative[k];
            /* 1 / step = 2**(digits - exponent), made of bits. */
            uint32_t bits;
            memcpy(&bits, &given[i + k], sizeof bits);
            int exponent = (int)(bits >> 23 & 0xff) - 127;
            exponent = exponent > lowest ? exponent : lowest;
            uint64_t scale = (uint64_t)(1023 + digits - exponent) << 52;
            double steps;
            memcpy(&steps, &scale, sizeof steps);
            double ulp = kept * steps;
            sums.ulp[k] = ulp > sums.ulp[k] ? ulp : sums.ulp[k];
        }
    }
    loss->signal += sum_lanes(sums.signal);
    loss->noise += sum_lanes(sums.noise);
    loss->max_absolute = max_lanes(sums.absolute, loss->max_absolute);
    loss->max_relative = max_lanes(sums.relative, loss->max_relative);
    loss->max_ulp = max_lanes(sums.ulp, loss->max_ulp);
}

const tb_loss_loops TABLE = {COUNT_COMMON, measure_errors};

#undef COUNT_COMMON
#undef TABLE
#undef TARGET
