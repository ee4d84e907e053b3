//! The telemetry buffer: nothing that it took is lost, and nothing waits for ever.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use iothub::{
    ClientOptions, DeviceClient, ErrorKind, Message, ModuleClient, RetryPolicy, TelemetryBuffer, WhenFull,
};
use iothub_common::Identity;
use iothub_emulator::hub::{Disruption, Effect, LinkKind, Rule, TelemetryRefusal};
use support::{Bench, Cable, within};

/// What has arrived, in order.
fn arrived(bench: &Bench) -> Vec<String> {
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    bench.hub.hub().events().iter().map(|event| text(&event.message.body)).collect()
}

/// Each message once, where it arrived first.
fn first_arrivals(bench: &Bench) -> Vec<String> {
    let mut seen = HashSet::new();
    arrived(bench).into_iter().filter(|body| seen.insert(body.clone())).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// A client at the end of a cable, which comes back quickly.
async fn at_the_end_of(bench: &Bench, cable: &Cable) -> ModuleClient {
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    eager(bench, options).await
}

async fn eager(bench: &Bench, options: ClientOptions) -> ModuleClient {
    let soon = Duration::from_millis(5);
    let retry = RetryPolicy { initial: soon, ceiling: soon, max_retries: None };
    let builder = ModuleClient::builder(&bench.module).unwrap().options(options).retry(retry);
    within(builder.connect()).await.unwrap()
}

async fn cut(cable: &Cable, client: &ModuleClient) {
    let mut changes = client.status_changes();
    cable.cut();
    while within(changes.next()).await.unwrap().is_connected() {}
}

async fn until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        tokio::task::yield_now().await;
    }
}

async fn push_all(buffer: &TelemetryBuffer, messages: &[String]) {
    for result in within(join_all(messages.iter().map(|m| buffer.push(m.as_str())))).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn what_is_pushed_before_during_and_after_a_cut_arrives_in_order() {
    let bench = Bench::start().await;
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let buffer = TelemetryBuffer::builder().start();
    // Nobody is connected yet.
    push_all(&buffer, &numbers(0..300)).await;
    assert_eq!(buffer.stats().waiting, 300);
    let client = at_the_end_of(&bench, &cable).await;
    buffer.send_through(&client);
    within(buffer.flush()).await.unwrap();
    for round in 1..6 {
        let at = 1000 * round;
        push_all(&buffer, &numbers(at..at + 200)).await;
        // Some are on their way.
        cut(&cable, &client).await;
        push_all(&buffer, &numbers(at + 200..at + 700)).await;
        let flushed = buffer.flush();
        cable.mend();
        within(flushed).await.unwrap();
    }
    let expected: Vec<_> =
        numbers(0..300).into_iter().chain((1..6).flat_map(|r| numbers(1000 * r..1000 * r + 700))).collect();
    assert_eq!(first_arrivals(&bench), expected);
    let stats = within(buffer.close()).await;
    assert_eq!((stats.waiting, stats.waiting_bytes, stats.in_flight), (0, 0, 0));
    assert_eq!((stats.pushed, stats.sent, stats.dropped, stats.refused), (3800, 3800, 0, 0));
    assert!(client.status().is_connected(), "the client is not the buffer's to close");
}

#[tokio::test]
async fn links_sessions_and_connections_that_the_hub_ends_cost_nothing_and_no_order() {
    let bench = Bench::start().await;
    let client = eager(&bench, bench.options()).await;
    let identity = Identity::module(support::DEVICE, support::MODULE).unwrap();
    let buffer = TelemetryBuffer::new(&client);
    let disruptions = [
        Disruption::DetachLink(LinkKind::Telemetry),
        Disruption::DropConnection,
        Disruption::DetachLinkQuietly(LinkKind::Telemetry),
        Disruption::EndSession,
        Disruption::CloseConnection,
        Disruption::DetachLink(LinkKind::Telemetry),
    ];
    for (round, disruption) in (0..).zip(disruptions) {
        push_all(&buffer, &numbers(300 * round..300 * round + 200)).await;
        // Over the link that is about to end; what has not left by then is cut off.
        within(until(|| buffer.stats().sent > u64::from(300 * round))).await;
        assert_eq!(bench.hub.hub().faults().disrupt(&identity, disruption), 1);
        push_all(&buffer, &numbers(300 * round + 200..300 * (round + 1))).await;
    }
    within(buffer.flush()).await.unwrap();
    assert_eq!(first_arrivals(&bench), numbers(0..1800));
    assert_eq!(buffer.stats().sent, 1800);
}

#[tokio::test]
async fn messages_that_the_hub_declines_for_now_are_sent_again_and_only_those() {
    let bench = Bench::start().await;
    let client = eager(&bench, bench.options()).await;
    let refuse = Effect::RefuseTelemetry(TelemetryRefusal::Unauthorized);
    bench.hub.hub().faults().add(Rule::new(refuse).portion(0.1).times(30));
    let buffer = TelemetryBuffer::new(&client);
    push_all(&buffer, &numbers(0..500)).await;
    within(buffer.flush()).await.unwrap();
    assert_eq!(bench.hub.hub().counters().faults["refuseTelemetry"], 30);
    let mut arrived = arrived(&bench);
    arrived.sort_by_key(|n| n.parse::<u32>().unwrap());
    assert_eq!(arrived, numbers(0..500));
    let stats = buffer.stats();
    assert_eq!((stats.sent, stats.refused, stats.dropped), (500, 0, 0));
}

#[tokio::test]
async fn a_full_buffer_does_what_its_policy_says() {
    let bench = Bench::start().await;
    let device = within(bench.registry.get_device(support::DEVICE)).await.unwrap();
    let device = device.connection_string(bench.registry.host_name()).unwrap();
    let small = || TelemetryBuffer::builder().max_messages(3).push_timeout(Duration::from_millis(20));
    let wait = small().start();
    let oldest = small().when_full(WhenFull::DropOldest).start();
    let newest = small().when_full(WhenFull::DropNewest).start();
    for buffer in [&wait, &oldest, &newest] {
        push_all(buffer, &numbers(0..3)).await;
    }
    let error = within(wait.push("late")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.may_have_been_applied(), "it is certainly not stored");
    within(oldest.push("late")).await.unwrap();
    assert_eq!(within(newest.push("late")).await.unwrap_err().kind(), ErrorKind::QuotaExceeded);
    assert_eq!([&wait, &oldest, &newest].map(|b| b.stats().dropped), [0, 1, 1]);
    assert_eq!(within(wait.flush()).await.unwrap_err().kind(), ErrorKind::Timeout);

    // Who waits is let in as messages leave; nobody else is needed for that.
    let patient = TelemetryBuffer::builder().max_messages(3).start();
    push_all(&patient, &numbers(0..3)).await;
    let client = within(DeviceClient::connect_with(&device, bench.options())).await.unwrap();
    let many = numbers(3..500);
    let waiting = push_all(&patient, &many);
    patient.send_through(&client);
    within(waiting).await;
    within(patient.flush()).await.unwrap();
    assert_eq!(arrived(&bench), numbers(0..500));
    for (buffer, expected) in
        [(wait, ["0", "1", "2"]), (oldest, ["1", "2", "late"]), (newest, ["0", "1", "2"])]
    {
        let before = arrived(&bench).len();
        buffer.send_through(&client);
        within(until(|| buffer.stats().waiting == 0)).await;
        assert_eq!(arrived(&bench)[before..], expected);
        within(buffer.close()).await;
    }
}

#[tokio::test]
async fn a_message_larger_than_the_buffer_or_wrong_is_refused_at_once() {
    let buffer = TelemetryBuffer::builder().max_bytes(1000).start();
    let error = within(buffer.push(Message::new(vec![0; 1000]))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("1000"), "{error}");
    let error = within(buffer.push(Message::new("x").property("iothub-to", "y"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(buffer.stats().pushed, 0);
}

#[tokio::test]
async fn messages_wait_for_the_next_client_when_theirs_is_closed() {
    let bench = Bench::start().await;
    let first = bench.connect().await;
    let buffer = TelemetryBuffer::new(&first);
    push_all(&buffer, &numbers(0..10)).await;
    within(buffer.flush()).await.unwrap();
    within(first.close()).await;
    push_all(&buffer, &numbers(10..20)).await;
    assert_eq!(buffer.stats().waiting, 10);
    let second = bench.connect().await;
    buffer.send_through(&second);
    within(buffer.flush()).await.unwrap();
    assert_eq!(arrived(&bench), numbers(0..20));
}

#[tokio::test]
async fn after_close_nothing_is_taken_and_nobody_hangs() {
    let buffer = TelemetryBuffer::builder().max_messages(1).start();
    push_all(&buffer, &numbers(0..1)).await;
    let other = buffer.clone();
    let stuck = tokio::spawn(async move { other.push("2").await });
    let other = buffer.clone();
    let flushing = tokio::spawn(async move { other.flush().await });
    tokio::task::yield_now().await;
    let stats = within(buffer.close()).await;
    assert_eq!((stats.waiting, stats.pushed), (1, 1));
    assert_eq!(within(stuck).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(within(flushing).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(within(buffer.push("3")).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(within(buffer.flush()).await.unwrap_err().kind(), ErrorKind::Closed);
    within(buffer.close()).await;
}

#[tokio::test]
async fn a_message_that_the_hub_refuses_for_good_is_reported_and_holds_nobody_up() {
    let bench = Bench::start().await;
    let refused = Arc::new(Mutex::new(Vec::new()));
    let sink = refused.clone();
    let store = poison::Poisoned::default();
    let buffer = TelemetryBuffer::builder()
        .store(store)
        .on_refused(move |refused| sink.lock().unwrap().push(refused))
        .start();
    push_all(&buffer, &numbers(0..5)).await;
    within(buffer.push(Message::new(poison::MARK))).await.unwrap();
    push_all(&buffer, &numbers(5..10)).await;
    let client = bench.connect().await;
    buffer.send_through(&client);
    within(buffer.flush()).await.unwrap();
    assert_eq!(arrived(&bench), numbers(0..10));
    let refused = refused.lock().unwrap();
    assert_eq!(refused.len(), 1);
    assert!(matches!(refused[0].error.kind(), ErrorKind::InvalidInput | ErrorKind::Rejected));
    let stats = buffer.stats();
    assert_eq!((stats.sent, stats.refused, stats.waiting), (10, 1, 0));
}

/// What the client lets through and the hub does not take: bytes that are no message.
mod poison {
    use bytes::Bytes;
    use iothub::{
        Result,
        device::{MemoryStore, MessageStore},
    };

    pub(super) const MARK: &str = "poison";

    /// Puts something else in the place of messages that have the mark.
    #[derive(Default)]
    pub(super) struct Poisoned(MemoryStore);

    impl MessageStore for Poisoned {
        fn push(&mut self, messages: &[Bytes]) -> Result<()> {
            let spoilt = |message: &Bytes| {
                let marked = message.windows(MARK.len()).any(|part| part == MARK.as_bytes());
                if marked { Bytes::from_static(b"no message") } else { message.clone() }
            };
            self.0.push(&messages.iter().map(spoilt).collect::<Vec<_>>())
        }

        fn read(&self, from: u64, max: usize) -> Result<Vec<(u64, Bytes)>> {
            self.0.read(from, max)
        }

        fn remove(&mut self, positions: &[u64]) -> Result<()> {
            self.0.remove(positions)
        }

        fn end(&self) -> u64 {
            self.0.end()
        }

        fn len(&self) -> usize {
            self.0.len()
        }

        fn bytes(&self) -> u64 {
            self.0.bytes()
        }
    }
}

#[cfg(feature = "file-buffer")]
mod file {
    use std::{
        io::{BufRead, BufReader, Write},
        path::Path,
        process::{Command, Stdio},
    };

    use iothub::device::FileStore;

    use super::*;

    /// Where the child process of [`nothing_confirmed_is_lost_when_the_process_is_killed`] keeps its file.
    const CHILD_FILE: &str = "IOTHUB_TEST_BUFFER_FILE";

    fn open(path: &Path) -> TelemetryBuffer {
        TelemetryBuffer::builder().max_messages(1_000_000).store(FileStore::open(path).unwrap()).start()
    }

    #[tokio::test]
    async fn messages_survive_a_restart_and_those_that_arrived_do_not_come_back() {
        let bench = Bench::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telemetry");
        let client = bench.connect().await;
        let buffer = open(&path);
        push_all(&buffer, &numbers(0..100)).await;
        buffer.send_through(&client);
        within(buffer.flush()).await.unwrap();
        within(client.close()).await;
        push_all(&buffer, &numbers(100..200)).await;
        // The file is free as soon as this returns.
        assert_eq!(within(buffer.close()).await.waiting, 100);

        let buffer = open(&path);
        assert_eq!(buffer.stats().waiting, 100);
        push_all(&buffer, &numbers(200..250)).await;
        let client = bench.connect().await;
        buffer.send_through(&client);
        within(buffer.flush()).await.unwrap();
        assert_eq!(arrived(&bench), numbers(0..250));
        within(buffer.close()).await;
        assert_eq!(open(&path).stats().waiting, 0);
    }

    #[tokio::test]
    async fn a_buffer_that_is_dropped_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telemetry");
        let buffer = open(&path);
        push_all(&buffer, &numbers(0..10)).await;
        drop(buffer);
        let store = within(async {
            loop {
                match FileStore::open(&path) {
                    Ok(store) => return store,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let buffer = TelemetryBuffer::builder().store(store.await).start();
        assert_eq!(buffer.stats().waiting, 10);
    }

    #[tokio::test]
    async fn nothing_confirmed_is_lost_when_the_process_is_killed() {
        let bench = Bench::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telemetry");
        let client = bench.connect().await;
        let mut expected = Vec::new();
        for round in 0..3 {
            let count = 40 + 30 * round;
            let confirmed = kill_after(&path, count);
            assert!(confirmed.len() >= count);
            let buffer = open(&path);
            buffer.send_through(&client);
            within(buffer.flush()).await.unwrap();
            within(buffer.close()).await;
            let arrived = arrived(&bench);
            let new = &arrived[expected.len()..];
            assert_eq!(new[..confirmed.len()], confirmed);
            // Some more were stored and not confirmed; there is no gap.
            assert_eq!(new, numbers(0..u32::try_from(new.len()).unwrap()));
            expected = arrived;
        }
    }

    /// Kills a process that pushes after it said of `count` messages that they are stored. Returns all of which it
    /// said so.
    fn kill_after(path: &Path, count: usize) -> Vec<String> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "file::child_pushes_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD_FILE, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A line that is cut off says nothing.
        let stored = |line: std::io::Result<String>| {
            Some(line.unwrap().strip_prefix("stored ")?.strip_suffix(';')?.to_owned())
        };
        let mut confirmed: Vec<_> = lines.by_ref().filter_map(stored).take(count).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        confirmed.extend(lines.filter_map(stored));
        confirmed
    }

    #[tokio::test]
    #[ignore = "the child process of another test"]
    async fn child_pushes_until_it_is_killed() {
        let Some(path) = std::env::var_os(CHILD_FILE) else { return };
        let buffer = open(Path::new(&path));
        let mut out = std::io::stdout();
        for n in 0.. {
            buffer.push(n.to_string()).await.unwrap();
            out.write_all(format!("stored {n};\n").as_bytes()).unwrap();
            out.flush().unwrap();
        }
    }
}
