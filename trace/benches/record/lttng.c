/* Prints what an event of 16 bytes costs under LTTng-UST in ns: the best of many rounds, as the other rows. */
#define _GNU_SOURCE
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng.h"
#include <stdio.h>
#include <time.h>

enum { ROUNDS = 400, EVENTS = 2048 };

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

int main(void)
{
	static const uint8_t bytes[16] = { 1, 2, 3 };
	double best = 1e18;

	if (!lttng_ust_tracepoint_enabled(baton_bench, event))
		return 1;
	for (int round = 0; round < ROUNDS; round++) {
		double start = now();

		for (int i = 0; i < EVENTS; i++)
			lttng_ust_tracepoint(baton_bench, event, bytes);
		double took = (now() - start) / EVENTS;

		if (took < best)
			best = took;
	}
	printf("%f\n", best);
	return 0;
}
