#include "core/arrow/kind.h"

#include "core/base/size.h"

#include <string.h>

/* An int32 of the metadata, and what follows it. */
static int32_t
next_size(const char **at)
{
    int32_t size;

    memcpy(&size, *at, sizeof size);
    *at += sizeof size;
    return size;
}

static int
equals(const char *text, int32_t size, const char *expected)
{
    return size == (int32_t)strlen(expected) &&
           memcmp(text, expected, (size_t)size) == 0;
}

/* Whether the metadata names an extension type. Metadata is the number of pairs,
 * then each key and value with its size before it. */
static int
is_extension(const tb_arrow_schema *schema, const char *name)
{
    const char *at = schema->metadata;

    if (at == NULL) {
        return 0;
    }
    for (int32_t pairs = next_size(&at); pairs > 0; pairs--) {
        int32_t key_size = next_size(&at);
        if (key_size < 0) {
            return 0;
        }
        const char *key = at;
        at += key_size;
        int32_t size = next_size(&at);
        if (size < 0) {
            return 0;
        }
        if (equals(key, key_size, "ARROW:extension:name")) {
            return equals(at, size, name);
        }
        at += size;
    }
    return 0;
}

/* The formats of numbers, and their types. */
static const struct {
    char format[2];
    tb_type type;
} numbers[] = {{"b", TB_BOOL}, {"c", TB_I8},  {"s", TB_I16}, {"i", TB_I32},
               {"l", TB_I64},  {"C", TB_U8},  {"S", TB_U16}, {"I", TB_U32},
               {"L", TB_U64},  {"e", TB_F16}, {"f", TB_F32}, {"g", TB_F64}};

enum { NUMBERS = sizeof numbers / sizeof *numbers };

const char *
tb_arrow_format(tb_type type)
{
    for (int i = 0; i < NUMBERS; i++) {
        if (numbers[i].type == type) {
            return numbers[i].format;
        }
    }
    return NULL;
}

/* Reads the type of numbers: 1, or 0 if the schema is for something else. */
static int
read_number(const tb_arrow_schema *schema, tb_arrow_kind *kind)
{
    for (int i = 0; i < NUMBERS; i++) {
        if (strcmp(schema->format, numbers[i].format) != 0) {
            continue;
        }
        kind->type = numbers[i].type;
        kind->store = kind->type == TB_BOOL ? TB_ARROW_BITS : TB_ARROW_PLAIN;
        if (kind->type == TB_I8 && is_extension(schema, "arrow.bool8")) {
            kind->type = TB_BOOL;
            kind->store = TB_ARROW_BYTES;
        }
        return 1;
    }
    return 0;
}

static const char *
name_refused(const char *format)
{
    if (strncmp(format, "+s", 2) == 0) {
        return "holds structs; expected numbers, text or lists of numbers";
    }
    if (format[0] == 't') {
        return "holds dates or times; expected numbers, text or lists of numbers";
    }
    if (format[0] == 'd') {
        return "holds decimals; expected numbers, text or lists of numbers";
    }
    if (format[0] == 'n') {
        return "holds nothing but nulls; expected numbers, text or lists of numbers";
    }
    return "has a type that is not numbers, text or lists of numbers";
}

/* The n of "+w:n"; -1 where there is none. */
static ptrdiff_t
read_fixed_size(const char *format)
{
    ptrdiff_t size = 0;
    const char *digit = format + 3;

    if (strncmp(format, "+w:", 3) != 0 || *digit == '\0') {
        return -1;
    }
    for (; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9' || size > INT32_MAX) {
            return -1;
        }
        size = size * 10 + (*digit - '0');
    }
    return size > INT32_MAX ? -1 : size;
}

static tb_status
check_schema(const tb_arrow_schema *schema, tb_arrow_fault *fault)
{
    if (schema == NULL || schema->release == NULL || schema->format == NULL) {
        return tb_arrow_refuse(fault, -1,
                               "has a schema that was released or is malformed");
    }
    if (schema->dictionary != NULL) {
        return tb_arrow_refuse(
            fault, -1, "is dictionary-encoded; decode it first (dictionary_decode())");
    }
    return TB_OK;
}

static tb_status
only_child(const tb_arrow_schema *schema, const tb_arrow_schema **child,
           tb_arrow_fault *fault)
{
    if (schema->n_children != 1 || schema->children == NULL) {
        return tb_arrow_refuse(
            fault, -1, "is a list, but its schema does not have exactly one child");
    }
    *child = schema->children[0];
    return check_schema(*child, fault);
}

/* What a list holds: numbers, or fixed-size lists of them, to any depth. */
static tb_status
read_elements(const tb_arrow_schema *schema, tb_arrow_kind *kind, tb_arrow_fault *fault)
{
    while (!read_number(schema, kind)) {
        ptrdiff_t size = read_fixed_size(schema->format);
        if (size < 0) {
            return tb_arrow_refuse(
                fault, -1,
                schema->format[0] == '+' && schema->format[1] != 's'
                    ? "holds lists of lists of different lengths; expected "
                      "lists of numbers, or of fixed-size lists of them"
                    : "holds lists of values that are not numbers");
        }
        if (kind->ndim == TB_ARROW_MAX_TRAILING) {
            return tb_arrow_refuse(fault, -1, "is nested too deeply");
        }
        kind->trailing[kind->ndim++] = size;
        if (tb_multiply_sizes(kind->positions, size, &kind->positions) != TB_OK) {
            return tb_arrow_refuse(
                fault, -1, "has positions with more elements than can be addressed");
        }
        tb_status status = only_child(schema, &schema, fault);
        if (status != TB_OK) {
            return status;
        }
    }
    return TB_OK;
}

/* Bytes: a list of uint8 without a child. */
static int
read_bytes_format(const char *format, tb_arrow_kind *kind)
{
    int large = format[0] == 'U' || format[0] == 'Z';

    if (strcmp(format, "vu") == 0 || strcmp(format, "vz") == 0) {
        kind->form = TB_ARROW_STRINGS;
        kind->type = TB_U8;
        kind->is_text = format[1] == 'u';
        return 1;
    }
    if (format[0] == '\0' || strchr("uUzZ", format[0]) == NULL || format[1] != '\0') {
        return 0;
    }
    kind->form = large ? TB_ARROW_LIST64 : TB_ARROW_LIST32;
    kind->type = TB_U8;
    kind->is_text = format[0] == 'u' || format[0] == 'U';
    return 1;
}

tb_status
tb_arrow_read_schema(const tb_arrow_schema *schema, tb_arrow_kind *kind,
                     tb_arrow_fault *fault)
{
    static const struct {
        const char *format;
        tb_arrow_form form;
    } lists[] = {{"+l", TB_ARROW_LIST32},
                 {"+L", TB_ARROW_LIST64},
                 {"+vl", TB_ARROW_VIEW32},
                 {"+vL", TB_ARROW_VIEW64}};
    tb_status status = check_schema(schema, fault);
    int is_list = 0;

    memset(kind, 0, sizeof *kind);
    kind->positions = 1;
    if (status != TB_OK || read_number(schema, kind) ||
        read_bytes_format(schema->format, kind)) {
        return status;
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (strcmp(schema->format, lists[i].format) == 0) {
            kind->form = lists[i].form;
            is_list = 1;
        }
    }
    kind->size = read_fixed_size(schema->format);
    if (kind->size >= 0) {
        kind->form = TB_ARROW_FIXED;
        is_list = 1;
    }
    if (!is_list) {
        return tb_arrow_refuse(fault, -1, name_refused(schema->format));
    }
    kind->has_child = 1;
    status = only_child(schema, &schema, fault);
    return status == TB_OK ? read_elements(schema, kind, fault) : status;
}
