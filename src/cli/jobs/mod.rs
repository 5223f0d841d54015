//! What is done: torrents loaded, checked, transferred, and the hooks run on them.

mod beside;
mod block_lists;
mod cat;
pub(super) mod check;
mod create;
mod folder;
pub(super) mod hooks;
pub(super) mod load;
mod plan;
pub(super) mod run;
pub(super) mod transfer;
mod wakes;
