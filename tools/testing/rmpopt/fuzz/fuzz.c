// SPDX-License-Identifier: GPL-2.0-only
/*
 * The part of the fuzzer that runs in the host under test: threads that execute programs of the
 * operations in ops.h. See usage().
 *
 * What the programs of a round are follows from the seed, the round, and the corpus as it was.
 * So the same binary, run elsewhere with "print", tells which ones they were, even if the host
 * has died. A program that reaches code no other has reached joins the corpus.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "ops.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define ARGS		4
#define OPS_MAX		32
#define THREADS_MAX	4
#define CORPUS_MAX	4096
#define COVER_SIZE	(1 << 16)
#define SEEN_SIZE	(1 << 17)
#define LINE		4096

#define KCOV_INIT_TRACE	_IOR('c', 1, unsigned long)
#define KCOV_ENABLE	_IO('c', 100)

/*
 * Operations and the kinds of their arguments: see make_argument().
 */
static const struct op {
	const char *name;
	void (*run)(u64 a, u64 b, u64 c, u64 d);
	const char *kinds;
} ops[] = {
	{ "sev_command", sev_command, "cbbp" },	{ "sev_status", sev_status, "b000" },
	{ "sev_csr", sev_csr, "lp00" },		{ "sev_id", sev_id, "lp00" },
	{ "sev_export", sev_export, "llpp" },	{ "sev_import", sev_import, "llpp" },
	{ "snp_config", snp_config, "xbbx" },	{ "snp_vlek", snp_vlek, "xxp0" },
	{ "create_vm", create_vm, "vt00" },	{ "create_vcpu", create_vcpu, "vb00" },
	{ "create_gmem", create_gmem, "vnxf" },	{ "set_region", set_region, "vNvb" },
	{ "set_attributes", set_attributes, "vpNa" }, { "prefault", prefault, "vpn0" },
	{ "allocate", allocate, "vpNb" },	{ "sev_init", sev_init, "viff" },
	{ "snp_start", snp_start, "vPf0" },	{ "snp_update", snp_update, "vpLT" },
	{ "snp_finish", snp_finish, "vbbf" },	{ "sev_start", sev_start, "vQfz" },
	{ "sev_update", sev_update, "vpl0" },	{ "sev_measure", sev_measure, "vmlp" },
	{ "sev_transport", sev_transport, "vMll" }, { "sev_debug", sev_debug, "vllb" },
	{ "sev_region", sev_region, "vpnb" },	{ "sev_context", sev_context, "vvb0" },
	{ "get_state", get_state, "vn00" },	{ "touch", touch, "pnbx" },
	{ "use_file", use_file, "xlxz" },	{ "drop", drop, "vx00" },
};

/* "?" is an argument that is made anew, each time. The rest is often changed. */
static const char *const flows[] = {
	"create_vm,0,4 sev_init,0,22 create_gmem,0,16 set_region,0,16,0,0 set_attributes,0,0,16,8 "
	"create_vcpu,0,0 snp_start,0,0x30000 snp_update,0,0,0x4000,1 snp_update,0,4,?,? "
	"snp_finish,0 prefault,0,8,8 allocate,0,4,?",
	"create_vm,0,4 sev_init,0,22 create_gmem,0,16 set_region,0,16,0,0 set_attributes,0,0,16,8 "
	"snp_start,0,? snp_update,0,?,?,? snp_update,0,?,?,6 drop,0,? snp_update,0,?,?,?",
	"create_vm,0,4 sev_init,0,22,?,? create_vcpu,0,0 snp_start,0,0x30000 snp_finish,0,? "
	"get_state,0,? create_vcpu,0,1",
	"create_vm,0,2 sev_init,0,22 set_region,0,32,1,0 sev_region,0,0,32 sev_start,0,0 "
	"sev_update,0,0,0x4000 sev_update,0,?,? sev_measure,0,6,? sev_measure,0,7 sev_measure,0,16,? "
	"sev_debug,0,?,?,? sev_transport,0,?,?,?",
	"create_vm,0,3 sev_init,0,22 create_vcpu,0,0 set_region,0,32,1,0 sev_start,0,4 "
	"sev_update,0,0,0x2000 sev_measure,0,4 sev_measure,0,6,? sev_measure,0,7 get_state,0,?",
	"create_vm,0,? sev_init,0,?,?,? create_vm,1,? sev_context,1,0,? drop,0,2 "
	"sev_start,1,? snp_start,1,0x30000 sev_measure,1,?,?",
	"create_vm,0,2 sev_init,0,22 sev_start,0,0 create_vm,1,2 sev_context,1,0,1 create_vm,0,2 "
	"sev_context,0,1,0 sev_measure,0,16 drop,1,2",
	"sev_csr,?,? sev_id,?,? sev_export,?,?,?,? sev_import,?,?,?,? sev_status,?",
	"sev_command,0 sev_command,?,?,?,? sev_export,?,? sev_command,2 create_vm,0,4 sev_init,0,22 "
	"snp_start,0,0x30000 snp_config,?,? snp_vlek,0,0,?",
	"use_file,0,0xffff use_file,?,?,?,? use_file,1,?,0,1",
};

struct operation {
	unsigned int op;
	u64 arg[ARGS];
};

struct program {
	unsigned int number;
	struct operation op[OPS_MAX];
};

static struct program corpus[CORPUS_MAX];
static unsigned int corpus_size;

/* splitmix64 */
static u64 next(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static u64 below(u64 *state, u64 limit)
{
	return next(state) % limit;
}

#define PICK(state, ...) ({ static const u64 list[] = { __VA_ARGS__ };		\
			    list[below(state, ARRAY_SIZE(list))]; })

static u64 make_number(u64 *s)
{
	return PICK(s, 0, 1, 2, 3, 7, 8, 0xfff, 0x1000, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
		    0xffffffff, 0x100000000, 0xfffffffffffff, 1ULL << 52, ~0ULL >> 1, ~0ULL);
}

static u64 make_argument(u64 *s, char kind)
{
	if (kind != '0' && kind != 'N' && !below(s, 64))
		return make_number(s);
	switch (kind) {
	case 'v':	/* a VM: mostly one of the thread's own */
		return below(s, 8) ? below(s, 2) : below(s, VMS);
	case 't':	/* type of a VM */
		return PICK(s, 4, 4, 4, 2, 2, 3, 3, 0, 1, 5);
	case 'i':	/* KVM_SEV_INIT, ES_INIT, INIT2 */
		return PICK(s, 22, 22, 22, 22, 0, 1);
	case 'c':	/* command of /dev/sev */
		return below(s, 20);
	case 'm':	/* command of KVM with at most one buffer */
		return PICK(s, 4, 6, 7, 11, 15, 16, 17, 19, 20, 21, 22, 101, 102, 103, 104);
	case 'M':	/* with three */
		return PICK(s, 5, 8, 9, 13);
	case 'p':	/* number of a page */
		return below(s, 4) ? below(s, 16) : below(s, 256);
	case 'n':	/* number of pages */
		return below(s, 8) ? 1 + below(s, 16) : below(s, 64);
	case 'N':	/* the same, of what would take all memory or time there is */
		return below(s, 8) ? 1 + below(s, 16) : PICK(s, 0, 64, 255, 256, 4096, 65536);
	case 'l':	/* length in bytes */
		return PICK(s, 0, 1, 7, 8, 16, 32, 48, 63, 64, 128, 2083, 2084, 6252, 4095, 4096,
			    4097, 8192, 8193, 12288, 16384, 16384, 16385, 65536, 0xffffffff);
	case 'L':	/* the same, mostly of pages */
		return below(s, 8) ? PAGES(1 + below(s, 8)) : make_argument(s, 'l');
	case 'T':	/* type of a page of SNP_LAUNCH_UPDATE */
		return PICK(s, 1, 1, 3, 3, 4, 5, 6, 6, 0, 2, 7);
	case 'a':	/* attributes */
		return PICK(s, 8, 8, 8, 0, 0, 1, 15);
	case 'P':	/* policy of SNP */
		return PICK(s, 0x30000, 0x30000, 0x30000, 0xb0000, 0x20000, 0x10000, 0x1f0000, 0, ~0);
	case 'Q':	/* policy of SEV */
		return PICK(s, 0, 0, 4, 4, 1, 2, 5, 0x3f, ~0);
	case 'f':	/* flags that are mostly not to be set */
		return below(s, 8) ? 0 : 1ULL << below(s, 64);
	case 'b':
		return below(s, 2);
	case 'z':
		return !below(s, 8);
	case 'x':
		return below(s, 2) ? below(s, 16) : make_number(s);
	}
	return 0;
}

static void make_operation(u64 *s, struct operation *op)
{
	op->op = below(s, ARRAY_SIZE(ops));
	for (int i = 0; i < ARGS; i++)
		op->arg[i] = make_argument(s, ops[op->op].kinds[i]);
}

/* One operation a word. Returns whether all is known. */
static bool parse(u64 *s, const char *text, struct program *program)
{
	char word[256], name[32];
	int length, used;

	program->number = 0;
	while (program->number < OPS_MAX && sscanf(text, " %255s%n", word, &length) == 1) {
		struct operation *op = &program->op[program->number++];
		char *at = word;

		text += length;
		if (sscanf(word, "%31[a-z_]%n", name, &used) != 1)
			return false;
		for (op->op = 0; strcmp(ops[op->op].name, name);) {
			if (++op->op == ARRAY_SIZE(ops))
				return false;
		}
		at += used;
		for (int i = 0; i < ARGS; i++) {
			op->arg[i] = 0;
			if (*at != ',')
				continue;
			if (*++at == '?') {
				at++;
				op->arg[i] = make_argument(s, ops[op->op].kinds[i]);
			} else {
				op->arg[i] = strtoull(at, &at, 0);
			}
		}
	}
	return program->number;
}

static void print(FILE *out, const struct program *program)
{
	for (unsigned int i = 0; i < program->number; i++) {
		const struct operation *op = &program->op[i];
		int last = ARGS;

		fprintf(out, " %s", ops[op->op].name);
		while (last && !op->arg[last - 1])
			last--;
		for (int j = 0; j < last; j++)
			fprintf(out, ",%#llx", op->arg[j]);
	}
	fprintf(out, "\n");
}

static void insert(struct program *program, unsigned int at, const struct operation *op)
{
	if (program->number == OPS_MAX)
		return;
	memmove(&program->op[at + 1], &program->op[at], (program->number - at) * sizeof(*op));
	program->op[at] = *op;
	program->number++;
}

static void change(u64 *s, struct program *program)
{
	unsigned int at = below(s, program->number), i;
	struct operation *op = &program->op[at], other;

	switch (below(s, 8)) {
	case 0:
		if (program->number > 1) {
			program->number--;
			memmove(op, op + 1, (program->number - at) * sizeof(*op));
		}
		break;
	case 1:
		other = *op;
		insert(program, below(s, program->number + 1), &other);
		break;
	case 2:
	case 3:
		make_operation(s, &other);
		insert(program, at, &other);
		break;
	default:
		i = below(s, ARGS);
		op->arg[i] = make_argument(s, ops[op->op].kinds[i]);
	}
}

static void make_program(u64 *s, struct program *program)
{
	unsigned int way = below(s, 8), changes = 0;

	if (way < 3) {
		parse(s, flows[below(s, ARRAY_SIZE(flows))], program);
		changes = below(s, 4);
	} else if (way < 7 && corpus_size) {
		*program = corpus[below(s, corpus_size)];
		changes = 1 + below(s, 4);
		/* The end of another one */
		if (!below(s, 4)) {
			const struct program *other = &corpus[below(s, corpus_size)];

			for (unsigned int i = below(s, other->number); i < other->number; i++)
				insert(program, program->number, &other->op[i]);
		}
	} else {
		program->number = 1 + below(s, 12);
		for (unsigned int i = 0; i < program->number; i++)
			make_operation(s, &program->op[i]);
	}
	while (changes--)
		change(s, program);
}

static u64 thread_state(u64 seed, u64 round, u64 thread)
{
	u64 s = seed * 0x100000001b3 + round;

	s = next(&s) + thread;
	return next(&s);
}

/*
 * Modules are loaded to other addresses each time, so a place in one of them is its number here
 * and the distance from its start. What KCOV reports is theirs, or is built in, below them.
 */
static const char *const modules[] = { "ccp", "kvm", "kvm_amd" };
static u64 module_start[ARRAY_SIZE(modules)];

static void read_modules(void)
{
	FILE *file = fopen("/proc/modules", "r");
	char line[LINE], name[64];
	u64 address;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %*s %*s %*s %*s %llx", name, &address) != 2)
			continue;
		for (unsigned int i = 0; i < ARRAY_SIZE(modules); i++) {
			if (!strcmp(name, modules[i]))
				module_start[i] = address;
		}
	}
	if (file)
		fclose(file);
}

static u64 place_of(u64 pc)
{
	u64 start = 0, number = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(modules); i++) {
		if (module_start[i] > start && module_start[i] <= pc) {
			start = module_start[i];
			number = i + 1;
		}
	}
	return start ? number << 32 | (pc - start) : pc;
}

/* Places that were reached, by any thread and round. 0 is free. */
static u64 seen[SEEN_SIZE];
static unsigned int number_seen;

static bool is_new(u64 place)
{
	unsigned int at = (place * 0x9e3779b97f4a7c15) >> 47;

	for (;; at = (at + 1) % SEEN_SIZE) {
		u64 found = 0;

		if (__atomic_load_n(&seen[at], __ATOMIC_RELAXED) == place)
			return false;
		if (__atomic_compare_exchange_n(&seen[at], &found, place, false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED)) {
			__atomic_add_fetch(&number_seen, 1, __ATOMIC_RELAXED);
			return true;
		}
		if (found == place)
			return false;
	}
}

struct worker {
	pthread_t thread;
	int number;
	u64 state;
	unsigned int budget;
	unsigned int done;
	/* What it is to execute instead of what it makes up */
	struct program *list;
	unsigned int listed, repeat;
	/* What it has found to be new */
	struct program fresh[64];
	unsigned int number_fresh;
};

static struct worker workers[THREADS_MAX];
static unsigned int number_workers;

static uint64_t *open_cover(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR);
	uint64_t *cover;

	if (fd < 0 || ioctl(fd, KCOV_INIT_TRACE, COVER_SIZE))
		return NULL;
	cover = mmap(NULL, COVER_SIZE * sizeof(*cover), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return cover == MAP_FAILED || ioctl(fd, KCOV_ENABLE, 0) ? NULL : cover;
}

static void execute(struct worker *w, const struct program *program, uint64_t *cover)
{
	bool fresh = false;

	if (cover)
		__atomic_store_n(cover, 0, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < program->number; i++) {
		const u64 *arg = program->op[i].arg;

		ops[program->op[i].op].run(arg[0], arg[1], arg[2], arg[3]);
		w->done++;
	}
	drop_all(0, 0, 0, 0);
	if (!cover)
		return;
	for (uint64_t i = __atomic_load_n(cover, __ATOMIC_RELAXED); i; i--) {
		u64 place = place_of(cover[i]);

		if (is_new(place)) {
			printf("* %llx\n", place);
			fresh = true;
		}
	}
	if (fresh && w->number_fresh < ARRAY_SIZE(w->fresh))
		w->fresh[w->number_fresh++] = *program;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct program program;
	uint64_t *cover = open_cover();

	start(w->number);
	while (w->repeat--) {
		for (unsigned int i = 0; i < w->listed; i++)
			execute(w, &w->list[i], cover);
	}
	while (w->done < w->budget) {
		make_program(&w->state, &program);
		execute(w, &program, cover);
	}
	return NULL;
}

static unsigned int run_workers(void)
{
	unsigned int done = 0, i;

	open_all();
	for (i = 0; i < number_workers; i++)
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	for (i = 0; i < number_workers; i++) {
		pthread_join(workers[i].thread, NULL);
		done += workers[i].done;
	}
	return done;
}

static void read_corpus(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[LINE];
	u64 s = 0;

	while (file && corpus_size < CORPUS_MAX && fgets(line, sizeof(line), file))
		corpus_size += parse(&s, line, &corpus[corpus_size]);
	if (file)
		fclose(file);
}

/* parse() returns whether there is a program, and so does this. */
static void set_up_round(char **argv)
{
	u64 seed = strtoull(argv[0], NULL, 0), round = strtoull(argv[1], NULL, 0);

	number_workers = strtoul(argv[3], NULL, 0);
	if (!number_workers || number_workers > THREADS_MAX)
		number_workers = 1;
	read_corpus(argv[4]);
	for (unsigned int i = 0; i < number_workers; i++) {
		workers[i].number = i;
		workers[i].budget = strtoul(argv[2], NULL, 0) / number_workers;
		workers[i].state = thread_state(seed, round, i);
	}
}

/* The places that are known, one a line, and those that are new */
static void exchange_seen(const char *path, bool write)
{
	FILE *file = fopen(path, write ? "w" : "r");
	u64 place;

	if (!file)
		return;
	if (write) {
		for (unsigned int i = 0; i < SEEN_SIZE; i++) {
			if (seen[i])
				fprintf(file, "%llx\n", seen[i]);
		}
	} else {
		while (fscanf(file, "%llx", &place) == 1)
			is_new(place);
	}
	fclose(file);
}

static int run(char **argv)
{
	unsigned int done, fresh = 0;

	set_up_round(argv);
	read_modules();
	exchange_seen(argv[5], false);
	done = run_workers();
	exchange_seen(argv[5], true);
	for (unsigned int i = 0; i < number_workers; i++) {
		for (unsigned int j = 0; j < workers[i].number_fresh; j++, fresh++) {
			printf("+");
			print(stdout, &workers[i].fresh[j]);
		}
	}
	printf("%u operations, %u places, %u new programs\n", done, number_seen, fresh);
	return 0;
}

static int print_round(char **argv)
{
	struct program program;

	set_up_round(argv);
	for (unsigned int i = 0; i < number_workers; i++) {
		for (unsigned int done = 0; done < workers[i].budget; done += program.number) {
			make_program(&workers[i].state, &program);
			printf("%u", i);
			print(stdout, &program);
		}
	}
	return 0;
}

static int replay(char **argv)
{
	FILE *file = fopen(argv[1], "r");
	char line[LINE];
	u64 s = 0;

	if (!file)
		return 1;
	while (fgets(line, sizeof(line), file)) {
		struct worker *w = &workers[line[0] - '0'];

		if (line[0] < '0' || line[0] >= '0' + THREADS_MAX)
			return 1;
		w->list = realloc(w->list, (w->listed + 1) * sizeof(*w->list));
		if (!w->list || !parse(&s, line + 1, &w->list[w->listed++]))
			return 1;
	}
	number_workers = THREADS_MAX;
	for (unsigned int i = 0; i < THREADS_MAX; i++) {
		workers[i].number = i;
		workers[i].repeat = strtoul(argv[0], NULL, 0);
	}
	printf("%u operations\n", run_workers());
	return 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: fuzz run SEED ROUND OPERATIONS THREADS CORPUS SEEN\n"
		"                execute a round, print programs and places that are new\n"
		"       fuzz print SEED ROUND OPERATIONS THREADS CORPUS\n"
		"                print the programs of a round, each after its thread\n"
		"       fuzz replay REPEAT FILE\n"
		"                execute what is in a file of such lines\n");
	return 2;
}

int main(int argc, char **argv)
{
	if (argc == 8 && !strcmp(argv[1], "run"))
		return run(argv + 2);
	if (argc == 7 && !strcmp(argv[1], "print"))
		return print_round(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "replay"))
		return replay(argv + 2);
	return usage();
}
