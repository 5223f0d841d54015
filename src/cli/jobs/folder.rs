//! What is odd about the folder that the user gave for the data.

use std::path::Path;

use crate::metainfo::Metainfo;
use crate::text::escape;

/// What to say of `basedir` before anything is done: that it is not there, and so is `made` or whatever is done instead; or that it
/// seems to be the own folder of one of the torrents, whose folder then stands one level up.
pub(super) fn about_folder<'t>(
    basedir: &Path,
    torrents: impl Iterator<Item = &'t Metainfo>,
    made: &str,
) -> Vec<String> {
    let shown = escape(&basedir.to_string_lossy()).into_owned();
    match basedir.try_exists() {
        Ok(false) => return vec![format!("there is no folder {shown}; it is {made}")],
        Err(_) => return Vec::new(),
        Ok(true) => {}
    }
    let own = torrents.filter(|torrent| is_own_folder(basedir, torrent));
    let hint = |torrent: &Metainfo| {
        let above = basedir.join("..");
        let above = std::fs::canonicalize(&above).unwrap_or(above);
        let (name, above) = (escape(&torrent.name).into_owned(), above.display().to_string());
        format!(
            "{shown} seems to be the folder of {name} itself; if it is, give the one above: -d {}",
            escape(&above)
        )
    };
    own.map(hint).collect()
}

/// Files of the torrent stand in the folder where they would be if it were the torrent's own, and not where they belong.
fn is_own_folder(basedir: &Path, torrent: &Metainfo) -> bool {
    let below = |file: &crate::metainfo::File| file.path.split_once('/').map(|(_, rest)| basedir.join(rest));
    let is_there = torrent.files.iter().take(100).filter_map(below).any(|path| path.is_file());
    is_there && !torrent.path_below(basedir).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::metainfo;

    #[test]
    fn a_folder_that_is_not_there_and_the_torrents_own_one_are_told() {
        let folder = tempfile::TempDir::new().unwrap();
        let torrent = metainfo("album", &["album/one", "album/b/two"]);
        let said = |basedir: &Path| about_folder(basedir, [&torrent].into_iter(), "made");
        let missing = folder.path().join("nowhere");
        assert_eq!(said(&missing), [format!("there is no folder {}; it is made", missing.display())]);
        assert_eq!(said(folder.path()), Vec::<String>::new());
        let own = folder.path().join("album");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("one"), "").unwrap();
        assert_eq!(said(folder.path()), Vec::<String>::new());
        let hint = said(&own).pop().unwrap();
        let above = folder.path().canonicalize().unwrap();
        assert!(
            hint.contains("seems to be the folder of album itself")
                && hint.ends_with(&above.display().to_string()),
            "{hint}"
        );
        std::fs::create_dir(own.join("album")).unwrap();
        assert_eq!(said(&own), Vec::<String>::new());
    }
}
