#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "device")]
pub use iothub_device::{
    ConnectionStatus, DesiredUpdate, DesiredUpdates, DeviceClient, Message, MethodRequest, ModuleClient,
    Multiplexer, ProvisioningClient, ReceivedMessage, ReportedState, SasRequest, StatusChanges,
    TelemetryBuffer, UploadSource, WhenFull,
};

#[cfg(feature = "service")]
pub use iothub_service::{Device, Module, NewDevice, NewModule, Registry, RegistryBuilder, TwinPatch};

pub use iothub_common::{
    ClientCertificate, ClientOptions, ETag, Error, ErrorKind, IfMatch, Properties, Proxy, Result,
    RetryPolicy, Secret, SymmetricKey, TlsConfig, Transport, TwinProperties,
};

/// The whole device half.
#[cfg(feature = "device")]
pub use iothub_device as device;
/// The whole service half.
#[cfg(feature = "service")]
pub use iothub_service as service;
