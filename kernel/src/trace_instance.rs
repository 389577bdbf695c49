//! `trace_instance=` of the command line, in Linux's form: `NAME[^FLAG...][@REGION][,EVENTS]`.

use core::fmt;

/// An instance of the tracer that the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceInstance<'a> {
    /// Its name.
    pub name: &'a str,
    /// `^traceoff`: it does not record until it is told to.
    pub off: bool,
    /// `^traceprintk`: what `trace_printk()` writes is to go there.
    pub traceprintk: bool,
    /// `@trace`, `@ramtrace`: its buffers are to outlive a reset.
    pub persistent: bool,
    events: &'a str,
}

/// What is wrong with the value of such an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceInstanceError<'a> {
    /// It has no name.
    NoName,
    /// No directory can have its name.
    Name(&'a str),
    /// What stands behind a `^` is no flag.
    Flag(&'a str),
    /// What stands behind the `@` is no region.
    Region(&'a str),
    /// An option before it has made an instance of this name.
    Twice(&'a str),
}

impl fmt::Display for TraceInstanceError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceInstanceError::NoName => f.write_str("the instance's name is missing"),
            TraceInstanceError::Name(name) => write!(
                f,
                "an instance is a directory, which cannot be named \"{name}\""
            ),
            TraceInstanceError::Flag(flag) => write!(
                f,
                "\"^{flag}\" is no flag, which are ^traceoff and ^traceprintk"
            ),
            TraceInstanceError::Twice(name) => write!(
                f,
                "there is an instance \"{name}\" already, which stays as it is"
            ),
            TraceInstanceError::Region(region) => write!(
                f,
                "there is no region \"{region}\"; the one that outlives a reset is @trace"
            ),
        }
    }
}

impl<'a> TraceInstance<'a> {
    /// Reads the option's value.
    ///
    /// # Errors
    /// [`TraceInstanceError`], with the first thing that is wrong.
    pub fn parse(text: &'a str) -> Result<Self, TraceInstanceError<'a>> {
        let (head, events) = text.split_once(',').unwrap_or((text, ""));
        let (head, region) = match head.split_once('@') {
            Some((head, region)) => (head, Some(region)),
            None => (head, None),
        };
        let mut parts = head.split('^');
        let mut instance = TraceInstance {
            name: parts.next().unwrap_or_default(),
            off: false,
            traceprintk: false,
            persistent: region.is_some(),
            events,
        };
        if instance.name.is_empty() {
            return Err(TraceInstanceError::NoName);
        }
        if matches!(instance.name, "." | "..") || instance.name.contains('/') {
            return Err(TraceInstanceError::Name(instance.name));
        }
        for flag in parts {
            match flag {
                "traceoff" => instance.off = true,
                "traceprintk" | "printk" | "trace_printk" => instance.traceprintk = true,
                _ => return Err(TraceInstanceError::Flag(flag)),
            }
        }
        match region {
            None | Some("trace" | "ramtrace") => Ok(instance),
            Some(region) => Err(TraceInstanceError::Region(region)),
        }
    }

    /// The events that it is to record from the start on.
    pub fn events(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.events.split(',').filter(|event| !event.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernels_documentation_shows() {
        let read = |text| {
            let instance = TraceInstance::parse(text).unwrap();
            let events: Vec<_> = instance.events().collect();
            let TraceInstance {
                name,
                off,
                traceprintk,
                persistent,
                ..
            } = instance;
            (name, off, traceprintk, persistent, events)
        };
        assert_eq!(read("foo"), ("foo", false, false, false, vec![]));
        assert_eq!(
            read("foo,sched:sched_switch,irq_handler_entry,initcall"),
            (
                "foo",
                false,
                false,
                false,
                vec!["sched:sched_switch", "irq_handler_entry", "initcall"]
            )
        );
        assert_eq!(
            read("boot_map^traceoff^traceprintk@trace,sched,irq"),
            ("boot_map", true, true, true, vec!["sched", "irq"])
        );
        assert_eq!(
            read("boot_map@ramtrace,"),
            ("boot_map", false, false, true, vec![])
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text| TraceInstance::parse(text).unwrap_err();
        assert_eq!(error(""), TraceInstanceError::NoName);
        assert_eq!(error("^traceoff@trace"), TraceInstanceError::NoName);
        assert_eq!(error("a/b@trace"), TraceInstanceError::Name("a/b"));
        assert_eq!(error(".."), TraceInstanceError::Name(".."));
        assert_eq!(error("a^loud"), TraceInstanceError::Flag("loud"));
        assert_eq!(error("a^"), TraceInstanceError::Flag(""));
        assert_eq!(
            error("a@0x1000:2M"),
            TraceInstanceError::Region("0x1000:2M")
        );
        assert_eq!(error("a@trace@b"), TraceInstanceError::Region("trace@b"));
        let twice = std::format!("{}", TraceInstanceError::Twice("a"));
        assert_eq!(
            twice,
            "there is an instance \"a\" already, which stays as it is"
        );
        let text = std::format!("{}", error("a@elsewhere"));
        assert_eq!(
            text,
            "there is no region \"elsewhere\"; the one that outlives a reset is @trace"
        );
    }
}
