/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BARE_PCI_H
#define BARE_PCI_H

#include "kernel.h"

/* Bus 0 only. Returns device << 3 | function, or -1. */
s64 pci_find(u16 vendor, u16 device);
u32 pci_read(u32 devfn, u32 reg);
void pci_write(u32 devfn, u32 reg, u32 value);

#endif
