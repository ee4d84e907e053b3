//! Services of the real cloud that live beside the hub and here share its port: the blob storage that devices upload
//! files to, and the Device Provisioning Service. They have paths, tokens and refusals of their own, so their requests
//! are told apart before the hub's router sees them.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body_util::Full;
use hyper::body::Incoming;

use super::{HttpFront, answer, blobs, body, enrollments, registrations, router};

impl HttpFront {
    /// The answer to a request that is not for the hub; none when it is.
    pub(super) async fn neighbour(
        &self,
        head: &Parts,
        incoming: &mut Incoming,
    ) -> Option<Response<Full<Bytes>>> {
        let segments = router::segments(head.uri.path()).ok()?;
        let now = self.hub.now();
        let storage = self.hub.storage();
        match (&segments[..], storage) {
            ([container, ..], Some(storage)) if container == storage.container() => {
                Some(blobs::serve(storage, &segments, head, incoming, now).await)
            }
            // A device may be called `registrations`, an id scope is never called as the hub's own paths begin.
            ([scope, registrations, _, ..], _)
                if registrations.eq_ignore_ascii_case("registrations") && !is_of_hub(scope) =>
            {
                let (service, certificate) = (&self.provisioning, self.certificate.as_ref());
                Some(registrations::serve(service, &segments, head, incoming, certificate, now).await)
            }
            _ if enrollments::is_for(&segments) => {
                let outcome = self.enrollments(&segments, head, incoming).await;
                body::drain(&head.headers, incoming).await;
                Some(match outcome {
                    Ok(answer) => answer::into_response(Ok(answer), now),
                    Err(error) => registrations::refusal(&error, now),
                })
            }
            _ => None,
        }
    }
}

/// Whether a path of the hub with an id in its second place begins like this.
fn is_of_hub(first: &str) -> bool {
    ["devices", "twins", "digitaltwins"].iter().any(|own| first.eq_ignore_ascii_case(own))
}
