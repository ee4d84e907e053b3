//! JSON that goes out as a body.

use bytes::Bytes;

use super::RawJson;

pub(crate) use iothub_common::direct_method::whole_seconds as seconds;

/// JSON as a body.
pub(crate) fn body(json: &RawJson) -> Bytes {
    Bytes::copy_from_slice(json.as_str().as_bytes())
}
