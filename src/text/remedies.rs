//! What the user of a program is told to do about an error.

/// How each remedy is worded: a program knows what its user can do, the rooms that make errors do not. Each is the end of a
/// sentence, as in `disk full; free 3.0 GiB and …`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remedies {
    /// To start a torrent that an error has paused.
    pub start_again: &'static str,
    /// What comes after room was made on a full disk.
    pub after_room: &'static str,
    /// To have files take their room on the disk as they grow.
    pub allocate_less: &'static str,
    /// To put the torrent's data into a folder with a shorter path.
    pub shorten_path: &'static str,
    /// To have data that are not the torrent's written over, and files that are too long cut.
    pub overwrite: &'static str,
    /// To put the torrent's data elsewhere.
    pub elsewhere: &'static str,
    /// To listen on other ports.
    pub change_port: &'static str,
    /// To use another local address than one that this machine does not have.
    pub change_address: &'static str,
}

impl Default for Remedies {
    /// For the user of a program that has not said how it can be done.
    fn default() -> Remedies {
        Remedies {
            start_again: "start it again",
            after_room: "start it again",
            allocate_less: "do not preallocate",
            shorten_path: "choose a shorter folder",
            overwrite: "allow that it is written over",
            elsewhere: "choose another folder",
            change_port: "choose others",
            change_address: "choose an address of this machine",
        }
    }
}
