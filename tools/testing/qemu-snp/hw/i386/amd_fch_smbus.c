/*
 * AMD Fusion Controller Hub (FCH): the PCI function of its SMBus controller
 *
 * Linux remaps interrupts only if the southbridge's IOAPIC is part of a PCI
 * function at the address that the IVRS gives, 00:14.0, and needs that for APIC
 * ids above 255. Its class is all that is looked at.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_device.h"

#define TYPE_AMD_FCH_SMBUS "amd-fch-smbus"

static void amd_fch_smbus_realize(PCIDevice *dev, Error **errp)
{
    pci_config_set_interrupt_pin(dev->config, 0);
}

static void amd_fch_smbus_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(oc);

    k->realize = amd_fch_smbus_realize;
    k->vendor_id = PCI_VENDOR_ID_AMD;
    k->device_id = 0x790b;
    k->class_id = PCI_CLASS_SERIAL_SMBUS;
    dc->desc = "AMD FCH SMBus function, without function";
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo amd_fch_smbus_types[] = {
    {
        .name = TYPE_AMD_FCH_SMBUS,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(PCIDevice),
        .class_init = amd_fch_smbus_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_CONVENTIONAL_PCI_DEVICE },
            { },
        },
    },
};

DEFINE_TYPES(amd_fch_smbus_types)
