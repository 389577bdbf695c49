//! LTTng-UST, where it is installed: a C program with one event, in a session that overwrites its buffers and writes no files.

use crate::Cost;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What its event of 16 bytes costs; or why that cannot be measured here.
pub fn cost() -> Result<Cost, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lttng");
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record");
    let program = dir.join("event");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-I", source, "-o"]).arg(&program);
    compiler.arg(format!("{source}/lttng.c"));
    let compiled = run(compiler.args(["-llttng-ust", "-ldl"]));
    compiled.map_err(|_| "not installed here (cc, liblttng-ust-dev, lttng-tools)")?;
    let _daemon = Daemon::start(&dir)?;
    let lttng = |arguments: &str| {
        let mut command = Command::new("lttng");
        run(command.args(arguments.split(' ')).env("LTTNG_HOME", &dir))
    };
    lttng("create baton-bench --snapshot")?;
    let measured = (|| {
        lttng("enable-channel -u --overwrite --subbuf-size=256k --num-subbuf=4 events")?;
        lttng("enable-event -u -c events baton_bench:event")?;
        lttng("start")?;
        let mut event = Command::new(&program);
        // Waits for the session to be told of, before main begins.
        event.env("LTTNG_UST_REGISTER_TIMEOUT", "-1");
        run(event.env("LTTNG_HOME", &dir))
    })();
    let ended = lttng("destroy baton-bench");
    let ns = measured?.trim().parse::<f64>();
    ended?;
    Ok(Cost {
        ns: ns.map_err(|error| error.to_string())?,
        // Another program's are not seen by single steps.
        instructions: None,
    })
}

/// Runs a command to its end; what it printed, or what went wrong.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        let line = why.lines().find(|line| !line.is_empty());
        return Err(format!("{name}: {} {}", out.status, line.unwrap_or("")));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A session daemon of our own, which ends with us.
struct Daemon(Child);

impl Daemon {
    fn start(home: &Path) -> Result<Self, String> {
        let child = Command::new("lttng-sessiond")
            .arg("--no-kernel")
            .env("LTTNG_HOME", home)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.map_err(|error| format!("lttng-sessiond: {error}"))?;
        let daemon = Daemon(child);
        // It answers when it is there.
        for _ in 0..1000 {
            let mut list = Command::new("lttng");
            list.args(["--no-sessiond", "list"]).env("LTTNG_HOME", home);
            if run(&mut list).is_ok() {
                return Ok(daemon);
            }
            std::thread::yield_now();
        }
        Err("lttng-sessiond does not answer".into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.0.id() as libc::pid_t;
        // SAFETY: the signal goes to our own child, which was not waited for yet.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}
