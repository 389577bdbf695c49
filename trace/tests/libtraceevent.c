/* Reads format files, then records (u32 length, bytes) from the first argument, and prints each as libtraceevent does. */
#include <stdio.h>
#include <stdlib.h>
#include <traceevent/event-parse.h>

static char buf[65536];

static size_t slurp(const char *name)
{
	FILE *file = fopen(name, "rb");
	size_t n = file ? fread(buf, 1, sizeof(buf), file) : 0;

	if (file)
		fclose(file);
	return n;
}

int main(int argc, char **argv)
{
	struct tep_handle *tep = tep_alloc();
	FILE *records;
	unsigned int len;
	int i;

	if (!tep || argc < 3)
		return 1;
	tep_set_long_size(tep, 8);
	tep_set_page_size(tep, 4096);
	for (i = 2; i < argc; i++) {
		size_t n = slurp(argv[i]);
		enum tep_errno err = tep_parse_event(tep, buf, n, "test");

		if (err) {
			fprintf(stderr, "%s: error %d\n", argv[i], err);
			return 2;
		}
	}
	records = fopen(argv[1], "rb");
	while (records && fread(&len, 4, 1, records) == 1) {
		struct tep_record record = { .data = buf, .size = len };
		struct trace_seq seq;

		if (len > sizeof(buf) || fread(buf, 1, len, records) != len)
			return 3;
		trace_seq_init(&seq);
		tep_print_event(tep, &seq, &record, "%s: %s", TEP_PRINT_NAME, TEP_PRINT_INFO);
		trace_seq_terminate(&seq);
		printf("%s\n", seq.buffer);
		trace_seq_destroy(&seq);
	}
	return 0;
}
