//! Writes man/btget.1 and completions/ from the one definition of the options.
//!
//!     cargo run --example generate
//!
//! `tests/generated.rs` fails when what is committed is not what this writes.

use std::path::Path;

#[path = "generate/files.rs"]
mod files;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, content) in files::all() {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("every file is in a folder"))?;
        std::fs::write(path, content)?;
    }
    Ok(())
}
