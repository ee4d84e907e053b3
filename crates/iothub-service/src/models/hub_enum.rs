//! Enums of texts the hub uses. Every one keeps texts it does not know, so that a newer hub breaks no reader.

/// Defines an enum over texts of the hub, with an `Unknown(String)` case.
///
/// Texts are compared without regard to case: the hub itself spells some in two ways (rest.md 5.1, `configurations`).
macro_rules! hub_enum {
    (
        $(#[$doc:meta])*
        pub enum $name:ident { $( $(#[$case_doc:meta])* $case:ident = $text:literal, )+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$case_doc])* $case, )+
            /// A text that this version of the crate does not know, kept as the hub sent it.
            Unknown(String),
        }

        impl $name {
            /// The text as the hub writes it.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$case => $text, )+
                    Self::Unknown(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $( if text.eq_ignore_ascii_case($text) { return Self::$case; } )+
                Self::Unknown(text.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Ok(Self::from(text.as_str()))
            }
        }
    };
}

pub(crate) use hub_enum;
