//! Who may register: one device, or a group of them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iothub_common::SymmetricKey;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::hub::{ClientCertificate, DeviceAuthorities};

/// An entry of the enrollment list: one device by its registration id, or a group by what its members have in common.
#[derive(Clone, Debug)]
#[must_use = "it counts once it is given to Provisioning::enroll"]
pub struct Enrollment {
    pub(super) id: String,
    pub(super) is_group: bool,
    pub(super) attestation: Attestation,
    pub(super) device_id: Option<String>,
    pub(super) is_enabled: bool,
    pub(super) iot_edge: bool,
    /// As a twin PATCH.
    pub(super) initial_twin: Option<Value>,
    pub(super) etag: String,
    /// What else was said about it, to be shown again.
    pub(super) extra: Map<String, Value>,
}

/// How devices prove who they are.
#[derive(Clone)]
pub struct Attestation(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    /// Both are equally good.
    Keys { primary: SymmetricKey, secondary: SymmetricKey },
    /// An individual's certificates, or the authorities of a group.
    Certificates { thumbprints: Vec<String>, authorities: DeviceAuthorities },
}

impl Enrollment {
    /// One device. Its keys are used as they are; or it shows one of the certificates.
    pub fn individual(registration_id: impl Into<String>, attestation: Attestation) -> Self {
        Self::new(registration_id.into(), false, attestation)
    }

    /// Devices with keys derived from the group's (see [`SymmetricKey::derive`]), or with certificates that one of the
    /// group's authorities signed, the registration id in their common name.
    pub fn group(id: impl Into<String>, attestation: Attestation) -> Self {
        Self::new(id.into(), true, attestation)
    }

    fn new(id: String, is_group: bool, attestation: Attestation) -> Self {
        Self {
            id,
            is_group,
            attestation,
            device_id: None,
            is_enabled: true,
            iot_edge: false,
            initial_twin: None,
            etag: STANDARD.encode(format!("\"{}\"", Uuid::new_v4())),
            extra: Map::new(),
        }
    }

    /// The id, of groups with keys: Java's client reads no more about the others than is known here.
    pub(super) fn key_group(&self) -> Option<&str> {
        let has_keys = self.attestation.primary_key().is_some();
        (self.is_group && has_keys).then_some(&self.id)
    }

    /// What the device is called on the hub; its registration id unless set. Of no effect for groups.
    pub fn device_id(mut self, device_id: impl Into<String>) -> Self {
        self.device_id = (!self.is_group).then(|| device_id.into());
        self
    }

    /// Whether devices may register; they may unless told otherwise. A disabled individual enrollment keeps a device
    /// out of a group, too.
    pub fn enabled(mut self, is_enabled: bool) -> Self {
        self.is_enabled = is_enabled;
        self
    }

    /// Makes new devices IoT Edge devices.
    pub fn iot_edge(mut self, iot_edge: bool) -> Self {
        self.iot_edge = iot_edge;
        self
    }

    /// Tags and desired properties of new devices, JSON objects.
    pub fn initial_twin(mut self, tags: &Value, desired: &Value) -> Self {
        self.initial_twin = Some(json!({ "tags": tags, "properties": { "desired": desired } }));
        self
    }
}

impl Attestation {
    /// A new pair of keys.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers.
    pub fn symmetric_key() -> iothub_common::Result<Self> {
        Ok(Self::keys(SymmetricKey::generate()?, SymmetricKey::generate()?))
    }

    /// A pair of keys.
    pub fn keys(primary: SymmetricKey, secondary: SymmetricKey) -> Self {
        Self(Kind::Keys { primary, secondary })
    }

    /// Certificates in PEM: those of a device, primary and secondary, or the authorities of a group.
    ///
    /// # Errors
    ///
    /// When there is none in it, or one that cannot be read.
    pub fn x509(pem: impl AsRef<[u8]>) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let pem = pem.as_ref();
        let mut authorities = DeviceAuthorities::default();
        authorities.add_pem(pem)?;
        let mut thumbprints = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            if let Some(certificate) = ClientCertificate::new(&[certificate?]) {
                thumbprints.extend(certificate.thumbprints());
            }
        }
        Ok(Self(Kind::Certificates { thumbprints, authorities }))
    }

    /// The first of the two keys, where there are keys.
    pub fn primary_key(&self) -> Option<&SymmetricKey> {
        match &self.0 {
            Kind::Keys { primary, .. } => Some(primary),
            Kind::Certificates { .. } => None,
        }
    }
}

impl fmt::Debug for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Keys { .. } => f.write_str("Keys(redacted)"),
            Kind::Certificates { thumbprints, .. } => {
                f.debug_tuple("Certificates").field(thumbprints).finish()
            }
        }
    }
}
