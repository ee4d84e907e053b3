//! The part both kinds of connection string have in common: names, values and who wants which.

use crate::error::{Error, ErrorKind, Result};

/// Every part there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    HostName,
    DeviceId,
    ModuleId,
    GatewayHostName,
    SharedAccessKeyName,
    SharedAccessKey,
    SharedAccessSignature,
    X509,
}

const NAMES: [(Part, &str); 8] = [
    (Part::HostName, "HostName"),
    (Part::DeviceId, "DeviceId"),
    (Part::ModuleId, "ModuleId"),
    (Part::GatewayHostName, "GatewayHostName"),
    (Part::SharedAccessKeyName, "SharedAccessKeyName"),
    (Part::SharedAccessKey, "SharedAccessKey"),
    (Part::SharedAccessSignature, "SharedAccessSignature"),
    (Part::X509, "x509"),
];

impl Part {
    fn parse(text: &str) -> Option<Self> {
        NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(name, _)| *name)
    }

    pub(super) fn as_str(self) -> &'static str {
        // The table has one row per name, in the order of the enum.
        NAMES[self as usize].1
    }
}

/// The parts of one string: known names, each at most once, each with a value.
pub(super) struct Parts<'a>(Vec<(Part, &'a str)>);

impl<'a> Parts<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let mut parts = Vec::new();
        let text = text.trim();
        if text.is_empty() {
            return Err(invalid("the connection string is empty"));
        }
        // Some tools end the string with `;`, none starts or doubles it.
        let text = text.strip_suffix(';').unwrap_or(text);
        for (index, part) in text.split(';').enumerate() {
            let (name, value) = parse_part(index + 1, part)?;
            if parts.iter().any(|(seen, _)| *seen == name) {
                return Err(invalid(format!("{} is in the connection string twice", name.as_str())));
            }
            parts.push((name, value));
        }
        Ok(Self(parts))
    }

    pub(super) fn has(&self, name: Part) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: Part) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// The value, or an error that it is missing. `whose` says from whose connection string.
    pub(super) fn require(&self, name: Part, whose: &str) -> Result<&'a str> {
        self.get(name)
            .ok_or_else(|| invalid(format!("{} is missing in the {whose} connection string", name.as_str())))
    }

    /// A host name that must be there.
    pub(super) fn host(&self, name: Part, whose: &str) -> Result<String> {
        let value = self.require(name, whose)?;
        check_host(name, value)?;
        Ok(value.to_owned())
    }

    /// An error when the part is there.
    pub(super) fn refuse(&self, name: Part, whose: &str) -> Result<()> {
        match self.has(name) {
            false => Ok(()),
            true => {
                Err(invalid(format!("{} was not expected in a {whose} connection string", name.as_str())))
            }
        }
    }

    /// An error when the part is there beside another that takes its place.
    pub(super) fn refuse_beside(&self, name: Part, other: Part) -> Result<()> {
        match self.has(name) {
            false => Ok(()),
            true => Err(invalid(format!(
                "{} was not expected in the connection string beside {}; keep one of them",
                name.as_str(),
                other.as_str()
            ))),
        }
    }
}

/// A host name by itself: ports and URLs have been seen here.
pub(super) fn check_host(name: Part, value: &str) -> Result<()> {
    let part = name.as_str();
    if value.is_empty() {
        return Err(invalid(format!("{part} is empty")));
    }
    if value.contains('/') {
        return Err(invalid(format!("{part} must be a host name alone, without `https://` or a path")));
    }
    if value.contains(':') {
        return Err(invalid(format!(
            "{part} must be a host name alone; a port is set with ClientOptions.https_port and .amqps_port"
        )));
    }
    if !value.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        return Err(invalid(format!("{part} has a character that no host name has")));
    }
    Ok(())
}

/// Text that would come back unchanged from a connection string.
pub(super) fn check_free_text(name: Part, value: &str) -> Result<()> {
    if value.trim() != value || value.is_empty() || value.contains(';') {
        return Err(invalid(format!("{} is empty, has `;`, or has white space around it", name.as_str())));
    }
    Ok(())
}

/// `position` counts from 1 and stands in for what must not be shown.
fn parse_part(position: usize, part: &str) -> Result<(Part, &str)> {
    // Only at the first `=`: keys end with `=` and signatures are full of them.
    let Some((name, value)) = part.split_once('=') else {
        let what = if part.trim().is_empty() { "is empty" } else { "is not of the form Name=Value" };
        return Err(invalid(format!("part {position} of the connection string {what}")));
    };
    let (name, value) = (name.trim(), value.trim());
    let Some(known) = Part::parse(name) else {
        return Err(invalid(match is_showable(name, value) {
            true => format!("{name} is not a part of a connection string; was another name meant?"),
            false => format!("part {position} of the connection string has no known name before its `=`"),
        }));
    };
    if value.is_empty() {
        return Err(invalid(format!("{} has no value in the connection string", known.as_str())));
    }
    Ok((known, value))
}

/// A key pasted without its name looks like a name with an empty value, or with `=` for one.
fn is_showable(name: &str, value: &str) -> bool {
    let padding_only = value.bytes().all(|b| b == b'=');
    !padding_only && !name.is_empty() && name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
