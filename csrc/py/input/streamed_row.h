/* Rows of a stream, whose lengths and costs are not known before they come. */
#ifndef TB_STREAMED_ROW_H
#define TB_STREAMED_ROW_H

#include "py/input/plan_settings.h"
#include "core/plan/streaming_limits.h"

/* How rows are read, and what messages say of them. */
typedef struct {
    tb_context context;
    const tb_plan_settings *settings;
    uint64_t share;  /* of rows that are dealt out in turn, and the number of shares: */
    uint64_t shares; /* number n is row n * shares + share of the source */
    int has_sides;   /* rows have two lengths */
    int64_t sides[2];   /* of which so much counts */
    int refuses_tuples; /* a tuple is no row of tokens */
} tb_row_reader;

/* What is known of a row, and its costs, to which it points. */
typedef struct {
    tb_streamed_row row;
    int64_t costs[TB_MOST_LIMITS];
} tb_row_input;

/* Reads (number, item, weight or None, costs). The item is a length, or a row that has
 * one, or a tuple of two of them. The weight of None is the length, or that of both
 * sides. The costs are a tuple with one for each limit. */
int tb_read_streamed_row(const tb_row_reader *reader, PyObject *const *args,
                         tb_row_input *input);

/* Raises what adding a row to a stream found. */
void tb_raise_streamed_row(const tb_row_reader *reader, tb_status status,
                           const tb_streamed_row *row, const tb_error *error);

/* What a getter gives of a sample: the value of a key, or what a function returns; the
 * sample itself for None. New. */
PyObject *tb_get_of_sample(PyObject *getter, PyObject *sample);

/* The progress of reading a stream is a list: the number of the next sample in the source,
 * a tuple of that sample where it was read and has not been added, and whether its length
 * and costs were read. It is right whenever code of the user's runs, for a signal handler
 * may ask for the state. */

/* Reads the next sample; first the one that was read before and not added. New. */
PyObject *tb_read_sample(PyObject *samples, PyObject *progress);

/* Goes on to the next sample, whose number it takes: 0, or -1 with an exception. */
int tb_note_next(PyObject *progress, PyObject *next);

/* Keeps the sample that raised, which has not been added. */
int tb_hold_back(PyObject *progress, PyObject *sample, int is_read);

#endif
