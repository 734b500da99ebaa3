//! Nested Spark-FROST (provisional single file; being replaced).
#![allow(missing_docs)]
use std::collections::BTreeMap;

use bitcoin::secp256k1::{Message, Parity, PublicKey, SECP256K1, Scalar as TweakScalar, SecretKey, XOnlyPublicKey, schnorr};
use bitcoin::hashes::{Hash, HashEngine};
use k256::Scalar;
use k256::elliptic_curve::hash2curve::{ExpandMsgXmd, hash_to_field};
use k256::elliptic_curve::ops::Reduce;
use k256::elliptic_curve::{Field, PrimeField};
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("wrong share of operator {0:?}")]
    Culprit(OperatorIndex),
}
fn bad<T>(why: &str) -> Result<T> { Err(Error::Invalid(why.to_owned())) }
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperatorIndex(pub u16);
impl OperatorIndex {
    pub fn identifier(&self) -> String { format!("{:064x}", u32::from(self.0) + 1) }
    pub fn from_identifier(text: &str) -> Result<Self> {
        if text.len() != 64 { return bad("identifier"); }
        match u32::from_str_radix(text.trim_start_matches('0'), 16) {
            Ok(x) if x >= 1 && x <= 65535 => Ok(Self((x - 1) as u16)),
            _ => bad("identifier"),
        }
    }
    pub fn x(&self) -> u32 { u32::from(self.0) + 1 }
    fn bytes(&self) -> [u8; 32] { let mut b = [0; 32]; b[28..].copy_from_slice(&self.x().to_be_bytes()); b }
    fn scalar(&self) -> Scalar { Scalar::from(self.x()) }
}

pub struct SecretScalar(Zeroizing<[u8; 32]>);
fn to_scalar(bytes: &[u8; 32]) -> Option<Scalar> { Option::<Scalar>::from(Scalar::from_repr((*bytes).into())) }
impl SecretScalar {
    pub fn try_from_be_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > 32 || bytes.is_empty() { return bad("scalar length"); }
        let mut b = Zeroizing::new([0u8; 32]);
        b[32 - bytes.len()..].copy_from_slice(bytes);
        match to_scalar(&b) { Some(s) if !bool::from(s.is_zero()) => Ok(Self(b)), _ => bad("scalar out of range") }
    }
    fn new(s: Scalar) -> Result<Self> { if bool::from(s.is_zero()) { bad("zero scalar") } else { Ok(Self(Zeroizing::new(s.to_bytes().into()))) } }
    fn s(&self) -> Scalar { to_scalar(&self.0).unwrap_or(Scalar::ZERO) }
    pub fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> { self.0.clone() }
    pub fn public_key(&self) -> PublicKey { SecretKey::from_slice(&*self.0).expect("non-zero").public_key(SECP256K1) }
    pub fn add(&self, o: &Self) -> Result<Self> { Self::new(self.s() + o.s()) }
    pub fn sub(&self, o: &Self) -> Result<Self> { Self::new(self.s() - o.s()) }
    pub fn duplicate(&self) -> Self { Self(self.0.clone()) }
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self { loop { if let Ok(s) = Self::new(Scalar::random(&mut *rng)) { return s; } } }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NonceCommitment { pub hiding: PublicKey, pub binding: PublicKey }
pub struct Nonces { hiding: SecretScalar, binding: SecretScalar }
impl Nonces {
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self { Self { hiding: SecretScalar::random(rng), binding: SecretScalar::random(rng) } }
    pub fn commitment(&self) -> NonceCommitment { NonceCommitment { hiding: self.hiding.public_key(), binding: self.binding.public_key() } }
    pub fn to_bytes(&self) -> Zeroizing<[u8; 64]> { let mut b = Zeroizing::new([0; 64]); b[..32].copy_from_slice(&*self.hiding.0); b[32..].copy_from_slice(&*self.binding.0); b }
    pub fn from_bytes(b: &[u8; 64]) -> Result<Self> { Ok(Self { hiding: SecretScalar::try_from_be_bytes(&b[..32])?, binding: SecretScalar::try_from_be_bytes(&b[32..])? }) }
}

const CTX: &[u8] = b"FROST-secp256k1-SHA256-TR-v1";
fn h2f(tag: &[u8], msg: &[u8]) -> Scalar {
    let mut out = [Scalar::ZERO];
    hash_to_field::<ExpandMsgXmd<Sha256>, Scalar>(&[msg], &[CTX, tag], &mut out).expect("lengths fit");
    out[0]
}
fn hctx(tag: &[u8], msg: &[u8]) -> [u8; 32] { let mut h = Sha256::new(); h.update(CTX); h.update(tag); h.update(msg); h.finalize().into() }
fn tagged(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let t = Sha256::digest(tag.as_bytes());
    let mut h = Sha256::new(); h.update(t); h.update(t); for p in parts { h.update(p); } h.finalize().into()
}
fn reduce(b: [u8; 32]) -> Scalar { <Scalar as Reduce<k256::U256>>::reduce_bytes(&b.into()) }
fn user_identifier() -> [u8; 32] { h2f(b"id", b"user").to_bytes().into() }
fn mul(p: &PublicKey, s: &Scalar) -> Result<PublicKey> {
    let t = TweakScalar::from_be_bytes(s.to_bytes().into()).map_err(|_| Error::Invalid("scalar".into()))?;
    p.mul_tweak(SECP256K1, &t).map_err(|_| Error::Invalid("identity point".into()))
}
fn sum(points: &[PublicKey]) -> Result<PublicKey> {
    let refs: Vec<&PublicKey> = points.iter().collect();
    PublicKey::combine_keys(&refs).map_err(|_| Error::Invalid("identity point".into()))
}
fn is_odd(p: &PublicKey) -> bool { p.x_only_public_key().1 == Parity::Odd }
fn neg_if(c: bool, p: &PublicKey) -> PublicKey { if c { p.negate(SECP256K1) } else { *p } }
fn sneg_if(c: bool, s: Scalar) -> Scalar { if c { -s } else { s } }
fn tap(y: &PublicKey) -> Result<(bool, Scalar, PublicKey)> {
    let neg = is_odd(y);
    let x = y.x_only_public_key().0.serialize();
    let t = reduce(tagged("TapTweak", &[&x]));
    let tw = TweakScalar::from_be_bytes(t.to_bytes().into()).map_err(|_| Error::Invalid("tweak".into()))?;
    let q = neg_if(neg, y).add_exp_tweak(SECP256K1, &tw).map_err(|_| Error::Invalid("identity point".into()))?;
    Ok((neg, t, q))
}
pub fn output_key(y: &PublicKey) -> XOnlyPublicKey { tap(y).map(|(_, _, q)| q.x_only_public_key().0).unwrap_or_else(|_| y.x_only_public_key().0) }
pub fn verify_signature(y: &PublicKey, message: &[u8; 32], signature: &[u8; 64]) -> Result<()> {
    let s = schnorr::Signature::from_slice(signature).map_err(|_| Error::Invalid("signature".into()))?;
    SECP256K1.verify_schnorr(&s, &Message::from_digest(*message), &output_key(y)).map_err(|_| Error::Invalid("signature does not verify".into()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureShare(pub [u8; 32]);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningPackage {
    pub verifying_key: PublicKey,
    pub message: [u8; 32],
    pub operators: BTreeMap<OperatorIndex, NonceCommitment>,
    pub user: Option<NonceCommitment>,
    pub adaptor: Option<PublicKey>,
    pub threshold: u16,
}
pub struct Prepared<'a> {
    package: &'a SigningPackage,
    neg_y: bool, t: Scalar, q: PublicKey, neg_q: bool, neg_r: bool, r: PublicKey, c: Scalar,
    rho: BTreeMap<OperatorIndex, Scalar>, rho_user: Option<Scalar>,
}
impl SigningPackage {
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut h = Sha256::new();
        h.update(self.verifying_key.serialize()); h.update(self.message); h.update(self.threshold.to_be_bytes());
        for (i, c) in &self.operators { h.update(i.bytes()); h.update(c.hiding.serialize()); h.update(c.binding.serialize()); }
        h.update([u8::from(self.user.is_some())]);
        if let Some(c) = &self.user { h.update(c.hiding.serialize()); h.update(c.binding.serialize()); }
        h.update([u8::from(self.adaptor.is_some())]);
        if let Some(a) = &self.adaptor { h.update(a.serialize()); }
        h.finalize().into()
    }
    pub fn prepare(&self) -> Result<Prepared<'_>> {
        if self.threshold < 2 || self.operators.len() < usize::from(self.threshold) { return bad("too few commitments"); }
        let (neg_y, t, q) = tap(&self.verifying_key)?;
        let neg_q = is_odd(&q);
        let uid = user_identifier();
        let mut enc = Vec::new();
        let all: Vec<([u8; 32], &NonceCommitment)> = self.operators.iter().map(|(i, c)| (i.bytes(), c)).chain(self.user.iter().map(|c| (uid, c))).collect();
        for (id, c) in &all { enc.extend_from_slice(id); enc.extend_from_slice(&c.hiding.serialize()); enc.extend_from_slice(&c.binding.serialize()); }
        let mut prefix = neg_if(neg_q, &q).serialize().to_vec();
        prefix.extend_from_slice(&hctx(b"msg", &self.message));
        prefix.extend_from_slice(&hctx(b"com", &enc));
        let rho_of = |id: &[u8; 32]| { let mut m = prefix.clone(); m.extend_from_slice(id); h2f(b"rho", &m) };
        let mut points = Vec::new();
        let mut rho = BTreeMap::new();
        for (i, c) in &self.operators { let r = rho_of(&i.bytes()); points.push(c.hiding); points.push(mul(&c.binding, &r)?); rho.insert(*i, r); }
        let mut rho_user = None;
        if let Some(c) = &self.user { let r = rho_of(&uid); points.push(c.hiding); points.push(mul(&c.binding, &r)?); rho_user = Some(r); }
        if let Some(a) = &self.adaptor { points.push(*a); }
        let r = sum(&points)?;
        let c = reduce(tagged("BIP0340/challenge", &[&r.x_only_public_key().0.serialize(), &q.x_only_public_key().0.serialize(), &self.message]));
        Ok(Prepared { package: self, neg_y, t, neg_q, neg_r: is_odd(&r), r, c, q, rho, rho_user })
    }
}
impl Prepared<'_> {
    fn lambda(&self, i: &OperatorIndex) -> Result<Scalar> {
        lagrange(i, self.package.operators.keys())
    }
    pub fn sign_operator(&self, i: &OperatorIndex, share: &SecretScalar, nonces: Nonces) -> Result<SignatureShare> {
        let Some(rho) = self.rho.get(i) else { return bad("not a signer") };
        if self.package.operators.get(i) != Some(&nonces.commitment()) { return bad("other nonces"); }
        let s = sneg_if(self.neg_q, sneg_if(self.neg_y, share.s()) + self.t);
        let k = sneg_if(self.neg_r, nonces.hiding.s() + nonces.binding.s() * rho);
        Ok(SignatureShare((k + self.lambda(i)? * self.c * s).to_bytes().into()))
    }
    pub fn sign_user(&self, secret: &SecretScalar, nonces: Nonces) -> Result<SignatureShare> {
        let Some(rho) = &self.rho_user else { return bad("no user") };
        if self.package.user != Some(nonces.commitment()) { return bad("other nonces"); }
        let s = sneg_if(self.neg_q, sneg_if(self.neg_y, secret.s()));
        let k = sneg_if(self.neg_r, nonces.hiding.s() + nonces.binding.s() * rho);
        Ok(SignatureShare((k + self.c * s).to_bytes().into()))
    }
    fn verify(&self, z: &SignatureShare, com: &NonceCommitment, rho: &Scalar, lambda: Scalar, y: PublicKey) -> Result<()> {
        let z = SecretScalar::try_from_be_bytes(&z.0)?;
        let r = neg_if(self.neg_r, &sum(&[com.hiding, mul(&com.binding, rho)?])?);
        let right = sum(&[r, mul(&y, &(lambda * self.c))?])?;
        if z.public_key() == right { Ok(()) } else { bad("share does not verify") }
    }
    pub fn verify_operator_share(&self, i: &OperatorIndex, public: &PublicKey, z: &SignatureShare) -> Result<()> {
        let (Some(rho), Some(com)) = (self.rho.get(i), self.package.operators.get(i)) else { return bad("not a signer") };
        let y = neg_if(self.neg_y, public);
        let tw = TweakScalar::from_be_bytes(self.t.to_bytes().into()).map_err(|_| Error::Invalid("tweak".into()))?;
        let y = neg_if(self.neg_q, &y.add_exp_tweak(SECP256K1, &tw).map_err(|_| Error::Invalid("identity".into()))?);
        self.verify(z, com, rho, self.lambda(i)?, y)
    }
    pub fn verify_user_share(&self, public: &PublicKey, z: &SignatureShare) -> Result<()> {
        let (Some(rho), Some(com)) = (&self.rho_user, &self.package.user) else { return bad("no user") };
        let y = neg_if(self.neg_q, &neg_if(self.neg_y, public));
        self.verify(z, com, rho, Scalar::ONE, y)
    }
    pub fn aggregate(&self, shares: &BTreeMap<OperatorIndex, SignatureShare>, user: Option<&SignatureShare>, public: &BTreeMap<OperatorIndex, PublicKey>, user_public: Option<&PublicKey>) -> Result<[u8; 64]> {
        if shares.keys().ne(self.package.operators.keys()) { return bad("share set"); }
        let mut z = Scalar::ZERO;
        for s in shares.values() { z += to_scalar(&s.0).ok_or(Error::Invalid("share".into()))?; }
        if self.package.user.is_some() != user.is_some() { return bad("user share"); }
        if let Some(s) = user { z += to_scalar(&s.0).ok_or(Error::Invalid("share".into()))?; }
        let mut out = [0; 64];
        out[..32].copy_from_slice(&self.r.x_only_public_key().0.serialize());
        out[32..].copy_from_slice(&z.to_bytes());
        if self.package.adaptor.is_some() { return Ok(out); }
        let sig = schnorr::Signature::from_slice(&out).map_err(|_| Error::Invalid("signature".into()))?;
        if SECP256K1.verify_schnorr(&sig, &Message::from_digest(self.package.message), &self.q.x_only_public_key().0).is_ok() { return Ok(out); }
        for (i, s) in shares { if let Some(p) = public.get(i) { if self.verify_operator_share(i, p, s).is_err() { return Err(Error::Culprit(*i)); } } }
        let _ = user_public;
        bad("signature does not verify")
    }
}
fn lagrange<'a>(i: &OperatorIndex, set: impl Iterator<Item = &'a OperatorIndex>) -> Result<Scalar> {
    let (mut n, mut d) = (Scalar::ONE, Scalar::ONE);
    for j in set { if j != i { n *= j.scalar(); d *= j.scalar() - i.scalar(); } }
    Option::<Scalar>::from(d.invert()).map(|d| n * d).ok_or(Error::Invalid("duplicate".into()))
}

pub mod feldman {
    use super::*;
    pub struct Shares { pub proofs: Vec<PublicKey>, pub shares: Vec<SecretScalar> }
    pub fn split(secret: &SecretScalar, threshold: u16, count: u16, rng: &mut (impl RngCore + CryptoRng)) -> Result<Shares> {
        if threshold < 2 || count < threshold { return bad("threshold"); }
        loop {
            let mut coeffs = vec![secret.duplicate()];
            for _ in 1..threshold { coeffs.push(SecretScalar::random(rng)); }
            let proofs = coeffs.iter().map(SecretScalar::public_key).collect();
            let shares: Result<Vec<_>> = (0..count).map(|i| { let x = OperatorIndex(i).scalar(); SecretScalar::new(coeffs.iter().rev().fold(Scalar::ZERO, |a, c| a * x + c.s())) }).collect();
            if let Ok(shares) = shares { return Ok(Shares { proofs, shares }); }
        }
    }
    pub fn evaluate(proofs: &[PublicKey], i: OperatorIndex) -> Result<PublicKey> {
        let Some((last, rest)) = proofs.split_last() else { return bad("no proofs") };
        let x = i.scalar();
        rest.iter().rev().try_fold(*last, |a, p| sum(&[mul(&a, &x)?, *p]))
    }
    pub fn verify_share(proofs: &[PublicKey], i: OperatorIndex, share: &SecretScalar) -> Result<()> {
        if evaluate(proofs, i)? == share.public_key() { Ok(()) } else { bad("share does not fit its proofs") }
    }
    pub fn check_proofs(proofs: &[PublicKey], threshold: u16) -> Result<()> {
        if proofs.len() == usize::from(threshold) { Ok(()) } else { bad("proofs must have exactly threshold entries") }
    }
    pub fn recover(shares: &[(OperatorIndex, &SecretScalar)]) -> Result<SecretScalar> {
        let ids: Vec<_> = shares.iter().map(|(i, _)| *i).collect();
        let mut s = Scalar::ZERO;
        for (i, v) in shares { s += lagrange(i, ids.iter())? * v.s(); }
        SecretScalar::new(s)
    }
    pub fn recover_public(shares: &[(OperatorIndex, PublicKey)]) -> Result<PublicKey> {
        let ids: Vec<_> = shares.iter().map(|(i, _)| *i).collect();
        let points: Result<Vec<_>> = shares.iter().map(|(i, p)| mul(p, &lagrange(i, ids.iter())?)).collect();
        sum(&points?)
    }
}
pub mod tweak {
    use super::*;
    pub fn apply_secret(share: &SecretScalar, tweak: &SecretScalar) -> Result<SecretScalar> { share.add(tweak) }
    pub fn apply_public(p: &PublicKey, t: &PublicKey) -> Result<PublicKey> { sum(&[*p, *t]) }
    pub fn add_points(a: &PublicKey, b: &PublicKey) -> Result<PublicKey> { sum(&[*a, *b]) }
    pub fn sub_points(a: &PublicKey, b: &PublicKey) -> Result<PublicKey> { sum(&[*a, b.negate(SECP256K1)]) }
}
pub mod dkg {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Round1Package { pub commitments: Vec<PublicKey>, pub proof_r: [u8; 32], pub proof_mu: [u8; 32] }
}
#[allow(unused)]
fn _unused(_: impl HashEngine) { let _ = bitcoin::hashes::sha256::Hash::all_zeros(); }
