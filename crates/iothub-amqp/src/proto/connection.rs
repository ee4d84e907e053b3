//! The connection: open, close, heartbeats, and which session a frame belongs to.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use fe2o3_amqp::frames::amqp::{Frame, FrameBody};
use fe2o3_amqp_types::{
    definitions::{AmqpError as Condition, ConnectionError, Error as AmqpError, ErrorCondition},
    performatives::{Close, Open},
};

use super::{CloseCause, Config, Event, LinkId, RemoteOpen, SessionId, Side, link::Link, session::Session};
use crate::wire::{MAX_FRAME_SIZE, MIN_MAX_FRAME_SIZE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the peer's `open`.
    Opening,
    Open,
    /// Our `close` is out; only the peer's is still of interest.
    Closing,
    Closed,
}

/// One AMQP connection, either end.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Config,
    phase: Phase,
    open_sent: bool,
    pub(super) remote_max_frame: u32,
    remote_channel_max: u16,
    remote_idle: Option<Duration>,
    last_in: Instant,
    last_out: Instant,
    pub(super) sessions: HashMap<SessionId, Session>,
    pub(super) by_remote_channel: HashMap<u16, SessionId>,
    pub(super) links: HashMap<LinkId, Link>,
    next_channel: u16,
    pub(super) next_link: u32,
    /// Frames to go before any transfer.
    pub(super) out: VecDeque<Frame>,
    /// Links that may have a transfer to send.
    pub(super) sendable: VecDeque<LinkId>,
    /// Links whose unused credit the peer wants back.
    pub(super) draining: VecDeque<LinkId>,
    pub(super) events: VecDeque<Event>,
}

impl Connection {
    /// A connection whose protocol headers have been exchanged.
    pub fn new(side: Side, config: Config, now: Instant) -> Self {
        let mut connection = Self {
            config,
            phase: Phase::Opening,
            open_sent: false,
            remote_max_frame: MIN_MAX_FRAME_SIZE,
            remote_channel_max: u16::MAX,
            remote_idle: None,
            last_in: now,
            last_out: now,
            sessions: HashMap::new(),
            by_remote_channel: HashMap::new(),
            links: HashMap::new(),
            next_channel: 0,
            next_link: 0,
            out: VecDeque::new(),
            sendable: VecDeque::new(),
            draining: VecDeque::new(),
            events: VecDeque::new(),
        };
        if side == Side::Client {
            connection.send_open();
        }
        connection
    }

    /// Takes a frame of the peer.
    pub fn handle_frame(&mut self, frame: Frame, now: Instant) {
        self.last_in = now;
        if self.phase == Phase::Closed {
            return;
        }
        if self.phase == Phase::Closing {
            // After our close everything but the peer's close is void (AMQP 1.0 part 2, 2.4.7).
            if let FrameBody::Close(_) = frame.body {
                self.finish(CloseCause::Requested);
            }
            return;
        }
        match (frame.body, self.phase) {
            (FrameBody::Open(open), Phase::Opening) => self.on_open(open),
            (FrameBody::Open(_), _) => self.fail("a second open"),
            (FrameBody::Close(close), _) => self.on_close(close),
            (FrameBody::Empty, _) => {}
            (_, Phase::Opening) => self.fail("a frame before open"),
            (FrameBody::Begin(begin), _) => self.on_begin(frame.channel, begin),
            (body, _) => self.on_session_frame(frame.channel, body),
        }
    }

    /// Takes the end or failure of the byte stream.
    pub fn handle_io_error(&mut self, error: std::io::Error) {
        if self.phase != Phase::Closed {
            let requested = self.phase == Phase::Closing;
            self.finish(if requested { CloseCause::Requested } else { CloseCause::Io(error) });
        }
    }

    /// Closes the connection because the peer broke the protocol.
    pub fn fail(&mut self, what: &str) {
        let condition = ErrorCondition::ConnectionError(ConnectionError::FramingError);
        self.fail_with(AmqpError::new(condition, what.to_owned(), None));
    }

    pub(super) fn fail_with(&mut self, error: AmqpError) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        let text = error.description.clone().unwrap_or_default();
        self.send_close(Some(error));
        self.finish(CloseCause::Protocol(text));
    }

    /// Closes the connection; [`Event::Closed`] follows once the peer agrees. Messages on the way are lost.
    pub fn close(&mut self, error: Option<AmqpError>) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.lose_everything();
        self.send_close(error);
        self.phase = Phase::Closing;
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.dead_at().is_some_and(|at| now >= at) {
            let condition = ErrorCondition::AmqpError(Condition::ResourceLimitExceeded);
            self.send_close(Some(AmqpError::new(condition, "idle time-out".to_owned(), None)));
            self.finish(CloseCause::IdleTimeout);
        } else if self.beat_at().is_some_and(|at| now >= at) && self.out.is_empty() {
            self.out.push_back(Frame::empty());
        }
    }

    /// When [`Connection::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Closed {
            return None;
        }
        match (self.dead_at(), self.beat_at()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn dead_at(&self) -> Option<Instant> {
        (!self.config.idle_timeout.is_zero()).then(|| self.last_in + 2 * self.config.idle_timeout)
    }

    /// Half of the peer's time-out, since some peers count it exactly (fe2o3-amqp.md A2).
    fn beat_at(&self) -> Option<Instant> {
        // What waits to be written is as good as a heartbeat, and a peer that does not read gets neither.
        self.remote_idle.filter(|_| self.out.is_empty()).map(|idle| self.last_out + idle / 2)
    }

    /// The next frame to write.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        let frame = match self.out.pop_front() {
            Some(frame) => frame,
            None => self.next_transfer().or_else(|| self.next_drained())?,
        };
        self.last_out = now;
        Some(frame)
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Frames that wait to be written, transfers not counted.
    pub fn backlog(&self) -> usize {
        self.out.len()
    }

    /// The largest frame the peer takes.
    pub fn remote_max_frame_size(&self) -> u32 {
        self.remote_max_frame
    }

    /// Whether the peer's `open` is here and no `close` is.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether [`Event::Closed`] was given.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    fn on_open(&mut self, open: Open) {
        self.phase = Phase::Open;
        self.remote_max_frame = open.max_frame_size.0.clamp(MIN_MAX_FRAME_SIZE, MAX_FRAME_SIZE);
        self.remote_channel_max = open.channel_max.0;
        self.remote_idle =
            open.idle_time_out.filter(|ms| *ms > 0).map(|ms| Duration::from_millis(u64::from(ms)));
        if !self.open_sent {
            self.send_open();
        }
        self.events.push_back(Event::Opened(RemoteOpen {
            container_id: open.container_id,
            hostname: open.hostname,
            idle_timeout: self.remote_idle,
            properties: open.properties,
        }));
    }

    fn on_close(&mut self, close: Close) {
        self.send_close(None);
        self.finish(CloseCause::Remote(close.error));
    }

    fn send_open(&mut self) {
        self.open_sent = true;
        let idle = u32::try_from(self.config.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        self.out.push_back(Frame::new(
            0u16,
            FrameBody::Open(Open {
                container_id: self.config.container_id.clone(),
                hostname: self.config.hostname.clone(),
                max_frame_size: MAX_FRAME_SIZE.into(),
                channel_max: self.config.channel_max.into(),
                idle_time_out: (idle > 0).then_some(idle),
                outgoing_locales: None,
                incoming_locales: None,
                offered_capabilities: None,
                desired_capabilities: None,
                properties: self.config.properties.clone(),
            }),
        ));
    }

    fn send_close(&mut self, error: Option<AmqpError>) {
        if !self.open_sent {
            // A close may only follow an open.
            self.send_open();
        }
        self.out.push_back(Frame::new(0u16, FrameBody::Close(Close { error })));
    }

    fn finish(&mut self, cause: CloseCause) {
        self.lose_everything();
        self.phase = Phase::Closed;
        self.events.push_back(Event::Closed(cause));
    }

    /// Gives every message under way its outcome and forgets sessions and links.
    fn lose_everything(&mut self) {
        let mut sessions: Vec<_> = self.sessions.keys().copied().collect();
        sessions.sort_unstable();
        for session in sessions {
            self.drop_session(session);
        }
        self.sendable.clear();
        self.draining.clear();
    }

    pub(super) fn free_channel(&mut self) -> Option<SessionId> {
        let max = self.remote_channel_max.min(self.config.channel_max);
        for _ in 0..=max {
            let id = SessionId(self.next_channel);
            self.next_channel = if self.next_channel >= max { 0 } else { self.next_channel + 1 };
            if !self.sessions.contains_key(&id) {
                return Some(id);
            }
        }
        None
    }
}
