//! What is committed is what the definition of the options gives.

#[path = "../examples/generate/files.rs"]
mod files;

#[test]
fn man_page_and_completions_are_as_the_options_say() {
    for (path, content) in files::all() {
        let committed = std::fs::read(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
        assert!(
            committed == content,
            "{path} is out of date: run `cargo run --example generate` and commit it"
        );
    }
}
