"""Arrow structures made by hand, with ctypes: any field can be wrong, and releases are counted."""

import ctypes

PTR = ctypes.c_void_p


class ArrowSchema(ctypes.Structure):
    pass


class ArrowArray(ctypes.Structure):
    pass


class ArrowArrayStream(ctypes.Structure):
    pass


SCHEMA_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowSchema))
ARRAY_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowArray))
STREAM_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowArrayStream))
GET_SCHEMA = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ArrowArrayStream), ctypes.POINTER(ArrowSchema)
)
GET_NEXT = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ArrowArrayStream), ctypes.POINTER(ArrowArray)
)
GET_ERROR = ctypes.CFUNCTYPE(PTR, ctypes.POINTER(ArrowArrayStream))

ArrowSchema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowSchema))),
    ("dictionary", ctypes.POINTER(ArrowSchema)),
    ("release", SCHEMA_RELEASE),
    ("private_data", PTR),
]
ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(PTR)),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowArray))),
    ("dictionary", ctypes.POINTER(ArrowArray)),
    ("release", ARRAY_RELEASE),
    ("private_data", PTR),
]
ArrowArrayStream._fields_ = [
    ("get_schema", GET_SCHEMA),
    ("get_next", GET_NEXT),
    ("get_last_error", GET_ERROR),
    ("release", STREAM_RELEASE),
    ("private_data", PTR),
]

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [PTR, ctypes.c_char_p, PTR]
KEPT = []  # what capsules point to, their names too: they have no destructor


def new_capsule(address, name, destructor=None):
    KEPT.append(name)
    return _new_capsule(address, name, destructor)


class Node:
    """One array and its schema, with counts of how often each was released."""

    def __init__(self, format, length=0, buffers=(), children=(), offset=0, null_count=0, **wrong):
        self.released = {"schema": 0, "array": 0}
        self.memory = [bytes(b) if b is not None else None for b in buffers]
        self.pointers = (PTR * max(1, len(buffers)))(
            *[ctypes.cast(ctypes.c_char_p(m), PTR) if m is not None else None for m in self.memory]
        )
        self.nodes = list(children)
        self.schemas = (ctypes.POINTER(ArrowSchema) * max(1, len(children)))(
            *[ctypes.pointer(child.schema) for child in children]
        )
        self.arrays = (ctypes.POINTER(ArrowArray) * max(1, len(children)))(
            *[ctypes.pointer(child.array) for child in children]
        )
        self.schema = ArrowSchema(
            format=format.encode() if isinstance(format, str) else format,
            name=wrong.pop("name", "").encode(),
            n_children=wrong.pop("schema_children", len(children)),
            children=self.schemas,
            release=SCHEMA_RELEASE(self._release_schema),
        )
        self.array = ArrowArray(
            length=length,
            null_count=null_count,
            offset=offset,
            n_buffers=wrong.pop("n_buffers", len(buffers)),
            n_children=wrong.pop("n_children", len(children)),
            buffers=self.pointers,
            children=self.arrays,
            release=ARRAY_RELEASE(self._release_array),
        )
        for side in (self.schema, self.array):
            for name in list(wrong):
                if hasattr(side, name):
                    setattr(side, name, wrong.pop(name))
        assert not wrong, wrong
        self.callbacks = (self.schema.release, self.array.release)
        KEPT.append(self)

    def _release_schema(self, pointer):
        self.released["schema"] += 1
        pointer.contents.release = SCHEMA_RELEASE()

    def _release_array(self, pointer):
        self.released["array"] += 1
        pointer.contents.release = ARRAY_RELEASE()

    def capsules(self):
        """The pair that __arrow_c_array__ answers; the schema stays the capsule's."""
        return (
            new_capsule(ctypes.addressof(self.schema), b"arrow_schema", None),
            new_capsule(ctypes.addressof(self.array), b"arrow_array", None),
        )


class Offers:
    """An object with __arrow_c_array__ or, for a stream, __arrow_c_stream__."""

    def __init__(self, answer, stream=False):
        name = "__arrow_c_stream__" if stream else "__arrow_c_array__"
        setattr(self, name, lambda requested_schema=None: answer)


class Stream:
    """A stream of nodes; fails where told to. The nodes' structs are handed over."""

    def __init__(self, schema, nodes=(), fail_schema=0, fail_at=None, message=b"out of ink"):
        self.released, self.waiting = 0, list(nodes)
        self.schema, self.handed = schema, 0
        self.message = ctypes.c_char_p(message)

        def get_schema(_, out):
            if fail_schema:
                return fail_schema
            ctypes.memmove(out, ctypes.byref(self.schema.schema), ctypes.sizeof(ArrowSchema))
            return 0

        def get_next(_, out):
            if fail_at is not None and self.handed == fail_at:
                return 5
            if not self.waiting:
                out.contents.release = ARRAY_RELEASE()
                return 0
            node = self.waiting.pop(0)
            ctypes.memmove(out, ctypes.byref(node.array), ctypes.sizeof(ArrowArray))
            self.handed += 1
            return 0

        def release(pointer):
            self.released += 1
            pointer.contents.release = STREAM_RELEASE()

        self.stream = ArrowArrayStream(
            GET_SCHEMA(get_schema),
            GET_NEXT(get_next),
            GET_ERROR(lambda _: ctypes.cast(self.message, PTR).value),
            STREAM_RELEASE(release),
        )
        KEPT.append(self)

    def offer(self):
        address = ctypes.addressof(self.stream)
        return Offers(new_capsule(address, b"arrow_array_stream", None), stream=True)
