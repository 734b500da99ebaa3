use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::deposit::{AddressProof, ClaimedAddress};
use tinderbox_protocol::{LeafId, deposit};
use tinderbox_rpc::proto::spark;

use crate::error::Result;
use crate::storage::Kind;
use crate::verify::Failure;
use crate::wallet::Wallet;
use crate::wire;

/// An address that this wallet's coins may be sent to, with its proofs checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositAddress {
    /// The address as text.
    pub address: String,
    /// The key of its output.
    pub verifying_key: PublicKey,
    /// The leaf that a deposit becomes; static addresses have none.
    pub leaf: Option<LeafId>,
    /// Whether it may be used again and again.
    pub is_static: bool,
}

/// An address that was handed out and not claimed yet, as the operators list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnusedAddress {
    /// The address as text.
    pub address: String,
    /// The key of its output.
    pub verifying_key: PublicKey,
    /// The leaf that a deposit becomes.
    pub leaf: LeafId,
}

/// Most rows that operators give at once.
const PAGE: i64 = 100;

impl Wallet {
    /// A fresh address for one deposit. Send to it once; then claim the deposit.
    ///
    /// The address is only given out after its proofs are checked: it is the address of the sum of
    /// this wallet's key and the operators', the operators hold their half, every operator vouches.
    ///
    /// # Errors
    /// A refusal (at most 64 addresses may wait unused), or a proof that does not hold.
    pub async fn deposit_address(&self) -> Result<DepositAddress> {
        let inner = self.inner();
        let leaf = LeafId(uuid::Uuid::now_v7());
        let signing_key = inner.signer.leaf_key(&leaf)?;
        let request = spark::GenerateDepositAddressRequest {
            signing_public_key: signing_key.serialize().to_vec(),
            identity_public_key: inner.identity_bytes(),
            network: wire::network(inner.config.network).into(),
            leaf_id: Some(leaf.to_string()),
            is_static: Some(false),
            hash_variant: spark::HashVariant::V2.into(),
        };
        const CALL: &str = "generate_deposit_address";
        let coordinator = inner.operators.coordinator();
        let reply = coordinator
            .call(CALL, request, |mut client, r| async move {
                client.generate_deposit_address(r).await
            })
            .await?;
        let address = reply
            .deposit_address
            .ok_or_else(|| coordinator.nonsense(CALL, "there is no address".into()))?;
        let address = self.checked_address(CALL, &address, signing_key, Some(leaf))?;
        inner
            .records
            .put(Kind::DepositAddress, &address.address, &address)?;
        Ok(address)
    }

    /// The wallet's static address, always the same.
    ///
    /// # Errors
    /// As [`deposit_address`](Wallet::deposit_address).
    pub async fn static_deposit_address(&self) -> Result<DepositAddress> {
        let inner = self.inner();
        let signing_key = inner.signer.static_deposit_key(0)?;
        let request = spark::GenerateStaticDepositAddressRequest {
            signing_public_key: signing_key.serialize().to_vec(),
            identity_public_key: inner.identity_bytes(),
            network: wire::network(inner.config.network).into(),
            hash_variant: spark::HashVariant::V2.into(),
        };
        const CALL: &str = "generate_static_deposit_address";
        let coordinator = inner.operators.coordinator();
        let reply = coordinator
            .call(CALL, request, |mut client, r| async move {
                client.generate_static_deposit_address(r).await
            })
            .await?;
        let address = reply
            .deposit_address
            .ok_or_else(|| coordinator.nonsense(CALL, "there is no address".into()))?;
        let address = self.checked_address(CALL, &address, signing_key, None)?;
        inner
            .records
            .put(Kind::DepositAddress, &address.address, &address)?;
        Ok(address)
    }

    /// All single-use addresses whose deposit was not claimed yet, newest first.
    ///
    /// # Errors
    /// A refusal, or an answer that makes no sense.
    pub async fn unused_deposit_addresses(&self) -> Result<Vec<UnusedAddress>> {
        const CALL: &str = "query_unused_deposit_addresses";
        let inner = self.inner();
        let coordinator = inner.operators.coordinator();
        let mut addresses = Vec::new();
        let mut offset = 0;
        while offset >= 0 {
            let request = spark::QueryUnusedDepositAddressesRequest {
                identity_public_key: inner.identity_bytes(),
                network: wire::network(inner.config.network).into(),
                limit: PAGE,
                offset,
            };
            let reply = coordinator
                .call(CALL, request, |mut client, r| async move {
                    client.query_unused_deposit_addresses(r).await
                })
                .await?;
            if reply.offset >= 0 && reply.offset <= offset {
                return Err(coordinator.nonsense(CALL, "its pages do not advance".into()));
            }
            offset = reply.offset;
            for row in reply.deposit_addresses {
                // Addresses without a leaf id were made by other programs; their key is not of this kind.
                let Some(leaf) = row
                    .leaf_id
                    .as_deref()
                    .and_then(|id| id.parse::<LeafId>().ok())
                else {
                    continue;
                };
                let verifying_key = PublicKey::from_slice(&row.verifying_public_key)
                    .map_err(|_| coordinator.nonsense(CALL, "a verifying key is no key".into()))?;
                let expected = deposit::address(&verifying_key, inner.config.network).to_string();
                if expected != row.deposit_address {
                    return Err(coordinator.nonsense(
                        CALL,
                        format!("{} is not its key's address", row.deposit_address),
                    ));
                }
                addresses.push(UnusedAddress {
                    address: row.deposit_address,
                    verifying_key,
                    leaf,
                });
            }
        }
        Ok(addresses)
    }

    fn checked_address(
        &self,
        call: &'static str,
        reply: &spark::Address,
        signing_key: PublicKey,
        leaf: Option<LeafId>,
    ) -> Result<DepositAddress> {
        let inner = self.inner();
        let coordinator = inner.operators.coordinator();
        let verifying_key = PublicKey::from_slice(&reply.verifying_key)
            .map_err(|_| coordinator.nonsense(call, "the verifying key is no key".into()))?;
        let proof = reply
            .deposit_address_proof
            .clone()
            .ok_or_else(|| coordinator.nonsense(call, "the address comes without proofs".into()))?;
        let claimed = ClaimedAddress {
            address: &reply.address,
            verifying_key,
            user_signing_key: signing_key,
            identity: inner.signer.identity(),
            network: inner.config.network,
        };
        let proof = AddressProof {
            address_signatures: proof.address_signatures.into_iter().collect(),
            proof_of_possession: proof.proof_of_possession_signature,
        };
        let operators: BTreeMap<String, PublicKey> = inner
            .operators
            .all()
            .iter()
            .map(|o| (o.index().identifier(), *o.identity()))
            .collect();
        let own = coordinator.index().identifier();
        let excused = leaf.is_some().then_some(own.as_str());
        claimed
            .verify(&proof, &operators, excused)
            .map_err(|e| Failure::from(e).about(format!("deposit address {}", reply.address)))?;
        Ok(DepositAddress {
            address: reply.address.clone(),
            verifying_key,
            leaf,
            is_static: leaf.is_none(),
        })
    }
}
