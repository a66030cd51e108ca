#include "core/layout/mlm.h"

#include "core/base/random.h"

/* Even in [0, 1), in steps of 2**-53. */
static double
next_fraction(tb_random *random)
{
    return (double)(tb_next_random(random) >> 11) * 0x1p-53;
}

void
tb_mask_tokens(const tb_mlm *mlm, const unsigned char *kinds, ptrdiff_t n, int64_t *ids,
               int64_t *labels)
{
    tb_random random;
    int chosen = 0;

    tb_seed_random(&random, mlm->seed, mlm->call);
    for (ptrdiff_t i = 0; i < n; i++) {
        labels[i] = -100;
        if (kinds[i] == TB_MLM_NEVER) {
            chosen = 0;
            continue;
        }
        if (kinds[i] == TB_MLM_BEGINS) {
            chosen = next_fraction(&random) < mlm->probability;
        }
        if (!chosen) {
            continue;
        }
        labels[i] = ids[i];
        double draw = next_fraction(&random);
        if (draw < mlm->replace) {
            ids[i] = mlm->mask_id;
        }
        else if (draw < mlm->replace + mlm->random) {
            ids[i] = (int64_t)tb_random_below(&random, (uint64_t)mlm->vocabulary);
        }
    }
}

void
tb_label_tokens(const int64_t *ids, const int64_t *mask, ptrdiff_t n,
                const int64_t *ignored, int64_t *labels)
{
    if (ignored == NULL) {
        for (ptrdiff_t i = 0; i < n; i++) {
            labels[i] = mask[i] == 0 ? -100 : ids[i];
        }
        return;
    }
    int64_t pad = *ignored;
    for (ptrdiff_t i = 0; i < n; i++) {
        labels[i] = ((mask[i] == 0) | (ids[i] == pad)) ? -100 : ids[i];
    }
}
