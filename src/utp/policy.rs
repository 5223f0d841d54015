//! What the user wants: by which transports peers are reached.

/// `--transport`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TransportPolicy {
    /// TCP alone.
    Tcp,
    /// uTP alone (BEP 29).
    Utp,
    /// Whichever answers.
    #[default]
    Both,
}

/// What carries a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// uTP (BEP 29).
    Utp,
}

impl Transport {
    /// `tcp` or `utp`, for events.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Utp => "utp",
        }
    }

    /// The other one.
    pub fn other(self) -> Transport {
        match self {
            Transport::Tcp => Transport::Utp,
            Transport::Utp => Transport::Tcp,
        }
    }
}

impl TransportPolicy {
    /// Whether this one is used.
    pub fn takes(self, transport: Transport) -> bool {
        match self {
            TransportPolicy::Tcp => transport == Transport::Tcp,
            TransportPolicy::Utp => transport == Transport::Utp,
            TransportPolicy::Both => true,
        }
    }

    /// How to call a peer: first, and if that is not answered soon; `known` is what has worked, or what others say of it.
    pub fn order(self, known: Option<Transport>) -> (Transport, Option<Transport>) {
        match self {
            TransportPolicy::Tcp => (Transport::Tcp, None),
            TransportPolicy::Utp => (Transport::Utp, None),
            TransportPolicy::Both => {
                let first = known.unwrap_or(Transport::Tcp);
                (first, Some(first.other()))
            }
        }
    }
}
