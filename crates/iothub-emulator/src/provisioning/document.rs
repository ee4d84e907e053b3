//! Enrollments as the service's own interface has them (dps.md 10).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iothub_common::SymmetricKey;
use serde_json::{Map, Value, json};

use super::enrollment::{Attestation, Enrollment, Kind};
use super::refused;
use crate::hub::HubError;

impl Enrollment {
    /// Reads what was put under an id. Members that mean nothing here are kept and shown again, such as the policies
    /// for several hubs.
    pub(crate) fn read(id: &str, is_group: bool, body: &Value) -> Result<Self, HubError> {
        let Value::Object(body) = body else { return Err(bad("the body must be an object")) };
        let name = id_member(is_group);
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(given)) if given.eq_ignore_ascii_case(id) => {}
            Some(given) => return Err(bad(format!("{name} in the body is {given}, in the path '{id}'"))),
        }
        let attestation = attestation(&body.get("attestation").cloned().unwrap_or_default())?;
        let mut enrollment =
            if is_group { Self::group(id, attestation) } else { Self::individual(id, attestation) };
        if let Some(device_id) = text(body, "deviceId")? {
            enrollment = enrollment.device_id(device_id);
        }
        enrollment.is_enabled = match text(body, "provisioningStatus")? {
            None => true,
            Some(status) if status.eq_ignore_ascii_case("enabled") => true,
            Some(status) if status.eq_ignore_ascii_case("disabled") => false,
            Some(_) => return Err(bad("provisioningStatus must be 'enabled' or 'disabled'")),
        };
        enrollment.iot_edge = body.get("capabilities").is_some_and(|all| all["iotEdge"] == true);
        if let Some(twin @ Value::Object(_)) = body.get("initialTwin") {
            let part = |value: &Value| if value.is_object() { value.clone() } else { json!({}) };
            enrollment = enrollment.initial_twin(&part(&twin["tags"]), &part(&twin["properties"]["desired"]));
        }
        enrollment.extra = body.clone();
        Ok(enrollment)
    }

    /// As it is shown, keys included.
    pub(crate) fn to_json(&self) -> Value {
        let mut document = self.extra.clone();
        document.insert(id_member(self.is_group).to_owned(), self.id.as_str().into());
        if let Some(device_id) = &self.device_id {
            document.insert("deviceId".to_owned(), device_id.as_str().into());
        }
        if let Kind::Keys { primary, secondary } = &self.attestation.0 {
            let keys = json!({
                "primaryKey": primary.to_base64().reveal(),
                "secondaryKey": secondary.to_base64().reveal(),
            });
            document
                .insert("attestation".to_owned(), json!({ "type": "symmetricKey", "symmetricKey": keys }));
        }
        let status = if self.is_enabled { "enabled" } else { "disabled" };
        document.insert("provisioningStatus".to_owned(), status.into());
        document.insert("capabilities".to_owned(), json!({ "iotEdge": self.iot_edge }));
        document.insert("etag".to_owned(), self.etag.as_str().into());
        Value::Object(document)
    }
}

fn id_member(is_group: bool) -> &'static str {
    if is_group { "enrollmentGroupId" } else { "registrationId" }
}

fn attestation(given: &Value) -> Result<Attestation, HubError> {
    match given["type"].as_str() {
        Some("symmetricKey") => {
            let key = |name: &str| match given["symmetricKey"][name].as_str().filter(|text| !text.is_empty())
            {
                None => SymmetricKey::generate().map_err(|error| bad(error.to_string())),
                // The text of the key stays out of errors and logs.
                Some(text) => SymmetricKey::from_base64(text)
                    .map_err(|_| bad(format!("{name} of the attestation is not base64"))),
            };
            Ok(Attestation::keys(key("primaryKey")?, key("secondaryKey")?))
        }
        Some("x509") => {
            let x509 = &given["x509"];
            let all = [&x509["clientCertificates"], &x509["signingCertificates"]];
            let texts = all.into_iter().flat_map(|pair| [&pair["primary"], &pair["secondary"]]);
            let pem: String = texts.filter_map(|one| one["certificate"].as_str()).map(to_pem).collect();
            Attestation::x509(pem)
                .map_err(|error| bad(format!("the certificates of the attestation: {error}")))
        }
        _ => Err(bad("attestation.type must be 'symmetricKey' or 'x509' here")),
    }
}

/// PEM, or the base64 of the certificate alone.
fn to_pem(text: &str) -> String {
    if text.contains("-----BEGIN") {
        return format!("{}\n", text.trim_end());
    }
    let bare: String = text.split_whitespace().collect();
    // What is no base64 is found to be no certificate later.
    let der = STANDARD.decode(&bare).unwrap_or_default();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, HubError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(bad(format!("{name} must be a string"))),
    }
}

fn bad(text: impl Into<String>) -> HubError {
    refused(400_000, text)
}
