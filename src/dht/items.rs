//! Items that others have stored at this node (BEP 44): any value by its hash, or by the key of who signed it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, VerifyingKey};

use super::message::{Put, Refusal, Signed, is_canonical};
use super::node_id::NodeId;
use crate::hash::sha1;

/// Items that are kept; the one stored longest ago goes first.
const MAX_ITEMS: usize = 1024;

/// Bytes of a value (BEP 44).
const MAX_VALUE: usize = 1000;

/// Bytes of a salt (BEP 44).
const MAX_SALT: usize = 64;

/// An item is kept for so long after it was last stored (BEP 44).
const LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

/// What a mutable item has besides its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Proof {
    /// 32 bytes.
    pub(super) key: Box<[u8]>,
    /// 64 bytes.
    pub(super) signature: Box<[u8]>,
    pub(super) seq: i64,
}

/// An item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Item {
    /// Canonical bencode, at most [`MAX_VALUE`] bytes.
    pub(super) value: Box<[u8]>,
    /// `None`: an immutable item.
    pub(super) proof: Option<Proof>,
    stored: Instant,
}

/// The items.
#[derive(Default, Debug)]
pub(super) struct ItemStore {
    items: HashMap<NodeId, Item>,
    /// The same, by when they were last stored.
    by_age: BTreeSet<(Instant, NodeId)>,
}

const TOO_BIG: Refusal = Refusal { code: 205, reason: "the value has more than 1000 bytes" };
const BAD_SIGNATURE: Refusal = Refusal { code: 206, reason: "the signature is not that of the key" };
const SALT_TOO_BIG: Refusal = Refusal { code: 207, reason: "the salt has more than 64 bytes" };
const CAS_MISMATCH: Refusal =
    Refusal { code: 301, reason: "`cas` is not the sequence number that is stored" };
const SEQ_TOO_LOW: Refusal = Refusal { code: 302, reason: "a higher sequence number is stored" };
const SEQ_TAKEN: Refusal =
    Refusal { code: 302, reason: "another value is stored under this sequence number" };

impl ItemStore {
    /// The item of a target.
    pub(super) fn get(&self, now: Instant, target: &NodeId) -> Option<&Item> {
        self.items.get(target).filter(|item| now < item.stored + LIFETIME)
    }

    /// Stores an item, if it is what it should be. The token is the caller's to check.
    ///
    /// # Errors
    ///
    /// Those of BEP 44.
    pub(super) fn put(&mut self, now: Instant, put: &Put<'_>) -> Result<(), Refusal> {
        let value = put.value.span();
        if value.len() > MAX_VALUE {
            return Err(TOO_BIG);
        }
        if !is_canonical(put.value) {
            return Err(Refusal::protocol("the value is not canonical bencode"));
        }
        let (target, proof) = match &put.signed {
            None => (NodeId(sha1(value).0), None),
            Some(signed) => {
                if signed.salt.len() > MAX_SALT {
                    return Err(SALT_TOO_BIG);
                }
                let target = NodeId(sha1(&[signed.key, signed.salt].concat()).0);
                if let Some(stored) = self.get(now, &target) {
                    check_order(stored, signed, value)?;
                }
                verify(signed, value)?;
                let proof =
                    Proof { key: signed.key.into(), signature: signed.signature.into(), seq: signed.seq };
                (target, Some(proof))
            }
        };
        self.store(now, target, Item { value: value.into(), proof, stored: now });
        Ok(())
    }

    fn store(&mut self, now: Instant, target: NodeId, item: Item) {
        while self.by_age.first().is_some_and(|(stored, _)| *stored + LIFETIME <= now)
            || self.items.len() >= MAX_ITEMS && !self.items.contains_key(&target)
        {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.items.remove(&oldest);
        }
        if let Some(old) = self.items.insert(target, item) {
            self.by_age.remove(&(old.stored, target));
        }
        self.by_age.insert((now, target));
    }
}

/// Whether what is to be stored may follow what is.
fn check_order(stored: &Item, signed: &Signed<'_>, value: &[u8]) -> Result<(), Refusal> {
    let Some(proof) = &stored.proof else { return Ok(()) };
    if signed.cas.is_some_and(|cas| cas != proof.seq) {
        return Err(CAS_MISMATCH);
    }
    match signed.seq.cmp(&proof.seq) {
        std::cmp::Ordering::Less => Err(SEQ_TOO_LOW),
        std::cmp::Ordering::Equal if *stored.value != *value => Err(SEQ_TAKEN),
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Ok(()),
    }
}

/// Whether the signature is that of the key, over salt, sequence number and value as BEP 44 puts them together.
fn verify(signed: &Signed<'_>, value: &[u8]) -> Result<(), Refusal> {
    let key = signed.key.try_into().map_err(|_| Refusal::protocol("the key is not 32 bytes"))?;
    let signature = Signature::from_slice(signed.signature)
        .map_err(|_| Refusal::protocol("the signature is not 64 bytes"))?;
    let mut message = Vec::with_capacity(value.len() + signed.salt.len() + 48);
    if !signed.salt.is_empty() {
        message.extend(format!("4:salt{}:", signed.salt.len()).bytes());
        message.extend(signed.salt);
    }
    message.extend(format!("3:seqi{}e1:v", signed.seq).bytes());
    message.extend(value);
    let key = VerifyingKey::from_bytes(key).map_err(|_| BAD_SIGNATURE)?;
    key.verify_strict(&message, &signature).map_err(|_| BAD_SIGNATURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::decode;

    const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
    const SIGNATURE: &str = "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
        1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01";
    const SALTED: &str = "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
        df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08";
    const VALUE: &[u8] = b"12:Hello World!";

    fn bytes(hex: &str) -> Vec<u8> {
        let mut bytes = vec![0; hex.len() / 2];
        crate::hash::read_hex(hex, &mut bytes).unwrap();
        bytes
    }

    fn id(hex: &str) -> NodeId {
        NodeId::read(&bytes(hex)).unwrap()
    }

    fn put<'a>(value: &'a [u8], signed: Option<Signed<'a>>) -> Put<'a> {
        Put { token: b"", value: decode(value).unwrap(), signed }
    }

    fn code(result: Result<(), Refusal>) -> u16 {
        result.expect_err("it is refused").code
    }

    #[test]
    fn the_examples_of_bep_44_are_stored_where_they_should_be() {
        let now = Instant::now();
        let mut items = ItemStore::default();
        items.put(now, &put(VALUE, None)).unwrap();
        let immutable = id("e5f96f6f38320f0f33959cb4d3d656452117aadb");
        assert_eq!(*items.get(now, &immutable).unwrap().value, *VALUE);
        let (key, signature, salted) = (bytes(KEY), bytes(SIGNATURE), bytes(SALTED));
        let signed = |signature, salt| Signed { key: &key, signature, seq: 1, salt, cas: None };
        items.put(now, &put(VALUE, Some(signed(&signature, b"")))).unwrap();
        items.put(now, &put(VALUE, Some(signed(&salted, b"foobar")))).unwrap();
        for target in ["4a533d47ec9c7d95b1ad75f576cffc641853b750", "411eba73b6f087ca51a3795d9c8c938d365e32c1"]
        {
            assert_eq!(items.get(now, &id(target)).unwrap().proof.as_ref().unwrap().seq, 1, "{target}");
        }
        assert!(items.get(now + LIFETIME, &immutable).is_none());
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused_by_its_number() {
        let now = Instant::now();
        let mut items = ItemStore::default();
        let (key, signature) = (bytes(KEY), bytes(SIGNATURE));
        let signed = |seq, salt, cas| Some(Signed { key: &key, signature: &signature, seq, salt, cas });
        assert_eq!(code(items.put(now, &put(VALUE, signed(2, b"", None)))), 206);
        assert_eq!(code(items.put(now, &put(VALUE, signed(1, b"salt", None)))), 206);
        assert_eq!(code(items.put(now, &put(VALUE, signed(1, &[0; 65], None)))), 207);
        let short = Signed { key: &key[1..], signature: &signature, seq: 1, salt: b"", cas: None };
        assert_eq!(code(items.put(now, &put(VALUE, Some(short)))), 203);
        let short = Signed { key: &key, signature: &signature[1..], seq: 1, salt: b"", cas: None };
        assert_eq!(code(items.put(now, &put(VALUE, Some(short)))), 203);
        let long = [b"996:".as_slice(), &[0; 996]].concat();
        assert_eq!(items.put(now, &put(&long, None)), Ok(()));
        let too_long = [b"997:".as_slice(), &[0; 997]].concat();
        assert_eq!(code(items.put(now, &put(&too_long, None))), 205);
        assert_eq!(code(items.put(now, &put(b"d1:bi1e1:ai1ee", None))), 203);
        items.put(now, &put(VALUE, signed(1, b"", Some(7)))).expect("there is nothing to compare with yet");
        assert_eq!(code(items.put(now, &put(VALUE, signed(1, b"", Some(7))))), 301);
        assert_eq!(code(items.put(now, &put(VALUE, signed(0, b"", None)))), 302);
        assert_eq!(code(items.put(now, &put(b"5:other", signed(1, b"", None)))), 302);
        let later = now + LIFETIME / 2;
        items.put(later, &put(VALUE, signed(1, b"", Some(1)))).expect("the same again keeps it alive");
        let target = id("4a533d47ec9c7d95b1ad75f576cffc641853b750");
        assert!(items.get(now + LIFETIME, &target).is_some());
    }

    #[test]
    fn the_oldest_item_goes_when_there_is_no_room() {
        let mut now = Instant::now();
        let mut items = ItemStore::default();
        for number in 0..MAX_ITEMS + 10 {
            now += Duration::from_millis(1);
            items.put(now, &put(format!("i{number}e").as_bytes(), None)).unwrap();
        }
        assert_eq!((items.items.len(), items.by_age.len()), (MAX_ITEMS, MAX_ITEMS));
        let has = |number: usize| items.get(now, &NodeId(sha1(format!("i{number}e").as_bytes()).0)).is_some();
        assert!(!has(9) && has(10));
    }
}
