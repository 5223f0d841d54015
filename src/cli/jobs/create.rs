//! `--create`: finds the files, hashes them, and writes the .torrent, whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use crate::cli::Exit;
use crate::cli::jobs::beside::beside;
use crate::cli::jobs::load::cause;
use crate::cli::jobs::run::{Refusal, at_once, no_signals, no_stdout};
use crate::cli::options::config::{Config, Verbosity};
use crate::cli::options::making::CreateOptions;
use crate::cli::show::created::{Created, show_created_json, told};
use crate::cli::show::say::Mark;
use crate::cli::show::screen::Screen;
use crate::cli::signals;
use crate::client::{Phase, Status};
use crate::create::{Change, HashedTree, Hashing, Obstacle, ObstacleKind, Obstacles, SourceTree, walk};
use crate::ids::InfoHashes;
use crate::metainfo::draft::{Draft, DraftError, DraftFile, DraftHashes, default_piece_length};
use crate::metainfo::{Magnet, Metainfo, MetainfoError, Sha1};
use crate::storage::publish;
use crate::text::{count, escape, without_credentials};

/// Folders without files that are told one by one.
const MAX_TOLD: usize = 10;

/// Makes the torrent.
pub(super) fn run_create(
    config: &Config,
    options: &CreateOptions,
    exit: fn(i32) -> !,
) -> Result<Exit, Refusal> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    signals::listen_to_stop(at_once(config, exit), move || stopping.store(true, Ordering::Relaxed))
        .map_err(no_signals)?;
    let began = Instant::now();
    let screen = Screen::new(config, 1, began);
    let mut job = CreateJob { config, options, stop, screen, notes: Vec::new() };
    let made = job.make(began);
    job.screen.clear();
    made
}

struct CreateJob<'a> {
    config: &'a Config,
    options: &'a CreateOptions,
    stop: Arc<AtomicBool>,
    screen: Screen,
    /// What people should know of it, as it was told.
    notes: Vec<String>,
}

impl CreateJob<'_> {
    fn make(&mut self, began: Instant) -> Result<Exit, Refusal> {
        let tree = self.walk()?;
        let target = self.target(&tree)?;
        let draft = self.draft(&tree)?;
        self.note_empty_folders(&tree);
        self.note_what_is_lost(&draft);
        let hashes = self.hash(&tree, &draft, Instant::now())?;
        // What came, went or changed meanwhile would be in no piece, or in a wrong one.
        self.walk()?.compare(&tree).map_err(|obstacles| self.refuse(obstacles))?;
        let made = draft.finish(&hashes, &self.options.details).map_err(|error| self.not_made(&error))?;
        // Whoever gets it has to be able to read it.
        let torrent = Metainfo::parse(&made).map_err(|error| self.not_readable(&error))?;
        self.write(target.as_deref(), &made)?;
        self.tell(&draft, &torrent, target.as_deref(), began.elapsed())?;
        Ok(Exit::Complete)
    }

    /// The files, as they are now.
    fn walk(&self) -> Result<SourceTree, Refusal> {
        let keep_going = || !self.stop.load(Ordering::Relaxed);
        let tree = walk(&self.options.path, &keep_going).map_err(|obstacles| self.refuse(obstacles))?;
        if keep_going() { Ok(tree) } else { Err(stopped()) }
    }

    /// Where the .torrent goes; `None`: to standard output. What stands in its way is told before anything is hashed.
    fn target(&self, tree: &SourceTree) -> Result<Option<PathBuf>, Refusal> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().and_then(|fd| fs::File::from(fd).metadata());
        if stdout.is_ok_and(|found| found.is_file() && tree.contains(&found)) {
            let text = format!(
                "standard output goes to one of the files that the torrent is made of; write it elsewhere, e.g. > ../{}.torrent",
                escape(&tree.name)
            );
            return Err((Exit::Usage, anyhow!(text)));
        }
        let path = match &self.options.output {
            Some(path) if path.as_os_str() == "-" => return Ok(None),
            Some(path) => path.clone(),
            None => PathBuf::from(format!("{}.torrent", tree.name)),
        };
        let shown = shown(&path);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let refused = |error: &io::Error, remedy: &str| {
            (Exit::Data, anyhow!("cannot write {shown}: {}; {remedy}", cause(error)))
        };
        if let Err(error) = fs::metadata(folder) {
            return Err(refused(&error, "make the folder, or choose another -o FILE"));
        }
        let found = fs::metadata(&path);
        let is_special = found.as_ref().is_ok_and(|found| !found.is_file() && !found.is_dir());
        let is_there = fs::symlink_metadata(&path).is_ok();
        match found {
            Ok(found) if found.is_dir() => Err(is_a_folder(&path, tree)),
            // A path that ends in a slash.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_there && names_a_folder(&path) => {
                Err(is_a_folder(&path, tree))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(refused(&error, "choose another -o FILE"))
            }
            Ok(found) if tree.contains(&found) => Err((
                Exit::Usage,
                anyhow!(
                    "{shown} is among the files that the torrent is made of; write it elsewhere, e.g. -o ../{}.torrent",
                    escape(&tree.name)
                ),
            )),
            // A link to nothing is there, too.
            _ if is_there && !is_special && !self.options.overwrite => Err(already_there(&path)),
            _ if is_special => Ok(Some(path)),
            _ => match accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
                Ok(()) => Ok(Some(path)),
                Err(error) => {
                    Err(refused(&error.into(), "make its folder writable, or choose another -o FILE"))
                }
            },
        }
    }

    /// Tells, once, what people should know.
    fn note(&mut self, text: String) {
        if self.config.verbosity > Verbosity::Quiet {
            self.screen.say(Mark::Warning, &text);
        }
        self.notes.push(text);
    }

    fn note_empty_folders(&mut self, tree: &SourceTree) {
        for below in tree.empty_folders.iter().take(MAX_TOLD) {
            let path = shown(&tree.path.join(below));
            self.note(format!("{path} has nothing in it and is left out: a torrent holds files alone"));
        }
        if let Some(more @ 1..) = tree.empty_folders.len().checked_sub(MAX_TOLD) {
            self.note(format!("{} more: left out", count(more as u64, "empty folder")));
        }
    }

    /// What others will not find, or not where it was.
    fn note_what_is_lost(&mut self, draft: &Draft) {
        let details = &self.options.details;
        let is_lonely = details.private && details.trackers.is_empty();
        let bare = details.web_seeds.iter().find(|url| draft.is_folder() && !url.ends_with('/'));
        let bare = bare.map(|url| escape(&without_credentials(url)).into_owned());
        if is_lonely {
            self.note("a private torrent without a tracker: nobody finds it; give --tracker URL".to_owned());
        }
        if let Some(url) = bare {
            self.note(format!(
                "web seed {url}: of a folder it has to end in a slash, or nothing is found there (BEP 19)"
            ));
        }
        if draft.loses_folder() {
            let path = escape(&draft.files()[0].path).into_owned();
            self.note(format!(
                "version 2 alone has no place for the folder of a single file: others will put {path} by itself; give --format hybrid to keep the folder"
            ));
        }
    }

    fn draft(&self, tree: &SourceTree) -> Result<Draft, Refusal> {
        let files: Vec<DraftFile> = tree.files.iter().map(|file| file.entry.clone()).collect();
        let total = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.length));
        let piece_length = self.options.piece_length.unwrap_or_else(|| default_piece_length(total));
        Draft::new(tree.name.clone(), tree.is_folder, files, self.options.format, piece_length)
            .map_err(|error| self.not_made(&error))
    }

    /// Hashes the files beside this thread, and looks on until it is done.
    fn hash(&mut self, tree: &SourceTree, draft: &Draft, now: Instant) -> Result<DraftHashes, Refusal> {
        let hashing = Hashing::new(now, draft, Arc::clone(&self.stop));
        let run = || hashing.run(tree, draft, 0);
        let hashed = beside(&mut self.screen, "hash", run, |_, now| Some(status(draft, &hashing, now)))?;
        self.screen.hide(0);
        match hashed.map_err(|obstacles| self.refuse(obstacles))? {
            HashedTree::Whole(hashes) => Ok(hashes),
            HashedTree::BrokenOff => Err(stopped()),
        }
    }

    fn write(&self, target: Option<&Path>, made: &[u8]) -> Result<(), Refusal> {
        let Some(path) = target else {
            let mut out = io::stdout().lock();
            return out.write_all(made).and_then(|()| out.flush()).map_err(no_stdout);
        };
        publish(path, made, self.options.overwrite).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_there(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                Exit::DiskFull,
                anyhow!(
                    "cannot write {}: {}; make room, or choose another -o FILE",
                    shown(path),
                    cause(&error)
                ),
            ),
            _ => (
                Exit::Data,
                anyhow!("cannot write {}: {}; choose another -o FILE", shown(path), cause(&error)),
            ),
        })
    }

    /// Says what was made.
    fn tell(
        &mut self,
        draft: &Draft,
        torrent: &Metainfo,
        target: Option<&Path>,
        elapsed: Duration,
    ) -> Result<(), Refusal> {
        let magnet = Magnet::from(torrent).to_uri();
        // What others, and btget itself, will make of the names.
        torrent.notes.iter().for_each(|note| self.note(escape(note).into_owned()));
        let created = Created {
            draft,
            info_hash: torrent.info_hash,
            private: torrent.private,
            target,
            magnet: &magnet,
            notes: &self.notes,
        };
        if self.config.verbosity > Verbosity::Quiet {
            told(&created, elapsed).iter().for_each(|line| self.screen.say(Mark::Plain, line));
        }
        let mut out = io::stdout().lock();
        let shown = match (self.config.json, target) {
            (Some(_), _) => show_created_json(&created, &mut out),
            (None, Some(_)) => writeln!(out, "{magnet}"),
            (None, None) => {
                if self.config.verbosity > Verbosity::Quiet {
                    self.screen.say(Mark::Plain, &magnet);
                }
                Ok(())
            }
        };
        match shown.and_then(|()| out.flush()) {
            // Who does not want to know it has the .torrent.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(no_stdout),
        }
    }

    /// Tells all obstacles but the last, which whoever is told of the refusal says.
    fn refuse(&self, obstacles: Obstacles) -> Refusal {
        let exits = obstacles.first.iter().map(exit_of);
        let exit = exits.fold(Exit::Complete, Exit::worst);
        let mut lines: Vec<String> = obstacles.first.iter().map(sentence).collect();
        if obstacles.more > 0 {
            lines.push(format!("and {} more are like that", count(obstacles.more, "file")));
        }
        let last = lines.pop().unwrap_or_default();
        lines.iter().for_each(|line| self.screen.say(Mark::Error, line));
        (exit, anyhow!(last))
    }

    fn not_readable(&self, error: &MetainfoError) -> Refusal {
        let path = shown(&self.options.path);
        (
            Exit::Failure,
            anyhow!(
                "cannot make a torrent of {path}: btget itself could not read it ({error}); nothing is written"
            ),
        )
    }

    fn not_made(&self, error: &DraftError) -> Refusal {
        let path = shown(&self.options.path);
        let remedy = match error {
            DraftError::NoBytes => "name a file or folder with data in it",
            DraftError::TooManyFiles => "make several torrents, or pack the files",
            DraftError::TooDeep(_) => "move it up, or give --format v1",
            DraftError::TooManyPieces(_) => "give a larger --piece-length",
            DraftError::TooLarge => "make several torrents",
        };
        (Exit::Failure, anyhow!("cannot make a torrent of {path}: {error}; {remedy}"))
    }
}

/// The picture of a torrent that is being made.
fn status(draft: &Draft, hashing: &Hashing, now: Instant) -> Status {
    let (have, progress) = (hashing.hashed(), hashing.progress(now));
    // It has none yet.
    let hash = InfoHashes::V1(Sha1([0; 20]));
    let nothing = Status::with_nothing(hash, draft.name().to_owned(), Phase::Hashing, progress.1, have.len());
    Status { left: progress.1.saturating_sub(progress.0), have, check: Some(progress), ..nothing }
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

fn stopped() -> Refusal {
    (Exit::Incomplete, anyhow!("stopped before the torrent was made; nothing is written"))
}

/// Whether the path ends in a slash.
fn names_a_folder(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

fn is_a_folder(path: &Path, tree: &SourceTree) -> Refusal {
    let (shown, slash) = (shown(path), if names_a_folder(path) { "" } else { "/" });
    let name = escape(&tree.name);
    let text =
        format!("cannot write {shown}: it is a folder; give a file, e.g. -o {shown}{slash}{name}.torrent");
    (Exit::Data, anyhow!(text))
}

fn already_there(path: &Path) -> Refusal {
    let text =
        format!("{} is there already; give --overwrite to replace it, or another -o FILE", shown(path));
    (Exit::ForeignFile, anyhow!(text))
}

/// What the disk does not give is an error of the data; what a torrent cannot hold is not.
fn exit_of(obstacle: &Obstacle) -> Exit {
    match obstacle.kind {
        ObstacleKind::Unreadable(_) | ObstacleKind::Changed(_) => Exit::Data,
        ObstacleKind::NotUtf8
        | ObstacleKind::Special(_)
        | ObstacleKind::OutsideLink
        | ObstacleKind::DeadLink
        | ObstacleKind::LinkLoop
        | ObstacleKind::EmptyFolderLink
        | ObstacleKind::Nameless => Exit::Failure,
    }
}

/// Thing, cause and remedy.
fn sentence(obstacle: &Obstacle) -> String {
    let path = shown(&obstacle.path);
    match &obstacle.kind {
        ObstacleKind::Unreadable(error) => {
            let remedy = match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT | Errno::NOTDIR) => "check the path",
                Some(Errno::ACCESS | Errno::PERM) => "make it readable for this user, or move it elsewhere",
                Some(Errno::NAMETOOLONG) => "shorten the names of its folders",
                _ => "check the disk, or move it elsewhere",
            };
            format!("cannot read {path}: {}; {remedy}", cause(error))
        }
        ObstacleKind::Changed(Change::Changed | Change::Gone | Change::New) => {
            format!("{path}: {obstacle}; nothing is written: run it again once nobody writes there")
        }
        ObstacleKind::NotUtf8 => {
            format!(
                "cannot share {path}: {obstacle}, as names in torrents must be; rename it, e.g. with convmv -f latin1 -t utf8"
            )
        }
        ObstacleKind::Special(_) => format!("cannot share {path}: {obstacle}; move it elsewhere"),
        ObstacleKind::OutsideLink => {
            format!(
                "cannot share {path}: {obstacle}; put a copy of its target in its place, or move it elsewhere"
            )
        }
        ObstacleKind::DeadLink | ObstacleKind::LinkLoop => {
            format!("cannot share {path}: {obstacle}; remove it, or have it lead to a file")
        }
        ObstacleKind::EmptyFolderLink => format!("cannot share {path}: {obstacle}; remove it"),
        ObstacleKind::Nameless => format!("cannot share {path}: it is {obstacle}; name a folder below it"),
    }
}
