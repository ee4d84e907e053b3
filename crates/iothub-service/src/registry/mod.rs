//! The registry: all that a service does with a hub over HTTPS.

mod builder;
mod bulk;
mod change;
mod configurations;
mod devices;
mod digital_twins;
mod ensure;
mod jobs;
mod list;
mod methods;
mod modules;
mod query;
mod statistics;
mod transfer_jobs;
mod twins;

use std::fmt;
use std::sync::Arc;

use iothub_common::{ClientOptions, Result};

pub use self::builder::RegistryBuilder;
pub use self::bulk::{Bulk, BulkItem, BulkReport, BulkResult};
pub use self::change::KeySlot;
pub use self::ensure::Ensured;
pub use self::list::DeviceStream;
pub use self::query::{ItemType, Page, Pages, Query};
use crate::http::Http;
use crate::messaging::MessagingSlot;

/// The identities and twins of a hub: the entry to everything that a service does.
///
/// Cheap to clone; clones share their connections. All methods take `&self`, may run at the same time, and their
/// futures are `Send`.
///
/// Unless a method says otherwise, each call:
///
/// - does I/O and needs a tokio runtime; connections are made at the first call and reused;
/// - ends within the call timeout (60 s unless [`RegistryBuilder::call_timeout`] says otherwise), repetitions included;
///   see [`RegistryBuilder::retry`] for what is repeated;
/// - can be cancelled by dropping its future. A change may then have been made or not;
/// - fails with [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), before anything is sent, for an id with
///   characters that no id can have; with [`Unauthorized`](crate::ErrorKind::Unauthorized) when the hub does not take
///   the key or its policy lacks a right; with [`Connect`](crate::ErrorKind::Connect) or
///   [`Certificate`](crate::ErrorKind::Certificate) when the hub cannot be reached or trusted.
#[derive(Clone)]
pub struct Registry {
    http: Arc<Http>,
    pub(crate) messaging: Arc<MessagingSlot>,
}

impl Registry {
    /// Opens the registry of the hub in a connection string such as
    /// `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`. Does no network I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), naming the part of the string that is missing or was not
    /// expected.
    pub fn from_connection_string(connection_string: &str) -> Result<Self> {
        Self::builder(connection_string)?.build()
    }

    /// [`Registry::from_connection_string`] with options, for example for a hub on another port or with a
    /// certificate of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::from_connection_string`], and [`Certificate`](crate::ErrorKind::Certificate) when no
    /// TLS configuration can be made of the options.
    pub fn from_connection_string_with(connection_string: &str, options: ClientOptions) -> Result<Self> {
        Self::builder(connection_string)?.options(options).build()
    }

    /// A builder, to set more than that.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::from_connection_string`].
    pub fn builder(connection_string: &str) -> Result<RegistryBuilder> {
        RegistryBuilder::of_connection_string(&connection_string.parse()?)
    }

    /// Opens the registry of a hub by its host name (`myhub.azure-devices.net`) for a service that signs in with
    /// Microsoft Entra ID: with any `TokenCredential` of `azure_core`, such as those of `azure_identity`. Does no
    /// network I/O.
    ///
    /// The token is asked for with the first call, kept, and asked for again five minutes before it ends. The identity
    /// needs a role on the hub, such as *IoT Hub Registry Contributor* or *IoT Hub Data Contributor*.
    ///
    /// # Errors
    ///
    /// Those of [`Registry::from_connection_string_with`]. A credential that gives no token fails the calls, as
    /// [`Unauthorized`](crate::ErrorKind::Unauthorized) or, where it could not be reached, as
    /// [`Connect`](crate::ErrorKind::Connect).
    #[cfg(feature = "entra-id")]
    pub fn with_token_credential(
        host_name: &str,
        credential: Arc<dyn azure_core::credentials::TokenCredential>,
        options: ClientOptions,
    ) -> Result<Self> {
        Self::builder_with_token_credential(host_name, credential).options(options).build()
    }

    /// A builder for [`Registry::with_token_credential`], to set more than options.
    #[cfg(feature = "entra-id")]
    pub fn builder_with_token_credential(
        host_name: &str,
        credential: Arc<dyn azure_core::credentials::TokenCredential>,
    ) -> RegistryBuilder {
        RegistryBuilder::new(host_name, crate::credentials::Credentials::of_token_credential(credential))
    }

    /// The host name of the hub, as in the connection string.
    pub fn host_name(&self) -> &str {
        self.http.host()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("host_name", &self.host_name()).finish_non_exhaustive()
    }
}
