//! Calls that were answered and not confirmed: whoever makes a SYN up has an answer sent to somebody else, of no more bytes, and has this
//! remembered for a while. A connection there is only once the caller has repeated the number that the answer told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Calls that are remembered; of more, the newest.
pub(super) const MAX_HALF_OPEN: usize = 512;

/// How long one is remembered.
const MAX_AGE: Duration = Duration::from_secs(30);

/// A caller, and the number of the connection that its SYN bears.
pub(super) type Call = (SocketAddr, u16);

/// A call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HalfOpen {
    /// The number of the SYN.
    pub syn: u16,
    /// The number that the answer bears.
    pub seq_nr: u16,
    at: Instant,
}

/// The calls, each once.
#[derive(Debug, Default)]
pub(super) struct HalfOpens {
    calls: HashMap<Call, HalfOpen>,
    /// In the order in which they came, with those that are confirmed already; at most twice [`MAX_HALF_OPEN`].
    order: VecDeque<(Instant, Call)>,
}

impl HalfOpens {
    /// A SYN has come. Gives the number that the answer bears: `seq_nr`, or for the same SYN again that of the first answer.
    pub(super) fn on_syn(&mut self, now: Instant, call: Call, syn: u16, seq_nr: u16) -> u16 {
        if let Some(known) = self.get(now, call).filter(|known| known.syn == syn) {
            return known.seq_nr;
        }
        self.calls.insert(call, HalfOpen { syn, seq_nr, at: now });
        self.order.push_back((now, call));
        while self.calls.len() > MAX_HALF_OPEN || self.order.len() > 2 * MAX_HALF_OPEN {
            let Some((at, oldest)) = self.order.pop_front() else { break };
            if self.calls.get(&oldest).is_some_and(|known| known.at == at) {
                self.calls.remove(&oldest);
            }
        }
        seq_nr
    }

    /// A call that is remembered.
    pub(super) fn get(&self, now: Instant, call: Call) -> Option<HalfOpen> {
        self.calls.get(&call).filter(|known| now.saturating_duration_since(known.at) < MAX_AGE).copied()
    }

    /// It is confirmed.
    pub(super) fn remove(&mut self, call: Call) {
        self.calls.remove(&call);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }
}
