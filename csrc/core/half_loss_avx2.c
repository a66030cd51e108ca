#include "macros.h"

#if TB_X86
#    include "half_loss_loops.h"

#    define TARGET TB_TARGET("avx2,f16c")
#    define TABLE tb_loss_loops_avx2
#    include "half_loss.inc.h"
#endif
