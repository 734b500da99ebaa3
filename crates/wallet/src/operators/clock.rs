//! The operators' time, from the `date` header of their answers.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::since_epoch;

/// How far an operator's clock is from ours, in seconds.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    ahead: AtomicI64,
}

impl ServerClock {
    /// Takes in a `date` header (RFC 9110, IMF-fixdate); anything else is ignored.
    pub(super) fn note(&self, date: &str) {
        if let Some(theirs) = parse(date) {
            self.ahead
                .store(theirs.saturating_sub(local()), Ordering::Relaxed);
        }
    }

    /// The operator's time in seconds since 1970, to about a second.
    pub(super) fn now(&self) -> i64 {
        local().saturating_add(self.ahead.load(Ordering::Relaxed))
    }
}

fn local() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970.
fn parse(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words
        .next()?
        .parse::<i64>()
        .ok()
        .filter(|d| (1..=31).contains(d))?;
    let name = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|m| *m == name)?)
        .ok()?
        .checked_add(1)?;
    let year = words
        .next()?
        .parse::<i64>()
        .ok()
        .filter(|y| (1970..=9999).contains(y))?;
    let mut time = words
        .next()?
        .split(':')
        .map(|part| part.parse::<i64>().ok().filter(|n| (0..=60).contains(n)));
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if words.next() != Some("GMT") {
        return None;
    }
    // Days from the civil calendar, years beginning in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted / 400;
    let year_of_era = shifted - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_headers_are_read() {
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("Sun, 06 Foo 1994 08:49:37 GMT"), None);
    }

    #[test]
    fn the_operators_clock_counts_not_ours() {
        let clock = ServerClock::default();
        clock.note("Sun, 06 Nov 1994 08:49:37 GMT");
        assert!((784_111_777..784_111_780).contains(&clock.now()));
    }
}
