// SPDX-License-Identifier: GPL-2.0-only
/* Start, output in TAP, the command line and the memory map of the loader. */
#include "kernel.h"

#define COM1 0x3f8
#define MB_LOADED 0x2badb002

extern u32 mb_info, mb_magic;
extern u8 image_end[];

const char *cmdline = "";

static u32 nr_tests, nr_notes;
static const char *section_name = "";

struct mb_mmap {
	u32 size;
	u64 addr, len;
	u32 type;
} __packed;

/* Copied, because the loader may have put it anywhere. */
static struct { u64 addr, len; u32 type; } memmap[64];
static u32 nr_memmap;

void *memset(void *p, int c, unsigned long n)
{
	void *to = p;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return p;
}

void *memcpy(void *to, const void *from, unsigned long n)
{
	void *p = to;

	__asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n) :: "memory");
	return to;
}

int memcmp(const void *a, const void *b, unsigned long n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}

static void serial_init(void)
{
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x80);
	outb(COM1 + 0, 1);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3);
	outb(COM1 + 2, 1);
}

static void serial_write(char c)
{
	while (!(inb(COM1 + 5) & 0x20))
		pause();
	outb(COM1, c);
}

char serial_read(void)
{
	while (!(inb(COM1 + 5) & 1))
		pause();
	return inb(COM1);
}

static void print_number(u64 v, u32 base, bool negative)
{
	char text[24];
	u32 n = 0;

	do {
		text[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (negative)
		text[n++] = '-';
	while (n)
		serial_write(text[--n]);
}

/* Knows %s %c %u %d %x with l, ll, and %%. */
static void vprint(const char *fmt, __builtin_va_list ap)
{
	for (; *fmt; fmt++) {
		u32 longs = 0;
		u64 v;

		if (*fmt != '%') {
			serial_write(*fmt);
			continue;
		}
		while (*++fmt == 'l')
			longs++;
		switch (*fmt) {
		case 's':
			for (const char *s = __builtin_va_arg(ap, const char *); *s; s++)
				serial_write(*s);
			break;
		case 'c':
			serial_write(__builtin_va_arg(ap, int));
			break;
		case 'd': {
			s64 d = longs ? __builtin_va_arg(ap, s64) : __builtin_va_arg(ap, int);

			print_number(d < 0 ? -d : d, 10, d < 0);
			break;
		}
		case 'u':
		case 'x':
			v = longs ? __builtin_va_arg(ap, u64) : __builtin_va_arg(ap, u32);
			print_number(v, *fmt == 'x' ? 16 : 10, false);
			break;
		default:
			serial_write(*fmt);
		}
	}
}

void print(const char *fmt, ...)
{
	__builtin_va_list ap;

	__builtin_va_start(ap, fmt);
	vprint(fmt, ap);
	__builtin_va_end(ap);
}

void bail_out(const char *fmt, ...)
{
	__builtin_va_list ap;

	print("\nBail out! vCPU %u: ", this_cpu()->index);
	__builtin_va_start(ap, fmt);
	vprint(fmt, ap);
	__builtin_va_end(ap);
	print("\n");
	for (;;)
		__asm__ volatile("cli; hlt");
}

void section(const char *name)
{
	section_name = name;
	nr_notes = 0;
}

bool ok(bool good, const char *fmt, ...)
{
	__builtin_va_list ap;

	print("%s %u - %s: ", good ? "ok" : "not ok", ++nr_tests, section_name);
	__builtin_va_start(ap, fmt);
	vprint(fmt, ap);
	__builtin_va_end(ap);
	print("\n");
	return good;
}

bool is(u64 got, u64 want, const char *fmt, ...)
{
	__builtin_va_list ap;

	print("%s %u - %s: ", got == want ? "ok" : "not ok", ++nr_tests, section_name);
	__builtin_va_start(ap, fmt);
	vprint(fmt, ap);
	__builtin_va_end(ap);
	print("\n");
	if (got != want)
		print("#   got 0x%llx, expected 0x%llx\n", got, want);
	return got == want;
}

void note(const char *fmt, ...)
{
	__builtin_va_list ap;

	if (nr_notes++ >= 20)
		return;
	print("#   ");
	__builtin_va_start(ap, fmt);
	vprint(fmt, ap);
	__builtin_va_end(ap);
	print("\n");
}

/* The text after "name=" on the command line; the last one counts. */
static const char *find_flag(const char *name)
{
	const char *found = NULL;

	for (const char *p = cmdline; *p; p++) {
		u32 n = 0;

		if (p != cmdline && p[-1] != ' ')
			continue;
		while (name[n] && p[n] == name[n])
			n++;
		if (!name[n] && p[n] == '=')
			found = p + n + 1;
	}
	return found;
}

bool flag_is(const char *name, const char *value)
{
	const char *p = find_flag(name);

	while (p && *value && *p == *value) {
		p++;
		value++;
	}
	return p && !*value && (!*p || *p == ' ');
}

bool flag_off(const char *name)
{
	return flag_is(name, "off");
}

bool flag_on(const char *name)
{
	return flag_is(name, "on");
}

u64 flag_value(const char *name, u64 otherwise)
{
	const char *p = find_flag(name);
	u64 v = 0;

	if (!p || *p < '0' || *p > '9')
		return otherwise;
	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (*p - '0');
	return v;
}

static void read_loader(void)
{
	const u32 *info = (const u32 *)(u64)mb_info;
	static char line[1024];
	u64 p, end;

	if (mb_magic != MB_LOADED)
		bail_out("not started by a multiboot loader");
	if (info[0] & BIT(2)) {
		const char *from = (const char *)(u64)info[4];
		u32 n;

		for (n = 0; n < sizeof(line) - 1 && from[n]; n++)
			line[n] = from[n];
		cmdline = line;
	}
	if (!(info[0] & BIT(6)))
		bail_out("no memory map");
	p = info[12];
	end = p + info[11];
	while (p < end && nr_memmap < ARRAY_SIZE(memmap)) {
		const struct mb_mmap *m = (const void *)p;

		memmap[nr_memmap].addr = m->addr;
		memmap[nr_memmap].len = m->len;
		memmap[nr_memmap++].type = m->type;
		p += m->size + 4;
	}
}

bool is_ram(u64 start, u64 size)
{
	for (u32 i = 0; i < nr_memmap; i++) {
		if (memmap[i].type == 1 && memmap[i].addr <= start &&
		    memmap[i].addr + memmap[i].len >= start + size)
			return true;
	}
	return false;
}

u64 ram_end(void)
{
	u64 end = 0;

	for (u32 i = 0; i < nr_memmap; i++) {
		if (memmap[i].type == 1 && memmap[i].addr + memmap[i].len > end)
			end = memmap[i].addr + memmap[i].len;
	}
	return end;
}

void boot_main(void)
{
	serial_init();
	smp_init_bsp();
	read_loader();
	print("# command line: %s\n", cmdline);
	for (u32 i = 0; i < nr_memmap; i++)
		print("# memory %llx-%llx type %u\n", memmap[i].addr,
		      memmap[i].addr + memmap[i].len - 1, memmap[i].type);
	mem_init();
	smp_start();
	print("# %u vCPUs, %u cores\n", nr_cpus, nr_cores());

	run_tests();

	print("1..%u\n", nr_tests);
	for (;;)
		__asm__ volatile("cli; hlt");
}
