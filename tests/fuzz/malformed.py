"""What may be wrong with the PDUs and DIMSE messages of one connection (PS3.8 9.3, PS3.7 6.3 and Annex E).

`attack_of` makes the attack of a seed and a number, from recordings of what well-behaved peers say: random bytes,
mutants of the recordings, and PDUs, PDVs, command sets and data sets that are wrong in a chosen way.
"""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

VERIFICATION, MR, COMMITMENT = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.20.1"
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
REQUEST, ACCEPT, REJECT, DATA, RELEASE, RELEASED, ABORT = range(1, 8)

ENDINGS = ("half-close", "reset", "wait")
"""How the attacker's side ends: it says no more, resets the connection, or waits until the node closes it."""

Draw = random.Random


@dataclass(frozen=True)
class Attack:
    """What one connection says: `opening`, after whose answer (if there is to be one) comes `rest`."""

    kind: str
    opening: bytes
    rest: bytes = b""
    ending: str = "half-close"


# Well-formed parts


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU (PS3.8 9.3.1)."""
    return bytes((kind, 0)) + (len(body) if length is None else length % 2**32).to_bytes(4, "big") + body


def item(kind: int, body: bytes, length: int | None = None) -> bytes:
    """An item or sub-item of an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    return bytes((kind, 0)) + (len(body) if length is None else length % 2**16).to_bytes(2, "big") + body


def pdv(context: int, control: int, content: bytes, length: int | None = None) -> bytes:
    """A presentation data value (PS3.8 9.3.5.1)."""
    size = len(content) + 2 if length is None else length % 2**32
    return size.to_bytes(4, "big") + bytes((context % 256, control % 256)) + content


def context_item(number: int, abstract: str, *syntaxes: str) -> bytes:
    """A presentation context item (PS3.8 9.3.2.2)."""
    parts = item(0x30, abstract.encode()) + b"".join(item(0x40, one.encode()) for one in syntaxes)
    return item(0x20, bytes((number % 256, 0, 0, 0)) + parts)


CONTEXTS = (
    context_item(1, VERIFICATION, IMPLICIT),
    context_item(3, MR, EXPLICIT),
    context_item(5, COMMITMENT, IMPLICIT),
    context_item(7, MR, DEFLATED),
)


def user_item(longest: int = 16384, *more: bytes) -> bytes:
    """The user information item (PS3.8 9.3.2.3)."""
    own = item(0x52, b"1.2.3.4") + item(0x55, b"FUZZ")
    return item(0x50, item(0x51, longest.to_bytes(4, "big")) + own + b"".join(more))


def request(contexts: Sequence[bytes] = CONTEXTS, user: bytes | None = None, **fields: bytes) -> bytes:
    """An A-ASSOCIATE-RQ; `fields` may replace version, called, calling, application."""
    head = fields.get("version", b"\0\1") + b"\0\0" + fields.get("called", b"SCTNODE".ljust(16))
    head += fields.get("calling", b"FUZZ".ljust(16)) + bytes(32)
    application = fields.get("application", item(0x10, b"1.2.840.10008.3.1.1.1"))
    return pdu(REQUEST, head + application + b"".join(contexts) + (user_item() if user is None else user))


def element(group: int, number: int, value: bytes, length: int | None = None) -> bytes:
    """A data element in implicit VR little endian (PS3.5 7.1.3)."""
    size = len(value) if length is None else length % 2**32
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + size.to_bytes(4, "little") + value


def short(value: int) -> bytes:
    """VR US."""
    return (value % 65536).to_bytes(2, "little")


def uid(value: str) -> bytes:
    """VR UI, padded."""
    return value.encode() + b"\0" * (len(value) % 2)


def command(elements: dict[int, bytes]) -> bytes:
    """A command set with its group length (PS3.7 6.3.1)."""
    body = b"".join(element(0, number, value) for number, value in sorted(elements.items()))
    return element(0, 0, len(body).to_bytes(4, "little")) + body


def store_command(instance: str = "1.2.3.1") -> dict[int, bytes]:
    """The elements of a C-STORE-RQ (PS3.7 table 9.3-1)."""
    return {0x2: uid(MR), 0x100: short(1), 0x110: short(7), 0x700: short(0), 0x800: short(1), 0x1000: uid(instance)}


def action_command() -> dict[int, bytes]:
    """The elements of an N-ACTION-RQ for a storage commitment (PS3.7 table 10.3-7)."""
    well_known = uid("1.2.840.10008.1.20.1.1")
    there = {0x3: uid(COMMITMENT), 0x100: short(0x130), 0x110: short(3), 0x800: short(1)}
    return {**there, 0x1001: well_known, 0x1008: short(1)}


def explicit(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """A data element in explicit VR little endian (PS3.5 7.1.2)."""
    size = len(value) if length is None else length
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    sized = b"\0\0" + (size % 2**32).to_bytes(4, "little") if long else (size % 2**16).to_bytes(2, "little")
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr + sized + value


def small_set(instance: str = "1.2.3.1", series: str = "1.2.3", between: bytes = b"") -> bytes:
    """A data set of three UIDs, with something before the last."""
    head = explicit(8, 0x16, b"UI", uid(MR)) + explicit(8, 0x18, b"UI", uid(instance))
    return head + between + explicit(0x20, 0xE, b"UI", uid(series))


def message(context: int, elements: dict[int, bytes], data_set: bytes | None = None) -> bytes:
    """A whole DIMSE message in PDUs."""
    said = pdu(DATA, pdv(context, 3, command(elements)))
    return said if data_set is None else said + pdu(DATA, pdv(context, 2, data_set))


# What can be wrong


EDGES = (0, 1, 2, 5, 6, 7, 127, 128, 255, 256, 32767, 32768, 65534, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def mutant(draw: Draw, content: bytes, most: int = 8) -> bytes:
    """Bytes with a few random changes: flipped, overwritten, cut, doubled, moved, or set to an edge value."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, most)):
        at = draw.randrange(len(changed) + 1)
        run = draw.choice((1, 2, 4, draw.randint(1, 64)))
        match draw.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                changed[at : at + run] = draw.randbytes(run)
            case 2:
                changed[at : at + run] = draw.choice((b"\0", b"\xff")) * run
            case 3:
                del changed[at : at + run]
            case 4:
                changed[at:at] = draw.randbytes(run)
            case 5:
                changed[at:at] = changed[at : at + run]
            case _:
                width = draw.choice((2, 4))
                order = draw.choice(("big", "little"))
                edge = draw.choice(EDGES) % 256**width
                changed[at : at + width] = edge.to_bytes(width, "big" if order == "big" else "little")
    return bytes(changed)


def pdus_of(said: bytes) -> list[bytes]:
    """The PDUs of a recording."""
    found = []
    while len(said) >= 6:
        size = 6 + int.from_bytes(said[2:6], "big")
        found.append(said[:size])
        said = said[size:]
    return found


def noise(draw: Draw, _recorded: Sequence[bytes]) -> Attack:
    """Random bytes, some behind a valid type, some another protocol."""
    other = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0",
    )
    first = draw.choice((b"", bytes((draw.randrange(1, 8),)), draw.choice(other)))
    return Attack("noise", first + draw.randbytes(draw.randint(0, 600)))


def wrong_pdu_length(draw: Draw, recorded: Sequence[bytes]) -> Attack:
    """A PDU whose length is not that of its content."""
    said = pdus_of(draw.choice(recorded))
    first = said[0]
    body = first[6:] if draw.random() < 0.5 else draw.randbytes(draw.randint(0, 80))
    length = draw.choice((*EDGES, len(body) - 1, len(body) + 1, 1_048_577, 20_000_000))
    if draw.random() < 0.4:
        return Attack("wrong length", pdu(draw.choice((REQUEST, DATA, RELEASE, ABORT)), body, length))
    return Attack("wrong length", request(), pdu(draw.choice((DATA, RELEASE, ABORT, REQUEST)), body, length))


def mutated_request(draw: Draw, recorded: Sequence[bytes]) -> Attack:
    """A mutant of a recorded association request, length kept right or not; then the rest of the recording."""
    first, *others = pdus_of(draw.choice(recorded))
    body = mutant(draw, first[6:])
    opening = pdu(REQUEST, body) if draw.random() < 0.7 else mutant(draw, first)
    return Attack("mutated request", opening, b"".join(others))


def odd_request(draw: Draw, _recorded: Sequence[bytes]) -> Attack:
    """An association request that is wrong in a chosen way."""
    echo = message(1, {0x2: uid(VERIFICATION), 0x100: short(0x30), 0x110: short(1), 0x800: short(0x101)})
    title = draw.choice((b"\0" * 16, b" " * 16, b"\n" * 16, b"\xff" * 16, b"A\\B".ljust(16), draw.randbytes(16)))
    long = "1." * 200 + "1"
    some = draw.choice((long, "", "x", "1..2", "../../etc", draw.randbytes(9).hex()))
    nested = context_item(1, VERIFICATION, IMPLICIT)
    for _ in range(draw.randint(1, 50)):
        nested = item(0x20, b"\1\0\0\0" + nested)
    choices: tuple[Callable[[], bytes], ...] = (
        lambda: request(calling=title),
        lambda: request(called=title),
        lambda: request(version=draw.randbytes(2)),
        lambda: request(application=b""),
        lambda: request(application=item(0x10, draw.randbytes(draw.randint(0, 90)))),
        lambda: request([context_item(n, VERIFICATION, IMPLICIT) for n in range(draw.choice((0, 2, 128, 300, 1000)))]),
        lambda: request([context_item(1, some, some), context_item(1, VERIFICATION, IMPLICIT)]),
        lambda: request([context_item(2, VERIFICATION), context_item(0, MR, *[EXPLICIT] * 300)]),
        lambda: request([nested]),
        lambda: request(user=b""),
        lambda: request(user=user_item() * draw.randint(2, 9)),
        lambda: request(user=item(0x50, item(0x51, draw.randbytes(draw.randint(0, 9))))),
        lambda: request(user=user_item(16384, item(draw.randrange(0x50, 0x60), draw.randbytes(draw.randint(0, 60))))),
        lambda: request(user=user_item(16384, item(0x54, b"\0\x11" + VERIFICATION.encode() + draw.randbytes(2)))),
        lambda: request(user=user_item(16384, item(0x58, draw.randbytes(draw.randint(0, 12))))),
        lambda: request([item(0x20, draw.randbytes(draw.randint(0, 9)), draw.choice(EDGES))]),
        lambda: request(user=user_item(draw.choice((0, 1, 2, 5, 6, 7, 8, 12, 13, 100, 2**32 - 1)))),
    )
    return Attack("odd request", draw.choice(choices)(), echo * draw.randint(1, 3))


def wrong_state(draw: Draw, recorded: Sequence[bytes]) -> Attack:
    """PDUs at a time when they make no sense (PS3.8 table 9-10)."""
    recording = pdus_of(draw.choice(recorded))
    some = [
        request(),
        pdu(ACCEPT, request()[6:]),
        pdu(REJECT, b"\0\1\1\1"),
        pdu(RELEASE, bytes(4)),
        pdu(RELEASED, bytes(4)),
        pdu(ABORT, b"\0\0\2\0"),
        pdu(DATA, b""),
        draw.choice(recording),
        message(3, store_command(), small_set()),
    ]
    said = draw.choices(some, k=draw.randint(1, 6))
    if draw.random() < 0.4:
        return Attack("wrong state", b"".join(said))
    return Attack("wrong state", request(), b"".join(said))


def mutated_data(draw: Draw, recorded: Sequence[bytes]) -> Attack:
    """A recorded association whose data is mutated: bytes, or whole PDUs left out, doubled, moved, cut."""
    first, *others = pdus_of(draw.choice([one for one in recorded if len(pdus_of(one)) > 1]))
    if draw.random() < 0.6:
        at = draw.randrange(len(others))
        changed = mutant(draw, others[at][6:])
        others[at] = pdu(others[at][0], changed) if draw.random() < 0.7 else mutant(draw, others[at])
    else:
        others = draw.choices(others, k=draw.randint(1, len(others) + 2))
    rest = b"".join(others)
    return Attack("mutated data", first, rest[: draw.randint(1, len(rest))] if draw.random() < 0.3 else rest)


def odd_pdv(draw: Draw, _recorded: Sequence[bytes]) -> Attack:
    """Presentation data values with wrong lengths, contexts and control headers, in any order."""
    parts = []
    for _ in range(draw.randint(1, 6)):
        content = draw.choice((command(store_command()), small_set(), b"", draw.randbytes(draw.randint(0, 40))))
        length = draw.choice((None, None, None, *EDGES))
        parts.append(
            pdv(draw.choice((0, 1, 2, 3, 3, 3, 9, 255)), draw.choice((0, 1, 2, 3, 4, 7, 255)), content, length)
        )
    cut = draw.randint(1, len(parts))
    return Attack("odd PDV", request(), pdu(DATA, b"".join(parts[:cut])) + pdu(DATA, b"".join(parts[cut:])))


def fragments(draw: Draw, _recorded: Sequence[bytes]) -> Attack:
    """A message in the smallest pieces, with empty ones, with the last one missing or doubled, or two interleaved."""
    size = draw.choice((1, 2, 7))
    said, data_set = command(store_command()), small_set() + draw.randbytes(draw.randint(0, 40))
    pieces = [pdv(3, 1, said[at : at + size]) for at in range(0, len(said), size)]
    pieces += [pdv(3, 3, b"")] * draw.randint(0, 2)
    pieces += [pdv(3, 0, data_set[at : at + size]) for at in range(0, len(data_set), size)]
    pieces += [pdv(3, 2, b"")] * draw.randint(0, 2)
    if draw.random() < 0.3:
        draw.shuffle(pieces)
    many = draw.choice((1, 3, len(pieces)))
    split = (b"".join(pieces[at : at + many]) for at in range(0, len(pieces), many))
    return Attack("fragments", request(), b"".join(pdu(DATA, one) for one in split))


def odd_command(draw: Draw, _recorded: Sequence[bytes]) -> Attack:
    """Command sets with nonsense: unknown commands, responses to nothing, missing, doubled and wrong elements."""
    elements = draw.choice((store_command(), action_command()))
    context = draw.choice((1, 3, 5, 7))
    for _ in range(draw.randint(1, 3)):
        number = draw.choice((0x2, 0x3, 0x100, 0x110, 0x120, 0x700, 0x800, 0x900, 0x1000, 0x1001, 0x1008, 0x1020))
        fields = (0x8001, 0x20, 0x8020, 0x21, 0x10, 0xFFF, 0x100, 0x8100, 0x110, 0x120, 0x130, 0x140, 0x150, 0x30, 1, 0)
        match draw.randrange(5):
            case 0:
                elements.pop(number, None)
            case 1:
                elements[number] = draw.randbytes(draw.choice((0, 1, 2, 3, 64, 300)))
            case 2:
                elements[0x100] = short(draw.choice(fields))
            case 3:
                elements[0x800] = short(draw.choice((0, 1, 0x101, 0x102, 65535)))
            case _:
                elements[0x1000] = draw.choice((b"..", b"1/../../x", b"9" * 65, b"\0" * 8, "\u00e9".encode() * 4))
    said = command(elements) if draw.random() < 0.7 else mutant(draw, command(elements))
    tail = pdu(DATA, pdv(context, 2, small_set())) if draw.random() < 0.6 else b""
    return Attack("odd command", request(), (pdu(DATA, pdv(context, 3, said)) + tail) * draw.randint(1, 3))


def odd_data_set(draw: Draw, _recorded: Sequence[bytes]) -> Attack:
    """Data sets with deep nesting, impossible lengths, wrong VRs, odd UIDs, or that inflate without end."""
    deep = b"".join(explicit(8, 0x1140, b"SQ", b"", 2**32 - 1) + b"\xfe\xff\0\xe0\xff\xff\xff\xff" for _ in range(3000))
    between = draw.choice(
        (
            deep[: draw.randint(20, len(deep))],
            explicit(8, 0x60, b"CS", b"MR", draw.choice(EDGES)),
            explicit(8, 0x1140, b"SQ", draw.randbytes(60), draw.choice(EDGES)),
            explicit(8, 0x70, draw.randbytes(2), draw.randbytes(20)),
            draw.randbytes(draw.randint(1, 100)),
            explicit(9, 0x10, b"UN", b"\0" * 10, draw.choice(EDGES)),
        )
    )
    odd = draw.choice(("1.2.3", "", "../../x", "1.2.3/4", "1" * 65, "1.2.3\n", "0", "."))
    content = draw.choice((small_set(series=odd), small_set(instance=odd), small_set(between=between)))
    if draw.random() < 0.25:
        packed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = packed.compress(small_set(between=explicit(9, 0x10, b"UN", bytes(1 << 22)))) + packed.flush()
        sent = draw.choice((bomb, mutant(draw, bomb), content))
        return Attack("odd data set", request(), message(7, store_command(), sent))
    instance = draw.choice(("1.2.3.1", odd))
    return Attack("odd data set", request(), message(3, store_command(instance), content))


def odd_commitment(draw: Draw, _recorded: Sequence[bytes]) -> Attack:
    """Storage commitment requests whose Action Information is nonsense."""
    items = b"".join(
        element(0xFFFE, 0xE000, element(8, 0x1150, uid(MR)) + element(8, 0x1155, uid(f"1.2.3.{number}")))
        for number in range(draw.choice((0, 1, 500)))
    )
    information = element(8, 0x1195, uid("1.2.9")) + element(8, 0x1199, items, draw.choice((None, *EDGES)))
    said = draw.choice((information, mutant(draw, information), draw.randbytes(90), b"", information[:30]))
    return Attack("odd commitment", request(), message(5, action_command(), said))


KINDS = (
    noise,
    wrong_pdu_length,
    mutated_request,
    odd_request,
    wrong_state,
    mutated_data,
    mutated_data,
    odd_pdv,
    fragments,
    odd_command,
    odd_data_set,
    odd_commitment,
)


def attack_of(seed: int, number: int, recorded: Sequence[bytes]) -> Attack:
    """The attack of that number: always the same for a seed and the same recordings."""
    draw = Draw(f"{seed}:{number}")
    made = draw.choice(KINDS)(draw, recorded)
    return dataclasses.replace(made, ending=draw.choices(ENDINGS, (14, 4, 2))[0])
