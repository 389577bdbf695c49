//! The commands that need no machine. The kernel adds its own beside them, in the same form:
//!
//! ```
//! use kernel::console::shell::{CmdError, Command, CommandSets, Ctx};
//! use kernel::console::vfs::{self, Sink};
//!
//! fn uptime(_ctx: &mut Ctx<'_>, _args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
//!     Ok(vfs::print(out, format_args!("up {} s\n", 7))?)
//! }
//!
//! static MACHINE: [Command; 1] =
//!     [Command::new("uptime", "uptime", "how long this kernel has been running", "", uptime)];
//! static SETS: CommandSets = &[&kernel::console::commands::ALL, &MACHINE];
//! ```

pub mod args;
pub mod files;
pub mod grep;
pub mod help;
pub mod hexdump;
pub mod misc;
pub mod seq;
pub mod text;

use super::shell::Command;

/// All of them.
pub static ALL: [Command; 20] = [
    files::LS,
    files::CD,
    files::PWD,
    files::RM,
    files::MKDIR,
    files::RMDIR,
    text::CAT,
    text::HEAD,
    text::TAIL,
    text::WC,
    grep::GREP,
    hexdump::HEXDUMP,
    seq::SEQ,
    misc::ECHO,
    misc::TRUE,
    misc::FALSE,
    misc::STATUS,
    misc::HISTORY,
    misc::CLEAR,
    help::HELP,
];

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
