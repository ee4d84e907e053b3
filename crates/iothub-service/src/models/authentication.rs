//! How a device or module proves who it is (rest.md 3.3).

use iothub_common::{Result, Secret, SymmetricKey};
use serde::{Deserialize, Serialize};

use super::UnknownFields;
use super::hub_enum::hub_enum;

hub_enum! {
    /// The kinds of authentication.
    pub enum AuthenticationType {
        /// A shared access signature, made with one of two symmetric keys.
        Sas = "sas",
        /// A certificate known by its thumbprint.
        SelfSigned = "selfSigned",
        /// A certificate of an authority that the hub trusts.
        CertificateAuthority = "certificateAuthority",
        /// None: the identity cannot connect by itself.
        None = "none",
    }
}

/// How an identity authenticates, as read from the hub.
///
/// `Debug` never shows a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Authentication {
    /// The two keys; both `None` unless the type is [`AuthenticationType::Sas`].
    #[serde(default)]
    pub symmetric_key: SymmetricKeys,
    /// The two thumbprints; both `None` unless the type is [`AuthenticationType::SelfSigned`].
    #[serde(default)]
    pub x509_thumbprint: Thumbprints,
    /// The kind.
    #[serde(rename = "type")]
    pub kind: AuthenticationType,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Authentication {
    /// Makes it another kind, for an update. The keys of [`NewAuthentication::GeneratedKeys`] are made here, not by the
    /// hub: it would make them anew with every update.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when the system gives no random numbers for keys.
    pub fn change_to(&mut self, new: NewAuthentication) -> Result<()> {
        let (mut keys, mut thumbprints) = (SymmetricKeys::default(), Thumbprints::default());
        self.kind = match new {
            NewAuthentication::GeneratedKeys => {
                keys.primary_key = Some(SymmetricKey::generate()?.to_base64());
                keys.secondary_key = Some(SymmetricKey::generate()?.to_base64());
                AuthenticationType::Sas
            }
            NewAuthentication::Keys { primary, secondary } => {
                (keys.primary_key, keys.secondary_key) = (Some(primary), Some(secondary));
                AuthenticationType::Sas
            }
            NewAuthentication::Thumbprints { primary, secondary } => {
                (thumbprints.primary_thumbprint, thumbprints.secondary_thumbprint) =
                    (Some(primary), secondary);
                AuthenticationType::SelfSigned
            }
            NewAuthentication::CertificateAuthority => AuthenticationType::CertificateAuthority,
            NewAuthentication::None => AuthenticationType::None,
        };
        (self.symmetric_key, self.x509_thumbprint) = (keys, thumbprints);
        Ok(())
    }

    /// Whether sending this would make the hub replace the keys: it generates both where neither is given.
    pub(crate) fn makes_the_hub_generate_keys(&self) -> bool {
        self.kind == AuthenticationType::Sas && !self.symmetric_key.any()
    }
}

/// The two symmetric keys of an identity. Either one opens the door; two, so that one can be changed at a time.
///
/// Each is the base64 text of 16 to 64 bytes. Read one with [`Secret::reveal`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SymmetricKeys {
    /// The first key.
    #[serde(default, with = "key_text")]
    pub primary_key: Option<Secret>,
    /// The second key.
    #[serde(default, with = "key_text")]
    pub secondary_key: Option<Secret>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl SymmetricKeys {
    fn any(&self) -> bool {
        [&self.primary_key, &self.secondary_key].into_iter().flatten().any(|key| !key.reveal().is_empty())
    }
}

/// The two certificate thumbprints of an identity: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, both alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Thumbprints {
    /// The first thumbprint.
    #[serde(default)]
    pub primary_thumbprint: Option<String>,
    /// The second thumbprint.
    #[serde(default)]
    pub secondary_thumbprint: Option<String>,
    /// What else the hub said.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// A secret as text or `null`. An empty text counts as none (rest.md 3.3).
pub(super) mod key_text {
    use super::*;

    pub(in crate::models) fn serialize<S: serde::Serializer>(
        key: &Option<Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => to.serialize_some(key.reveal()),
            None => to.serialize_none(),
        }
    }

    pub(in crate::models) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        Ok(text.filter(|text| !text.is_empty()).map(Secret::from))
    }
}

/// How a new identity shall authenticate. The default is [`NewAuthentication::GeneratedKeys`].
#[derive(Clone, Debug, Default)]
pub enum NewAuthentication {
    /// Shared access signatures; the hub generates both keys.
    #[default]
    GeneratedKeys,
    /// Shared access signatures with keys of your own: base64 of 16 to 64 bytes each.
    Keys {
        /// The first key.
        primary: Secret,
        /// The second key.
        secondary: Secret,
    },
    /// A certificate with one of these thumbprints, hexadecimal, 40 or 64 digits, both of one length.
    Thumbprints {
        /// The first thumbprint.
        primary: String,
        /// The second thumbprint.
        secondary: Option<String>,
    },
    /// A certificate of an authority that the hub trusts.
    CertificateAuthority,
    /// None; for a module, or a device that a gateway speaks for.
    None,
}

impl NewAuthentication {
    /// The body the hub wants. Keys to be generated are sent as empty texts, as the official SDKs do (rest.md 3.3).
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Self::GeneratedKeys => {
                json!({ "symmetricKey": { "primaryKey": "", "secondaryKey": "" }, "type": "sas" })
            }
            Self::Keys { primary, secondary } => json!({
                "symmetricKey": { "primaryKey": primary.reveal(), "secondaryKey": secondary.reveal() },
                "type": "sas",
            }),
            Self::Thumbprints { primary, secondary } => json!({
                "x509Thumbprint": { "primaryThumbprint": primary, "secondaryThumbprint": secondary },
                "type": "selfSigned",
            }),
            Self::CertificateAuthority => json!({ "type": "certificateAuthority" }),
            Self::None => json!({ "type": "none" }),
        }
    }
}
