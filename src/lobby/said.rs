//! What a peer says before it is known how many pieces there are, kept until somebody can make sense of it.

use crate::layout::PieceIndex;
use crate::wire::Message;
use crate::wire::extended::{HANDSHAKE_ID, LT_DONTHAVE_ID};

/// Pieces of which a peer may tell one by one that it has them, or has them no more.
const MAX_NEWS: usize = 16 * 1024;

/// Extension handshakes that are kept; clients send one or two.
const MAX_HANDSHAKES: usize = 8;

/// Pieces that it suggests or allows while we are choked.
const MAX_HINTS: usize = 64;

/// What one peer has said, as far as it still counts.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Bitfield, have all or have none.
    pieces: Option<Message>,
    /// Pieces that it has since, or has no more (BEP 54), in the order in which it has said so.
    news: Vec<News>,
    handshakes: Vec<Message>,
    hints: Vec<Message>,
    unchokes: bool,
    interested: bool,
}

#[derive(Clone, Copy, Debug)]
enum News {
    Have(PieceIndex),
    /// The payload of a message of `lt_donthave`.
    DontHave([u8; 4]),
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
            Message::Have(piece) if self.news.len() < MAX_NEWS => self.news.push(News::Have(piece)),
            Message::Extended { id: HANDSHAKE_ID, .. } if self.handshakes.len() < MAX_HANDSHAKES => {
                self.handshakes.push(message)
            }
            Message::Extended { id: LT_DONTHAVE_ID, ref payload } if self.news.len() < MAX_NEWS => {
                self.news.extend(payload.as_slice().try_into().ok().map(News::DontHave));
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
        let (news, hints) = (self.news.capacity(), self.hints.capacity());
        whole + news * size_of::<News>() + hints * size_of::<Message>()
    }

    /// It, said again, in an order in which it can be said.
    pub(super) fn into_messages(self) -> Vec<Message> {
        let news = self.news.into_iter().map(|news| match news {
            News::Have(piece) => Message::Have(piece),
            News::DontHave(payload) => Message::Extended { id: LT_DONTHAVE_ID, payload: payload.to_vec() },
        });
        let mut messages: Vec<Message> = self.pieces.into_iter().chain(self.handshakes).chain(news).collect();
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
        let extended = Message::Extended { id: HANDSHAKE_ID, payload: b"de".to_vec() };
        let lost = Message::Extended { id: LT_DONTHAVE_ID, payload: vec![0, 0, 0, 4] };
        for message in [
            extended.clone(),
            Message::HaveNone,
            Message::Unchoke,
            Message::Have(PieceIndex(3)),
            lost.clone(),
            Message::Have(PieceIndex(4)),
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
            lost,
            Message::Have(PieceIndex(4)),
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
        assert_eq!(all.take_while(|message| said.note(message.clone()).is_ok()).count(), MAX_NEWS);
        let mut said = Said::default();
        let message = Message::Extended { id: 0, payload: vec![0; 1000] };
        assert!((0..100).any(|_| said.note(message.clone()).is_err()));
        assert!(said.size() < 10_000);
        let hints = (0..1000).map(|piece| Message::Suggest(PieceIndex(piece)));
        hints.for_each(|hint| said.note(hint).unwrap());
        assert_eq!(said.hints.len(), MAX_HINTS);
    }
}
