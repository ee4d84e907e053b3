//! Both ends in one test, frames carried by hand, time passed by hand.
#![allow(clippy::unwrap_used)]

mod receivers;

use std::time::{Duration, Instant};

use bytes::Bytes;
use fe2o3_amqp::frames::amqp::{Frame, FrameBody};
use fe2o3_amqp_types::{
    definitions::{AmqpError as Condition, Error as AmqpError, ErrorCondition, ReceiverSettleMode, Role},
    messaging::{Accepted, DeliveryState, Rejected},
    performatives::{Disposition, Flow},
};

use super::*;

struct Pair {
    client: Connection,
    server: Connection,
    now: Instant,
    /// Frames on their way, for inspection: from the client, body kind.
    sizes: Vec<usize>,
}

const ACCEPT: AcceptOptions =
    AcceptOptions { credit: Credit::Auto(100), max_message_size: 1 << 20, properties: None };

impl Pair {
    fn new() -> Self {
        Self::with(Config::new("client"), Config::new("server"))
    }

    fn with(client: Config, server: Config) -> Self {
        let now = Instant::now();
        let client = Connection::new(Side::Client, client, now);
        let server = Connection::new(Side::Server, server, now);
        let mut pair = Self { client, server, now, sizes: Vec::new() };
        pair.exchange();
        pair
    }

    /// Carries frames until both ends are quiet.
    fn exchange(&mut self) {
        self.exchange_with(|frame| frame);
    }

    fn exchange_with(&mut self, mut change: impl FnMut(Frame) -> Frame) {
        loop {
            let mut quiet = true;
            while let Some(frame) = self.client.poll_transmit(self.now) {
                if let FrameBody::Transfer { payload, .. } = &frame.body {
                    self.sizes.push(payload.len());
                }
                self.server.handle_frame(change(frame), self.now);
                quiet = false;
            }
            while let Some(frame) = self.server.poll_transmit(self.now) {
                self.client.handle_frame(change(frame), self.now);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn client_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    fn server_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    /// A client link that the server accepted: (client's id, server's id).
    fn link(&mut self, options: AttachOptions, accept: AcceptOptions) -> (LinkId, LinkId) {
        let session = self.client.begin().unwrap();
        self.link_on(session, options, accept)
    }

    fn link_on(
        &mut self,
        session: SessionId,
        options: AttachOptions,
        accept: AcceptOptions,
    ) -> (LinkId, LinkId) {
        let ours = self.client.attach(session, options).unwrap();
        self.exchange();
        let theirs = requested(&self.server_events());
        self.server.accept(theirs, accept);
        self.exchange();
        let granted =
            self.client_events().iter().any(|e| matches!(e, Event::Attached { link, .. } if *link == ours));
        assert!(granted);
        (ours, theirs)
    }
}

fn requested(events: &[Event]) -> LinkId {
    events
        .iter()
        .find_map(|e| match e {
            Event::AttachRequested { link, .. } => Some(*link),
            _ => None,
        })
        .unwrap()
}

fn outcomes(events: &[Event]) -> Vec<(u64, Outcome)> {
    let outcome = |e: &Event| match e {
        Event::Outcome { token, outcome, .. } => Some((*token, outcome.clone())),
        _ => None,
    };
    events.iter().filter_map(outcome).collect()
}

fn messages(events: Vec<Event>) -> Vec<Delivery> {
    let message = |e| match e {
        Event::Message(delivery) => Some(delivery),
        _ => None,
    };
    events.into_iter().filter_map(message).collect()
}

fn numbered(token: u64) -> Outgoing {
    let payload = Bytes::copy_from_slice(&token.to_be_bytes());
    Outgoing { payload, format: 0, tag: None, settled: false, token }
}

fn error(text: &str) -> AmqpError {
    AmqpError::new(ErrorCondition::AmqpError(Condition::NotFound), text.to_owned(), None)
}

#[test]
fn open_tells_each_end_about_the_other() {
    let mut config = Config::new("me");
    config.hostname = Some("hub.example.net".into());
    let mut pair = Pair::with(config, Config::new("gateway"));
    let Event::Opened(seen) = pair.server.poll_event().unwrap() else { panic!() };
    assert_eq!(seen.container_id, "me");
    assert_eq!(seen.hostname.as_deref(), Some("hub.example.net"));
    assert_eq!(seen.idle_timeout, Some(Duration::from_secs(60)));
    let Event::Opened(seen) = pair.client.poll_event().unwrap() else { panic!() };
    assert_eq!(seen.container_id, "gateway");
}

#[test]
fn a_message_of_any_size_arrives_whole_over_the_smallest_frames() {
    let mut pair = Pair::new();
    // The peer takes 512 bytes a frame and no more.
    pair.client.remote_max_frame = 512;
    let (ours, _) = pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    for size in [0usize, 1, 407, 408, 409, 5_000, 200_000] {
        let payload = Bytes::from((0..size).map(|i| i as u8).collect::<Vec<_>>());
        pair.client.send(ours, Outgoing { payload: payload.clone(), ..numbered(size as u64) });
        pair.exchange();
        let got = messages(pair.server_events());
        assert_eq!(got.len(), 1, "{size}");
        assert_eq!(got[0].payload, payload);
        assert!(pair.sizes.iter().all(|len| *len <= 512 - 8));
        pair.server.dispose(got[0].link, got[0].id, DeliveryState::Accepted(Accepted {}), true);
        pair.exchange();
        assert_eq!(outcomes(&pair.client_events()), [(size as u64, Outcome::Accepted)]);
    }
}

#[test]
fn thousands_of_messages_pass_small_windows_and_credit_in_order() {
    let mut server = Config::new("server");
    server.incoming_window = 7;
    let mut pair = Pair::with(Config::new("client"), server);
    let (ours, _) =
        pair.link(AttachOptions::sender("s", "/events"), AcceptOptions { credit: Credit::Auto(3), ..ACCEPT });
    (0..5_000).for_each(|n| assert!(pair.client.send(ours, numbered(n))));
    pair.exchange();
    let got = messages(pair.server_events());
    let order: Vec<_> = got.iter().map(|d| u64::from_be_bytes(d.payload[..].try_into().unwrap())).collect();
    assert_eq!(order, (0..5_000).collect::<Vec<_>>());
    for delivery in &got {
        pair.server.dispose(delivery.link, delivery.id, DeliveryState::Accepted(Accepted {}), true);
    }
    assert_eq!(pair.server.backlog(), 1, "neighbours share one disposition");
    pair.exchange();
    assert_eq!(outcomes(&pair.client_events()).len(), 5_000);
}

#[test]
fn nothing_is_sent_without_credit() {
    let mut pair = Pair::new();
    let (ours, theirs) =
        pair.link(AttachOptions::sender("s", "/events"), AcceptOptions { credit: Credit::Manual, ..ACCEPT });
    (0..3).for_each(|n| assert!(pair.client.send(ours, numbered(n))));
    pair.exchange();
    assert!(messages(pair.server_events()).is_empty());
    pair.server.grant(theirs, 2);
    pair.exchange();
    assert_eq!(messages(pair.server_events()).len(), 2);
    assert_eq!(pair.client.queued(ours), 1);
}

#[test]
fn a_sender_that_ignores_credit_loses_its_link() {
    let mut pair = Pair::new();
    let (ours, theirs) =
        pair.link(AttachOptions::sender("s", "/events"), AcceptOptions { credit: Credit::Manual, ..ACCEPT });
    pair.client.links.get_mut(&ours).unwrap().credit = 5;
    pair.client.send(ours, numbered(1));
    pair.exchange();
    let events = pair.client_events();
    assert_eq!(outcomes(&events), [(1, Outcome::Lost { sent: true })]);
    assert!(matches!(events.last(), Some(Event::Detached { error: Some(_), .. })));
    assert!(
        pair.server_events().iter().any(|e| matches!(e, Event::Detached { link, .. } if *link == theirs))
    );
}

#[test]
fn a_refused_link_says_why() {
    let mut pair = Pair::new();
    let session = pair.client.begin().unwrap();
    let ours =
        pair.client.attach(session, AttachOptions::receiver("r", "/nowhere", Credit::Auto(9))).unwrap();
    pair.exchange();
    let theirs = requested(&pair.server_events());
    pair.server.refuse(theirs, error("no such address"));
    pair.exchange();
    let events = pair.client_events();
    assert!(!events.iter().any(|e| matches!(e, Event::Attached { .. })));
    let Some(Event::Detached { link, error: Some(error) }) = events.last() else { panic!("{events:?}") };
    assert_eq!((*link, error.description.as_deref()), (ours, Some("no such address")));
    // Nothing is left on either side.
    assert!(pair.client.links.is_empty() && pair.server.links.is_empty());
}

#[test]
fn a_link_given_up_before_it_was_decided_leaves_nothing() {
    let mut pair = Pair::new();
    let session = pair.client.begin().unwrap();
    let ours = pair.client.attach(session, AttachOptions::sender("s", "/events")).unwrap();
    pair.client.detach(ours, None);
    pair.exchange();
    let events = pair.server_events();
    let theirs = requested(&events);
    assert!(events.iter().any(|e| matches!(e, Event::Detached { link, .. } if *link == theirs)));
    // Too late.
    pair.server.accept(theirs, ACCEPT);
    pair.server.refuse(theirs, error("no"));
    pair.exchange();
    assert!(pair.client_events().iter().any(|e| matches!(e, Event::Detached { error: None, .. })));
    assert!(pair.client.links.is_empty() && pair.server.links.is_empty());
}

#[test]
fn every_message_has_an_outcome_when_its_link_session_or_connection_ends() {
    type End = fn(&mut Pair, LinkId, SessionId);
    let ends: [(&str, End); 4] = [
        ("detach", |p, link, _| p.server.detach(link, Some(error("gone")))),
        ("end", |p, _, session| p.server.end(session, Some(error("gone")))),
        ("close", |p, _, _| p.server.close(Some(error("gone")))),
        ("cut", |p, _, _| p.client.handle_io_error(std::io::ErrorKind::UnexpectedEof.into())),
    ];
    for (name, end) in ends {
        let mut pair = Pair::new();
        let accept = AcceptOptions { credit: Credit::Manual, ..ACCEPT };
        let (ours, theirs) = pair.link(AttachOptions::sender("s", "/events"), accept);
        pair.server.grant(theirs, 1);
        pair.exchange();
        (0..3).for_each(|n| assert!(pair.client.send(ours, numbered(n))));
        pair.exchange();
        let session = pair.server.session_of(theirs).unwrap();
        end(&mut pair, theirs, session);
        pair.exchange();
        let lost = [(0, true), (1, false), (2, false)].map(|(n, sent)| (n, Outcome::Lost { sent }));
        assert_eq!(outcomes(&pair.client_events()), lost, "{name}");
        assert!(!pair.client.send(ours, numbered(9)), "{name}");
    }
}

#[test]
fn receivers_that_settle_second_get_the_senders_word() {
    let mut pair = Pair::new();
    let options = AttachOptions {
        rcv_settle_mode: ReceiverSettleMode::Second,
        ..AttachOptions::receiver("r", "/devicebound", Credit::Auto(10))
    };
    let (_, theirs) = pair.link(options, ACCEPT);
    pair.server.send(theirs, Outgoing { tag: Some(Bytes::from_static(&[9; 16])), ..numbered(4) });
    pair.exchange();
    let got = messages(pair.client_events()).remove(0);
    assert_eq!(got.tag, [9; 16][..]);
    let rejected = DeliveryState::Rejected(Rejected { error: Some(error("bad")) });
    assert!(pair.client.dispose(got.link, got.id, rejected.clone(), false));
    pair.exchange();
    assert_eq!(outcomes(&pair.server_events()), [(4, Outcome::Rejected(Some(error("bad"))))]);
    let settled = pair.client_events();
    let Some(Event::Settled { delivery, state, .. }) = settled.last() else { panic!("{settled:?}") };
    assert_eq!((*delivery, state.as_ref()), (got.id, Some(&rejected)));
    assert!(!pair.client.dispose(got.link, got.id, rejected, true), "settled already");
}

#[test]
fn a_message_over_the_limit_is_reported_and_the_link_lives() {
    let mut pair = Pair::new();
    let accept = AcceptOptions { max_message_size: 1_000, ..ACCEPT };
    let (ours, _) = pair.link(AttachOptions::sender("s", "/events"), accept);
    pair.client.send(ours, Outgoing { payload: Bytes::from(vec![0; 100_000]), ..numbered(1) });
    pair.client.send(ours, numbered(2));
    pair.exchange();
    let got = messages(pair.server_events());
    assert_eq!(
        got.iter().map(|d| (d.oversized, d.payload.len())).collect::<Vec<_>>(),
        [(true, 0), (false, 8)]
    );
}

#[test]
fn one_name_serves_both_directions_and_every_session() {
    // C# repeats its link names on every session (amqp.md 3.2).
    let mut pair = Pair::new();
    for _ in 0..2 {
        let session = pair.client.begin().unwrap();
        let (s, _) = pair.link_on(session, AttachOptions::sender("same", "/twin"), ACCEPT);
        let (r, _) = pair.link_on(session, AttachOptions::receiver("same", "/twin", Credit::Auto(5)), ACCEPT);
        assert_ne!(s, r);
    }
    assert_eq!(pair.server.links.len(), 4);
}

#[test]
fn a_second_detach_costs_nothing() {
    let mut pair = Pair::new();
    let (ours, _) = pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    let session = pair.client.session_of(ours).unwrap();
    let (other, _) = pair.link_on(session, AttachOptions::sender("other", "/events"), ACCEPT);
    pair.client.detach(ours, None);
    pair.exchange();
    let again = fe2o3_amqp_types::performatives::Detach { handle: 0.into(), closed: true, error: None };
    pair.server.handle_frame(Frame::new(0u16, FrameBody::Detach(again)), pair.now);
    pair.client.send(other, numbered(0));
    pair.exchange();
    assert_eq!(messages(pair.server_events()).len(), 1, "the session goes on");
}

#[test]
fn a_disposition_over_all_ids_costs_no_more_than_what_is_unsettled() {
    let mut pair = Pair::new();
    let (ours, _) = pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    (0..2).for_each(|n| assert!(pair.client.send(ours, numbered(n))));
    pair.exchange();
    let all = Disposition {
        role: Role::Receiver,
        first: 0,
        last: Some(u32::MAX),
        settled: true,
        state: Some(DeliveryState::Accepted(Accepted {})),
        batchable: false,
    };
    for _ in 0..1_000 {
        pair.client.handle_frame(Frame::new(0u16, FrameBody::Disposition(all.clone())), pair.now);
    }
    assert_eq!(outcomes(&pair.client_events()).len(), 2);
}

#[test]
fn a_flow_without_next_incoming_id_counts_from_our_begin_unless_the_peer_has_answered_it() {
    let mut pair = Pair::new();
    let session = pair.client.begin().unwrap();
    let (ours, _) = pair.link_on(session, AttachOptions::sender("s", "/events"), ACCEPT);
    let (_, theirs) =
        pair.link_on(session, AttachOptions::receiver("r", "/devicebound", Credit::Auto(9)), ACCEPT);
    pair.client.send(ours, numbered(0));
    pair.server.send(theirs, numbered(0));
    pair.exchange();
    let flow = Flow {
        next_incoming_id: None,
        incoming_window: 3,
        next_outgoing_id: 1,
        outgoing_window: 10,
        handle: None,
        delivery_count: None,
        link_credit: None,
        available: None,
        drain: false,
        echo: false,
        properties: None,
    };
    let window =
        |connection: &Connection| connection.sessions.values().next().unwrap().remote_incoming_window;
    pair.client.handle_frame(Frame::new(0u16, FrameBody::Flow(flow.clone())), pair.now);
    assert_eq!(window(&pair.client), 3, "the server has answered this begin: three from now");
    pair.server.handle_frame(Frame::new(0u16, FrameBody::Flow(flow)), pair.now);
    assert_eq!(
        window(&pair.server),
        2,
        "the client may not have seen it: three from the beginning, one is used"
    );
}

#[test]
fn a_peer_that_never_sends_next_incoming_id_does_not_stall_us() {
    let mut server = Config::new("server");
    server.omit_next_incoming_id = true;
    server.incoming_window = 7;
    let mut pair = Pair::with(Config::new("client"), server);
    let (ours, _) = pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    (0..50).for_each(|n| assert!(pair.client.send(ours, numbered(n))));
    pair.exchange();
    assert_eq!(messages(pair.server_events()).len(), 50);
}

#[test]
fn heartbeats_go_out_at_half_the_peers_time_out_and_silence_ends_it_at_twice_ours() {
    let mut client = Config::new("client");
    client.idle_timeout = Duration::from_secs(40);
    let mut server = Config::new("server");
    server.idle_timeout = Duration::from_secs(10);
    let mut pair = Pair::with(client, server);
    let start = pair.now;
    assert_eq!(pair.client.poll_timeout(), Some(start + Duration::from_secs(5)));
    pair.now += Duration::from_secs(5);
    pair.client.handle_timeout(pair.now);
    let beat = pair.client.poll_transmit(pair.now).unwrap();
    assert!(matches!(beat.body, FrameBody::Empty));
    // The server stays silent from here.
    pair.client_events();
    pair.now = start + Duration::from_secs(80);
    pair.client.handle_timeout(pair.now);
    assert!(matches!(pair.client_events()[..], [Event::Closed(CloseCause::IdleTimeout)]));
    assert_eq!(pair.client.poll_timeout(), None);
}

#[test]
fn an_orderly_close_is_answered_and_later_frames_are_void() {
    let mut pair = Pair::new();
    let (ours, _) = pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    pair.client.close(None);
    assert!(!pair.client.send(ours, numbered(1)));
    pair.exchange();
    assert!(matches!(pair.client_events().last(), Some(Event::Closed(CloseCause::Requested))));
    assert!(matches!(pair.server_events().last(), Some(Event::Closed(CloseCause::Remote(None)))));
    pair.server.handle_frame(Frame::empty(), pair.now);
    assert!(pair.server.poll_event().is_none());
}

#[test]
fn frames_out_of_place_close_the_connection_with_a_reason() {
    let begin_first = |pair: &mut Pair| {
        let mut fresh = Connection::new(Side::Server, Config::new("fresh"), pair.now);
        let end = fe2o3_amqp_types::performatives::End { error: None };
        fresh.handle_frame(Frame::new(0u16, FrameBody::End(end)), pair.now);
        fresh
    };
    let mut pair = Pair::new();
    let mut fresh = begin_first(&mut pair);
    assert!(matches!(fresh.poll_event(), Some(Event::Closed(CloseCause::Protocol(_)))));
    let sent: Vec<_> = std::iter::from_fn(|| fresh.poll_transmit(pair.now)).map(|f| f.body).collect();
    assert!(matches!(&sent[..], [FrameBody::Open(_), FrameBody::Close(c)] if c.error.is_some()));

    let end = fe2o3_amqp_types::performatives::End { error: None };
    pair.server.handle_frame(Frame::new(77u16, FrameBody::End(end)), pair.now);
    assert!(matches!(pair.server_events().last(), Some(Event::Closed(CloseCause::Protocol(_)))));
}

#[test]
fn ended_sessions_free_their_channel_and_name_their_links() {
    let mut pair = Pair::new();
    let (ours, _) = pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    let session = pair.client.session_of(ours).unwrap();
    pair.client.end(session, None);
    pair.exchange();
    let events = pair.client_events();
    let Some(Event::Ended { links, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(links, &[ours]);
    assert!(pair.client.sessions.is_empty() && pair.server.sessions.is_empty());
    assert!(pair.server.links.is_empty() && pair.server.by_remote_channel.is_empty());
}

/// As rhea does when transfers cross its end.
#[test]
fn what_is_settled_after_the_end_of_its_session_is_void() {
    let mut pair = Pair::new();
    pair.link(AttachOptions::receiver("r", "/queue", Credit::Auto(10)), ACCEPT);
    let channel = pair.server.sessions.values().next().unwrap().remote_channel.unwrap();
    let flow = pair.client.session_flow(SessionId(channel)).unwrap();
    pair.client.end(SessionId(channel), None);
    pair.exchange();
    assert!(pair.server.sessions.is_empty());
    let disposition = Disposition {
        role: Role::Receiver,
        first: 0,
        last: None,
        settled: true,
        state: Some(DeliveryState::Accepted(Accepted {})),
        batchable: false,
    };
    for body in [FrameBody::Disposition(disposition), FrameBody::Flow(flow)] {
        pair.server.handle_frame(Frame::new(channel, body), pair.now);
    }
    pair.exchange();
    // The connection is still good for another session.
    pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    let end = fe2o3_amqp_types::performatives::End { error: None };
    pair.server.handle_frame(Frame::new(channel + 100, FrameBody::End(end)), pair.now);
    pair.exchange();
    assert!(pair.server_events().iter().any(|e| matches!(e, Event::Closed(CloseCause::Protocol(_)))));
}

#[test]
fn flows_leave_next_incoming_id_out_when_they_are_told_to() {
    let mut server = Config::new("server");
    server.omit_next_incoming_id = true;
    let mut pair = Pair::with(Config::new("client"), server);
    let (ours, theirs) = pair.link(AttachOptions::sender("s", "/events"), ACCEPT);
    let session = pair.server.session_of(theirs).unwrap();
    assert_eq!(pair.server.session_flow(session).unwrap().next_incoming_id, None);
    pair.client.send(ours, numbered(1));
    pair.exchange();
    assert_eq!(messages(pair.server_events()).len(), 1);
}
