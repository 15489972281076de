// SPDX-License-Identifier: GPL-2.0-only
/* What a device may write, through QEMU's edu device. */
#include "pci.h"
#include "tests.h"

#define EDU_ID 0x00
#define EDU_SRC 0x80
#define EDU_DST 0x88
#define EDU_COUNT 0x90
#define EDU_COMMAND 0x98
#define EDU_BUFFER 0x40000
#define EDU_RUN 1
#define EDU_TO_RAM 2

#define IOMMU 0xfed80000ULL
#define IOMMU_DEVICE_TABLE 0x0
#define IOMMU_CONTROL 0x18
#define DTE_V BIT(0)
#define DTE_RW (3ULL << 61)

#define AREA (R0 + 40 * SZ_2M)
#define PAGE (AREA + 3 * SZ_4K)
#define SIZE 64

static volatile u8 *edu;
static u64 pattern;

static void edu_set(u32 reg, u64 value)
{
	*(volatile u64 *)(edu + reg) = value;
}

static bool edu_run(u64 src, u64 dst, u64 count, u64 command)
{
	edu_set(EDU_SRC, src);
	edu_set(EDU_DST, dst);
	edu_set(EDU_COUNT, count);
	edu_set(EDU_COMMAND, command | EDU_RUN);
	for (u32 i = 0; i < PATIENCE; i++) {
		if (!(*(volatile u64 *)(edu + EDU_COMMAND) & EDU_RUN))
			return true;
		delay_us(1);
	}
	note("no end of DMA");
	return false;
}

/* A new pattern into the device's buffer. */
static u64 *load_device(void)
{
	u64 *p = new_page();

	pattern += 0x1234567890abcdefULL;
	for (u32 i = 0; i < SIZE / 8; i++)
		p[i] = pattern + i;
	edu_run((u64)p, EDU_BUFFER, SIZE, 0);
	return p;
}

static void dma_write(u64 pa, bool arrives, const char *text)
{
	const u64 *sent = load_device();
	u64 *to = phys(pa & ~BIT(51)), old[SIZE / 8];

	memcpy(old, to, SIZE);
	edu_run(EDU_BUFFER, pa, SIZE, EDU_TO_RAM);
	if (arrives)
		ok(!memcmp(to, sent, SIZE), "write to %s arrives", text);
	else
		ok(!memcmp(to, old, SIZE) && memcmp(to, sent, SIZE), "write to %s is dropped", text);
}

static void dma_read(u64 pa, const char *text)
{
	u64 *back = new_page();

	load_device();
	edu_run(pa, EDU_BUFFER, SIZE, 0);
	edu_run(EDU_BUFFER, (u64)back, SIZE, EDU_TO_RAM);
	ok(!memcmp(back, phys(pa), SIZE), "read from %s works", text);
}

static void group(const char *name)
{
	section(name);
	memset(phys(PAGE), 0x77, SZ_4K);
	dma_write(PAGE, true, "a free page");
	assign_4k(PAGE);
	dma_write(PAGE, false, "an assigned page");
	dma_blocked++;
	dma_read(PAGE, "an assigned page");
	dma_write(PAGE | BIT(51), false, "an assigned page with the C-bit");
	dma_blocked++;
	dma_write(PAGE + SZ_4K, true, "its neighbour");
	free_4k(PAGE);
	dma_write(PAGE, true, "the page freed");
	assign_2m(AREA);
	dma_write(PAGE, false, "a page of a 2M entry");
	dma_blocked++;
	free_2m(AREA);
	dma_write(rmp_base + 0x4000, false, "RMP memory");
	dma_blocked++;
	/* The first 32 bytes hit a free page, the others an assigned one. */
	assign_4k(PAGE);
	{
		const u64 *sent = load_device();
		u8 *p = phys(PAGE - 32), old[32];

		memcpy(old, p + 32, 32);
		edu_run(EDU_BUFFER, PAGE - 32, SIZE, EDU_TO_RAM);
		dma_blocked++;
		ok(!memcmp(p, sent, 32) && !memcmp(p + 32, old, 32),
		   "write across two pages stops at the assigned one");
	}
	free_4k(PAGE);
}

/* One entry for all devices of bus 0. */
static void iommu_on(u64 dte)
{
	static u64 table[256 * 4] __aligned(4096);
	volatile u64 *iommu = (volatile u64 *)IOMMU;

	iommu[IOMMU_CONTROL / 8] = 0;
	for (u32 i = 0; i < 256; i++)
		table[4 * i] = dte;
	iommu[IOMMU_DEVICE_TABLE / 8] = (u64)table | (sizeof(table) / SZ_4K - 1);
	iommu[IOMMU_CONTROL / 8] = 1;
}

void tests_dma(void)
{
	s64 devfn = pci_find(0x1234, 0x11e8);
	bool iommu = flag_on("iommu");

	section("dma");
	if (devfn < 0) {
		print("# no edu device\n");
		return;
	}
	edu = phys(pci_read(devfn, 0x10) & ~0xfU);
	/* Memory space and bus master. */
	pci_write(devfn, 4, pci_read(devfn, 4) | 6);
	is(*(volatile u32 *)(edu + EDU_ID) & 0xffff, 0xed, "the device is there");
	if (!iommu)
		return;
	group("dma, iommu off");
	iommu_on(0);
	group("dma, V=0");
	iommu_on(DTE_V | DTE_RW);
	group("dma, V=1 TV=0");
	*(volatile u64 *)(IOMMU + IOMMU_CONTROL) = 0;
}
