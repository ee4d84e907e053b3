//! The `authentication` member of identities and its rules (rest.md 3.3).

use iothub_common::SymmetricKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::hub::error::{ErrorCode, HubError};

/// How a device or module proves who it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::hub) enum Authentication {
    Sas(Keys),
    SelfSigned(Thumbprints),
    CertificateAuthority,
    /// Not at all, like the system modules of an edge device before its first start.
    None,
}

/// Two keys that are equally good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::hub) struct Keys {
    #[serde(with = "key_text")]
    pub(in crate::hub) primary: SymmetricKey,
    #[serde(with = "key_text")]
    pub(in crate::hub) secondary: SymmetricKey,
}

/// SHA-1 or SHA-256 fingerprints of certificates, in hex, as they were given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::hub) struct Thumbprints {
    primary: Option<String>,
    secondary: Option<String>,
}

const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

impl Authentication {
    /// Reads the member; `None` or null stands for `sas` with keys made by the hub.
    pub(super) fn read(authentication: Option<&Value>) -> Result<Self, HubError> {
        let given = match authentication {
            None | Some(Value::Null) => return Keys::generate().map(Self::Sas),
            Some(given @ Value::Object(_)) => given,
            Some(_) => return Err(refused("authentication must be an object")),
        };
        let keys = pair(given, "symmetricKey", ["primaryKey", "secondaryKey"])?;
        let thumbprints = pair(given, "x509Thumbprint", ["primaryThumbprint", "secondaryThumbprint"])?;
        let has_keys = keys.iter().any(Option::is_some);
        let has_thumbprints = thumbprints.iter().any(Option::is_some);

        let kind = match text(given, "type")? {
            Some(kind) => kind,
            None if has_thumbprints => "selfSigned",
            None => "sas",
        };
        let kind = kind.to_ascii_lowercase();
        if has_keys && kind != "sas" {
            return Err(refused(format!(
                "authentication.symmetricKey must be empty when authentication.type is '{kind}'"
            )));
        }
        if has_thumbprints && kind != "selfsigned" {
            return Err(refused(format!(
                "authentication.x509Thumbprint must be empty when authentication.type is '{kind}'"
            )));
        }
        match kind.as_str() {
            "sas" => Keys::read(keys).map(Self::Sas),
            "selfsigned" => Thumbprints::read(thumbprints).map(Self::SelfSigned),
            "certificateauthority" => Ok(Self::CertificateAuthority),
            "none" => Ok(Self::None),
            _ => Err(refused(
                "authentication.type must be one of 'sas', 'selfSigned', 'certificateAuthority', 'none'",
            )),
        }
    }

    pub(in crate::hub) fn kind(&self) -> &'static str {
        match self {
            Self::Sas(_) => "sas",
            Self::SelfSigned(_) => "selfSigned",
            Self::CertificateAuthority => "certificateAuthority",
            Self::None => "none",
        }
    }

    pub(in crate::hub) fn keys(&self) -> Option<&Keys> {
        match self {
            Self::Sas(keys) => Some(keys),
            _ => None,
        }
    }

    /// The fingerprints, where certificates are told by them.
    pub(in crate::hub) fn thumbprints(&self) -> Option<Vec<&str>> {
        match self {
            Self::SelfSigned(given) => {
                Some([&given.primary, &given.secondary].into_iter().flatten().map(String::as_str).collect())
            }
            _ => None,
        }
    }

    pub(in crate::hub) fn is_certificate_authority(&self) -> bool {
        matches!(self, Self::CertificateAuthority)
    }

    /// Both inner objects are always there, what is unused in them is null and never `""` (rest.md 3.3).
    pub(super) fn to_json(&self) -> Value {
        let key = |key: &SymmetricKey| key.to_base64().reveal().to_owned();
        let keys = match self.keys() {
            Some(keys) => json!({ "primaryKey": key(&keys.primary), "secondaryKey": key(&keys.secondary) }),
            None => json!({ "primaryKey": null, "secondaryKey": null }),
        };
        json!({ "symmetricKey": keys, "x509Thumbprint": self.thumbprints_json(), "type": self.kind() })
    }

    pub(in crate::hub) fn thumbprints_json(&self) -> Value {
        let none = Thumbprints::default();
        let thumbprints = if let Self::SelfSigned(given) = self { given } else { &none };
        json!({ "primaryThumbprint": thumbprints.primary, "secondaryThumbprint": thumbprints.secondary })
    }
}

impl Keys {
    fn generate() -> Result<Self, HubError> {
        let generate = || {
            SymmetricKey::generate().map_err(|error| HubError::new(ErrorCode::ServerError, error.to_string()))
        };
        Ok(Self { primary: generate()?, secondary: generate()? })
    }

    /// Both keys or neither; neither lets the hub make them.
    fn read(given: [Option<&str>; 2]) -> Result<Self, HubError> {
        match given {
            [None, None] => Self::generate(),
            [Some(primary), Some(secondary)] => {
                Ok(Self { primary: key(primary, "primaryKey")?, secondary: key(secondary, "secondaryKey")? })
            }
            _ => Err(refused(
                "authentication.symmetricKey needs both primaryKey and secondaryKey, or neither to have them \
                 made by the hub",
            )),
        }
    }
}

impl Thumbprints {
    fn read(given: [Option<&str>; 2]) -> Result<Self, HubError> {
        let lengths: Vec<_> = given.iter().flatten().map(|text| text.len()).collect();
        let hex = |text: &&str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let well_formed = !lengths.is_empty()
            && given.iter().flatten().all(hex)
            && lengths.iter().all(|&length| matches!(length, 40 | 64) && length == lengths[0]);
        if !well_formed {
            return Err(refused(
                "authentication.x509Thumbprint needs a primaryThumbprint or secondaryThumbprint of 40 (SHA-1) \
                 or 64 (SHA-256) hex digits, both of the same length",
            ));
        }
        let [primary, secondary] = given.map(|text| text.map(str::to_owned));
        Ok(Self { primary, secondary })
    }
}

fn key(text: &str, name: &str) -> Result<SymmetricKey, HubError> {
    SymmetricKey::from_base64(text).ok().filter(|key| KEY_BYTES.contains(&key.len())).ok_or_else(|| {
        // The text of the key stays out of errors and logs.
        refused(format!("authentication.symmetricKey.{name} must be base64 of 16 to 64 bytes"))
    })
}

/// Two texts of an inner object. Absent, null and `""` are all "not given" (rest.md 3.3).
fn pair<'a>(given: &'a Value, object: &str, names: [&str; 2]) -> Result<[Option<&'a str>; 2], HubError> {
    match given.get(object) {
        None | Some(Value::Null) => Ok([None, None]),
        Some(inner @ Value::Object(_)) => Ok([text(inner, names[0])?, text(inner, names[1])?]),
        Some(_) => Err(refused(format!("authentication.{object} must be an object"))),
    }
}

fn text<'a>(object: &'a Value, name: &str) -> Result<Option<&'a str>, HubError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(refused(format!("'{name}' in authentication must be a string"))),
    }
}

fn refused(text: impl Into<String>) -> HubError {
    HubError::new(ErrorCode::ArgumentInvalid, text)
}

/// Keys in stored state.
mod key_text {
    use iothub_common::SymmetricKey;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(key: &SymmetricKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(key.to_base64().reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SymmetricKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        SymmetricKey::from_base64(&text).map_err(|_| de::Error::custom("a stored key is not base64"))
    }
}
