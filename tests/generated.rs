//! What is committed is what the definition of the options gives.

#[path = "../examples/generate/files.rs"]
mod files;

use std::path::Path;

/// All sources below a folder.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// docs/ANCESTORS.md names files, tests and methods; each is there.
#[test]
fn what_the_table_of_the_ancestors_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    ["src", "tests"].iter().for_each(|folder| sources(&root.join(folder), &mut all));
    let table = std::fs::read_to_string(root.join("docs/ANCESTORS.md")).unwrap();
    let rows: Vec<&str> =
        table.lines().filter(|line| line.starts_with("| ") && !line.contains("---")).collect();
    assert!(rows.len() > 35, "{}", rows.len());
    for row in rows {
        let shown_by = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for name in shown_by.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2) {
            assert!(all.contains(&format!("fn {name}(")), "no test is called {name}: {row}");
        }
        for path in row
            .split([' ', ',', ';', ':'])
            .filter(|word| word.starts_with("src/") || word.starts_with("tests/"))
        {
            assert!(root.join(path).exists(), "{path} is not there: {row}");
        }
        let of_types = row.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::"));
        for (_, method) in of_types.filter(|(_, method)| method.starts_with(|c: char| c.is_lowercase())) {
            let method = method.split('(').next().unwrap();
            let is_there =
                [format!("fn {method}"), format!("pub {method}:")].iter().any(|code| all.contains(code));
            assert!(is_there, "no {method}: {row}");
        }
    }
}

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
