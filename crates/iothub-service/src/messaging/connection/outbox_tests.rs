use iothub_amqp::amqp_error;
use iothub_common::Result;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::*;

type Answer = oneshot::Receiver<Result<()>>;

/// Rests for 100 ms at most, then 200 ms and so on.
fn policy() -> RetryPolicy {
    RetryPolicy { initial: Duration::from_millis(100), ..RetryPolicy::default() }
}

struct Bench {
    outbox: Outbox,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { outbox: Outbox::new(&policy()), now: Instant::now() }
    }

    fn push(&mut self, seconds: u64) -> Answer {
        let (reply, answer) = oneshot::channel();
        let to = Identity::device("dev-1").unwrap();
        self.outbox.push(Bytes::from_static(b"x"), to, self.at(seconds), reply);
        answer
    }

    fn at(&self, seconds: u64) -> Instant {
        self.now + Duration::from_secs(seconds)
    }

    fn started(&mut self, seconds: u64) -> Vec<u64> {
        let now = self.at(seconds);
        std::iter::from_fn(|| self.outbox.start_next(now).map(|(number, _)| number)).collect()
    }

    fn outcome(&mut self, number: u64, outcome: Outcome) {
        self.outbox.on_outcome(number, outcome, self.now);
    }

    fn rejected(&mut self, number: u64, condition: &str) {
        self.outcome(number, Outcome::Rejected(Some(amqp_error(condition, "because"))));
    }
}

fn waits(answer: &mut Answer) -> bool {
    matches!(answer.try_recv(), Err(TryRecvError::Empty))
}

fn error(mut answer: Answer) -> Error {
    answer.try_recv().unwrap().unwrap_err()
}

#[test]
fn what_was_not_handed_over_is_sent_again_in_order_and_what_was_is_not() {
    let mut bench = Bench::new();
    let mut answers: Vec<_> = (0..4).map(|_| bench.push(60)).collect();
    assert_eq!(bench.started(0), [0, 1, 2, 3]);
    bench.outcome(0, Outcome::Accepted);
    bench.outcome(1, Outcome::Lost { sent: true });
    bench.outcome(3, Outcome::Lost { sent: false });
    bench.outcome(2, Outcome::Lost { sent: false });
    bench.outbox.on_lost(&Error::new(ErrorKind::Unavailable, "cut"));
    answers.remove(0).try_recv().unwrap().unwrap();
    let lost = error(answers.remove(0));
    assert_eq!(lost.kind(), ErrorKind::Unavailable);
    assert!(lost.may_have_been_applied());
    assert!(lost.to_string().contains("dev-1"), "{lost}");
    assert!(answers.iter_mut().all(waits));
    assert_eq!(bench.started(0), [2, 3]);
}

#[test]
fn refusals_are_the_hubs_words_in_our_kinds() {
    for (condition, kind, hint) in [
        ("amqp:not-found", ErrorKind::NotFound, "dev-1"),
        ("amqp:resource-limit-exceeded", ErrorKind::QuotaExceeded, "purge_message_queue"),
        ("amqp:link:message-size-exceeded", ErrorKind::InvalidInput, "because"),
        ("com.microsoft:argument-error", ErrorKind::InvalidInput, "because"),
        ("amqp:unauthorized-access", ErrorKind::Unauthorized, "credentials"),
    ] {
        let mut bench = Bench::new();
        let answer = bench.push(60);
        assert_eq!(bench.started(0), [0]);
        bench.rejected(0, condition);
        let error = error(answer);
        assert_eq!(error.kind(), kind, "{condition}");
        assert!(error.to_string().contains(hint), "{error}");
        assert!(!error.may_have_been_applied());
        assert!(bench.outbox.is_empty());
    }
}

#[test]
fn a_refusal_without_a_word_is_no_success() {
    for (outcome, kind, maybe) in [
        (Outcome::Rejected(None), ErrorKind::Rejected, false),
        (Outcome::Modified, ErrorKind::Unavailable, true),
        (Outcome::Settled, ErrorKind::Unavailable, true),
    ] {
        let mut bench = Bench::new();
        let answer = bench.push(60);
        bench.started(0);
        bench.outcome(0, outcome);
        let error = error(answer);
        assert_eq!((error.kind(), error.may_have_been_applied()), (kind, maybe));
    }
}

#[test]
fn throttled_and_released_messages_rest_and_are_sent_again() {
    let mut bench = Bench::new();
    let mut answers = [bench.push(60), bench.push(60), bench.push(60)];
    assert_eq!(bench.started(0), [0, 1, 2]);
    bench.rejected(0, "com.microsoft:device-container-throttled");
    bench.outcome(1, Outcome::Released);
    bench.outcome(2, Outcome::Accepted);
    assert!(waits(&mut answers[0]) && waits(&mut answers[1]));
    let next = bench.outbox.next_deadline().unwrap();
    assert!(next <= bench.now + Duration::from_millis(100), "the rest ends");
    let mut started = bench.started(1);
    started.sort_unstable();
    assert_eq!(started, [0, 1]);
    bench.outcome(0, Outcome::Accepted);
    answers[0].try_recv().unwrap().unwrap();
}

#[test]
fn a_rest_beyond_the_deadline_is_not_waited_for() {
    let mut bench = Bench::new();
    let answer = bench.push(0);
    bench.started(0);
    bench.rejected(0, "com.microsoft:device-container-throttled");
    assert_eq!(error(answer).kind(), ErrorKind::Throttled);
}

#[test]
fn deadlines_say_whether_the_message_was_sent() {
    let mut bench = Bench::new();
    let sent = bench.push(2);
    assert_eq!(bench.started(0), [0]);
    let unsent = bench.push(1);
    assert_eq!(bench.outbox.next_deadline(), Some(bench.at(1)));
    let away = Error::new(ErrorKind::Connect, "away");
    bench.outbox.expire(bench.at(1), Some(&away));
    let late = error(unsent);
    assert_eq!((late.kind(), late.may_have_been_applied()), (ErrorKind::Timeout, false));
    assert!(std::error::Error::source(&late).unwrap().to_string().contains("away"));
    bench.outbox.expire(bench.at(2), None);
    let late = error(sent);
    assert_eq!((late.kind(), late.may_have_been_applied()), (ErrorKind::Timeout, true));
    bench.outcome(0, Outcome::Accepted);
    assert!(bench.outbox.is_empty());
    assert_eq!(bench.outbox.next_deadline(), None);
}

#[test]
fn what_nobody_waits_for_is_not_sent() {
    let mut bench = Bench::new();
    drop(bench.push(60));
    let _kept = bench.push(60);
    assert_eq!(bench.started(0), [1]);
}

#[test]
fn the_end_says_whether_the_message_was_sent() {
    let mut bench = Bench::new();
    let sent = bench.push(60);
    bench.started(0);
    let unsent = bench.push(60);
    bench.outbox.fail_all(&Error::new(ErrorKind::Closed, "closed"));
    assert!(error(sent).may_have_been_applied());
    assert!(!error(unsent).may_have_been_applied());
    let _next = bench.push(60);
    assert_eq!(bench.started(0), [2], "numbers are not used again");
}
