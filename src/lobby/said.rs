//! What a peer says before it is known how many pieces there are, kept until somebody can make sense of it.

use crate::layout::PieceIndex;
use crate::wire::Message;

/// Pieces that a peer may tell of one by one.
const MAX_HAVES: usize = 16 * 1024;

/// Extension handshakes that are kept; clients send one or two.
const MAX_HANDSHAKES: usize = 8;

/// Pieces that it suggests or allows while we are choked.
const MAX_HINTS: usize = 64;

/// What one peer has said, as far as it still counts.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Bitfield, have all or have none.
    pieces: Option<Message>,
    haves: Vec<PieceIndex>,
    handshakes: Vec<Message>,
    hints: Vec<Message>,
    unchokes: bool,
    interested: bool,
}

/// A peer says more than can be kept.
#[derive(Debug)]
pub(super) struct TooMuch;

impl Said {
    /// The peer says this.
    pub(super) fn note(&mut self, message: Message) -> Result<(), TooMuch> {
        match message {
            Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => {
                // What came before it is in it, or was not true.
                self.pieces = Some(message);
            }
            Message::Have(piece) if self.haves.len() < MAX_HAVES => self.haves.push(piece),
            Message::Extended { .. } if self.handshakes.len() < MAX_HANDSHAKES => {
                self.handshakes.push(message)
            }
            Message::Have(_) | Message::Extended { .. } => return Err(TooMuch),
            Message::Suggest(_) | Message::AllowedFast(_) if self.hints.len() < MAX_HINTS => {
                self.hints.push(message);
            }
            Message::Choke => self.unchokes = false,
            Message::Unchoke => self.unchokes = true,
            Message::Interested => self.interested = true,
            Message::NotInterested => self.interested = false,
            // Nothing has been asked of it, and it is choked.
            _ => {}
        }
        Ok(())
    }

    /// Bytes that this takes.
    pub(super) fn size(&self) -> usize {
        let length = |message: &Message| match message {
            Message::Bitfield(bytes) => bytes.len(),
            Message::Extended { payload, .. } => payload.len(),
            _ => 0,
        };
        let whole = self.pieces.iter().chain(&self.handshakes).map(length).sum::<usize>();
        let (haves, hints) = (self.haves.capacity(), self.hints.capacity());
        whole + haves * size_of::<PieceIndex>() + hints * size_of::<Message>()
    }

    /// It, said again, in an order in which it can be said.
    pub(super) fn into_messages(self) -> Vec<Message> {
        let haves = self.haves.into_iter().map(Message::Have);
        let mut messages: Vec<Message> =
            self.pieces.into_iter().chain(self.handshakes).chain(haves).collect();
        messages.extend(self.hints);
        messages.extend(self.interested.then_some(Message::Interested));
        messages.extend(self.unchokes.then_some(Message::Unchoke));
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_counts_is_said_again_the_pieces_first() {
        let mut said = Said::default();
        let extended = Message::Extended { id: 0, payload: b"de".to_vec() };
        for message in [
            extended.clone(),
            Message::HaveNone,
            Message::Unchoke,
            Message::Have(PieceIndex(3)),
            Message::Choke,
            Message::Interested,
            Message::AllowedFast(PieceIndex(1)),
            Message::Unchoke,
            Message::KeepAlive,
        ] {
            said.note(message).unwrap();
        }
        let expected = [
            Message::HaveNone,
            extended,
            Message::Have(PieceIndex(3)),
            Message::AllowedFast(PieceIndex(1)),
            Message::Interested,
            Message::Unchoke,
        ];
        assert_eq!(said.into_messages(), expected);
    }

    #[test]
    fn who_says_ever_more_is_not_borne() {
        let mut said = Said::default();
        let all = (0..1 << 20).map(|piece| Message::Have(PieceIndex(piece)));
        assert_eq!(all.take_while(|message| said.note(message.clone()).is_ok()).count(), MAX_HAVES);
        let mut said = Said::default();
        let message = Message::Extended { id: 0, payload: vec![0; 1000] };
        assert!((0..100).any(|_| said.note(message.clone()).is_err()));
        assert!(said.size() < 10_000);
        let hints = (0..1000).map(|piece| Message::Suggest(PieceIndex(piece)));
        hints.for_each(|hint| said.note(hint).unwrap());
        assert_eq!(said.hints.len(), MAX_HINTS);
    }
}
