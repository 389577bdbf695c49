/* Prints the events of raw pages as libtraceevent's kbuffer decodes them: "page missed", then "time size" for each. */
#include <stdio.h>
#include <stdlib.h>
#include <traceevent/kbuffer.h>

int main(int argc, char **argv)
{
	static char page[65536];
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 4096;
	FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
	struct kbuffer *kbuf = kbuffer_alloc(KBUFFER_LSIZE_8, KBUFFER_ENDIAN_LITTLE);

	if (!file || !kbuf || size > sizeof(page))
		return 1;
	while (fread(page, size, 1, file) == 1) {
		unsigned long long ts;
		void *data;

		if (kbuffer_load_subbuffer(kbuf, page))
			return 2;
		printf("page %d\n", kbuffer_missed_events(kbuf));
		for (data = kbuffer_read_event(kbuf, &ts); data; data = kbuffer_next_event(kbuf, &ts))
			printf("%llu %d\n", ts, kbuffer_event_size(kbuf));
	}
	return 0;
}
