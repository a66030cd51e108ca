/* The loops that have a version for each level, for tokens.c alone. */
#ifndef TB_TOKEN_LOOPS_H
#define TB_TOKEN_LOOPS_H

#include "core/base/macros.h"

#include <stddef.h>
#include <stdint.h>

/* Which of 64 elements equal `value`: bit i is element i. */
typedef uint64_t (*tb_match_tokens)(const void *tokens, uint64_t value);

/* For elements of 1, 2, 4 and 8 bytes. */
typedef struct {
    tb_match_tokens match[4];
} tb_token_loops;

extern const tb_token_loops tb_token_loops_scalar;
#if TB_X86
extern const tb_token_loops tb_token_loops_avx2;
extern const tb_token_loops tb_token_loops_avx512;
#endif

#endif
