//! Links that one end receives on, as the sender sees them: credit, drain, outcomes left unsettled.

use super::*;

fn receiver(credit: Credit) -> AttachOptions {
    AttachOptions::receiver("r", "/devicebound", credit)
}

fn credits(events: &[Event]) -> Vec<LinkId> {
    let credit = |event: &Event| match event {
        Event::Credit { link } => Some(*link),
        _ => None,
    };
    events.iter().filter_map(credit).collect()
}

#[test]
fn the_sender_hears_of_credit_it_has_no_message_for() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.link(receiver(Credit::Manual), ACCEPT);
    pair.server.send(theirs, numbered(1));
    pair.exchange();
    assert_eq!(credits(&pair.server_events()), []);
    // One message waits, so one credit is not news.
    pair.client.grant(ours, 1);
    pair.exchange();
    assert_eq!(credits(&pair.server_events()), []);
    pair.client.grant(ours, 2);
    pair.exchange();
    assert_eq!(credits(&pair.server_events()), [theirs]);
    assert_eq!(pair.server.credit(theirs), 2);
}

fn drain(pair: &mut Pair, link: LinkId, credit: u32) {
    pair.client.grant(link, credit);
    pair.exchange_with(|mut frame| {
        if let FrameBody::Flow(flow) = &mut frame.body {
            flow.drain = flow.link_credit.is_some();
        }
        frame
    });
}

#[test]
fn a_drained_sender_gives_back_what_it_does_not_use_after_it_was_asked_for_more() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.link(receiver(Credit::Manual), ACCEPT);
    pair.server_events();
    drain(&mut pair, ours, 5);
    // The sender has not been asked yet whether it has something.
    assert_eq!(pair.server.credit(theirs), 5);
    assert_eq!(credits(&pair.server_events()), [theirs]);
    pair.server.send(theirs, numbered(1));
    pair.exchange();
    assert_eq!(messages(pair.client_events()).len(), 1);
    assert_eq!((pair.server.credit(theirs), pair.client.links[&ours].delivery_count), (0, 1));
    assert_eq!(pair.server.links[&theirs].delivery_count, 5);
    assert!(pair.server.draining.is_empty());
}

#[test]
fn held_outcomes_wait_for_the_senders_own_word() {
    let mut pair = Pair::new();
    let options = AttachOptions { rcv_settle_mode: ReceiverSettleMode::Second, ..receiver(Credit::Auto(10)) };
    let (_, theirs) = pair.link(options, ACCEPT);
    pair.server.hold_outcomes(theirs);
    (4..6).for_each(|token| assert!(pair.server.send(theirs, numbered(token))));
    pair.exchange();
    let accepted = DeliveryState::Accepted(Accepted {});
    for delivery in messages(pair.client_events()) {
        assert!(pair.client.dispose(delivery.link, delivery.id, accepted.clone(), false));
    }
    pair.exchange();
    assert_eq!(outcomes(&pair.server_events()), [(4, Outcome::Accepted), (5, Outcome::Accepted)]);
    assert!(pair.client_events().is_empty());

    let refused = DeliveryState::Rejected(Rejected { error: Some(error("the lock is lost")) });
    assert!(pair.server.settle(theirs, 5, refused.clone()));
    assert!(!pair.server.settle(theirs, 5, refused.clone()), "settled already");
    pair.exchange();
    let events = pair.client_events();
    let [Event::Settled { delivery: 1, state, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(state.as_ref(), Some(&refused));

    // What nobody settled goes with the link.
    pair.server.detach(theirs, None);
    pair.exchange();
    assert!(!pair.server.settle(theirs, 4, accepted));
    assert!(pair.server.sessions.values().all(|session| session.held.is_empty()));
}

#[test]
fn outcomes_that_came_settled_are_not_held() {
    let mut pair = Pair::new();
    let (_, theirs) = pair.link(receiver(Credit::Auto(10)), ACCEPT);
    pair.server.hold_outcomes(theirs);
    pair.server.send(theirs, numbered(1));
    pair.exchange();
    let got = messages(pair.client_events()).remove(0);
    pair.client.dispose(got.link, got.id, DeliveryState::Accepted(Accepted {}), true);
    pair.exchange();
    assert_eq!(outcomes(&pair.server_events()), [(1, Outcome::Accepted)]);
    assert!(!pair.server.settle(theirs, 1, DeliveryState::Accepted(Accepted {})));
}
