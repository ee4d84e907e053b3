//! Nothing grows: after thousands of forced reconnections tasks and sockets are what they were.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use iothub::{ClientOptions, ModuleClient, RetryPolicy};
use support::{Bench, Cable, within};
use tokio::runtime::Handle;

/// Enough for a leak of one task, socket or KiB a time to show; the rest of the promise is kept by `chaos`.
const RECONNECTS: u64 = 5_000;
/// Before the baseline is taken: caches are filled, pools have their size.
const WARM_UP: u64 = 200;

#[tokio::test]
async fn five_thousand_forced_reconnections_leave_nothing_behind() {
    let bench = Bench::start().await;
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    let soon = Duration::from_millis(1);
    let retry = RetryPolicy { initial: soon, ceiling: soon, max_retries: None };
    let builder = ModuleClient::builder(&bench.module).unwrap().options(options).retry(retry);
    let client = within(builder.connect()).await.unwrap();
    let mut desired = within(client.twin().desired()).await.unwrap();
    within(desired.next()).await.unwrap();

    let mut baseline = None;
    for round in 0..RECONNECTS {
        if round == WARM_UP {
            baseline = Some(settled(None).await);
        }
        let mut changes = client.status_changes();
        cable.cut();
        while within(changes.next()).await.unwrap().is_connected() {}
        cable.mend();
        while !within(changes.next()).await.unwrap().is_connected() {}
    }
    // The client still works, the subscription included.
    let patch = iothub::TwinPatch::new().desired(&serde_json::json!({ "still": "here" }));
    within(bench.registry.update_module_twin(support::DEVICE, support::MODULE, &patch)).await.unwrap();
    assert_eq!(within(desired.next()).await.unwrap().version(), 2);

    let (tasks, sockets, memory) = baseline.unwrap();
    let (tasks_now, sockets_now, memory_now) = settled(baseline).await;
    assert!(tasks_now <= tasks, "{tasks_now} tasks, {tasks} before");
    assert!(sockets_now <= sockets, "{sockets_now} open files, {sockets} before");
    // 4 KiB a reconnection would be over 18 MiB.
    assert!(memory_now <= memory + (8 << 20), "{memory_now} bytes, {memory} before");
}

/// Tasks, open files and resident bytes, as soon as tasks and files are not more than `wanted`.
async fn settled(wanted: Option<(usize, usize, usize)>) -> (usize, usize, usize) {
    let look = || (Handle::current().metrics().num_alive_tasks(), open_files(), resident());
    // What has just been cut ends in its own time; the other tasks run while this one yields.
    for _ in 0..100_000 {
        let now = look();
        if wanted.is_none_or(|(tasks, files, _)| now.0 <= tasks && now.1 <= files) {
            return now;
        }
        tokio::task::yield_now().await;
    }
    look()
}

/// Zero where there is no such file: then only tasks are compared.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
