//! Shared access policies of the hub and what they allow.

use iothub_common::{Result, SymmetricKey};

/// A set of permissions (rest.md 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Read identities.
    pub const REGISTRY_READ: Self = Self(1);
    /// Create, change and delete identities.
    pub const REGISTRY_WRITE: Self = Self(2);
    /// Twins, queries, methods, messages: everything a service does with devices.
    pub const SERVICE_CONNECT: Self = Self(4);
    /// Act as any device or module.
    pub const DEVICE_CONNECT: Self = Self(8);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether everything in `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A shared access policy: a name, what it allows, and two keys that are equally good.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Like `iothubowner`; `SharedAccessKeyName` in connection strings, `skn` in tokens.
    pub name: String,
    /// What its tokens allow.
    pub rights: Rights,
    /// One key.
    pub primary: SymmetricKey,
    /// The other key.
    pub secondary: SymmetricKey,
}

impl Policy {
    /// A policy with fresh keys.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers.
    pub fn generate(name: impl Into<String>, rights: Rights) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            rights,
            primary: SymmetricKey::generate()?,
            secondary: SymmetricKey::generate()?,
        })
    }

    /// The five policies every hub is born with, with fresh keys (rest.md 1.4).
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers.
    pub fn defaults() -> Result<Vec<Self>> {
        let read_write = Rights::REGISTRY_READ.and(Rights::REGISTRY_WRITE);
        [
            ("iothubowner", Rights::ALL),
            ("service", Rights::SERVICE_CONNECT),
            ("device", Rights::DEVICE_CONNECT),
            ("registryRead", Rights::REGISTRY_READ),
            ("registryReadWrite", read_write),
        ]
        .into_iter()
        .map(|(name, rights)| Self::generate(name, rights))
        .collect()
    }
}
