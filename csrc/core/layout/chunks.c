#include "core/layout/chunks.h"

#include "core/base/size.h"

#include <string.h>

/* Positions begin to end - 1, which chunks first to last - 1 all have; there are two of
 * them nearly always. A sum begins with -0.0, which adds nothing, not even a sign. */
#define WRITE_MEAN(name, type)                                                   \
    static void name(const tb_chunks *chunks, ptrdiff_t first, ptrdiff_t last,   \
                     int64_t begin, ptrdiff_t size, void *out)                   \
    {                                                                            \
        double parts = (double)(last - first);                                   \
        const type *a = (const type *)chunks->data[first];                       \
        const type *b = (const type *)chunks->data[first + 1];                   \
        type *to = (type *)out;                                                  \
        a += (begin - chunks->begins[first]) * chunks->trailing;                 \
        b += (begin - chunks->begins[first + 1]) * chunks->trailing;             \
        for (ptrdiff_t i = 0; i < size && last - first == 2; i++) {              \
            to[i] = (type)(((double)a[i] + (double)b[i]) / 2);                   \
        }                                                                        \
        for (ptrdiff_t i = 0; i < size && last - first > 2; i++) {               \
            double sum = -0.0;                                                   \
            for (ptrdiff_t k = first; k < last; k++) {                           \
                ptrdiff_t from = (begin - chunks->begins[k]) * chunks->trailing; \
                sum += (double)((const type *)chunks->data[k])[from + i];        \
            }                                                                    \
            to[i] = (type)(sum / parts);                                         \
        }                                                                        \
    }

WRITE_MEAN(mean_floats, float)
WRITE_MEAN(mean_doubles, double)

static void
write_mean(const tb_chunks *chunks, ptrdiff_t first, ptrdiff_t last, int64_t begin,
           int64_t end, char *out)
{
    ptrdiff_t size = (end - begin) * chunks->trailing, item_size = chunks->item_size;

    if (size == 0) {
        return;
    }
    if (last - first == 1) {
        ptrdiff_t from = (begin - chunks->begins[first]) * chunks->trailing;
        const char *data = (const char *)chunks->data[first] + from * item_size;
        memcpy(out, data, (size_t)(size * item_size));
    }
    else if (item_size == 4) {
        mean_floats(chunks, first, last, begin, size, out);
    }
    else {
        mean_doubles(chunks, first, last, begin, size, out);
    }
}

tb_status
tb_count_merged(const tb_chunks *chunks, ptrdiff_t *total, tb_error *error)
{
    *total = 0;
    for (ptrdiff_t d = 0; d < chunks->documents; d++) {
        int64_t begin = 0, end = 0;
        for (int64_t k = chunks->offsets[d]; k < chunks->offsets[d + 1]; k++) {
            ptrdiff_t length = chunks->lengths[k];
            error->row = k;
            error->column = -1;
            error->value = chunks->begins[k];
            if (chunks->begins[k] < begin || chunks->begins[k] > end ||
                length > PTRDIFF_MAX - chunks->begins[k] ||
                chunks->begins[k] + length < end) {
                return TB_ERR_RANGE;
            }
            begin = chunks->begins[k];
            end = begin + length;
        }
        if (end > PTRDIFF_MAX - *total) {
            return TB_ERR_SIZE;
        }
        *total += end;
    }
    return TB_OK;
}

void
tb_mean_chunks(const tb_chunks *chunks, void *out)
{
    const int64_t *begins = chunks->begins;
    const ptrdiff_t *lengths = chunks->lengths;
    char *to = (char *)out;

    for (ptrdiff_t d = 0; d < chunks->documents; d++) {
        ptrdiff_t first = chunks->offsets[d], stop = chunks->offsets[d + 1];
        ptrdiff_t last = first; /* chunks first to last - 1 have position `at` */
        int64_t at = 0;
        while (first < stop) {
            while (last < stop && begins[last] <= at) {
                last++;
            }
            /* The same chunks have all up to where the first ends or another begins. */
            int64_t end = begins[first] + lengths[first];
            end = last < stop ? tb_min(end, begins[last]) : end;
            write_mean(chunks, first, last, at, end, to);
            to += (end - at) * chunks->trailing * chunks->item_size;
            at = end;
            while (first < last && begins[first] + lengths[first] <= at) {
                first++;
            }
        }
    }
}
