//! What Baton promises, tried out on the running kernel. Checks that can share a boot do.

mod booting;
mod crossing;
mod damage;
mod faults;
mod formats;
mod ftrace;
mod images;
mod mapping;
mod memory;
mod pressure;
mod ramtrace;
mod smp;
mod switch;
mod tasks;
mod tracers;
mod tracing;
mod typing;
mod user;
mod versions;
