//! What the user wants: when connections are made encrypted, and what is taken.

use super::{Method, Methods};

/// `--encryption`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum EncryptionPolicy {
    /// Never: who calls encrypted is closed.
    Off,
    /// Peers are called in plaintext, for that is quickest, and encrypted if they close or are silent; who calls is taken either way.
    #[default]
    Allow,
    /// Peers are called encrypted, and in plaintext if that fails; who calls is taken either way, and RC4 is chosen where there is a choice.
    Prefer,
    /// RC4 or nothing, in both directions.
    Require,
}

/// How a connection begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Way {
    /// With the BitTorrent handshake.
    Plain,
    /// With the encrypted handshake.
    Encrypted,
}

impl EncryptionPolicy {
    /// How to call a peer: the way to try first, and the way to try after that; `worked` is what has worked with it before.
    pub fn ways(self, worked: Option<Way>) -> (Way, Option<Way>) {
        let usual = match self {
            EncryptionPolicy::Off => return (Way::Plain, None),
            EncryptionPolicy::Require => return (Way::Encrypted, None),
            EncryptionPolicy::Allow => Way::Plain,
            EncryptionPolicy::Prefer => Way::Encrypted,
        };
        match worked.unwrap_or(usual) {
            Way::Plain => (Way::Plain, Some(Way::Encrypted)),
            Way::Encrypted => (Way::Encrypted, Some(Way::Plain)),
        }
    }

    /// Whether who calls may begin like this.
    pub fn takes(self, way: Way) -> bool {
        match way {
            Way::Plain => self != EncryptionPolicy::Require,
            Way::Encrypted => self != EncryptionPolicy::Off,
        }
    }

    /// What may follow an encrypted handshake.
    pub fn methods(self) -> Methods {
        let preferred = match self {
            EncryptionPolicy::Off | EncryptionPolicy::Allow => Method::Plaintext,
            EncryptionPolicy::Prefer | EncryptionPolicy::Require => Method::Rc4,
        };
        Methods { plaintext: self != EncryptionPolicy::Require, preferred }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_worked_comes_first_unless_the_user_forbids_it() {
        use EncryptionPolicy::{Allow, Off, Prefer, Require};
        use Way::{Encrypted, Plain};
        for (policy, worked, ways) in [
            (Off, Some(Encrypted), (Plain, None)),
            (Allow, None, (Plain, Some(Encrypted))),
            (Allow, Some(Encrypted), (Encrypted, Some(Plain))),
            (Prefer, None, (Encrypted, Some(Plain))),
            (Prefer, Some(Plain), (Plain, Some(Encrypted))),
            (Require, Some(Plain), (Encrypted, None)),
        ] {
            assert_eq!(policy.ways(worked), ways, "{policy:?}");
        }
        assert!(!Off.takes(Encrypted) && Off.takes(Plain) && !Require.takes(Plain) && Prefer.takes(Plain));
        assert!(!Require.methods().plaintext && Allow.methods().plaintext);
    }
}
