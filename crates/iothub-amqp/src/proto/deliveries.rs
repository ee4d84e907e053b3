//! Messages on their way: transfers out and in, and their outcomes.

use bytes::{Bytes, BytesMut};
use fe2o3_amqp::frames::amqp::{Frame, FrameBody};
use fe2o3_amqp_types::{
    definitions::{Role, SessionError},
    messaging::DeliveryState,
    performatives::{Disposition, Transfer},
};

use super::{
    Connection, Credit, Delivery, Event, LinkId, Outcome, Outgoing, SessionId,
    link::{Partial, Queued, State},
};

/// An upper bound for the frame header and an encoded transfer without its payload, tag of 32 bytes included.
const TRANSFER_OVERHEAD: usize = 8 + 96;

impl Connection {
    /// Queues a message; it goes out as credit and window allow, in order. [`Event::Outcome`] follows unless
    /// it is settled. False, and nothing happens, when the link is gone.
    pub fn send(&mut self, id: LinkId, message: Outgoing) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        if !link.sender || !matches!(link.state, State::Attached | State::Attaching) {
            return false;
        }
        link.queue.push_back(Queued { message, id: None });
        self.wake_link(id);
        true
    }

    /// Gives a received message its outcome. `settled: false` waits for [`Event::Settled`].
    /// False when the link is gone or the message is settled already.
    pub fn dispose(&mut self, id: LinkId, delivery: u32, state: DeliveryState, settled: bool) -> bool {
        let Some(session_id) = self.links.get(&id).map(|l| l.session) else { return false };
        let Some(session) = self.sessions.get_mut(&session_id) else { return false };
        let known = if settled {
            session.unsettled_in.remove(&delivery).is_some()
        } else {
            session.unsettled_in.contains_key(&delivery)
        };
        if known {
            self.push_disposition(session_id, Role::Receiver, delivery, state, settled);
        }
        known
    }

    /// From now on outcomes that the peer of a sending link leaves unsettled (rcv-settle-mode second) are for
    /// [`Connection::settle`]; otherwise they are settled as they come.
    pub fn hold_outcomes(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.holds_outcomes = true;
        }
    }

    /// Settles a held outcome; `state` is what became of it. `token` is [`Outgoing::token`], which must be
    /// unique on the link. False when the peer does not wait for it.
    pub fn settle(&mut self, id: LinkId, token: u64, state: DeliveryState) -> bool {
        let Some(session_id) = self.links.get(&id).map(|l| l.session) else { return false };
        let Some(session) = self.sessions.get_mut(&session_id) else { return false };
        let Some(delivery) = session.held.remove(&(id, token)) else { return false };
        self.push_disposition(session_id, Role::Sender, delivery, state, true);
        true
    }

    /// Appends a disposition, or widens the last one by its neighbour.
    fn push_disposition(
        &mut self,
        session: SessionId,
        role: Role,
        delivery: u32,
        state: DeliveryState,
        settled: bool,
    ) {
        if let Some(Frame { channel, body: FrameBody::Disposition(last) }) = self.out.back_mut() {
            let next = last.last.unwrap_or(last.first).wrapping_add(1);
            if *channel == session.0
                && last.role == role
                && next == delivery
                && last.settled == settled
                && last.state.as_ref() == Some(&state)
            {
                last.last = Some(delivery);
                return;
            }
        }
        // One id: `last` stays away, as the hub writes it (amqp.md 3.4).
        let disposition =
            Disposition { role, first: delivery, last: None, settled, state: Some(state), batchable: false };
        self.out.push_back(Frame::new(session.0, FrameBody::Disposition(disposition)));
    }

    /// Notes that a link may have something to send.
    pub(super) fn wake_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !link.queued_to_send && !link.queue.is_empty() && link.state == State::Attached {
            link.queued_to_send = true;
            self.sendable.push_back(id);
        }
    }

    /// The next transfer frame that credit and window allow, links in turn.
    pub(super) fn next_transfer(&mut self) -> Option<Frame> {
        while let Some(id) = self.sendable.pop_front() {
            if let Some(link) = self.links.get_mut(&id) {
                link.queued_to_send = false;
            }
            if let Some(frame) = self.transfer_from(id) {
                self.wake_link(id);
                return Some(frame);
            }
        }
        None
    }

    fn transfer_from(&mut self, id: LinkId) -> Option<Frame> {
        let room = (self.remote_max_frame as usize).saturating_sub(TRANSFER_OVERHEAD);
        let link = self.links.get_mut(&id).filter(|l| l.state == State::Attached)?;
        let session = self.sessions.get_mut(&link.session)?;
        let queued = link.queue.front_mut()?;
        let first = queued.id.is_none();
        if session.remote_incoming_window == 0 || (first && link.credit == 0) {
            return None;
        }
        session.remote_incoming_window -= 1;
        session.next_outgoing_id = session.next_outgoing_id.wrapping_add(1);
        let more = queued.message.payload.len() > room;
        let payload = queued.message.payload.split_to(room.min(queued.message.payload.len()));
        let mut transfer = continuation(link.handle, more);
        if first {
            let delivery = session.next_delivery_id;
            session.next_delivery_id = delivery.wrapping_add(1);
            queued.id = Some(delivery);
            let Outgoing { format, settled, token, .. } = queued.message;
            let tag = queued.message.tag.take();
            let tag = tag.map_or_else(|| link.next_tag.to_le_bytes().to_vec(), |tag| tag.to_vec());
            link.next_tag = link.next_tag.wrapping_add(1);
            link.credit -= 1;
            link.delivery_count = link.delivery_count.wrapping_add(1);
            if !settled {
                session.unsettled_out.insert(delivery, (id, token));
            }
            transfer.delivery_id = Some(delivery);
            transfer.delivery_tag = Some(tag.into());
            transfer.message_format = Some(format);
            transfer.settled = Some(settled);
        }
        if !more {
            link.queue.pop_front();
        }
        let channel = link.session.0;
        Some(Frame::new(channel, FrameBody::Transfer { performative: transfer, payload }))
    }

    pub(super) fn on_transfer(&mut self, session_id: SessionId, transfer: Transfer, payload: Bytes) {
        if !self.count_incoming(session_id) {
            return;
        }
        let Some(session) = self.sessions.get(&session_id) else { return };
        let Some(&id) = session.by_remote_handle.get(&transfer.handle.0) else {
            return self.end_with(session_id, SessionError::UnattachedHandle, "transfer");
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.state == State::Detaching {
            return;
        }
        if link.sender || link.state != State::Attached {
            return self.end_with(
                session_id,
                SessionError::ErrantLink,
                "transfer on a link that cannot take it",
            );
        }
        if link.partial.is_none() {
            let Some(delivery) = transfer.delivery_id else {
                return self.detach_invalid(id, "a first transfer without delivery-id");
            };
            if link.credit == 0 {
                return self.detach_over_credit(id);
            }
            link.partial = Some(Partial {
                id: delivery,
                tag: transfer.delivery_tag.map(|tag| Bytes::from(tag.into_vec())).unwrap_or_default(),
                format: transfer.message_format.unwrap_or(0),
                settled: false,
                oversized: false,
                payload: BytesMut::new(),
            });
        }
        let Some(partial) = link.partial.as_mut() else { return };
        partial.settled |= transfer.settled.unwrap_or(false);
        if transfer.aborted {
            link.partial = None;
            return;
        }
        let size = (partial.payload.len() + payload.len()) as u64;
        if partial.oversized || (link.max_message_size > 0 && size > link.max_message_size) {
            partial.oversized = true;
            partial.payload = BytesMut::new();
        } else if transfer.more || !partial.payload.is_empty() {
            partial.payload.extend_from_slice(&payload);
        }
        if !transfer.more {
            self.complete(session_id, id, payload);
        }
    }

    /// The last frame of a message is here; `last` is the whole message when there was only one.
    fn complete(&mut self, session_id: SessionId, id: LinkId, last: Bytes) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(partial) = link.partial.take() else { return };
        link.delivery_count = link.delivery_count.wrapping_add(1);
        link.credit = link.credit.saturating_sub(1);
        let refill = match link.credit_mode {
            Credit::Auto(full) if link.credit <= full / 2 => Some(full),
            _ => None,
        };
        let payload = match (partial.oversized, partial.payload.is_empty()) {
            (true, _) => Bytes::new(),
            (false, true) => last,
            (false, false) => partial.payload.freeze(),
        };
        if !partial.settled
            && let Some(session) = self.sessions.get_mut(&session_id)
        {
            session.unsettled_in.insert(partial.id, id);
        }
        self.events.push_back(Event::Message(Delivery {
            link: id,
            id: partial.id,
            tag: partial.tag,
            format: partial.format,
            settled: partial.settled,
            oversized: partial.oversized,
            payload,
        }));
        if let Some(full) = refill {
            self.grant(id, full);
        }
    }

    pub(super) fn on_disposition(&mut self, session: SessionId, disposition: Disposition) {
        match disposition.role {
            Role::Receiver => self.on_outcomes(session, disposition),
            Role::Sender => self.on_settlements(session, disposition),
        }
    }

    /// The peer says what became of our messages. Work is bounded by what is unsettled, not by the range.
    fn on_outcomes(&mut self, session_id: SessionId, disposition: Disposition) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let outcome = match Outcome::from_state(disposition.state.clone()) {
            Some(outcome) => outcome,
            None if disposition.settled => Outcome::Settled,
            None => return,
        };
        let ids = in_range(&session.unsettled_out, &disposition);
        for delivery in ids {
            let Some((link, token)) = session.unsettled_out.remove(&delivery) else { continue };
            self.events.push_back(Event::Outcome { link, token, outcome: outcome.clone() });
            if disposition.settled {
                continue;
            }
            if self.links.get(&link).is_some_and(|l| l.holds_outcomes) {
                session.held.insert((link, token), delivery);
                continue;
            }
            // rcv-settle-mode second: the peer waits until we settle as well (amqp.md 3.5).
            let state = disposition.state.clone();
            let settle = Disposition {
                role: Role::Sender,
                first: delivery,
                last: None,
                settled: true,
                state,
                batchable: false,
            };
            self.out.push_back(Frame::new(session_id.0, FrameBody::Disposition(settle)));
        }
    }

    /// The peer settles messages that we answered unsettled.
    fn on_settlements(&mut self, session_id: SessionId, disposition: Disposition) {
        if !disposition.settled {
            return;
        }
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        for delivery in in_range(&session.unsettled_in, &disposition) {
            if let Some(link) = session.unsettled_in.remove(&delivery) {
                let state = disposition.state.clone();
                self.events.push_back(Event::Settled { link, delivery, state });
            }
        }
    }
}

fn continuation(handle: u32, more: bool) -> Transfer {
    Transfer {
        handle: handle.into(),
        delivery_id: None,
        delivery_tag: None,
        message_format: None,
        settled: None,
        more,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    }
}

/// The ids of `map` within first..=last, which may wrap around.
fn in_range<V>(map: &std::collections::BTreeMap<u32, V>, disposition: &Disposition) -> Vec<u32> {
    let (first, last) = (disposition.first, disposition.last.unwrap_or(disposition.first));
    if first <= last {
        map.range(first..=last).map(|(id, _)| *id).collect()
    } else {
        map.range(first..).chain(map.range(..=last)).map(|(id, _)| *id).collect()
    }
}
