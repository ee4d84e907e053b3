//! What an error means for going on.

use iothub_common::{Error, ErrorKind};

/// Whether trying again is of no use. A certificate that was fine before may be so again, and a hub that was
/// found before may only be on its way to another place.
pub(super) fn is_final(error: &Error, was_connected: bool) -> bool {
    let hub_missing =
        matches!(error.hub_code(), Some("IotHubNotFound" | "com.microsoft:iot-hub-not-found-error"));
    match error.kind() {
        ErrorKind::NotFound if hub_missing => !was_connected,
        ErrorKind::Unauthorized | ErrorKind::NotFound | ErrorKind::InvalidInput => true,
        ErrorKind::Certificate => !was_connected,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_final_depends_on_having_been_connected() {
        let error = |kind| Error::new(kind, "x");
        let hub_gone = error(ErrorKind::NotFound).with_hub_code("com.microsoft:iot-hub-not-found-error");
        let cases = [
            (error(ErrorKind::Unauthorized), true, true),
            (error(ErrorKind::NotFound), true, true),
            (error(ErrorKind::InvalidInput), true, true),
            (hub_gone, true, false),
            (error(ErrorKind::Certificate), true, false),
            (error(ErrorKind::Connect), false, false),
            (error(ErrorKind::Throttled), false, false),
            (error(ErrorKind::QuotaExceeded), false, false),
            (error(ErrorKind::Protocol), false, false),
        ];
        for (error, at_first, later) in cases {
            assert_eq!((is_final(&error, false), is_final(&error, true)), (at_first, later), "{error:?}");
        }
    }
}
