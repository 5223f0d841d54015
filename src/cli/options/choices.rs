//! The values of options that are one of a few words.

use clap::ValueEnum;

/// `--preallocate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum Prealloc {
    None,
    Sparse,
    Full,
}

/// `--file-error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum FileErrorArg {
    Pause,
    Exit,
}

/// `--encryption`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum EncryptionArg {
    Off,
    Allow,
    Prefer,
    Require,
}

/// `--transport`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum TransportArg {
    Tcp,
    Utp,
    Both,
}

/// `--state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum StateArg {
    Started,
    Paused,
    Stopped,
}

/// `--events`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Critical,
    Fatal,
}

/// `--progress`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum ProgressArg {
    Auto,
    Bars,
    Lines,
    None,
}

/// `--color`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum When {
    Auto,
    Always,
    Never,
}
