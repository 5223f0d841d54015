//! Where symbolic links of a tree lead, as BEP 47 has it: by the path of their target below the torrent's folder.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Component, Path};

use rustix::io::Errno;

use super::{ObstacleKind, Obstacles, SourceTree};
use crate::metainfo::draft::DraftFile;

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

/// Links that lead to folders in which links lead back: whoever follows them never comes to an end. A link below its own target is refused
/// before ([`resolve`]).
pub(super) fn without_rounds(tree: &SourceTree, obstacles: &mut Obstacles) {
    // Ordered by their bytes, so what is below a folder stands together.
    let links: BTreeMap<&str, (&DraftFile, &str)> = tree
        .files
        .iter()
        .filter_map(|file| Some((&*file.entry.path, (&file.entry, file.entry.symlink.as_deref()?))))
        .collect();
    // The links that are met by whoever follows one to `target`, which may be a link itself.
    let met_at = |target: &str| -> std::vec::IntoIter<(&DraftFile, &str)> {
        let folder = format!("{target}/");
        let from = (Bound::Included(folder.as_str()), Bound::Unbounded);
        let below = links.range::<str, _>(from).take_while(|(path, _)| path.starts_with(&folder));
        let met: Vec<_> = links.get(target).into_iter().chain(below.map(|(_, link)| link)).copied().collect();
        met.into_iter()
    };
    // Whether a target is on the way that is followed, of those that were come to.
    let mut is_on_way: HashMap<&str, bool> = HashMap::new();
    let mut round: BTreeMap<&str, &DraftFile> = BTreeMap::new();
    for &(_, start) in links.values() {
        if is_on_way.insert(start, true).is_some() {
            is_on_way.insert(start, false);
            continue;
        }
        let mut way = vec![(start, met_at(start))];
        while let Some((target, met)) = way.last_mut() {
            let Some((link, next)) = met.next() else {
                is_on_way.insert(*target, false);
                way.pop();
                continue;
            };
            match is_on_way.get(next) {
                Some(true) => drop(round.insert(&link.path, link)),
                Some(false) => {}
                None => {
                    is_on_way.insert(next, true);
                    way.push((next, met_at(next)));
                }
            }
        }
    }
    round.into_values().for_each(|link| obstacles.add(tree.path_of(link), ObstacleKind::LinkLoop));
}
