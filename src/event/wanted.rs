//! Which events somebody wants to know of, for those that build events themselves.

use super::{Kind, Severity};

/// Events of at least this severity are wanted; `None`: none are.
#[derive(Clone, Copy, Debug)]
pub struct WantedEvents(pub Option<Severity>);

impl Default for WantedEvents {
    /// All of them.
    fn default() -> WantedEvents {
        WantedEvents(Some(Severity::Debug))
    }
}

impl WantedEvents {
    /// Builds an event of this severity, if one is wanted.
    pub fn build(self, severity: Severity, kind: impl FnOnce() -> Kind) -> Option<Kind> {
        let kind = self.0.is_some_and(|least| least <= severity).then(kind);
        debug_assert!(kind.as_ref().is_none_or(|kind| kind.severity() == severity), "{kind:?}");
        kind
    }
}
