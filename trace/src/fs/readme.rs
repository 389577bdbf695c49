//! The text of `README`.

/// See [`super`].
pub(super) const README: &str = "\
tracing mini-HOWTO of Baton: the files work as in Linux's tracefs.

  echo 0 > tracing_on                       stops recording; echo 1 goes on
  echo 1 > events/enable                    records every event
  echo 'irq:*' > set_event                  records these events only; >> adds, !irq:* takes away
  cat trace                                 shows the buffers and leaves them as they are
  echo > trace                              empties them
  cat trace_pipe                            shows what is recorded, as it comes, and uses it up; ctrl-c ends it
  echo text > trace_marker                  puts a text into the trace
  echo 1 > snapshot                         sets the buffers aside; cat snapshot shows them
  mkdir instances/mine                      buffers of their own, with files like these

 files:
  README                    this text
  available_events          the events that there are
  available_tracers         the tracers that there are
  buffer_percent            how full a buffer is when a reader of trace_pipe_raw that waits goes on (0: at once, 100: full)
  buffer_size_kb            KiB of each CPU's buffer
  buffer_subbuf_size_kb     KiB of a sub-buffer, the piece in which a buffer is read; a change empties the buffers
  buffer_total_size_kb      KiB of all buffers
  current_tracer            the tracer
  error_log                 what was wrong with filters and triggers; a write empties it
  events/                   enable, filter, trigger, hist, format, id: for all events, a system's, or one
  instances/                mkdir and rmdir make and remove sets of buffers
  options/                  one file for each option: 0 or 1
  per_cpu/cpu<N>/           the buffer of one CPU: trace, trace_pipe, trace_pipe_raw, snapshot, stats, buffer_size_kb
  printk_formats            format strings that events point to: none
  saved_cmdlines            the names of tasks
  saved_cmdlines_size       how many of them are kept
  set_event                 the events that are recorded
  set_event_notrace_pid     the tasks whose events are not recorded
  set_event_pid             the tasks whose events are recorded; none: all of them
  snapshot                  0 frees it, 1 takes one, 2 clears it
  timestamp_mode            how times stand in the buffers
  trace                     the buffers as text
  trace_clock               the clocks; the one in use stands in brackets
  trace_marker              takes text
  trace_marker_raw          takes bytes; the first four are a number that the writer chooses
  trace_options             all options; a name switches one on, with `no` before it off
  trace_pipe                the buffers as text, used up
  tracing_cpumask           the CPUs whose events are recorded, as hexadecimal digits
  tracing_max_latency       the longest latency that the tracer has found, in microseconds; 0 begins anew
  tracing_on                0 or 1
  tracing_thresh            microseconds from which on each latency is kept; 0: the longest so far
";
