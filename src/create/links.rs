//! Where symbolic links of a tree lead, as BEP 47 has it: by the path of their target below the torrent's folder.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path};

use rustix::io::Errno;

use super::{ObstacleKind, Obstacles, SourceTree};

/// A path below the root of the tree, `/` between components.
pub(super) struct LinkTarget(pub(super) String);

/// Where the link at `path` leads, one step; it must stay below `root`, which has no links in it, all the way.
pub(super) fn resolve(path: &Path, root: &Path) -> Result<LinkTarget, ObstacleKind> {
    let text = fs::read_link(path).map_err(ObstacleKind::Unreadable)?;
    let end =
        fs::canonicalize(path).map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::LOOP) => ObstacleKind::LinkLoop,
            Some(Errno::NOENT | Errno::NOTDIR) => ObstacleKind::DeadLink,
            _ => ObstacleKind::Unreadable(error),
        })?;
    if !end.starts_with(root) {
        return Err(ObstacleKind::OutsideLink);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folder = folder.map_err(ObstacleKind::Unreadable)?;
    if folder.starts_with(&end) {
        return Err(ObstacleKind::LinkLoop);
    }
    // The next step may be another link of the tree; only what leads there must be without links.
    let next = one_step(&folder.join(text)).map_err(ObstacleKind::Unreadable)?;
    let target = match next.as_deref().unwrap_or(&end).strip_prefix(root) {
        Ok(target) => target.to_owned(),
        // By a link outside, back into the tree.
        Err(_) => end.strip_prefix(root).map_err(|_| ObstacleKind::OutsideLink)?.to_owned(),
    };
    target.into_os_string().into_string().map(LinkTarget).map_err(|_| ObstacleKind::NotUtf8)
}

/// The path without links but for its last component; `None` if that is `..`, or it ends in a slash.
fn one_step(path: &Path) -> io::Result<Option<std::path::PathBuf>> {
    match (path.components().next_back(), path.parent()) {
        (Some(Component::Normal(name)), Some(parent)) => Ok(Some(fs::canonicalize(parent)?.join(name))),
        _ => Ok(None),
    }
}

/// Links to folders that have no files: a torrent does not hold those, so the links would lead nowhere.
pub(super) fn without_empty_folders(tree: &SourceTree, obstacles: &mut Obstacles) {
    let links = || tree.files.iter().filter_map(|file| Some((file, file.entry.symlink.as_deref()?)));
    if links().next().is_none() {
        return;
    }
    let mut known: HashSet<&str> = HashSet::new();
    for file in &tree.files {
        let path = &*file.entry.path;
        known.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        known.insert(path);
    }
    for (file, target) in links() {
        if !known.contains(target) {
            obstacles.add(tree.path_of(&file.entry), ObstacleKind::EmptyFolderLink);
        }
    }
}
