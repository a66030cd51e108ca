#include "core/check/story.h"

void
tb_note(tb_check *check, tb_found kind, int column, int other, ptrdiff_t row,
        ptrdiff_t place, int64_t found, int64_t expected)
{
    if (check->found < TB_MOST_FINDINGS) {
        check->findings[check->found] =
            (tb_finding){kind, column, other, row, place, found, expected};
    }
    check->found++;
}

void
tb_note_at(tb_check *check, tb_found kind, int column, int other, ptrdiff_t at,
           int64_t found, int64_t expected)
{
    tb_note(check, kind, column, other, at / check->width, at % check->width, found,
            expected);
}
