//! The tree: which names there are, and what stands behind them.

use super::DirEntry;
use crate::errno::Errno;
use crate::event::{EventDesc, PRINT};
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::tracer::{Instance, PidList, Tracer};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Directory or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A file.
    File,
}

/// What stands behind a path, whichever instance's it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Dir(Dir),
    TracingOn,
    CurrentTracer,
    AvailableTracers,
    MaxLatency,
    Thresh,
    HwlatWidth,
    HwlatWindow,
    HwlatMode,
    AvailableEvents,
    SetEvent,
    TraceMarker,
    TraceMarkerRaw,
    TraceClock,
    TraceOptions,
    Option(TraceOption),
    BufferTotal,
    BufferPercent,
    SubBufSize,
    SavedCmdlines,
    CmdlinesSize,
    PrintkFormats,
    TimestampMode,
    Pids(PidList),
    Cpumask,
    Readme,
    HeaderPage,
    HeaderEvent,
    ForeignFormats,
    /// `None`: of all CPUs.
    BufferSize(Option<usize>),
    Trace(Option<usize>),
    Snapshot(Option<usize>),
    Pipe(Option<usize>),
    PipeRaw(usize),
    Stats(usize),
    /// `None`: of all systems.
    Enable(Option<&'static str>),
    EventEnable(&'static EventDesc),
    EventFormat(&'static EventDesc),
    EventId(&'static EventDesc),
    SystemFilter(&'static str),
    EventFilter(&'static EventDesc),
    EventTrigger(&'static EventDesc),
    EventHist(&'static EventDesc),
    ErrorLog,
    OwnFormat(Own),
    OwnId(Own),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Dir {
    /// Of the tracer, or of an instance.
    Root,
    Instances,
    Hwlat,
    Options,
    Events,
    System(&'static str),
    Event(&'static EventDesc),
    /// `events/ftrace`, which no kernel declares.
    Ftrace,
    Own(Own),
    PerCpu,
    Cpu(usize),
}

/// The events of `events/ftrace`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Own {
    Function,
    Hwlat,
    Print,
    RawData,
    Stack,
}

impl Own {
    const ALL: [(&'static str, Own); 5] = [
        ("function", Own::Function),
        ("hwlat", Own::Hwlat),
        ("kernel_stack", Own::Stack),
        ("print", Own::Print),
        ("raw_data", Own::RawData),
    ];
}

impl Node {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Node::Dir(_) => Kind::Dir,
            _ => Kind::File,
        }
    }

    pub(super) fn readable(&self) -> bool {
        !matches!(self, Node::TraceMarker | Node::TraceMarkerRaw)
    }

    /// Of a directory: whether names can be made and removed in it.
    pub(super) fn writable(&self) -> bool {
        matches!(
            self,
            Node::Dir(Dir::Instances)
                | Node::TracingOn
                | Node::CurrentTracer
                | Node::MaxLatency
                | Node::Thresh
                | Node::HwlatWidth
                | Node::HwlatWindow
                | Node::HwlatMode
                | Node::SetEvent
                | Node::TraceMarker
                | Node::TraceMarkerRaw
                | Node::TraceClock
                | Node::TraceOptions
                | Node::Option(_)
                | Node::BufferPercent
                | Node::SubBufSize
                | Node::BufferSize(_)
                | Node::Trace(_)
                | Node::Snapshot(_)
                | Node::Enable(_)
                | Node::EventEnable(_)
                | Node::SystemFilter(_)
                | Node::EventFilter(_)
                | Node::EventTrigger(_)
                | Node::ErrorLog
                | Node::CmdlinesSize
                | Node::Pids(_)
                | Node::Cpumask
        )
    }
}

const FTRACE: &str = "ftrace";

/// What each instance has.
const ROOT: [(&str, Node); 23] = [
    ("available_tracers", Node::AvailableTracers),
    ("buffer_percent", Node::BufferPercent),
    ("buffer_size_kb", Node::BufferSize(None)),
    ("buffer_subbuf_size_kb", Node::SubBufSize),
    ("buffer_total_size_kb", Node::BufferTotal),
    ("current_tracer", Node::CurrentTracer),
    ("error_log", Node::ErrorLog),
    ("events", Node::Dir(Dir::Events)),
    ("options", Node::Dir(Dir::Options)),
    ("per_cpu", Node::Dir(Dir::PerCpu)),
    ("set_event", Node::SetEvent),
    ("set_event_notrace_pid", Node::Pids(PidList::Not)),
    ("set_event_pid", Node::Pids(PidList::Only)),
    ("snapshot", Node::Snapshot(None)),
    ("timestamp_mode", Node::TimestampMode),
    ("trace", Node::Trace(None)),
    ("trace_clock", Node::TraceClock),
    ("trace_marker", Node::TraceMarker),
    ("trace_marker_raw", Node::TraceMarkerRaw),
    ("trace_options", Node::TraceOptions),
    ("trace_pipe", Node::Pipe(None)),
    ("tracing_cpumask", Node::Cpumask),
    ("tracing_on", Node::TracingOn),
];

/// What only the top directory has.
const TOP: [(&str, Node); 9] = [
    ("README", Node::Readme),
    ("available_events", Node::AvailableEvents),
    ("hwlat_detector", Node::Dir(Dir::Hwlat)),
    ("instances", Node::Dir(Dir::Instances)),
    ("printk_formats", Node::PrintkFormats),
    ("saved_cmdlines", Node::SavedCmdlines),
    ("saved_cmdlines_size", Node::CmdlinesSize),
    ("tracing_max_latency", Node::MaxLatency),
    ("tracing_thresh", Node::Thresh),
];

const HWLAT: [(&str, Node); 3] = [
    ("mode", Node::HwlatMode),
    ("width", Node::HwlatWidth),
    ("window", Node::HwlatWindow),
];

const EVENTS: [(&str, Node); 4] = [
    ("enable", Node::Enable(None)),
    ("foreign_formats", Node::ForeignFormats),
    ("header_event", Node::HeaderEvent),
    ("header_page", Node::HeaderPage),
];

fn cpu_files(cpu: usize) -> [(&'static str, Node); 6] {
    [
        ("buffer_size_kb", Node::BufferSize(Some(cpu))),
        ("snapshot", Node::Snapshot(Some(cpu))),
        ("stats", Node::Stats(cpu)),
        ("trace", Node::Trace(Some(cpu))),
        ("trace_pipe", Node::Pipe(Some(cpu))),
        ("trace_pipe_raw", Node::PipeRaw(cpu)),
    ]
}

fn system_files(system: &'static str) -> [(&'static str, Node); 2] {
    [
        ("enable", Node::Enable(Some(system))),
        ("filter", Node::SystemFilter(system)),
    ]
}

fn event_files(event: &'static EventDesc) -> [(&'static str, Node); 6] {
    [
        ("enable", Node::EventEnable(event)),
        ("filter", Node::EventFilter(event)),
        ("format", Node::EventFormat(event)),
        ("hist", Node::EventHist(event)),
        ("id", Node::EventId(event)),
        ("trigger", Node::EventTrigger(event)),
    ]
}

/// Of these, triggers see the events of `trace_marker` alone, as in Linux.
fn own_files(own: Own) -> Vec<(&'static str, Node)> {
    let mut files = Vec::from([("format", Node::OwnFormat(own)), ("id", Node::OwnId(own))]);
    if let Own::Print = own {
        files.push(("hist", Node::EventHist(&PRINT)));
        files.push(("trigger", Node::EventTrigger(&PRINT)));
    }
    files
}

fn pick<T: Copy>(files: &[(&str, T)], name: &str) -> Option<T> {
    let found = files.iter().find(|(file, _)| *file == name);
    found.map(|(_, node)| *node)
}

/// An instance that cannot be removed meanwhile.
pub(super) enum Held<'t, P: Platform> {
    Top(&'t Instance<P>),
    Named(Arc<Instance<P>>),
}

impl<P: Platform> Clone for Held<'_, P> {
    fn clone(&self) -> Self {
        match self {
            Held::Top(instance) => Held::Top(instance),
            Held::Named(instance) => Held::Named(instance.clone()),
        }
    }
}

impl<P: Platform> core::ops::Deref for Held<'_, P> {
    type Target = Instance<P>;

    fn deref(&self) -> &Instance<P> {
        match self {
            Held::Top(instance) => instance,
            Held::Named(instance) => instance,
        }
    }
}

/// A node of an instance's tree.
pub(super) struct Place<'t, P: Platform> {
    pub(super) instance: Held<'t, P>,
    pub(super) node: Node,
}

/// What stands behind `path`.
pub(super) fn resolve<'t, P: Platform>(
    tracer: &'t Tracer<P>,
    path: &str,
) -> Result<Place<'t, P>, Errno> {
    let mut place = Place {
        instance: Held::Top(tracer.top()),
        node: Node::Dir(Dir::Root),
    };
    for name in path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
    {
        let Node::Dir(dir) = place.node else {
            return Err(Errno::ENOTDIR);
        };
        if let Dir::Instances = dir {
            place.instance = Held::Named(tracer.instance(name).ok_or(Errno::ENOENT)?);
            place.node = Node::Dir(Dir::Root);
        } else {
            let node = step(tracer.events(), &place.instance, dir, name);
            place.node = node.ok_or(Errno::ENOENT)?;
        }
    }
    // `trace/` asks for a directory.
    if path.ends_with('/') && place.node.kind() == Kind::File {
        return Err(Errno::ENOTDIR);
    }
    Ok(place)
}

fn step<P: Platform>(
    events: &'static [&'static EventDesc],
    instance: &Instance<P>,
    dir: Dir,
    name: &str,
) -> Option<Node> {
    match dir {
        Dir::Root if instance.is_top() => pick(&ROOT, name).or_else(|| pick(&TOP, name)),
        Dir::Root => pick(&ROOT, name),
        // Its names are instances: see `resolve`.
        Dir::Instances => None,
        Dir::Hwlat => pick(&HWLAT, name),
        Dir::Options => TraceOption::parse(name).map(Node::Option),
        Dir::Events if name == FTRACE => Some(Node::Dir(Dir::Ftrace)),
        Dir::Events => pick(&EVENTS, name).or_else(|| {
            let event = events.iter().find(|event| event.system == name)?;
            Some(Node::Dir(Dir::System(event.system)))
        }),
        Dir::System(system) => pick(&system_files(system), name).or_else(|| {
            let event = events
                .iter()
                .find(|event| event.system == system && event.name == name)?;
            Some(Node::Dir(Dir::Event(event)))
        }),
        Dir::Event(event) => pick(&event_files(event), name),
        Dir::Ftrace => pick(&Own::ALL, name).map(|own| Node::Dir(Dir::Own(own))),
        Dir::Own(own) => pick(&own_files(own), name),
        Dir::PerCpu => {
            let cpu: usize = name.strip_prefix("cpu")?.parse().ok()?;
            // `cpu01` and `cpu+1` are no names.
            (cpu < instance.nr_cpus() && format!("cpu{cpu}") == name)
                .then_some(Node::Dir(Dir::Cpu(cpu)))
        }
        Dir::Cpu(cpu) => pick(&cpu_files(cpu), name),
    }
}

/// What is in a directory.
pub(super) fn list<P: Platform>(
    tracer: &Tracer<P>,
    place: &Place<'_, P>,
) -> Result<Vec<DirEntry>, Errno> {
    let Node::Dir(dir) = place.node else {
        return Err(Errno::ENOTDIR);
    };
    let events = tracer.events();
    let mut entries = Vec::new();
    let mut add = |name: &str, node: Node| {
        entries.push(DirEntry {
            name: name.into(),
            kind: node.kind(),
            writable: node.writable(),
        });
    };
    let mut add_all = |files: &[(&str, Node)]| {
        for (name, node) in files {
            add(name, *node);
        }
    };
    match dir {
        Dir::Root => {
            add_all(&ROOT);
            if place.instance.is_top() {
                add_all(&TOP);
            }
        }
        Dir::Instances => {
            for instance in tracer.instances() {
                add(instance.name(), Node::Dir(Dir::Root));
            }
        }
        Dir::Hwlat => add_all(&HWLAT),
        Dir::Options => {
            for option in TraceOption::ALL {
                add(option.name(), Node::Option(option));
            }
        }
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
            add_all(&system_files(system));
            for event in events.iter().filter(|event| event.system == system) {
                add(event.name, Node::Dir(Dir::Event(event)));
            }
        }
        Dir::Event(event) => add_all(&event_files(event)),
        Dir::Ftrace => {
            for (name, own) in Own::ALL {
                add(name, Node::Dir(Dir::Own(own)));
            }
        }
        Dir::Own(own) => add_all(&own_files(own)),
        Dir::PerCpu => {
            for cpu in 0..place.instance.nr_cpus() {
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
