//! Modules that nothing happens to, with tokens that end every few seconds: nobody may notice their renewals.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use iothub::{ClientOptions, ModuleClient, Registry, SymmetricKey, device::Transport};
use iothub_common::{Identity, sas};
use tokio::{task::JoinHandle, time::sleep};

const DEVICE: &str = "calm";
const TOKEN_LIFE: Duration = Duration::from_secs(3);

pub(crate) struct Calm {
    pub(crate) id: String,
    pub(crate) client: ModuleClient,
    /// Tokens asked for; the first is for the connection.
    pub(crate) tokens: Arc<AtomicU64>,
    /// Changes of the status since it was connected.
    pub(crate) changes: Arc<AtomicU64>,
    pub(crate) confirmed: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Over WebSockets, which stay where they are when the hub fails over.
pub(crate) async fn connect(
    registry: &Registry,
    options: ClientOptions,
    count: usize,
) -> Result<Vec<Calm>, Box<dyn std::error::Error>> {
    registry.create_device(DEVICE).await?;
    let mut all = Vec::new();
    for n in 0..count {
        let module = registry.add_module(DEVICE, format!("calm{n}")).await?;
        let key = module.authentication.symmetric_key.primary_key.as_ref().ok_or("no key")?;
        let key = SymmetricKey::from_base64(key.reveal())?;
        let resource = Identity::module(DEVICE, &module.module_id)?.resource_uri(registry.host_name());
        let tokens = Arc::new(AtomicU64::new(0));
        let asked = tokens.clone();
        let client = ModuleClient::builder_for(registry.host_name(), DEVICE, &module.module_id)?
            .options(options.clone())
            .transport(Transport::AmqpWebSocket)
            .sas_provider(move |_| {
                asked.fetch_add(1, Relaxed);
                let token = sas::sign(&key, &resource, None, SystemTime::now() + TOKEN_LIFE);
                async move { Ok::<_, std::io::Error>(token) }
            })
            .connect()
            .await?;
        all.push(Calm::start(module.module_id.clone(), client, tokens));
    }
    Ok(all)
}

impl Calm {
    fn start(id: String, client: ModuleClient, tokens: Arc<AtomicU64>) -> Self {
        let (changes, confirmed) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<u64>>>::default());
        let stop = Arc::<AtomicBool>::default();
        let mut statuses = client.status_changes();
        let (counted, watched) = (changes.clone(), stop.clone());
        let watch = tokio::spawn(async move {
            // The first one is that it is connected.
            statuses.next().await;
            while statuses.next().await.is_some_and(|_| !watched.load(Relaxed)) {
                counted.fetch_add(1, Relaxed);
            }
        });
        let (sender, sent, stopped, name) = (client.clone(), confirmed.clone(), stop.clone(), id.clone());
        let send = tokio::spawn(async move {
            for n in 0_u64.. {
                if stopped.load(Relaxed) {
                    return;
                }
                if sender.send(format!("{name}:{n}")).await.is_ok() {
                    sent.lock().unwrap().push(n);
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self { id, client, tokens, changes, confirmed, stop, tasks: vec![watch, send] }
    }

    /// Ends its work; the client stays until it is closed.
    pub(crate) async fn finish(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(send) = self.tasks.pop() {
            send.await.unwrap();
        }
    }
}
