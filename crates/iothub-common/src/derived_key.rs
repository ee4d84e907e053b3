//! Keys that follow from another key: those of the members of a provisioning group.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::SymmetricKey;

impl SymmetricKey {
    /// The key of one member of a group whose key this is: HMAC-SHA256 of the text. For enrollment groups of the
    /// Device Provisioning Service the text is the registration id as the device presents it, in its own case
    /// (dps.md 2.2).
    #[must_use]
    pub fn derive(&self, text: &str) -> Self {
        // HMAC takes keys of any length (RFC 2104): this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.bytes()).expect("HMAC takes any key length");
        mac.update(text.as_bytes());
        Self::from_bytes(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::sas::sign;

    const GROUP: &str =
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";

    /// The table of dps.md 2.2.
    #[test]
    fn members_of_a_group_have_the_keys_of_the_reference() {
        for (group, id, key) in [
            (GROUP, "sensor-01", "AjovQRagSicIHgvC+IaHN/oeUQcVO1iCiFB33IYSeJE="),
            (GROUP, "Sensor-01", "CPEsV7tZMoxFvnEEi1LZ9BfeRSon1y3L+HLo/FZys6E="),
            ("ZW11bGF0b3ItdGVzdC1rZXktMDAwMDAw", "sensor-01", "aiTsIy80WQpAyEbINOF27S+1JtboZaeON1idNSysDQ8="),
        ] {
            let derived = SymmetricKey::from_base64(group).unwrap().derive(id);
            assert_eq!(derived.to_base64().reveal(), key, "{id}");
        }
    }

    /// dps.md 2.2: scope `0ne00000001`, the first row's key.
    #[test]
    fn they_sign_the_token_of_the_reference() {
        let key = SymmetricKey::from_base64(GROUP).unwrap().derive("sensor-01");
        let until = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        let token = sign(&key, "0ne00000001/registrations/sensor-01", Some("registration"), until);
        assert_eq!(
            token.reveal(),
            "SharedAccessSignature sr=0ne00000001%2Fregistrations%2Fsensor-01\
             &sig=BhOkLx5Opc2AAbQZsPCn7w5ZVQUCqx5KlmNaxGGsXPg%3D&se=1893456000&skn=registration"
        );
    }
}
