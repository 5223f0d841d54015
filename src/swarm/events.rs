//! Events of the core: built only if somebody wants to know.

use super::{Output, Swarm};
use crate::event::{Kind, Severity};

/// Which events are wanted.
#[derive(Debug)]
pub(super) struct Wanted(Option<Severity>);

impl Default for Wanted {
    /// All of them.
    fn default() -> Wanted {
        Wanted(Some(Severity::Debug))
    }
}

impl Wanted {
    /// Whether events of this severity are.
    pub(super) fn has(&self, severity: Severity) -> bool {
        self.0.is_some_and(|least| least <= severity)
    }
}

impl Swarm {
    /// From now on, events of at least this severity are told by [`Output::Event`]; `None`: none are.
    pub fn want_events(&mut self, least: Option<Severity>) {
        self.wanted_events = Wanted(least);
    }

    /// Builds an event if one of this severity is wanted.
    pub(super) fn tell(&mut self, severity: Severity, kind: impl FnOnce() -> Kind) {
        if self.wanted_events.has(severity) {
            let kind = kind();
            debug_assert_eq!(kind.severity(), severity, "{kind:?}");
            self.outputs.push_back(Output::Event(kind));
        }
    }
}
