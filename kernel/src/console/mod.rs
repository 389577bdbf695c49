//! The console: what a person at the serial line talks to. No hardware is touched here; the host tests all of it.
//!
//! Bytes come in through [`session::Session::feed`]; [`lineedit`] makes lines of them, [`parse`] takes a line apart,
//! [`shell`] runs it: each command of a pipeline pushes its output into the next one ([`vfs::Sink`]), and
//! the last into the console or a file. Files are whatever is mounted in [`vfs::Mounts`]. The machine comes in
//! through one trait, [`shell::Env`], and through the commands it adds.
//!
//! Nothing here grows without a limit; each limit is a named constant in the module it belongs to.

pub mod command;
pub mod commands;
pub mod complete;
pub mod genfs;
pub mod history;
mod keys;
pub mod lineedit;
pub mod parse;
mod pipeline;
pub mod session;
pub mod shell;
pub mod tmpfs;
pub mod vfs;
