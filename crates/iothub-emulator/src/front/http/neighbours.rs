//! Services of the real cloud that live beside the hub and here share its port: the blob storage that devices upload
//! files to. They have paths, tokens and refusals of their own, so their requests are told apart before the hub's
//! router sees them.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body_util::Full;
use hyper::body::Incoming;

use super::{HttpFront, blobs, router};

impl HttpFront {
    /// The answer to a request that is not for the hub; none when it is.
    pub(super) async fn neighbour(
        &self,
        head: &Parts,
        incoming: &mut Incoming,
    ) -> Option<Response<Full<Bytes>>> {
        let segments = router::segments(head.uri.path()).ok()?;
        let storage = self.hub.storage()?;
        match &segments[..] {
            [container, ..] if container == storage.container() => {
                Some(blobs::serve(storage, &segments, head, incoming, self.hub.now()).await)
            }
            _ => None,
        }
    }
}
