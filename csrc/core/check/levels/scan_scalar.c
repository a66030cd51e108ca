/* The loops of scan.c for every processor. */
#include "core/check/levels/scan_loops.h"

#define TARGET
#define TABLE tb_scan_loops_scalar
#include "core/check/levels/scan.inc.h"
