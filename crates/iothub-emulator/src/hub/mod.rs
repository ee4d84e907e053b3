//! The hub itself: identities, twins, tokens and live connections, without sockets.
//!
//! [`Hub`] is a handle; its methods lock, call the pure rules in `registry`, `twin` and `token`, and push what
//! connected devices are to know before they unlock, so that pushes come in the order of writes.

mod bulk;
mod certificate;
mod clock;
mod configurations;
mod counters;
mod digital_twin;
mod error;
mod faults;
mod files;
mod jobs;
mod live;
mod messaging;
mod policy;
mod precondition;
mod query;
mod registry;
mod schedule;
mod snapshot;
mod timestamp;
mod token;
mod transfer;
mod twin;
mod workload;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use iothub_common::Identity;
use serde_json::Value;
use tokio::sync::Notify;

pub use bulk::{BulkError, BulkResult};
pub use certificate::{ClientCertificate, DeviceAuthorities};
pub use clock::Clock;
pub(crate) use counters::CountedConnection;
pub use counters::Counters;
pub use digital_twin::DigitalTwin;
pub use error::{ErrorCode, HubError};
pub use faults::{Disruption, Effect, Faults, LinkKind, Portion, Reception, Rule, TelemetryRefusal};
pub(crate) use faults::{Fault, NotificationFault, Redirection, ReplyFault, TokenFault};
pub use live::{Claim, Connected, Push};
pub use messaging::{
    Ack, ConnectionAuth, Event, EventReader, Inbox, Lane, Locked, Message, MessagingConfig, MethodRequest,
    MethodResponse, NoSuchPartition, Notice, PartitionInfo, ReaderRefused, Start, Stolen, UploadedFile,
    Verdict,
};
pub use policy::{Policy, Rights};
pub use precondition::Precondition;
pub use query::{Page, PageRequest};
pub use snapshot::Snapshot;
pub use token::{Grant, Who};

use self::configurations::Configurations;
use self::counters::Tally;
use self::error::json_bytes;
use self::faults::Board;
use self::files::Uploads;
use self::jobs::Jobs;
use self::live::{Live, Mailbox};
use self::messaging::{Messaging, Signals};
use self::registry::State;
pub(crate) use self::timestamp::Timestamp;
use self::transfer::Transfers;
use crate::storage::Storage;

/// What a hub is made with.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The host name tokens are for, like `localhost`. Its first label is the hub's name.
    pub host_name: String,
    /// The shared access policies.
    pub policies: Vec<Policy>,
    /// The hub's time.
    pub clock: Clock,
    /// How it handles messages.
    pub messaging: MessagingConfig,
    /// The IoT Edge device whose gateway this hub plays: its modules may call methods. A hub in the cloud plays none
    /// (rest.md 12.2).
    pub gateway_of: Option<String>,
    /// Where devices upload files; without one they cannot.
    pub storage: Option<Storage>,
    /// Who may sign certificates of devices and modules.
    pub device_authorities: DeviceAuthorities,
}

impl HubConfig {
    /// The policies of a new hub with fresh keys, and a clock that shows the system's time.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers.
    pub fn new(host_name: impl Into<String>) -> iothub_common::Result<Self> {
        Ok(Self { host_name: host_name.into(), policies: Policy::defaults()?, ..Self::default() })
    }
}

impl Default for HubConfig {
    /// `localhost` without policies, so nobody gets in who is not a device.
    fn default() -> Self {
        Self {
            host_name: "localhost".to_owned(),
            policies: Vec::new(),
            clock: Clock::new(),
            messaging: MessagingConfig::default(),
            gateway_of: None,
            storage: None,
            device_authorities: DeviceAuthorities::default(),
        }
    }
}

/// A hub. Clones are the same hub. Every method returns at once.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    config: HubConfig,
    faults: Board,
    tally: Tally,
    inner: Mutex<Inner>,
    signals: Signals,
    /// Something is due earlier than before, of jobs and configurations.
    schedule: Notify,
}

#[derive(Default)]
struct Inner {
    state: State,
    live: Live,
    messaging: Messaging,
    uploads: Uploads,
    configurations: Configurations,
    jobs: Jobs,
    transfers: Transfers,
}

impl Hub {
    /// A hub without devices.
    pub fn new(config: HubConfig) -> Self {
        let signals = Signals::default();
        Self {
            shared: Arc::new(Shared {
                config,
                faults: Board::default(),
                tally: Tally::default(),
                inner: Mutex::default(),
                signals,
                schedule: Notify::new(),
            }),
        }
    }

    /// The host name tokens are for.
    pub fn host_name(&self) -> &str {
        &self.shared.config.host_name
    }

    /// The IoT Edge device whose gateway this hub plays.
    pub fn gateway_of(&self) -> Option<&str> {
        self.shared.config.gateway_of.as_deref()
    }

    /// A shared access policy with its keys.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.shared.config.policies.iter().find(|policy| policy.name == name)
    }

    /// The hub's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.config.clock
    }

    /// The time by the hub's clock.
    pub fn now(&self) -> SystemTime {
        self.clock().now()
    }

    /// Moves the hub's clock forward. Configurations that are due then have run when this returns.
    pub fn advance(&self, by: Duration) {
        self.clock().advance(by);
        self.run_due_configurations();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The rules work on copies and swap at the end, so what is in it is whole even after a panic.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timestamp(&self) -> Timestamp {
        self.now().into()
    }

    /// The first label of the host name; the built-in endpoint is an event hub of this name.
    pub(crate) fn name(&self) -> &str {
        token::hub_name(self.host_name())
    }

    fn sweep(&self, inner: &mut Inner, device_id: &str, now: Timestamp) {
        // An id that is none has no connections.
        let Ok(device) = Identity::device(device_id) else { return };
        for mailbox in inner.live.sweep(&device, &mut inner.state, self.name(), now) {
            inner.messaging.methods.left(&mailbox);
        }
        inner.forget_messages(device_id);
        if inner.state.record(&device).is_err() {
            inner.uploads.forget(device_id);
        }
    }
}

/// Identities (rest.md 3, 4). Bodies are JSON as it came, answers are what goes out.
impl Hub {
    /// Creates a device, or updates it when `pre` is an `If-Match`. Disabling it sends it and its modules
    /// away.
    ///
    /// # Errors
    ///
    /// 400004 for a bad id or member, 400005 without a body, 400028 for a scope, 409001 when it exists, and
    /// on updates 404001, 412001.
    pub fn put_device(&self, id: &str, body: &Value, pre: Precondition) -> Result<Value, HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        inner.state.put_device(id, body, &pre, now)?;
        self.sweep(&mut inner, id, now);
        // Read after the sweep, which may have disconnected it.
        Ok(inner.with_message_count(inner.state.get_device(id)?))
    }

    /// Reads a device.
    ///
    /// # Errors
    ///
    /// 404001, 400004.
    pub fn get_device(&self, id: &str) -> Result<Value, HubError> {
        let inner = self.lock();
        Ok(inner.with_message_count(inner.state.get_device(id)?))
    }

    /// Deletes a device with its modules and all twins, and sends them away.
    ///
    /// # Errors
    ///
    /// 404001, 412001, 400004.
    pub fn delete_device(&self, id: &str, pre: Precondition) -> Result<(), HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        inner.state.delete_device(id, &pre)?;
        self.sweep(&mut inner, id, now);
        Ok(())
    }

    /// Devices in the order of ids; a `top` outside of 1 to 1000 counts as 1000.
    pub fn list_devices(&self, top: usize) -> Vec<Value> {
        let inner = self.lock();
        inner.state.list_devices(top).into_iter().map(|device| inner.with_message_count(device)).collect()
    }

    /// Creates a module, or updates it when `pre` is an `If-Match`.
    ///
    /// # Errors
    ///
    /// 400004, 400005, 404001 without the device, 409301 when it exists, 413003 for the 51st, 401100 for a
    /// system module, and on updates 404010, 412001.
    pub fn put_module(
        &self,
        device_id: &str,
        module_id: &str,
        body: &Value,
        pre: Precondition,
    ) -> Result<Value, HubError> {
        let now = self.timestamp();
        self.lock().state.put_module(device_id, module_id, body, &pre, now)
    }

    /// Reads a module.
    ///
    /// # Errors
    ///
    /// 404010, 404001 without the device, 400004.
    pub fn get_module(&self, device_id: &str, module_id: &str) -> Result<Value, HubError> {
        let inner = self.lock();
        Ok(inner.with_message_count(inner.state.get_module(device_id, module_id)?))
    }

    /// Deletes a module with its twin, and sends it away.
    ///
    /// # Errors
    ///
    /// 404010, 404001, 412001, 401100, 400004.
    pub fn delete_module(&self, device_id: &str, module_id: &str, pre: Precondition) -> Result<(), HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        inner.state.delete_module(device_id, module_id, &pre)?;
        self.sweep(&mut inner, device_id, now);
        Ok(())
    }

    /// The modules of a device in the order of ids.
    ///
    /// # Errors
    ///
    /// 404001, 400004.
    pub fn list_modules(&self, device_id: &str) -> Result<Vec<Value>, HubError> {
        let inner = self.lock();
        let modules = inner.state.list_modules(device_id)?;
        Ok(modules.into_iter().map(|module| inner.with_message_count(module)).collect())
    }

    /// Counts the devices.
    pub fn statistics(&self) -> Statistics {
        let inner = self.lock();
        let count = |devices: usize| devices as u64;
        Statistics {
            devices: count(inner.state.devices().count()),
            enabled: count(inner.state.devices().filter(|device| device.status.enabled).count()),
            connected: count(inner.state.devices().filter(|device| device.record.presence.connected).count()),
        }
    }
}

/// How many devices there are (rest.md 3.1). Modules are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// All.
    pub devices: u64,
    /// Those that may connect.
    pub enabled: u64,
    /// Those that are connected now.
    pub connected: u64,
}

/// Twins (twins.md). Updates are all or nothing.
impl Hub {
    /// The whole twin as services see it.
    ///
    /// # Errors
    ///
    /// 404001, 404010.
    pub fn get_twin(&self, identity: &Identity) -> Result<Value, HubError> {
        let inner = self.lock();
        Ok(inner.with_message_count(inner.state.twin_document(identity)?))
    }

    /// A service's PATCH: merges tags and desired properties, answers with the whole twin.
    ///
    /// # Errors
    ///
    /// 404001, 404010, 412001, 400000 for an unknown member, 400004 for a key or value, 403100 for the size.
    pub fn patch_twin(
        &self,
        identity: &Identity,
        body: &Value,
        pre: Precondition,
    ) -> Result<Value, HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        let twin = inner.state.twin_mut(identity)?;
        pre.check(&twin.etag())?;
        if let Some(notification) = twin.patch(body, now)? {
            inner.live.notify(identity, &notification);
        }
        inner.state.twin_document(identity)
    }

    /// A service's PUT: replaces tags and desired properties, answers with the whole twin.
    ///
    /// # Errors
    ///
    /// As [`patch_twin`](Self::patch_twin).
    pub fn replace_twin(
        &self,
        identity: &Identity,
        body: &Value,
        pre: Precondition,
    ) -> Result<Value, HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        let twin = inner.state.twin_mut(identity)?;
        pre.check(&twin.etag())?;
        let notification = twin.replace(body, now)?;
        inner.live.notify(identity, &notification);
        inner.state.twin_document(identity)
    }

    /// The twin as the device or module sees it: `{"desired":{…,"$version":n},"reported":{…,"$version":m}}`.
    ///
    /// # Errors
    ///
    /// 404001 also when the device is disabled, 404010.
    pub fn device_twin(&self, identity: &Identity) -> Result<Bytes, HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        inner.state.check_usable(identity, self.name())?;
        inner.state.record_mut(identity)?.presence.last_activity = now;
        let document = inner.state.twin(identity)?.device_document();
        drop(inner);
        Ok(json_bytes(&document))
    }

    /// The device's own PATCH: merges into its reported properties, answers with their new `$version`.
    ///
    /// # Errors
    ///
    /// 404001 also when the device is disabled, 404010, 400004 for a key or value, 403100 for the size.
    pub fn report(&self, identity: &Identity, patch: &Value) -> Result<u64, HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        inner.state.check_usable(identity, self.name())?;
        let version = inner.state.twin_mut(identity)?.report(patch, now)?;
        inner.state.record_mut(identity)?.presence.last_activity = now;
        Ok(version)
    }
}

/// Tokens and connections.
impl Hub {
    /// Checks a SAS token: its signature, its time by the hub's clock, and that its policy or identity exists
    /// and may connect.
    ///
    /// # Errors
    ///
    /// 401002 (policies) and 401003 (identities); 404001, 404010 for an identity that is not there or
    /// disabled.
    pub fn check_token(&self, token: &str) -> Result<Grant, HubError> {
        let now = self.now();
        let config = &self.shared.config;
        let inner = self.lock();
        let hub =
            token::Hub { host_name: &config.host_name, policies: &config.policies, state: &inner.state };
        token::check(token, &hub, now)
    }

    /// Marks a device or module as connected until the guard is dropped. Nobody is asked for a token here.
    ///
    /// # Errors
    ///
    /// 404001, 404010 when it is not there or disabled.
    pub fn connect(&self, identity: &Identity) -> Result<Connected, HubError> {
        let now = self.timestamp();
        let mut inner = self.lock();
        inner.state.check_usable(identity, self.name())?;
        inner.state.record_mut(identity)?.presence.set_connected(true, now);
        let mailbox = inner.live.connect(identity);
        drop(inner);
        Ok(Connected::new(self.clone(), identity.clone(), mailbox))
    }

    fn disconnect(&self, identity: &Identity, mailbox: &Arc<Mailbox>) {
        let now = self.timestamp();
        let mut inner = self.lock();
        inner.messaging.methods.left(mailbox);
        if inner.live.disconnect(identity, mailbox)
            && let Ok(record) = inner.state.record_mut(identity)
        {
            record.presence.set_connected(false, now);
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("host_name", &self.host_name()).finish_non_exhaustive()
    }
}
