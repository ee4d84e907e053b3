//! One module at work: it reports, sends, and follows its desired properties, and keeps count.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use iothub::{DesiredUpdate, Error, ErrorKind, Message, ModuleClient};
use iothub_common::Identity;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};

/// The time limit of a call, and some more for a machine that is busy.
const MUST_END: Duration = Duration::from_secs(35);
const PAUSE: Duration = Duration::from_millis(30);

pub(crate) struct Module {
    pub(crate) number: usize,
    pub(crate) device: String,
    pub(crate) id: String,
    pub(crate) client: ModuleClient,
    pub(crate) stop: AtomicBool,
    pub(crate) counts: Counts,
    /// What an application has that applied every update.
    pub(crate) desired: Mutex<Desired>,
    /// Numbers of messages that the hub confirmed.
    pub(crate) confirmed: Mutex<BTreeSet<u64>>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) reports: AtomicU64,
    pub(crate) reports_unknown: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) updates: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) stuck: AtomicU64,
    pub(crate) backwards: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Desired {
    pub(crate) version: u64,
    pub(crate) state: Map<String, Value>,
}

impl Module {
    pub(crate) fn new(number: usize, device: String, client: ModuleClient) -> Self {
        Self {
            number,
            device,
            id: client.module_id().to_owned(),
            client,
            stop: AtomicBool::new(false),
            counts: Counts::default(),
            desired: Mutex::default(),
            confirmed: Mutex::default(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::module(&self.device, &self.id).unwrap()
    }

    pub(crate) async fn work(self: Arc<Self>) {
        let follower = tokio::spawn(self.clone().follow());
        tokio::join!(self.report(), self.send());
        // What was written last may still be on its way: the verdict waits for it.
        while !self.stop.load(Relaxed) {
            sleep(PAUSE).await;
        }
        drop(follower);
    }

    /// Sends a message that the hub takes as an order to misbehave. Nobody waits for it.
    pub(crate) fn misbehave(&self, operation: &'static str) {
        let client = self.client.clone();
        let message = Message::from("fault")
            .property("AzIoTHub_FaultOperationType", operation)
            .property("AzIoTHub_FaultOperationCloseReason", "boom")
            .property("AzIoTHub_FaultOperationDelayInSecs", "0")
            .property("AzIoTHub_FaultOperationDurationInSecs", "1");
        tokio::spawn(async move { client.send(message).await.ok() });
    }

    async fn report(&self) {
        for n in 0_u64.. {
            if self.stop.load(Relaxed) {
                return;
            }
            match self.ends(self.client.twin().report(&json!({ "n": n }))).await {
                Some(Ok(_)) => self.counts.reports.fetch_add(1, Relaxed),
                Some(Err(error)) if error.may_have_been_applied() => {
                    self.counts.reports_unknown.fetch_add(1, Relaxed)
                }
                _ => self.counts.failures.fetch_add(1, Relaxed),
            };
            sleep(PAUSE).await;
        }
    }

    async fn send(&self) {
        for n in 0_u64.. {
            if self.stop.load(Relaxed) {
                return;
            }
            let text = format!("{}:{n}", self.number);
            match self.ends(self.client.send(text)).await {
                Some(Ok(())) => {
                    self.counts.messages.fetch_add(1, Relaxed);
                    self.confirmed.lock().unwrap().insert(n);
                }
                _ => drop(self.counts.failures.fetch_add(1, Relaxed)),
            }
            sleep(PAUSE).await;
        }
    }

    /// The result of a call, or `None` when it did not end, or the client gave up, which it never may here.
    async fn ends<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Option<Result<T, Error>> {
        let begin = Instant::now();
        match timeout(MUST_END, call).await {
            Ok(Err(error)) if error.kind() == ErrorKind::Closed => {
                eprintln!("module {} closed: {error:?}", self.id);
                self.counts.stuck.fetch_add(1, Relaxed);
                None
            }
            Ok(result) => Some(result),
            Err(_) => {
                eprintln!("module {}: a call did not end within {:?}", self.id, begin.elapsed());
                self.counts.stuck.fetch_add(1, Relaxed);
                None
            }
        }
    }

    async fn follow(self: Arc<Self>) {
        let mut updates = loop {
            match self.client.twin().desired().await {
                Ok(updates) => break updates,
                Err(error) if error.is_retryable() => {}
                Err(_) => return,
            }
        };
        while let Some(update) = updates.next().await {
            self.counts.updates.fetch_add(1, Relaxed);
            self.apply(update);
        }
    }

    fn apply(&self, update: DesiredUpdate) {
        let mut desired = self.desired.lock().unwrap();
        if update.version() <= desired.version {
            self.counts.backwards.fetch_add(1, Relaxed);
        }
        desired.version = update.version();
        let mut content: Map<String, Value> = update.properties().to().unwrap_or_default();
        content.remove("$version");
        if matches!(update, DesiredUpdate::Snapshot(_)) {
            desired.state.clear();
        }
        for (key, value) in content {
            if value.is_null() {
                desired.state.remove(&key);
            } else {
                desired.state.insert(key, value);
            }
        }
    }
}
