//! A fleet of modules on a local hub on which everything goes wrong, and what must hold all the same.
//!
//! ```text
//! cargo run --release --example chaos -- --minutes 5 --seed 42 --modules 200
//! ```
//!
//! The same seed gives the same schedule of faults. Ends with a table, and with an error when a promise was broken:
//! a desired change missed or seen backwards, a confirmed report or message lost, a call that did not end.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

#[path = "../../tests/support/cable.rs"]
mod cable;
mod calm;
mod module;
mod plan;
mod verdict;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use iothub::{ClientOptions, ModuleClient, Multiplexer, NewModule, Registry, RetryPolicy, TwinPatch};
use iothub_emulator::{
    LocalHub,
    hub::{Effect, Rule},
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use cable::Cable;
use calm::Calm;
use module::Module;
use plan::{Fault, Plan, Random};
use verdict::Table;

/// A reply that the hub swallows costs a call this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Modules without faults whose tokens are renewed every few seconds.
const CALM: usize = 4;
/// Services that change desired properties at once.
const WRITERS: u64 = 8;
/// Modules of a device; the hub allows 50.
const PER_DEVICE: usize = 40;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let minutes: f64 = argument("--minutes").map_or(Ok(1.0), |text| text.parse())?;
    let seed: u64 = argument("--seed").map_or(Ok(1), |text| text.parse())?;
    let count: usize = argument("--modules").map_or(Ok(200), |text| text.parse())?;
    let plan = Plan::new(seed, Duration::from_secs_f64(minutes * 60.0), count);
    println!("seed {seed}: {} faults on {count} modules within {minutes} minutes", plan.steps.len());

    let before = verdict::held();
    let hub = LocalHub::start().await?;
    let registry = Registry::from_connection_string_with(&hub.connection_string(), hub.client_options())?;
    let fleet = fleet(&hub, &registry, count).await?;
    let mut calm = calm::connect(&registry, hub.client_options(), CALM).await?;
    println!("{count} modules connected, and {CALM} that nothing happens to");

    let table = run(&hub, &registry, &fleet, &mut calm, &plan, seed).await;
    println!("{table}");
    for module in &calm {
        module.client.close().await;
    }
    drop(calm);
    for module in &fleet.modules {
        module.client.close().await;
    }
    fleet.multiplexer.close().await;
    drop(fleet);
    drop(registry);
    hub.shutdown().await;
    let (tasks, files) = verdict::left_over(before).await;
    println!("left over: {tasks} tasks, {files} open files");
    if table.broken() || tasks + files > 0 {
        return Err("a promise was broken, see the table".into());
    }
    Ok(())
}

/// Modules, and the cables some of them hang on.
struct Fleet {
    modules: Vec<Arc<Module>>,
    cables: Vec<Cable>,
    multiplexer: Multiplexer,
}

/// Every other module has a connection of its own, through a cable of its own; the others share one.
async fn fleet(
    hub: &LocalHub,
    registry: &Registry,
    count: usize,
) -> Result<Fleet, Box<dyn std::error::Error>> {
    for device in 0..count.div_ceil(PER_DEVICE) {
        registry.create_device(format!("d{device}")).await?;
    }
    let (multiplexer, shared) = (Multiplexer::new(), Cable::to(hub.amqps_port()).await);
    let mut cables = vec![shared];
    for _ in (0..count).step_by(2) {
        cables.push(Cable::to(hub.amqps_port()).await);
    }
    let connects = stream::iter(0..count).map(|n| {
        let (registry, multiplexer) = (registry.clone(), multiplexer.clone());
        let own = n % 2 == 0;
        let port = if own { cables[1 + n / 2].port() } else { cables[0].port() };
        let options = ClientOptions { amqps_port: Some(port), ..hub.client_options() };
        async move {
            let device = format!("d{}", n / PER_DEVICE);
            let module = registry.add_module(&device, NewModule::new(format!("m{n}"))).await?;
            let string = module.connection_string(registry.host_name()).ok_or("no key")?;
            let quick = RetryPolicy { ceiling: Duration::from_secs(2), ..RetryPolicy::default() };
            let mut builder = ModuleClient::builder(&string)?
                .options(options)
                .retry(quick)
                .idle_timeout(Duration::from_secs(2))
                .call_timeout(CALL_TIMEOUT);
            if !own {
                builder = builder.multiplexer(&multiplexer);
            }
            let client = builder.connect().await?;
            Ok::<_, Box<dyn std::error::Error>>(Arc::new(Module::new(n, device, client)))
        }
    });
    let modules: Vec<_> =
        connects.buffered(16).collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
    Ok(Fleet { modules, cables, multiplexer })
}

/// Work and faults side by side, then quiet, then the reckoning.
async fn run(
    hub: &LocalHub,
    registry: &Registry,
    fleet: &Fleet,
    calm: &mut [Calm],
    plan: &Plan,
    seed: u64,
) -> Table {
    let works: Vec<_> = fleet.modules.iter().map(|module| tokio::spawn(module.clone().work())).collect();
    let mut writes = JoinSet::new();
    for writer in 0..WRITERS {
        writes.spawn(write(registry.clone(), fleet.modules.clone(), seed ^ (writer << 32)));
    }
    let mut table = Table::default();
    let begin = Instant::now();
    for step in &plan.steps {
        sleep_until(begin + step.at).await;
        table.count(&step.fault);
        cause(hub, fleet, step.fault.clone()).await;
    }
    sleep_until(begin + plan.length).await;

    hub.hub().faults().clear();
    fleet.cables.iter().for_each(Cable::mend);
    fleet.modules.iter().for_each(|module| module.stop.store(true, Relaxed));
    writes.shutdown().await;
    for work in works {
        work.await.unwrap();
    }
    // After a failover the hub is elsewhere.
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    for module in calm.iter_mut() {
        module.finish().await;
    }
    verdict::judge(&mut table, &registry, &fleet.modules, calm).await;
    table
}

/// The service half of the chaos: desired properties of random modules change all the time.
async fn write(registry: Registry, modules: Vec<Arc<Module>>, seed: u64) {
    let mut random = Random(seed ^ 0xdead);
    for n in 0_u64.. {
        let module = &modules[random.below(modules.len() as u64) as usize];
        let value = if random.below(5) == 0 { json!(null) } else { json!(n) };
        let patch = TwinPatch::new().desired(&json!({ (format!("k{}", random.below(4))): value }));
        registry.update_module_twin(&module.device, &module.id, &patch).await.ok();
        sleep(Duration::from_millis(2)).await;
    }
}

async fn cause(hub: &LocalHub, fleet: &Fleet, fault: Fault) {
    let faults = hub.hub().faults();
    let cable = |n: usize| &fleet.cables[n % fleet.cables.len()];
    match fault {
        Fault::Cut(n) => cable(n).cut(),
        Fault::Freeze(n) => cable(n).freeze(),
        Fault::Mend(n) => cable(n).mend(),
        Fault::Message(n, operation) => fleet.modules[n].misbehave(operation),
        Fault::Disrupt(n, disruption) => drop(faults.disrupt(&fleet.modules[n].identity(), disruption)),
        Fault::Towards(n, effect, times) => {
            faults.add(Rule::new(effect).only_for(fleet.modules[n].identity()).times(times));
        }
        Fault::Everybody(effect, lasting) => faults.add(Rule::new(effect).lasting(lasting)),
        Fault::Redirect(n, whole_connection) => {
            let effect = Effect::Redirect { whole_connection, port: hub.amqps_port() };
            faults.add(Rule::new(effect).only_for(fleet.modules[n].identity()).times(1));
        }
        Fault::Failover => {
            let port = hub.failover().await.unwrap();
            fleet.cables.iter().for_each(|cable| cable.retarget(port));
        }
    }
}

/// The value after a flag.
fn argument(flag: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != flag).nth(1)
}
