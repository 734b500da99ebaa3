//! How many votes decide. The only place that knows.

/// Yes votes that make a certificate among `operators`. All of them: each holds a share of the key
/// that must move. A later version may park the package of an operator that is down; then
/// `q ≥ max(t, n − t + 1)` still keeps certificates and refusals apart.
#[must_use]
pub const fn yes_needed(operators: u16) -> u16 {
    operators
}

/// No votes that make a refusal among `operators`: as many as leave too few for a certificate.
#[must_use]
pub const fn no_needed(operators: u16) -> u16 {
    operators
        .saturating_sub(yes_needed(operators))
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_and_refusal_exclude_each_other() {
        for operators in 2..=20 {
            assert!(yes_needed(operators) + no_needed(operators) > operators);
            assert!(no_needed(operators) >= 1);
        }
    }
}
