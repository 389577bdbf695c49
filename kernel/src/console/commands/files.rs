//! Commands about names: `ls`, `cd`, `pwd`, `rm`, `mkdir`, `rmdir`.

use super::super::lineedit::{COLUMNS, in_columns};
use super::super::shell::{CmdError, Command, Complete, Ctx};
use super::super::vfs::{DirEntry, FmtSink, FsError, Kind, Sink, Stat, Stop, print};
use super::args::Args;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;
use trace::errno::Errno;

/// `ls`.
pub const LS: Command = Command::new(
    "ls",
    "ls [-l] [-1] [-a] [PATH...]",
    "list a directory",
    "-l  with kind, permissions and size in bytes (0: made when read)\n\
     -1  one name a line, as always where the output does not go to the console\n\
     -a  names that start with a dot too",
    ls,
);

/// `cd`.
pub const CD: Command = Command::new(
    "cd",
    "cd [DIR]",
    "go to a directory; without one, to /",
    "",
    cd,
);

/// `pwd`.
pub const PWD: Command = Command::new(
    "pwd",
    "pwd",
    "print the current directory",
    "",
    |ctx, _, out| Ok(print(out, format_args!("{}\n", ctx.cwd))?),
)
.completing(Complete::Nothing);

/// `rm`.
pub const RM: Command = Command::new(
    "rm",
    "rm [-f] [-r] PATH...",
    "remove files",
    "-f  say nothing of files that are not there\n\
     -r  remove directories with all that is in them",
    rm,
);

/// `mkdir`.
pub const MKDIR: Command = Command::new(
    "mkdir",
    "mkdir [-p] DIR...",
    "make directories",
    "-p  the directories above too; one that is there already is fine",
    mkdir,
);

/// `rmdir`.
pub const RMDIR: Command = Command::new(
    "rmdir",
    "rmdir DIR...",
    "remove empty directories",
    "A directory of /sys/kernel/tracing/instances goes with the buffers that it stands for.",
    rmdir,
);

struct Ls {
    long: bool,
    columns: bool,
    all: bool,
}

fn ls(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let args = Args::read(args, "l1a", "")?;
    let how = Ls {
        long: args.has('l'),
        columns: ctx.to_console && !args.has('l') && !args.has('1'),
        all: args.has('a'),
    };
    let paths = if args.operands.is_empty() {
        &["."][..]
    } else {
        &args.operands
    };
    let mut files = Vec::new();
    let mut dirs = Vec::new();
    for typed in paths {
        let stat = ctx.path(typed).and_then(|path| ctx.mounts.stat(&path));
        match stat {
            Ok(stat) if stat.kind == Kind::Dir => dirs.push(*typed),
            Ok(stat) => files.push(DirEntry {
                name: typed.to_string(),
                stat,
            }),
            Err(error) => ctx.complain_file(typed, error)?,
        }
    }
    show(&files, &how, out)?;
    let mut first = files.is_empty();
    for typed in &dirs {
        let listed = ctx.path(typed).and_then(|path| ctx.mounts.list(&path));
        let mut entries = match listed {
            Ok(entries) => entries,
            Err(error) => {
                ctx.complain_file(typed, error)?;
                continue;
            }
        };
        entries.retain(|entry| how.all || !entry.name.starts_with('.'));
        if paths.len() > 1 {
            let blank = if first { "" } else { "\n" };
            print(out, format_args!("{blank}{typed}:\n"))?;
        }
        first = false;
        show(&entries, &how, out)?;
    }
    Ok(())
}

fn show(entries: &[DirEntry], how: &Ls, out: &mut dyn Sink) -> Result<(), Stop> {
    let mut text = FmtSink::new(out);
    // An error of the text is the sink's stop, which `finish` gives back.
    let _ = if how.columns {
        let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        let rows = in_columns(&names, COLUMNS - 1);
        rows.iter().try_for_each(|row| writeln!(text, "{row}"))
    } else {
        let sizes = entries.iter().map(|e| e.stat.size);
        let width = decimal_digits(sizes.max().unwrap_or(0)).max(8);
        entries.iter().try_for_each(|entry| {
            if how.long {
                let mode = mode(entry.stat);
                write!(text, "{mode} {:>width$} ", entry.stat.size)?;
            }
            writeln!(text, "{}", entry.name)
        })
    };
    text.finish()
}

fn decimal_digits(n: u64) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// As `ls -l` has it; there is one user, who may do all that can be done.
fn mode(stat: Stat) -> String {
    let bit = |yes, letter| if yes { letter } else { '-' };
    let (r, w) = (bit(stat.readable, 'r'), bit(stat.writable, 'w'));
    match stat.kind {
        Kind::Dir => format!("d{r}{w}x{r}-x{r}-x"),
        Kind::File => format!("-{r}{w}-{r}--{r}--"),
    }
}

fn cd(ctx: &mut Ctx<'_>, args: &[&str], _out: &mut dyn Sink) -> Result<(), CmdError> {
    let typed = match args {
        [] => "/",
        [dir] => dir,
        _ => return Err(CmdError::usage("one directory at a time")),
    };
    let path = ctx.path(typed).map_err(|e| CmdError::file(typed, e))?;
    match ctx.mounts.stat(&path) {
        Ok(stat) if stat.kind == Kind::Dir => {
            *ctx.cwd = path;
            Ok(())
        }
        Ok(_) => Err(CmdError::file(typed, Errno::ENOTDIR)),
        Err(error) => Err(CmdError::file(typed, error)),
    }
}

fn rm(ctx: &mut Ctx<'_>, args: &[&str], _out: &mut dyn Sink) -> Result<(), CmdError> {
    let args = Args::read(args, "fr", "")?;
    if args.operands.is_empty() {
        return Err(CmdError::usage("no file named"));
    }
    for typed in &args.operands {
        let removed = ctx
            .path(typed)
            .and_then(|path| remove(ctx, &path, args.has('r')));
        match removed {
            Err(error) if args.has('f') && error.errno() == Errno::ENOENT => {}
            Err(error) => ctx.complain_file(typed, error)?,
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Goes down one level of directories a call; a file system that can be written bounds how many there are.
fn remove(ctx: &Ctx<'_>, path: &str, recursive: bool) -> Result<(), FsError> {
    if ctx.interrupted() {
        return Err(Stop::Interrupted.into());
    }
    if ctx.mounts.stat(path)?.kind == Kind::Dir {
        if !recursive {
            return Err(Errno::EISDIR.into());
        }
        // Refused as a whole before anything in it goes.
        if ctx
            .mounts
            .points()
            .any(|point| super::super::vfs::below(point, path).is_some())
        {
            return Err(Errno::EBUSY.into());
        }
        if !ctx.mounts.stat(path)?.writable {
            return Err(Errno::EPERM.into());
        }
        for entry in ctx.mounts.list(path)? {
            remove(ctx, &format!("{path}/{}", entry.name), true)?;
        }
    }
    ctx.mounts.remove(path)
}

fn mkdir(ctx: &mut Ctx<'_>, args: &[&str], _out: &mut dyn Sink) -> Result<(), CmdError> {
    let args = Args::read(args, "p", "")?;
    if args.operands.is_empty() {
        return Err(CmdError::usage("no directory named"));
    }
    for typed in &args.operands {
        let made = ctx.path(typed).and_then(|path| match args.has('p') {
            true => make_all(ctx, &path),
            false => ctx.mounts.mkdir(&path),
        });
        if let Err(error) = made {
            ctx.complain_file(typed, error)?;
        }
    }
    Ok(())
}

fn rmdir(ctx: &mut Ctx<'_>, args: &[&str], _out: &mut dyn Sink) -> Result<(), CmdError> {
    let args = Args::read(args, "", "")?;
    if args.operands.is_empty() {
        return Err(CmdError::usage("no directory named"));
    }
    for typed in &args.operands {
        let removed = ctx.path(typed).and_then(|path| ctx.mounts.rmdir(&path));
        if let Err(error) = removed {
            ctx.complain_file(typed, error)?;
        }
    }
    Ok(())
}

/// `path` is normalised.
fn make_all(ctx: &Ctx<'_>, path: &str) -> Result<(), FsError> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    for end in ends.chain([path.len()]) {
        let dir = &path[..end];
        match ctx.mounts.stat(dir) {
            Ok(stat) if stat.kind == Kind::Dir => {}
            Ok(_) if end == path.len() => return Err(Errno::EEXIST.into()),
            Ok(_) => return Err(Errno::ENOTDIR.into()),
            Err(_) => ctx.mounts.mkdir(dir)?,
        }
    }
    Ok(())
}
