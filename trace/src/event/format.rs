//! The `format` file.
//!
//! Its grammar: `f_show` in Linux's `kernel/trace/trace_events.c`.

use super::{Arg, COMMON_SIZE, EventDesc, Kind};
use core::fmt::{self, Write};

/// A field as printing sees it, of a declared event or of a saved one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub name: &'a str,
    pub c_type: &'a str,
    pub count: Option<usize>,
    pub offset: usize,
    pub size: usize,
    pub signed: bool,
    pub kind: Kind,
}

fn write_field(out: &mut dyn Write, f: &View<'_>) -> fmt::Result {
    write!(out, "\tfield:{} {}", f.c_type, f.name)?;
    match f.count {
        Some(0) => write!(out, "[]")?,
        Some(n) => write!(out, "[{n}]")?,
        None => {}
    }
    let signed = u8::from(f.signed);
    writeln!(
        out,
        ";\toffset:{};\tsize:{};\tsigned:{signed};",
        f.offset, f.size
    )
}

fn write_common(out: &mut dyn Write, name: &str, id: u16) -> fmt::Result {
    write!(out, "name: {name}\nID: {id}\nformat:\n")?;
    for (c_type, name, offset, size, signed) in [
        ("unsigned short", "common_type", 0, 2, false),
        ("unsigned char", "common_flags", 2, 1, false),
        ("unsigned char", "common_preempt_count", 3, 1, false),
        ("int", "common_pid", 4, 4, true),
    ] {
        let field = View {
            name,
            c_type,
            count: None,
            offset,
            size,
            signed,
            kind: Kind::Int,
        };
        write_field(out, &field)?;
    }
    out.write_char('\n')
}

/// Writes an event's `format` file.
pub fn write_format(desc: &EventDesc, out: &mut dyn Write) -> fmt::Result {
    write_common(out, desc.name, desc.id())?;
    for field in views(desc) {
        write_field(out, &field)?;
    }
    out.write_str("\nprint fmt: ")?;
    write_print_format(desc, out)?;
    out.write_char('\n')
}

/// Writes the format file that an event of an earlier life had, with its group before it.
pub(crate) fn write_saved_format(event: &super::SavedEvent, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "system: {}", event.system)?;
    write_common(out, &event.name, event.id)?;
    for field in &event.fields {
        write_field(out, &field.view())?;
    }
    writeln!(out, "\nprint fmt: {}", event.print)
}

/// The format file of `ftrace:print`, the event of `trace_marker`.
pub(crate) fn write_marker_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "print", super::PRINT_ID)?;
    write_own(out, "unsigned long", "ip", None, COMMON_SIZE, 8)?;
    write_own(out, "char", "buf", Some(0), COMMON_SIZE + 8, 0)?;
    out.write_str("\nprint fmt: \"%ps: %s\", (void *)REC->ip, REC->buf\n")
}

/// The format file of `ftrace:raw_data`, the event of `trace_marker_raw`.
pub(crate) fn write_raw_marker_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "raw_data", super::RAW_DATA_ID)?;
    write_own(out, "unsigned int", "id", None, COMMON_SIZE, 4)?;
    write_own(out, "char", "buf", Some(0), COMMON_SIZE + 4, 0)?;
    out.write_str("\nprint fmt: \"id:%04x %08x\", REC->id, (int)REC->buf[0]\n")
}

/// The format file of `ftrace:kernel_stack`, what the trigger `stacktrace` records.
pub(crate) fn write_stack_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "kernel_stack", super::STACK_ID)?;
    write_own(out, "int", "size", None, COMMON_SIZE, 4)?;
    write_own(out, "unsigned long", "caller", Some(0), COMMON_SIZE + 8, 0)?;
    out.write_str("\nprint fmt: \"\\t=> %ps\\n\", (void *)REC->caller[0]\n")
}

/// The format file of `ftrace:function`.
pub(crate) fn write_function_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "function", super::FUNCTION_ID)?;
    write_own(out, "unsigned long", "ip", None, COMMON_SIZE, 8)?;
    write_own(out, "unsigned long", "parent_ip", None, COMMON_SIZE + 8, 8)?;
    out.write_str("\nprint fmt: \" %ps <-- %ps\", (void *)REC->ip, (void *)REC->parent_ip\n")
}

/// The format file of `ftrace:hwlat`.
pub(crate) fn write_hwlat_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "hwlat", super::HWLAT_ID)?;
    for (c_type, name, offset, size, signed) in [
        ("u64", "duration", COMMON_SIZE, 8, false),
        ("u64", "outer_duration", COMMON_SIZE + 8, 8, false),
        ("u64", "nmi_total_ts", COMMON_SIZE + 16, 8, false),
        ("s64", "tv_sec", COMMON_SIZE + 24, 8, true),
        ("long", "tv_nsec", COMMON_SIZE + 32, 8, true),
        ("unsigned int", "nmi_count", COMMON_SIZE + 40, 4, false),
        ("unsigned int", "seqnum", COMMON_SIZE + 44, 4, false),
        ("unsigned int", "count", COMMON_SIZE + 48, 4, false),
    ] {
        let field = View {
            name,
            c_type,
            count: None,
            offset,
            size,
            signed,
            kind: Kind::Int,
        };
        write_field(out, &field)?;
    }
    out.write_str(concat!(
        r#"
print fmt: "cnt:%u\tts:%010llu.%010lu\tinner:%llu\touter:%llu\tcount:%d\tnmi-ts:%llu\tnmi-count:%u\n", "#,
        "REC->seqnum, REC->tv_sec, REC->tv_nsec, REC->duration, REC->outer_duration, REC->count, REC->nmi_total_ts, REC->nmi_count\n"
    ))
}

/// A field of an event that no kernel declares.
fn write_own(
    out: &mut dyn Write,
    c_type: &str,
    name: &str,
    count: Option<usize>,
    offset: usize,
    size: usize,
) -> fmt::Result {
    let field = View {
        name,
        c_type,
        count,
        offset,
        size,
        signed: false,
        kind: Kind::Int,
    };
    write_field(out, &field)
}

pub(super) fn views(desc: &EventDesc) -> impl Iterator<Item = View<'static>> + use<> {
    desc.fields.iter().map(|f| View {
        name: f.proto.name,
        c_type: f.proto.c_type,
        count: f.proto.count,
        offset: f.offset,
        size: f.proto.size,
        signed: f.proto.signed,
        kind: f.proto.kind,
    })
}

fn write_quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// Writes what follows `print fmt: `, in the form that libtraceevent evaluates.
pub fn write_print_format(desc: &EventDesc, out: &mut dyn Write) -> fmt::Result {
    write_quoted(out, desc.print.format)?;
    for arg in desc.print.args {
        out.write_str(", ")?;
        let kind = find(desc, arg.field).map(|f| f.kind);
        if let Some((yes, no)) = arg.choice {
            write_value(out, arg)?;
            out.write_str(" ? ")?;
            write_quoted(out, yes)?;
            out.write_str(" : ")?;
            write_quoted(out, no)?;
            continue;
        }
        if !arg.symbols.is_empty() || !arg.flags.is_empty() {
            if arg.none.is_some() {
                write_value(out, arg)?;
                out.write_str(" ? ")?;
            }
            match arg.flags.is_empty() {
                true => out.write_str("__print_symbolic(")?,
                false => out.write_str("__print_flags(")?,
            }
            write_value(out, arg)?;
            if !arg.flags.is_empty() {
                out.write_str(", \"|\"")?;
            }
            for (value, symbol) in arg.symbols.iter().chain(arg.flags) {
                write!(out, ", {{ {value}, ")?;
                write_quoted(out, symbol)?;
                out.write_str(" }")?;
            }
            out.write_char(')')?;
            if let Some(none) = arg.none {
                out.write_str(" : ")?;
                write_quoted(out, none)?;
            }
            continue;
        }
        match kind {
            Some(Kind::Str) => write!(out, "__get_str({})", arg.field)?,
            Some(Kind::Array(size)) if arg.index.is_none() => {
                let count = find(desc, arg.field).and_then(|f| f.count).unwrap_or(0);
                write!(out, "__print_array(REC->{}, {count}, {size})", arg.field)?;
            }
            Some(Kind::Dynamic(size)) => {
                let name = arg.field;
                write!(
                    out,
                    "__print_array(__get_dynamic_array({name}), __get_dynamic_array_len({name}) / {size}, {size})"
                )?;
            }
            _ => write_value(out, arg)?,
        }
    }
    Ok(())
}

/// The expression of an integer argument.
fn write_value(out: &mut dyn Write, arg: &Arg) -> fmt::Result {
    write!(out, "REC->{}", arg.field)?;
    if let Some(index) = arg.index {
        write!(out, "[{index}]")?;
    }
    if let Some(minus) = arg.minus {
        write!(out, " - REC->{minus}")?;
    }
    if let Some(mask) = arg.mask {
        write!(out, " & {mask:#x}")?;
    }
    if let Some(shift) = arg.shift {
        write!(out, " >> {shift}")?;
    }
    if let Some(left) = arg.left {
        write!(out, " << {left}")?;
    }
    match arg.with {
        Some(with) => write!(out, " | {with:#x}"),
        None => Ok(()),
    }
}

pub(super) fn find(desc: &EventDesc, name: &str) -> Option<View<'static>> {
    views(desc).find(|f| f.name == name)
}
