/*
 * Random integers and orders that are the same on every platform and compiler.
 *
 *     the stream   xoshiro256**: D. Blackman, S. Vigna, "Scrambled linear pseudorandom
 *                  number generators", ACM TOMS 47 (2021)
 *     its seeding  splitmix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable
 *                  pseudorandom number generators", OOPSLA 2014
 *     a bound      D. Lemire, "Fast random integer generation in an interval",
 *                  ACM TOMACS 29 (2019): unbiased, nearly always without a division
 *     an order     R. Durstenfeld, "Algorithm 235: Random permutation", CACM 7 (1964),
 *                  known as the Fisher-Yates shuffle
 */
#ifndef TB_RANDOM_H
#define TB_RANDOM_H

#include "core/base/macros.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t state[4];
} tb_random;

/* A bijection of 64 bits in which each input bit flips about half of the output. */
static inline uint64_t
tb_mix_bits(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

/* One stream for each pair. The seed is mixed before the epoch is added, so that (1, 2)
 * and (2, 1) have nothing in common. The bijection gives four different words, so that
 * the state is never all zero, where the generator would stay. */
static inline void
tb_seed_random(tb_random *random, uint64_t seed, uint64_t epoch)
{
    const uint64_t golden =
        UINT64_C(0x9E3779B97F4A7C15); /* 2**64 / golden ratio, odd */
    uint64_t x = tb_mix_bits(seed + golden) + epoch;

    for (int i = 0; i < 4; i++) {
        x += golden;
        random->state[i] = tb_mix_bits(x);
    }
}

static inline uint64_t
tb_rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static inline uint64_t
tb_next_random(tb_random *random)
{
    uint64_t *s = random->state;
    uint64_t result = tb_rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = tb_rotate_left(s[3], 45);
    return result;
}

/* The 128 bits of a * b from four products of 32 bits:
 *
 *          a1 a0 * b1 b0
 *                  a0*b0
 *             a1*b0 + a0*b1     each moved up by 32 bits
 *          a1*b1                moved up by 64
 */
static inline uint64_t
tb_multiply_wide(uint64_t a, uint64_t b, uint64_t *low)
{
    uint64_t a0 = a & UINT32_MAX, a1 = a >> 32;
    uint64_t b0 = b & UINT32_MAX, b1 = b >> 32;
    uint64_t bottom = a0 * b0;
    uint64_t middle =
        a1 * b0 + (bottom >> 32); /* at most 2**64 - 2**32: no carry out */
    uint64_t other = a0 * b1 + (middle & UINT32_MAX);

    *low = (other << 32) | (bottom & UINT32_MAX);
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

/* Unbiased in [0, bound) out of 32 random bits. More bits are drawn only where these
 * would make low results more likely than others. bound >= 1. */
static inline uint32_t
tb_bound_bits(tb_random *random, uint32_t bits, uint32_t bound)
{
    uint64_t product = (uint64_t)bits * bound;

    if (TB_UNLIKELY((uint32_t)product < bound)) {
        uint32_t excess = (UINT32_MAX - bound + 1) % bound; /* 2**32 mod bound */
        while ((uint32_t)product < excess) {
            product = (tb_next_random(random) >> 32) * bound;
        }
    }
    return (uint32_t)(product >> 32);
}

/* The same for a bound of 64 bits. */
static inline uint64_t
tb_random_below(tb_random *random, uint64_t bound)
{
    uint64_t low, high = tb_multiply_wide(tb_next_random(random), bound, &low);

    if (TB_UNLIKELY(low < bound)) {
        uint64_t excess = (UINT64_MAX - bound + 1) % bound;
        while (low < excess) {
            high = tb_multiply_wide(tb_next_random(random), bound, &low);
        }
    }
    return high;
}

static inline void
tb_swap_words(uint64_t *words, size_t i, size_t j)
{
    uint64_t held = words[i];

    words[i] = words[j];
    words[j] = held;
}

enum { TB_SHUFFLE_AHEAD = 32 }; /* even: one word of random bits makes two draws */

/* Shuffles n words: all n! orders are equally likely. The places to swap do not
 * depend on the words. They are drawn a block ahead, so that the words can be fetched
 * before they are swapped: otherwise each swap in a large array waits for memory. */
static inline void
tb_shuffle_words(tb_random *random, uint64_t *words, size_t n)
{
    uint32_t places[TB_SHUFFLE_AHEAD];

    for (; n > UINT32_MAX; n--) {
        tb_swap_words(words, n - 1, (size_t)tb_random_below(random, n));
    }
    for (; n > TB_SHUFFLE_AHEAD; n -= TB_SHUFFLE_AHEAD) {
        for (uint32_t k = 0; k < TB_SHUFFLE_AHEAD; k += 2) {
            uint64_t bits = tb_next_random(random);
            uint32_t bound = (uint32_t)n - k;
            places[k] = tb_bound_bits(random, (uint32_t)(bits >> 32), bound);
            places[k + 1] = tb_bound_bits(random, (uint32_t)bits, bound - 1);
            TB_PREFETCH(words + places[k]);
            TB_PREFETCH(words + places[k + 1]);
        }
        for (size_t k = 0; k < TB_SHUFFLE_AHEAD; k++) {
            tb_swap_words(words, n - 1 - k, places[k]);
        }
    }
    for (; n > 1; n--) {
        uint32_t bits = (uint32_t)(tb_next_random(random) >> 32);
        tb_swap_words(words, n - 1, tb_bound_bits(random, bits, (uint32_t)n));
    }
}

#endif
