"""qpid-proton as a client of the AMQP engine: `peer_client.py PORT`. Exits 0 when every case went well.

What the server does at which address: crates/iothub-amqp/tests/peers/node.rs."""

import sys

from proton import ConnectionException, Delivery, Link, Message
from proton.handlers import MessagingHandler
from proton.reactor import LinkOption
from proton.utils import BlockingConnection, ConnectionClosed, LinkDetached

from numbered import body, number

URL = f"127.0.0.1:{sys.argv[1]}"
# Seconds; nothing here takes longer unless it hangs.
LIMIT = 60


class Mode(LinkOption):
    """Settle modes of a link."""

    def __init__(self, snd=Link.SND_MIXED, rcv=Link.RCV_FIRST):
        self.modes = snd, rcv

    def apply(self, link):
        link.snd_settle_mode, link.rcv_settle_mode = self.modes


def connect(**options):
    options.setdefault("sasl_enabled", False)
    return BlockingConnection(URL, timeout=LIMIT, **options)


def message(n, size=100):
    return Message(body=body(n, size), inferred=True)


def send(sender, count, size=100, first=0):
    """Sends without waiting for each, then waits for every outcome."""
    deliveries = []
    for n in range(first, first + count):
        sender.connection.wait(lambda: sender.link.credit > 0, msg="credit")
        deliveries.append(sender.link.send(message(n, size)))
    sender.connection.wait(lambda: all(d.remote_state for d in deliveries), msg="outcomes")
    for delivery in deliveries:
        delivery.settle()
    return [delivery.remote_state for delivery in deliveries]


def take(receiver, count, size, answer=None):
    for n in range(count):
        received = receiver.receive()
        assert (number(received.body), len(received.body)) == (n, size)
        if receiver.fetcher.unsettled:
            receiver.settle(answer(n) if answer else Delivery.ACCEPTED)


def tally(connection):
    received = connection.create_receiver("tally", credit=1).receive()
    return str(received.body)


def order(connection, what):
    control = connection.create_sender("control", options=[Mode(snd=Link.SND_SETTLED)])
    control.link.send(Message(body=what)).settle()
    return control


def raised(expected, run):
    try:
        run()
    except expected as error:
        return str(error)
    raise AssertionError(f"{expected} was not raised")


def a_bare_header_opens_and_closes():
    connection = connect()
    assert connection.conn.remote_container == "node"
    connection.close()


def sasl_anonymous_and_plain():
    connect(sasl_enabled=True, allowed_mechs="ANONYMOUS").close()
    connect(
        sasl_enabled=True, allowed_mechs="PLAIN", allow_insecure_mechs=True, user="user", password="secret"
    ).close()


def a_wrong_password_is_refused():
    error = raised(
        ConnectionException,
        lambda: connect(
            sasl_enabled=True, allowed_mechs="PLAIN", allow_insecure_mechs=True, user="user", password="guess"
        ),
    )
    assert "amqp:unauthorized-access" in error, error


def every_outcome_comes_back():
    connection = connect()
    wanted = {"accept": Delivery.ACCEPTED, "reject": Delivery.REJECTED, "release": Delivery.RELEASED}
    for address, outcome in wanted.items():
        assert send(connection.create_sender(address), 3) == [outcome] * 3
    connection.close()


def five_thousand_messages_each_way():
    connection = connect()
    assert send(connection.create_sender("accept"), 5000) == [Delivery.ACCEPTED] * 5000
    take(connection.create_receiver("numbered/5000/100", credit=5000), 5000, 100)
    assert tally(connection) == "accepted=5000 rejected=0 released=0 lost=0"
    connection.close()


def large_messages_in_frames_of_512_bytes_and_more():
    for size_of_frames in [512, 65536]:
        connection = connect(max_frame_size=size_of_frames)
        sizes = [8, 500, 5000, 300000, 1 << 20]
        sender = connection.create_sender("accept")
        for n, size in enumerate(sizes):
            assert send(sender, 1, size, n) == [Delivery.ACCEPTED]
        for size in sizes:
            take(connection.create_receiver(f"numbered/3/{size}", credit=3), 3, size)
        connection.close()


def our_outcomes_are_counted():
    connection = connect()
    answers = [Delivery.ACCEPTED] * 5 + [Delivery.REJECTED] * 2 + [Delivery.RELEASED] * 2
    take(connection.create_receiver("numbered/9/20", credit=9), 9, 20, lambda n: answers[n])
    assert tally(connection) == "accepted=5 rejected=2 released=2 lost=0"
    connection.close()


def settled_messages():
    connection = connect()
    take(connection.create_receiver("settled/300/20", credit=300), 300, 20)
    sender = connection.create_sender("accept", options=[Mode(snd=Link.SND_SETTLED)])
    for n in range(50):
        sender.connection.wait(lambda: sender.link.credit > 0, msg="credit")
        sender.link.send(message(n, 20)).settle()
    # Agreed to after all of them were seen.
    sender.close()
    connection.close()


def settling_in_two_steps():
    connection = connect()
    assert send(connection.create_sender("accept", options=[Mode(rcv=Link.RCV_SECOND)]), 5) == [Delivery.ACCEPTED] * 5
    receiver = connection.create_receiver("numbered/5/20", credit=5, options=[Mode(rcv=Link.RCV_SECOND)])
    for n in range(5):
        # The body lives no longer than its message.
        received = receiver.receive()
        assert number(received.body) == n
    deliveries = list(receiver.fetcher.unsettled)
    for delivery in deliveries:
        delivery.update(Delivery.ACCEPTED)
    connection.wait(lambda: all(d.settled for d in deliveries), msg="the server settles")
    connection.close()


class Collect(MessagingHandler):
    """Takes what comes and grants nothing by itself, as the library's own receivers do."""

    def __init__(self):
        super().__init__(prefetch=0)
        self.numbers = []

    def on_message(self, event):
        self.numbers.append(number(event.message.body))


def no_credit_no_message():
    connection, collect = connect(), Collect()
    receiver = connection.create_receiver("numbered/10/20", credit=3, handler=collect)
    connection.wait(lambda: len(collect.numbers) == 3, msg="three messages")
    # An answer on another link comes after anything the server had still to say.
    send(connection.create_sender("accept"), 1)
    assert collect.numbers == [0, 1, 2]
    receiver.link.flow(7)
    connection.wait(lambda: len(collect.numbers) == 10, msg="the rest")
    assert collect.numbers == list(range(10))
    connection.close()


def the_server_drains():
    connection, collect = connect(), Collect()
    receiver = connection.create_receiver("numbered/2/20", credit=2, handler=collect)
    connection.wait(lambda: len(collect.numbers) == 2, msg="two messages")
    receiver.link.drain(10)
    connection.wait(lambda: not receiver.link.draining() and receiver.link.credit == 0, msg="no credit left")
    connection.close()


def credit_for_one_message_at_a_time():
    connection = connect()
    assert len(send(connection.create_sender("one-by-one"), 200)) == 200
    connection.close()


def a_refused_link_says_why_and_costs_no_other():
    connection = connect()
    sender = connection.create_sender("accept")
    for attach in [connection.create_sender, connection.create_receiver]:
        error = raised(LinkDetached, lambda: attach("nowhere"))
        assert "amqp:not-found" in error and "no such node" in error, error
    assert send(sender, 1) == [Delivery.ACCEPTED]
    connection.close()


def the_client_detaches_and_attaches_again():
    connection = connect()
    for _ in range(3):
        sender = connection.create_sender("accept", name="again")
        send(sender, 1)
        sender.close()
    connection.close()


def the_server_detaches():
    connection = connect()
    held = connection.create_sender("hold")
    held.link.send(message(0))
    error = raised(LinkDetached, lambda: (order(connection, "detach"), connection.wait(lambda: False)))
    assert "amqp:internal-error" in error and "as asked" in error, error
    connection.close()


def the_server_ends_the_session():
    connection = connect()
    control = order(connection, "end")
    session = control.link.session
    connection.wait(lambda: session.remote_condition, msg="an end")
    assert session.remote_condition.name == "amqp:internal-error"
    assert session.remote_condition.description == "as asked"
    session.close()
    connection.close()


def the_server_closes_the_connection():
    connection = connect()
    error = raised(ConnectionClosed, lambda: (order(connection, "close"), connection.wait(lambda: False)))
    assert "amqp:internal-error" in error and "as asked" in error, error


def the_server_cuts_the_stream():
    connection = connect()
    raised(ConnectionException, lambda: (order(connection, "cut"), connection.wait(lambda: False)))


CASES = [
    a_bare_header_opens_and_closes,
    sasl_anonymous_and_plain,
    a_wrong_password_is_refused,
    every_outcome_comes_back,
    five_thousand_messages_each_way,
    large_messages_in_frames_of_512_bytes_and_more,
    our_outcomes_are_counted,
    settled_messages,
    settling_in_two_steps,
    no_credit_no_message,
    the_server_drains,
    credit_for_one_message_at_a_time,
    a_refused_link_says_why_and_costs_no_other,
    the_client_detaches_and_attaches_again,
    the_server_detaches,
    the_server_ends_the_session,
    the_server_closes_the_connection,
    the_server_cuts_the_stream,
]

for case in CASES:
    try:
        case()
    except Exception:
        print(f"proton client: {case.__name__}: failed", flush=True)
        raise
    print(f"proton client: {case.__name__.replace('_', ' ')}: ok", flush=True)
