//! Transfers, past and present.

use bitcoin::secp256k1::PublicKey;
use serde::Serialize;
use tinderbox_protocol::{Sats, TransferId};
use tinderbox_rpc::proto::spark;
use tinderbox_rpc::proto::spark::transfer_filter::Participant;

use crate::error::{Error, Result};
use crate::transfer::{Transfer, TransferKind, TransferStatus, seconds};
use crate::wallet::Wallet;
use crate::wire;

/// Most rows that operators give at once.
const PAGE: i64 = 100;

/// Which way the money went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To this wallet.
    In,
    /// From this wallet.
    Out,
    /// From this wallet to itself.
    Own,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// The transfer.
    pub id: TransferId,
    /// Which way.
    pub direction: Direction,
    /// What this wallet got or gave.
    pub amount: Sats,
    /// What for.
    pub kind: TransferKind,
    /// Where it stands.
    pub status: TransferStatus,
    /// The other side.
    pub counterparty: PublicKey,
    /// When it began, in seconds since 1970.
    pub created: Option<u64>,
    /// When it changed last, in seconds since 1970.
    pub updated: Option<u64>,
    /// How many leaves of it this wallet sees.
    pub leaves: usize,
}

/// A page of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryPage {
    /// Newest first.
    pub entries: Vec<HistoryEntry>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<u64>,
}

impl Wallet {
    /// A page of this wallet's transfers, newest first, from `offset` on; at most 100.
    ///
    /// # Errors
    /// A refusal, or an answer that makes no sense.
    pub async fn history(&self, limit: u32, offset: u64) -> Result<HistoryPage> {
        let filter = spark::TransferFilter {
            participant: Some(Participant::SenderOrReceiverIdentityPublicKey(
                self.inner().identity_bytes(),
            )),
            types: [
                spark::TransferType::CooperativeExit,
                spark::TransferType::PreimageSwap,
                spark::TransferType::UtxoSwap,
                spark::TransferType::Transfer,
            ]
            .map(i32::from)
            .to_vec(),
            limit: i64::from(limit).clamp(1, PAGE),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            ..self.filter()
        };
        let (transfers, next) = self.query_all(filter).await?;
        let entries = transfers
            .iter()
            .map(|transfer| self.entry(transfer))
            .collect();
        Ok(HistoryPage {
            entries,
            next: u64::try_from(next).ok(),
        })
    }

    /// One transfer of this wallet.
    ///
    /// # Errors
    /// [`Error::UnknownTransfer`]; as [`history`](Wallet::history).
    pub async fn transfer(&self, id: TransferId) -> Result<Transfer> {
        self.find_transfer(id)
            .await?
            .ok_or(Error::UnknownTransfer { id })
    }

    pub(crate) async fn find_transfer(&self, id: TransferId) -> Result<Option<Transfer>> {
        let filter = spark::TransferFilter {
            participant: Some(Participant::SenderOrReceiverIdentityPublicKey(
                self.inner().identity_bytes(),
            )),
            transfer_ids: vec![id.to_string()],
            limit: 1,
            ..self.filter()
        };
        let (transfers, _) = self.query_all(filter).await?;
        Ok(transfers.into_iter().find(|transfer| transfer.id == id))
    }

    /// Payments of this wallet that are neither done nor given back.
    ///
    /// # Errors
    /// As [`history`](Wallet::history).
    pub async fn outgoing(&self) -> Result<Vec<Transfer>> {
        let mut all = Vec::new();
        let mut offset = 0;
        while offset >= 0 {
            let filter = spark::TransferFilter {
                participant: Some(Participant::SenderIdentityPublicKey(
                    self.inner().identity_bytes(),
                )),
                statuses: [
                    spark::TransferStatus::SenderInitiated,
                    spark::TransferStatus::SenderInitiatedCoordinator,
                    spark::TransferStatus::ApplyingSenderKeyTweak,
                    spark::TransferStatus::SenderKeyTweakPending,
                ]
                .map(i32::from)
                .to_vec(),
                limit: PAGE,
                offset,
                ..self.filter()
            };
            let (transfers, next) = self.query_all(filter).await?;
            all.extend(transfers);
            offset = if next > offset { next } else { -1 };
        }
        Ok(all)
    }

    /// Transfers that wait for this wallet's claim. Those that cannot even be read are left out, with a warning.
    pub(crate) async fn pending(&self) -> Result<Vec<Transfer>> {
        const CALL: &str = "query_pending_transfers";
        let coordinator = self.inner().operators.coordinator();
        let mut all = Vec::new();
        let mut offset = 0;
        while offset >= 0 {
            let filter = spark::TransferFilter {
                participant: Some(Participant::ReceiverIdentityPublicKey(
                    self.inner().identity_bytes(),
                )),
                limit: PAGE,
                offset,
                ..self.filter()
            };
            let reply = coordinator
                .call(CALL, filter, |mut client, r| async move {
                    client.query_pending_transfers(r).await
                })
                .await?;
            all.extend(readable(&reply));
            offset = if reply.offset > offset {
                reply.offset
            } else {
                -1
            };
        }
        all.retain(|transfer| transfer.status.is_receiver_pending());
        Ok(all)
    }

    fn filter(&self) -> spark::TransferFilter {
        spark::TransferFilter {
            network: wire::network(self.inner().config.network).into(),
            ..Default::default()
        }
    }

    async fn query_all(&self, filter: spark::TransferFilter) -> Result<(Vec<Transfer>, i64)> {
        let coordinator = self.inner().operators.coordinator();
        let reply = coordinator
            .call("query_all_transfers", filter, |mut client, r| async move {
                client.query_all_transfers(r).await
            })
            .await?;
        Ok((readable(&reply), reply.offset))
    }

    fn entry(&self, transfer: &Transfer) -> HistoryEntry {
        let me = self.inner().signer.identity();
        let to_me = transfer.receiver == me || transfer.receivers.iter().any(|r| r.identity == me);
        let direction = match (transfer.sender == me, to_me) {
            (true, true) => Direction::Own,
            (true, false) => Direction::Out,
            (false, _) => Direction::In,
        };
        let mine = transfer
            .receivers
            .iter()
            .find(|receiver| receiver.identity == me);
        let amount = match (direction, mine) {
            (Direction::In, Some(receiver)) => receiver.amount,
            (Direction::In, None) => transfer.visible(),
            _ => transfer.total,
        };
        HistoryEntry {
            id: transfer.id,
            direction,
            amount,
            kind: transfer.kind,
            status: transfer.status,
            counterparty: if direction == Direction::In {
                transfer.sender
            } else {
                transfer.receiver
            },
            created: seconds(transfer.created),
            updated: seconds(transfer.updated),
            leaves: transfer.leaves.len(),
        }
    }
}

fn readable(reply: &spark::QueryTransfersResponse) -> Vec<Transfer> {
    let mut transfers = Vec::with_capacity(reply.transfers.len());
    for message in &reply.transfers {
        match wire::transfer(message) {
            Ok(transfer) => transfers.push(transfer),
            Err(what) => tracing::warn!(%what, "a transfer cannot be read and is left out"),
        }
    }
    transfers
}
