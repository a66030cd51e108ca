#include "core/plan/rectangles.h"

void
tb_assign_rectangles(const int64_t *first, const int64_t *second, ptrdiff_t n,
                     const int64_t *bounds, ptrdiff_t count, int64_t *buckets)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t k = 0;
        while (k < count &&
               (first[i] > bounds[2 * k] || second[i] > bounds[2 * k + 1])) {
            k++;
        }
        buckets[i] = k < count ? k : -1;
    }
}
