//! Block lists in files.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use crate::filter::{BlockList, IpFilter, ListReport, TooManyRanges};

/// Bytes of a list, after inflating: ten times as much as the largest that are passed on. A small file may hold any number of zeros.
const MAX_TEXT: u64 = 256 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// What a file of gzip begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Block lists in files, as they were when they were read: `p2p`, `dat`, ranges, networks (CIDR) and single addresses, IPv4 and IPv6, with gzip or
/// without.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("list");
/// use btget::client::{IpFilterFiles, SessionOptions};
///
/// std::fs::write(&path, "Some network:192.0.2.0-192.0.2.255\n2001:db8::/32\nno address\n")?;
/// let files = IpFilterFiles::load(vec![path])?;
/// let report = files.reports().next().expect("there is a list");
/// assert_eq!((report.blocked, report.bad, report.first_bad), (2, 1, Some(3)));
/// let options = SessionOptions { ip_filter: Some(files.filter()), ..SessionOptions::default() };
/// # drop(options);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct IpFilterFiles {
    files: Vec<FilterFile>,
}

#[derive(Debug)]
struct FilterFile {
    path: PathBuf,
    /// `None`: it is no plain file, and what came out of it is gone.
    stamp: Option<Stamp>,
    filter: IpFilter,
    report: ListReport,
}

/// What differs once a file is another, or has been written to: device, inode, length, the time of the last write in nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// Why the lists of a file are not known.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct IpFilterError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: IpFilterProblem,
}

/// What is wrong with a file of block lists.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpFilterProblem {
    /// It cannot be read, or not inflated.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// None of its lines says anything, and some are none of the formats.
    #[error("none of its lines names addresses")]
    NotAList,
    /// It has more text than is read.
    #[error("more than {} MiB of text", MAX_TEXT >> 20)]
    TooLong,
    /// It has more ranges than are kept.
    #[error("{0}")]
    TooManyRanges(#[from] TooManyRanges),
}

impl IpFilterFiles {
    /// Reads the files; blocks until they are read.
    ///
    /// # Errors
    ///
    /// If one of them cannot be read, is too large, or is no block list: it has lines, and none of them names addresses. Single lines that do not are
    /// counted ([`IpFilterFiles::reports`]).
    pub fn load(paths: Vec<PathBuf>) -> Result<IpFilterFiles, IpFilterError> {
        let files = paths.into_iter().map(load).collect::<Result<_, _>>()?;
        Ok(IpFilterFiles { files })
    }

    /// Reads those again that have changed since, and says what is in them now. A file that was no plain one, but a pipe, is not read twice.
    ///
    /// # Errors
    ///
    /// As [`IpFilterFiles::load`]; then all is as before.
    pub fn reload(&mut self) -> Result<Vec<ListReport>, IpFilterError> {
        let mut changed = Vec::new();
        for (place, file) in self.files.iter().enumerate() {
            if file.stamp.is_some() && stamp_at(&file.path) != file.stamp {
                changed.push((place, load(file.path.clone())?));
            }
        }
        let reports = changed.iter().map(|(_, file)| file.report.clone()).collect();
        changed.into_iter().for_each(|(place, file)| self.files[place] = file);
        Ok(reports)
    }

    /// Refuses what stands in one of the lists.
    pub fn filter(&self) -> IpFilter {
        IpFilter::any(self.files.iter().map(|file| file.filter.clone()))
    }

    /// What was in each of them.
    pub fn reports(&self) -> impl Iterator<Item = &ListReport> {
        self.files.iter().map(|file| &file.report)
    }
}

fn load(path: PathBuf) -> Result<FilterFile, IpFilterError> {
    match read(&path) {
        Ok((filter, report, stamp)) => Ok(FilterFile { path, stamp, filter, report }),
        Err(problem) => Err(IpFilterError { path, problem }),
    }
}

fn read(path: &Path) -> Result<(IpFilter, ListReport, Option<Stamp>), IpFilterProblem> {
    let mut file = File::open(path)?;
    // Before it is read: what is written meanwhile makes it another.
    let stamp = stamp(&file.metadata()?);
    let mut begin = Vec::new();
    file.by_ref().take(GZIP.len() as u64).read_to_end(&mut begin)?;
    let is_gzip = begin == GZIP;
    let bytes = io::BufReader::with_capacity(CHUNK, io::Cursor::new(begin).chain(file));
    let text: Box<dyn Read> =
        if is_gzip { Box::new(Members { member: Some(GzDecoder::new(bytes)) }) } else { Box::new(bytes) };
    let (filter, report) = read_text(path, text)?;
    Ok((filter, report, stamp))
}

/// The members of a gzip file, one after the other; what follows them and is none, as the zeros that fill a tape, is passed over as gzip does.
struct Members<R> {
    /// The one that is being read; `None`: that was the last.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let count = member.read(place)?;
            if count > 0 || place.is_empty() {
                return Ok(count);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { return Ok(0) };
            // The first byte tells them apart: the end of a buffer may be between both.
            if rest.fill_buf()?.first() == GZIP.first() {
                self.member = Some(GzDecoder::new(rest));
            }
        }
    }
}

fn read_text(path: &Path, mut text: impl Read) -> Result<(IpFilter, ListReport), IpFilterProblem> {
    let mut list = BlockList::new(path.to_string_lossy().into_owned());
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let count = match text.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        length += count as u64;
        if length > MAX_TEXT {
            return Err(IpFilterProblem::TooLong);
        }
        list.feed(&chunk[..count])?;
    }
    let (filter, report) = list.end()?;
    if report.bad > 0 && report.blocked == 0 && report.allowed == 0 {
        return Err(IpFilterProblem::NotAList);
    }
    Ok((filter, report))
}

fn stamp_at(path: &Path) -> Option<Stamp> {
    // Who is gone has changed; that it cannot be read is found out then.
    std::fs::metadata(path).ok().and_then(|metadata| stamp(&metadata))
}

fn stamp(metadata: &Metadata) -> Option<Stamp> {
    let stamp = (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    metadata.is_file().then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::fs;
    use std::io::Write;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn refuses(files: &IpFilterFiles, address: &str) -> bool {
        files.filter().refuses(address.parse().unwrap())
    }

    #[test]
    fn packed_lists_are_read_as_others_also_in_several_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.gz");
        fs::write(&path, [packed(b"192.0.2.1\n192.0."), packed(b"2.2\n")].concat()).unwrap();
        let files = IpFilterFiles::load(vec![path.clone()]).unwrap();
        assert!(refuses(&files, "192.0.2.1") && refuses(&files, "192.0.2.2"));
        assert!(!refuses(&files, "192.0.2.3"));
        // What fills the last block of a tape.
        fs::write(&path, [packed(b"192.0.2.1\n"), vec![0; 300]].concat()).unwrap();
        assert!(refuses(&IpFilterFiles::load(vec![path.clone()]).unwrap(), "192.0.2.1"));
        let whole = packed(&b"192.0.2.1\n".repeat(1000));
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let error = IpFilterFiles::load(vec![path]).unwrap_err();
        assert!(matches!(error.problem, IpFilterProblem::Unreadable(_)), "{error}");
    }

    #[test]
    fn a_file_that_inflates_without_end_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.gz");
        let part = packed(&vec![b'\n'; 16 << 20]);
        fs::write(&path, part.repeat(17)).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 4 << 20);
        let error = IpFilterFiles::load(vec![path]).unwrap_err();
        assert_eq!(error.problem.to_string(), "more than 256 MiB of text");
    }

    #[test]
    fn what_is_no_list_is_refused_and_an_empty_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        for (text, is_list) in
            [("<html>\nno list</html>", false), ("", true), ("# none yet\n", true), ("x\n1.2.3.4", true)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(IpFilterFiles::load(vec![path.clone()]).is_ok(), is_list, "{text}");
        }
        assert!(IpFilterFiles::load(vec![folder.path().to_owned()]).is_err());
        assert!(IpFilterFiles::load(vec![folder.path().join("none")]).is_err());
    }

    #[test]
    fn what_has_changed_is_read_again_and_stays_as_it_was_if_it_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "192.0.2.1").unwrap();
        fs::write(&other, "192.0.2.2").unwrap();
        let mut files = IpFilterFiles::load(vec![one.clone(), other.clone()]).unwrap();
        assert_eq!(files.reload().unwrap(), []);
        fs::write(&one, "192.0.2.3\n192.0.2.4").unwrap();
        fs::remove_file(&other).unwrap();
        files.reload().unwrap_err();
        assert!(
            refuses(&files, "192.0.2.1") && refuses(&files, "192.0.2.2") && !refuses(&files, "192.0.2.3")
        );
        fs::write(&other, "").unwrap();
        let reports = files.reload().unwrap();
        assert_eq!(reports.iter().map(|report| report.blocked).collect::<Vec<_>>(), [2, 0]);
        assert!(
            refuses(&files, "192.0.2.3") && !refuses(&files, "192.0.2.1") && !refuses(&files, "192.0.2.2")
        );
        assert_eq!(files.reload().unwrap(), []);
    }
}
