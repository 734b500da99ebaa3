//! The bytes of an invoice. Fields come in order of their numbers, but what is to be paid (3, 4)
//! comes last in the inner message: an encoder that sorts by number makes another text.

use bitcoin::secp256k1::PublicKey;
use prost::Message;
use uuid::Uuid;

use super::{Expiry, InvoiceFields, Payment, invalid};
use crate::{Error, Result, Sats};

const VERSION: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Outer {
    #[prost(bytes = "vec", tag = "1")]
    identity_public_key: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "2")]
    fields: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    signature: Option<Vec<u8>>,
}

/// The inner message without what is to be paid.
#[derive(Clone, PartialEq, Message)]
struct Inner {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(string, optional, tag = "5")]
    memo: Option<String>,
    #[prost(bytes = "vec", optional, tag = "6")]
    sender_public_key: Option<Vec<u8>>,
    #[prost(message, optional, tag = "7")]
    expiry_time: Option<Timestamp>,
}

/// What is to be paid, as the tail of the inner message.
#[derive(Clone, PartialEq, Message)]
struct Tail {
    #[prost(message, optional, tag = "3")]
    tokens: Option<TokensPayment>,
    #[prost(message, optional, tag = "4")]
    sats: Option<SatsPayment>,
}

#[derive(Clone, PartialEq, Message)]
struct TokensPayment {
    #[prost(bytes = "vec", optional, tag = "1")]
    token_identifier: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    amount: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct SatsPayment {
    #[prost(uint64, optional, tag = "1")]
    amount: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The canonical bytes.
pub(super) fn encode(
    receiver: &PublicKey,
    fields: &InvoiceFields,
    signature: Option<&[u8; 64]>,
) -> Vec<u8> {
    let inner = Inner {
        version: VERSION,
        id: fields.id.as_bytes().to_vec(),
        memo: fields.memo.clone(),
        sender_public_key: fields.sender.map(|key| key.serialize().to_vec()),
        expiry_time: fields.expiry.map(|end| Timestamp {
            seconds: i64::try_from(end.seconds).unwrap_or(i64::MAX),
            nanos: i32::try_from(end.nanos).unwrap_or(i32::MAX),
        }),
    };
    let tail = match &fields.payment {
        Payment::Sats(amount) => Tail {
            tokens: None,
            sats: Some(SatsPayment {
                amount: amount.map(|sats| sats.0),
            }),
        },
        Payment::Tokens { identifier, amount } => Tail {
            tokens: Some(TokensPayment {
                token_identifier: identifier.map(|id| id.to_vec()),
                amount: amount.map(minimal),
            }),
            sats: None,
        },
    };
    Outer {
        identity_public_key: receiver.serialize().to_vec(),
        fields: Some([inner.encode_to_vec(), tail.encode_to_vec()].concat()),
        signature: signature.map(|bytes| bytes.to_vec()),
    }
    .encode_to_vec()
}

/// Reads the bytes. The caller compares with [`encode`] to refuse other encodings.
pub(super) fn decode(payload: &[u8]) -> Result<(PublicKey, InvoiceFields, Option<[u8; 64]>)> {
    let outer = Outer::decode(payload).map_err(unreadable)?;
    let receiver = public_key(&outer.identity_public_key, "the payee's key of the invoice")?;
    let fields = outer
        .fields
        .ok_or_else(|| invalid("it is an address, not an invoice"))?;
    let inner = Inner::decode(fields.as_slice()).map_err(unreadable)?;
    let tail = Tail::decode(fields.as_slice()).map_err(unreadable)?;
    if inner.version != VERSION {
        return Err(Error::InvalidInvoice {
            reason: format!("its version is {}, only 1 is known", inner.version),
        });
    }
    let payment = match (tail.tokens, tail.sats) {
        (None, Some(sats)) => Payment::Sats(sats.amount.map(Sats)),
        (Some(tokens), None) => tokens_payment(&tokens)?,
        _ => return Err(invalid("it must ask for sats or for a token")),
    };
    let fields = InvoiceFields {
        id: Uuid::from_slice(&inner.id).map_err(|_| invalid("its id does not have 16 bytes"))?,
        payment,
        memo: inner.memo,
        sender: match inner.sender_public_key {
            Some(key) => Some(public_key(&key, "the payer's key of the invoice")?),
            None => None,
        },
        expiry: match inner.expiry_time {
            Some(time) => Some(expiry(&time)?),
            None => None,
        },
    };
    fields.validate()?;
    let signature = match outer.signature {
        Some(bytes) => Some(
            bytes
                .try_into()
                .map_err(|_| invalid("its signature does not have 64 bytes"))?,
        ),
        None => None,
    };
    Ok((receiver, fields, signature))
}

/// Big-endian without leading zeros; zero is one byte.
pub(super) fn minimal(amount: u128) -> Vec<u8> {
    let bytes: Vec<u8> = amount
        .to_be_bytes()
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect();
    if bytes.is_empty() { vec![0] } else { bytes }
}

fn tokens_payment(tokens: &TokensPayment) -> Result<Payment> {
    let identifier = match &tokens.token_identifier {
        Some(bytes) => Some(
            bytes
                .as_slice()
                .try_into()
                .map_err(|_| invalid("its token identifier does not have 32 bytes"))?,
        ),
        None => None,
    };
    let amount = match &tokens.amount {
        Some(bytes) if bytes.len() > 16 => {
            return Err(invalid("its token amount has more than 16 bytes"));
        }
        Some(bytes) => Some(
            bytes
                .iter()
                .fold(0_u128, |sum, byte| sum.wrapping_shl(8) | u128::from(*byte)),
        ),
        None => None,
    };
    Ok(Payment::Tokens { identifier, amount })
}

fn expiry(time: &Timestamp) -> Result<Expiry> {
    let malformed = || invalid("its expiry time is malformed");
    Ok(Expiry {
        seconds: u64::try_from(time.seconds).map_err(|_| malformed())?,
        nanos: u32::try_from(time.nanos).map_err(|_| malformed())?,
    })
}

fn public_key(bytes: &[u8], what: &'static str) -> Result<PublicKey> {
    if bytes.len() != 33 {
        return Err(Error::InvalidPublicKey { what });
    }
    PublicKey::from_slice(bytes).map_err(|_| Error::InvalidPublicKey { what })
}

fn unreadable(error: prost::DecodeError) -> Error {
    Error::InvalidInvoice {
        reason: error.to_string(),
    }
}
