/*
 * Template: the loops of scan.c for one level. The includer defines
 *     TARGET   TB_TARGET(...), or nothing
 *     TABLE    the name of the level's tb_scan_loops
 *     vec      several elements, LANES of them, with
 *              load(p), set(value), none(), count_from(start), add(a, b), sub(a, b),
 *              or(a, b), xor(a, b), and_not(a, b) for ~a & b, and any_bit(v),
 *              any_sign(v), which tell whether a bit, or a sign bit, is set
 * No loop ends early: nearly always all elements are as expected. Two vectors at a time
 * do not wait for each other.
 */
TARGET static int
count_up(const int64_t *p, ptrdiff_t n, int64_t start)
{
    vec a = none(), b = none(), step = set(2 * LANES);
    vec here = count_from(start), next = add(here, set(LANES));
    uint64_t rest = 0;
    ptrdiff_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        a = or (a, xor(load(p + i), here));
        b = or (b, xor(load(p + i + LANES), next));
        here = add(here, step);
        next = add(next, step);
    }
    for (; i < n; i++) {
        rest |= (uint64_t)p[i] ^ ((uint64_t)start + (uint64_t)i);
    }
    return rest == 0 && !any_bit(or (a, b));
}

/* The sign bit of an id, or of what is left to the largest, is set outside the range. */
TARGET static int
in_range(const int64_t *p, ptrdiff_t n, int64_t limit)
{
    vec a = none(), b = none(), largest = set(limit - 1);
    uint64_t rest = 0;
    ptrdiff_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vec x = load(p + i), y = load(p + i + LANES);
        a = or (a, or (x, sub(largest, x)));
        b = or (b, or (y, sub(largest, y)));
    }
    for (; i < n; i++) {
        rest |= (uint64_t)p[i] | ((uint64_t)limit - 1 - (uint64_t)p[i]);
    }
    return rest >> 63 == 0 && !any_sign(or (a, b));
}

TARGET static int
equal(const int64_t *p, const int64_t *q, ptrdiff_t n)
{
    vec a = none(), b = none();
    uint64_t rest = 0;
    ptrdiff_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        a = or (a, xor(load(p + i), load(q + i)));
        b = or (b, xor(load(p + i + LANES), load(q + i + LANES)));
    }
    for (; i < n; i++) {
        rest |= (uint64_t)p[i] ^ (uint64_t)q[i];
    }
    return rest == 0 && !any_bit(or (a, b));
}

TARGET static int
constant(const int64_t *p, ptrdiff_t n, int64_t value)
{
    vec a = none(), b = none(), all = set(value);
    uint64_t rest = 0;
    ptrdiff_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        a = or (a, xor(load(p + i), all));
        b = or (b, xor(load(p + i + LANES), all));
    }
    for (; i < n; i++) {
        rest |= (uint64_t)p[i] ^ (uint64_t)value;
    }
    return rest == 0 && !any_bit(or (a, b));
}

/* ~x & (x - 1) has the sign bit for x = 0 alone. */
TARGET static int
without(const int64_t *p, ptrdiff_t n, int64_t value)
{
    vec a = none(), one = set(1), all = set(value);
    uint64_t rest = 0;
    ptrdiff_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        vec x = xor(load(p + i), all);
        a = or (a, and_not(x, sub(x, one)));
    }
    for (; i < n; i++) {
        uint64_t x = (uint64_t)p[i] ^ (uint64_t)value;
        rest |= ~x & (x - 1);
    }
    return rest >> 63 == 0 && !any_sign(a);
}

const tb_scan_loops TABLE = {count_up, in_range, equal, constant, without};
