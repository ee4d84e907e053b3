//! Keys and tokens: never printed, wiped from memory on drop.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// Text nobody should see by accident: a key in base64, a SAS token, a whole connection string.
///
/// `Debug` and `Display` print a placeholder; [`reveal`](Self::reveal) gives the text. The memory is wiped on
/// drop. Comparison takes the same time wherever the texts differ.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text. Whoever calls this decides where it goes.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// A symmetric key of a policy, device or module, decoded.
///
/// Any length but zero is taken here; that keys of identities have 16 to 64 bytes is the hub's rule
/// (rest.md 14). `Debug` prints a placeholder, the memory is wiped on drop, comparison takes constant time.
#[derive(Clone)]
pub struct SymmetricKey(Zeroizing<Vec<u8>>);

impl SymmetricKey {
    /// Decodes a key as connection strings and identities carry it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it is empty or no standard base64 with padding. The message does not
    /// repeat the text.
    pub fn from_base64(text: &str) -> Result<Self> {
        // Decoding into a buffer of full size from the start leaves no partial copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        STANDARD.decode_vec(text, &mut bytes).map_err(|_| {
            Error::new(
                ErrorKind::InvalidInput,
                "the shared access key is not valid base64; copy it again, with the `=` at its end",
            )
        })?;
        if bytes.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the shared access key is empty"));
        }
        Ok(Self(bytes))
    }

    /// A new random key of 32 bytes, the length the hub itself gives out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when the operating system gives no random numbers.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        getrandom::fill(&mut bytes).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the operating system gave no random numbers for a key")
                .with_source(e.to_string())
        })?;
        Ok(Self(bytes))
    }

    /// The key as connection strings and identities carry it.
    #[must_use]
    pub fn to_base64(&self) -> Secret {
        Secret::from(STANDARD.encode(self.bytes()))
    }

    /// The key as an event hub takes it: there the base64 text is the key, not what it decodes to.
    #[must_use]
    pub fn for_event_hub(&self) -> Self {
        Self(Zeroizing::new(STANDARD.encode(self.bytes()).into_bytes()))
    }

    /// How many bytes the key has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a key is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Not empty: the caller sees to it.
    pub(crate) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(redacted)")
    }
}

impl PartialEq for SymmetricKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes().ct_eq(other.bytes()).into()
    }
}

impl Eq for SymmetricKey {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        let secret = Secret::from("open sesame");
        let key = SymmetricKey::from_base64("b3BlbiBzZXNhbWU=").unwrap();
        for text in [format!("{secret}"), format!("{secret:?}"), format!("{secret:#?}"), format!("{key:?}")] {
            assert!(
                !text.contains("sesame") && !text.contains("b3Bl") && text.contains("redacted"),
                "{text}"
            );
        }
        assert_eq!(secret.reveal(), "open sesame");
    }

    #[test]
    fn keys_decode_and_encode() {
        let key = SymmetricKey::from_base64("b3BlbiBzZXNhbWU=").unwrap();
        assert_eq!(key.bytes(), b"open sesame");
        assert_eq!(key.len(), 11);
        assert_eq!(key.to_base64().reveal(), "b3BlbiBzZXNhbWU=");
    }

    #[test]
    fn bad_keys_are_refused_without_repeating_them() {
        for (text, says) in [
            ("", "empty"),
            ("b3BlbiBzZXNhbWU", "not valid base64"),
            ("b3BlbiBz ZXNhbWU=", "not valid base64"),
            ("b3BlbiBzZXNhb_U=", "not valid base64"),
        ] {
            let error = SymmetricKey::from_base64(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(says) && !shown.contains("b3Bl"), "{shown}");
        }
    }

    #[test]
    fn generated_keys_have_32_bytes_and_differ() {
        let (a, b) = (SymmetricKey::generate().unwrap(), SymmetricKey::generate().unwrap());
        assert_eq!((a.len(), b.len()), (32, 32));
        assert_ne!(a, b);
    }
}
