//! Device and module ids, and where they go in URLs, addresses and tokens. Nothing else escapes ids.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, ErrorKind, Result};

/// Everything but RFC 3986's unreserved characters is escaped: right for a path segment and for a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What an id may hold besides letters and digits (amqp.md 8, rest.md 3).
const PUNCTUATION: &str = "-:.+%_#*?!(),=@;$'";

const MAX_ID_LENGTH: usize = 128;

/// A device, or a module on a device.
///
/// Ids are checked when made, so every other function can rely on them. They are case-sensitive.
/// `Display` gives `device` or `device/module`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    device_id: String,
    module_id: Option<String>,
}

impl Identity {
    /// A device.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] as [`check_id`] has it.
    pub fn device(device_id: impl Into<String>) -> Result<Self> {
        let device_id = device_id.into();
        check_id(&device_id, "device id")?;
        Ok(Self { device_id, module_id: None })
    }

    /// A module on a device.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] as [`check_id`] has it.
    pub fn module(device_id: impl Into<String>, module_id: impl Into<String>) -> Result<Self> {
        let module_id = module_id.into();
        let device = Self::device(device_id)?;
        check_id(&module_id, "module id")?;
        Ok(Self { module_id: Some(module_id), ..device })
    }

    /// The id of the device.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The id of the module, when this is one.
    #[must_use]
    pub fn module_id(&self) -> Option<&str> {
        self.module_id.as_deref()
    }

    /// What a token for this identity is for: `{host}/devices/{id}[/modules/{id}]`, with plain ids.
    ///
    /// [`sas::sign`](crate::sas::sign) escapes it once as a whole (`d@1` becomes `…%2Fdevices%2Fd%401`,
    /// rest.md 1.4), and the hub decodes it once before it matches. Ids escaped here already would arrive
    /// as `d%401` and match nothing. Joining plain ids is unambiguous: no id has a `/`.
    #[must_use]
    pub fn resource_uri(&self, host: &str) -> String {
        match &self.module_id {
            None => format!("{host}/devices/{}", self.device_id),
            Some(module) => format!("{host}/devices/{}/modules/{module}", self.device_id),
        }
    }

    /// The resource URI as it stands in a token's `sr`: the `name` of a put-token request, in the form the
    /// Node SDK sends (amqp.md 2.2).
    #[must_use]
    pub fn audience(&self, host: &str) -> String {
        escape_id(&self.resource_uri(host))
    }

    /// The path of this identity below `/devices` or `/twins`, such as `/devices/d%401/modules/m`.
    ///
    /// The hub splits at `/` and decodes each segment once (rest.md 1.2), so ids are escaped one by one.
    #[must_use]
    pub fn http_path(&self, root: &str) -> String {
        let device = escape_id(&self.device_id);
        match &self.module_id {
            None => format!("/{root}/{device}"),
            Some(module) => format!("/{root}/{device}/modules/{}", escape_id(module)),
        }
    }

    /// The address of a link of this identity: `twin` gives `/devices/{id}[/modules/{id}]/twin`.
    ///
    /// Ids are escaped one by one as the C# SDK does, because the hub decodes each segment once; the SDKs
    /// that do not escape lose an id such as `dev%2b` (amqp.md 3.1).
    #[must_use]
    pub fn amqp_path(&self, suffix: &str) -> String {
        format!("{}/{}", self.http_path("devices"), suffix.trim_start_matches('/'))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device_id)?;
        match &self.module_id {
            Some(module) => write!(f, "/{module}"),
            None => Ok(()),
        }
    }
}

/// Escapes an id, or any other text, for one URL path segment, one segment of an AMQP address, or the whole
/// resource of a token: all but letters, digits and `- . _ ~` becomes `%XX`.
#[must_use]
pub fn escape_id(id: &str) -> String {
    utf8_percent_encode(id, ESCAPED).to_string()
}

/// Undoes [`escape_id`], once. A `+` stays a `+`, and a `%` that starts no escape stays as it is: some SDKs
/// do not escape ids in addresses (amqp.md 3.1).
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] when what comes out is not UTF-8.
pub fn unescape_id(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "percent-encoded text is not UTF-8 once decoded").with_source(e)
    })?;
    Ok(decoded.into_owned())
}

/// Checks an id: 1 to 128 letters (A-Z), digits and `- : . + % _ # * ? ! ( ) , = @ ; $ '`.
///
/// `.` and `..` alone are refused as well: in a URL path they mean another resource, however escaped.
/// `what` names the id in the message, such as `device id`.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`], naming the first character that does not belong.
pub fn check_id(id: &str, what: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
    if id.is_empty() {
        return refuse(format!("the {what} is empty"));
    }
    if let Some(bad) = id.chars().find(|&c| !c.is_ascii_alphanumeric() && !PUNCTUATION.contains(c)) {
        return refuse(format!(
            "the {what} has the character {bad:?}; allowed are A-Z, a-z, 0-9 and - : . + % _ # * ? ! ( ) , = @ ; $ '"
        ));
    }
    if id.len() > MAX_ID_LENGTH {
        return refuse(format!(
            "the {what} has {} characters, at most {MAX_ID_LENGTH} are allowed",
            id.len()
        ));
    }
    if id == "." || id == ".." {
        return refuse(format!("the {what} cannot be `{id}`: it means another resource in a URL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
