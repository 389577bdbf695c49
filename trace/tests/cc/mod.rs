//! C programs of the tests that use libtraceevent.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `tests/NAME.c`. `None`, with a word about it, where there is no compiler or no libtraceevent.
///
/// # Panics
/// Where the set-up says that it has installed both (`BATON_TESTS_COMPLETE`): then it is the program that is wrong.
pub fn program(name: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let source = format!("{}/tests/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let compiled = Command::new("cc")
        .arg("-o")
        .args([
            program.as_os_str(),
            source.as_ref(),
            "-ltraceevent".as_ref(),
        ])
        .output();
    let why = match compiled {
        Ok(out) if out.status.success() => return Some(program),
        Ok(out) => String::from_utf8_lossy(&out.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(
        std::env::var_os("BATON_TESTS_COMPLETE").is_none(),
        "{name}.c does not compile: {why}"
    );
    eprintln!("not checked: needs cc and libtraceevent-dev");
    None
}
