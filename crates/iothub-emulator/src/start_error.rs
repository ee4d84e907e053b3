//! Why a hub did not start.

use std::io;
use std::net::SocketAddr;

use crate::front::listener::BindError;
use crate::state_dir::StateError;
use crate::tls::TlsError;

/// Why [`LocalHub::start`](crate::LocalHub::start) failed. `Display` names the port, file or name that is wrong;
/// [`source`](std::error::Error::source) has the system's word for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A port could not be opened.
    #[error("cannot listen on port {} ({address}){}", address.port(), port_hint(source))]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The state directory, or a file in it, could not be used.
    #[error("{message}")]
    StateDir {
        /// What was tried, with the path.
        message: String,
        /// What the system or the parser said.
        source: Cause,
    },
    /// A host name is none.
    #[error("host name `{name}` is neither a DNS name nor an IP address")]
    HostName {
        /// As given.
        name: String,
    },
    /// A certificate of an authority for devices is none.
    #[error("a certificate given as an authority for devices cannot be used")]
    DeviceAuthority {
        /// The cause.
        source: Cause,
    },
    /// The workload API could not be opened.
    #[error("cannot serve the workload API at `{uri}`")]
    Workload {
        /// As given.
        uri: String,
        /// What the system said, or what is wrong with it.
        source: io::Error,
    },
    /// The system gave no randomness for keys.
    #[error("cannot make keys")]
    Keys {
        /// The cause.
        source: iothub_common::Error,
    },
    /// No certificate could be made.
    #[error("cannot make the hub's certificate")]
    Certificate {
        /// The cause.
        source: Cause,
    },
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        let message = error.to_string();
        let source = match error {
            StateError::Io { source, .. } => source.into(),
            StateError::Authority { source, .. } => source.into(),
            StateError::Policies { source, .. } => source,
            StateError::Tls(error) => return error.into(),
        };
        Self::StateDir { message, source }
    }
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Listen { address: error.address, source: error.source }
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Name(name) => Self::HostName { name },
            error => Self::Certificate { source: error.into() },
        }
    }
}

/// What to do about it, for the two usual cases.
fn port_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": it is in use; choose another port, or 0 for a free one",
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need a right, on Linux CAP_NET_BIND_SERVICE; choose another port, or 0 for a free one"
        }
        _ => "",
    }
}
