//! Whether a device is who it says, and by which enrollment (dps.md 2).

use std::collections::BTreeMap;
use std::time::SystemTime;

use iothub_common::{SasToken, SymmetricKey};
use serde_json::{Value, json};

use super::enrollment::{Enrollment, Kind};
use super::unauthorized;
use crate::hub::{ClientCertificate, HubError};

/// What came with a request to prove it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Proof<'a> {
    pub(crate) token: Option<&'a str>,
    pub(crate) certificate: Option<&'a ClientCertificate>,
}

/// Who wants in, and with what.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) scope: &'a str,
    pub(super) id: &'a str,
    pub(super) proof: &'a Proof<'a>,
    pub(super) now: SystemTime,
}

/// Proven.
pub(super) struct Attested<'a> {
    pub(super) enrollment: &'a Enrollment,
    /// How the device is to prove itself to the hub: with what it has shown here (dps.md 9).
    pub(super) authentication: Value,
}

type Enrollments = BTreeMap<String, Enrollment>;

/// An individual enrollment decides alone, also when it is disabled; else the first group that fits.
pub(super) fn attest<'a>(
    shown: &Shown<'_>,
    individuals: &'a Enrollments,
    groups: &'a Enrollments,
) -> Result<Attested<'a>, HubError> {
    let individual = individuals.get(&shown.id.to_ascii_lowercase());
    match (shown.proof.token, shown.proof.certificate) {
        (Some(token), _) => {
            let token = read_token(token, shown)?;
            match individual {
                Some(enrollment) => individual_key(&token, enrollment, shown.id),
                None => group_key(&token, groups, shown.id),
            }
        }
        (None, Some(certificate)) => {
            check_common_name(certificate, shown.id)?;
            match individual {
                Some(enrollment) => individual_certificate(certificate, enrollment, shown.id),
                None => group_certificate(certificate, groups, shown),
            }
        }
        (None, None) => Err(unauthorized("there is neither a token nor a client certificate")),
    }
}

/// The signature goes over the resource as it stands in the token; what it is for is compared decoded and without
/// regard to case. Nobody insists on `skn` (dps.md 2.1).
fn read_token(text: &str, shown: &Shown<'_>) -> Result<SasToken, HubError> {
    let token = SasToken::parse(text).map_err(|error| unauthorized(&error.to_string()))?;
    let wanted = format!("{}/registrations/{}", shown.scope, shown.id);
    if !token.resource.eq_ignore_ascii_case(&wanted) {
        return Err(unauthorized(&format!("the token is for '{}', not for '{wanted}'", token.resource)));
    }
    if token.is_expired(shown.now) {
        return Err(unauthorized("the token has expired; compare the clocks of both sides"));
    }
    Ok(token)
}

fn individual_key<'a>(
    token: &SasToken,
    enrollment: &'a Enrollment,
    id: &str,
) -> Result<Attested<'a>, HubError> {
    let Kind::Keys { primary, secondary } = &enrollment.attestation.0 else {
        return Err(unauthorized(&format!("the enrollment of '{id}' wants a client certificate")));
    };
    if token.verify(primary) || token.verify(secondary) {
        return Ok(Attested { enrollment, authentication: keys(primary, secondary) });
    }
    Err(unauthorized(&format!("the key is not that of the enrollment of '{id}'")))
}

fn group_key<'a>(token: &SasToken, groups: &'a Enrollments, id: &str) -> Result<Attested<'a>, HubError> {
    for enrollment in groups.values() {
        let Kind::Keys { primary, secondary } = &enrollment.attestation.0 else { continue };
        // As the device presents its id, and as older documentation wanted it (dps.md 2.2).
        for id in [id.to_owned(), id.to_ascii_lowercase()] {
            let (one, two) = (primary.derive(&id), secondary.derive(&id));
            if token.verify(&one) || token.verify(&two) {
                return Ok(Attested { enrollment, authentication: keys(&one, &two) });
            }
        }
        if token.verify(primary) || token.verify(secondary) {
            let text = format!(
                "the token is signed with the key of group '{}' itself; a device's key is derived from it",
                enrollment.id
            );
            return Err(unauthorized(&text));
        }
    }
    Err(unauthorized(&format!("there is no enrollment of '{id}', and its key is that of no group's member")))
}

fn check_common_name(certificate: &ClientCertificate, id: &str) -> Result<(), HubError> {
    match certificate.common_name() {
        Some(name) if name.eq_ignore_ascii_case(id) => Ok(()),
        Some(name) => Err(unauthorized(&format!("the certificate is that of '{name}', not of '{id}'"))),
        None => Err(unauthorized("the certificate has no common name")),
    }
}

fn individual_certificate<'a>(
    certificate: &ClientCertificate,
    enrollment: &'a Enrollment,
    id: &str,
) -> Result<Attested<'a>, HubError> {
    let Kind::Certificates { thumbprints, .. } = &enrollment.attestation.0 else {
        return Err(unauthorized(&format!("the enrollment of '{id}' wants a token")));
    };
    if certificate.thumbprints().iter().any(|shown| thumbprints.contains(shown)) {
        return Ok(Attested { enrollment, authentication: thumbprint(certificate) });
    }
    Err(unauthorized(&format!("the certificate is not that of the enrollment of '{id}'")))
}

fn group_certificate<'a>(
    certificate: &ClientCertificate,
    groups: &'a Enrollments,
    shown: &Shown<'_>,
) -> Result<Attested<'a>, HubError> {
    let mut why = "there is no group with certificates".to_owned();
    for enrollment in groups.values() {
        let Kind::Certificates { authorities, .. } = &enrollment.attestation.0 else { continue };
        match certificate.is_signed_by(authorities, shown.now) {
            Ok(()) => return Ok(Attested { enrollment, authentication: thumbprint(certificate) }),
            Err(error) => why = error,
        }
    }
    Err(unauthorized(&format!("the certificate of '{}' is that of no group's member: {why}", shown.id)))
}

/// In the form in which the hub shows it, to be compared with that.
fn keys(primary: &SymmetricKey, secondary: &SymmetricKey) -> Value {
    json!({
        "symmetricKey": {
            "primaryKey": primary.to_base64().reveal(),
            "secondaryKey": secondary.to_base64().reveal(),
        },
        "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
        "type": "sas",
    })
}

fn thumbprint(certificate: &ClientCertificate) -> Value {
    let [_, sha256] = certificate.thumbprints();
    json!({
        "symmetricKey": { "primaryKey": null, "secondaryKey": null },
        "x509Thumbprint": { "primaryThumbprint": sha256, "secondaryThumbprint": null },
        "type": "selfSigned",
    })
}
