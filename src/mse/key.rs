//! The exchange of keys: Diffie and Hellman's, in a group of 768 bits.

use std::sync::LazyLock;

use num_bigint::BigUint;

use super::{KEY_LENGTH, MseError};

/// The prime of the group, in base 16.
const PRIME: &[u8] =
    b"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563";

/// Bytes of a private key: 160 bits, as the description says.
const PRIVATE_LENGTH: usize = 20;

static P: LazyLock<BigUint> = LazyLock::new(|| BigUint::parse_bytes(PRIME, 16).expect("it is a number"));

/// A private key.
pub(super) struct PrivateKey(BigUint);

impl PrivateKey {
    pub(super) fn new(rng: &mut fastrand::Rng) -> PrivateKey {
        let mut bytes = [0; PRIVATE_LENGTH];
        rng.fill(&mut bytes);
        PrivateKey(BigUint::from_bytes_be(&bytes))
    }

    /// The public key that belongs to it.
    pub(super) fn public(&self) -> [u8; KEY_LENGTH] {
        padded(&BigUint::from(2u8).modpow(&self.0, &P))
    }

    /// The secret that both sides share.
    pub(super) fn secret(&self, theirs: &[u8; KEY_LENGTH]) -> Result<[u8; KEY_LENGTH], MseError> {
        let theirs = BigUint::from_bytes_be(theirs);
        let one = BigUint::from(1u8);
        // 0, 1 and p - 1 make a secret that everybody can guess.
        if theirs <= one || theirs >= &*P - one {
            return Err(MseError::BadKey);
        }
        Ok(padded(&theirs.modpow(&self.0, &P)))
    }
}

/// A number of the group as bytes, with zeros in front: a number may be shorter, and then some clients hash fewer bytes.
fn padded(number: &BigUint) -> [u8; KEY_LENGTH] {
    let bytes = number.to_bytes_be();
    let mut padded = [0; KEY_LENGTH];
    padded[KEY_LENGTH - bytes.len()..].copy_from_slice(&bytes);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_the_same_secret_also_where_it_begins_with_zeros() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(P.bits(), 768);
        let mut short = 0;
        // One in 256 does.
        for _ in 0..3000 {
            let (a, b) = (PrivateKey::new(&mut rng), PrivateKey::new(&mut rng));
            let secret = a.secret(&b.public()).unwrap();
            assert_eq!(secret, b.secret(&a.public()).unwrap());
            short += usize::from(secret[0] == 0);
            if short > 1 {
                return;
            }
        }
        panic!("none does");
    }

    #[test]
    fn keys_that_give_the_secret_away_are_refused() {
        let key = PrivateKey::new(&mut fastrand::Rng::with_seed(2));
        let one = BigUint::from(1u8);
        let bad = [
            BigUint::ZERO,
            one.clone(),
            &*P - &one,
            P.clone(),
            &*P + &one,
            BigUint::from_bytes_be(&[255; 96]),
        ];
        for number in bad {
            assert_eq!(key.secret(&padded(&number)), Err(MseError::BadKey), "{number}");
        }
        for number in [BigUint::from(2u8), &*P - BigUint::from(2u8)] {
            assert!(key.secret(&padded(&number)).is_ok(), "{number}");
        }
    }
}
