use std::sync::{Arc, OnceLock};

use tinderbox_protocol::authn::{ProtectedSession, SspProtectedChallenge};
use tinderbox_rpc::session::{InMemoryNonces, Lifetimes, SessionKeys, Sessions};
use tinderbox_rpc::{Caller, ServiceError};
use tonic::{Code, Status};

fn sessions() -> &'static Sessions {
    static SESSIONS: OnceLock<Sessions> = OnceLock::new();
    SESSIONS.get_or_init(|| {
        Sessions::new(
            SessionKeys::derive(&[7; 32]),
            Arc::new(InMemoryNonces::new(10)),
            Lifetimes::default(),
        )
    })
}

pub(super) fn run(data: &[u8]) {
    // Nobody guesses a token.
    let caller = sessions().caller(Some(data), 1_700_000_000);
    assert!(matches!(caller, Caller::Anonymous { .. }));
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(session) = ProtectedSession::from_token(text) {
            let again = ProtectedSession::from_token(&session.to_token());
            assert!(again.is_ok(), "written, not readable");
        }
        if let Ok(challenge) = SspProtectedChallenge::from_text(text) {
            let _ = challenge.digest();
        }
    }
    let status = Status::with_details(Code::Aborted, "no", data.to_vec().into());
    assert_eq!(ServiceError::from_status(&status).code, Code::Aborted);
}
