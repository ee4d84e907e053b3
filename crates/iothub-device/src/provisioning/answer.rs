//! What the service says about a registration (dps.md 3, 8).

use std::fmt;

use iothub_common::{Error, ErrorKind, RawJson, Result};
use iothub_http::Answer;
use serde::Deserialize;

use crate::http::from_json;

/// Who asked; it words the messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) id_scope: &'a str,
    pub(super) registration_id: &'a str,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registration `{}` in ID scope `{}`", self.registration_id, self.id_scope)
    }
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Step {
    Assigning { operation: String },
    Assigned(Box<Assigned>),
}

#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) hub: String,
    pub(super) device_id: String,
    pub(super) substatus: Option<String>,
    pub(super) payload: Option<RawJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    operation_id: Option<String>,
    status: String,
    #[serde(default)]
    registration_state: State,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct State {
    assigned_hub: Option<String>,
    device_id: Option<String>,
    substatus: Option<String>,
    payload: Option<RawJson>,
    error_code: Option<u64>,
    error_message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Refusal {
    error_code: Option<u64>,
    tracking_id: Option<String>,
    message: Option<String>,
}

/// Reads an answer that is a success of HTTP; the registration may have failed all the same.
pub(super) fn step(answer: &Answer, who: &Who<'_>) -> Result<Step> {
    let progress: Progress = from_json("register", answer)?;
    let state = progress.registration_state;
    let incomplete = |what: &str| {
        Error::new(
            ErrorKind::Protocol,
            format!("the provisioning service said `{}` without {what}", progress.status),
        )
    };
    match progress.status.to_ascii_lowercase().as_str() {
        "assigning" => {
            let operation = progress.operation_id.ok_or_else(|| incomplete("an operation id"))?;
            Ok(Step::Assigning { operation })
        }
        "assigned" => Ok(Step::Assigned(Box::new(Assigned {
            hub: state.assigned_hub.ok_or_else(|| incomplete("a hub"))?,
            device_id: state.device_id.ok_or_else(|| incomplete("a device id"))?,
            substatus: state.substatus,
            payload: state.payload.filter(|payload| !payload.is_null()),
        }))),
        "disabled" => {
            let message =
                format!("the enrollment of {who} is disabled; enable it in the provisioning service");
            Err(rejected(message, state))
        }
        "failed" => {
            let message = format!(
                "the provisioning service could not assign {who}; check the hubs that are linked to it and the \
                 allocation policy"
            );
            Err(rejected(message, state))
        }
        other => {
            let message =
                format!("the provisioning service says that {who} is `{other}`, which is no known status");
            Err(Error::new(ErrorKind::Protocol, message))
        }
    }
}

fn rejected(message: String, state: State) -> Error {
    let mut error = Error::new(ErrorKind::Rejected, message);
    if let Some(code) = state.error_code {
        error = error.with_hub_code(code.to_string());
    }
    match state.error_message.filter(|message| !message.is_empty()) {
        Some(message) => error.with_source(message),
        None => error,
    }
}

/// The error of an answer that is no success.
pub(super) fn refusal(answer: &Answer, who: &Who<'_>) -> Error {
    let status = answer.status.as_u16();
    let said: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
    let (kind, message) = match status {
        401 | 403 => (
            ErrorKind::Unauthorized,
            format!(
                "the provisioning service did not accept {who}; check the ID scope, that there is an enrollment for the \
                 id, its key or certificate, and this machine's clock"
            ),
        ),
        404 => (ErrorKind::NotFound, format!("the provisioning service knows no {who}; is it enrolled?")),
        429 => (ErrorKind::Throttled, "the provisioning service throttles; register again later".to_owned()),
        500..600 => (
            ErrorKind::Unavailable,
            "the provisioning service cannot serve right now; try again later".to_owned(),
        ),
        _ => (ErrorKind::InvalidInput, format!("the provisioning service refused {who}")),
    };
    let mut error = Error::new(kind, message).with_status(status);
    if let Some(code) = said.error_code {
        error = error.with_hub_code(code.to_string());
    }
    if let Some(id) = said.tracking_id {
        error = error.with_tracking_id(id);
    }
    match said.message.filter(|message| !message.is_empty()) {
        Some(message) => error.with_source(message),
        None => error,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    const WHO: Who<'static> = Who { id_scope: "0ne1", registration_id: "d" };

    fn answer(status: u16, body: &'static str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Bytes::from(body) }
    }

    #[test]
    fn every_status_has_its_meaning() {
        let step = |body| step(&answer(200, body), &WHO);
        assert!(matches!(
            step(r#"{"operationId":"5.1.2","status":"assigning"}"#).unwrap(),
            Step::Assigning { operation } if operation == "5.1.2"
        ));
        let body = r#"{"operationId":"o","status":"Assigned","registrationState":{"assignedHub":"h","deviceId":"d",
            "substatus":"initialAssignment","payload":{"a":1},"x509":{"enrollmentGroupId":"g"}}}"#;
        let Step::Assigned(assigned) = step(body).unwrap() else { panic!("not assigned") };
        assert_eq!((assigned.hub.as_str(), assigned.device_id.as_str()), ("h", "d"));
        assert_eq!(assigned.payload.unwrap().as_str(), r#"{"a":1}"#);
        for (body, kind) in [
            (r#"{"operationId":"o","status":"disabled"}"#, ErrorKind::Rejected),
            (r#"{"status":"failed","registrationState":{"errorCode":400208}}"#, ErrorKind::Rejected),
            (r#"{"status":"unassigned"}"#, ErrorKind::Protocol),
            (r#"{"status":"assigning"}"#, ErrorKind::Protocol),
            (r#"{"status":"assigned","registrationState":{"deviceId":"d"}}"#, ErrorKind::Protocol),
            ("", ErrorKind::Protocol),
        ] {
            assert_eq!(step(body).unwrap_err().kind(), kind, "{body}");
        }
    }

    #[test]
    fn refusals_keep_what_the_service_says() {
        let body = r#"{"errorCode":401002,"trackingId":"t","message":"Unauthorized","timestampUtc":"x"}"#;
        let error = refusal(&answer(401, body), &WHO);
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert_eq!((error.hub_code(), error.tracking_id()), (Some("401002"), Some("t")));
        for (status, kind) in [
            (400, ErrorKind::InvalidInput),
            (404, ErrorKind::NotFound),
            (429, ErrorKind::Throttled),
            (503, ErrorKind::Unavailable),
        ] {
            let error = refusal(&answer(status, "<html>"), &WHO);
            assert_eq!((error.kind(), error.status()), (kind, Some(status)));
        }
    }
}
