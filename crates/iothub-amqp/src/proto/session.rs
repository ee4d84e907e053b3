//! Sessions: begin, end, windows, and which link a frame belongs to.

use std::collections::{BTreeMap, HashMap};

use fe2o3_amqp::frames::amqp::{Frame, FrameBody};
use fe2o3_amqp_types::{
    definitions::{Error as AmqpError, ErrorCondition, SessionError},
    performatives::{Begin, End, Flow},
};

use super::{Connection, Event, LinkId, SessionId};

/// What we say we may send; nobody enforces it, and the hub says the same (amqp.md 1.4).
const OUTGOING_WINDOW: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Our begin is out.
    Beginning,
    Mapped,
    /// Our end is out.
    Ending,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) state: State,
    pub(super) remote_channel: Option<u16>,
    /// Ours was the first begin, so a peer that sends a flow knows where we began.
    begun_here: bool,
    /// Transfer frames sent so far, plus where we began.
    pub(super) next_outgoing_id: u32,
    /// Transfer frames the peer takes before it tells us more.
    pub(super) remote_incoming_window: u32,
    pub(super) next_incoming_id: u32,
    /// Transfer frames we take before we must tell more.
    pub(super) incoming_window: u32,
    pub(super) next_delivery_id: u32,
    pub(super) handles: Vec<Option<LinkId>>,
    pub(super) by_remote_handle: HashMap<u32, LinkId>,
    /// Our deliveries without an outcome.
    pub(super) unsettled_out: BTreeMap<u32, (LinkId, u64)>,
    /// Our deliveries with an outcome that the peer left for us to settle, by link and token.
    pub(super) held: HashMap<(LinkId, u64), u32>,
    /// The peer's deliveries we have not settled.
    pub(super) unsettled_in: BTreeMap<u32, LinkId>,
    /// Links that went with our `end`, to be told once the peer agrees.
    pub(super) lost: Vec<LinkId>,
}

/// The hub begins with 1 (amqp.md 1.4).
const FIRST_OUTGOING_ID: u32 = 1;

impl Connection {
    /// Begins a session; [`Event::Begun`] follows. `None` when no channel is left.
    pub fn begin(&mut self) -> Option<SessionId> {
        let id = self.free_channel()?;
        self.sessions.insert(id, self.new_session(State::Beginning));
        self.send_begin(id);
        Some(id)
    }

    /// Ends a session; [`Event::Ended`] follows. Messages on the way are lost.
    pub fn end(&mut self, id: SessionId, error: Option<AmqpError>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.state != State::Ending) else { return };
        session.state = State::Ending;
        let lost = self.lose_links(id);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.lost = lost;
        }
        self.out.push_back(Frame::new(id.0, FrameBody::End(End { error })));
    }

    pub(super) fn on_begin(&mut self, channel: u16, begin: Begin) {
        if self.by_remote_channel.contains_key(&channel) || channel > self.config.channel_max {
            return self.fail("begin on a channel in use or over channel-max");
        }
        let id = match begin.remote_channel {
            Some(ours) => match self.sessions.get(&SessionId(ours)) {
                Some(s) if s.remote_channel.is_none() => SessionId(ours),
                _ => return self.fail("begin for a session that was not asked for"),
            },
            None => {
                let Some(id) = self.free_channel() else { return self.fail("no channel left") };
                self.sessions.insert(id, self.new_session(State::Mapped));
                id
            }
        };
        self.by_remote_channel.insert(channel, id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.remote_channel = Some(channel);
        session.remote_incoming_window = begin.incoming_window;
        session.next_incoming_id = begin.next_outgoing_id;
        match session.state {
            State::Ending => return,
            State::Beginning => session.state = State::Mapped,
            State::Mapped => self.send_begin(id),
        }
        self.events.push_back(Event::Begun(id));
        self.wake_session(id);
    }

    pub(super) fn on_session_frame(&mut self, channel: u16, body: FrameBody) {
        let Some(&id) = self.by_remote_channel.get(&channel) else {
            // rhea goes on settling what was on its way when it ended its session, and asking for more.
            if matches!(body, FrameBody::Disposition(_) | FrameBody::Flow(_)) {
                return;
            }
            return self.fail("a frame on a channel without a session");
        };
        if let FrameBody::End(end) = body {
            return self.on_end(id, end);
        }
        if self.sessions.get(&id).is_none_or(|s| s.state == State::Ending) {
            return;
        }
        match body {
            FrameBody::Attach(attach) => self.on_attach(id, attach),
            FrameBody::Flow(flow) => self.on_flow(id, flow),
            FrameBody::Transfer { performative, payload } => self.on_transfer(id, performative, payload),
            FrameBody::Disposition(disposition) => self.on_disposition(id, disposition),
            FrameBody::Detach(detach) => self.on_detach(id, detach),
            // Open, Begin, Close and Empty never get here, End was taken above.
            _ => {}
        }
    }

    fn on_end(&mut self, id: SessionId, end: End) {
        let ours_is_out = self.sessions.get(&id).is_some_and(|s| s.state == State::Ending);
        if !ours_is_out {
            self.out.push_back(Frame::new(id.0, FrameBody::End(End { error: None })));
        }
        let links = self.drop_session(id);
        self.events.push_back(Event::Ended { session: id, error: end.error, links });
    }

    fn on_flow(&mut self, id: SessionId, flow: Flow) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let seen = match flow.next_incoming_id {
            Some(seen) => seen,
            // It has answered our begin and leaves the number out all the same. Counted from where we began, the
            // window would never open again, so it is taken to have all that was sent.
            None if session.begun_here => session.next_outgoing_id,
            // It has not seen our begin yet: it counts from where we began (AMQP 1.0 part 2, 2.7.4).
            None => FIRST_OUTGOING_ID,
        };
        session.remote_incoming_window =
            seen.wrapping_add(flow.incoming_window).wrapping_sub(session.next_outgoing_id);
        if session.remote_incoming_window > i32::MAX as u32 && flow.incoming_window < i32::MAX as u32 {
            // The window lies behind what we have sent already.
            session.remote_incoming_window = 0;
        }
        let echo = flow.echo;
        let handle = flow.handle.as_ref().map(|h| h.0);
        match handle.and_then(|h| session.by_remote_handle.get(&h).copied()) {
            Some(link) => self.on_link_flow(link, &flow),
            None if handle.is_some() => self.end_with(id, SessionError::UnattachedHandle, "flow"),
            None if echo => self.send_session_flow(id),
            None => {}
        }
        self.wake_session(id);
    }

    /// Ends a session because the peer broke its rules.
    pub(super) fn end_with(&mut self, id: SessionId, error: SessionError, what: &str) {
        self.end(id, Some(AmqpError::new(ErrorCondition::SessionError(error), what.to_owned(), None)));
    }

    /// Counts an incoming transfer frame; false when the window was overrun and the session is ending.
    pub(super) fn count_incoming(&mut self, id: SessionId) -> bool {
        let window = self.config.incoming_window;
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if session.incoming_window == 0 {
            self.end_with(id, SessionError::WindowViolation, "more transfers than the incoming window");
            return false;
        }
        session.next_incoming_id = session.next_incoming_id.wrapping_add(1);
        session.incoming_window -= 1;
        if session.incoming_window <= window / 2 {
            // Clients stall after one window without it (amqp.md 1.4, rule 4).
            session.incoming_window = window;
            self.send_session_flow(id);
        }
        true
    }

    pub(super) fn send_session_flow(&mut self, id: SessionId) {
        if let Some(flow) = self.session_flow(id) {
            self.out.push_back(Frame::new(id.0, FrameBody::Flow(flow)));
        }
    }

    pub(super) fn session_flow(&self, id: SessionId) -> Option<Flow> {
        let session = self.sessions.get(&id)?;
        Some(Flow {
            next_incoming_id: session
                .remote_channel
                .filter(|_| !self.config.omit_next_incoming_id)
                .map(|_| session.next_incoming_id),
            incoming_window: session.incoming_window,
            next_outgoing_id: session.next_outgoing_id,
            outgoing_window: OUTGOING_WINDOW,
            handle: None,
            delivery_count: None,
            link_credit: None,
            available: None,
            drain: false,
            echo: false,
            properties: None,
        })
    }

    /// Forgets a session; its messages get their outcome, its links are returned.
    pub(super) fn drop_session(&mut self, id: SessionId) -> Vec<LinkId> {
        let links = self.lose_links(id);
        if let Some(channel) = self.sessions.remove(&id).and_then(|s| s.remote_channel) {
            self.by_remote_channel.remove(&channel);
        }
        links
    }

    fn lose_links(&mut self, id: SessionId) -> Vec<LinkId> {
        let Some(session) = self.sessions.get_mut(&id) else { return Vec::new() };
        let links: Vec<_> = session.handles.iter().flatten().copied().collect();
        session.lost.extend(&links);
        for link in links {
            self.drop_link(link);
        }
        self.sessions.get_mut(&id).map(|s| std::mem::take(&mut s.lost)).unwrap_or_default()
    }

    fn wake_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        for index in 0..session.handles.len() {
            if let Some(link) = self.sessions.get(&id).and_then(|s| s.handles.get(index).copied().flatten()) {
                self.wake_link(link);
            }
        }
    }

    fn new_session(&self, state: State) -> Session {
        Session {
            state,
            remote_channel: None,
            begun_here: state == State::Beginning,
            next_outgoing_id: FIRST_OUTGOING_ID,
            remote_incoming_window: 0,
            next_incoming_id: 0,
            incoming_window: self.config.incoming_window,
            next_delivery_id: 0,
            handles: Vec::new(),
            by_remote_handle: HashMap::new(),
            unsettled_out: BTreeMap::new(),
            held: HashMap::new(),
            unsettled_in: BTreeMap::new(),
            lost: Vec::new(),
        }
    }

    fn send_begin(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        self.out.push_back(Frame::new(
            id.0,
            FrameBody::Begin(Begin {
                remote_channel: session.remote_channel,
                next_outgoing_id: FIRST_OUTGOING_ID,
                incoming_window: session.incoming_window,
                outgoing_window: OUTGOING_WINDOW,
                handle_max: self.config.handle_max.into(),
                offered_capabilities: None,
                desired_capabilities: None,
                properties: None,
            }),
        ));
    }
}
