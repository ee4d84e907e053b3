use super::*;
use crate::hub::HubConfig;

const MINUTE: Duration = Duration::from_secs(60);

fn faults() -> Faults {
    Hub::new(HubConfig::default()).faults()
}

fn hits(faults: &Faults, calls: usize) -> Vec<bool> {
    (0..calls).map(|_| faults.http_call().is_err()).collect()
}

#[test]
fn nothing_is_refused_unless_asked_for() {
    let faults = faults();
    assert_eq!(hits(&faults, 3), [false; 3]);
    assert_eq!(faults.throttled(), 0);
}

#[test]
fn every_nth_is_refused_in_the_hubs_words() {
    let faults = faults();
    faults.throttle(Portion::EveryNth(3), MINUTE);
    assert_eq!(hits(&faults, 6), [false, false, true, false, false, true]);
    assert_eq!(faults.throttled(), 2);
    faults.throttle_with_retry_after(Portion::EveryNth(1), MINUTE, Duration::from_secs(7));
    let fault = faults.http_call().err();
    assert_eq!(fault.as_ref().map(|fault| fault.error.code), Some(429_003));
    assert_eq!(fault.and_then(|fault| fault.retry_after), Some(Duration::from_secs(7)));
    faults.throttle(Portion::EveryNth(0), MINUTE);
    assert_eq!(hits(&faults, 2), [false; 2]);
}

#[test]
fn a_fraction_is_kept_and_the_same_for_the_same_seed() {
    let faults = faults();
    faults.throttle(0.5, MINUTE);
    let first = hits(&faults, 1000);
    let count = first.iter().filter(|hit| **hit).count();
    assert!((450..550).contains(&count), "{count} of 1000");
    assert_ne!(hits(&faults, 1000), first);
    faults.seed(0);
    assert_eq!(hits(&faults, 1000), first);
    for (fraction, hit) in [(0.0, false), (1.0, true)] {
        faults.throttle(fraction, MINUTE);
        assert_eq!(hits(&faults, 100), [hit; 100]);
    }
}

#[test]
fn it_ends_by_the_hubs_clock_or_when_told() {
    let faults = faults();
    faults.throttle(1.0, MINUTE);
    assert_eq!(hits(&faults, 1), [true]);
    faults.hub.advance(MINUTE);
    assert_eq!(hits(&faults, 1), [false]);
    faults.throttle(1.0, Duration::MAX);
    assert_eq!(hits(&faults, 1), [true]);
    faults.clear();
    assert_eq!(hits(&faults, 1), [false]);
}

#[test]
fn calls_fail_with_the_status_asked_for() {
    let faults = faults();
    for (status, expected) in [(500, 500), (503, 503), (504, 504), (502, 502), (200, 500)] {
        faults.add(Rule::new(Effect::FailHttp(status)).times(1));
        assert_eq!(faults.http_call().unwrap_err().error.status, expected);
        assert!(faults.http_call().is_ok());
    }
    assert_eq!(faults.hub.counters().faults["failHttp"], 5);
}
