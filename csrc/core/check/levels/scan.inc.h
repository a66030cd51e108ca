/*
 * Template: the loops of scan.c for one level, in plain C that compilers turn into the
 * vectors that TARGET allows. The includer defines
 *     TARGET   TB_TARGET(...), or nothing
 *     TABLE    the name of the level's tb_scan_loops
 * No loop ends early, since that would keep it from becoming vectors.
 */
TARGET static int
count_up(const int64_t *p, ptrdiff_t n, int64_t start)
{
    uint64_t wrong = 0, expected = (uint64_t)start;

    for (ptrdiff_t i = 0; i < n; i++) {
        wrong |= (uint64_t)p[i] ^ (expected + (uint64_t)i);
    }
    return wrong == 0;
}

/* The sign bit of value, or of what is left to the largest, is set outside the range.
 */
TARGET static int
in_range(const int64_t *p, ptrdiff_t n, int64_t limit)
{
    uint64_t signs = 0, largest = (uint64_t)limit - 1;

    for (ptrdiff_t i = 0; i < n; i++) {
        signs |= (uint64_t)p[i] | (largest - (uint64_t)p[i]);
    }
    return signs >> 63 == 0;
}

TARGET static int
equal(const int64_t *a, const int64_t *b, ptrdiff_t n)
{
    uint64_t wrong = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        wrong |= (uint64_t)a[i] ^ (uint64_t)b[i];
    }
    return wrong == 0;
}

TARGET static int
constant(const int64_t *p, ptrdiff_t n, int64_t value)
{
    uint64_t wrong = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        wrong |= (uint64_t)p[i] ^ (uint64_t)value;
    }
    return wrong == 0;
}

/* x - 1 has the sign bit that x has not for x = 0 alone. */
TARGET static int
without(const int64_t *p, ptrdiff_t n, int64_t value)
{
    uint64_t found = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t x = (uint64_t)p[i] ^ (uint64_t)value;
        found |= ~x & (x - 1);
    }
    return found >> 63 == 0;
}

const tb_scan_loops TABLE = {count_up, in_range, equal, constant, without};
