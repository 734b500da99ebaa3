//! One signature for all votes that wait.

use std::sync::{Arc, Mutex, PoisonError};

use tinderbox_commit::{SignedVote, Vote, VoteBatch};
use tinderbox_frost::OperatorIndex;
use tinderbox_signer::{Signer, SignerError};
use tokio::sync::oneshot;

/// Votes per signature at most.
const MAX_BATCH: usize = 1024;

type Waiting = (Vote, oneshot::Sender<Result<SignedVote, SignerError>>);

/// Signs votes; those that come in while a signature is being made share the next one.
#[derive(Clone)]
pub(super) struct VoteSigner {
    me: OperatorIndex,
    signer: Arc<dyn Signer>,
    queue: Arc<Mutex<Vec<Waiting>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl VoteSigner {
    pub(super) fn new(me: OperatorIndex, signer: Arc<dyn Signer>) -> Self {
        Self {
            me,
            signer,
            queue: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// The vote, signed. It must be stored before it is shown to anybody.
    pub(super) async fn sign(&self, vote: Vote) -> Result<SignedVote, SignerError> {
        let (answer, mut signed) = oneshot::channel();
        self.lock().push((vote, answer));
        let turn = self.turn.lock().await;
        if let Ok(done) = signed.try_recv() {
            return done;
        }
        let mut batch: Vec<Waiting> = {
            let mut queue = self.lock();
            let count = queue.len().min(MAX_BATCH);
            queue.drain(..count).collect()
        };
        let votes = VoteBatch::new(self.me, batch.iter().map(|(vote, _)| *vote).collect());
        let result = self.signer.sign(vec![votes.root()]).await;
        match result.as_deref() {
            Ok([signature]) => {
                for ((_, answer), vote) in batch.drain(..).zip(votes.signed(signature)) {
                    let _ = answer.send(Ok(vote));
                }
            }
            Ok(_) => {
                for (_, answer) in batch.drain(..) {
                    let _ = answer.send(Err(SignerError::Unreachable("no signature".into())));
                }
            }
            Err(error) => {
                for (_, answer) in batch.drain(..) {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
        drop(turn);
        signed
            .await
            .unwrap_or_else(|_| Err(SignerError::Unreachable("vote was dropped".into())))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
