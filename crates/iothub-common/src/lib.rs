//! Connection strings, SAS tokens, errors and twin documents shared by the iothub crates.
//!
//! Applications use these types through `iothub`, `iothub-service` and `iothub-device`, which re-export
//! what they need. Nothing here does network I/O, and no function reads the clock: callers pass the time.
//!
//! ```
//! use iothub_common::{DeviceConnectionString, SasToken};
//! use std::time::SystemTime;
//!
//! let text = "HostName=hub.example.net;DeviceId=dev+1;ModuleId=m;SharedAccessKey=bm90IGEgcmVhbCBrZXk=";
//! let parsed: DeviceConnectionString = text.parse()?;
//! assert_eq!(parsed.identity().amqp_path("twin"), "/devices/dev%2B1/modules/m/twin");
//!
//! let token = parsed.token_source()?.token(SystemTime::now())?;
//! assert_eq!(SasToken::parse(token.secret.reveal())?.resource, "hub.example.net/devices/dev+1/modules/m");
//! # Ok::<(), iothub_common::Error>(())
//! ```
//!
//! | Module | What it holds |
//! |---|---|
//! | [`connection_string`] | what the portal hands out, parsed |
//! | [`identity`] | device and module ids, and the only escaping function |
//! | [`secret`] | keys and tokens: redacted, wiped on drop |
//! | [`sas`] | signing, checking and renewing SAS tokens |
//! | [`error`] | the one error type, and the table from hub answers to kinds |
//! | [`twin`], [`twin_rules`] | twin documents as raw JSON; the rules for keys, values and sizes |
//! | [`etag`] | entity tags and `If-Match` |
//! | [`tls`], [`proxy`], [`options`] | whom to trust, and where to connect |
//! | [`retry`] | how long to wait before the next attempt |

pub mod connection_string;
mod derived_key;
pub mod direct_method;
pub mod error;
pub mod etag;
pub mod identity;
pub mod options;
pub mod proxy;
pub mod raw_json;
pub mod retry;
pub mod sas;
pub mod secret;
pub mod tls;
pub mod twin;
pub mod twin_rules;

pub use connection_string::{Credential, DeviceConnectionString, ServiceConnectionString};
pub use direct_method::{DirectMethod, MethodResponse};
pub use error::{Error, ErrorKind, Result, Subject, connect_error};
pub use etag::{ETag, IfMatch};
pub use identity::Identity;
pub use options::{ClientOptions, Transport};
pub use proxy::Proxy;
pub use raw_json::RawJson;
pub use retry::{Backoff, ReconnectPolicy, RetryPolicy};
pub use sas::{SasToken, Token, TokenSource};
pub use secret::{Secret, SymmetricKey};
pub use tls::{ClientCertificate, CryptoBackend, TlsConfig};
pub use twin::{Properties, TwinProperties};
