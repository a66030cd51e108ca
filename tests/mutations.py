"""Small changes to C and Python, each a fault that somebody could make. Used by mutate.py."""

import ast
import contextlib
import hashlib
import itertools
import random
import re
from dataclasses import dataclass

TOKEN = re.compile(
    r"""(?P<skip>/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:\\\n|[^\n])*|[ \t\r\n]+)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>\d[\w.]*(?:[eEpP][+-]\w+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<op><<=|>>=|->|\+\+|--|&&|\|\||[<>=!+\-*/%&|^]=|<<|>>|.)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
SWAPPED = {
    "&&": "||", "||": "&&", "+=": "-=", "-=": "+=", "++": "--", "--": "++",
    "Py_True": "Py_False", "Py_False": "Py_True", "true": "false", "false": "true",
}  # fmt: skip
COMMUTE = {
    "tb_multiply_sizes",
    "tb_min",
    "tb_max",
    "min",
    "max",
    "minimum",
    "maximum",
}  # functions whose first two arguments may be swapped
ASSIGNED = {"=", "+=", "-=", "*=", "/=", "|=", "&=", "^=", "<<=", ">>="}


@dataclass(frozen=True)
class Change:
    path: str
    kind: str
    start: int
    end: int
    new: str

    def apply(self, text):
        return text[: self.start] + self.new + text[self.end :]

    def old_line(self, text):
        """The line that it changes, without the space at its ends."""
        begin = text.rfind("\n", 0, self.start) + 1
        return text[begin:].split("\n", 1)[0].strip()

    def new_line(self, text):
        begin = text.rfind("\n", 0, self.start) + 1
        line = text[begin : self.start] + self.new + text[self.end :].split("\n", 1)[0]
        return line.strip()

    def describe(self, text):
        line = text.count("\n", 0, self.start) + 1
        old = " ".join(text[self.start : self.end].split())
        return f"{self.path}:{line}: {self.kind}: {old!r} -> {self.new!r} in: {self.new_line(text)}"

    def is_other_code(self, text):
        """For Python: whether it compiles, to other byte code."""
        try:
            return ast.dump(ast.parse(self.apply(text))) != ast.dump(ast.parse(text))
        except SyntaxError:
            return False


def closing(tokens, at):
    """The place of the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(tokens)):
        depth += (tokens[i][1] in "([{") - (tokens[i][1] in ")]}")
        if depth == 0:
            return i
    return len(tokens) - 1


def parts_of(tokens, begin, end):
    """What lies between commas of tokens[begin:end]: pairs of places."""
    parts, depth, start = [], 0, begin
    for i in range(begin, end):
        word = tokens[i][1]
        depth += (word in ("(", "[", "{")) - (word in (")", "]", "}"))
        if word == "," and depth == 0:
            parts.append((start, i))
            start = i + 1
    return [*parts, (start, end)]


def statement_end(tokens, at):
    """The place of the semicolon that ends the statement at `at`, or None."""
    i = at
    while i < len(tokens) and tokens[i][1] not in (";", "{", "}"):
        i = closing(tokens, i) + 1 if tokens[i][1] in ("(", "[") else i + 1
    return i if i < len(tokens) and tokens[i][1] == ";" else None


def is_dropped(tokens, at, end):
    """Whether tokens[at:end] are a call, an assignment or a return that can be left out."""
    if tokens[at][1] in ("return", "break", "continue", "goto"):
        # Not the last of a function or a case: it would do the same or not compile.
        return tokens[at][1] == "return"
    if tokens[at][0] != "name" or tokens[at + 1][0] == "name" or tokens[at + 1][1] == "*":
        return tokens[at][1] == "(" and tokens[at + 1][1] == "void"
    return tokens[at + 1][1] == "(" or any(tokens[i][1] in ASSIGNED for i in range(at, end))


def changes_of_c(path, text):
    tokens = [(m.lastgroup, m.group(), m.start(), m.end()) for m in TOKEN.finditer(text)]
    tokens = [t for t in tokens if t[0] != "skip"]
    depth = 0
    for i, (group, word, start, end) in enumerate(tokens[:-1]):
        before = tokens[i - 1] if i else ("op", ";", 0, 0)
        depth += (word == "{") - (word == "}")
        if word in COMPARED:
            yield Change(path, "comparison", start, end, COMPARED[word])
        elif word in SWAPPED:
            yield Change(path, "operator", start, end, SWAPPED[word])
        elif word in ("+", "-") and (before[0] != "op" or before[1] in (")", "]")):
            if before[1] != "return":
                yield Change(path, "operator", start, end, "-" if word == "+" else "+")
        elif group == "number" and re.fullmatch(r"\d+[uUlL]*", word):
            digits = re.match(r"\d+", word).group()
            value, unit = int(digits), word[len(digits) :]
            if before[1] == "-" and tokens[i - 2][1] in ("return", "=", "(", ",", "?", ":"):
                yield Change(path, "constant", before[2], end, "0")
            elif before[1] == "return" and value < 2:
                # An answer of another meaning: callers rarely tell 1 from 2, or ask for 0 exactly.
                yield Change(path, "constant", start, end, "0" if value else "-1")
            else:
                for other in {value + 1, max(value - 1, 0)} - {value}:
                    yield Change(path, "constant", start, end, f"{other}{unit}")
        elif word == "!" and tokens[i + 1][1] != "=":
            yield Change(path, "condition", start, end, "")
        if word == "if" and tokens[i + 1][1] == "(":
            close = closing(tokens, i + 1)
            inside = text[tokens[i + 1][3] : tokens[close][2]]
            yield Change(path, "condition", tokens[i + 1][3], tokens[close][2], f"!({inside})")
        if depth > 0 and before[1] in (";", "{", "}", ")", "else", ":"):
            if before[1] == ")" and tokens[i - 1][1] == ")" and word in ("(", "->", "."):
                continue
            last = statement_end(tokens, i)
            if last is not None and last > i and is_dropped(tokens, i, last):
                yield Change(path, "statement", start, tokens[last][2], "")
        if group == "name" and tokens[i + 1][1] == "(" and depth > 0:
            arguments = parts_of(tokens, i + 2, closing(tokens, i + 1))
            for (a, b), (c, d) in itertools.pairwise(arguments):
                if a < b and c < d and not (word in COMMUTE and (a, b) == arguments[0]):
                    left = text[tokens[a][2] : tokens[b - 1][3]]
                    right = text[tokens[c][2] : tokens[d - 1][3]]
                    between = text[tokens[b - 1][3] : tokens[c][2]]
                    new = right + between + left
                    yield Change(path, "arguments", tokens[a][2], tokens[d - 1][3], new)


PYTHON_COMPARED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip


class PythonChanges(ast.NodeVisitor):
    """Collects changes; what only type checkers read is left out."""

    def __init__(self, path, text):
        self.path, self.text, self.found = path, text, []
        self.lines = [0]
        for line in text.encode().splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.bytes = text.encode()

    def place(self, line, column):
        return len(self.bytes[: self.lines[line - 1] + column].decode())

    def span(self, node):
        return (
            self.place(node.lineno, node.col_offset),
            self.place(node.end_lineno, node.end_col_offset),
        )

    def source(self, node):
        start, end = self.span(node)
        return self.text[start:end]

    def change(self, kind, node, new):
        self.found.append(Change(self.path, kind, *self.span(node), new))

    def between(self, kind, left, right, old, new):
        """The first `old` between two nodes becomes `new`."""
        start, end = self.span(left)[1], self.span(right)[0]
        at = re.search(rf"(?<![\w=<>!]){re.escape(old)}(?![\w=<>])", self.text[start:end])
        if at:
            self.found.append(Change(self.path, kind, start + at.start(), start + at.end(), new))

    def visit_arg(self, node):
        pass

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node):
        names = {getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list}
        if "overload" not in names:
            for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                self.visit(default)
            for statement in node.body:
                self.visit(statement)

    def visit_If(self, node):
        if self.source(node.test) in ("TYPE_CHECKING", '__name__ == "__main__"'):
            return
        self.change("condition", node.test, f"not ({self.source(node.test)})")
        self.generic_visit(node)

    def visit_IfExp(self, node):
        self.change("condition", node.test, f"(not ({self.source(node.test)}))")
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.Not):
            self.change("condition", node, f"({self.source(node.operand)})")
        self.generic_visit(node)

    def visit_Compare(self, node):
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            new = PYTHON_COMPARED[type(op)]
            opposite = {v: k for k, v in PYTHON_COMPARED.items()}
            old = next(o for o in opposite if opposite[o] is _other(type(op)))
            self.between("comparison", left, right, old, new)
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between("operator", left, right, old, new)
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if isinstance(node.op, ast.Add | ast.Sub):
            old, new = ("+", "-") if isinstance(node.op, ast.Add) else ("-", "+")
            self.between("operator", node.left, node.right, old, new)
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.change("constant", node, str(not node.value))
        elif isinstance(node.value, int):
            for value in {node.value + 1, max(node.value - 1, 0)} - {node.value}:
                self.change("constant", node, str(value))

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call):
            self.change("statement", node, "pass")
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Assign(self, node):
        if not isinstance(node.targets[0], ast.Name):
            self.change("statement", node, "pass")
        self.visit(node.value)

    def visit_Raise(self, node):
        self.change("statement", node, "pass")
        self.generic_visit(node)

    def visit_Return(self, node):
        if node.value is not None and self.source(node.value) != "None":
            self.change("statement", node.value, "None")
        self.generic_visit(node)

    def visit_JoinedStr(self, node):
        # Python 3.11 does not know exactly where what is in an f-string stands.
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                with contextlib.suppress(SyntaxError):
                    again = ast.parse(self.source(part.value), mode="eval").body
                    if ast.dump(again) == ast.dump(part.value):
                        self.visit(part.value)

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        for i, (a, b) in enumerate(itertools.pairwise(node.args)):
            if i == 0 and name in COMMUTE:
                continue
            left, right = self.span(a), self.span(b)
            new = self.source(b) + self.text[left[1] : right[0]] + self.source(a)
            if isinstance(a, ast.Starred) == isinstance(b, ast.Starred):
                self.found.append(Change(self.path, "arguments", left[0], right[1], new))
        self.generic_visit(node)


def _other(op):
    pairs = [(ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)]
    pairs.append((ast.In, ast.NotIn))
    return next((b if op is a else a) for a, b in pairs if op in (a, b))


def all_changes(folder, room):
    changes = []
    for path in sorted((folder / room).rglob("*.[chp]*")):
        name = path.relative_to(folder).as_posix()
        text = path.read_text() if path.suffix in (".c", ".h", ".py") else ""
        if path.suffix in (".c", ".h"):
            changes += dict.fromkeys(changes_of_c(name, text))
        elif path.suffix == ".py":
            visitor = PythonChanges(name, text)
            visitor.visit(ast.parse(text))
            changes += dict.fromkeys(visitor.found)
    return changes


def in_random_order(changes, seed, root):
    """Each kind as often as the others, while there are any left.

    The place of a change depends on its line alone, so other edits hardly change what is drawn.
    """
    texts = {path: (root / path).read_text() for path in {change.path for change in changes}}

    def place(change):
        text = texts[change.path]
        told = f"{seed} {change.path} {change.old_line(text)} {change.new_line(text)}"
        return hashlib.blake2b(told.encode()).digest()

    kinds = {}
    for change in sorted(changes, key=place):
        kinds.setdefault(change.kind, []).append(change)
    draw = random.Random(seed)
    while kinds:
        kind = draw.choice(sorted(kinds))
        yield kinds[kind].pop()
        if not kinds[kind]:
            del kinds[kind]
