//! Faults at chosen places, for tests that say exactly what goes wrong.
//!
//! A run from a seed meets everything sooner or later; a test of one case wants its fault at the
//! third message, or at a participant's second write, and nowhere else.

use std::time::Duration;

use tinderbox_commit::{Message, Reply};
use tinderbox_frost::OperatorIndex;

/// A message between two operators that is about to travel.
#[derive(Debug)]
pub struct Passing<'a> {
    /// Who sends it.
    pub from: OperatorIndex,
    /// Who is to get it.
    pub to: OperatorIndex,
    /// What it says.
    pub message: &'a Message,
    /// How many passed since the tap was set.
    pub place: usize,
}

/// Changes a reply on its way back.
pub type Alter = Box<dyn FnOnce(Reply) -> Reply + Send>;

/// What becomes of a message.
pub enum Fate {
    /// It arrives, and its reply comes back.
    Carry,
    /// It is lost; the sender learns after a while that no reply comes.
    LoseRequest,
    /// It arrives, and its reply is lost.
    LoseReply,
    /// It arrives now and again later.
    Double(Duration),
    /// It arrives after this time. Others overtake it.
    Late(Duration),
    /// The sender dies before it leaves.
    CrashSender,
    /// The receiver dies before it arrives.
    CrashReceiver,
    /// Its reply is changed on the way: the peer lies.
    Alter(Alter),
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFate {
    /// It is done.
    Write,
    /// The operator dies before it.
    CrashBefore,
    /// The operator dies after it.
    CrashAfter,
    /// It is done, and the database's acknowledgement is lost.
    LoseAcknowledgement,
}

/// Decides about messages.
pub type MessageTap = Box<dyn FnMut(&Passing<'_>) -> Fate + Send>;
/// Decides about writes, by operator.
pub type WriteTap = Box<dyn FnMut(OperatorIndex) -> WriteFate + Send>;

/// What tests have set.
#[derive(Default)]
pub(super) struct Taps {
    pub(super) message: Option<MessageTap>,
    pub(super) passed: usize,
    pub(super) write: Option<WriteTap>,
}

impl Taps {
    pub(super) fn fate(
        &mut self,
        from: OperatorIndex,
        to: OperatorIndex,
        message: &Message,
    ) -> Fate {
        let place = self.passed;
        self.passed += 1;
        match &mut self.message {
            Some(tap) => tap(&Passing {
                from,
                to,
                message,
                place,
            }),
            None => Fate::Carry,
        }
    }

    pub(super) fn write(&mut self, operator: OperatorIndex) -> WriteFate {
        match &mut self.write {
            Some(tap) => tap(operator),
            None => WriteFate::Write,
        }
    }
}
