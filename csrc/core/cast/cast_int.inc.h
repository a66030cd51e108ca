/*
 * Template: from the integer type SRC, named FROM, to every other type; include it once
 * for each source type. Each function answers how many elements were converted: fewer
 * than n means that the next one does not fit.
 */
#define TB_JOIN(a, b) cast_##a##_##b
#define TB_NAME(from, to) TB_JOIN(from, to)

/* Whether every value of SRC is one of DST: a constant. A signed type has -1 below 1.
 */
#define TB_HOLDS_ALL(DST) \
    (sizeof(DST) > sizeof(SRC) && ((SRC) - 1 > (SRC)1 || (DST) - 1 < (DST)1))

/* A value survives when it comes back equal and on the same side of 1. The loop only
 * gathers whether one did not, so that it vectorises; which one is found afterwards. */
#define TB_TO_INT(DST, to, SURVIVES)                                             \
    static ptrdiff_t TB_NAME(FROM, to)(const void *from, ptrdiff_t n, void *out) \
    {                                                                            \
        const SRC *TB_RESTRICT src = (const SRC *)from;                          \
        DST *TB_RESTRICT dst = (DST *)out;                                       \
        int all_survive = 1;                                                     \
        for (ptrdiff_t i = 0; TB_HOLDS_ALL(DST) && i < n; i++) {                 \
            dst[i] = (DST)src[i];                                                \
        }                                                                        \
        if (TB_HOLDS_ALL(DST)) {                                                 \
            return n;                                                            \
        }                                                                        \
        for (ptrdiff_t i = 0; i < n; i++) {                                      \
            dst[i] = (DST)src[i];                                                \
            all_survive &= SURVIVES(src[i], dst[i]);                             \
        }                                                                        \
        ptrdiff_t done = all_survive ? n : 0;                                    \
        while (done < n && SURVIVES(src[done], dst[done])) {                     \
            done++;                                                              \
        }                                                                        \
        return done;                                                             \
    }

#define TB_SAME_INT(s, d) (((SRC)(d) == (s)) & (((d) < 1) == ((s) < 1)))
#define TB_SAME_BOOL(s, d) (((SRC)(d) == (s)) & ((d) < 2))

#define TB_TO_FLOAT(DST, to, bits)                                               \
    static ptrdiff_t TB_NAME(FROM, to)(const void *from, ptrdiff_t n, void *out) \
    {                                                                            \
        const SRC *TB_RESTRICT src = (const SRC *)from;                          \
        DST *TB_RESTRICT dst = (DST *)out;                                       \
        for (ptrdiff_t i = 0; i < n; i++) {                                      \
            uint64_t magnitude = (uint64_t)src[i];                               \
            if (src[i] < 1) {                                                    \
                magnitude = ~magnitude + 1;                                      \
            }                                                                    \
            if (!tb_fits_significand(magnitude, bits)) {                         \
                return i;                                                        \
            }                                                                    \
            dst[i] = (DST)src[i];                                                \
        }                                                                        \
        return n;                                                                \
    }

TB_TO_INT(uint8_t, bool, TB_SAME_BOOL)
TB_TO_INT(int8_t, i8, TB_SAME_INT)
TB_TO_INT(int16_t, i16, TB_SAME_INT)
TB_TO_INT(int32_t, i32, TB_SAME_INT)
TB_TO_INT(int64_t, i64, TB_SAME_INT)
TB_TO_INT(uint8_t, u8, TB_SAME_INT)
TB_TO_INT(uint16_t, u16, TB_SAME_INT)
TB_TO_INT(uint32_t, u32, TB_SAME_INT)
TB_TO_INT(uint64_t, u64, TB_SAME_INT)
TB_TO_FLOAT(float, f32, 24)
TB_TO_FLOAT(double, f64, 53)

#undef TB_JOIN
#undef TB_NAME
#undef TB_TO_INT
#undef TB_SAME_INT
#undef TB_SAME_BOOL
#undef TB_HOLDS_ALL
#undef TB_TO_FLOAT
#undef SRC
#undef FROM
