// SPDX-License-Identifier: GPL-2.0-only
/* The driver of the secure processor, and commands together with the model. */
#include "pci.h"
#include "psp.h"

#define PSP_VENDOR 0x1022
#define PSP_DEVICE 0x14ca
#define CAP_MSIX 0x11
#define MSIX_ENABLE BIT(31)
#define MSIX_MASK BIT(30)
#define LAPIC 0xfee00000ULL

static s64 devfn;
static volatile u8 *regs;
static u8 buffer[4096] __aligned(4096), before[4096];
static struct psp_id_block id_block __aligned(4096);
static struct psp_id_auth id_auth __aligned(4096);

static u64 bar(u32 n)
{
	u32 low = pci_read(devfn, 0x10 + 4 * n);
	u64 high = (low & 6) == 4 ? pci_read(devfn, 0x14 + 4 * n) : 0;

	return high << 32 | (low & ~0xfU);
}

bool psp_find(void)
{
	u32 low, size;

	devfn = pci_find(PSP_VENDOR, PSP_DEVICE);
	if (devfn < 0)
		return false;
	is(pci_read(devfn, 8) >> 16, 0x1080, "class of the device");
	low = pci_read(devfn, 0x18);
	pci_write(devfn, 0x18, ~0U);
	size = ~(pci_read(devfn, 0x18) & ~0xfU) + 1;
	pci_write(devfn, 0x18, low);
	is(size, 128 * 1024, "size of BAR 2");
	is(low & 1, 0, "BAR 2 is memory");
	/* Memory space and bus master. */
	pci_write(devfn, 4, pci_read(devfn, 4) | 6);
	regs = phys(bar(2));
	return true;
}

/* Vector 0 to this vCPU, as IPI_VECTOR. */
bool psp_msix(void)
{
	u32 cap = pci_read(devfn, 0x34) & 0xfc;
	volatile u32 *entry;
	u32 where;

	while (cap && (pci_read(devfn, cap) & 0xff) != CAP_MSIX)
		cap = pci_read(devfn, cap) >> 8 & 0xfc;
	if (!cap)
		return false;
	where = pci_read(devfn, cap + 4);
	is(where & 7, 5, "the MSI-X table is in BAR 5");
	entry = phys(bar(where & 7) + (where & ~7U));
	entry[0] = LAPIC | this_cpu()->apicid << 12;
	entry[1] = 0;
	entry[2] = IPI_VECTOR;
	entry[3] = 0;
	pci_write(devfn, cap, (pci_read(devfn, cap) | MSIX_ENABLE) & ~MSIX_MASK);
	return true;
}

u32 psp_read(u32 reg)
{
	return *(volatile u32 *)(regs + reg);
}

void psp_write(u32 reg, u32 value)
{
	*(volatile u32 *)(regs + reg) = value;
}

u32 psp_at(u32 command, u64 pa, bool ioc)
{
	u32 v;

	psp_write(PSP_BUFFER, pa);
	psp_write(PSP_BUFFER + 4, pa >> 32);
	barrier();
	psp_write(PSP_CMDRESP, command << 16 | (ioc ? PSP_IOC : 0));
	for (u32 i = 0; i < PATIENCE; i++) {
		v = psp_read(PSP_CMDRESP);
		if (v & PSP_DONE) {
			barrier();
			return v & 0xffff;
		}
		pause();
	}
	bail_out("command %x does not complete: %x", command, v);
}

static bool writes_back(u32 command)
{
	return command == PLATFORM_STATUS || command == PEK_CSR || command == PDH_CERT_EXPORT ||
	       command == GET_ID;
}

u32 psp_call(u32 command, const void *data, u32 size)
{
	u32 status, skip = writes_back(command) ? size : 0;

	if (!size)
		return psp_at(command, 0, false);
	memset(buffer, 0xcc, sizeof(buffer));
	memcpy(buffer, data, size);
	memcpy(before, buffer, sizeof(before));
	status = psp_at(command, (u64)buffer, false);
	if (memcmp(buffer + skip, before + skip, sizeof(buffer) - skip))
		status |= BUFFER_CHANGED;
	return status;
}

void *psp_copy(void)
{
	return buffer;
}

bool psp_good(u32 got, u32 want)
{
	u32 bad = check_areas();

	if (!bad && (want == FAILS ? got && got < FAILS : got == want))
		return true;
	note("status %x, expected %x, %u entries differ", got, want, bad);
	return false;
}

u32 psp_reclaim(u64 pa)
{
	return psp_call(SNP_PAGE_RECLAIM, &pa, sizeof(pa));
}

u32 psp_gctx(u64 pa)
{
	return psp_call(SNP_GCTX_CREATE, &pa, sizeof(pa));
}

u32 psp_decommission(u64 gctx)
{
	return psp_call(SNP_DECOMMISSION, &gctx, sizeof(gctx));
}

u32 psp_snp_status(u64 pa)
{
	return psp_call(SNP_PLATFORM_STATUS, &pa, sizeof(pa));
}

u32 psp_feature_info(u64 pa)
{
	struct psp_features s = { 16, 0, pa };

	return psp_call(SNP_FEATURE_INFO, &s, sizeof(s));
}

u32 psp_start(u64 gctx, u64 policy)
{
	struct psp_start s = { .gctx = gctx, .policy = policy };

	return psp_call(SNP_LAUNCH_START, &s, sizeof(s));
}

u32 psp_activate(u64 gctx, u32 asid)
{
	struct psp_activate s = { gctx, asid };

	return psp_call(SNP_ACTIVATE, &s, sizeof(s));
}

u32 psp_update(u64 gctx, u32 type, u64 pa)
{
	struct psp_update s = { .gctx = gctx, .flags = type << 1, .address = pa };

	return psp_call(SNP_LAUNCH_UPDATE, &s, sizeof(s));
}

u32 psp_finish(u64 gctx, const struct psp_id_block *id)
{
	struct psp_finish s = { .gctx = gctx };

	if (id) {
		id_block = *id;
		s.id_block = (u64)&id_block;
		s.id_auth = (u64)&id_auth;
		s.flags = 1;
	}
	return psp_call(SNP_LAUNCH_FINISH, &s, sizeof(s));
}

struct psp_id_auth *psp_sign(const struct psp_id_block *id)
{
	u8 *const at[8] = {
		id_auth.block_signature.r, id_auth.block_signature.s, id_auth.id_key.x, id_auth.id_key.y,
		id_auth.key_signature.r, id_auth.key_signature.s, id_auth.author_key.x, id_auth.author_key.y,
	};
	u8 numbers[8][48];

	memset(&id_auth, 0, sizeof(id_auth));
	id_auth.id_key_algo = 1;
	id_auth.author_key_algo = 1;
	id_auth.id_key.curve = 2;
	id_auth.author_key.curve = 2;
	sign_id_block(id, numbers);
	for (u32 i = 0; i < 8; i++)
		memcpy(at[i], numbers[i], 48);
	return &id_auth;
}

u32 psp_guest_status(u64 gctx, u64 pa)
{
	struct psp_two s = { gctx, pa };

	return psp_call(SNP_GUEST_STATUS, &s, sizeof(s));
}

u32 psp_snp_init(u32 flags, u64 list)
{
	struct psp_init_snp s = { .flags = flags, .list = list };

	return psp_call(SNP_INIT_EX, &s, sizeof(s));
}

u32 psp_snp_shutdown(u32 flags)
{
	struct psp_shutdown_snp s = { sizeof(s), flags };

	return psp_call(SNP_SHUTDOWN_EX, &s, sizeof(s));
}

u32 max_snp_asid(void)
{
	u32 r[4];

	cpuid(0x8000001f, 0, r);
	return r[3] - 1;
}

void to_firmware(u64 pa)
{
	u32 rc = update(pa, 0, 1, 0, 1, 0);

	if (rc != RMP_OK)
		note("page %llx cannot be given to the firmware: %u", pa, rc);
}

void to_hypervisor(u64 pa)
{
	u64 raw = model_raw(pa);

	if (raw & E_IMMUTABLE && raw & E_ASSIGNED && raw != E_CONTEXT) {
		model_put(pa, E_RECLAIM);
		if (!psp_good(psp_reclaim(pa), SUCCESS))
			note("page %llx cannot be reclaimed", pa);
	}
	free_4k(pa);
}

void make_guest(u64 gctx, u32 asid)
{
	u32 rc;

	to_firmware(gctx);
	model_put(gctx, E_CONTEXT);
	rc = psp_gctx(gctx) << 16 | psp_start(gctx, POLICY) << 8;
	if (asid)
		rc |= psp_activate(gctx, asid);
	if (rc)
		note("guest %llx with ASID %u: %x", gctx, asid, rc);
}

void drop_guest(u64 gctx)
{
	model_put(gctx, E_FIRMWARE);
	if (psp_decommission(gctx))
		note("guest %llx cannot be decommissioned", gctx);
	to_hypervisor(gctx);
	psp_call(SNP_DF_FLUSH, NULL, 0);
}

bool psp_has_iommu(void)
{
	return flag_on("iommu");
}

void psp_no_buffers(const u16 *commands, u32 count)
{
	for (; count; count--, commands++) {
		is(psp_at(*commands, NOWHERE, false), INVALID_ADDRESS, "command %x: no RAM at its buffer",
		   *commands);
		is(psp_at(*commands, NO_RAM, false), INVALID_ADDRESS, "command %x: a device at its buffer",
		   *commands);
	}
}

u32 psp_init(u32 flags, u64 tmr, u32 len)
{
	struct psp_init s = { .flags = flags, .tmr = tmr, .tmr_len = len };

	return psp_call(INIT, &s, sizeof(s));
}

void tmr_each(void (*fn)(u64 pa))
{
	for (u64 pa = PSP_TMR; pa < PSP_TMR + SZ_1M; pa += SZ_4K)
		fn(pa);
}

void tmr_make(void)
{
	tmr_each(to_firmware);
	gives(psp_init(1, PSP_TMR, SZ_1M), SUCCESS, "INIT with a TMR");
}

void tmr_drop(void)
{
	gives(psp_call(SHUTDOWN, NULL, 0), SUCCESS, "SHUTDOWN");
	tmr_each(to_hypervisor);
	is(psp_good(0, 0), 1, "the TMR was reclaimed");
}
