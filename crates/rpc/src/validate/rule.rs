//! The rules that tables are made of. Each makes a function from a field to a verdict.

#![expect(
    clippy::ptr_arg,
    reason = "tables hand rules around as functions of the field's own type"
)]

use std::collections::BTreeMap;
use std::fmt::Display;

use super::{MAX_ITEMS, Validate};
use crate::Error;

type Check = Result<(), Error>;

/// The path is put before it by whoever knows the field's name.
fn broken(problem: impl Into<String>) -> Error {
    Error::malformed("", problem)
}

/// Exactly `length` bytes.
pub(super) fn len<B: AsRef<[u8]>>(length: usize) -> impl Fn(&B) -> Check {
    move |bytes| {
        let found = bytes.as_ref().len();
        if found == length {
            return Ok(());
        }
        Err(broken(format!("must be {length} bytes, is {found}")))
    }
}

/// `least` to `most` bytes.
pub(super) fn len_in<B: AsRef<[u8]>>(least: usize, most: usize) -> impl Fn(&B) -> Check {
    move |bytes| {
        let found = bytes.as_ref().len();
        if (least..=most).contains(&found) {
            return Ok(());
        }
        Err(broken(format!(
            "must be {least} to {most} bytes, is {found}"
        )))
    }
}

/// Nothing, or what the inner rule asks for.
pub(super) fn empty_or<B: AsRef<[u8]>>(inner: impl Fn(&B) -> Check) -> impl Fn(&B) -> Check {
    move |bytes| {
        if bytes.as_ref().is_empty() {
            Ok(())
        } else {
            inner(bytes)
        }
    }
}

/// At most `most` Unicode characters.
pub(super) fn characters(most: usize) -> impl Fn(&String) -> Check {
    move |text| {
        let found = text.chars().count();
        if found <= most {
            return Ok(());
        }
        Err(broken(format!(
            "must have at most {most} characters, has {found}"
        )))
    }
}

/// A UUID in its usual form.
pub(super) fn uuid(text: &String) -> Check {
    if text.len() == 36 && uuid::Uuid::try_parse(text).is_ok() {
        return Ok(());
    }
    Err(broken(
        "must be a UUID like 01234567-89ab-7cde-8f01-23456789abcd",
    ))
}

/// A day, `YYYY-MM-DD`.
pub(super) fn date(text: &String) -> Check {
    if is_date(text).is_some_and(|real| real) {
        return Ok(());
    }
    Err(broken("must be a day written YYYY-MM-DD"))
}

fn is_date(text: &str) -> Option<bool> {
    let digits = |part: &str, width: usize| -> Option<u32> {
        (part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse().ok())?
    };
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return Some(false),
    };
    Some(parts.next().is_none() && (1..=days).contains(&day))
}

/// An enumeration's value other than zero.
pub(super) fn not_zero(value: &i32) -> Check {
    if *value != 0 {
        return Ok(());
    }
    Err(broken("must be set, is unspecified"))
}

/// A value that the enumeration `E` defines, other than zero.
pub(super) fn defined<E: TryFrom<i32>>(value: &i32) -> Check {
    not_zero(value)?;
    E::try_from(*value)
        .map(drop)
        .map_err(|_| broken(format!("{value} is not defined")))
}

/// A number between two others, both included.
pub(super) fn within<N: PartialOrd + Display + Copy>(least: N, most: N) -> impl Fn(&N) -> Check {
    move |value| {
        if (least..=most).contains(value) {
            return Ok(());
        }
        Err(broken(format!("must be {least} to {most}, is {value}")))
    }
}

/// A number not below another.
pub(super) fn at_least<N: PartialOrd + Display + Copy>(least: N) -> impl Fn(&N) -> Check {
    move |value| {
        if *value >= least {
            return Ok(());
        }
        Err(broken(format!("must be at least {least}, is {value}")))
    }
}

/// If it is set, then the inner rule.
pub(super) fn optional<T>(inner: impl Fn(&T) -> Check) -> impl Fn(&Option<T>) -> Check {
    move |value| value.as_ref().map_or(Ok(()), &inner)
}

/// It must be set, and keep its own rules.
pub(super) fn required<T: Validate>(value: &Option<T>) -> Check {
    value.as_ref().ok_or_else(|| Error::missing(""))?.validate()
}

/// If it is set, then its own rules.
pub(super) fn nested<T: Validate>(value: &Option<T>) -> Check {
    value.as_ref().map_or(Ok(()), Validate::validate)
}

/// For a choice of which each variant names its own field.
pub(super) fn message<T: Validate>(value: &T) -> Check {
    value.validate()
}

/// A list that is not too long.
pub(super) fn list<T>(items: &Vec<T>) -> Check {
    if items.len() <= MAX_ITEMS {
        return Ok(());
    }
    Err(broken(format!(
        "must have at most {MAX_ITEMS} items, has {}",
        items.len()
    )))
}

/// A list with a least length.
pub(super) fn min_items<T>(least: usize) -> impl Fn(&Vec<T>) -> Check {
    move |items| {
        if items.len() >= least {
            return Ok(());
        }
        Err(broken(format!(
            "must have at least {least} items, has {}",
            items.len()
        )))
    }
}

/// A list that is not too long, each item of which keeps the inner rule.
pub(super) fn each<T>(inner: impl Fn(&T) -> Check) -> impl Fn(&Vec<T>) -> Check {
    move |items| {
        list(items)?;
        for (position, item) in items.iter().enumerate() {
            inner(item).map_err(|error| error.under(&format!("[{position}]")))?;
        }
        Ok(())
    }
}

/// A map that is not too long.
pub(super) fn map<V>(entries: &BTreeMap<String, V>) -> Check {
    if entries.len() <= MAX_ITEMS {
        return Ok(());
    }
    Err(broken(format!(
        "must have at most {MAX_ITEMS} entries, has {}",
        entries.len()
    )))
}
