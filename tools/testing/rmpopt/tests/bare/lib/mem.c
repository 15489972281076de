// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page tables. All memory is mapped by identity with 1 GB pages; the tests map
 * what they try once more, in windows for each page size. Everything is open to
 * user mode.
 */
#include "kernel.h"

#define WINDOW 0xffff800000000000ULL
#define NR_PDPTS 16
#define NR_OWN_PAGES 512

extern u64 pml4[512], pdpt[512];

static u64 more_pdpts[NR_PDPTS][512] __aligned(4096);
/* The first GB of the window: 2 MB slots, of which slot 0 has the 4 KB slots. */
static u64 win_pdpt[512] __aligned(4096);
static u64 win_pd[512] __aligned(4096);
static u64 win_pt[512] __aligned(4096);
static u8 own_pages[NR_OWN_PAGES][4096] __aligned(4096);
static u32 nr_own_pages;

void mem_init(void)
{
	for (u32 i = 0; i < NR_PDPTS; i++) {
		for (u32 k = 0; k < 512; k++)
			more_pdpts[i][k] = ((i + 1) * 512ULL + k) << 30 | PTE_PS | PTE_ALL;
		pml4[i + 1] = (u64)more_pdpts[i] | PTE_ALL;
	}
	win_pd[0] = (u64)win_pt | PTE_ALL;
	win_pdpt[0] = (u64)win_pd | PTE_ALL;
	pml4[256] = (u64)win_pdpt | PTE_ALL;
	flush_tlb();
}

void *phys(u64 pa)
{
	if (pa >= (NR_PDPTS + 1) * 512 * SZ_1G)
		bail_out("no mapping for address %llx", pa);
	return (void *)pa;
}

void flush_tlb(void)
{
	u64 cr3;

	__asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) :: "memory");
}

static void invalidate(void *p)
{
	invlpg(p);
}

static void *map(u64 *pte, u64 va, u64 value)
{
	void *p = (void *)va;

	*pte = value;
	run_on_all(invalidate, p);
	return p;
}

void *map_4k(u32 slot, u64 pa, u64 flags)
{
	return map(&win_pt[slot], WINDOW + slot * SZ_4K, pa | flags);
}

void *map_2m(u32 slot, u64 pa, u64 flags)
{
	return map(&win_pd[slot + 1], WINDOW + (slot + 1) * SZ_2M, pa | flags | PTE_PS);
}

void *map_1g(u32 slot, u64 pa, u64 flags)
{
	return map(&win_pdpt[slot + 1], WINDOW + (slot + 1) * SZ_1G, pa | flags | PTE_PS);
}

void *map_table(u32 slot, u64 table_pa)
{
	return map(&win_pd[slot + 1], WINDOW + (slot + 1) * SZ_2M, table_pa | PTE_ALL);
}

void *map_directory(u32 slot, u64 table_pa)
{
	return map(&win_pdpt[slot + 1], WINDOW + (slot + 1) * SZ_1G, table_pa | PTE_ALL);
}

void *new_page(void)
{
	if (nr_own_pages >= NR_OWN_PAGES)
		bail_out("no page left");
	return own_pages[nr_own_pages++];
}
