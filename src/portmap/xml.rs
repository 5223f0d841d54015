//! As much of XML as routers write: elements with their text. Nothing is expanded but the five characters that have names, nothing is looked up
//! (no entities of a document's own, no files), and each byte is looked at a bounded number of times.

use std::borrow::Cow;

/// A part of a document, in the order in which it stands there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part<'a> {
    /// An element begins; its name without prefix.
    Open(&'a str),
    /// An element ends.
    Close(&'a str),
    /// Text, not empty.
    Text(Cow<'a, str>),
}

/// Reads the parts of a document one by one; ends where it is no XML.
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    rest: &'a str,
    /// An element that has ended where it began: `<a/>`.
    empty: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(document: &'a str) -> Parts<'a> {
        Parts { rest: document, empty: None }
    }

    /// What stands before `end`, which is passed over.
    fn until(&mut self, end: &str) -> Option<&'a str> {
        let (before, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(before)
    }

    /// What stands before the end of a tag: a `>` that is not in quotes.
    fn tag(&mut self) -> Option<&'a str> {
        let mut quote = None;
        let end = self.rest.bytes().position(|byte| is_bare(&mut quote, byte) && byte == b'>')?;
        let tag = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(tag)
    }

    /// Passes over a document type, and over what it declares in brackets.
    fn declaration(&mut self) -> Option<()> {
        let (mut quote, mut in_brackets) = (None, false);
        let end = self.rest.bytes().position(|byte| {
            if !is_bare(&mut quote, byte) {
                return false;
            }
            in_brackets = (in_brackets || byte == b'[') && byte != b']';
            byte == b'>' && !in_brackets
        })?;
        self.rest = &self.rest[end + 1..];
        Some(())
    }
}

/// Whether a byte stands outside of quotes; `quote` is the one that is open.
fn is_bare(quote: &mut Option<u8>, byte: u8) -> bool {
    match *quote {
        Some(open) => {
            if open == byte {
                *quote = None;
            }
            false
        }
        None => {
            *quote = matches!(byte, b'"' | b'\'').then_some(byte);
            quote.is_none()
        }
    }
}

/// The name that a tag begins with, without prefix.
fn name(tag: &str) -> &str {
    let name = tag.split(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or_default();
    name.rsplit(':').next().unwrap_or_default()
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if let Some(name) = self.empty.take() {
            return Some(Part::Close(name));
        }
        while !self.rest.is_empty() {
            let rest = self.rest;
            if let Some(after) = rest.strip_prefix("<!--") {
                self.rest = after;
                self.until("-->")?;
            } else if let Some(after) = rest.strip_prefix("<![CDATA[") {
                self.rest = after;
                let text = self.until("]]>")?;
                if !text.is_empty() {
                    return Some(Part::Text(text.into()));
                }
            } else if let Some(after) = rest.strip_prefix("<?") {
                self.rest = after;
                self.until("?>")?;
            } else if rest.starts_with("<!") {
                self.declaration()?;
            } else if let Some(after) = rest.strip_prefix("</") {
                self.rest = after;
                return Some(Part::Close(name(self.tag()?)));
            } else if let Some(after) = rest.strip_prefix('<') {
                self.rest = after;
                let tag = self.tag()?;
                let name = name(tag);
                self.empty = tag.ends_with('/').then_some(name);
                return Some(Part::Open(name));
            } else {
                let end = rest.find('<').unwrap_or(rest.len());
                self.rest = &rest[end..];
                return Some(Part::Text(unescape(&rest[..end])));
            }
        }
        None
    }
}

/// Text with the characters that have names or numbers; what is no such name stays as it is.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        // The longest is `#x10ffff`.
        let end = after.bytes().take(9).position(|byte| byte == b';');
        match end.and_then(|end| Some((character(&after[..end])?, end))) {
            Some((character, end)) => {
                out.push(character);
                rest = &after[end + 1..];
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out.into()
}

fn character(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        name => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)?
        }
    })
}

/// The elements that hold text alone, or nothing: name and text, without the space around it.
pub(super) fn leaves<'a>(parts: impl Iterator<Item = Part<'a>>) -> impl Iterator<Item = (&'a str, String)> {
    let mut open: Option<(&str, String)> = None;
    parts.filter_map(move |part| match part {
        Part::Open(name) => {
            open = Some((name, String::new()));
            None
        }
        Part::Text(more) => {
            if let Some((_, text)) = &mut open {
                text.push_str(&more);
            }
            None
        }
        Part::Close(name) => {
            let (opened, text) = open.take()?;
            (opened == name).then(|| (name, text.trim().to_owned()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str) -> Vec<(&str, String)> {
        leaves(Parts::of(document)).collect()
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    fn owned(document: &str) -> Vec<(String, String)> {
        read(document).into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
    }

    #[test]
    fn elements_are_read_whatever_stands_between_them() {
        let document = "<?xml version=\"1.0\"?><!DOCTYPE r [<!ENTITY a \"b\"> <!ENTITY c '>]'>]>\
            <s:r xmlns:s=\"a>b\"><!-- <x>1</x> --><s:a> 1 &amp; 2 </s:a><b><![CDATA[<&>]]></b><c/><d><e>&#x41;&#66;</e></d></s:r>";
        let expected = [pair("a", "1 & 2"), pair("b", "<&>"), pair("c", ""), pair("e", "AB")];
        assert_eq!(owned(document), expected);
    }

    #[test]
    fn what_a_document_declares_is_not_expanded() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"haha\"><!ENTITY b \"&a;&a;&a;\">]><r>&b;&b; &nbsp; & &#xd800; &#1114112;</r>";
        assert_eq!(owned(bomb), [pair("r", "&b;&b; &nbsp; & &#xd800; &#1114112;")]);
    }

    #[test]
    fn what_is_no_xml_ends() {
        for document in
            ["", "<", "<a", "<a b='>", "<!--", "<![CDATA[x", "<?x", "<!DOCTYPE [", "</", "a<b", "<a>&"]
        {
            assert!(read(document).is_empty(), "{document}");
        }
        assert_eq!(owned("<a>1</a><b"), [pair("a", "1")]);
    }
}
