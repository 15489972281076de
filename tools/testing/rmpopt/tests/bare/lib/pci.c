// SPDX-License-Identifier: GPL-2.0-only
/* PCI configuration space. */
#include "pci.h"

u32 pci_read(u32 devfn, u32 reg)
{
	outl(0xcf8, 0x80000000 | devfn << 8 | reg);
	return inl(0xcfc);
}

void pci_write(u32 devfn, u32 reg, u32 value)
{
	outl(0xcf8, 0x80000000 | devfn << 8 | reg);
	outl(0xcfc, value);
}

s64 pci_find(u16 vendor, u16 device)
{
	for (u32 devfn = 0; devfn < 256; devfn++) {
		if (pci_read(devfn, 0) == (vendor | (u32)device << 16))
			return devfn;
	}
	return -1;
}
