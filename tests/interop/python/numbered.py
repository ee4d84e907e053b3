"""Messages that tell whether they arrived whole and in order.

The same rule as crates/iothub-amqp/tests/peers/numbered.rs."""


def body(number, size):
    rest = bytes((number + at) & 0xFF for at in range(4, size)) if size < 256 else _cycle(number, size)
    return number.to_bytes(4, "big") + rest


def _cycle(number, size):
    start = (number + 4) & 0xFF
    cycle = bytes((start + at) & 0xFF for at in range(256))
    return (cycle * (size // 256 + 1))[: size - 4]


def number(content):
    """The number of a body that is whole, otherwise None."""
    content = bytes(content)
    found = int.from_bytes(content[:4], "big")
    return found if content == body(found, len(content)) else None
