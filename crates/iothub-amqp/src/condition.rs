//! Error conditions as text: the codec's enum splits them by layer, which nobody here cares about.

use fe2o3_amqp_types::definitions::{Error, ErrorCondition};
use serde_amqp::primitives::Symbol;

/// The condition of an error, such as `amqp:not-found`.
pub fn condition(error: &Error) -> String {
    match &error.condition {
        ErrorCondition::AmqpError(condition) => Symbol::from(condition).into_inner(),
        ErrorCondition::ConnectionError(condition) => Symbol::from(condition).into_inner(),
        ErrorCondition::SessionError(condition) => Symbol::from(condition).into_inner(),
        ErrorCondition::LinkError(condition) => Symbol::from(condition).into_inner(),
        ErrorCondition::Custom(symbol) => symbol.as_str().to_owned(),
    }
}

/// An error with any condition.
pub fn amqp_error(condition: &str, description: impl Into<String>) -> Error {
    Error::new(ErrorCondition::Custom(Symbol::from(condition)), description.into(), None)
}
