"""qpid-proton as a server for the AMQP engine's tests: `peer_server.py [MAX_FRAME_SIZE]` prints its port.

What it does at which address: crates/iothub-amqp/tests/peers/node.rs."""

import os
import re
import sys
import threading

from proton import Condition, Delivery, Disposition, Message, Terminus
from proton.handlers import MessagingHandler
from proton.reactor import Container

from numbered import body, number

SINKS = {"accept", "reject", "release", "hold", "one-by-one", "control"}
AS_ASKED = ("amqp:internal-error", "as asked")


class Peer(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=0, auto_accept=False, auto_settle=False)
        # What the one connection has under way.
        self.waiting = 0
        self.tally = {"accepted": 0, "rejected": 0, "released": 0, "lost": 0}
        self.asked = []
        self.held = []
        self.refused = set()
        self.counts = {}
        self.batches = {}

    def on_start(self, event):
        # Port 0 lets the system choose.
        acceptor = event.container.listen("127.0.0.1:0")
        print(acceptor._selectable._delegate.getsockname()[1], flush=True)

    def on_connection_bound(self, event):
        # An accepted connection, before its first byte: no other place to say it.
        event.transport.max_frame_size = int(sys.argv[1]) if len(sys.argv) > 1 else 65536

    def on_connection_opening(self, event):
        event.connection.container = "proton"

    def on_link_opening(self, event):
        link = event.link
        address = (link.remote_source if link.is_sender else link.remote_target).address
        batch = re.fullmatch(r"(numbered|settled)/(\d+)/(\d+)", address or "")
        known = (address == "tally" or batch) if link.is_sender else address in SINKS
        if not known:
            # The library opens the link after this, so it can be closed only then.
            self.refused.add(link.name)
            link.source.type = link.target.type = Terminus.UNSPECIFIED
            return
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        if link.is_receiver:
            self.counts[link.name] = 0
            if address == "hold":
                self.held.append(link)
            link.flow(1 if address == "one-by-one" else 100)
            return
        if address == "tally":
            self.asked.append(link)
        else:
            kind, count, size = batch[1], int(batch[2]), int(batch[3])
            self.batches[link.name] = [kind, 0, count, size]
            self.waiting += count if kind == "numbered" else 0

    def on_link_local_open(self, event):
        if event.link.name in self.refused:
            self.refused.remove(event.link.name)
            event.link.condition = Condition("amqp:not-found", "no such node")
            event.link.close()

    def on_message(self, event):
        link, delivery = event.receiver, event.delivery
        address = link.target.address
        if address == "control":
            self.settle(delivery, Disposition.ACCEPTED)
            self.obey(event.message.body, event)
            return
        assert number(event.message.body) == self.counts[link.name], f"order on {address}"
        self.counts[link.name] += 1
        if address == "hold":
            return
        if address == "reject":
            delivery.local.condition = Condition("amqp:not-allowed", "as asked")
            self.settle(delivery, Disposition.REJECTED)
        else:
            self.settle(delivery, Disposition.RELEASED if address == "release" else Disposition.ACCEPTED)
        if address == "one-by-one":
            link.flow(1)
        elif link.credit <= 50:
            link.flow(100 - link.credit)

    def settle(self, delivery, state):
        delivery.update(state)
        if delivery.link.rcv_settle_mode != 1:
            delivery.settle()

    def obey(self, order, event):
        if order == "detach":
            for link in self.held:
                link.condition = Condition(*AS_ASKED)
                link.close()
        elif order == "end":
            event.session.condition = Condition(*AS_ASKED)
            event.session.close()
        elif order == "close":
            event.connection.condition = Condition(*AS_ASKED)
            event.connection.close()
        elif order == "cut":
            os._exit(0)
        else:
            raise AssertionError(f"no such order: {order}")

    def on_sendable(self, event):
        link = event.sender
        if link.name in self.batches:
            batch = self.batches[link.name]
            kind, _, count, size = batch
            while batch[1] < count and link.credit:
                delivery = link.send(Message(body=body(batch[1], size), inferred=True))
                if kind == "settled":
                    delivery.settle()
                batch[1] += 1
        self.tell()

    def on_delivery_updated(self, delivery):
        names = {Delivery.ACCEPTED: "accepted", Delivery.REJECTED: "rejected", Delivery.RELEASED: "released"}
        self.tally[names[delivery.remote_state]] += 1
        self.waiting -= 1
        delivery.settle()
        self.tell()

    def on_accepted(self, event):
        self.on_delivery_updated(event.delivery)

    def on_rejected(self, event):
        self.on_delivery_updated(event.delivery)

    def on_released(self, event):
        self.on_delivery_updated(event.delivery)

    def tell(self):
        """The tally goes out once every message has its outcome."""
        if self.waiting:
            return
        for link in [link for link in self.asked if link.credit]:
            text = " ".join(f"{name}={count}" for name, count in self.tally.items())
            link.send(Message(body=text)).settle()
            self.asked.remove(link)


def end_with_whoever_started_it():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_whoever_started_it, daemon=True).start()
Container(Peer()).run()
