/* Masked language modelling: which tokens a model must guess, and what it sees there.
 * J. Devlin et al., "BERT", NAACL 2019, section 3.1. */
#ifndef TB_MLM_H
#define TB_MLM_H

#include "core/base/macros.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    double probability; /* that a unit (token or word) is chosen */
    double replace;     /* that a chosen token becomes mask_id */
    double random;      /* that it becomes any token; else it stays */
    int64_t mask_id;
    int64_t vocabulary; /* random tokens are below it; >= 1 where random > 0 */
    uint64_t seed, call;
} tb_mlm;

/* What may happen to a token. */
enum { TB_MLM_NEVER, TB_MLM_BEGINS, TB_MLM_CONTINUES };

/* `ids`, `kinds` and `labels` have n elements. A unit is a token that BEGINS and those
 * that CONTINUE it; it is chosen as a whole. labels: the token where it was chosen,
 * -100 elsewhere. */
void tb_mask_tokens(const tb_mlm *mlm, const unsigned char *kinds, ptrdiff_t n,
                    int64_t *ids, int64_t *labels);

/* Causal language modelling: every token is its own label, but -100 where `mask` is 0,
 * and where it is `ignored` if there is such a token. */
void tb_label_tokens(const int64_t *ids, const int64_t *mask, ptrdiff_t n,
                     const int64_t *ignored, int64_t *labels);

#endif
