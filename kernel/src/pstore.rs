//! Names in `/sys/fs/pstore`.
//!
//! An instance may have any name that a directory can have. So that no two records of a life ever have one name, an instance whose name would look
//! like pages is shown with one underscore more: `raw`, or what ends in `.raw`; and so is one that looks like that already (`raw_`).

use alloc::format;
use alloc::string::String;

/// The name of the text of a buffer's trace, `ago` lives before the last one: of the buffer that is shown first, or that of an instance.
pub fn trace_name(ago: u64, instance: Option<&str>) -> String {
    let Some(instance) = instance else {
        return format!("trace-ramtrace-{ago}");
    };
    let bare = instance.trim_end_matches('_');
    let more = match bare == "raw" || bare.ends_with(".raw") {
        true => "_",
        false => "",
    };
    format!("trace-ramtrace-{ago}.{instance}{more}")
}

/// The name of its pages.
pub fn raw_name(trace: &str) -> String {
    format!("{trace}.raw")
}

/// The name of a life's log.
pub fn log_name(ago: u64) -> String {
    format!("dmesg-ramtrace-{ago}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn usual_names_are_as_they_are_and_those_that_look_like_pages_are_not() {
        for (instance, name) in [
            (None, "trace-ramtrace-1"),
            (Some("early"), "trace-ramtrace-1.early"),
            (Some("raw.x"), "trace-ramtrace-1.raw.x"),
            (Some("draw"), "trace-ramtrace-1.draw"),
            (Some("x_"), "trace-ramtrace-1.x_"),
            (Some("raw"), "trace-ramtrace-1.raw_"),
            (Some("raw_"), "trace-ramtrace-1.raw__"),
            (Some("x.raw"), "trace-ramtrace-1.x.raw_"),
            (Some(".raw__"), "trace-ramtrace-1..raw___"),
        ] {
            assert_eq!(trace_name(1, instance), name);
        }
        assert_eq!(raw_name(&trace_name(1, None)), "trace-ramtrace-1.raw");
        let raw = raw_name(&trace_name(1, Some("raw")));
        assert_eq!(raw, "trace-ramtrace-1.raw_.raw");
    }

    proptest! {
        #[test]
        fn no_two_records_have_one_name(
            instances in prop::collection::btree_set("((raw|_|\\.|x|1){1,5})", 1..40),
        ) {
            let mut names = BTreeMap::new();
            for ago in [0, 1, 11] {
                let shown = [None].into_iter().chain(instances.iter().map(|name| Some(name.as_str())));
                for instance in shown {
                    let trace = trace_name(ago, instance);
                    for name in [raw_name(&trace), trace] {
                        let before = names.insert(name.clone(), (ago, instance));
                        prop_assert_eq!(before, None, "{}", name);
                    }
                }
                prop_assert_eq!(names.insert(log_name(ago), (ago, None)), None);
            }
        }
    }
}
