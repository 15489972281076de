// SPDX-License-Identifier: GPL-2.0-only
/* The other vCPUs: start, run a function, topology. */
#include "kernel.h"

#define LAPIC 0xfee00000ULL
#define ICR_LOW 0x300
#define ICR_HIGH 0x310
#define SVR 0xf0
#define LVT_TIMER 0x320
#define TIMER_COUNT 0x380
#define TIMER_DIVIDE 0x3e0
#define ICR_NMI (4 << 8)
#define ICR_OTHERS (3 << 18)
#define ICR_ASSERT BIT(14)
#define ICR_INIT (5 << 8)
#define ICR_SIPI (6 << 8)

extern u8 trampoline_start[], trampoline_end[], apic_to_cpu[];
extern u32 cpus_started;

u32 nr_cpus = 1;
static u32 thread_shift;
static volatile u32 nr_ready;

static u32 lapic_read(u32 reg)
{
	return *(volatile u32 *)(LAPIC + reg);
}

static void lapic_write(u32 reg, u32 value)
{
	*(volatile u32 *)(LAPIC + reg) = value;
}

static void icr(u32 apicid, u32 value)
{
	while (lapic_read(ICR_LOW) & BIT(12))
		pause();
	lapic_write(ICR_HIGH, apicid << 24);
	lapic_write(ICR_LOW, value);
}

void delay_us(u32 us)
{
	/* A port access takes about a microsecond, here or elsewhere. */
	while (us--)
		inb(0x80);
}

static u32 apicid(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	return r[1] >> 24;
}

static void init_cpu(struct cpu *cpu, u32 index)
{
	cpu->index = index;
	cpu->apicid = apicid();
	cpu->trap.vector = NO_TRAP;
	trap_init_cpu(cpu);
	lapic_write(SVR, 0x1ff);
}

void smp_init_bsp(void)
{
	/* No interrupt of the timer, which the PIC has from the start. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	memset(cpu_ptr(0), 0, sizeof(struct cpu));
	init_cpu(cpu_ptr(0), 0);
	apic_to_cpu[apicid()] = 0;
}

/* Interrupts are taken only here, and do nothing but end the HLT. */
void ap_main(u32 index)
{
	struct cpu *cpu = cpu_ptr(index);

	init_cpu(cpu, index);
	cpu->starts++;
	__atomic_fetch_add(&nr_ready, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		while (!cpu->busy)
			__asm__ volatile("sti; hlt; cli" ::: "memory");
		cpu->fn(cpu->arg);
		__atomic_store_n(&cpu->busy, false, __ATOMIC_SEQ_CST);
	}
}

static bool wait_ready(u32 count)
{
	for (u32 i = 0; i < PATIENCE; i++) {
		if (nr_ready >= count)
			return true;
		/* An emulator's lock may not be fair: let the others have it. */
		pause();
		delay_us(1);
	}
	return false;
}

static void read_topology(void)
{
	u32 r[4];

	cpuid(0, 0, r);
	if (r[0] >= 0xb) {
		cpuid(0xb, 0, r);
		if (r[1])
			thread_shift = r[0] & 31;
	}
	for (u32 i = 0; i < nr_cpus; i++) {
		struct cpu *cpu = cpu_ptr(i);

		cpu->core = i;
		for (u32 k = 0; k < i; k++) {
			if (cpu_ptr(k)->apicid >> thread_shift == cpu->apicid >> thread_shift) {
				cpu->core = k;
				break;
			}
		}
	}
}

void smp_start(void)
{
	/* The number of vCPUs by the machine's own word: key 5 of fw_cfg. */
	outw(0x510, 5);
	nr_cpus = inb(0x511);
	nr_cpus |= inb(0x511) << 8;
	if (!nr_cpus || nr_cpus > MAX_CPUS)
		bail_out("%u vCPUs, 1 to %u are supported", nr_cpus, MAX_CPUS);
	memcpy((void *)(u64)TRAMPOLINE, trampoline_start, trampoline_end - trampoline_start);
	if (nr_cpus > 1) {
		icr(0, ICR_OTHERS | ICR_ASSERT | ICR_INIT);
		delay_us(10000);
		icr(0, ICR_OTHERS | ICR_ASSERT | ICR_SIPI | TRAMPOLINE >> 12);
		if (!wait_ready(nr_cpus - 1))
			bail_out("%u of %u vCPUs came up", nr_ready + 1, nr_cpus);
	}
	read_topology();
}

/* INIT and SIPI to one that is idle. */
void smp_restart(u32 index)
{
	struct cpu *cpu = cpu_ptr(index);
	u32 ready = nr_ready;

	icr(cpu->apicid, ICR_ASSERT | ICR_INIT);
	delay_us(10000);
	icr(cpu->apicid, ICR_ASSERT | ICR_SIPI | TRAMPOLINE >> 12);
	if (!wait_ready(ready + 1))
		bail_out("vCPU %u did not come back after INIT", index);
}

void start_on(u32 index, void (*fn)(void *), void *arg)
{
	struct cpu *cpu = cpu_ptr(index);

	cpu->fn = fn;
	cpu->arg = arg;
	__atomic_store_n(&cpu->busy, true, __ATOMIC_SEQ_CST);
	icr(cpu->apicid, ICR_ASSERT | IPI_VECTOR);
}

void self_interrupt(void)
{
	icr(this_cpu()->apicid, ICR_ASSERT | IPI_VECTOR);
}

void self_nmi(void)
{
	this_cpu()->nmi_expected = true;
	icr(this_cpu()->apicid, ICR_ASSERT | ICR_NMI);
}

void timer_start(u32 count)
{
	lapic_write(LVT_TIMER, IPI_VECTOR);
	lapic_write(TIMER_DIVIDE, 0xb);
	lapic_write(TIMER_COUNT, count);
}

void take_interrupts(void)
{
	__asm__ volatile("sti; nop; nop; cli" ::: "memory");
}

void wait_for(u32 index)
{
	while (__atomic_load_n(&cpu_ptr(index)->busy, __ATOMIC_SEQ_CST))
		pause();
}

void run_on(u32 index, void (*fn)(void *), void *arg)
{
	if (index == this_cpu()->index) {
		fn(arg);
		return;
	}
	start_on(index, fn, arg);
	wait_for(index);
}

void run_on_all(void (*fn)(void *), void *arg)
{
	for (u32 i = 0; i < nr_cpus; i++)
		run_on(i, fn, arg);
}

bool same_core(u32 a, u32 b)
{
	return cpu_ptr(a)->core == cpu_ptr(b)->core;
}

u32 a_sibling(void)
{
	for (u32 i = 1; i < nr_cpus; i++) {
		if (same_core(0, i))
			return i;
	}
	return 0;
}

u32 a_stranger(void)
{
	for (u32 i = 1; i < nr_cpus; i++) {
		if (!same_core(0, i))
			return i;
	}
	return 0;
}

u32 machine_index(u32 cpu)
{
	u32 n = 0;

	for (u32 i = 0; i < nr_cpus; i++)
		n += cpu_ptr(i)->apicid < cpu_ptr(cpu)->apicid;
	return n;
}

u32 machine_core(u32 cpu)
{
	return cpu_ptr(cpu)->apicid >> thread_shift;
}

u32 nr_cores(void)
{
	u32 n = 0;

	for (u32 i = 0; i < nr_cpus; i++)
		n += cpu_ptr(i)->core == i;
	return n;
}
