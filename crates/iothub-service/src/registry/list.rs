//! All devices of a hub, of any number (rest.md 3.1).

use std::collections::HashSet;
use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt, stream};
use iothub_common::{ErrorKind, Result, Subject};
use serde::Deserialize;

use super::Registry;
use crate::http::Call;
use crate::models::Device;

/// The most devices that one list answer holds (rest.md 14).
const LONGEST_LIST: usize = 1000;
/// How many devices are read at once beyond those.
const AT_ONCE: usize = 16;
/// Ids in one page of a query: the most that any hub gives.
const PAGE: u32 = 1000;

impl Registry {
    /// All devices, in no particular order, as a stream. Nothing is sent before the stream is polled.
    ///
    /// The hub's own list ends after 1,000 devices. A hub with more is asked for the ids of all devices by a query, and
    /// every device that was not in the list is read by itself, 16 at once: **one call for each device beyond 1,000**,
    /// under the hub's throttle (100 calls a minute and unit on S1); throttled calls are repeated. The policy needs
    /// `ServiceConnect` for the query. Where keys, capabilities and the like are not needed, twins are much cheaper:
    /// `registry.query("SELECT * FROM devices")`.
    ///
    /// Devices that are created or deleted meanwhile may be in it or not.
    ///
    /// # Errors
    ///
    /// An item that is an error is the last one.
    pub fn list_devices(&self) -> DeviceStream {
        let registry = self.clone();
        let devices = stream::once(async move { registry.first_devices().await }).try_flatten().scan(
            false,
            |failed, device| {
                let ended = std::mem::replace(failed, device.is_err());
                ready((!ended).then_some(device))
            },
        );
        DeviceStream { items: devices.boxed() }
    }

    /// The devices of one answer, then the others where there may be more.
    async fn first_devices(self) -> Result<impl Stream<Item = Result<Device>> + Send + use<>> {
        let call = Call::read("list devices", "/devices".to_owned(), Subject::Hub(self.host_name()))
            .query("top", LONGEST_LIST);
        let devices: Vec<Device> = self.http.json(call).await?;
        let known: HashSet<String> = devices.iter().map(|device| device.device_id.clone()).collect();
        let more = devices.len() >= LONGEST_LIST;
        let others = stream::iter(more.then(|| self.other_devices(known))).flatten();
        Ok(stream::iter(devices.into_iter().map(Ok)).chain(others))
    }

    fn other_devices(self, known: HashSet<String>) -> impl Stream<Item = Result<Device>> + Send + use<> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Row {
            device_id: String,
        }

        let known = Arc::new(known);
        self.query("SELECT deviceId FROM devices")
            .page_size(PAGE)
            .typed::<Row>()
            .map_ok(|row| row.device_id)
            .try_filter(move |id| ready(!known.contains(id)))
            .map_ok(move |id| {
                let registry = self.clone();
                async move {
                    match registry.get_device(&id).await {
                        Ok(device) => Ok(Some(device)),
                        // Deleted since the query; queries also lag behind.
                        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            })
            .try_buffered(AT_ONCE)
            .try_filter_map(|device| ready(Ok(device)))
    }
}

/// The devices of a hub, see [`Registry::list_devices`].
#[must_use = "streams do nothing unless polled"]
pub struct DeviceStream {
    items: stream::BoxStream<'static, Result<Device>>,
}

impl Stream for DeviceStream {
    type Item = Result<Device>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_next_unpin(cx)
    }
}

impl fmt::Debug for DeviceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceStream").finish_non_exhaustive()
    }
}
