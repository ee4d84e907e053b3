//! Links: attach, accept, refuse, detach.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use fe2o3_amqp::frames::amqp::{Frame, FrameBody};
use fe2o3_amqp_types::{
    definitions::{
        AmqpError as Condition, Error as AmqpError, ErrorCondition, LinkError, Role, SessionError,
    },
    messaging::TargetArchetype,
    performatives::{Attach, Detach},
};

use super::{AcceptOptions, AttachOptions, Connection, Credit, Event, LinkId, Outcome, Outgoing, SessionId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The peer asked; this end has not decided.
    Requested,
    /// Our attach is out.
    Attaching,
    /// An attach was answered without a terminus: the detach with the reason follows.
    Refused,
    Attached,
    /// Our detach is out.
    Detaching,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: SessionId,
    pub(super) name: String,
    pub(super) sender: bool,
    pub(super) handle: u32,
    pub(super) remote_handle: Option<u32>,
    pub(super) state: State,
    /// What the peer asked for, until it is decided.
    requested: Option<Box<Attach>>,
    /// Deliveries so far; both ends count them.
    pub(super) delivery_count: u32,
    /// As sender: what the peer still takes. As receiver: what we still granted.
    pub(super) credit: u32,
    pub(super) credit_mode: Credit,
    /// Largest message: the peer's limit for a sender, ours for a receiver. 0 is none.
    pub(super) max_message_size: u64,
    pub(super) queue: VecDeque<Queued>,
    pub(super) next_tag: u32,
    pub(super) partial: Option<Partial>,
    /// In [`Connection::sendable`] already.
    pub(super) queued_to_send: bool,
    /// The peer wants the credit back that is not used. In [`Connection::draining`].
    pub(super) draining: bool,
    /// [`Connection::hold_outcomes`].
    pub(super) holds_outcomes: bool,
}

/// A message that waits for credit or window, or went out in part.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) message: Outgoing,
    /// Its delivery id once the first frame went out.
    pub(super) id: Option<u32>,
}

/// A message of which more frames are to come.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) id: u32,
    pub(super) tag: Bytes,
    pub(super) format: u32,
    pub(super) settled: bool,
    pub(super) oversized: bool,
    pub(super) payload: BytesMut,
}

impl Connection {
    /// Asks for a link. [`Event::Attached`] or [`Event::Detached`] follows.
    /// `None` when the session is gone or has no handle left.
    pub fn attach(&mut self, session: SessionId, options: AttachOptions) -> Option<LinkId> {
        let id = self.new_link(session, options.name.clone(), options.sender, State::Attaching)?;
        let link = self.links.get_mut(&id)?;
        link.credit_mode = options.credit;
        if !options.sender {
            link.max_message_size = options.max_message_size;
        }
        let attach = Attach {
            name: options.name,
            handle: link.handle.into(),
            role: if options.sender { Role::Sender } else { Role::Receiver },
            snd_settle_mode: options.snd_settle_mode,
            rcv_settle_mode: options.rcv_settle_mode,
            source: options.source.map(Box::new),
            target: options.target.map(|t| Box::new(TargetArchetype::Target(t))),
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: options.sender.then_some(0),
            max_message_size: (!options.sender).then_some(options.max_message_size),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: options.properties,
        };
        self.out.push_back(Frame::new(session.0, FrameBody::Attach(attach)));
        Some(id)
    }

    /// Grants a link the peer asked for, echoing its termini and settle modes (amqp.md 3.2).
    pub fn accept(&mut self, id: LinkId, options: AcceptOptions) {
        let Some(link) = self.links.get_mut(&id).filter(|l| l.state == State::Requested) else { return };
        let Some(requested) = link.requested.take() else { return };
        link.state = State::Attached;
        link.credit_mode = options.credit;
        if link.sender {
            link.max_message_size = requested.max_message_size.unwrap_or(0);
        } else {
            link.max_message_size = options.max_message_size;
            link.delivery_count = requested.initial_delivery_count.unwrap_or(0);
        }
        let (session, attach) = (link.session, answer(link, *requested, &options));
        self.out.push_back(Frame::new(session.0, FrameBody::Attach(attach)));
        self.first_credit(id);
    }

    /// Refuses a link the peer asked for: an answer without termini, then a detach with the reason.
    pub fn refuse(&mut self, id: LinkId, error: AmqpError) {
        if self.links.get(&id).is_some_and(|l| l.state == State::Requested) {
            self.detach(id, Some(error));
        }
    }

    /// Answers an attach that is not decided yet without termini: an attach must come before any detach.
    fn decline(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id).filter(|l| l.state == State::Requested) else { return };
        let Some(requested) = link.requested.take() else { return };
        let options = AcceptOptions { credit: Credit::Manual, max_message_size: 0, properties: None };
        let mut attach = answer(link, *requested, &options);
        attach.source = None;
        attach.target = None;
        link.state = State::Refused;
        let session = link.session;
        self.out.push_back(Frame::new(session.0, FrameBody::Attach(attach)));
    }

    /// Closes a link; [`Event::Detached`] follows. Messages on the way are lost.
    pub fn detach(&mut self, id: LinkId, error: Option<AmqpError>) {
        self.decline(id);
        let Some(link) = self.links.get_mut(&id).filter(|l| l.state != State::Detaching) else { return };
        link.state = State::Detaching;
        let detach = Detach { handle: link.handle.into(), closed: true, error };
        let session = link.session;
        self.lose_messages(id);
        self.out.push_back(Frame::new(session.0, FrameBody::Detach(detach)));
    }

    /// The largest message the peer takes on a sending link; `None` for no limit.
    pub fn max_message_size(&self, id: LinkId) -> Option<u64> {
        self.links.get(&id).map(|l| l.max_message_size).filter(|max| *max > 0)
    }

    /// The session a link belongs to.
    pub fn session_of(&self, id: LinkId) -> Option<SessionId> {
        self.links.get(&id).map(|l| l.session)
    }

    pub(super) fn on_attach(&mut self, session: SessionId, attach: Attach) {
        let sender = attach.role == Role::Receiver;
        let handle = attach.handle.0;
        let Some(known) = self.sessions.get(&session) else { return };
        if handle > self.config.handle_max || known.by_remote_handle.contains_key(&handle) {
            return self.end_with(
                session,
                SessionError::HandleInUse,
                "attach on a handle in use or too high",
            );
        }
        let asked = known.handles.iter().flatten().copied().find(|id| {
            self.links
                .get(id)
                .is_some_and(|l| l.name == attach.name && l.sender == sender && l.remote_handle.is_none())
        });
        match asked {
            Some(id) => self.on_attach_answer(id, attach),
            None => self.on_attach_request(session, sender, attach),
        }
    }

    fn on_attach_request(&mut self, session: SessionId, sender: bool, attach: Attach) {
        let Some(id) = self.new_link(session, attach.name.clone(), sender, State::Requested) else {
            return self.end_with(session, SessionError::HandleInUse, "no handle left");
        };
        self.bind_remote_handle(id, attach.handle.0);
        if let Some(link) = self.links.get_mut(&id) {
            link.requested = Some(Box::new(attach.clone()));
        }
        self.events.push_back(Event::AttachRequested { link: id, session, attach: Box::new(attach) });
    }

    fn on_attach_answer(&mut self, id: LinkId, attach: Attach) {
        self.bind_remote_handle(id, attach.handle.0);
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.state != State::Attaching {
            // Our detach crossed the answer.
            return;
        }
        // The terminus at the peer is missing: a refusal, the reason comes in its detach (AMQP 1.0 2.6.3).
        let refused = if link.sender { attach.target.is_none() } else { attach.source.is_none() };
        if refused {
            link.state = State::Refused;
            return;
        }
        link.state = State::Attached;
        if link.sender {
            link.max_message_size = attach.max_message_size.unwrap_or(0);
        } else {
            link.delivery_count = attach.initial_delivery_count.unwrap_or(0);
        }
        self.first_credit(id);
        self.events.push_back(Event::Attached { link: id, attach: Box::new(attach) });
    }

    pub(super) fn on_detach(&mut self, session: SessionId, detach: Detach) {
        let link =
            self.sessions.get(&session).and_then(|s| s.by_remote_handle.get(&detach.handle.0).copied());
        // Peers say it twice: fe2o3-amqp 0.18 does after a refused attach. Nothing is left to be closed.
        let Some(id) = link else { return };
        self.decline(id);
        let Some(link) = self.links.get(&id) else { return };
        if link.state != State::Detaching {
            // We do not keep link state, so a detach is answered as a close.
            let ours = Detach { handle: link.handle.into(), closed: true, error: None };
            self.out.push_back(Frame::new(session.0, FrameBody::Detach(ours)));
        }
        self.drop_link(id);
        self.events.push_back(Event::Detached { link: id, error: detach.error });
    }

    fn new_link(&mut self, session: SessionId, name: String, sender: bool, state: State) -> Option<LinkId> {
        let id = LinkId(self.next_link);
        let known = self.sessions.get_mut(&session).filter(|s| s.state != super::session::State::Ending)?;
        let handle = known.handles.iter().position(Option::is_none).unwrap_or(known.handles.len());
        if handle > self.config.handle_max as usize {
            return None;
        }
        if handle == known.handles.len() {
            known.handles.push(Some(id));
        } else {
            known.handles[handle] = Some(id);
        }
        self.next_link = self.next_link.wrapping_add(1);
        let link = Link {
            session,
            name,
            sender,
            handle: handle as u32,
            remote_handle: None,
            state,
            requested: None,
            delivery_count: 0,
            credit: 0,
            credit_mode: Credit::Manual,
            max_message_size: 0,
            queue: VecDeque::new(),
            next_tag: 1,
            partial: None,
            queued_to_send: false,
            draining: false,
            holds_outcomes: false,
        };
        self.links.insert(id, link);
        Some(id)
    }

    fn bind_remote_handle(&mut self, id: LinkId, handle: u32) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.remote_handle = Some(handle);
        if let Some(session) = self.sessions.get_mut(&link.session) {
            session.by_remote_handle.insert(handle, id);
        }
    }

    /// Forgets a link; its messages get their outcome.
    pub(super) fn drop_link(&mut self, id: LinkId) {
        self.lose_messages(id);
        let Some(link) = self.links.remove(&id) else { return };
        let Some(session) = self.sessions.get_mut(&link.session) else { return };
        if let Some(slot) = session.handles.get_mut(link.handle as usize) {
            *slot = None;
        }
        if let Some(handle) = link.remote_handle {
            session.by_remote_handle.remove(&handle);
        }
        session.unsettled_in.retain(|_, of| *of != id);
        session.held.retain(|(of, _), _| *of != id);
    }

    /// Every message of the link that has no outcome yet gets [`Outcome::Lost`].
    fn lose_messages(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let queued = std::mem::take(&mut link.queue);
        let Some(session) = self.sessions.get_mut(&link.session) else { return };
        let mut lost = Vec::new();
        session.unsettled_out.retain(|_, (of, token)| {
            if *of == id {
                lost.push((*token, true));
            }
            *of != id
        });
        lost.extend(
            queued.iter().filter(|q| !q.message.settled && q.id.is_none()).map(|q| (q.message.token, false)),
        );
        let outcome = |(token, sent)| Event::Outcome { link: id, token, outcome: Outcome::Lost { sent } };
        self.events.extend(lost.into_iter().map(outcome));
    }

    pub(super) fn detach_over_credit(&mut self, id: LinkId) {
        let condition = ErrorCondition::LinkError(LinkError::TransferLimitExceeded);
        self.detach(id, Some(AmqpError::new(condition, "more messages than credit".to_owned(), None)));
    }

    pub(super) fn detach_invalid(&mut self, id: LinkId, what: &str) {
        let condition = ErrorCondition::AmqpError(Condition::InvalidField);
        self.detach(id, Some(AmqpError::new(condition, what.to_owned(), None)));
    }
}

fn answer(link: &Link, requested: Attach, options: &AcceptOptions) -> Attach {
    Attach {
        name: requested.name,
        handle: link.handle.into(),
        role: if link.sender { Role::Sender } else { Role::Receiver },
        snd_settle_mode: requested.snd_settle_mode,
        rcv_settle_mode: requested.rcv_settle_mode,
        source: Some(requested.source.unwrap_or_default()),
        target: Some(
            requested.target.unwrap_or_else(|| Box::new(TargetArchetype::Target(Default::default()))),
        ),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: link.sender.then_some(0),
        max_message_size: Some(options.max_message_size),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: options.properties.clone(),
    }
}
