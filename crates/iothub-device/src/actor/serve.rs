//! While the connection is up: events go to the identity they belong to, tokens are shown and renewed, and
//! trouble of one identity stays its own.

use std::{collections::HashMap, time::Duration};

use iothub_amqp::{
    Driver, amqp_error,
    client::{Socket, TokenEvent, Tokens, close_error, link_error},
    proto::{Event, LinkId, SessionId},
};
use iothub_common::{Error, ErrorKind, Subject, Token};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Actor,
    asks::Asks,
    command::{Command, Control, Key},
    member::{Access, Fate},
    wait_until,
};
use crate::features::{Features, Up};

/// How long the hub may take to agree to the end of the connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// Commands taken before their requests are written, so that they share a write.
const COMMANDS_PER_WRITE: usize = 128;

/// How serving ended.
pub(super) enum Ended {
    /// By the application, or since nobody is left.
    Closed,
    Lost(Error),
}

/// What there is of one connection.
struct Wire {
    driver: Driver<Socket>,
    tokens: Tokens,
    links: HashMap<LinkId, Key>,
    sessions: HashMap<SessionId, Key>,
    /// Sessions of identities that left, until the hub agrees.
    leaving: HashMap<SessionId, CancellationToken>,
    new_links: Vec<LinkId>,
}

impl Wire {
    fn access<'a>(&'a mut self, asks: &'a mut Asks) -> Access<'a> {
        Access {
            connection: self.driver.connection(),
            tokens: &mut self.tokens,
            asks,
            new_links: &mut self.new_links,
        }
    }
}

impl Actor {
    pub(super) async fn serve(&mut self, mut driver: Driver<Socket>) -> Ended {
        let Some(tokens) = Tokens::new(driver.connection()) else {
            return Ended::Lost(Error::new(ErrorKind::Protocol, "the hub allows no session"));
        };
        let mut wire = Wire {
            driver,
            tokens,
            links: HashMap::new(),
            sessions: HashMap::new(),
            leaving: HashMap::new(),
            new_links: Vec::new(),
        };
        let mut keys: Vec<_> = self.members.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.authorize(&mut wire, key);
        }
        let ended = self.serve_until_ended(&mut wire).await;
        match &ended {
            Ended::Closed => {
                // Who waits for an answer learns at once that none will come.
                for member in self.members.values_mut() {
                    member.finish(None, None);
                }
                wire.driver.close(CLOSE_LIMIT).await;
            }
            Ended::Lost(_) => {
                // The peer is told if it still listens; nothing waits for its agreement.
                wire.driver.connection().close(None);
                wire.driver.finish(Duration::ZERO).await;
            }
        }
        wire.leaving.values().for_each(CancellationToken::cancel);
        ended
    }

    async fn serve_until_ended(&mut self, wire: &mut Wire) -> Ended {
        loop {
            if self.ends_when_empty && self.members.is_empty() {
                return Ended::Closed;
            }
            let deadline = [self.timers.next(), wire.tokens.next_deadline()].into_iter().flatten().min();
            let result = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ended::Closed,
                event = wire.driver.next() => self.on_event(wire, event),
                control = self.control.recv() => match control {
                    Some(control) => {
                        self.on_control(wire, control);
                        Ok(())
                    }
                    None => return Ended::Closed,
                },
                Some((key, command)) = self.commands.recv() => {
                    self.on_commands(wire, key, command);
                    Ok(())
                }
                (key, answer) = self.asks.next() => {
                    self.on_provided(wire, key, answer);
                    Ok(())
                }
                () = wait_until(deadline) => self.on_timer(wire),
            };
            if let Err(error) = result {
                return Ended::Lost(error);
            }
        }
    }

    fn on_control(&mut self, wire: &mut Wire, control: Control) {
        match control {
            Control::Add(key, member) => {
                self.members.insert(key, *member);
                self.authorize(wire, key);
            }
            Control::Remove(key) => self.remove(wire, key, None),
            Control::Touch(key) => self.after(wire, key, Fate::Stays),
            Control::MethodDropped(key, answer_to) => {
                self.with_up(wire, key, |member, up| member.methods.answer_dropped(up, &answer_to));
            }
            Control::Release(key, which, ticket) => {
                self.with_up(wire, key, |member, up| member.inbox(which).release(up, ticket));
            }
        }
    }

    fn on_commands(&mut self, wire: &mut Wire, key: Key, command: Command) {
        let mut touched = vec![key];
        self.take(key, command);
        for _ in 1..COMMANDS_PER_WRITE {
            let Ok((key, command)) = self.commands.try_recv() else { break };
            self.take(key, command);
            if !touched.contains(&key) {
                touched.push(key);
            }
        }
        for key in touched {
            self.after(wire, key, Fate::Stays);
        }
    }

    fn on_event(&mut self, wire: &mut Wire, event: Event) -> Result<(), Error> {
        let host = self.endpoint.host.clone();
        let hub = Subject::Hub(&host);
        if let Some(result) = wire.tokens.on_event(wire.driver.connection(), &event, &hub) {
            if let Some(token) = result? {
                self.on_token(wire, &token);
            }
            return Ok(());
        }
        match &event {
            Event::Closed(_) => {
                let Event::Closed(cause) = event else { return Ok(()) };
                return Err(close_error(cause, &self.endpoint, &hub));
            }
            Event::Ended { session, error, .. } if *session == wire.tokens.session() => {
                return Err(link_error(error.as_ref(), &hub));
            }
            Event::Ended { session, links, .. } => {
                for link in links {
                    wire.links.remove(link);
                }
                if let Some(done) = wire.leaving.remove(session) {
                    done.cancel();
                }
                if let Some(key) = wire.sessions.remove(session)
                    && let Some(member) = self.members.get_mut(&key)
                {
                    let fate = member.on_session_ended(wire.driver.connection(), &event);
                    self.after(wire, key, fate);
                }
            }
            Event::AttachRequested { link, .. } => {
                let refusal = amqp_error("amqp:not-allowed", "clients take no links");
                wire.driver.connection().refuse(*link, refusal);
            }
            Event::Attached { link, .. }
            | Event::Outcome { link, .. }
            | Event::Settled { link, .. }
            | Event::Credit { link } => {
                self.on_link_event(wire, *link, &event);
            }
            Event::Message(delivery) => self.on_link_event(wire, delivery.link, &event),
            Event::Detached { link, .. } => {
                self.on_link_event(wire, *link, &event);
                wire.links.remove(link);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_link_event(&mut self, wire: &mut Wire, link: LinkId, event: &Event) {
        let Some(&key) = wire.links.get(&link) else { return };
        let Some(member) = self.members.get_mut(&key) else { return };
        let fate = member.on_event(wire.driver.connection(), event, &mut wire.new_links);
        self.after(wire, key, fate);
    }

    fn on_token(&mut self, wire: &mut Wire, event: &TokenEvent) {
        let (TokenEvent::Accepted { key } | TokenEvent::Refused { key, .. }) = event;
        let Some(member) = self.members.get_mut(key) else { return };
        let result = member.on_token(wire.driver.connection(), event);
        self.begun(wire, *key, result);
    }

    fn on_timer(&mut self, wire: &mut Wire) -> Result<(), Error> {
        let now = Instant::now();
        for due in wire.tokens.on_timer(now)? {
            if let Some(member) = self.members.get_mut(&due.key) {
                let fate = member.renew(due, &mut wire.access(&mut self.asks));
                self.after(wire, due.key, fate);
            }
        }
        while let Some(key) = self.timers.pop(now, &mut self.members) {
            let Some(member) = self.members.get_mut(&key) else { continue };
            let result = member.on_timer(key, &mut wire.access(&mut self.asks), now);
            self.begun(wire, key, result);
        }
        Ok(())
    }

    fn authorize(&mut self, wire: &mut Wire, key: Key) {
        if let Some(member) = self.members.get_mut(&key) {
            let result = member.authorize(key, &mut wire.access(&mut self.asks));
            self.begun(wire, key, result);
        }
    }

    fn on_provided(&mut self, wire: &mut Wire, key: Key, answer: Result<Token, Error>) {
        if let Some(member) = self.members.get_mut(&key) {
            let fate = member.on_provided(key, answer, Some(&mut wire.access(&mut self.asks)));
            self.after(wire, key, fate);
        }
    }

    /// A member may have begun a session: its events are to come to it.
    fn begun(&mut self, wire: &mut Wire, key: Key, result: Result<Option<SessionId>, Fate>) {
        let fate = match result {
            Ok(session) => {
                wire.sessions.extend(session.map(|session| (session, key)));
                Fate::Stays
            }
            Err(fate) => fate,
        };
        self.after(wire, key, fate);
    }

    /// Lets a member do something on its session, if it has one.
    fn with_up(&mut self, wire: &mut Wire, key: Key, what: impl FnOnce(&mut Features, &mut Up<'_>)) {
        if let Some(member) = self.members.get_mut(&key) {
            member.with_up(wire.driver.connection(), &mut wire.new_links, what);
            self.after(wire, key, Fate::Stays);
        }
    }

    /// What every change of a member is followed by: it starts what it can, its links and its time are noted.
    fn after(&mut self, wire: &mut Wire, key: Key, fate: Fate) {
        if let Fate::Ends(error) = fate {
            return self.remove(wire, key, Some(error));
        }
        let Some(member) = self.members.get_mut(&key) else { return };
        member.pump(wire.driver.connection(), &mut wire.new_links);
        wire.links.extend(wire.new_links.drain(..).map(|link| (link, key)));
        self.timers.schedule(key, member);
    }

    fn remove(&mut self, wire: &mut Wire, key: Key, error: Option<Error>) {
        let Some(mut member) = self.members.remove(&key) else { return };
        wire.tokens.forget(key);
        self.asks.forget(key);
        let last = self.ends_when_empty && self.members.is_empty();
        match member.finish(Some(wire.driver.connection()), error) {
            // The end of the connection includes that of the session.
            Some(session) if last => {
                wire.leaving.insert(session, member.done);
            }
            Some(session) => {
                wire.sessions.remove(&session);
                wire.leaving.insert(session, member.done);
            }
            None if last => {
                wire.leaving.insert(wire.tokens.session(), member.done);
            }
            None => member.done.cancel(),
        }
    }
}
