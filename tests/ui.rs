//! What must not compile, does not, and the compiler says why.
//!
//! Each file in `tests/ui` is a program of its own. Its first line, `//~ phrase`, is what one of the
//! compiler's errors must say. All are compiled by one call of cargo, in a project of their own.

use std::{fs, path::Path, process::Command};

struct Case {
    name: String,
    path: String,
    phrase: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui");
    let mut cases: Vec<Case> = fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a case");
            let first = text.lines().next().unwrap_or_default();
            let phrase = first.strip_prefix("//~ ").unwrap_or_default();
            Case {
                name: path
                    .file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
                path: path.to_string_lossy().into_owned(),
                phrase: phrase.to_owned(),
            }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

#[test]
fn what_must_not_compile() {
    let cases = cases();
    assert!(cases.len() > 20, "only {} cases", cases.len());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui");
    fs::create_dir_all(&project).expect("a folder for the project");
    let mut manifest = format!(
        "[package]\nname = \"ui\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\nsharena = {{ path = {root:?} }}\n"
    );
    for case in &cases {
        manifest += &format!("[[bin]]\nname = {:?}\npath = {:?}\n", case.name, case.path);
    }
    fs::write(project.join("Cargo.toml"), manifest).expect("a manifest");
    let _ = fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock"));
    let output = Command::new(env!("CARGO"))
        .args([
            "check",
            "--bins",
            "--keep-going",
            "--message-format=json",
            "--quiet",
        ])
        .current_dir(&project)
        .env("CARGO_TARGET_DIR", project.join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut wrong = Vec::new();
    for case in &cases {
        let target = format!(
            "\"kind\":[\"bin\"],\"crate_types\":[\"bin\"],\"name\":\"{}\"",
            case.name
        );
        let errors: Vec<&str> = messages
            .lines()
            .filter(|line| line.contains(&target) && line.contains("\"level\":\"error\""))
            .collect();
        if errors.is_empty() {
            wrong.push(format!("{}: compiles", case.name));
        } else if case.phrase.is_empty() || !errors.iter().any(|line| line.contains(&case.phrase)) {
            let said: Vec<&str> = errors
                .iter()
                .filter_map(|line| {
                    line.split_once("\"message\":\"")
                        .or(line.split_once("\"rendered\":\""))
                })
                .map(|(_, rest)| &rest[..rest.len().min(600)])
                .collect();
            wrong.push(format!(
                "{}: expected {:?}, found {said:#?}",
                case.name, case.phrase
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        String::from_utf8_lossy(&output.stderr)
    );
}
