/* The loops of tokens.c for every processor. Most blocks have no match: that alone is
 * found out first, in a loop that compilers turn into vectors. */
#include "core/layout/levels/token_loops.h"

#define MATCH(name, type)                                    \
    static uint64_t name(const void *tokens, uint64_t value) \
    {                                                        \
        const type *p = (const type *)tokens;                \
        type wanted = (type)value;                           \
        uint64_t bits = 0;                                   \
        unsigned any = 0;                                    \
        for (int i = 0; i < 64; i++) {                       \
            any |= p[i] == wanted;                           \
        }                                                    \
        for (int i = 0; any && i < 64; i++) {                \
            bits |= (uint64_t)(p[i] == wanted) << i;         \
        }                                                    \
        return bits;                                         \
    }

MATCH(match_8, uint8_t)
MATCH(match_16, uint16_t)
MATCH(match_32, uint32_t)
MATCH(match_64, uint64_t)

const tb_token_loops tb_token_loops_scalar = {{match_8, match_16, match_32, match_64}};
