/* SPDX-License-Identifier: GPL-2.0 */
/* The linked code of the test guest, for snp_guest to load. */
	.section .rodata
	.globl guest_image, guest_image_end
guest_image:
	.incbin "guest_code.bin"
guest_image_end:

	.section .note.GNU-stack, "", @progbits
