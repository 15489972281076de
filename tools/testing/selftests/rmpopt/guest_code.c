// SPDX-License-Identifier: GPL-2.0
/*
 * The code of the test guest, be it plain, SEV, SEV-ES or SEV-SNP. Each vCPU
 * executes one command at a time, see guest_code.h.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#include "guest_code.h"
#include "guest_start.h"

#define MSR_SEV_ES_GHCB		0xc0010130
#define MSR_SEV_STATUS		0xc0010131
#define SEV_STATUS_FEATURES	2

#define VEC_VC			29
/* Error code of #VC: the page is not validated. */
#define VC_NOT_VALIDATED	0x404

/* The GHCB MSR protocol */
#define GHCB_MSR_REG_GPA_REQ	0x012
#define GHCB_MSR_REG_GPA_RESP	0x013
#define GHCB_MSR_PSC_REQ	0x014
#define GHCB_MSR_PSC_RESP	0x015
#define GHCB_MSR_TERM_REQ	0x100

/* Why this guest terminates itself, as codes of the set for general reasons */
#define TERM_GENERAL		0x00000
#define TERM_PROTOCOL		0x10000

/* Fields of a GHCB by their offset */
#define GHCB_CPL		0xcb
#define GHCB_RAX		0x1f8
#define GHCB_EXIT_CODE		0x390
#define GHCB_EXIT_INFO_1	0x398
#define GHCB_EXIT_INFO_2	0x3a0
#define GHCB_SCRATCH		0x3a8
#define GHCB_VALID_BITMAP	0x3f0
#define GHCB_BUFFER		0x800
#define GHCB_VERSION		0xffa
#define GHCB_USAGE		0xffc

#define EXIT_IOIO		0x7b
#define EXIT_PSC		0x80000010
#define EXIT_AP_CREATION	0x80000013

/* EXITINFO1 of OUT with four bytes and 64-bit addresses */
#define IOIO_OUT_32		0x240

#define AP_CREATE		1
#define AP_DESTROY		2

enum psc_op {
	PSC_PRIVATE = 1,
	PSC_SHARED,
};

/* Entries that the buffer of a GHCB has room for */
#define PSC_MAX_ENTRIES		253

struct psc_list {
	__u16 cur_entry;
	__u16 end_entry;
	__u32 reserved;
	__u64 entries[PSC_MAX_ENTRIES];
};

#define PSC_ENTRY(gpa, op)	((gpa) | (__u64)(op) << 52)

/* RMPADJUST, RDX: for VMPL1, without permissions, a VMSA or not */
#define RMPADJUST_VMPL1		1ULL
#define RMPADJUST_VMSA		0x10000ULL

/* LME, LMA, NXE and SVME */
#define EFER_AP			0x1d00
#define RESET_DR6		0xffff0ff0
#define RESET_DR7		0x400
#define RESET_RFLAGS		0x2
#define RESET_PAT		0x0007040600070406ULL
#define RESET_MXCSR		0x1f80
#define RESET_FCW		0x37f

/* Attributes of segments as in a VMCB */
#define ATTR_CODE64		0xa9b
#define ATTR_DATA		0xc93
#define ATTR_LDT		0x082
#define ATTR_TSS		0x08b

struct vmsa_segment {
	__u16 selector;
	__u16 attributes;
	__u32 limit;
	__u64 base;
};

/* Where the first of these is in a VMSA, and other fields */
enum {
	VMSA_ES, VMSA_CS, VMSA_SS, VMSA_DS, VMSA_FS, VMSA_GS, VMSA_GDTR, VMSA_LDTR, VMSA_IDTR,
	VMSA_TR,
};

#define VMSA_EFER		0x0d0
#define VMSA_CR4		0x148
#define VMSA_CR3		0x150
#define VMSA_CR0		0x158
#define VMSA_DR7		0x160
#define VMSA_DR6		0x168
#define VMSA_RFLAGS		0x170
#define VMSA_RIP		0x178
#define VMSA_PAT		0x268
#define VMSA_RDI		0x338
#define VMSA_SEV_FEATURES	0x3b0
#define VMSA_XCR0		0x3e8
#define VMSA_MXCSR		0x408
#define VMSA_FCW		0x410

struct gate {
	__u16 offset_0;
	__u16 selector;
	__u16 type;
	__u16 offset_16;
	__u32 offset_32;
	__u32 reserved;
};

#define GATE_INTERRUPT		0x8e00
#define NR_VECTORS		32
#define VECTOR_SIZE		16

/* LIDT reads @limit and @base, which have no gap between them. */
struct table_pointer {
	__u16 unused[3];
	__u16 limit;
	__u64 base;
};

/* At the lowest address of its stack */
struct vcpu {
	enum guest_type type;
	volatile struct guest_mailbox *box;
	volatile __u8 *ghcb;
	__u64 ghcb_gpa;
	bool dead;
};

static struct gate idt[NR_VECTORS];

static struct vcpu *this_vcpu(void)
{
	__u64 rsp;

	asm("movq %%rsp, %0" : "=r"(rsp));
	return (struct vcpu *)(rsp & ~(GUEST_STACK_SIZE - 1ULL));
}

static __u64 window(__u64 gpa, bool shared)
{
	return gpa + ((__u64)shared << GUEST_WINDOW_SHIFT);
}

static void wrmsr(__u32 msr, __u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((__u32)value), "d"((__u32)(value >> 32)) : "memory");
}

static __u64 rdmsr(__u32 msr)
{
	__u32 low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (__u64)high << 32 | low;
}

static void vmgexit(void)
{
	asm volatile(".byte 0xf3, 0x0f, 0x01, 0xd9" : : : "memory");
}

static __u64 read_cr3(void)
{
	__u64 value;

	asm volatile("movq %%cr3, %0" : "=r"(value) : : "memory");
	return value;
}

static void flush_tlb(void)
{
	asm volatile("movq %0, %%cr3" : : "r"(read_cr3()) : "memory");
}

static void terminate(__u32 reason)
{
	for (;;) {
		wrmsr(MSR_SEV_ES_GHCB, GHCB_MSR_TERM_REQ | reason);
		vmgexit();
	}
}

/* Returns what the host has answered. */
static __u64 ghcb_msr(__u64 request)
{
	wrmsr(MSR_SEV_ES_GHCB, request);
	vmgexit();
	return rdmsr(MSR_SEV_ES_GHCB);
}

static __u64 ghcb_get(struct vcpu *v, unsigned int offset)
{
	return *(volatile __u64 *)(v->ghcb + offset);
}

static void ghcb_set(struct vcpu *v, unsigned int offset, __u64 value)
{
	*(volatile __u64 *)(v->ghcb + offset) = value;
	v->ghcb[GHCB_VALID_BITMAP + offset / 64] |= 1 << offset / 8 % 8;
}

/* Returns EXITINFO2, or what is in it besides an error of EXITINFO1. */
static bool ghcb_exit(struct vcpu *v, __u64 code, __u64 info_1, __u64 info_2, __u64 *result)
{
	ghcb_set(v, GHCB_EXIT_CODE, code);
	ghcb_set(v, GHCB_EXIT_INFO_1, info_1);
	ghcb_set(v, GHCB_EXIT_INFO_2, info_2);
	*(volatile __u16 *)(v->ghcb + GHCB_VERSION) = 2;
	*(volatile __u32 *)(v->ghcb + GHCB_USAGE) = 0;
	wrmsr(MSR_SEV_ES_GHCB, v->ghcb_gpa);
	vmgexit();
	*result = ghcb_get(v, GHCB_EXIT_INFO_2);
	return !(__u32)ghcb_get(v, GHCB_EXIT_INFO_1);
}

/* Exits to the program. */
static void tell(struct vcpu *v, enum guest_event event)
{
	__u64 result;

	if (v->type < GUEST_SEV_ES) {
		asm volatile("outl %0, %1" : : "a"(event), "d"((__u16)GUEST_PORT) : "memory");
		return;
	}
	ghcb_set(v, GHCB_RAX, event);
	if (!ghcb_exit(v, EXIT_IOIO, (__u64)GUEST_PORT << 16 | IOIO_OUT_32, 0, &result))
		terminate(TERM_PROTOCOL);
}

static void end(struct vcpu *v)
{
	if (v->type >= GUEST_SEV_ES)
		terminate(TERM_GENERAL);
	for (;;)
		tell(v, GUEST_ENDED);
}

void guest_exception(struct frame *frame)
{
	struct vcpu *v = this_vcpu();
	volatile struct guest_mailbox *box = v->box;

	if (frame->vector == VEC_VC && frame->error == VC_NOT_VALIDATED &&
	    frame->rip >= (__u64)guest_access && frame->rip < (__u64)guest_access_end) {
		box->not_validated++;
		frame->rip = (__u64)guest_access_failed;
		return;
	}

	/* The report itself has failed. */
	if (v->dead)
		terminate(TERM_GENERAL);
	v->dead = true;
	box->vector = frame->vector;
	box->error = frame->error;
	box->rip = frame->rip;
	asm volatile("movq %%cr2, %0" : "=r"(frame->vector));
	box->cr2 = frame->vector;
	for (;;)
		tell(v, GUEST_DIED);
}

static bool psc_by_msr(struct vcpu *v, __u64 gpa, __u64 size, enum psc_op op)
{
	__u64 end = gpa + size;

	for (; gpa < end; gpa += GUEST_PAGE_SIZE) {
		v->box->page = gpa;
		v->box->value = ghcb_msr(PSC_ENTRY(gpa, op) | GHCB_MSR_PSC_REQ);
		if (v->box->value != GHCB_MSR_PSC_RESP)
			return false;
	}
	return true;
}

static bool psc_by_list(struct vcpu *v, __u64 gpa, __u64 size, enum psc_op op)
{
	volatile struct psc_list *list = (volatile void *)(v->ghcb + GHCB_BUFFER);
	__u64 end = gpa + size, result;
	unsigned int nr;

	while (gpa < end) {
		v->box->page = gpa;
		for (nr = 0; nr < PSC_MAX_ENTRIES && gpa < end; gpa += GUEST_PAGE_SIZE)
			list->entries[nr++] = PSC_ENTRY(gpa, op);
		list->cur_entry = 0;
		list->end_entry = nr - 1;
		list->reserved = 0;
		/* The host may come back early. Then it goes on where it was. */
		while (list->cur_entry <= list->end_entry) {
			ghcb_set(v, GHCB_SCRATCH, v->ghcb_gpa + GHCB_BUFFER);
			if (!ghcb_exit(v, EXIT_PSC, 0, 0, &result) || result) {
				v->box->value = result;
				return false;
			}
		}
	}
	return true;
}

static enum guest_status psc(struct vcpu *v, __u64 gpa, __u64 size, bool shared)
{
	enum psc_op op = shared ? PSC_SHARED : PSC_PRIVATE;
	bool ok = v->box->method == GUEST_BY_LIST ? psc_by_list(v, gpa, size, op) :
						    psc_by_msr(v, gpa, size, op);

	return ok ? GUEST_OK : GUEST_PSC_FAILED;
}

static enum guest_status pvalidate(struct vcpu *v, __u64 gpa, __u64 size, bool validate)
{
	__u64 end = gpa + size, result;

	for (; gpa < end; gpa += GUEST_PAGE_SIZE) {
		v->box->page = gpa;
		if (guest_pvalidate(gpa, validate, &result))
			return GUEST_NOT_VALIDATED;
		v->box->value = (__u32)result;
		if (v->box->value)
			return GUEST_PVALIDATE_FAILED;
		/* The carry flag */
		if (result)
			return GUEST_PVALIDATE_UNCHANGED;
	}
	return GUEST_OK;
}

static enum guest_status rmpadjust(struct vcpu *v, __u64 gpa, __u64 operand)
{
	__u64 result;

	v->box->page = gpa;
	if (guest_rmpadjust(gpa, operand, &result))
		return GUEST_NOT_VALIDATED;
	v->box->value = result;
	return result ? GUEST_RMPADJUST_FAILED : GUEST_OK;
}

/* The guest gives up a page before it tells the host, and checks one after that. */
static enum guest_status make(struct vcpu *v, __u64 gpa, __u64 size, bool shared)
{
	enum guest_status status;

	if (!shared) {
		status = psc(v, gpa, size, false);
		return status ? status : pvalidate(v, gpa, size, true);
	}
	status = pvalidate(v, gpa, size, false);
	/* A page that was not validated before needs no more. */
	if (status == GUEST_PVALIDATE_UNCHANGED)
		status = GUEST_OK;
	return status ? status : psc(v, gpa, size, true);
}

static enum guest_status convert(struct vcpu *v, __u64 gpa)
{
	enum guest_status status = make(v, gpa, GUEST_PAGE_SIZE, true);

	if (!status && guest_store(window(gpa, true), v->box->done))
		status = GUEST_NOT_VALIDATED;
	if (!status)
		status = make(v, gpa, GUEST_PAGE_SIZE, false);
	if (!status && guest_store(window(gpa, false), v->box->done))
		status = GUEST_NOT_VALIDATED;
	return status;
}

static enum guest_status access(struct vcpu *v, __u64 gpa)
{
	volatile struct guest_mailbox *box = v->box;
	__u64 address = window(gpa, box->shared);
	bool failed;
	__u64 value;

	if (box->command == GUEST_WRITE) {
		failed = guest_store(address, box->done);
	} else {
		failed = guest_load(address, &value);
		if (!failed)
			box->value = value;
	}
	return failed ? GUEST_NOT_VALIDATED : GUEST_OK;
}

/* Once: each page in the range that the stride leads to */
static enum guest_status go_through(struct vcpu *v)
{
	volatile struct guest_mailbox *box = v->box;
	__u64 gpa, end = box->gpa + box->size;
	enum guest_status status;

	for (gpa = box->gpa; gpa < end && !box->stop; gpa += box->stride) {
		box->page = gpa;
		status = box->command == GUEST_CONVERT ? convert(v, gpa) : access(v, gpa);
		if (status)
			return status;
		box->done++;
	}
	return GUEST_OK;
}

static enum guest_status repeat(struct vcpu *v)
{
	__u64 count = v->box->count, round;
	enum guest_status status;

	for (round = 0; !v->box->stop && (!count || round < count); round++) {
		status = go_through(v);
		if (status)
			return status;
		/* The next round is to be checked like this one. */
		flush_tlb();
	}
	return GUEST_OK;
}

static void vmsa_set(__u64 vmsa, unsigned int offset, __u64 value)
{
	*(volatile __u64 *)(vmsa + offset) = value;
}

static void vmsa_set_segment(__u64 vmsa, unsigned int nr, __u16 selector, __u16 attributes,
			     __u32 limit, __u64 base)
{
	volatile struct vmsa_segment *segment = (struct vmsa_segment *)vmsa + nr;

	segment->selector = selector;
	segment->attributes = attributes;
	segment->limit = limit;
	segment->base = base;
}

/* A vCPU that starts as those did that were launched with the guest */
static void fill_vmsa(__u64 vmsa, unsigned int index)
{
	unsigned int i;
	__u64 value;

	for (i = 0; i < GUEST_PAGE_SIZE; i += sizeof(value))
		vmsa_set(vmsa, i, 0);
	for (i = VMSA_ES; i <= VMSA_GS; i++)
		vmsa_set_segment(vmsa, i, GUEST_DS, ATTR_DATA, ~0U, 0);
	vmsa_set_segment(vmsa, VMSA_CS, GUEST_CS, ATTR_CODE64, ~0U, 0);
	vmsa_set_segment(vmsa, VMSA_GDTR, 0, 0, GUEST_PAGE_SIZE - 1, GUEST_GDT);
	vmsa_set_segment(vmsa, VMSA_LDTR, 0, ATTR_LDT, 0xffff, 0);
	vmsa_set_segment(vmsa, VMSA_IDTR, 0, 0, sizeof(idt) - 1, (__u64)idt);
	vmsa_set_segment(vmsa, VMSA_TR, 0, ATTR_TSS, 0xffff, 0);

	vmsa_set(vmsa, VMSA_EFER, EFER_AP);
	asm volatile("movq %%cr4, %0" : "=r"(value));
	vmsa_set(vmsa, VMSA_CR4, value);
	vmsa_set(vmsa, VMSA_CR3, read_cr3());
	asm volatile("movq %%cr0, %0" : "=r"(value));
	vmsa_set(vmsa, VMSA_CR0, value);
	vmsa_set(vmsa, VMSA_DR7, RESET_DR7);
	vmsa_set(vmsa, VMSA_DR6, RESET_DR6);
	vmsa_set(vmsa, VMSA_RFLAGS, RESET_RFLAGS);
	vmsa_set(vmsa, VMSA_RIP, (__u64)guest_start);
	vmsa_set(vmsa, VMSA_PAT, RESET_PAT);
	vmsa_set(vmsa, VMSA_RDI, index);
	vmsa_set(vmsa, VMSA_SEV_FEATURES, rdmsr(MSR_SEV_STATUS) >> SEV_STATUS_FEATURES);
	vmsa_set(vmsa, VMSA_XCR0, 1);
	*(volatile __u32 *)(vmsa + VMSA_MXCSR) = RESET_MXCSR;
	*(volatile __u16 *)(vmsa + VMSA_FCW) = RESET_FCW;
}

static enum guest_status ap_request(struct vcpu *v, unsigned int request, __u64 vmsa)
{
	__u64 info_1 = (__u64)v->box->vcpu << 32 | request, result;

	ghcb_set(v, GHCB_RAX, rdmsr(MSR_SEV_STATUS) >> SEV_STATUS_FEATURES);
	if (ghcb_exit(v, EXIT_AP_CREATION, info_1, vmsa, &result))
		return GUEST_OK;
	v->box->value = result;
	return GUEST_AP_FAILED;
}

/* The page has to be private, and must not be the VMSA of a vCPU that runs. */
static enum guest_status create_ap(struct vcpu *v)
{
	__u64 vmsa = v->box->gpa;
	enum guest_status status;

	/* It may have been one before. */
	status = rmpadjust(v, vmsa, RMPADJUST_VMPL1);
	if (status)
		return status;
	fill_vmsa(vmsa, v->box->vcpu);
	status = rmpadjust(v, vmsa, RMPADJUST_VMPL1 | RMPADJUST_VMSA);
	return status ? status : ap_request(v, AP_CREATE, vmsa);
}

static enum guest_status execute(struct vcpu *v)
{
	volatile struct guest_mailbox *box = v->box;

	switch (box->command) {
	case GUEST_PSC:
		return psc(v, box->gpa, box->size, box->shared);
	case GUEST_PVALIDATE:
		return pvalidate(v, box->gpa, box->size, box->operand);
	case GUEST_RMPADJUST:
		return rmpadjust(v, box->gpa, box->operand);
	case GUEST_MAKE_SHARED:
		return make(v, box->gpa, box->size, true);
	case GUEST_MAKE_PRIVATE:
		return make(v, box->gpa, box->size, false);
	case GUEST_CONVERT:
	case GUEST_WRITE:
	case GUEST_READ:
		return repeat(v);
	case GUEST_AP_CREATE:
		return create_ap(v);
	case GUEST_AP_DESTROY:
		return ap_request(v, AP_DESTROY, 0);
	case GUEST_END:
		end(v);
	}
	return GUEST_OK;
}

/* All vCPUs write the same. */
static void load_idt(void)
{
	struct table_pointer pointer = { .limit = sizeof(idt) - 1, .base = (__u64)idt };
	__u64 address = (__u64)guest_vectors;
	unsigned int i;

	for (i = 0; i < NR_VECTORS; i++, address += VECTOR_SIZE) {
		idt[i].offset_0 = address;
		idt[i].selector = GUEST_CS;
		idt[i].type = GATE_INTERRUPT;
		idt[i].offset_16 = address >> 16;
		idt[i].offset_32 = address >> 32;
	}
	asm volatile("lidt %0" : : "m"(pointer.limit), "m"(pointer.base));
}

void guest_main(unsigned int index)
{
	struct vcpu *v = this_vcpu();
	__u64 answer;

	v->box = (void *)window(GUEST_MAILBOXES + index * GUEST_PAGE_SIZE, true);
	v->ghcb_gpa = GUEST_GHCBS + index * GUEST_PAGE_SIZE;
	v->ghcb = (void *)window(v->ghcb_gpa, true);
	v->type = v->box->type;
	v->dead = false;
	load_idt();

	if (v->type == GUEST_SNP) {
		answer = ghcb_msr(v->ghcb_gpa | GHCB_MSR_REG_GPA_REQ);
		if (answer != (v->ghcb_gpa | GHCB_MSR_REG_GPA_RESP))
			terminate(TERM_PROTOCOL);
	}

	for (;;) {
		tell(v, GUEST_WAITS);
		v->box->status = execute(v);
	}
}
