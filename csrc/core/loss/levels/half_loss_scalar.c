/* The loops as every processor of the architecture runs them. */
#include "core/loss/levels/half_loss_loops.h"

#define TARGET
#define TABLE tb_loss_loops_scalar
#include "core/loss/levels/half_loss.inc.h"
