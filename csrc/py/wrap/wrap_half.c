/* to_float16(), to_bfloat16(), to_float32(), and half_loss() for half_report(). */
#include "py/base/tb_numpy.h"
#include "py/input/settings.h"
#include "py/input/floats.h"
#include "core/cast/fp_state.h"
#include "core/loss/half_loss.h"
#include "py/output/out.h"

#include <math.h>

/* Elements that are converted, and then counted while they are in the cache. */
enum { BLOCK = 1 << 14 };

/* Where converted elements go: C-contiguous and native. */
typedef struct {
    PyObject *object;     /* the result; owned */
    PyArrayObject *array; /* a view of its memory, owned; NULL: not needed */
    char *data;
} place;

typedef struct {
    tb_type from;
    tb_type to;
    char *dst; /* NULL: nothing is converted, only overflow looked for */
    tb_overflow_rule rule;
    tb_overflow overflow;
    double value;  /* that overflows first */
    tb_loss *loss; /* NULL: not counted */
    int what;      /* of it */
} conversion;

static int
convert_run(const void *src, npy_intp n, npy_intp at, void *context)
{
    conversion *work = (conversion *)context;
    const char *from = (const char *)src;
    npy_intp size = tb_type_size(work->from), size_out = tb_type_size(work->to);
    npy_intp step = work->loss != NULL ? BLOCK : n;

    for (npy_intp i = 0; i < n; i += step) {
        npy_intp count = n - i < step ? n - i : step;
        tb_overflow overflow;
        if (work->dst == NULL) {
            tb_find_overflow(work->from, work->to, from + i * size, count, &overflow);
        }
        else {
            tb_convert_floats(work->from, work->to, from + i * size, count,
                              work->dst + (at + i) * size_out, work->rule, &overflow);
        }
        if (overflow.count > 0 && work->overflow.count == 0) {
            tb_overflow none;
            work->overflow.first = at + i + overflow.first;
            tb_convert_floats(work->from, TB_F64, from + (i + overflow.first) * size, 1,
                              &work->value, TB_OVERFLOW_INFINITY, &none);
        }
        work->overflow.count += overflow.count;
        if (work->loss != NULL) {
            tb_add_loss(work->from, from + i * size, count, work->what, work->loss);
        }
        if (work->rule == TB_OVERFLOW_STOP && work->overflow.count > 0) {
            return 1;
        }
    }
    return 0;
}

static int
read_rule(const tb_context *context, PyObject *value, tb_overflow_rule *rule,
          int *is_warned)
{
    static const char *const choices[] = {"warn", "inf", "saturate", "error", NULL};
    static const tb_overflow_rule rules[] = {TB_OVERFLOW_INFINITY, TB_OVERFLOW_INFINITY,
                                             TB_OVERFLOW_SATURATE, TB_OVERFLOW_STOP};
    int chosen;

    if (tb_read_choice(context, "overflow", value, choices, &chosen) < 0) {
        return -1;
    }
    *rule = rules[chosen];
    *is_warned = chosen == 0;
    return 0;
}

/* --- where it goes ---------------------------------------------------------------- */

/* The memory of a tensor by torch's exchange table, if type and shape are right. */
static int
place_in_plain_tensor(tb_state *state, const tb_context *context, PyObject *tensor,
                      const tb_floats *floats, tb_type to, place *out)
{
    tb_view view;
    int is_tensor = tb_is_tensor(state, tensor);

    if (is_tensor <= 0 || !tb_view_plain_tensor(state, tensor, &view)) {
        return is_tensor < 0 ? -1 : 0;
    }
    if (view.dtype.type != to || view.ndim != floats->ndim ||
        !PyArray_CompareLists(view.shape, floats->shape, floats->ndim)) {
        return 0;
    }
    PyObject *grad = PyObject_GetAttrString(tensor, "requires_grad");
    Py_XDECREF(grad);
    if (grad != Py_False) {
        return grad == NULL ? -1 : 0;
    }
    if (tb_check_storage(context, tensor, &view) < 0) {
        return -1;
    }
    out->data = (char *)(uintptr_t)view.data;
    return 1;
}

static int
place_in_given(tb_state *state, const tb_context *context, PyObject *given,
               const tb_floats *floats, tb_type to, place *out)
{
    tb_dtype dtype = {to, tb_type_size(to), NULL};
    int is_bfloat16;
    int found = PyArray_Check(given)
                    ? 0
                    : place_in_plain_tensor(state, context, given, floats, to, out);

    out->object = Py_NewRef(given);
    if (found != 0) {
        return found < 0 ? -1 : 0;
    }
    out->array = tb_read_out(state, context, given, &is_bfloat16);
    if (out->array == NULL || tb_check_out(state, context, out->array, is_bfloat16,
                                           &dtype, floats->ndim, floats->shape) < 0) {
        return -1;
    }
    out->data = PyArray_BYTES(out->array);
    return 0;
}

/* A new array, or a new tensor if `like` is a tensor. */
static int
place_in_new(tb_state *state, const tb_context *context, PyObject *like,
             const tb_floats *floats, tb_type to, place *out)
{
    tb_dtype dtype = {to, tb_type_size(to), NULL};
    int is_tensor = PyArray_Check(like) ? 0 : tb_is_tensor(state, like);

    if (is_tensor < 0) {
        return -1;
    }
    if (is_tensor) {
        PyObject *tensor = tb_new_tensor(like, tb_dtype_name(&dtype));
        int answer = tensor == NULL
                         ? -1
                         : place_in_given(state, context, tensor, floats, to, out);
        Py_XDECREF(tensor);
        return answer;
    }
    PyArray_Descr *descr = tb_dtype_descr(state, &dtype);
    out->array = descr == NULL ? NULL
                               : (PyArrayObject *)PyArray_SimpleNewFromDescr(
                                     floats->ndim, floats->shape, descr);
    if (out->array == NULL) {
        return -1;
    }
    out->object = Py_NewRef((PyObject *)out->array);
    out->data = PyArray_BYTES(out->array);
    return 0;
}

/* --- what was counted, for Python ------------------------------------------------ */

static PyObject *
build_places(const tb_places *places)
{
    Py_ssize_t kept =
        places->count < TB_LOSS_FIRST ? (Py_ssize_t)places->count : TB_LOSS_FIRST;
    PyObject *first = PyTuple_New(kept);

    for (Py_ssize_t i = 0; first != NULL && i < kept; i++) {
        PyObject *index = PyLong_FromLongLong(places->first[i]);
        if (index == NULL) {
            Py_CLEAR(first);
            break;
        }
        PyTuple_SET_ITEM(first, i, index);
    }
    return first == NULL ? NULL
                         : Py_BuildValue("(LN)", (long long)places->count, first);
}

static PyObject *
build_half(const tb_half_loss *loss)
{
    PyObject *overflowed = build_places(&loss->overflowed);
    PyObject *flushed = build_places(&loss->flushed);

    if (overflowed == NULL || flushed == NULL) {
        Py_XDECREF(overflowed);
        Py_XDECREF(flushed);
        return NULL;
    }
    return Py_BuildValue("(NNLLddddd)", overflowed, flushed, (long long)loss->subnormal,
                         (long long)loss->exact, loss->signal, loss->noise,
                         loss->max_absolute, loss->max_relative, loss->max_ulp);
}

/* (count, zero, nan, infinite, largest, its (fraction, power of two), smallest,
 * exponents, {dtype: what it loses}) */
static PyObject *
build_loss(const tb_loss *loss)
{
    npy_intp size = TB_LOSS_EXPONENTS;
    PyObject *nan = build_places(&loss->nan), *answer = NULL;
    PyObject *infinite = build_places(&loss->infinite);
    PyObject *exponents = PyArray_SimpleNew(1, &size, NPY_INT64);
    PyObject *f16 = build_half(&loss->f16), *bf16 = build_half(&loss->bf16);
    PyObject *f32 = build_half(&loss->f32);
    double smallest = isinf(loss->smallest) ? 0.0 : loss->smallest;
    int power = 0;
    tb_fp_state saved =
        tb_enter_fp(0); /* frexp() is wrong if subnormal numbers are flushed */
    double fraction = frexp(loss->largest, &power);
    tb_leave_fp(saved);

    if (nan != NULL && infinite != NULL && exponents != NULL && f16 != NULL &&
        bf16 != NULL && f32 != NULL) {
        memcpy(PyArray_DATA((PyArrayObject *)exponents), loss->exponents,
               sizeof loss->exponents);
        answer = Py_BuildValue("(LLOOd(di)dO{sOsOsO})", (long long)loss->count,
                               (long long)loss->zero, nan, infinite, loss->largest,
                               fraction, power, smallest, exponents, "float16", f16,
                               "bfloat16", bf16, "float32", f32);
    }
    Py_XDECREF(nan);
    Py_XDECREF(infinite);
    Py_XDECREF(exponents);
    Py_XDECREF(f16);
    Py_XDECREF(bf16);
    Py_XDECREF(f32);
    return answer;
}

/* --- functions -------------------------------------------------------------------- */

static int
find_overflow_first(const tb_floats *floats, conversion *work)
{
    conversion look = *work;

    look.dst = NULL;
    look.loss = NULL;
    int answer = tb_each_run(floats, convert_run, &look);
    work->overflow = look.overflow;
    work->value = look.value;
    return answer;
}

/* The converted array. If the caller has to warn, raise or count: (converted or None,
 * shape, overflowed, index and value of the first, counts or None). The first is None
 * with overflow="error": then nothing was written to out=. */
static PyObject *
build_answer(const conversion *work, const tb_floats *floats, PyObject *converted,
             int is_told)
{
    if (!is_told && work->loss == NULL) {
        return Py_NewRef(converted);
    }
    PyObject *shape = PyArray_IntTupleFromIntp(floats->ndim, floats->shape);
    PyObject *counted =
        work->loss == NULL ? Py_NewRef(Py_None) : build_loss(work->loss);
    PyObject *answer = NULL;

    if (shape != NULL && counted != NULL) {
        answer =
            Py_BuildValue("(OOLLdO)", converted, shape, (long long)work->overflow.count,
                          (long long)work->overflow.first, work->value, counted);
    }
    Py_XDECREF(shape);
    Py_XDECREF(counted);
    return answer;
}

/* (x, overflow, out, return_counts) */
static PyObject *
convert_array(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
              const char *function, tb_type to)
{
    tb_state *state = tb_state_of(module);
    const tb_context context = {.function = function};
    const tb_context of_x = {.function = function, .argument = "x"};
    conversion work = {to,      to, NULL, TB_OVERFLOW_INFINITY,
                       {0, -1}, 0,  NULL, TB_LOSS_COUNTS};
    tb_floats floats;
    place out = {NULL, NULL, NULL};
    tb_loss loss;
    PyObject *answer = NULL;
    int is_counted, is_warned = 0, stopped = 0;

    if (tb_check_count(function, nargs, 4) < 0 ||
        read_rule(&context, args[1], &work.rule, &is_warned) < 0 ||
        tb_read_flag(&context, "return_counts", args[3], &is_counted) < 0 ||
        tb_read_floats(state, &of_x, args[0], &floats) < 0) {
        return NULL;
    }
    int has_out = args[2] != Py_None;
    work.from = floats.type;
    if ((has_out ? place_in_given(state, &context, args[2], &floats, to, &out)
                 : place_in_new(state, &context, args[0], &floats, to, &out)) < 0) {
        goto done;
    }
    work.dst = out.data;
    if (has_out && tb_floats_overlap(&floats, out.data,
                                     out.data + floats.count * tb_type_size(to))) {
        tb_raise_at(&context, PyExc_ValueError, -1, -1,
                    "out= shares memory with x; expected separate memory");
        goto done;
    }
    if (is_counted) {
        tb_start_loss(&loss);
        work.loss = &loss;
        /* float32's subnormal numbers are those below the lowest exponent that is
         * counted. */
        work.what = to == TB_F32 ? TB_LOSS_EXPONENT_COUNTS : TB_LOSS_COUNTS;
    }
    if (has_out && work.rule == TB_OVERFLOW_STOP) {
        stopped = find_overflow_first(&floats, &work);
    }
    stopped = stopped == 0 ? tb_each_run(&floats, convert_run, &work) : stopped;
    if (stopped >= 0) {
        answer = build_answer(&work, &floats, stopped ? Py_None : out.object,
                              stopped || (is_warned && work.overflow.count > 0));
    }
done:
    Py_XDECREF(out.object);
    Py_XDECREF((PyObject *)out.array);
    tb_clear_floats(&floats);
    return answer;
}

static PyObject *
wrap_to_float16(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return convert_array(module, args, nargs, "to_float16", TB_F16);
}

static PyObject *
wrap_to_bfloat16(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return convert_array(module, args, nargs, "to_bfloat16", TB_BF16);
}

static PyObject *
wrap_to_float32(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return convert_array(module, args, nargs, "to_float32", TB_F32);
}

typedef struct {
    tb_type type;
    int what;
    tb_loss *loss;
} survey;

static int
survey_run(const void *src, npy_intp n, npy_intp at, void *context)
{
    survey *work = (survey *)context;

    (void)at;
    tb_add_loss(work->type, src, n, work->what, work->loss);
    return 0;
}

/* half_loss(function, key or None, x, errors, exponents)
 *     -> (dtype, what build_loss() gives) */
static PyObject *
wrap_half_loss(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {0};
    tb_floats floats;
    tb_loss loss;
    PyObject *answer = NULL;
    int errors, exponents;

    if (tb_check_count("half_loss", nargs, 5) < 0) {
        return NULL;
    }
    context.key = args[1] == Py_None ? NULL : args[1];
    context.argument = "x";
    if (tb_read_function(args[0], &context) < 0 ||
        tb_read_flag(&context, "errors", args[3], &errors) < 0 ||
        tb_read_flag(&context, "histogram", args[4], &exponents) < 0 ||
        tb_read_floats(state, &context, args[2], &floats) < 0) {
        return NULL;
    }
    survey work = {
        floats.type,
        (errors ? TB_LOSS_ERRORS : 0) | (exponents ? TB_LOSS_EXPONENT_COUNTS : 0),
        &loss};
    tb_start_loss(&loss);
    if (tb_each_run(&floats, survey_run, &work) == 0) {
        tb_dtype dtype = {floats.type, tb_type_size(floats.type), NULL};
        answer = Py_BuildValue("(sN)", tb_dtype_name(&dtype), build_loss(&loss));
    }
    tb_clear_floats(&floats);
    return answer;
}

/* cpu_levels() -> (the one that is used, all that this machine has) */
static PyObject *
wrap_cpu_levels(PyObject *module, PyObject *none)
{
    PyObject *levels = PyList_New(0), *name = NULL;

    (void)module;
    (void)none;
    for (int level = 0; levels != NULL && level < TB_LEVEL_COUNT; level++) {
        if (tb_level_available((tb_level)level)) {
            name = PyUnicode_FromString(tb_level_name((tb_level)level));
            if (name == NULL || PyList_Append(levels, name) < 0) {
                Py_CLEAR(levels);
            }
            Py_CLEAR(name);
        }
    }
    return levels == NULL
               ? NULL
               : Py_BuildValue("(sN)", tb_level_name(tb_level_used()), levels);
}

PyMethodDef tb_half_methods[] = {
    {"to_float16", (PyCFunction)(void (*)(void))wrap_to_float16, METH_FASTCALL, NULL},
    {"to_bfloat16", (PyCFunction)(void (*)(void))wrap_to_bfloat16, METH_FASTCALL, NULL},
    {"to_float32", (PyCFunction)(void (*)(void))wrap_to_float32, METH_FASTCALL, NULL},
    {"half_loss", (PyCFunction)(void (*)(void))wrap_half_loss, METH_FASTCALL, NULL},
    {"cpu_levels", wrap_cpu_levels, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
