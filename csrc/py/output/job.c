#include "py/base/tb_numpy.h"
#include "py/output/job.h"
#include "core/base/fill.h"
#include "core/layout/mask.h"

#include <string.h>

/* A cache line: where a column begins in a block that all share. */
enum { ALIGNMENT = 64 };

int
tb_job_kind_named(PyObject *name, tb_job_kind *kind)
{
    static const struct {
        const char *name;
        tb_job_kind kind;
    } kinds[] = {
        {"mask", MASK},       {"lengths", LENGTHS},       {"position_ids", POSITIONS},
        {"seq_idx", SEQ_IDX}, {"cu_seqlens", CU_SEQLENS}, {"like", LIKE}};

    for (size_t i = 0; PyUnicode_Check(name) && i < sizeof kinds / sizeof *kinds; i++) {
        if (PyUnicode_CompareWithASCIIString(name, kinds[i].name) == 0) {
            *kind = kinds[i].kind;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "pad_columns(): no extra column %R", name);
    return -1;
}

/* What is made of lengths goes where the rows of its source go. */
static void
lay_out_extra(const tb_job *source, tb_job *job)
{
    int is_int32 = job->kind == SEQ_IDX || job->kind == CU_SEQLENS;

    job->layout = source->layout;
    job->layout.type = is_int32 ? TB_I32 : TB_I64;
    job->layout.item_size = is_int32 ? 4 : 8;
    job->layout.trailing = 1;
    memset(job->layout.fill, 0, sizeof job->layout.fill);
}

static int
lay_out_job(tb_state *state, tb_job *jobs, tb_job *job)
{
    if (job->kind != COLUMN) {
        lay_out_extra(&jobs[job->source], job);
        return job->kind == CU_SEQLENS && job->layout.width > INT32_MAX
                   ? tb_raise_at(&jobs[job->source].column.context, PyExc_OverflowError,
                                 -1, -1,
                                 "%zd positions are more than cu_seqlens (int32) can "
                                 "count",
                                 (Py_ssize_t)job->layout.width)
                   : 0;
    }
    if (tb_lay_out(&job->column, &job->options, &job->layout) < 0) {
        return -1;
    }
    return tb_needs_fill(&job->column, &job->layout)
               ? tb_read_fill(state, &job->column.context, job->padding_value,
                              &job->column.dtype, job->layout.fill)
               : 0;
}

/* NumPy has no bfloat16 to hand to torch, so its bits travel as int16. */
static PyArray_Descr *
carrier_descr(tb_state *state, const tb_job *job, int as_tensors)
{
    if (job->kind != COLUMN) {
        return PyArray_DescrFromType(job->layout.type == TB_I32 ? NPY_INT32
                                                                : NPY_INT64);
    }
    if (as_tensors && job->column.dtype.type == TB_BF16) {
        return PyArray_DescrFromType(NPY_INT16);
    }
    return tb_dtype_descr(state, &job->column.dtype);
}

static int
job_shape(const tb_job *jobs, const tb_job *job, npy_intp *dims)
{
    if (job->kind == MADE) {
        memcpy(dims, job->dims, sizeof job->dims);
        return job->ndim;
    }
    if (job->kind != COLUMN) {
        ptrdiff_t rows = jobs[job->source].column.count;
        int is_list = job->kind == LENGTHS || job->kind == CU_SEQLENS;
        dims[0] =
            is_list ? rows + (job->kind == CU_SEQLENS) : (job->layout.flat ? 1 : rows);
        dims[1] = job->layout.width;
        return is_list ? 1 : 2;
    }
    int ndim = tb_output_shape(&job->column, &job->layout, dims);
    if (job->is_flat) {
        dims[0] = dims[1];
        ndim = 1;
    }
    return ndim;
}

/* Offsets in one block, each column on a cache line of its own; the block's size. */
static ptrdiff_t
assign_offsets(tb_job *jobs, Py_ssize_t count)
{
    npy_intp dims[NPY_MAXDIMS];
    ptrdiff_t end = 0;

    for (Py_ssize_t i = 0; i < count; i++) {
        int ndim = job_shape(jobs, &jobs[i], dims);
        ptrdiff_t bytes = jobs[i].layout.item_size;
        for (int d = 0; d < ndim; d++) {
            bytes *= dims[d];
        }
        jobs[i].offset = end;
        end += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return end;
}

int
tb_allocate_jobs(tb_state *state, tb_job *jobs, Py_ssize_t count, PyObject *allocate,
                 int as_tensors)
{
    PyObject *block = NULL;
    npy_intp dims[NPY_MAXDIMS];
    int answer = -1;

    if (allocate != Py_None) {
        ptrdiff_t bytes = assign_offsets(jobs, count);
        block = PyObject_CallFunction(allocate, "n", bytes);
        if (block == NULL) {
            return -1;
        }
        if (!PyArray_Check(block) || !PyArray_ISCARRAY((PyArrayObject *)block) ||
            PyArray_NBYTES((PyArrayObject *)block) < bytes) {
            PyErr_SetString(PyExc_TypeError,
                            "allocate() must answer a large enough array");
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyArray_Descr *descr = carrier_descr(state, &jobs[i], as_tensors);
        int ndim = job_shape(jobs, &jobs[i], dims);
        if (descr == NULL) {
            goto done;
        }
        if (block == NULL) {
            jobs[i].out =
                (PyArrayObject *)PyArray_SimpleNewFromDescr(ndim, dims, descr);
        }
        else {
            jobs[i].out = (PyArrayObject *)PyArray_NewFromDescr(
                &PyArray_Type, descr, ndim, dims, NULL,
                PyArray_BYTES((PyArrayObject *)block) + jobs[i].offset,
                NPY_ARRAY_CARRAY, NULL);
        }
        if (jobs[i].out == NULL ||
            (block != NULL &&
             PyArray_SetBaseObject(jobs[i].out, Py_NewRef(block)) < 0)) {
            goto done;
        }
    }
    answer = 0;
done:
    Py_XDECREF(block);
    return answer;
}

/* Numbers of rows, a position each; the tail of the output is one more row. */
static void
fill_seq_idx(const tb_column *source, const tb_layout *layout, int32_t *out)
{
    ptrdiff_t at = 0;

    for (ptrdiff_t i = 0; i <= source->count; i++) {
        ptrdiff_t left = layout->width - at;
        ptrdiff_t n =
            i == source->count ? left : tb_locate_row(layout, source->lengths[i]).count;
        int32_t row = (int32_t)i;
        tb_fill_elements(out + at, n, 4, (const unsigned char *)&row);
        at += n;
    }
}

static void
fill_cu_seqlens(const tb_column *source, const tb_layout *layout, int32_t *out)
{
    int32_t total = 0;

    for (ptrdiff_t i = 0; i < source->count; i++) {
        out[i] = total;
        total += (int32_t)tb_locate_row(layout, source->lengths[i]).count;
    }
    out[source->count] = total;
}

/* What is made of lengths alone: nothing of Python is looked at. */
static void
fill_extra(const tb_job *jobs, const tb_job *job, void *out)
{
    static const int64_t one = 1;
    const tb_column *source = &jobs[job->source].column;

    switch (job->kind) {
        case MASK:
            tb_mask_rows(source->lengths, source->count, &job->layout,
                         (const unsigned char *)&one, out);
            break;
        case LENGTHS:
            for (ptrdiff_t i = 0; i < source->count; i++) {
                ((int64_t *)out)[i] =
                    tb_locate_row(&job->layout, source->lengths[i]).count;
            }
            break;
        case POSITIONS:
            tb_position_rows(source->lengths, source->count, &job->layout,
                             (int64_t *)out);
            break;
        case SEQ_IDX:
            fill_seq_idx(source, &job->layout, (int32_t *)out);
            break;
        case CU_SEQLENS:
            fill_cu_seqlens(source, &job->layout, (int32_t *)out);
            break;
        case LIKE:
        case MADE:
        case COLUMN:
            break;
    }
}

static tb_read
fill_job(tb_state *state, const tb_job *jobs, tb_job *job)
{
    void *out = PyArray_DATA(job->out);

    if (job->kind == COLUMN) {
        return tb_fill_rows(state, &job->column, &job->layout, out);
    }
    if (PyArray_NBYTES(job->out) < TB_WORTH_RELEASING) {
        fill_extra(jobs, job, out);
        return TB_READ_DONE;
    }
    Py_BEGIN_ALLOW_THREADS
    fill_extra(jobs, job, out);
    Py_END_ALLOW_THREADS
    return TB_READ_DONE;
}

int
tb_run_jobs(tb_state *state, tb_job *jobs, Py_ssize_t count, PyObject *allocate,
            int as_tensors)
{
    tb_read read;

    do {
        read = TB_READ_DONE;
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_CLEAR(jobs[i].out);
            if (lay_out_job(state, jobs, &jobs[i]) < 0) {
                return -1;
            }
        }
        if (tb_allocate_jobs(state, jobs, count, allocate, as_tensors) < 0) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < count && read == TB_READ_DONE; i++) {
            read = fill_job(state, jobs, &jobs[i]);
        }
    } while (read == TB_READ_WIDEN);
    return read == TB_READ_DONE ? 0 : -1;
}

PyObject *
tb_answer_jobs(const tb_job *jobs, Py_ssize_t count)
{
    PyObject *answer = PyList_New(count);

    for (Py_ssize_t i = 0; answer != NULL && i < count; i++) {
        int is_bfloat16 =
            jobs[i].kind == COLUMN && jobs[i].column.dtype.type == TB_BF16;
        PyObject *entry =
            Py_BuildValue("(OnO)", jobs[i].out, (Py_ssize_t)jobs[i].offset,
                          is_bfloat16 ? Py_True : Py_False);
        if (entry == NULL) {
            Py_CLEAR(answer);
            break;
        }
        PyList_SET_ITEM(answer, i, entry);
    }
    return answer;
}

void
tb_clear_job(tb_job *job)
{
    tb_clear_column(&job->column);
    Py_CLEAR(job->out);
}
