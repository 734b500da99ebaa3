//! Keys that move by a secret factor.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tinderbox_frost::feldman::{self, Shares};
use tinderbox_frost::multiply::{self, Product};
use tinderbox_frost::{
    Error, KeyShare, OperatorIndex, PublicKeyshare, SecretScalar, tweak, verify_signature,
};

use crate::common::{Group, hex_of, rng};

struct Setting {
    group: Group,
    factor: SecretScalar,
    factors: Shares,
    public: PublicKeyshare,
}

fn setting(seed: u64, threshold: u16, count: u16) -> Setting {
    let mut group = Group::new(seed, threshold, count);
    let factor = SecretScalar::random(&mut group.rng);
    let factors = feldman::split(&factor, threshold, count, &mut group.rng).unwrap();
    let public = PublicKeyshare::from_proofs(&group.dealt.proofs, count).unwrap();
    Setting {
        group,
        factor,
        factors,
        public,
    }
}

impl Setting {
    fn deal(&mut self, index: OperatorIndex) -> tinderbox_frost::Result<Product> {
        let share = KeyShare {
            index,
            secret: self.group.share(index).duplicate(),
        };
        let factor = &self.factors.shares[usize::from(index.0)];
        let (threshold, count) = (self.group.threshold, self.group.count);
        Product::deal(&share, factor, threshold, count, &mut self.group.rng)
    }

    fn finish(
        &self,
        index: OperatorIndex,
        products: &BTreeMap<OperatorIndex, Product>,
    ) -> tinderbox_frost::Result<(KeyShare, PublicKeyshare)> {
        let dealt = products
            .iter()
            .map(|(dealer, product)| {
                let share = product.shares[usize::from(index.0)].duplicate();
                (*dealer, (product.package.clone(), share))
            })
            .collect();
        let threshold = self.group.threshold;
        multiply::finish(index, threshold, &self.public, &self.factors.proofs, &dealt)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Key and shares are multiplied, nobody saw the factor, and the new shares sign.
    #[test]
    fn a_dealt_factor_multiplies_the_key(seed: u64, shape in 0usize..3) {
        let (threshold, count) = [(2, 3), (2, 4), (3, 5)][shape];
        let mut setting = setting(seed, threshold, count);
        let products: BTreeMap<_, _> = OperatorIndex::first(2 * threshold - 1)
            .map(|index| (index, setting.deal(index).unwrap()))
            .collect();
        let product = setting.group.secret.mul(&setting.factor);
        let mut shares = Vec::new();
        for index in OperatorIndex::first(count) {
            let (share, public) = setting.finish(index, &products).unwrap();
            prop_assert_eq!(public.group_key, product.public_key());
            prop_assert_eq!(share.public_share(), public.public_shares[&index]);
            prop_assert_ne!(
                hex_of(&share.secret),
                hex_of(&setting.group.share(index).mul(&setting.factor))
            );
            setting.group.dealt.proofs = vec![public.group_key];
            shares.push((index, share.secret, public));
        }
        let some: Vec<_> =
            shares.iter().rev().take(usize::from(threshold)).map(|(i, s, _)| (*i, s)).collect();
        prop_assert_eq!(hex_of(&feldman::recover(&some).unwrap()), hex_of(&product));

        let public = shares[0].2.public_shares.clone();
        let mut group = setting.group;
        group.secret = product;
        group.dealt.shares = shares.into_iter().map(|(_, share, _)| share).collect();
        let signers: Vec<u16> = (count - threshold..count).collect();
        let signed = group.session(&signers, [6; 32]).sign(&group);
        let signature = signed
            .prepared
            .aggregate(
                &signed.shares,
                signed.user_share.as_ref(),
                &public,
                Some(&group.user.public_key()),
            )
            .unwrap();
        prop_assert_eq!(verify_signature(&group.verifying_key(), &[6; 32], &signature), Ok(()));
    }
}

#[test]
fn a_product_needs_twice_the_threshold_less_one_dealers() {
    let mut small = setting(1, 3, 4);
    assert_eq!(
        small.deal(OperatorIndex(0)).err(),
        Some(Error::TooFewShares {
            expected: 5,
            actual: 4
        })
    );
    let mut setting = setting(2, 2, 3);
    let products: BTreeMap<_, _> = OperatorIndex::first(2)
        .map(|index| (index, setting.deal(index).unwrap()))
        .collect();
    assert_eq!(
        setting.finish(OperatorIndex(0), &products).err(),
        Some(Error::TooFewShares {
            expected: 3,
            actual: 2
        })
    );
}

#[test]
fn a_wrong_product_names_its_dealer() {
    let culprit = OperatorIndex(1);
    let mut setting = setting(3, 2, 3);
    let mut products: BTreeMap<_, _> = OperatorIndex::first(3)
        .map(|index| (index, setting.deal(index).unwrap()))
        .collect();
    let own = OperatorIndex(0);

    // A product of another number, consistently shared.
    let other = feldman::split(&SecretScalar::random(&mut rng(9)), 2, 3, &mut rng(10)).unwrap();
    let honest = products.remove(&culprit).unwrap();
    let mut lie = Product {
        package: honest.package.clone(),
        shares: other.shares,
    };
    lie.package.proofs = other.proofs;
    products.insert(culprit, lie);
    assert_eq!(
        setting.finish(own, &products).err(),
        Some(Error::ProductProof { culprit })
    );

    // A proof made for another dealer.
    let copied = products[&OperatorIndex(2)].package.clone();
    let shares = products[&OperatorIndex(2)]
        .shares
        .iter()
        .map(SecretScalar::duplicate)
        .collect();
    products.insert(
        culprit,
        Product {
            package: copied,
            shares,
        },
    );
    assert_eq!(
        setting.finish(own, &products).err(),
        Some(Error::ProductProof { culprit })
    );

    // A share that is not on the polynomial.
    let mut wrong = Product {
        package: honest.package.clone(),
        shares: honest.shares,
    };
    wrong.shares[0] = SecretScalar::random(&mut rng(11));
    products.insert(culprit, wrong);
    assert_eq!(
        setting.finish(own, &products).err(),
        Some(Error::ShareMismatch { index: culprit })
    );

    // A polynomial of a higher degree.
    let mut longer = setting.deal(culprit).unwrap();
    let slope = SecretScalar::random(&mut rng(12)).public_key();
    let first = longer.package.proofs[0];
    longer.package.proofs = vec![first, slope, tweak::add_points(&first, &slope).unwrap()];
    products.insert(culprit, longer);
    assert_eq!(
        setting.finish(own, &products).err(),
        Some(Error::ProofCount {
            expected: 2,
            actual: 3
        })
    );
}
