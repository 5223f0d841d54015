//! For tests and fuzzers: what stands behind the headers and checksums of resume data and part files, whoever wrote it.

use std::io;
use std::ops::Range;
use std::path::Path;

use super::part::{self, PartFile};
use super::root::Root;
use super::{Storage, StorageOptions, resume};
use crate::metainfo::Metainfo;

/// Reads `payload` as resume data of this torrent, as if header and checksum were right. Whether it says anything; if so, it says
/// the same when it is written again.
pub fn read_resume_data(metainfo: &Metainfo, payload: &[u8]) -> bool {
    let storage = Storage::new(metainfo, Path::new("/"), StorageOptions::default());
    resume::read_payload(&storage, payload)
}

/// Reads a part file of this torrent that holds these records (offset in the stream, data), as if their checksums were right, and
/// behind them any bytes. Gives what is kept; all of it can be read.
///
/// # Errors
///
/// If `folder`, where the file is made, does not let it.
pub fn read_part_file(
    metainfo: &Metainfo,
    folder: &Path,
    records: &[(u64, &[u8])],
    behind: &[u8],
) -> io::Result<Vec<Range<u64>>> {
    let (info_hash, layout) = (metainfo.info_hash.wire(), &metainfo.layout);
    let bytes = part::file_of(info_hash, layout, records, behind);
    std::fs::write(folder.join(PartFile::name(info_hash)), bytes)?;
    let part = PartFile::load(&Root::open(folder)?, info_hash, layout)?;
    let kept = part.kept(0..layout.end());
    for range in &kept {
        assert!(range.start < range.end && range.end <= layout.end(), "{range:?}");
        part.read(range.start, &mut vec![0; (range.end - range.start) as usize])?;
    }
    Ok(kept)
}
