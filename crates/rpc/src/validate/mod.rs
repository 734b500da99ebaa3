//! Rules that a request must keep before anything looks at its meaning.
//!
//! One table entry per message: a field, and what it must look like. A handler calls [`check`]
//! first; the refusal is INVALID_ARGUMENT and names the field by its path. The tables follow the
//! rules that the wire contract states beside its fields, plus one of ours: no list in a request
//! has more than [`MAX_ITEMS`] items.

mod rule;
mod spark;
mod spark_authn;
mod spark_deposit;
mod spark_preimage;
mod spark_transfer;
mod ssp;
mod token;
mod token_query;

use crate::{Error, ServiceError};

/// Most items that a list or map in a request may have.
pub const MAX_ITEMS: usize = 1000;

/// A message with rules.
pub trait Validate {
    /// Checks this message and the messages inside it.
    ///
    /// # Errors
    /// [`Error::MalformedField`], [`Error::MissingField`] or [`Error::DuplicateField`] with the
    /// path of the first field that breaks a rule.
    fn validate(&self) -> Result<(), Error>;
}

/// Checks a request.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn check(request: &impl Validate) -> Result<(), ServiceError> {
    request.validate().map_err(ServiceError::from)
}

/// Writes [`Validate`] for messages: `Message { field: rule, … }`. A field may stand twice if it
/// has two rules.
macro_rules! rules {
    ($($message:ty { $($field:ident: $rule:expr),* $(,)? })*) => {
        $(impl $crate::validate::Validate for $message {
            fn validate(&self) -> Result<(), $crate::Error> {
                $({
                    let rule = $rule;
                    rule(&self.$field).map_err(|error| error.under(stringify!($field)))?;
                })*
                Ok(())
            }
        })*
    };
}

/// Writes [`Validate`] for a `oneof`: `Oneof { Variant as field: rule, … }`; variants that are
/// not listed have no rule.
macro_rules! choices {
    ($($oneof:ty { $($variant:ident as $field:ident: $rule:expr),* $(,)? })*) => {
        $(impl $crate::validate::Validate for $oneof {
            fn validate(&self) -> Result<(), $crate::Error> {
                match self {
                    $(Self::$variant(value) => {
                        let rule = $rule;
                        rule(value).map_err(|error| error.under(stringify!($field)))
                    })*
                    #[allow(unreachable_patterns)]
                    _ => Ok(()),
                }
            }
        })*
    };
}

use {choices, rules};

#[cfg(test)]
mod tests;
