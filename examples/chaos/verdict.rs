//! What must hold at the end, and the table.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use iothub::{Registry, service::StartPosition};
use serde_json::{Map, Value};
use tokio::time::{sleep, timeout};

use crate::{calm::Calm, module::Module, plan::Fault};

/// How long a module may take to be where the hub is once all is quiet.
const SETTLE: Duration = Duration::from_secs(60);
/// The built-in endpoint has nothing more when it gives nothing for this long.
const NO_MORE: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(crate) struct Table {
    faults: BTreeMap<String, u64>,
    reports: u64,
    reports_unknown: u64,
    messages: u64,
    updates: u64,
    failures: u64,
    lost_messages: u64,
    lost_reports: u64,
    lost_updates: u64,
    backwards: u64,
    stuck: u64,
    renewals: u64,
    renewals_noticed: u64,
    doubled: u64,
}

impl Table {
    pub(crate) fn count(&mut self, fault: &Fault) {
        if matches!(fault, Fault::Mend(_)) {
            return;
        }
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    pub(crate) fn broken(&self) -> bool {
        let lost = self.lost_messages + self.lost_reports + self.lost_updates;
        lost + self.backwards + self.stuck + self.renewals_noticed + self.doubled > 0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.faults.values().sum();
        writeln!(f, "{:<28}{:>9}", "faults", total)?;
        for (name, count) in &self.faults {
            writeln!(f, "  {name:<26}{count:>9}")?;
        }
        let rows = [
            ("reports confirmed", self.reports),
            ("  of unknown outcome", self.reports_unknown),
            ("messages confirmed", self.messages),
            ("desired updates seen", self.updates),
            ("calls that failed and said so", self.failures),
            ("tokens renewed in the calm", self.renewals),
            ("  and noticed by anybody", self.renewals_noticed),
            ("  messages doubled there", self.doubled),
            ("LOST messages", self.lost_messages),
            ("LOST reports", self.lost_reports),
            ("LOST desired updates", self.lost_updates),
            ("versions backwards", self.backwards),
            ("stuck calls", self.stuck),
        ];
        rows.iter().try_for_each(|(name, count)| writeln!(f, "{name:<28}{count:>9}"))
    }
}

/// Waits until every module is where the hub is, then counts.
pub(crate) async fn judge(table: &mut Table, registry: &Registry, modules: &[Arc<Module>], calm: &[Calm]) {
    for module in modules {
        let counts = &module.counts;
        let (reports, unknown) = (counts.reports.load(Relaxed), counts.reports_unknown.load(Relaxed));
        table.reports += reports;
        table.reports_unknown += unknown;
        table.messages += counts.messages.load(Relaxed);
        table.failures += counts.failures.load(Relaxed);
        table.stuck += counts.stuck.load(Relaxed);
        let twin = registry.get_module_twin(&module.device, &module.id).await.unwrap();
        let applied = twin.properties.reported.version() - 1;
        if !(reports..=reports + unknown).contains(&applied) {
            eprintln!(
                "module {}: {applied} reports at the hub, {reports} confirmed, {unknown} unknown",
                module.id
            );
            table.lost_reports += 1;
        }
        let mut wanted: Map<String, Value> = twin.properties.desired.to().unwrap();
        wanted.retain(|key, _| !key.starts_with('$'));
        let there = || {
            let desired = module.desired.lock().unwrap();
            desired.version == twin.properties.desired.version() && desired.state == wanted
        };
        let wait = async {
            while !there() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(SETTLE, wait).await.is_err() {
            let desired = module.desired.lock().unwrap();
            eprintln!(
                "module {}: at version {} with {:?}, the hub at {} with {wanted:?}",
                module.id,
                desired.version,
                desired.state,
                twin.properties.desired.version()
            );
            table.lost_updates += 1;
        }
        table.updates += counts.updates.load(Relaxed);
        table.backwards += counts.backwards.load(Relaxed);
    }
    count_messages(table, registry, modules, calm).await;
}

/// Compares what was confirmed with what the built-in endpoint has.
async fn count_messages(table: &mut Table, registry: &Registry, modules: &[Arc<Module>], calm: &[Calm]) {
    let mut arrived: HashMap<String, BTreeMap<u64, u64>> = HashMap::new();
    let mut events = registry.events().start(StartPosition::Earliest).stream().await.unwrap();
    while let Ok(Some(Ok(event))) = timeout(NO_MORE, events.next()).await {
        let text = String::from_utf8_lossy(&event.body).into_owned();
        if let Some((module, n)) = text.split_once(':') {
            *arrived.entry(module.to_owned()).or_default().entry(n.parse().unwrap()).or_default() += 1;
        }
    }
    let times = |module: &str, n: &u64| arrived.get(module).and_then(|of| of.get(n)).copied().unwrap_or(0);
    for module in modules {
        let name = module.number.to_string();
        let confirmed = module.confirmed.lock().unwrap();
        table.lost_messages += confirmed.iter().filter(|n| times(&name, n) == 0).count() as u64;
    }
    for module in calm {
        table.renewals += module.tokens.load(Relaxed) - 1;
        table.renewals_noticed += module.changes.load(Relaxed);
        let confirmed = module.confirmed.lock().unwrap();
        table.lost_messages += confirmed.iter().filter(|n| times(&module.id, n) == 0).count() as u64;
        table.doubled += confirmed.iter().filter(|n| times(&module.id, n) > 1).count() as u64;
    }
}

/// What the process holds: tasks and open files, sockets among them. Zero files where there is no such list.
pub(crate) fn held() -> (usize, usize) {
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (tokio::runtime::Handle::current().metrics().num_alive_tasks(), files)
}

/// What is held and was not before, once what has ended is gone.
pub(crate) async fn left_over(before: (usize, usize)) -> (usize, usize) {
    let mut left = (0, 0);
    for _ in 0..200 {
        let now = held();
        left = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        if left == (0, 0) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    left
}
