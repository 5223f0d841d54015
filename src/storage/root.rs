//! Steps below basedir that no link can lead astray.
//!
//! basedir itself is the user's choice and may be a link. Below it every component is opened for
//! what it is: a link is never followed, whoever put it there and whenever, so nothing leads
//! outside. Where the kernel has `openat2` one call does it, else one `openat` for each component.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::handles::with_room;
use super::lock;

/// Folders that torrents hold open, by the path that led to each: thousands of torrents in one folder share one handle. The lock is
/// held to look one up.
static ROOTS: Mutex<BTreeMap<PathBuf, Weak<Root>>> = Mutex::new(BTreeMap::new());

/// Which folder this is: device and inode. A folder that another file system is mounted upon, or
/// that was removed and made again, is another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileIdentity {
    dev: u64,
    ino: u64,
}

impl FileIdentity {
    fn of(stat: &Stat) -> FileIdentity {
        FileIdentity { dev: stat.st_dev as _, ino: stat.st_ino as _ }
    }

    /// The identity of the folder at `path`, links followed.
    pub(crate) fn at(path: &Path) -> io::Result<FileIdentity> {
        Ok(FileIdentity::of(&rustix::fs::stat(path)?))
    }

    /// The device.
    pub(crate) fn dev(self) -> u64 {
        self.dev
    }

    /// The inode.
    pub(crate) fn ino(self) -> u64 {
        self.ino
    }
}

/// What is at a path, the last component not followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FoundEntry {
    /// A plain file; anything else has no business in a file's place.
    pub is_file: bool,
    /// Length in bytes.
    pub size: u64,
    /// Bytes that have blocks on the disk.
    pub allocated: u64,
    /// Last change of the data, nanoseconds since 1970.
    pub mtime: i128,
    /// The identity of the file.
    pub identity: FileIdentity,
    /// Its names; one that has none is lost when it closes.
    pub links: u64,
}

impl FoundEntry {
    fn of(stat: &Stat) -> FoundEntry {
        FoundEntry {
            is_file: FileType::from_raw_mode(stat.st_mode as _) == FileType::RegularFile,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            mtime: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
            identity: FileIdentity::of(stat),
            links: stat.st_nlink as _,
        }
    }
}

/// What a file system does with what others keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Habits {
    /// A file keeps its inode number for as long as it is there.
    pub inodes_last: bool,
    /// The time of a file that we have written is what we see at once, and not what a server says later.
    pub times_are_final: bool,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { inodes_last: true, times_are_final: true }
    }
}

impl Habits {
    /// By the numbers of statfs(2). FAT, exFAT, SMB and most of FUSE number a file anew whenever the system has forgotten it.
    #[cfg(target_os = "linux")]
    fn of(fd: BorrowedFd<'_>) -> Habits {
        const NUMBER_ANEW: [i128; 6] =
            [0x4d44, 0x2011_bab0, 0x6573_5546, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];
        const SERVED: [i128; 6] = [0x6969, 0x6573_5546, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400];
        let Ok(found) = rustix::fs::fstatfs(fd) else { return Habits::default() };
        let kind = i128::from(found.f_type) & 0xffff_ffff;
        Habits { inodes_last: !NUMBER_ANEW.contains(&kind), times_are_final: !SERVED.contains(&kind) }
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: BorrowedFd<'_>) -> Habits {
        Habits::default()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const FOLDER: OFlags = OFlags::PATH;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const FOLDER: OFlags = OFlags::RDONLY;

/// basedir, held open.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    identity: FileIdentity,
    habits: Habits,
    /// Set once the kernel has said that it has no `openat2` (old, or a sandbox in the way).
    step_by_step: AtomicBool,
}

impl Root {
    /// The folder, links followed: the one that others hold open by this path, if it still is what the path leads to. As long
    /// as that is open its inode is nobody else's.
    pub(crate) fn shared(basedir: &Path) -> io::Result<Arc<Root>> {
        let known = |now: FileIdentity| {
            let known = lock(&ROOTS).get(basedir).and_then(Weak::upgrade);
            known.filter(|root| root.identity == now)
        };
        if let Some(root) = FileIdentity::at(basedir).ok().and_then(known) {
            return Ok(root);
        }
        let root = Arc::new(Root::open(basedir)?);
        if let Some(other) = known(root.identity) {
            return Ok(other);
        }
        let mut roots = lock(&ROOTS);
        roots.retain(|_, root| root.strong_count() > 0);
        roots.insert(basedir.to_owned(), Arc::downgrade(&root));
        Ok(root)
    }

    /// Opens the folder, following links.
    pub(crate) fn open(basedir: &Path) -> io::Result<Root> {
        let flags = FOLDER | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = with_room(|| rustix::fs::open(basedir, flags, Mode::empty()))?;
        let identity = FileIdentity::of(&rustix::fs::fstat(&fd)?);
        let habits = Habits::of(fd.as_fd());
        Ok(Root { fd, identity, habits, step_by_step: AtomicBool::new(false) })
    }

    /// What the folder's file system does with numbers and times.
    pub(crate) fn habits(&self) -> Habits {
        self.habits
    }

    /// Whether both are the same file or folder, as far as the file system can tell.
    pub(crate) fn is_same(&self, one: FileIdentity, other: FileIdentity) -> bool {
        one == other || (!self.habits.inodes_last && one.dev == other.dev)
    }

    /// The identity of the folder that is held open.
    pub(crate) fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Opens what is at `path`, never through a link and never waiting for the other end of a pipe.
    pub(crate) fn open_below(&self, path: &str, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(mode as _);
        if let Some(answer) = self.open_at_once(path, flags, mode) {
            return answer;
        }
        let (folder, name) = self.parent_of(path)?;
        Ok(with_room(|| rustix::fs::openat(folder.as_fd(), name, flags, mode))?)
    }

    /// Like [`Root::open_below`], for plain files only.
    pub(crate) fn open_file(&self, path: &str, flags: OFlags, mode: u32) -> io::Result<(File, FoundEntry)> {
        let fd = self.open_below(path, flags, mode)?;
        let found = FoundEntry::of(&rustix::fs::fstat(&fd)?);
        if !found.is_file {
            return Err(Errno::ISDIR.into());
        }
        Ok((File::from(fd), found))
    }

    /// Looks up what is at `path`.
    pub(crate) fn find(&self, path: &str) -> io::Result<FoundEntry> {
        if path.contains('/') {
            // `fstatat` would follow links in the middle.
            let fd = self.open_below(path, FOLDER & !OFlags::NONBLOCK, 0)?;
            return Ok(FoundEntry::of(&rustix::fs::fstat(&fd)?));
        }
        Ok(FoundEntry::of(&rustix::fs::statat(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Makes the folders that `path` needs and that are not there; returns the folders that were
    /// made, outermost first.
    pub(crate) fn make_parents(&self, path: &str) -> io::Result<Vec<Box<str>>> {
        let mut made = Vec::new();
        let mut folder: Option<OwnedFd> = None;
        for (end, _) in path.match_indices('/') {
            let here = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let name = path[..end].rsplit('/').next().unwrap_or_default();
            let next = match step(here, name) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) => made.push(path[..end].into()),
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    step(here, name)?
                }
                other => other?,
            };
            folder = Some(next);
        }
        Ok(made)
    }

    /// Makes a symbolic link at `path` that says `target`; its folders must be there.
    pub(crate) fn make_link(&self, path: &str, target: &str) -> io::Result<()> {
        let (folder, name) = self.parent_of(path)?;
        Ok(rustix::fs::symlinkat(target, folder.as_fd(), name)?)
    }

    /// What the symbolic link at `path` says.
    pub(crate) fn read_link(&self, path: &str) -> io::Result<Vec<u8>> {
        let (folder, name) = self.parent_of(path)?;
        Ok(rustix::fs::readlinkat(folder.as_fd(), name, Vec::new())?.into_bytes())
    }

    /// Renames a file that lies directly in basedir, over another if there is one.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes a file that lies directly in basedir.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Brings the entries of a folder (`""` is basedir) to the disk.
    pub(crate) fn sync_folder(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.open_folder(path)?)?)
    }

    /// Bytes that this user may still write to basedir's file system.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::fstatvfs(&self.fd)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Files that this user may still make on basedir's file system, if it bounds them.
    pub(crate) fn free_entries(&self) -> io::Result<Option<u64>> {
        let space = rustix::fs::fstatvfs(&self.fd)?;
        Ok(Some(space.f_favail).filter(|_| space.f_files > 0))
    }

    /// Opens a folder (`""` is basedir) for reading.
    pub(crate) fn open_folder(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_below(if path.is_empty() { "." } else { path }, OFlags::RDONLY | OFlags::DIRECTORY, 0)
    }

    /// `openat2`; `None` where it cannot be used.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn open_at_once(&self, path: &str, flags: OFlags, mode: Mode) -> Option<io::Result<OwnedFd>> {
        use rustix::fs::ResolveFlags;
        if self.step_by_step.load(Ordering::Relaxed) {
            return None;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
        // `openat2` refuses what `openat` ignores.
        let flags =
            if flags.contains(OFlags::PATH) { flags & !(OFlags::NONBLOCK | OFlags::NOCTTY) } else { flags };
        match with_room(|| rustix::fs::openat2(&self.fd, path, flags, mode, resolve)) {
            Ok(fd) => Some(Ok(fd)),
            Err(Errno::NOSYS) => {
                self.step_by_step.store(true, Ordering::Relaxed);
                None
            }
            // EPERM: a sandbox that does not know the call, or a real refusal, which the steps
            // will meet too. EAGAIN: something was renamed meanwhile.
            Err(Errno::PERM | Errno::AGAIN) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn open_at_once(&self, _: &str, _: OFlags, _: Mode) -> Option<io::Result<OwnedFd>> {
        None
    }

    /// The folder that holds `path`, reached step by step, and the last component.
    fn parent_of<'p>(&self, path: &'p str) -> io::Result<(HeldFolder<'_>, &'p str)> {
        let Some((folders, name)) = path.rsplit_once('/') else {
            return Ok((HeldFolder::Root(self.fd.as_fd()), path));
        };
        let mut folder: Option<OwnedFd> = None;
        for component in folders.split('/') {
            let here = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            folder = Some(step(here, component)?);
        }
        Ok((folder.map_or(HeldFolder::Root(self.fd.as_fd()), HeldFolder::Below), name))
    }
}

/// Looks at many paths, one after the other. The folder of the last one is kept open, so that those in one
/// folder, which mostly follow one another, cost one call each.
#[derive(Debug)]
pub(crate) struct PathFinder<'r> {
    root: &'r Root,
    path: String,
    folder: Result<OwnedFd, Errno>,
}

impl<'r> PathFinder<'r> {
    /// Nothing is opened yet.
    pub(crate) fn new(root: &'r Root) -> PathFinder<'r> {
        PathFinder { root, path: String::new(), folder: Err(Errno::NOENT) }
    }

    /// The folder below which the paths lie.
    pub(crate) fn root(&self) -> &'r Root {
        self.root
    }

    /// What is at `path`: see [`Root::find`].
    pub(crate) fn find(&mut self, path: &str) -> io::Result<FoundEntry> {
        let Some((folder, name)) = path.rsplit_once('/') else { return self.root.find(path) };
        if folder != self.path {
            self.path.replace_range(.., folder);
            let opened = self.root.open_below(folder, FOLDER | OFlags::DIRECTORY, 0);
            self.folder = opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        let folder = self.folder.as_ref().map_err(|&errno| errno)?;
        Ok(FoundEntry::of(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

enum HeldFolder<'r> {
    Root(BorrowedFd<'r>),
    Below(OwnedFd),
}

impl AsFd for HeldFolder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            HeldFolder::Root(fd) => *fd,
            HeldFolder::Below(fd) => fd.as_fd(),
        }
    }
}

fn step(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = FOLDER | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    with_room(|| rustix::fs::openat(folder, name, flags, Mode::empty()))
}

/// The device that an open file or folder is on.
pub(crate) fn device(opened: impl AsFd) -> io::Result<u64> {
    Ok(FileIdentity::of(&rustix::fs::fstat(opened)?).dev())
}

/// The facts about an open file.
pub(crate) fn found(file: &File) -> io::Result<FoundEntry> {
    Ok(FoundEntry::of(&rustix::fs::fstat(file)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    type Find<'f> = Box<dyn FnMut(&str) -> io::Result<FoundEntry> + 'f>;

    fn roots() -> (tempfile::TempDir, [Root; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let roots = [Root::open(dir.path()).unwrap(), Root::open(dir.path()).unwrap()];
        roots[1].step_by_step.store(true, Ordering::Relaxed);
        (dir, roots)
    }

    #[test]
    fn a_folder_is_open_once_for_all_and_another_one_in_its_place_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a");
        std::fs::create_dir(&place).unwrap();
        let (one, other) = (Root::shared(&place).unwrap(), Root::shared(&place).unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        std::fs::rename(&place, dir.path().join("b")).unwrap();
        assert_eq!(Root::shared(&place).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::create_dir(&place).unwrap();
        let new = Root::shared(&place).unwrap();
        assert!(new.identity() != one.identity() && Arc::ptr_eq(&new, &Root::shared(&place).unwrap()));
        let held = Arc::downgrade(&new);
        drop(new);
        assert!(held.upgrade().is_none(), "nobody keeps it open");
    }

    #[test]
    fn no_link_is_followed_with_openat2_or_without() {
        let (dir, roots) = roots();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        symlink(outside.path(), dir.path().join("folder")).unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("real/file")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        for root in &roots {
            for path in ["folder/secret", "real/file", "dangling"] {
                let error = root.open_file(path, OFlags::RDWR | OFlags::CREATE, 0o666).unwrap_err();
                let errno = Errno::from_io_error(&error).unwrap();
                assert!(matches!(errno, Errno::LOOP | Errno::NOTDIR), "{path}: {errno:?}");
            }
            assert!(root.make_parents("folder/new/file").is_err());
            let mut finder = PathFinder::new(root);
            for mut find in
                [Box::new(|path: &str| root.find(path)) as Find, Box::new(|path| finder.find(path))]
            {
                assert!(!find("real/file").unwrap().is_file);
                assert!(find("folder/secret").is_err());
                assert!(find("folder/secret").is_err());
                assert!(!find("dangling").unwrap().is_file);
            }
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_are_made_once_and_named() {
        let (_dir, roots) = roots();
        assert_eq!(roots[0].make_parents("a/b/c").unwrap(), ["a".into(), "a/b".into()]);
        assert!(roots[1].make_parents("a/b/d").unwrap().is_empty());
        for root in &roots {
            let (_, found) = root.open_file("a/b/c", OFlags::RDWR | OFlags::CREATE, 0o666).unwrap();
            assert_eq!(root.find("a/b/c").unwrap().identity, found.identity);
            let mut finder = PathFinder::new(root);
            for (path, there) in
                [("a/b/c", true), ("a/b/x", false), ("a/x/c", false), ("a/x/d", false), ("a", true)]
            {
                assert_eq!(finder.find(path).is_ok(), there, "{path}");
            }
            assert_eq!(finder.find("a/b/c").unwrap().identity, found.identity);
            root.sync_folder("a/b").unwrap();
            root.sync_folder("").unwrap();
        }
    }

    #[test]
    fn a_folder_or_a_pipe_in_a_files_place_is_an_error_at_once() {
        let (dir, roots) = roots();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for root in &roots {
            for path in ["folder", "pipe"] {
                assert!(root.open_file(path, OFlags::RDONLY, 0).is_err(), "{path}");
                assert!(root.open_file(path, OFlags::RDWR, 0).is_err(), "{path}");
            }
        }
    }
}
