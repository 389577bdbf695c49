//! The tree: which names there are, and what stands behind them.

use super::DirEntry;
use crate::errno::Errno;
use crate::event::EventDesc;
use alloc::format;
use alloc::vec::Vec;

/// Directory or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A file.
    File,
}

/// What stands behind a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    Dir(Dir<'a>),
    TracingOn,
    CurrentTracer,
    AvailableTracers,
    AvailableEvents,
    SetEvent,
    TraceMarker,
    TraceClock,
    BufferTotal,
    Readme,
    HeaderPage,
    HeaderEvent,
    /// `None`: of all CPUs.
    BufferSize(Option<usize>),
    Trace(Option<usize>),
    Stats(usize),
    /// `None`: of all systems.
    Enable(Option<&'a str>),
    EventEnable(&'a EventDesc),
    EventFormat(&'a EventDesc),
    EventId(&'a EventDesc),
    MarkerFormat,
    MarkerId,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Dir<'a> {
    Root,
    Events,
    System(&'a str),
    Event(&'a EventDesc),
    /// `events/ftrace` and `events/ftrace/print`, which no kernel declares.
    Ftrace,
    Print,
    PerCpu,
    Cpu(usize),
}

impl Node<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Node::Dir(_) => Kind::Dir,
            _ => Kind::File,
        }
    }

    pub(super) fn readable(&self) -> bool {
        !matches!(self, Node::TraceMarker)
    }

    pub(super) fn writable(&self) -> bool {
        matches!(
            self,
            Node::TracingOn
                | Node::CurrentTracer
                | Node::SetEvent
                | Node::TraceMarker
                | Node::TraceClock
                | Node::BufferSize(_)
                | Node::Trace(_)
                | Node::Enable(_)
                | Node::EventEnable(_)
        )
    }
}

const FTRACE: &str = "ftrace";
const PRINT: &str = "print";

const ROOT: [(&str, Node<'static>); 13] = [
    ("README", Node::Readme),
    ("available_events", Node::AvailableEvents),
    ("available_tracers", Node::AvailableTracers),
    ("buffer_size_kb", Node::BufferSize(None)),
    ("buffer_total_size_kb", Node::BufferTotal),
    ("current_tracer", Node::CurrentTracer),
    ("events", Node::Dir(Dir::Events)),
    ("per_cpu", Node::Dir(Dir::PerCpu)),
    ("set_event", Node::SetEvent),
    ("trace", Node::Trace(None)),
    ("trace_clock", Node::TraceClock),
    ("trace_marker", Node::TraceMarker),
    ("tracing_on", Node::TracingOn),
];

const EVENTS: [(&str, Node<'static>); 3] = [
    ("enable", Node::Enable(None)),
    ("header_event", Node::HeaderEvent),
    ("header_page", Node::HeaderPage),
];

fn cpu_files(cpu: usize) -> [(&'static str, Node<'static>); 3] {
    [
        ("buffer_size_kb", Node::BufferSize(Some(cpu))),
        ("stats", Node::Stats(cpu)),
        ("trace", Node::Trace(Some(cpu))),
    ]
}

fn event_files(event: &EventDesc) -> [(&'static str, Node<'_>); 3] {
    [
        ("enable", Node::EventEnable(event)),
        ("format", Node::EventFormat(event)),
        ("id", Node::EventId(event)),
    ]
}

const PRINT_FILES: [(&str, Node<'static>); 2] =
    [("format", Node::MarkerFormat), ("id", Node::MarkerId)];

fn pick<'a>(files: &[(&str, Node<'a>)], name: &str) -> Option<Node<'a>> {
    files
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, node)| *node)
}

/// What stands behind `path`.
pub(super) fn resolve<'a>(
    events: &'a [&'static EventDesc],
    nr_cpus: usize,
    path: &str,
) -> Result<Node<'a>, Errno> {
    let mut node = Node::Dir(Dir::Root);
    for name in path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
    {
        let Node::Dir(dir) = node else {
            return Err(Errno::ENOTDIR);
        };
        node = step(events, nr_cpus, dir, name).ok_or(Errno::ENOENT)?;
    }
    // `trace/` asks for a directory.
    if path.ends_with('/') && node.kind() == Kind::File {
        return Err(Errno::ENOTDIR);
    }
    Ok(node)
}

fn step<'a>(
    events: &'a [&'static EventDesc],
    nr_cpus: usize,
    dir: Dir<'a>,
    name: &str,
) -> Option<Node<'a>> {
    match dir {
        Dir::Root => pick(&ROOT, name),
        Dir::Events if name == FTRACE => Some(Node::Dir(Dir::Ftrace)),
        Dir::Events => pick(&EVENTS, name).or_else(|| {
            let event = events.iter().find(|event| event.system == name)?;
            Some(Node::Dir(Dir::System(event.system)))
        }),
        Dir::System(system) if name == "enable" => Some(Node::Enable(Some(system))),
        Dir::System(system) => {
            let event = events
                .iter()
                .find(|event| event.system == system && event.name == name)?;
            Some(Node::Dir(Dir::Event(event)))
        }
        Dir::Event(event) => pick(&event_files(event), name),
        Dir::Ftrace => (name == PRINT).then_some(Node::Dir(Dir::Print)),
        Dir::Print => pick(&PRINT_FILES, name),
        Dir::PerCpu => {
            let cpu: usize = name.strip_prefix("cpu")?.parse().ok()?;
            // `cpu01` and `cpu+1` are no names.
            (cpu < nr_cpus && format!("cpu{cpu}") == name).then_some(Node::Dir(Dir::Cpu(cpu)))
        }
        Dir::Cpu(cpu) => pick(&cpu_files(cpu), name),
    }
}

/// What is in a directory.
pub(super) fn list(
    events: &[&'static EventDesc],
    nr_cpus: usize,
    node: Node<'_>,
) -> Result<Vec<DirEntry>, Errno> {
    let Node::Dir(dir) = node else {
        return Err(Errno::ENOTDIR);
    };
    let mut entries = Vec::new();
    let mut add = |name: &str, node: Node<'_>| {
        entries.push(DirEntry {
            name: name.into(),
            kind: node.kind(),
            writable: node.writable(),
        });
    };
    let mut add_all = |files: &[(&str, Node<'_>)]| {
        for (name, node) in files {
            add(name, *node);
        }
    };
    match dir {
        Dir::Root => add_all(&ROOT),
        Dir::Events => {
            add_all(&EVENTS);
            add(FTRACE, Node::Dir(Dir::Ftrace));
            for (i, event) in events.iter().enumerate() {
                if !events[..i]
                    .iter()
                    .any(|before| before.system == event.system)
                {
                    add(event.system, Node::Dir(Dir::System(event.system)));
                }
            }
        }
        Dir::System(system) => {
            add("enable", Node::Enable(Some(system)));
            for event in events.iter().filter(|event| event.system == system) {
                add(event.name, Node::Dir(Dir::Event(event)));
            }
        }
        Dir::Event(event) => add_all(&event_files(event)),
        Dir::Ftrace => add(PRINT, Node::Dir(Dir::Print)),
        Dir::Print => add_all(&PRINT_FILES),
        Dir::PerCpu => {
            for cpu in 0..nr_cpus {
                add(&format!("cpu{cpu}"), Node::Dir(Dir::Cpu(cpu)));
            }
        }
        Dir::Cpu(cpu) => add_all(&cpu_files(cpu)),
    }
    entries.sort_by(|a, b| by_name(&a.name, &b.name));
    Ok(entries)
}

/// By name, `cpu10` after `cpu9`.
fn by_name(a: &str, b: &str) -> core::cmp::Ordering {
    let number = |name: &str| {
        name.strip_prefix("cpu")
            .and_then(|n| n.parse::<usize>().ok())
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}
