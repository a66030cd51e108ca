/* Ids that the vocabulary has not, and the padding at the end of a batch without a mask.
 */
#include "core/check/scan.h"
#include "core/check/story.h"

/* The first id of each row that is out of range. */
static void
check_range(tb_check *check, int i)
{
    const tb_check_column *ids = &check->columns[i];
    int64_t limit = check->settings.vocab_size;
    ptrdiff_t each = check->total > 0 ? ids->size / check->total : 1;
    ptrdiff_t at = 0, row_size = check->width * each;

    while (row_size > 0 && at < ids->size) {
        at += tb_scan_range(ids->wide + at, ids->size - at,
                            limit < 0 ? INT64_MAX : limit);
        if (at < ids->size) {
            tb_note_at(check, TB_FOUND_ID_RANGE, i, -1, at / each, ids->wide[at],
                       limit);
            at = (at / row_size + 1) * row_size;
        }
    }
}

void
tb_check_ids(tb_check *check)
{
    int64_t most = check->settings.max_position;
    int has_positions = 0;
    ptrdiff_t before = check->found;

    for (int i = 0; i < check->count; i++) {
        const tb_check_column *column = &check->columns[i];
        if (column->form == TB_FORM_NONE || column->same_as >= 0) {
            continue;
        }
        if (column->role == TB_ROLE_IDS && column->size % check->total == 0) {
            check_range(check, i);
            check->are_ids_in_range |= i == check->ids && check->found == before;
        }
        if (column->role == TB_ROLE_POSITIONS) {
            has_positions = 1;
            tb_check_position_range(check, i);
        }
    }
    tb_role shape = check->columns[check->grid_from].role;
    if (!has_positions && most >= 0 && check->width > most &&
        (shape == TB_ROLE_IDS || shape == TB_ROLE_EMBEDS)) {
        tb_note(check, TB_FOUND_POSITION_RANGE, check->grid_from, -1, 0,
                (ptrdiff_t)most, check->width - 1, most);
    }
}

/* Whether no label of a segment is trained; 1 where there are no labels. */
static int
has_no_label(const tb_check *check, tb_stretch span)
{
    for (int i = 0; i < check->count; i++) {
        const tb_check_column *column = &check->columns[i];
        int is_labels =
            column->role >= TB_ROLE_LABELS && column->role <= TB_ROLE_DECODER_LABELS;
        ptrdiff_t length = span.end - span.begin;
        if (is_labels && column->form == TB_FORM_GRID &&
            tb_scan_other(column->wide + span.begin, length,
                          check->settings.ignore_index) < length) {
            return 0;
        }
    }
    return 1;
}

ptrdiff_t
tb_find_tail(const tb_check *check)
{
    ptrdiff_t tail = check->span_count;

    if (check->ids < 0 || check->real_from >= 0 || tail == 0) {
        return check->span_count;
    }
    const int64_t *ids = check->columns[check->ids].wide;
    int64_t value = ids[check->spans[tail - 1].end - 1];
    while (tail > 1) {
        tb_stretch span = check->spans[tail - 1];
        ptrdiff_t length = span.end - span.begin;
        if (tb_scan_other(ids + span.begin, length, value) < length ||
            !has_no_label(check, span)) {
            break;
        }
        tail--;
    }
    return tail;
}
