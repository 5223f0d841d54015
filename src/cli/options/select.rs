//! Which files of a torrent are meant: numbers as `--show` prints them, or globs on the torrent's
//! paths; and the weights that follow.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use glob::{MatchOptions, Pattern};
use unicode_normalization::UnicodeNormalization;

use crate::cli::options::values::{self, Weighted};
use crate::metainfo::Metainfo;
use crate::text::count;
use crate::text::escape;
use anyhow::anyhow;

/// One `--files LIST`, or the `FILE` of `--priority FILE=N`.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The selector as it was typed, for messages.
    text: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// From 1, as people count.
    Numbers(Vec<RangeInclusive<u32>>),
    /// `None`: not a valid glob, so it can only be a path.
    Pattern(Option<Pattern>),
}

/// `*` and `?` stop at slashes; a leading dot is a character like any other, since nobody's shell
/// hides the files of a torrent.
const GLOB: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escape(&self.text))
    }
}

impl Selector {
    /// Digits, commas and dashes are numbers; anything else is a path or a glob.
    pub fn parse(text: &str) -> anyhow::Result<Selector> {
        const ALLOWED: &str =
            "give file numbers from 1 as --show prints them, e.g. 3 or 1,4-7, or a glob, e.g. '*.iso'";
        if text.is_empty() {
            return Err(anyhow!("it is empty; {ALLOWED}"));
        }
        let what = if text.bytes().all(|byte| byte.is_ascii_digit() || b",- ".contains(&byte)) {
            let ranges = text.split(',').map(|part| {
                let (first, last) = values::range(part.trim(), 1, u32::MAX)
                    .ok_or_else(|| anyhow!("'{part}' is no file number or range; {ALLOWED}"))?;
                Ok(first..=last)
            });
            What::Numbers(ranges.collect::<anyhow::Result<_>>()?)
        } else {
            What::Pattern(Pattern::new(composed(text.trim_end_matches('/')).as_ref()).ok())
        };
        Ok(Selector { text: text.to_owned(), what })
    }

    /// Calls `each` with the index of every file that is meant and says whether there is one; an
    /// error if a number is too high.
    fn for_each(&self, metainfo: &Metainfo, mut each: impl FnMut(usize)) -> anyhow::Result<bool> {
        let files = &metainfo.files;
        let mut found = false;
        match &self.what {
            What::Numbers(ranges) => {
                for range in ranges {
                    if *range.end() as usize > files.len() {
                        return Err(anyhow!(
                            "there is no file {}: {} has {}, see --show",
                            range.end(),
                            escape(&metainfo.name),
                            count(files.len() as u64, "file")
                        ));
                    }
                    (*range.start()..=*range.end()).for_each(|number| each(number as usize - 1));
                    found = true;
                }
            }
            What::Pattern(pattern) => {
                for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.pad) {
                    if self.means(pattern.as_ref(), &file.path) {
                        each(index);
                        found = true;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Whether this path is meant. Paths of multi-file torrents begin with the torrent's own
    /// folder, which people may write or leave out.
    fn means(&self, pattern: Option<&Pattern>, path: &str) -> bool {
        let (text, path) = (composed(self.text.trim_end_matches('/')), composed(path));
        let (text, path) = (text.as_ref(), path.as_ref());
        let hits = |part: &str| part == text || pattern.is_some_and(|p| p.matches_with(part, GLOB));
        let below = path.split_once('/').map_or(path, |(_, below)| below);
        if !text.contains('/') {
            return below.split('/').any(hits) || path == text;
        }
        [path, below].into_iter().any(|path| {
            let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
            hits(path) || folders.into_iter().any(hits)
        })
    }
}

/// Accents and their letters as one character (NFC), so that what looks alike is alike however it was typed.
fn composed(text: &str) -> Cow<'_, str> {
    match text.is_ascii() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.nfc().collect()),
    }
}

/// The weight of each file of each torrent, in order: 1, or 0 for what `--files` leaves out, or what
/// `--priority` says. `--files` has the last word: a weight never brings in what it leaves out.
///
/// An error where a selector matches nothing in any torrent, or where nothing of a torrent is left.
pub(crate) fn priorities(
    torrents: &[&Metainfo],
    files: &[Selector],
    weights: &[Weighted],
) -> anyhow::Result<Vec<Vec<u32>>> {
    let count = |torrent: &&Metainfo| torrent.files.len();
    let mut chosen: Vec<Vec<bool>> = torrents.iter().map(|t| vec![files.is_empty(); count(t)]).collect();
    for selector in files {
        apply(selector, torrents, |torrent, file| chosen[torrent][file] = true)
            .map_err(|error| anyhow!("--files: {error}"))?;
    }
    let mut priorities: Vec<Vec<u32>> = torrents.iter().map(|t| vec![1; count(t)]).collect();
    for Weighted { files, weight } in weights {
        apply(files, torrents, |torrent, file| priorities[torrent][file] = *weight)
            .map_err(|error| anyhow!("--priority: {error}"))?;
    }
    for ((torrent, priorities), chosen) in torrents.iter().zip(&mut priorities).zip(&chosen) {
        for (priority, chosen) in priorities.iter_mut().zip(chosen) {
            *priority *= u32::from(*chosen);
        }
        let mut real = torrent.files.iter().zip(&*priorities).filter(|(file, _)| !file.pad).peekable();
        if real.peek().is_some() && real.all(|(_, priority)| *priority == 0) {
            return Err(anyhow!(
                "--files and --priority leave nothing of {} to download; want at least one file",
                escape(&torrent.name)
            ));
        }
    }
    Ok(priorities)
}

/// The weight of each file of a torrent of which one is wanted: that which `selector` means.
///
/// An error where that is none, or more than one.
pub(crate) fn only(torrent: &Metainfo, selector: &Selector) -> anyhow::Result<Vec<u32>> {
    let mut weights = vec![0; torrent.files.len()];
    apply(selector, &[torrent], |_, file| weights[file] = 1).map_err(|error| anyhow!("--cat: {error}"))?;
    match weights.iter().filter(|&&weight| weight > 0).count() {
        1 => Ok(weights),
        many => Err(anyhow!(
            "--cat: '{selector}' means {} of {}; give the number of one, see --show",
            count(many as u64, "file"),
            escape(&torrent.name)
        )),
    }
}

/// Calls `each` with torrent and file for all that is meant, of which there must be one.
fn apply(
    selector: &Selector,
    torrents: &[&Metainfo],
    mut each: impl FnMut(usize, usize),
) -> anyhow::Result<()> {
    let mut found = false;
    for (number, torrent) in torrents.iter().enumerate() {
        found |= selector.for_each(torrent, |file| each(number, file))?;
    }
    match (found, torrents) {
        (true, _) => Ok(()),
        (false, [only]) => Err(anyhow!("no file of {} matches '{selector}', see --show", escape(&only.name))),
        (false, _) => Err(anyhow!("no file of any torrent matches '{selector}', see --show")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::metainfo;

    fn chosen(files: &[&str]) -> anyhow::Result<Vec<u32>> {
        let selectors: Vec<_> = files.iter().map(|text| Selector::parse(text).unwrap()).collect();
        priorities(&[&torrent()], &selectors, &[]).map(|mut all| all.remove(0))
    }

    fn torrent() -> Metainfo {
        metainfo("T", &["T/a.txt", "T/b.iso", "T/sub/c.txt", "T/sub/deep/d.iso", "T/[x] 1.mkv", "T/T.nfo"])
    }

    #[test]
    fn files_are_chosen_by_number_path_glob_and_folder() {
        for (list, weights) in [
            (&["1"][..], [1, 0, 0, 0, 0, 0]),
            (&["2-3, 6"], [0, 1, 1, 0, 0, 1]),
            (&["*.txt"], [1, 0, 1, 0, 0, 0]),
            (&["sub"], [0, 0, 1, 1, 0, 0]),
            (&["sub/"], [0, 0, 1, 1, 0, 0]),
            (&["sub/*.txt"], [0, 0, 1, 0, 0, 0]),
            (&["T/sub/*"], [0, 0, 1, 1, 0, 0]),
            (&["sub/**/*.iso"], [0, 0, 0, 1, 0, 0]),
            (&["[x] 1.mkv"], [0, 0, 0, 0, 1, 0]),
            (&["[ab].*", "5"], [1, 1, 0, 0, 1, 0]),
            (&["T*"], [0, 0, 0, 0, 0, 1]),
            (&[], [1; 6]),
        ] {
            assert_eq!(chosen(list).unwrap(), weights.to_vec(), "{list:?}");
        }
    }

    #[test]
    fn names_are_compared_in_one_normal_form() {
        let torrent = metainfo("T", &["T/Fre\u{301}de\u{301}ric.txt", "T/b"]);
        for text in ["Fr\u{e9}d\u{e9}ric.txt", "Fre\u{301}d*", "T/Fr\u{e9}d\u{e9}ric.txt"] {
            let chosen = priorities(&[&torrent], &[Selector::parse(text).unwrap()], &[]).unwrap();
            assert_eq!(chosen, [[1, 0]], "{text}");
        }
    }

    #[test]
    fn a_selector_that_means_nothing_is_told() {
        assert_eq!(
            chosen(&["7"]).unwrap_err().to_string(),
            "--files: there is no file 7: T has 6 files, see --show"
        );
        assert_eq!(
            chosen(&["*.TXT"]).unwrap_err().to_string(),
            "--files: no file of T matches '*.TXT', see --show"
        );
        assert!(Selector::parse("0").unwrap_err().to_string().contains("from 1"));
        assert!(
            Selector::parse("3-1").is_err() && Selector::parse("1,").is_err() && Selector::parse("").is_err()
        );
    }

    #[test]
    fn one_file_is_meant_or_none() {
        let only = |text: &str| only(&torrent(), &Selector::parse(text).unwrap());
        assert_eq!(only("3").unwrap(), [0, 0, 1, 0, 0, 0]);
        assert_eq!(only("*.mkv").unwrap(), [0, 0, 0, 0, 1, 0]);
        for (text, error) in [
            ("1-2", "--cat: '1-2' means 2 files of T; give the number of one, see --show"),
            ("*", "--cat: '*' means 6 files of T; give the number of one, see --show"),
            ("7", "--cat: there is no file 7: T has 6 files, see --show"),
            ("x", "--cat: no file of T matches 'x', see --show"),
        ] {
            assert_eq!(only(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn weights_never_bring_in_what_files_leaves_out() {
        let only = [Selector::parse("1-3").unwrap()];
        let weights = ["*.txt=10", "1=0", "4=9"].map(|text| values::weighted(text).unwrap());
        assert_eq!(priorities(&[&torrent()], &only, &weights).unwrap(), vec![vec![0, 1, 10, 0, 0, 0]]);
        let none = values::weighted("1-6=0").unwrap();
        assert!(
            priorities(&[&torrent()], &[], &[none]).unwrap_err().to_string().contains("leave nothing of T")
        );
    }

    #[test]
    fn of_several_torrents_one_must_have_what_is_meant() {
        let (one, two) = (torrent(), metainfo("U", &["U/x.iso", "U/y.txt"]));
        let glob = |text| [Selector::parse(text).unwrap()];
        let weight = [values::weighted("y.txt=0").unwrap()];
        assert_eq!(priorities(&[&one, &two], &[], &weight).unwrap(), vec![vec![1; 6], vec![1, 0]]);
        let nothing = priorities(&[&one, &two], &glob("y.txt"), &[]).unwrap_err().to_string();
        assert!(nothing.contains("leave nothing of T"), "{nothing}");
        let nowhere = priorities(&[&one, &two], &glob("z"), &[]).unwrap_err().to_string();
        assert_eq!(nowhere, "--files: no file of any torrent matches 'z', see --show");
    }
}
