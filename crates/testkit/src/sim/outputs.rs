//! Static deposit addresses in runs: wallets take outputs back, providers give leaves for them,
//! before or after they are there, and sweep what they have.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::request::{
    AddressRequest, Request, RotateRequest, SendRequest, UtxoClaimRequest, UtxoRefundRequest,
    UtxoReserveRequest, UtxoSwapRequest, UtxoSweepRequest,
};
use tinderbox_flows::rows::{
    AddressRow, KeyshareRow, NodeRow, UtxoHoldRow, UtxoSwapKind, UtxoSwapRow, UtxoSwapStatus,
};
use tinderbox_flows::utxo_swap::ProviderSpend;
use tinderbox_flows::utxo_sweep::SweepInput;
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::hash::{
    InstantStatement, SpendStatement, StaticDepositRequest, StaticDepositStatement,
};
use tinderbox_protocol::tx::static_deposit::refund;
use tinderbox_protocol::tx::{TxKind, UnsignedTx, Utxo};
use tinderbox_protocol::{Sats, TransferId};

use super::cluster::Cluster;
use super::coins::pooled;
use super::desk::{Paid, Spending};
use super::half::Half;
use super::pay::{free, transfer_id};
use super::run::{Wish, nonces, now};
use crate::owner::Owner;

/// Values of outputs: few, so that some are alike, and more than a leaf or two.
const VALUES: [u64; 2] = [25_000, 45_000];
/// Quotes of providers: few, so that some are used again.
const QUOTES: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];

/// What wallets and providers would do next. `at` is the operator that asks for addresses, if it
/// matters to the caller.
pub(super) async fn next(
    cluster: &Cluster,
    rng: &mut ChaCha20Rng,
    at: Option<OperatorIndex>,
) -> Option<Wish> {
    let view = rng.gen_range(0..cluster.machines.len());
    let desk = Counter { cluster, view };
    let mut addresses: Vec<AddressRow> = cluster.rows(view);
    addresses.retain(|row| row.is_static && row.proof.is_some());
    let Some(address) = addresses.choose(rng).cloned() else {
        return desk.address(rng, at).await;
    };
    let made = match rng.gen_range(0..20) {
        0 => return desk.address(rng, at).await,
        1..=2 => return desk.rotate(&addresses, rng, at).await,
        3..=6 => desk.take_back(&address, rng).await,
        7..=10 => desk.swap(&address, rng).await,
        11..=13 => desk.reserve(&address, rng).await,
        14..=16 => desk.claim(rng).await,
        _ => desk.sweep(rng).await,
    };
    let made = match made {
        Some(made) => Some(made),
        None if rng.gen_bool(0.5) => desk.reserve(&address, rng).await,
        None => desk.swap(&address, rng).await,
    };
    Some((None, made?))
}

/// What wallets see of outputs, through one operator.
struct Counter<'a> {
    cluster: &'a Cluster,
    view: usize,
}

impl Counter<'_> {
    fn owner(&self, identity: &PublicKey) -> Option<&Owner> {
        let mut owners = self.cluster.owners.iter();
        owners.find(|owner| owner.identity() == *identity)
    }

    async fn request(
        &self,
        owner: &Owner,
        rng: &mut ChaCha20Rng,
        at: Option<OperatorIndex>,
    ) -> Option<(OperatorIndex, AddressRequest)> {
        use bitcoin::secp256k1::SECP256K1;
        let (coordinator, keyshare) = pooled(self.cluster, rng, at)?;
        let mut nonces = nonces(self.cluster, rng, 2).await.into_iter();
        let request = AddressRequest {
            now: now(self.cluster),
            owner: owner.identity(),
            owner_signing: owner.deposit_key().public_key(SECP256K1),
            keyshare,
            leaf: None,
            is_static: true,
            nonces: nonces.next()?,
            nonces_legacy: nonces.next()?,
        };
        Some((coordinator, request))
    }

    async fn address(&self, rng: &mut ChaCha20Rng, at: Option<OperatorIndex>) -> Option<Wish> {
        let owner = self.cluster.owners.choose(rng)?;
        let (coordinator, request) = self.request(owner, rng, at).await?;
        Some((Some(coordinator), Request::Address(Box::new(request))))
    }

    async fn rotate(
        &self,
        addresses: &[AddressRow],
        rng: &mut ChaCha20Rng,
        at: Option<OperatorIndex>,
    ) -> Option<Wish> {
        let shown: Vec<&AddressRow> = addresses.iter().filter(|row| row.is_default).collect();
        let old = shown.choose(rng)?;
        let owner = self.owner(&old.owner)?;
        let (coordinator, address) = self.request(owner, rng, at).await?;
        let request = RotateRequest {
            address,
            replaces: old.script.clone(),
        };
        Some((Some(coordinator), Request::Rotate(Box::new(request))))
    }

    /// Somebody pays an address of which the payment is deep enough, now or earlier.
    fn paid(&self, rng: &mut ChaCha20Rng, address: &AddressRow) -> Paid {
        let mut desk = self.cluster.desk();
        let mut old = desk.paid.clone();
        old.retain(|paid| paid.script == address.script);
        if rng.gen_bool(0.6)
            && let Some(paid) = old.choose(rng)
        {
            return paid.clone();
        }
        let value = *VALUES.choose(rng).unwrap_or(&25_000);
        let outpoint = self.cluster.pay(rng, &address.script, value);
        let depth = self.cluster.site.deposit_confirmations;
        self.cluster.chain.mine(depth);
        let paid = Paid {
            outpoint,
            script: address.script.clone(),
            value,
        };
        desk.paid.push(paid.clone());
        paid
    }

    async fn half(
        &self,
        address: &AddressRow,
        outpoint: OutPoint,
        tx: &UnsignedTx,
        input: usize,
        rng: &mut ChaCha20Rng,
    ) -> Option<tinderbox_flows::package::OpenJob> {
        let keyshare: KeyshareRow = self.cluster.row(self.view, &address.keyshare.0)?;
        // A provider has been told the owner's half of the key.
        let key = self.owner(&address.owner)?.deposit_key();
        let operators = nonces(self.cluster, rng, 1).await.pop()?;
        let half = Half::new(key, tx.clone(), input, operators, rng);
        let job = half.job.clone();
        self.cluster.desk().spending.push(Spending {
            half,
            outpoint,
            verifying_key: address.verifying_key,
            public_shares: keyshare.public_shares,
        });
        Some(job)
    }

    async fn take_back(&self, address: &AddressRow, rng: &mut ChaCha20Rng) -> Option<Request> {
        let paid = self.paid(rng, address);
        let fee = rng.gen_range(200..900);
        let tx = spend(&paid, fee)?;
        let digest = StaticDepositStatement {
            network: address.network,
            txid: &paid.outpoint.txid.to_string(),
            vout: paid.outpoint.vout,
            credit: Sats(paid.value - fee),
            request: StaticDepositRequest::Refund {
                spend_sighash: &tx.sighash().ok()?,
            },
        }
        .digest();
        let owner = self.owner(&address.owner)?;
        Some(Request::UtxoRefund(Box::new(UtxoRefundRequest {
            now: now(self.cluster),
            owner: owner.identity(),
            outpoint: paid.outpoint,
            spend: self.half(address, paid.outpoint, &tx, 0, rng).await?,
            user_signature: owner.sign(&digest),
            hash_variant: 0,
        })))
    }

    /// Some provider with a leaf that it can give to the owner of an address.
    fn provider(&self, address: &AddressRow, rng: &mut ChaCha20Rng) -> Option<(usize, NodeRow)> {
        let mut all: Vec<usize> = (0..self.cluster.owners.len()).collect();
        all.retain(|owner| self.cluster.owners[*owner].identity() != address.owner);
        all.shuffle(rng);
        all.into_iter().find_map(|owner| {
            let node = free(self.cluster, self.view, owner, rng).pop()?;
            Some((owner, node))
        })
    }

    async fn send(
        &self,
        from: usize,
        to: PublicKey,
        id: TransferId,
        node: NodeRow,
        rng: &mut ChaCha20Rng,
    ) -> SendRequest {
        let nonces = nonces(self.cluster, rng, 3).await;
        let receivers = [(node.id, to)].into();
        self.cluster.owners[from].send(
            &self.cluster.site,
            id,
            now(self.cluster),
            &[node],
            &receivers,
            nonces,
            rng,
        )
    }

    async fn providers_spend(
        &self,
        provider: &Owner,
        address: &AddressRow,
        paid: &Paid,
        rng: &mut ChaCha20Rng,
    ) -> Option<ProviderSpend> {
        let tx = spend(paid, 300)?;
        let digest = SpendStatement {
            network: address.network,
            txid: &paid.outpoint.txid.to_string(),
            vout: paid.outpoint.vout,
            spend_sighash: &tx.sighash().ok()?,
        }
        .digest();
        Some(ProviderSpend {
            job: self.half(address, paid.outpoint, &tx, 0, rng).await?,
            signature: provider.sign(&digest),
        })
    }

    async fn swap(&self, address: &AddressRow, rng: &mut ChaCha20Rng) -> Option<Request> {
        let (provider, node) = self.provider(address, rng)?;
        let paid = self.paid(rng, address);
        let quote = QUOTES.choose(rng)?.to_vec();
        let digest = StaticDepositStatement {
            network: address.network,
            txid: &paid.outpoint.txid.to_string(),
            vout: paid.outpoint.vout,
            credit: node.value,
            request: StaticDepositRequest::Fixed {
                quote_signature: &quote,
            },
        }
        .digest();
        let id = transfer_id(rng);
        let send = self.send(provider, address.owner, id, node, rng).await;
        let provider = &self.cluster.owners[provider];
        let spend = self.providers_spend(provider, address, &paid, rng).await?;
        Some(Request::UtxoSwap(Box::new(UtxoSwapRequest {
            send,
            outpoint: paid.outpoint,
            confirmations: rng.gen_range(1..=3),
            spend,
            quote_signature: quote,
            user_signature: self.owner(&address.owner)?.sign(&digest),
            hash_variant: 0,
        })))
    }

    async fn reserve(&self, address: &AddressRow, rng: &mut ChaCha20Rng) -> Option<Request> {
        let (provider, node) = self.provider(address, rng)?;
        let value = *VALUES.choose(rng)?;
        let credit = node.value;
        let rest = Sats(10_000);
        let secondary =
            (rng.gen_ratio(1, 3) && credit.0 + rest.0 <= value).then(|| (transfer_id(rng), rest));
        let quote = QUOTES.choose(rng)?.to_vec();
        let digest = InstantStatement {
            network: address.network,
            credit,
            secondary_credit: secondary.map_or(Sats::ZERO, |(_, credit)| credit),
            destination_address: &address.address,
            deposit: Sats(value),
            quote_signature: &quote,
        }
        .digest();
        let id = transfer_id(rng);
        Some(Request::UtxoReserve(Box::new(UtxoReserveRequest {
            send: self.send(provider, address.owner, id, node, rng).await,
            script: address.script.clone(),
            value: Sats(value),
            credit,
            secondary,
            seen: None,
            quote_signature: quote,
            user_signature: self.owner(&address.owner)?.sign(&digest),
        })))
    }

    /// A reservation is claimed, with an output that was there or that comes now.
    async fn claim(&self, rng: &mut ChaCha20Rng) -> Option<Request> {
        let mut waiting: Vec<UtxoSwapRow> = self.cluster.rows(self.view);
        waiting.retain(|swap| {
            swap.kind == UtxoSwapKind::Instant && swap.status == UtxoSwapStatus::Created
        });
        let swap = waiting.choose(rng)?;
        let address: AddressRow = self.cluster.row(self.view, swap.script.as_bytes())?;
        let provider = swap.provider?;
        let place = self
            .cluster
            .owners
            .iter()
            .position(|owner| owner.identity() == provider)?;
        let secondary = match swap.secondary {
            None => None,
            Some((id, credit)) => {
                let node = free(self.cluster, self.view, place, rng)
                    .into_iter()
                    .find(|node| node.value == credit)?;
                Some(self.send(place, address.owner, id, node, rng).await)
            }
        };
        let paid = self.promised(&address, swap, rng);
        let spend = self
            .providers_spend(&self.cluster.owners[place], &address, &paid, rng)
            .await?;
        Some(Request::UtxoClaim(Box::new(UtxoClaimRequest {
            now: now(self.cluster),
            swap: swap.id,
            provider,
            outpoint: paid.outpoint,
            secondary,
            spend,
        })))
    }

    fn promised(&self, address: &AddressRow, swap: &UtxoSwapRow, rng: &mut ChaCha20Rng) -> Paid {
        let mut desk = self.cluster.desk();
        let found = desk.paid.iter().find(|paid| {
            let hold = UtxoHoldRow::output(&paid.outpoint);
            paid.script == address.script
                && paid.value == swap.value.0
                && self.cluster.row::<UtxoHoldRow>(self.view, &hold).is_none()
        });
        if let Some(found) = found {
            return found.clone();
        }
        let paid = Paid {
            outpoint: self.cluster.pay(rng, &address.script, swap.value.0),
            script: address.script.clone(),
            value: swap.value.0,
        };
        desk.paid.push(paid.clone());
        paid
    }

    /// A provider spends one or two outputs that it has.
    async fn sweep(&self, rng: &mut ChaCha20Rng) -> Option<Request> {
        let mut swaps: Vec<UtxoSwapRow> = self.cluster.rows(self.view);
        swaps.retain(|swap| {
            swap.kind != UtxoSwapKind::Refund && swap.status == UtxoSwapStatus::Completed
        });
        let provider = swaps.choose(rng)?.provider?;
        swaps.retain(|swap| swap.provider == Some(provider));
        swaps.shuffle(rng);
        swaps.truncate(rng.gen_range(1..=2));
        let outpoints: Option<Vec<OutPoint>> = swaps.iter().map(|swap| swap.outpoint).collect();
        let outpoints = outpoints?;
        let prevouts: Vec<TxOut> = swaps
            .iter()
            .map(|swap| TxOut {
                value: swap.value.to_amount(),
                script_pubkey: swap.script.clone(),
            })
            .collect();
        let inputs = outpoints.iter().map(|outpoint| TxIn {
            previous_output: *outpoint,
            ..TxIn::default()
        });
        let total: u64 = swaps.iter().map(|swap| swap.value.0).sum();
        let tx = UnsignedTx {
            tx: Transaction {
                version: bitcoin::transaction::Version::TWO,
                lock_time: bitcoin::absolute::LockTime::ZERO,
                input: inputs.collect(),
                output: vec![TxOut {
                    value: Amount::from_sat(total - rng.gen_range(300..900)),
                    script_pubkey: elsewhere(),
                }],
            },
            prevouts: prevouts.clone(),
            kind: TxKind::Other,
        };
        let mut signed = Vec::new();
        for (place, (vin, swap)) in (0u32..).zip(&swaps).enumerate() {
            let address: AddressRow = self.cluster.row(self.view, swap.script.as_bytes())?;
            let outpoint = outpoints[place];
            let job = self.half(&address, outpoint, &tx, place, rng).await?;
            signed.push(SweepInput {
                vin,
                outpoint,
                commitment: job.commitment,
                operators: job.operators,
            });
        }
        let raw = tx.serialize();
        let digest = sha256::Hash::hash(&raw).to_byte_array();
        Some(Request::UtxoSweep(Box::new(UtxoSweepRequest {
            now: now(self.cluster),
            provider,
            tx: raw,
            prevouts,
            inputs: signed,
            signature: self.owner(&provider)?.sign(&digest),
        })))
    }
}

fn elsewhere() -> ScriptBuf {
    ScriptBuf::from_bytes([vec![0x51, 0x20], vec![7; 32]].concat())
}

/// What pays an output, less a fee, to somewhere.
fn spend(paid: &Paid, fee: u64) -> Option<UnsignedTx> {
    let utxo = Utxo {
        outpoint: paid.outpoint,
        output: TxOut {
            value: Amount::from_sat(paid.value),
            script_pubkey: paid.script.clone(),
        },
    };
    refund(&utxo, elsewhere(), Sats(fee)).ok()
}
