//! The enrollment list of the provisioning service over HTTP: put, get, delete, one at a time (dps.md 10). The hub's
//! policies are those of this service too.

use http::request::Parts;
use http::{HeaderMap, Method};
use hyper::body::Incoming;

use super::access;
use super::answer::{self, Answer};
use super::call::Query;
use super::{HttpFront, body};
use crate::hub::{HubError, Rights};
use crate::provisioning::{Enrollment, refused};

/// Whether a path is one of the list's.
pub(super) fn is_for(segments: &[String]) -> bool {
    segments.first().is_some_and(|first| kind(first).is_some())
}

/// Whether it is about groups.
fn kind(first: &str) -> Option<bool> {
    if first.eq_ignore_ascii_case("enrollments") {
        return Some(false);
    }
    first.eq_ignore_ascii_case("enrollmentGroups").then_some(true)
}

impl HttpFront {
    pub(super) async fn enrollments(
        &self,
        segments: &[String],
        head: &Parts,
        incoming: &mut Incoming,
    ) -> Result<Answer, HubError> {
        let query = Query::parse(head.uri.query().unwrap_or_default());
        access::check_api_version(&query)?;
        let right = if head.method == Method::GET { Rights::REGISTRY_READ } else { Rights::REGISTRY_WRITE };
        access::authorize(&self.hub, &head.headers, segments, right)?;
        let nothing = || refused(404_000, format!("no endpoint {} {}", head.method, head.uri.path()));
        let [first, id] = segments else { return Err(nothing()) };
        let is_group = kind(first).ok_or_else(nothing)?;
        match head.method {
            Method::PUT => self.put_enrollment(id, is_group, &head.headers, incoming).await,
            Method::GET => {
                let enrollment = self.provisioning.enrollment(id, is_group);
                Ok(Answer::entity(&enrollment.ok_or_else(|| unknown(id))?.to_json()))
            }
            Method::DELETE if self.provisioning.remove(id, is_group) => Ok(Answer::no_content()),
            Method::DELETE => Err(unknown(id)),
            _ => Err(nothing()),
        }
    }

    async fn put_enrollment(
        &self,
        id: &str,
        is_group: bool,
        headers: &HeaderMap,
        incoming: &mut Incoming,
    ) -> Result<Answer, HubError> {
        let body = body::read(headers, incoming).await?;
        let body = serde_json::from_slice(&body)
            .map_err(|error| answer::bad_request(format!("the request body is not JSON: {error}")))?;
        let enrollment = Enrollment::read(id, is_group, &body)?;
        let document = enrollment.to_json();
        self.provisioning.enroll(enrollment);
        Ok(Answer::entity(&document))
    }
}

fn unknown(id: &str) -> HubError {
    refused(404_201, format!("there is no enrollment '{id}'"))
}
