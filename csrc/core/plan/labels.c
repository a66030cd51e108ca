/* Numbers of groups from their labels: a table with open addressing (D. E. Knuth, "The
 * Art of Computer Programming", volume 3, 6.4), twice as large as there are groups or
 * more. */
#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/plan/groups.h"

#include <string.h>

typedef struct {
    uint32_t *numbers; /* of groups, plus 1; 0: an empty place */
    uint64_t mask;
    int64_t *names; /* labels of groups, together: those of rows lie far apart */
    int64_t *firsts;
    ptrdiff_t count;
    ptrdiff_t room; /* for groups, half as many as places */
} label_table;

/* The place of a label, or the empty one where it goes. */
static uint64_t
find_place(const label_table *table, int64_t label)
{
    uint64_t place = tb_mix_bits((uint64_t)label) & table->mask;

    while (table->numbers[place] != 0 &&
           table->names[table->numbers[place] - 1] != label) {
        place = (place + 1) & table->mask;
    }
    return place;
}

static tb_status
grow_table(label_table *table)
{
    ptrdiff_t room = table->room == 0 ? 64 : 2 * table->room;

    if (room > UINT32_MAX / 2) {
        return TB_ERR_SIZE;
    }
    if (TB_RESIZE(table->firsts, room) != TB_OK ||
        TB_RESIZE(table->names, room) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    uint32_t *numbers = (uint32_t *)tb_allocate_array(2 * room, sizeof *table->numbers);
    if (numbers == NULL) {
        return TB_ERR_MEMORY;
    }
    free(table->numbers);
    table->numbers = numbers;
    memset(numbers, 0, (size_t)room * 2 * sizeof *numbers);
    table->mask = (uint64_t)room * 2 - 1;
    table->room = room;
    for (ptrdiff_t k = 0; k < table->count; k++) {
        numbers[find_place(table, table->names[k])] = (uint32_t)k + 1;
    }
    return TB_OK;
}

tb_status
tb_number_groups(const int64_t *labels, ptrdiff_t n, int64_t *groups, int64_t **firsts,
                 ptrdiff_t *count)
{
    label_table table = {0};
    tb_status status = grow_table(&table);

    for (ptrdiff_t i = 0; i < n && status == TB_OK; i++) {
        if (i > 0 && labels[i] == labels[i - 1]) {
            groups[i] = groups[i - 1];
            continue;
        }
        uint64_t place = find_place(&table, labels[i]);
        if (table.numbers[place] == 0) {
            table.names[table.count] = labels[i];
            table.firsts[table.count++] = i;
            table.numbers[place] = (uint32_t)table.count;
        }
        groups[i] = (int64_t)table.numbers[place] - 1;
        if (table.count == table.room) {
            status = grow_table(&table);
        }
    }
    free(table.numbers);
    free(table.names);
    *firsts = table.firsts;
    *count = table.count;
    return status;
}
