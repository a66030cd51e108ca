/* Which instruction sets can be used: this processor has them, and the operating system
 * saves their registers. */
#ifndef TB_CPU_H
#define TB_CPU_H

typedef enum {
    TB_LEVEL_SCALAR,
    TB_LEVEL_AVX2,   /* with F16C */
    TB_LEVEL_AVX512, /* F, BW, VL */
    TB_LEVEL_NEON,
    TB_LEVEL_COUNT,
} tb_level;

int tb_cpu_has(tb_level level);

/* The best of them here. */
tb_level tb_cpu_best(void);

const char *tb_level_name(tb_level level);

#endif
