//! How often what goes wrong.

/// Chances in a thousand, and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A request is lost.
    pub lose_request: u32,
    /// A reply is lost.
    pub lose_reply: u32,
    /// A request arrives twice, the second time up to seconds later.
    pub double: u32,
    /// Longest delay of a message in milliseconds.
    pub delay_ms: u64,
    /// An operator crashes just before a write.
    pub crash_before: u32,
    /// An operator crashes just after a write.
    pub crash_after: u32,
    /// The database applies a write and the acknowledgement is lost.
    pub lose_acknowledgement: u32,
    /// How far clocks are apart in milliseconds.
    pub skew_ms: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        lose_request: 0,
        lose_reply: 0,
        double: 0,
        delay_ms: 2,
        crash_before: 0,
        crash_after: 0,
        lose_acknowledgement: 0,
        skew_ms: 0,
    };

    /// Now and then something goes wrong.
    pub const FEW: Self = Self {
        lose_request: 5,
        lose_reply: 5,
        double: 30,
        delay_ms: 150,
        crash_before: 4,
        crash_after: 4,
        lose_acknowledgement: 4,
        skew_ms: 3000,
    };

    /// Much goes wrong.
    pub const MANY: Self = Self {
        lose_request: 40,
        lose_reply: 40,
        double: 80,
        delay_ms: 400,
        crash_before: 25,
        crash_after: 25,
        lose_acknowledgement: 15,
        skew_ms: 600_000,
    };
}
