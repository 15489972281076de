// SPDX-License-Identifier: GPL-2.0-only
/*
 * Show which memory RMPOPT has optimized for which cores, by a file in debugfs.
 * See rmpopt.8, and Documentation/arch/x86/amd-rmpopt.rst for RMPOPT itself.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than kernel and hardware can have. What is beyond is a wrong number. */
#define MAX_CPUS	65536
#define MAX_NODES	1024
#define MAX_REGIONS	0x1000000

#define PAGE		4096ULL
#define SZ_2M		0x200000ULL
#define SZ_1G		0x40000000ULL

/* Of a map. Neighbouring rows are merged, further columns are drawn below. */
#define TEXT_ROWS	48
#define TEXT_COLUMNS	64
#define SVG_ROWS	256
#define SVG_COLUMNS	64

/* If a cell of a map stands for several, the greatest is shown. */
enum state { OUTSIDE, OPTIMIZED, STALE, ASSIGNED, NR_STATES };

static const struct {
	const char *name, *drawn, *ansi, *rgb, *text;
} looks[NR_STATES] = {
	[OUTSIDE]   = { "outside", ".", "2", "#d9dce1", "not in this window" },
	[OPTIMIZED] = { "optimized", "#", "42;30", "#2e9e4f", "optimized: no RMP checks" },
	[STALE]     = { "stale", "-", "41;97", "#d1372c", "stale: the next pass visits it" },
	[ASSIGNED]  = { "assigned", "a", "43;30", "#eda61c",
			"pages are assigned to a guest or the firmware" },
};

/* Numbers are those of 1GB regions, the last one included. */
struct window {
	unsigned int first, last, cores;
};

struct range {
	unsigned int first, last, node;
	enum state state;
	/* That a process has there. */
	unsigned long long bytes;
};

static struct window *windows;
/* As in the file, and the same cut where a window begins or ends. */
static struct range *ranges, *pieces;
static unsigned int nr_windows, nr_ranges, nr_pieces;

/* Windows are counted from 1 on here, 0 is none. */
static unsigned int cpu_window[MAX_CPUS], cpu_node[MAX_CPUS];
static unsigned int cpu_online[MAX_CPUS], cpu_allowed[MAX_CPUS];
static unsigned int nr_cpus;

/* In GB. */
static unsigned int node_memory[MAX_NODES][NR_STATES], memory[NR_STATES];

static const char *sysfs = "/sys";

/* What is being read, for messages. */
static const char *source;
static unsigned int line_nr;

#define bad_line(what)	\
	errx(2, "%s:%u: " what ": copy it again, or use the rmpopt of that kernel", source, line_nr)

/* The text is there until the next one is made. */
#define path(...)									\
({											\
	free(path_text);								\
	if (asprintf(&path_text, __VA_ARGS__) < 0)					\
		err(2, "path");								\
	path_text;									\
})

static char *path_text;

/* Make room for one more. The size is a power of two. */
static void *grow(void *array, unsigned int nr, size_t size)
{
	if (nr & (nr - 1))
		return array;
	array = reallocarray(array, nr ? 2 * (size_t)nr : 1, size);
	if (!array)
		err(2, "realloc");
	return array;
}

/* How to mend what errno says. */
static const char *fix(const char *otherwise)
{
	return errno == EACCES || errno == EPERM ? "run rmpopt as root" : otherwise;
}

static FILE *open_file(const char *name, const char *hint)
{
	FILE *file = fopen(name, "r");

	if (!file)
		errx(2, "%s: %s: %s", name, strerror(errno), fix(hint));
	return file;
}

static bool skip(const char **at, const char *text)
{
	size_t len = strlen(text);

	if (strncmp(*at, text, len))
		return false;
	*at += len;
	return true;
}

/* The same, if no more letters follow. */
static bool skip_word(const char **at, const char *text)
{
	return skip(at, text) && !isalnum((unsigned char)**at);
}

static bool read_number(const char **at, unsigned int limit, unsigned int *number)
{
	unsigned long long value = 0;
	const char *start = *at;

	for (; isdigit((unsigned char)**at) && value < limit; (*at)++)
		value = value * 10 + **at - '0';
	*number = value;
	return *at > start && value < limit;
}

static bool read_range(const char **at, unsigned int limit, unsigned int *first, unsigned int *last)
{
	return read_number(at, limit, first) && skip(at, "-") && read_number(at, limit, last) &&
	       *first <= *last;
}

/*
 * Read a list as 0-3,8 to the end of the text, and set @values of its CPUs. False
 * if it is not a list, or if a CPU has a value already.
 */
static bool read_cpus(const char *at, unsigned int *values, unsigned int value)
{
	unsigned int first, last;

	do {
		if (!read_number(&at, MAX_CPUS, &first))
			return false;
		last = first;
		if (skip(&at, "-") && (!read_number(&at, MAX_CPUS, &last) || last < first))
			return false;
		if (nr_cpus <= last)
			nr_cpus = last + 1;
		for (; first <= last; first++) {
			if (values[first])
				return false;
			values[first] = value;
		}
	} while (skip(&at, ","));

	return !*at || !strcmp(at, "\n");
}

/*
 * List the CPUs of a window that are @among these, or all if that is NULL. Without
 * @out they are only counted.
 */
static unsigned int list_cpus(FILE *out, unsigned int window, const unsigned int *among)
{
	unsigned int cpu, first, nr = 0;

	for (cpu = 0; cpu < nr_cpus; cpu++) {
		first = cpu;
		while (cpu < nr_cpus && cpu_window[cpu] == window && (!among || among[cpu]))
			cpu++;
		if (out && cpu > first)
			fprintf(out, "%s%u", nr ? "," : "", first);
		if (out && cpu > first + 1)
			fprintf(out, "-%u", cpu - 1);
		nr += cpu - first;
	}

	return nr;
}

/* Read a list of CPUs in sysfs. False if there is none. */
static bool read_list(const char *name, unsigned int *values, unsigned int value)
{
	FILE *file = fopen(name, "r");
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return false;
	/* The list of a node without CPUs is empty. */
	if (getline(&line, &size, file) > 0 && *line != '\n' && !read_cpus(line, values, value))
		errx(2, "%s: not a list of CPUs: --sysfs takes a copy of /sys", name);
	free(line);
	fclose(file);
	return true;
}

static void read_nodes(void)
{
	DIR *dir = opendir(path("%s/devices/system/node", sysfs));
	struct dirent *entry;
	unsigned int node;
	const char *at;

	while (dir && (entry = readdir(dir))) {
		at = entry->d_name;
		if (skip(&at, "node") && read_number(&at, MAX_NODES, &node) && !*at)
			read_list(path("%s/devices/system/node/%s/cpulist", sysfs, entry->d_name),
				  cpu_node, node);
	}
	if (dir)
		closedir(dir);
}

static void read_window(const char *at)
{
	struct window window;

	if (!skip(&at, " ") || !read_range(&at, MAX_REGIONS, &window.first, &window.last) ||
	    !skip(&at, " cores ") || !read_number(&at, MAX_CPUS, &window.cores) ||
	    !skip(&at, " cpus "))
		bad_line("not 'window FIRST-LAST cores NUMBER cpus LIST'");
	if (!read_cpus(at, cpu_window, nr_windows + 1))
		bad_line("not a list of CPUs, or one of them has a window already");
	if (!window.cores || window.cores > list_cpus(NULL, nr_windows + 1, NULL))
		bad_line("no cores, or more than CPUs");

	windows = grow(windows, nr_windows, sizeof(*windows));
	windows[nr_windows++] = window;
}

static void read_memory(const char *at)
{
	struct range range = { 0 };

	if (!read_range(&at, MAX_REGIONS, &range.first, &range.last) || !skip(&at, " node ") ||
	    !read_number(&at, MAX_NODES, &range.node) || !skip(&at, " "))
		bad_line("not 'FIRST-LAST node NODE STATE'");
	while (range.state < NR_STATES && strcmp(at, looks[range.state].name))
		range.state++;
	if (range.state == NR_STATES)
		bad_line("unknown state");
	if (nr_ranges && range.first <= ranges[nr_ranges - 1].last)
		bad_line("overlaps with the line before, or is out of order");

	ranges = grow(ranges, nr_ranges, sizeof(*ranges));
	ranges[nr_ranges++] = range;
}

static void read_line(const char *line)
{
	unsigned int version;
	const char *at = line;

	if (line_nr == 1) {
		if (!skip(&at, "version ") || !read_number(&at, -1, &version) || *at)
			bad_line("not 'version NUMBER'");
		if (version != 1)
			bad_line("unknown version");
	} else if (isdigit((unsigned char)*at)) {
		read_memory(at);
	} else if (skip_word(&at, "window")) {
		read_window(at);
	} else if (skip_word(&at, "version") || !isalpha((unsigned char)*line)) {
		bad_line("neither a number nor a word that may be here");
	}
	/* Later kernels may have more to tell, with other words. */
}

static void read_kernel(const char *input)
{
	const char *hint = "make a copy of /sys/kernel/debug/x86/rmpopt";
	char *line = NULL, *name = NULL;
	FILE *file = stdin;
	size_t size = 0;
	ssize_t len;

	if (!input) {
		hint = access(path("%s/kernel/debug/x86", sysfs), F_OK) ?
		       "mount it: 'mount -t debugfs none /sys/kernel/debug'" :
		       "CPU, BIOS or kernel have no RMPOPT, 'dmesg' may tell why";
		if (asprintf(&name, "%s/kernel/debug/x86/rmpopt", sysfs) < 0)
			err(2, "path");
		input = name;
	}
	source = input;
	if (strcmp(input, "-"))
		file = open_file(input, hint);
	else
		source = "standard input";

	while ((len = getline(&line, &size, file)) > 0) {
		line_nr++;
		if (line[len - 1] != '\n')
			bad_line("cut off");
		line[len - 1] = '\0';
		if (strlen(line) != (size_t)len - 1)
			bad_line("not text");
		read_line(line);
	}
	if (!feof(file) && errno == EBUSY)
		errx(2, "%s: CPUs are offline, or are isolated right now: try again", source);
	if (!feof(file))
		err(2, "%s", source);
	if (!line_nr)
		errx(2, "%s: empty: copy the file again", source);

	free(line);
	free(name);
	if (file != stdin)
		fclose(file);
}

static unsigned int size_of(const struct range *piece)
{
	return piece->last - piece->first + 1;
}

static void cut_ranges(void)
{
	unsigned int i, w, next;
	struct range piece;

	for (i = 0; i < nr_ranges; i++) {
		for (next = ranges[i].first; next <= ranges[i].last; next = piece.last + 1) {
			piece = ranges[i];
			piece.first = next;
			for (w = 0; w < nr_windows; w++) {
				if (windows[w].first > next && windows[w].first <= piece.last)
					piece.last = windows[w].first - 1;
				if (windows[w].last >= next && windows[w].last < piece.last)
					piece.last = windows[w].last;
			}
			pieces = grow(pieces, nr_pieces, sizeof(*pieces));
			pieces[nr_pieces++] = piece;
			node_memory[piece.node][piece.state] += size_of(&piece);
			memory[piece.state] += size_of(&piece);
		}
	}
}

/* What a piece is to the cores of a window, which has all of it or nothing. */
static enum state state_in(const struct range *piece, const struct window *window)
{
	return piece->first < window->first || piece->last > window->last ? OUTSIDE : piece->state;
}

static unsigned int sum(const unsigned int *states)
{
	return states[OUTSIDE] + states[OPTIMIZED] + states[STALE] + states[ASSIGNED];
}

/* Cores of a window on a node. GB optimized for them, of that node and of others. */
static struct share {
	unsigned int node, window, cores, own, other;
} *shares;

static unsigned int nr_shares;

static void add_shares(unsigned int w)
{
	unsigned int here[MAX_NODES] = { 0 }, all = 0, cpu, node, i;

	for (cpu = 0; cpu < nr_cpus; cpu++) {
		if (cpu_window[cpu] != w + 1)
			continue;
		here[cpu_node[cpu]]++;
		all++;
	}

	for (node = 0; node < MAX_NODES; node++) {
		struct share share = { .node = node, .window = w };

		if (!here[node])
			continue;
		/* Cores of all nodes have the same number of CPUs. */
		share.cores = (1ULL * here[node] * windows[w].cores + all / 2) / all;
		for (i = 0; i < nr_pieces; i++) {
			if (state_in(&pieces[i], &windows[w]) != OPTIMIZED)
				continue;
			if (pieces[i].node == node)
				share.own += size_of(&pieces[i]);
			else
				share.other += size_of(&pieces[i]);
		}
		shares = grow(shares, nr_shares, sizeof(*shares));
		shares[nr_shares++] = share;
	}
}

/* One region or several. The text is there until the next one is made. */
static const char *label(unsigned int first, unsigned int last)
{
	static char text[32];
	int len = snprintf(text, sizeof(text), "%u", first);

	if (last != first)
		snprintf(text + len, sizeof(text) - len, "-%u", last);
	return text;
}

/* Percentages are not rounded up, so that 100 % is all of it. */
static void print_share(unsigned int part, unsigned int whole)
{
	printf("  %6u GB", part);
	if (whole)
		printf(" %3llu.%llu %%", part * 100ULL / whole, part * 1000ULL / whole % 10);
	else
		printf(" %7s", "-");
}

static unsigned int print_without_window(void)
{
	unsigned int nr = list_cpus(NULL, 0, cpu_online);

	if (!nr)
		return 0;
	printf("CPUs ");
	list_cpus(stdout, 0, cpu_online);
	printf(" have no window: all that they write is checked\n");
	return nr;
}

static void print_table(void)
{
	unsigned int node, own, other, state, i, lines;
	const char *comma = "";

	printf("node  cores       window  own memory     optimized  other memory     optimized\n");
	for (node = 0; node < MAX_NODES; node++) {
		own = sum(node_memory[node]);
		other = sum(memory) - own;
		for (i = lines = 0; i < nr_shares; i++) {
			const struct window *window = &windows[shares[i].window];

			if (shares[i].node != node)
				continue;
			printf("%4u  %5u  %11s  %7u GB", node, shares[i].cores,
			       label(window->first, window->last), own);
			print_share(shares[i].own, own);
			printf("  %9u GB", other);
			print_share(shares[i].other, other);
			printf("\n");
			lines++;
		}
		if (!lines && own)
			printf("%4u  %5u  %11s  %7u GB\n", node, 0, "-", own);
	}

	printf("not optimized: ");
	for (state = ASSIGNED; state > OPTIMIZED; state--) {
		if (!memory[state])
			continue;
		printf("%s%u GB %s", comma, memory[state], looks[state].name);
		comma = ", ";
	}
	if (memory[OUTSIDE])
		printf("%s%u GB outside of all windows", comma, memory[OUTSIDE]);
	printf("%s\n", memory[OUTSIDE] || *comma ? "" : "nothing");
	print_without_window();
}

static void print_json(void)
{
	const char *comma = "";
	unsigned int i, state;

	printf("{\n\"version\": 1,\n\"windows\": [");
	for (i = 0; i < nr_windows; i++) {
		printf("%s\n  {\"first\": %u, \"last\": %u, \"cores\": %u, ", i ? "," : "",
		       windows[i].first, windows[i].last, windows[i].cores);
		printf("\"cpus\": \"");
		list_cpus(stdout, i + 1, NULL);
		printf("\"}");
	}
	printf("\n],\n\"nodes\": [");
	for (i = 0; i < MAX_NODES; i++) {
		if (!sum(node_memory[i]))
			continue;
		printf("%s\n  {\"node\": %u", comma, i);
		for (state = 0; state < NR_STATES; state++)
			printf(", \"%s\": %u", looks[state].name, node_memory[i][state]);
		printf("}");
		comma = ",";
	}
	printf("\n],\n\"shares\": [");
	for (i = 0; i < nr_shares; i++) {
		const struct window *window = &windows[shares[i].window];

		printf("%s\n  {\"node\": %u, \"first\": %u, \"last\": %u, \"cores\": %u, ",
		       i ? "," : "", shares[i].node, window->first, window->last, shares[i].cores);
		printf("\"own_optimized\": %u, \"other_optimized\": %u}", shares[i].own,
		       shares[i].other);
	}
	printf("\n],\n\"ranges\": [");
	for (i = 0; i < nr_ranges; i++) {
		printf("%s\n  {\"first\": %u, \"last\": %u, ", i ? "," : "", ranges[i].first,
		       ranges[i].last);
		printf("\"node\": %u, \"state\": \"%s\"}", ranges[i].node,
		       looks[ranges[i].state].name);
	}
	printf("\n]\n}\n");
}

/* A row of a map, with parts of the pieces @from to @to. */
static struct row {
	unsigned int first, last, from, to, optimized, total;
} rows[SVG_ROWS];

static unsigned int nr_rows;

/*
 * Make a row of each piece, if @size is 1. Otherwise, pieces within the same @size
 * GB share a row, unless one has all of it. False if @most rows are not enough.
 */
static bool fill_rows(unsigned int most, unsigned int size)
{
	unsigned int i, first, last, group;
	struct row *row;

	nr_rows = 0;
	for (i = 0; i < nr_pieces; i++) {
		for (first = pieces[i].first; first <= pieces[i].last; first = last + 1) {
			group = first / size * size;
			last = group + size - 1;
			if (last > pieces[i].last)
				last = pieces[i].last;
			else if (first == group)
				last += (pieces[i].last - last) / size * size;

			if (!nr_rows || rows[nr_rows - 1].last < group) {
				if (nr_rows == most)
					return false;
				rows[nr_rows++] = (struct row){ .first = first, .from = i };
			}
			row = &rows[nr_rows - 1];
			row->last = last;
			row->to = i;
			row->total += last - first + 1;
			if (pieces[i].state == OPTIMIZED)
				row->optimized += last - first + 1;
		}
	}

	return true;
}

static void make_rows(unsigned int most)
{
	unsigned int size = 1;

	while (!fill_rows(most, size))
		size *= 2;
}

static enum state cell_of(const struct row *row, const struct window *window)
{
	enum state state, shown = OUTSIDE;
	unsigned int i;

	for (i = row->from; i <= row->to; i++) {
		state = state_in(&pieces[i], window);
		if (shown < state)
			shown = state;
	}
	return shown;
}

/* The first window that is not in the same part of a map as @w. */
static unsigned int part_end(unsigned int w, unsigned int most)
{
	return nr_windows - w < most ? nr_windows : w + most;
}

static void print_cell(enum state state, bool wide, bool colour)
{
	const char *drawn = looks[state].drawn;

	if (colour)
		printf("\033[%sm%s%s\033[0m", looks[state].ansi, drawn, wide ? drawn : "");
	else
		printf("%s%s", drawn, wide ? " " : "");
}

static void print_map(void)
{
	bool colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	/* A few can afford some air. */
	bool wide = nr_windows <= 10;
	unsigned int w, start, end, i, state;

	for (w = 0; w < nr_windows; w++)
		printf("window %u: %s GB, %u cores\n", w, label(windows[w].first, windows[w].last),
		       windows[w].cores);

	make_rows(TEXT_ROWS);
	for (start = 0; start < nr_windows; start = end) {
		end = part_end(start, TEXT_COLUMNS);
		printf("\n%11s  ", "GB");
		for (w = start; w < end; w += wide ? 1 : 8)
			printf("%-*u", wide ? 2 : end - w < 8 ? (int)(end - w) : 8, w);
		printf("  GB optimized\n");
		for (i = 0; i < nr_rows; i++) {
			printf("%11s  ", label(rows[i].first, rows[i].last));
			for (w = start; w < end; w++)
				print_cell(cell_of(&rows[i], &windows[w]), wide, colour);
			printf("  %u/%u\n", rows[i].optimized, rows[i].total);
		}
	}

	printf("\n");
	for (state = NR_STATES; state--; ) {
		printf("  ");
		print_cell(state, true, colour);
		printf(" %s\n", looks[state].text);
	}
}

static void draw_text(FILE *out, const char *anchor, unsigned int x, unsigned int y,
		      const char *text)
{
	fprintf(out, "<text text-anchor='%s' x='%u' y='%u'>%s</text>\n", anchor, x, y, text);
}

static void draw_cell(FILE *out, unsigned int x, unsigned int y, unsigned int wide,
		      unsigned int high, enum state state)
{
	/* Some space between cells, if it is not too narrow. */
	fprintf(out, "<rect x='%u' y='%u' width='%u' height='%u' fill='%s'>", x, y,
		wide - (wide > 5), high - (high > 5), looks[state].rgb);
}

/* Windows from @w to @end, as columns below @top. */
static void draw_part(FILE *out, unsigned int w, unsigned int end, unsigned int top,
		      unsigned int wide, unsigned int high)
{
	unsigned int left = 130, right = left + (end - w) * wide, i, x, y = top - 4;
	enum state state;

	draw_text(out, "end", left - 6, y, "GB");
	draw_text(out, "start", right + 6, y, "GB optimized");
	/* As many numbers as fit. */
	for (i = w; i < end; i += 1 + 17 / wide)
		draw_text(out, "middle", left + (i - w) * wide + wide / 2, y, path("%u", i));
	for (i = 0; i < nr_rows; i += 1 + 11 / high) {
		y = top + i * high + high / 2 + 4;
		draw_text(out, "end", left - 6, y, label(rows[i].first, rows[i].last));
		draw_text(out, "start", right + 6, y,
			  path("%u/%u", rows[i].optimized, rows[i].total));
	}

	for (x = left; w < end; w++, x += wide) {
		for (i = 0, y = top; i < nr_rows; i++, y += high) {
			state = cell_of(&rows[i], &windows[w]);
			draw_cell(out, x, y, wide, high, state);
			fprintf(out, "<title>%s GB, ", label(rows[i].first, rows[i].last));
			fprintf(out, "window %s: %s</title></rect>\n",
				label(windows[w].first, windows[w].last), looks[state].name);
		}
	}
}

static void draw_map(const char *name)
{
	FILE *out = strcmp(name, "-") ? fopen(name, "w") : stdout;
	unsigned int w, end, wide, high, part, top = 60, state, listed;
	bool failed;

	if (!out)
		err(2, "%s", name);

	make_rows(SVG_ROWS);
	wide = nr_windows <= 20 ? 22 : 8;
	high = nr_rows <= 29 ? 22 : 640 / nr_rows;
	part = nr_rows * high + 30;
	listed = nr_windows <= 20 ? nr_windows : 0;

	fprintf(out, "<svg xmlns='http://www.w3.org/2000/svg' width='%u' height='%u' ",
		part_end(0, SVG_COLUMNS) * wide + 360, top + (NR_STATES + listed) * 20 +
		(nr_windows + SVG_COLUMNS - 1) / SVG_COLUMNS * part);
	fprintf(out, "font-family='sans-serif' font-size='11' fill='#24292f'>\n");
	fprintf(out, "<rect width='100%%' height='100%%' fill='#ffffff'/>\n");
	draw_text(out, "start", 12, 22, nr_windows ? "RMPOPT, by window" : "RMPOPT is not set up");
	for (w = 0; w < nr_windows; w = end, top += part) {
		end = part_end(w, SVG_COLUMNS);
		draw_part(out, w, end, top, wide, high);
	}
	for (state = NR_STATES; state--; top += 20) {
		draw_cell(out, 12, top - 20, 14, 14, state);
		fprintf(out, "</rect>\n");
		draw_text(out, "start", 32, top - 9, looks[state].text);
	}
	for (w = 0; w < listed; w++, top += 20) {
		path("window %u: %s GB, %u cores", w, label(windows[w].first, windows[w].last),
		     windows[w].cores);
		draw_text(out, "start", 12, top - 9, path_text);
	}
	fprintf(out, "</svg>\n");

	if (out == stdout)
		return;
	failed = ferror(out);
	if (fclose(out) || failed)
		err(2, "%s", name);
}

/* Of a process: device memory, or what the RMP does not cover. */
static unsigned long long unlisted;

/* An entry of pagemap says where @bytes are. */
static void add_entry(unsigned long long entry, unsigned long long bytes)
{
	unsigned long long pfn = entry & ((1ULL << 55) - 1), region = pfn / (SZ_1G / PAGE);
	unsigned int low = 0, high = nr_pieces, middle;

	/* Not present. */
	if (!(entry >> 63))
		return;
	if (!pfn)
		errx(2, "%s/pagemap: no page frame numbers: run rmpopt as root, with CAP_SYS_ADMIN",
		     source);

	while (low < high) {
		middle = (low + high) / 2;
		if (pieces[middle].last < region)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < nr_pieces && pieces[low].first <= region)
		pieces[low].bytes += bytes;
	else
		unlisted += bytes;
}

/* One page stands for 2MB. Large amounts of memory are in huge pages anyway. */
static void read_mapping(FILE *pagemap, unsigned long long start, unsigned long long last,
			 bool exact)
{
	unsigned long long entries[SZ_2M / PAGE], end;
	size_t wanted, i;
	ssize_t got;

	for (; start < last; start = end + 1) {
		end = (start | (SZ_2M - 1)) < last ? start | (SZ_2M - 1) : last;
		wanted = exact ? (end - start + 1) / PAGE : 1;
		got = pread(fileno(pagemap), entries, wanted * sizeof(*entries),
			    start / PAGE * sizeof(*entries));
		if (got < 0)
			err(2, "%s/pagemap", source);
		for (i = 0; i < got / sizeof(*entries); i++)
			add_entry(entries[i], exact ? PAGE : end - start + 1);
		/* Unmapped meanwhile, or of the kernel as [vsyscall]. */
		if (i < wanted)
			break;
	}
}

static void read_process(const char *proc, const char *pid, bool exact)
{
	static const char gone[] = "there is no such process, or it has ended";
	FILE *status, *maps, *pagemap;
	char *dir, *line = NULL, *next;
	bool allowed = false;
	unsigned long long start, end;
	const char *at;
	size_t size = 0;

	if (asprintf(&dir, "%s/%s", proc, pid) < 0)
		err(2, "path");
	source = dir;
	status = open_file(path("%s/status", dir), gone);
	maps = open_file(path("%s/maps", dir), gone);
	pagemap = open_file(path("%s/pagemap", dir), gone);

	while (getline(&line, &size, status) > 0) {
		at = line;
		if (skip(&at, "Cpus_allowed_list:\t"))
			allowed = read_cpus(at, cpu_allowed, 1);
	}
	if (!allowed)
		errx(2, "%s/status: no list of CPUs: --proc takes a copy of /proc", dir);

	while (getline(&line, &size, maps) > 0) {
		start = strtoull(line, &next, 16);
		end = *next == '-' ? strtoull(next + 1, &next, 16) : 0;
		if (*next != ' ' || start >= end || start % PAGE || end % PAGE)
			errx(2, "%s/maps: not mappings: --proc takes a copy of /proc", dir);
		read_mapping(pagemap, start, end - 1, exact);
	}
	if (!feof(status) || !feof(maps))
		err(2, "%s", dir);

	free(line);
	fclose(status);
	fclose(maps);
	fclose(pagemap);
}

/* What the memory is to the allowed CPUs of a window, or of none if @number is 0. */
static void print_process_window(unsigned int number)
{
	const struct window *window = number ? &windows[number - 1] : NULL;
	unsigned long long bytes[NR_STATES] = { 0 }, all = unlisted;
	const char *unit = "MB", *comma = ";";
	double one = 1 << 20;
	unsigned int i;

	if (!list_cpus(NULL, number, cpu_allowed))
		return;
	for (i = 0; i < nr_pieces; i++) {
		bytes[window ? state_in(&pieces[i], window) : OUTSIDE] += pieces[i].bytes;
		all += pieces[i].bytes;
	}
	if (all >= SZ_1G) {
		one = SZ_1G;
		unit = "GB";
	}

	printf("CPUs ");
	list_cpus(stdout, number, cpu_allowed);
	if (window)
		printf(" (window %s): ", label(window->first, window->last));
	else
		printf(" (no window): ");
	printf("%.1f of %.1f %s optimized", bytes[OPTIMIZED] / one, all / one, unit);
	for (i = NR_STATES; i--; ) {
		if (i == OPTIMIZED || !bytes[i])
			continue;
		printf("%s %.1f %s %s", comma, bytes[i] / one, unit, looks[i].name);
		comma = ",";
	}
	if (unlisted)
		printf("%s %.1f %s not listed", comma, unlisted / one, unit);
	printf("\n");
}

static int check(void)
{
	unsigned int without;

	if (!nr_windows) {
		printf("RMPOPT is not set up\n");
		return 1;
	}
	without = print_without_window();
	if (memory[STALE])
		printf("%u GB stale\n", memory[STALE]);
	return without || memory[STALE];
}

/* The tracing instance of -f. It stays as long as a file of it is open. */
static char *instance;
static int trace_pipe = -1;

static void remove_instance(void)
{
	close(trace_pipe);
	if (rmdir(instance))
		warn("%s", instance);
}

/* The same as a signal handler, which may not print. */
static void remove_and_exit(int number)
{
	(void)number;
	close(trace_pipe);
	rmdir(instance);
	_exit(0);
}

static void make_instance(const char *tracing)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	sigset_t all, before;
	unsigned int i;
	int enable, error;

	if (asprintf(&instance, "%s/instances/rmpopt-%d", tracing, getpid()) < 0)
		err(2, "path");

	/* A signal must not come before it is known what has to be removed. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	if (mkdir(instance, 0700))
		errx(2, "%s: %s: %s", instance, strerror(errno), fix(errno == EEXIST ?
		     "a process that was killed has left it, remove it with rmdir" :
		     path("mount it by 'mount -t tracefs nodev %s'", tracing)));
	atexit(remove_instance);
	trace_pipe = open(path("%s/trace_pipe", instance), O_RDONLY | O_NONBLOCK);
	for (i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		/* As after nohup. */
		if (signal(signals[i], remove_and_exit) == SIG_IGN)
			signal(signals[i], SIG_IGN);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);

	if (trace_pipe < 0)
		err(2, "%s", path_text);
	enable = open(path("%s/events/rmpopt/enable", instance), O_WRONLY);
	if (enable < 0)
		errx(2, "%s: %s: the kernel needs CONFIG_KVM_AMD_SEV and trace events of RMPOPT",
		     path_text, strerror(errno));
	if (write(enable, "1", 1) != 1) {
		error = errno;
		/* The instance is in use as long as it is open. */
		close(enable);
		errx(2, "%s: %s", path_text, strerror(error));
	}
	close(enable);
}

/* When a region became stale, in seconds. 0 if it has not been seen. */
static double *stale_since;
static unsigned int nr_stale_since;

/* Events that are not about a region are printed as they are. */
static void print_event(const char *time, const char *event)
{
	static const char stale[] = "stale: pa=%llx reason=%n";
	static const char verdict[] = "verdict: pa=%llx optimized=%u window=%llx";
	unsigned long long region, window = 0;
	unsigned int optimized = 0, skipped = 0;
	double now = strtod(time, NULL);

	if ((sscanf(event, stale, &region, &skipped) < 1 &&
	     sscanf(event, verdict, &region, &optimized, &window) < 2) ||
	    region / SZ_1G >= MAX_REGIONS) {
		printf("%s %s\n", time, event);
		return;
	}
	region /= SZ_1G;
	for (; nr_stale_since <= region; nr_stale_since++) {
		stale_since = grow(stale_since, nr_stale_since, sizeof(*stale_since));
		stale_since[nr_stale_since] = 0;
	}

	printf("%s region %llu ", time, region);
	if (*event == 's') {
		stale_since[region] = now;
		printf("stale: %s\n", event + skipped);
		return;
	}
	printf("visited in window %llu: %s", window / SZ_1G, optimized ? "optimized" : "assigned");
	/* The clocks of two CPUs may differ by a bit. */
	if (stale_since[region] && now >= stale_since[region])
		printf(", %.6f s after it became stale", now - stale_since[region]);
	printf("\n");
}

/* "  task-pid   [cpu] flags seconds.microseconds: event: fields" */
static void print_trace(char *line)
{
	char *at = line, *event = NULL, *time;

	if (!strncmp(line, "CPU:", 4))
		printf("%s: times may be wrong from now on\n", line);
	/* The name of the task may look like an event. */
	while ((at = strstr(at, ": rmpopt_")))
		event = at++;
	if (!event)
		return;
	*event = '\0';
	time = strrchr(line, ' ');
	if (time)
		print_event(time + 1, event + strlen(": rmpopt_"));
}

static void follow(const char *tracing)
{
	/* No event of stdout is asked for: an error means that its reader has gone. */
	struct pollfd fds[] = { { .events = POLLIN }, { .fd = STDOUT_FILENO } };
	char buffer[8192], *line, *end;
	size_t len = 0;
	ssize_t got;

	make_instance(tracing);
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);

	fds[0].fd = trace_pipe;
	while (!ferror(stdout) && poll(fds, 2, -1) > 0 && !fds[1].revents) {
		got = read(trace_pipe, buffer + len, sizeof(buffer) - len);
		if (got < 0 && errno == EAGAIN)
			continue;
		if (got < 0)
			err(2, "%s/trace_pipe", instance);
		/* Somebody has switched tracing off. */
		if (!got)
			break;
		len += got;
		for (line = buffer; (end = memchr(line, '\n', len)); line = end + 1) {
			*end = '\0';
			len -= end + 1 - line;
			print_trace(line);
		}
		/* No event is that long. */
		if (len == sizeof(buffer))
			len = 0;
		memmove(buffer, line, len);
	}
}

static const char usage[] =
	"Usage: rmpopt [-m | -s FILE | -j | -p PID [--exact] | -c] [-i FILE]\n"
	"       rmpopt -f\n"
	"\n"
	"Shows which memory RMPOPT has optimized: a table of NUMA nodes, or\n"
	"\n"
	"  -m, --map          a map as text\n"
	"  -s, --svg FILE     a map as SVG\n"
	"  -j, --json         all of it as JSON\n"
	"  -p, --pid PID      how much of the memory of a process is optimized\n"
	"      --exact        with -p: look at each page, not at one for each 2MB\n"
	"  -c, --check        nothing, if all CPUs have a window and no memory is stale\n"
	"  -f, --follow       what happens from now on\n"
	"\n"
	"  -i, --input FILE   a copy of the kernel's file, - is standard input\n"
	"      --sysfs DIR    instead of /sys\n"
	"      --proc DIR     with -p: instead of /proc\n"
	"      --tracing DIR  with -f: instead of /sys/kernel/tracing\n"
	"  -h, --help         this text\n"
	"\n"
	"The exit status is 1 if -c finds something, 2 after an error, 0 otherwise.\n";

/* Behind those that are letters. */
enum { EXACT = 'z' + 1, SYSFS, PROC, TRACING, NR_OPTIONS };

static const struct option options[] = {
	{ "map",	no_argument,		NULL, 'm' },
	{ "svg",	required_argument,	NULL, 's' },
	{ "json",	no_argument,		NULL, 'j' },
	{ "pid",	required_argument,	NULL, 'p' },
	{ "exact",	no_argument,		NULL, EXACT },
	{ "check",	no_argument,		NULL, 'c' },
	{ "follow",	no_argument,		NULL, 'f' },
	{ "input",	required_argument,	NULL, 'i' },
	{ "sysfs",	required_argument,	NULL, SYSFS },
	{ "proc",	required_argument,	NULL, PROC },
	{ "tracing",	required_argument,	NULL, TRACING },
	{ "help",	no_argument,		NULL, 'h' },
	{ }
};

/* Returns which of the options that exclude each other is given, or 0. */
static int read_options(int argc, char **argv, const char **given)
{
	const char *modes, *pid;
	unsigned int number;
	int option, mode = 0;

	/* One message is enough. */
	opterr = 0;
	while ((option = getopt_long(argc, argv, "ms:jp:cfi:h", options, NULL)) != -1) {
		if (option == '?' && isalpha(optopt) && strncmp(argv[optind - 1], "--", 2))
			errx(2, "-%c: unknown, or lacks its argument: try 'rmpopt --help'", optopt);
		if (option == '?')
			errx(2, "%s: unknown, or lacks its argument: try 'rmpopt --help'",
			     argv[optind - 1]);
		given[option] = optarg ? optarg : "";
	}
	if (optind < argc)
		errx(2, "%s: not an option: try 'rmpopt --help'", argv[optind]);

	for (modes = "hmsjpcf"; *modes; modes++) {
		if (given[(int)*modes] && mode)
			errx(2, "-%c and -%c exclude each other: take one of them", mode, *modes);
		if (given[(int)*modes])
			mode = *modes;
	}
	pid = given['p'];
	if (pid && (!read_number(&pid, 1U << 31, &number) || *pid || !number))
		errx(2, "-p takes the number of a process, not '%s'", given['p']);
	if ((given[EXACT] || given[PROC]) && mode != 'p')
		errx(2, "--exact and --proc need -p: add it, or leave them out");
	if (given[TRACING] && mode != 'f')
		errx(2, "--tracing needs -f: add it, or leave it out");
	if ((given['i'] || given[SYSFS]) && mode == 'f')
		errx(2, "-f reads neither -i nor --sysfs: leave them out");
	return mode;
}

int main(int argc, char **argv)
{
	const char *given[NR_OPTIONS] = { NULL };
	int mode = read_options(argc, argv, given), status = 0;
	unsigned int i;
	bool online = false;

	if (given[SYSFS])
		sysfs = given[SYSFS];
	if (mode != 'f' && mode != 'h') {
		read_kernel(given['i']);
		read_nodes();
		online = read_list(path("%s/devices/system/cpu/online", sysfs), cpu_online, 1);
		if (!online && mode == 'c')
			errx(2, "%s: %s: --sysfs takes a copy of /sys", path_text, strerror(errno));
		cut_ranges();
		for (i = 0; i < nr_windows; i++)
			add_shares(i);
	}

	switch (mode) {
	case 'h':
		fputs(usage, stdout);
		break;
	case 's':
		draw_map(given['s']);
		break;
	case 'j':
		print_json();
		break;
	case 'p':
		read_process(given[PROC] ? given[PROC] : "/proc", given['p'], given[EXACT]);
		/* It is allowed to run on those that are offline, too. */
		for (i = 0; i < nr_cpus && online; i++)
			cpu_allowed[i] &= cpu_online[i];
		for (i = 1; i <= nr_windows; i++)
			print_process_window(i);
		print_process_window(0);
		break;
	case 'c':
		status = check();
		break;
	case 'f':
		follow(given[TRACING] ? given[TRACING] : "/sys/kernel/tracing");
		break;
	default:
		if (!nr_windows)
			printf("RMPOPT is not set up: 'dmesg | grep SEV-SNP' may tell why\n");
		else if (mode)
			print_map();
		else
			print_table();
	}

	if (fflush(stdout) || ferror(stdout))
		err(2, "standard output");
	return status;
}
