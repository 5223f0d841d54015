//! Metadata that a magnet link has brought (BEP 9), kept in the state folder as a .torrent, so that the next start needs no
//! swarm for them.

use std::io;
use std::path::{Path, PathBuf};

use super::whole;
use crate::metainfo::{InfoHashes, MAX_LENGTH, Metainfo};

fn path(state_dir: &Path, info_hash: InfoHashes) -> PathBuf {
    state_dir.join(format!("{info_hash}.torrent"))
}

/// Keeps them; blocks until they are on the disk.
///
/// # Errors
///
/// If they cannot be written: then the next start fetches them again.
pub(crate) fn keep(state_dir: &Path, metainfo: &Metainfo) -> io::Result<()> {
    let path = path(state_dir, metainfo.info_hash);
    whole::sweep(&path);
    whole::replace(state_dir, &path, &metainfo.encode())
}

/// The torrent with the piece layers that it lacks (BEP 52), if they were kept; else as it is. Blocks.
pub(crate) fn with_layers(state_dir: &Path, metainfo: Metainfo) -> Metainfo {
    if metainfo.piece_hashes.are_known() {
        return metainfo;
    }
    let kept = load(state_dir, metainfo.info_hash).filter(|kept| kept.info_bytes == metainfo.info_bytes);
    match kept {
        Some(kept) => Metainfo { piece_hashes: kept.piece_hashes, ..metainfo },
        None => metainfo,
    }
}

/// What was kept of the torrent with this hash; `None` if nothing was, or something else than was written. Blocks.
pub(crate) fn load(state_dir: &Path, info_hash: InfoHashes) -> Option<Metainfo> {
    let bytes = whole::read_bounded(&path(state_dir, info_hash), MAX_LENGTH as u64)?;
    Metainfo::parse(&bytes).ok().filter(|metainfo| metainfo.info_hash.include(info_hash))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::hash::Sha1;
    use crate::metainfo::create::{Content, NewTorrent};
    use crate::metainfo::samples::Sample;

    #[test]
    fn piece_layers_that_were_kept_are_given_to_the_torrent_that_lacks_them_and_to_no_other() {
        let dir = TempDir::new().unwrap();
        let mut sample = Sample::new(&[("a", 100_000), ("b", 70_000)], false);
        let whole = Metainfo::parse(&sample.torrent()).unwrap();
        sample.layers = false;
        let bare = Metainfo::parse(&sample.torrent()).unwrap();
        let are_known = |metainfo: &Metainfo| metainfo.piece_hashes.are_known();
        assert!(!are_known(&with_layers(dir.path(), bare.clone())), "nothing is kept");
        keep(dir.path(), &bare).unwrap();
        assert!(!are_known(&with_layers(dir.path(), bare.clone())), "what is kept lacks them too");
        keep(dir.path(), &whole).unwrap();
        let trackers = vec![vec!["http://t.example/a".to_owned()]];
        let filled = with_layers(dir.path(), Metainfo { trackers: trackers.clone(), ..bare.clone() });
        assert!(are_known(&filled));
        assert_eq!(filled.trackers, trackers, "the rest is the torrent's own");
    }

    #[test]
    fn what_is_kept_is_found_and_nothing_else_is_believed() {
        let (dir, folder) = (TempDir::new().unwrap(), "made/for/it");
        let state_dir = dir.path().join(folder);
        let torrent = |byte| {
            let piece_hashes = [Sha1([byte; 20])];
            let content = Content::File(5);
            let new = NewTorrent {
                name: "n",
                content,
                piece_length: 16384,
                piece_hashes: &piece_hashes,
                trackers: &[],
                private: false,
            };
            Metainfo::parse(&new.encode()).unwrap()
        };
        let (one, other) = (torrent(1), torrent(2));
        assert!(load(&state_dir, one.info_hash).is_none());
        keep(&state_dir, &one).unwrap();
        assert_eq!(load(&state_dir, one.info_hash).unwrap().info_bytes, one.info_bytes);
        fs::write(path(&state_dir, other.info_hash), one.encode()).unwrap();
        assert!(load(&state_dir, other.info_hash).is_none(), "another torrent's");
        fs::write(path(&state_dir, one.info_hash), "d4:info").unwrap();
        assert!(load(&state_dir, one.info_hash).is_none(), "cut short");
    }
}
