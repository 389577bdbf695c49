/* The event that LTTng-UST is measured with: an array of bytes, as in the other rows. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER baton_bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng.h"

#if !defined(BATON_BENCH_LTTNG_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BATON_BENCH_LTTNG_H

#include <lttng/tracepoint.h>
#include <stdint.h>

LTTNG_UST_TRACEPOINT_EVENT(
	baton_bench, event,
	LTTNG_UST_TP_ARGS(const uint8_t *, bytes),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_array(uint8_t, payload, bytes, 16))
)

#endif

#include <lttng/tracepoint-event.h>
