/* The loops of scan.c for every processor: pairs of elements, which compilers turn into
 * the vectors that all processors have. */
#include "core/check/levels/scan_loops.h"

#define TARGET
#define TABLE tb_scan_loops_scalar
#define LANES 2

typedef struct {
    uint64_t low;
    uint64_t high;
} vec;

static inline vec
load(const int64_t *p)
{
    return (vec){(uint64_t)p[0], (uint64_t)p[1]};
}

static inline vec
set(int64_t value)
{
    return (vec){(uint64_t)value, (uint64_t)value};
}

static inline vec
none(void)
{
    return (vec){0, 0};
}

static inline vec
count_from(int64_t start)
{
    return (vec){(uint64_t)start, (uint64_t)start + 1};
}

static inline vec
add(vec a, vec b)
{
    return (vec){a.low + b.low, a.high + b.high};
}

static inline vec
sub(vec a, vec b)
{
    return (vec){a.low - b.low, a.high - b.high};
}

static inline vec or (vec a, vec b)
{
    return (vec){a.low | b.low, a.high | b.high};
}

static inline vec xor (vec a, vec b) { return (vec){a.low ^ b.low, a.high ^ b.high}; }

    static inline vec and_not(vec a, vec b)
{
    return (vec){~a.low & b.low, ~a.high & b.high};
}

static inline int
any_bit(vec v)
{
    return (v.low | v.high) != 0;
}

static inline int
any_sign(vec v)
{
    return (v.low | v.high) >> 63 != 0;
}

#include "core/check/levels/scan.inc.h"
