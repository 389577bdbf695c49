//! `help`.

use super::super::shell::{Action, CmdError, Command, Complete, Ctx};
use super::super::vfs::Sink;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// `help`.
pub const HELP: Command = Command::new(
    "help",
    "help [COMMAND]",
    "the commands there are, or one of them at length",
    "",
    run,
)
.completing(Complete::Commands);

/// Also what `COMMAND --help` does.
pub fn run(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    match args {
        [] => list(ctx, out),
        [name] => match ctx.command(name) {
            Some(command) => describe(command, out),
            None => Err(CmdError::failed(format!("{name}: no such command"))),
        },
        _ => Err(CmdError::usage("one command at a time")),
    }
}

fn list(ctx: &Ctx<'_>, out: &mut dyn Sink) -> Result<(), CmdError> {
    let mut commands: Vec<&Command> = ctx.commands.iter().flat_map(|set| set.iter()).collect();
    commands.sort_by_key(|command| command.name);
    let width = commands.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for command in commands {
        text.push_str(&format!("{:width$}  {}\n", command.name, command.summary));
    }
    text.push_str(
        "\nCOMMAND | COMMAND passes output on, `> FILE` writes it to a file, `>> FILE` adds to one;\n\
         `;`, `&&` and `||` join commands; `&` behind one runs it in the background. `help COMMAND` tells more; tab completes.\n",
    );
    Ok(out.write(text.as_bytes())?)
}

fn describe(command: &Command, out: &mut dyn Sink) -> Result<(), CmdError> {
    let mut text = format!("usage: {}\n{}\n", command.usage, command.summary);
    if !command.help.is_empty() {
        text.push_str(command.help);
        text.push('\n');
    }
    if let Action::Filter(_) = command.action {
        text.push_str("Without FILE, or for a FILE `-`, it reads the command before the `|`.\n");
    }
    Ok(out.write(text.as_bytes())?)
}
