//! Names in configuration files, by serde. Feature `serde`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::name::SecretName;

impl Serialize for SecretName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parses;

        impl Visitor<'_> for Parses {
            type Value = SecretName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a secret, path/of/segments#field")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretName, E> {
                // Our error says which rule is broken and quotes nothing.
                SecretName::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Parses)
    }
}
